"""A sweep on Ray: runs on every machine, finished runs left alone, failed, stopped and lost ones run again."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import sentence

from prefrl.cli import main
from prefrl.runs.runlog import is_finished
from prefrl.studies.compare import find_runs
from prefrl.studies.grid import read_grid
from prefrl.studies.sweep import sweep
from prefrl.words.errors import UserError

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

SMALL = """
out = "out"
env = "Pendulum-v1"
steps = 2000
n_envs = 8
phases = 2
tensorboard = false
set = ["n_steps=50", "batch_size=100", "n_epochs=1"]
"""
GRID = f"""{SMALL}
[[grid]]
command = "baseline"
[[grid]]
labels = 10
[[grid]]
arm = "patience"
labels = 10
labeler = "a_labeler_of_mine:make"
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")


def command(*arguments: str, **more):
    program = [sys.executable, "-c", "import sys; from prefrl.cli import main; sys.exit(main())", "sweep", *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=240, **more)


def wait_for(condition, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def read_all(terminal: int, into: list[bytes]) -> None:
    """What is written to a terminal, as it is written, until everybody has closed it: it holds little by itself."""
    with suppress(OSError):
        while read := os.read(terminal, 1 << 16):
            into.append(read)


def at_work_in(folder: Path) -> list[str]:
    """Processes whose working folder this is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder and process.name != str(os.getpid()):
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_a_sweep_that_is_stopped_and_fails_goes_on_until_it_is_done(tmp_path, capsys):
    Path("grid.toml").write_text(GRID)
    mine = Path("a_labeler_of_mine.py")
    mine.write_text(
        "import pathlib, time\ndef make(seed):\n    def answer(queries):\n        pathlib.Path('asking').touch()\n"
        "        while True:\n            time.sleep(0.1)\n    return answer\n"
    )

    terminal, inside = pty.openpty()
    screen: list[bytes] = []
    reading = threading.Thread(target=read_all, args=(terminal, screen), daemon=True)
    reading.start()
    heeds = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # what runs the tests may not
    program = [sys.executable, "-c", f"{heeds}; import sys; from prefrl.cli import main; sys.exit(main())"]
    with subprocess.Popen(
        [*program, "sweep", "grid.toml"],
        stdout=subprocess.PIPE,
        stderr=inside,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm"},
    ) as sweeping:
        try:
            asked = Path("out/Pendulum-v1/patience-seed0/labels.sqlite")
            shown = b"2 finished, 0 failed, 1 running"
            wait_for(lambda: Path("asking").exists() and shown in b"".join(screen), 240)
            assert is_finished(Path("out/Pendulum-v1/true-reward-seed0"))
            assert main(["sweep", "grid.toml"]) == 2
            assert "another process is at work in 'out/Pendulum-v1'" in capsys.readouterr().err
            os.killpg(sweeping.pid, signal.SIGINT)  # as Ctrl-C does, to everything that the terminal started
            assert sweeping.wait(120) == 130
        finally:
            sweeping.kill()  # or a test that fails would wait for it
            os.close(inside)
    reading.join(20)
    os.close(terminal)
    assert b"Pendulum-v1, true reward, seed 0: true return -" in b"".join(screen)
    wait_for(lambda: not at_work_in(tmp_path), 20)
    stopped = asked.parent
    assert (stopped / "reward.safetensors").exists()  # what it had learned is kept
    assert not is_finished(stopped)

    mine.write_text(
        "def make(seed):\n    def answer(queries):\n        raise OSError('nobody\\nhome')\n    return answer\n"
    )
    done = command("grid.toml")
    assert (done.returncode, done.stdout) == (1, "2 of 3 runs are finished.\n")
    failed = "patience-seed0 failed: labeler 'a_labeler_of_mine:make' failed with OSError: nobody home"
    assert done.stderr.count(failed) == 2  # when it fails, and at the end
    assert "Traceback" not in done.stderr
    assert "in answer" in (stopped / "error.txt").read_text()
    assert (stopped.with_name("patience-seed0.stopped1") / "reward.safetensors").exists()
    finished = {run: (run / "result.json").stat().st_mtime_ns for run in find_runs([Path("out")])}
    assert len(finished) == 2
    assert len(find_runs([Path("out"), stopped])) == 3  # named, what failed is found; set aside, never
    assert main(["sweep", "grid.toml", "--dry-run"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["finished", "finished", "to"]

    mine.write_text(
        "from prefrl.queries.oracle import make_oracle\ndef make(seed):\n    return make_oracle(['oracle'], seed)\n"
    )
    done = command("grid.toml")
    assert (done.returncode, done.stdout) == (0, "3 of 3 runs are finished.\n"), done.stderr
    assert (stopped.with_name("patience-seed0.stopped2") / "error.txt").exists()
    assert all((run / "result.json").stat().st_mtime_ns == when for run, when in finished.items())
    assert main(["sweep", "grid.toml"]) == 0
    assert capsys.readouterr().out == "3 of 3 runs are finished.\n"


@pytest.mark.long  # a cluster is started, and a lost node waited for until Ray gives it up
def test_a_machine_is_lost_and_the_sweep_completes(capsys):
    Path("grid.toml").write_text(f'{SMALL}\nseed = {list(range(8))}\nlabels = 10\nlabeler = "a_slow_labeler:make"\n')
    Path("a_slow_labeler.py").write_text(
        "import ray, time\n"
        "from pathlib import Path\n"
        "from prefrl.queries.oracle import make_oracle\n"
        "def make(seed):\n"
        "    Path(f'begun-{ray.get_runtime_context().get_node_id()}-{seed}').touch()\n"
        "    time.sleep(1)\n"
        "    until = time.monotonic() + 60\n"
        "    if seed == 7:  # the last run takes until Ray has noticed, and the sweep has asked\n"
        "        while all(node['Alive'] for node in ray.nodes()) and time.monotonic() < until:\n"
        "            time.sleep(0.1)\n"
        "        time.sleep(3)\n"
        "    return make_oracle(['oracle'], seed)\n"
    )
    cluster = cluster_utils.Cluster(True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        first, second = cluster.head_node, cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()

        def lose_it() -> None:
            wait_for(lambda: len(list(Path().glob(f"begun-{second.node_id}-*"))) == 2)  # one done, one under way
            cluster.remove_node(second, allow_graceful=False)

        jobs = read_grid(Path("grid.toml"))
        with pytest.raises(UserError, match="gpus=1") as none:
            sweep(read_grid(_with("gpus = 1")), cluster.address)
        sentence(none.value)
        assert not Path("out").exists()

        losing = threading.Thread(target=lose_it)
        losing.start()
        ended = sweep(jobs, cluster.address)
        losing.join()
    finally:
        cluster.shutdown()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("true return") == 8
    assert said.err.count(" was lost; its runs begin again") == 1
    assert [run.error for run in ended] == [None] * 8
    assert {run.node for run in ended} == {first.node_id, second.node_id}
    assert all(is_finished(job.config.out) for job in jobs)
    (lost,) = Path("out/Pendulum-v1").glob("*.stopped1")
    assert not is_finished(lost)
    again = next(run for run in ended if lost.name.startswith(run.job.config.out.name))
    assert again.node == first.node_id


def _commandline(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def _with(line: str) -> Path:
    path = Path("other.toml")
    path.write_text(f"{line}\n{Path('grid.toml').read_text()}")
    return path


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere", "nowhere.invalid:6379", "127.0.0.1:99999999", "auto"])
def test_no_cluster_is_one_sentence(address, capsys):
    if address == "auto" and any(b"gcs_server" in _commandline(process) for process in Path("/proc").glob("[0-9]*")):
        pytest.skip("there is a Ray cluster on this machine, which auto finds")
    Path("grid.toml").write_text(f"{SMALL}\nlabels = 10")
    assert main(["sweep", "grid.toml", "--address", address]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"prefrl: there is no Ray cluster to join at {address!r}")
    assert said.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["grid.toml"]
