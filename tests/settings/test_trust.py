"""Looking at a run imports nothing and calls nobody because its folder says so, unless it was made here."""

import shutil
from pathlib import Path

import pytest
from helpers import sentence

from prefrl.cli import main
from prefrl.queries.exchange import _check_env, read, store_of
from prefrl.runs.saved import load_run
from prefrl.settings.config import BaselineConfig, TrainConfig
from prefrl.settings.trust import SIGNATURE, check_package, file_of, host_of, sign
from prefrl.words.errors import UserError

ODD_JOB = "from pathlib import Path\n\nPath({place!r}).touch()\n"
LOOKS = {
    "report": ["report", "run", "--out", "page.html"],
    "evaluate": ["evaluate", "run"],
    "bestof": ["bestof", "run"],
    "video": ["video", "run"],
    "label": ["label", "run"],
}


@pytest.fixture(autouse=True)
def _a_users_own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def folder_of(**fields: str) -> Path:
    """A run's folder as somebody else might have written it."""
    folder = Path("run")
    folder.mkdir()
    lines = {"env": "Pendulum-v1", "labels": 20, "steps": 4000, "segment_steps": 25} | fields
    (folder / "config.toml").write_text("".join(f"{name} = {value!r}\n" for name, value in lines.items()))
    (folder / "metrics.csv").write_text("step,true_return\n4000,-1000\n")
    (folder / "timing.csv").write_text("step,seconds\n4000,1\n")
    (folder / "result.json").write_text("{}")
    return folder


@pytest.mark.parametrize("arguments", LOOKS.values(), ids=LOOKS)
def test_a_module_that_a_strangers_run_names_is_not_imported(arguments, capsys, tmp_path):
    Path("odd_job_of_a_stranger.py").write_text(ODD_JOB.format(place=str(tmp_path / "was-here")))
    folder_of(env="odd_job_of_a_stranger:Odd-v0")
    before = sorted(Path("run").iterdir())
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "'odd_job_of_a_stranger'" in error
    assert "--trust" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "was-here").exists()
    assert sorted(Path("run").iterdir()) == before


def test_it_is_with_trust(capsys, tmp_path):
    Path("odd_job_of_a_friend.py").write_text(ODD_JOB.format(place=str(tmp_path / "was-here")))
    folder_of(env="odd_job_of_a_friend:Odd-v0")
    (Path("run") / "policy.safetensors").touch()
    assert main(["video", "run", "--trust"]) == 2  # it has no environment of that name
    assert "unknown environment 'odd_job_of_a_friend:Odd-v0'" in capsys.readouterr().err
    assert (tmp_path / "was-here").exists()


@pytest.mark.parametrize("module", ["pip.__main__", "antigravity", "no_such_module", ".", "a\0b"])
def test_neither_a_module_within_a_package_nor_one_of_python_itself_is_installed(module):
    with pytest.raises(UserError, match=r"would be imported.*--trust"):
        check_package(f"{module}:Id-v0", "it")


def test_what_is_installed_or_imported_already_takes_no_trust():
    check_package("Pendulum-v1", "it")
    check_package("prefrl_envs:prefrl/Hopper-v0", "it")
    check_package("helpers:prefrl-tests/Counter-v0", "it")


def test_ones_own_run_is_known_by_its_signature_until_it_is_changed(tmp_path):
    Path("mine_alone.py").write_text("")
    folder = folder_of(env="mine_alone:Mine-v0")
    with pytest.raises(UserError, match="'mine_alone'"):
        load_run(folder)
    config = TrainConfig(env="mine_alone:Mine-v0", labels=20, steps=4000, segment_steps=25)
    sign(config, folder)
    assert load_run(folder).config == config
    assert (tmp_path / "state/prefrl/key").stat().st_mode & 0o077 == 0
    text = (folder / "config.toml").read_text()
    for changed in (text.replace("Mine-v0", "Other-v0"), text + "env_kwargs = ['shell=true']\n"):
        (folder / "config.toml").write_text(changed)
        with pytest.raises(UserError, match="--trust"):
            load_run(folder)
    (folder / "config.toml").write_text(text)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move("mine_alone.py", elsewhere)  # what lies there now under that name is not what was run
    Path("mine_alone.py").mkdir()
    with pytest.raises(UserError, match="--trust"):
        load_run(folder)


