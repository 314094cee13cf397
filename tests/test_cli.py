"""The command line: right input does what it says; wrong input ends in one sentence, exit code 2, nothing written."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

from prefrl.cli import _mistake, main
from prefrl.studies.compare import find_runs
from prefrl.words.errors import UserError

SMALL = ["--env", "Pendulum-v1", "--steps", "4000", "--labels", "20", "--n-envs", "8", "--no-tensorboard"]
FAST = ["--set", "n_steps=50", "batch_size=100", "n_epochs=1", "--phases", "4"]

WRONG = {
    "unknown environment": (["train", "--env", "HalfChetah-v5"], "Did you mean 'HalfCheetah-v5'?"),
    "unknown package": (["train", "--env", "no_such_package:Id-v0"], "cannot be imported"),
    "unknown backend": (["train", "--backend", "envpol"], "Did you mean 'envpool'?"),
    "unknown learner": (["train", "--learner", "poo"], "Did you mean 'ppo'?"),
    "learner that is none": (["train", "--learner", "math:sqrt"], "OnPolicyAlgorithm"),
    "unknown strategy": (["train", "--strategy", "disagrement"], "Did you mean 'disagreement'?"),
    "unknown schedule": (["train", "--schedule", "anealed"], "Did you mean 'annealed'?"),
    "unknown labeler": (["train", "--labeler", "orakle"], "Did you mean 'oracle'?"),
    "unknown teacher": (["train", "--teachers", "mistak"], "Did you mean 'mistake'?"),
    "unknown learner setting": (["train", "--set", "learning_rat=1"], "Did you mean 'learning_rate'?"),
    "malformed setting": (["train", "--set", "learning_rate"], "name=value"),
    "unknown environment argument": (["train", "--env-kwargs", "no_such=1"], "no_such"),
    "no labels": (["train", "--labels", "0"], "labels=0 must be more than zero"),
    "negative labels": (["train", "--labels", "-3"], "labels=-3 must be more than zero"),
    "no steps": (["baseline", "--steps", "0"], "steps=0 must be more than zero"),
    "negative steps": (["train", "--steps", "-10"], "steps=-10 must be more than zero"),
    "labels that do not fit": (["train", "--env", "Pendulum-v1", "--steps", "8000"], "cannot fit in 8000 steps"),
    "steps that do not divide": (["train", "--steps", "100001", "--n-envs", "32"], "ask for 100000 or 100032"),
    "segment longer than a shortened episode": (
        ["train", "--env", "Pendulum-v1", "--segment-steps", "60", "--env-kwargs", "max_episode_steps=50"],
        "50 or fewer",
    ),
    "segment longer than an episode": (["train", "--env", "Pendulum-v1", "--segment-steps", "300"], "200 or fewer"),
    "exploring all the time": (["baseline", "--steps", "3200", "--explore-steps", "3200"], "below steps=3200"),
    "unsupported observations": (["train", "--env", "Letters-v0"], "do not flatten into a vector"),
    "noise that is no share": (["train", "--noise-floor", "1.5"], "between 0 and 1"),
    "noise that drowns every answer": (["train", "--noise-floor", "1"], "it must be below 1"),
    "too little kept": (["train", "--env", "Pendulum-v1", "--keep-steps", "50"], "take at least 200"),
    "a seed too large": (["baseline", "--seed", "99999999999999999999"], "2147483647 at most"),
    "a rate that is a word": (["baseline", "--set", "learning_rate=fast"], "such as lin_3e-4"),
    "a rollout of no steps": (["baseline", "--set", "n_steps=-3"], "a whole number above zero"),
    "patience with an oracle": (["train", "--patience", "60"], "labeler 'oracle' asks none"),
    "no CUDA": (["train", "--device", "cuda"], "use auto or cpu"),
    "unknown device": (["train", "--device", "tpu"], "auto, cpu or cuda"),
    "plot of nothing": (["plot", "no-such-folder"], "give folders that `prefrl train` made"),
    "unknown list": (["envs", "zzzz"], "no environment's id contains 'zzzz'"),
    "a figure that is a folder": (["plot", ".", "--out", "."], "it is a folder"),
    "a table in no folder": (["evaluate", ".", "--out", "no/such.csv"], "there is no folder 'no'; make it first"),
    "options of another command": (["plot", "--config", "mine.toml"], "--config is for train, baseline and compare"),
}


class Letters(gym.Env):
    """Shows sequences of any length, which no network here reads."""

    observation_space = gym.spaces.Sequence(gym.spaces.Discrete(26))
    action_space = gym.spaces.Discrete(2)


@pytest.fixture(autouse=True, scope="module")
def _environment():
    gym.register("Letters-v0", Letters, max_episode_steps=10)
    yield
    del gym.registry["Letters-v0"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize(("arguments", "says"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_sentence_and_nothing_is_written(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("prefrl: ")
    assert error.count("\n") == 1
    assert says in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("lables = 20", "Did you mean 'labels'?"),
        ("labels = 'many'", "it takes int"),
        ("labels = true", "it takes int"),
        ("labels = ", "is not TOML"),
        ("objective = 'gpu'", "objective = 'gpu'"),
    ],
)
def test_a_bad_toml_file_is_one_sentence(toml, says, capsys, tmp_path):
    Path("run.toml").write_text(toml)
    assert main(["train", "--config", "run.toml"]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]


def test_a_toml_file_that_is_not_there(capsys):
    assert main(["train", "--config", "nowhere.toml"]) == 2
    assert "cannot read the configuration 'nowhere.toml'" in capsys.readouterr().err


def test_unknown_options_exit_with_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--lables", "3"])
    assert stopped.value.code == 2
    assert "--labels" in capsys.readouterr().err


def test_train_writes_a_run_and_will_not_overwrite_it(capsys, tmp_path):
    Path("run.toml").write_text('env = "Pendulum-v1"\nsteps = 4000\nlabels = 25\nseed = 7\n')
    arguments = ["train", "--config", "run.toml", "--labels", "20", "--n-envs", "8", "--no-tensorboard", *FAST]
    assert main(arguments) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert folder == Path("runs/Pendulum-v1/labels20-seed7")  # the command line comes before the file
    before = (folder / "metrics.csv").read_bytes()
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert (folder / "metrics.csv").read_bytes() == before


def test_compare_runs_every_arm_once_and_reports(capsys, tmp_path):
    arguments = [
        "compare",
        *SMALL[:-3],
        "--labels",
        "10",
        "20",
        "--seeds",
        "2",
        "--no-tensorboard",
        "--n-envs",
        "8",
        *FAST,
    ]
    arguments[arguments.index("--labels") + 1 : arguments.index("--labels") + 2] = ["10"]
    assert main([*arguments, "--out", "cmp"]) == 0
    table = capsys.readouterr().out
    for arm in ("true reward", "10 labels", "20 labels"):
        assert arm in table
    folder = tmp_path / "cmp"
    with (folder / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["arm"], row["seed"]) for row in rows} == {
        (arm, seed) for arm in ("true reward", "10 labels", "20 labels") for seed in ("0", "1")
    }
    assert (folder / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert "commit" in (folder / "compare.md").read_text()
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*/metrics.csv")}
    assert len(written) == 6

    (folder / "labels10-seed1" / "result.json").unlink()  # as if it had been stopped
    assert main([*arguments, "--out", "cmp"]) == 0
    again = {path: path.stat().st_mtime_ns for path in folder.glob("*-seed?/metrics.csv")}
    assert {path.parent.name for path in written if again[path] != written[path]} == {"labels10-seed1"}
    assert (folder / "labels10-seed1.stopped1" / "labels.sqlite").exists()  # answers are never deleted

    assert main([*arguments, "--out", "cmp", "--members", "2"]) == 2
    assert "members=3, and 2 is asked for" in capsys.readouterr().err

    assert main(["plot", "cmp", "--out", "figure.svg"]) == 0
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")


def test_answers_elsewhere_are_of_one_run_which_is_read_back(capsys, tmp_path):
    arguments = ["compare", *SMALL[:-3], "--no-tensorboard", *FAST, "--out", "cmp", "--store", "sqlite:///answers.db"]
    assert main([*arguments, "--labels", "10", "--seeds", "2"]) == 2
    assert "a store is of one run alone" in capsys.readouterr().err
    assert not (tmp_path / "cmp").exists()
    assert main([*arguments, "--labels", "10", "--seeds", "1"]) == 0
    assert not (tmp_path / "cmp" / "labels10-seed0" / "labels.sqlite").exists()
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "10 labels" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2] == "1"
    assert cells[4:6] == ["-", "-"]  # one seed has no interval


def test_runs_that_have_not_finished_or_are_one_seed_twice_are_no_seeds(capsys, tmp_path):
    common = ["baseline", *SMALL[:4], *SMALL[-3:], *FAST]
    for place in ("a/10", "a/9", "b"):
        assert main([*common, "--out", place]) == 0
    capsys.readouterr()
    assert find_runs([Path("a"), Path("a/9"), Path("./a/../b")]) == [Path("a/9"), Path("a/10"), Path("./a/../b")]
    assert main(["plot", "a", "--out", "figure.png"]) == 2
    assert "'a/9' and 'a/10' are both seed 0 of 'true reward' on Pendulum-v1: name arms" in capsys.readouterr().err
    assert not (tmp_path / "figure.png").exists()
    (tmp_path / "a/10/result.json").unlink()
    assert main(["plot", "a", "--out", "figure.png"]) == 0
    assert "1 of 2 runs have not finished and are left out: a/10" in capsys.readouterr().err
    assert main(["plot", "a/10", "--out", "figure.png"]) == 0  # one that is named is shown
    (tmp_path / "a/9/result.json").unlink()
    assert main(["plot", "a", "--out", "figure.png"]) == 2
    assert "none of the 2 runs in 'a' has finished" in capsys.readouterr().err


def test_a_comparison_is_asked_for_in_a_file(capsys, tmp_path):
    (tmp_path / "mine.toml").write_text("labels = [10, 20]\nseeds = 1\nsteps = 0\n")
    assert main(["compare", "--config", "mine.toml"]) == 2
    assert "steps=0 must be more than zero" in capsys.readouterr().err
    (tmp_path / "mine.toml").write_text("labels = [10, 'many']\n")
    assert main(["compare", "--config", "mine.toml"]) == 2
    assert "sets labels = [10, 'many']" in capsys.readouterr().err


def test_envs_lists_ids_with_horizon_and_segment(capsys):
    assert main(["envs", "halfcheetah"]) == 0
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("HalfCheetah-v5"))
    assert line.split()[1:3] == ["1000", "30"]


def test_envs_lists_all_ours_first_even_those_whose_package_is_missing(capsys):
    gym.register("prefrl/Unwrapped-v0", entry_point="tests.no_such_module:Env", max_episode_steps=7)
    try:
        assert main(["envs"]) == 0
    finally:
        del gym.registry["prefrl/Unwrapped-v0"]
    ids = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert {"prefrl/Unwrapped-v0", "prefrl/Pong-v0", "Pendulum-v1", "LunarLander-v3"} <= set(ids)
    ours = [env_id.startswith("prefrl/") for env_id in ids]
    assert ours == sorted(ours, reverse=True)


def test_a_reader_who_has_seen_enough_ends_the_listing_quietly():
    script = "import sys; from prefrl.cli import main; sys.exit(main(['envs']))"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as envs:
        assert envs.stdout and envs.stderr
        envs.stdout.close()
        assert envs.stderr.read() == ""
    assert envs.returncode == 141


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_to_write(capsys, tmp_path):
    tmp_path.chmod(0o500)
    try:
        assert main(["train", *SMALL]) == 2
        assert "no permission to write" in capsys.readouterr().err
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that refuses new folders to everyone")
def test_a_file_system_that_refuses_the_folder(capsys):
    assert main(["train", *SMALL, *FAST, "--out", "/proc/prefrl-run"]) == 2
    error = capsys.readouterr().err
    begins, said = error.splitlines()
    assert "begins from preset" in begins
    assert "cannot write the run folder '/proc/prefrl-run'" in said


def test_a_file_in_the_way_of_the_run_folder(capsys, tmp_path):
    (tmp_path / "runs").write_text("")
    assert main(["train", *SMALL]) == 2
    error = capsys.readouterr().err
    assert "cannot write the run folder" in error
    assert error.count("\n") == 1


def test_help_is_quick_and_needs_no_torch():
    script = (
        "import sys, prefrl.cli\n"
        "try:\n    prefrl.cli.main(['train', '--help'])\n"
        "except SystemExit:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("False")
    assert "--labels" in done.stdout


def test_a_file_called_as_an_installed_package_is_not_run(tmp_path):
    for name in ("gymnasium", "prefrl_envs", "envpool", "numpy", "mujoco", "multiprocessing"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the working folder was run')\n")
    script = "import sys; from prefrl.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-P", "-c", script, "envs", "Hopper"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "prefrl/Hopper-v0" in done.stdout


def raised_while_cleaning_up(first, second):
    try:
        try:
            raise first
        finally:
            raise second
    except type(second) as error:
        return error


def test_of_errors_met_one_while_cleaning_up_after_another_the_first_is_told():
    full = OSError(28, "No space left on device", "runs/one/metrics.csv")
    said = _mistake(raised_while_cleaning_up(full, RuntimeError("the weights cannot be written")))
    assert said and said.startswith("cannot read or write 'runs/one/metrics.csv' (No space left on device): ")
    assert _mistake(raised_while_cleaning_up(UserError("The first."), full)) == "The first."
    assert _mistake(raised_while_cleaning_up(KeyError("ours"), full)) is None  # a mistake of ours keeps its traceback
    with pytest.raises(UserError) as told:
        raise UserError("What it means.") from full
    assert _mistake(told.value) == "What it means."


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_in_a_sentence(tmp_path):
    script = "import sys; from prefrl.cli import main; sys.exit(main(['envs', 'Hopper']))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert (
        done.stderr
        == "prefrl: cannot read or write (No space left on device): see that there is room, and permission.\n"
    )


def test_a_text_that_the_locale_cannot_write_is_told_in_a_sentence(capsys):
    assert main(["baseline", *SMALL[:4], *SMALL[-3:], *FAST, "--arm", "Gr\udcf6\udcdfe", "--out", "one"]) == 2
    error = capsys.readouterr().err
    begins, said = error.splitlines()
    assert "begins from preset" in begins
    assert "PYTHONUTF8=1" in said


OWN = """
class Shy:
    def __init__(self, seed):
        pass

    def __call__(self, queries):
        return queries[0].middle


def refuses(seed):
    raise OverflowError("too many seeds")


def divides(r_hat, pairs):
    return 1 // 0


def hops(t):
    return [0, 1][round(t) + 2]
"""


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (
            "--labeler my_failures:Shy",
            "AttributeError: 'Query' object has no attribute 'middle', my_failures.py line 7",
        ),
        ("--labeler my_failures:refuses", "OverflowError: too many seeds, my_failures.py line 11"),
        (
            "--strategy my_failures:divides",
            "ZeroDivisionError: integer division or modulo by zero, my_failures.py line 15",
        ),
        ("--schedule my_failures:hops", "IndexError: list index out of range, my_failures.py line 19"),
    ],
)
def test_code_of_ones_own_that_fails_is_told_with_its_place(option, says, capsys):
    Path("my_failures.py").write_text(OWN)
    sys.modules.pop("my_failures", None)
    assert main(["train", *SMALL, *FAST, *option.split(), "--out", "one"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("prefrl: ")
    assert says in error