def test_ones_own_answers_may_name_what_ones_own_run_names(tmp_path):
    Path("mine_alone.py").write_text("")
    folder = folder_of(env="mine_alone:Mine-v0")
    (folder / "labels.sqlite").touch()
    env_id, inside, outside = "mine_alone:Mine-v0", folder / "labels.sqlite", tmp_path / "labels.sqlite"
    for place in (folder, inside, outside):
        with pytest.raises(UserError, match="--trust"):
            _check_env(env_id, str(place))
    sign(TrainConfig(env=env_id, labels=20, steps=4000, segment_steps=25), folder)
    for place in (folder, inside):
        _check_env(env_id, str(place))
    for other, place in (("theirs:Mine-v0", folder), (env_id, outside)):  # the run names no such, or there is none
        with pytest.raises(UserError, match="--trust"):
            _check_env(other, str(place))


def test_a_signature_made_with_another_key_counts_for_nothing(tmp_path, monkeypatch):
    Path("theirs.py").write_text("")
    folder = folder_of(env="theirs:Mine-v0")
    with monkeypatch.context() as stranger:
        stranger.setenv("XDG_STATE_HOME", str(tmp_path / "their-state"))
        sign(load_run(folder, trust=True).config, folder)
    assert (folder / SIGNATURE).exists()
    with pytest.raises(UserError, match="--trust"):
        load_run(folder)


def test_a_run_that_names_nothing_strange_is_not_signed(tmp_path):
    folder = folder_of()
    sign(BaselineConfig(env="Pendulum-v1"), folder)
    assert not (folder / SIGNATURE).exists()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("store", "host"),
    [
        ("postgresql+psycopg://me@far.example/answers", "far.example"),
        ("postgresql://me@/answers?host=far.example", "far.example"),
        ("postgresql://here.example/answers?host=far.example", "far.example"),
        ("mysql:///answers", "mysql on this machine"),
        ("sqlite:///answers.db", None),
        ("answers.db", None),
        (None, None),
    ],
)
def test_the_host_of_a_store(store, host):
    assert host_of(store) == host


def test_the_file_of_a_store():
    assert file_of("sqlite:////data/answers.db") == Path("/data/answers.db")
    assert file_of("answers.db") == Path("answers.db")
    assert file_of("postgresql://far.example/answers") is None
    with pytest.raises(UserError, match="no URL"):
        host_of("a b://")


@pytest.mark.parametrize(
    "arguments",
    [
        ["labels", "stats", "run"],
        ["labels", "export", "run", "--out", "new"],
        ["labels", "import", "run", "--out", "new"],
        ["train", "--env", "Pendulum-v1", "--steps", "4000", "--labels", "20", "--labels-from", "run", "--out", "new"],
    ],
)
def test_a_host_that_a_strangers_run_names_is_not_called(arguments, capsys):
    folder_of(store="postgresql+psycopg://me@far.example.invalid/answers")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "the database at 'far.example.invalid'" in error
    assert error.count("\n") == 1
    assert not Path("new").exists()


@pytest.mark.parametrize("url", ["sqlite:///{}", "{}", "sqlite:///file:{}?mode=rwc&uri=true"])
def test_looking_makes_no_store_where_a_run_says_that_it_is(url, tmp_path):
    folder = folder_of(store=url.format(tmp_path / "made-by-looking.db"))
    with pytest.raises(UserError, match="there are no answers"):
        read(folder)
    with pytest.raises(UserError) as caught:
        store_of(folder)
    sentence(caught.value)
    assert not list(tmp_path.glob("*made-by*"))
