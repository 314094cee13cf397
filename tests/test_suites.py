"""Meta-World and DeepMind's control suite through the house: both arms, the commands that know environments, people."""

import importlib.util
import subprocess
import sys

import pytest

from prefrl.baseline import run_baseline
from prefrl.experience.clips import how_shown, scene_of
from prefrl.experience.environments import list_environments
from prefrl.experience.task import Task
from prefrl.run import train
from prefrl.runs.resolve import resolve
from prefrl.runs.runlog import read_table
from prefrl.settings.config import BaselineConfig, TrainConfig

pytest.importorskip("envpool", reason="the extra fast is not installed")
WINDOW = {
    "env": "Meta-World/window-open-v3", "steps": 1600, "n_envs": 4, "phases": 3, "tensorboard": False,
    "env_kwargs": ("max_episode_steps=60",), "set": ("n_steps=32", "n_epochs=1"),
}  # fmt: skip
drawn = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("dm_control", "metaworld"))), reason="the extra suites is not installed"
)


def test_the_share_of_successes_stands_beside_the_return_in_both_arms(tmp_path):
    learned = train(
        TrainConfig(**WINDOW, labels=6, segment_steps=10, initial_epochs=2, fit_updates=2, out=tmp_path / "learned"),
        quiet=True,
    )
    true = run_baseline(BaselineConfig(**WINDOW, out=tmp_path / "true"), quiet=True)
    for folder in (learned, true):
        rows = read_table(folder / "metrics.csv")
        assert {"true_return", "success_rate"} <= rows.keys()
        assert set(rows["success_rate"][1:]) <= {0.0, 1.0} | set(rows["success_rate"])
        assert all(0 <= share <= 1 for share in rows["success_rate"][1:])


def test_where_no_environment_tells_there_is_no_column(tmp_path):
    config = BaselineConfig(
        env="dmc/pendulum-swingup-v1", steps=800, n_envs=4, phases=2, tensorboard=False, set=("n_steps=32",),
        out=tmp_path / "run",
    )  # fmt: skip
    assert "success_rate" not in read_table(run_baseline(config, quiet=True) / "metrics.csv")


def test_the_suites_are_listed_with_horizon_and_reward():
    (walker,) = list_environments("walker-walk").splitlines()[1:]
    assert walker.split()[:3] == ["dmc/walker-walk-v1", "1000", "50"]
    (window,) = list_environments("window-open").splitlines()[1:]
    assert window.split()[:3] == ["Meta-World/window-open-v3", "500", "50"]
    assert "version 2" in window


@drawn
@pytest.mark.parametrize("env_id", ["dmc/reacher-easy-v1", "Meta-World/window-open-v3"])
def test_people_are_shown_what_the_suites_own_class_does(env_id):
    config = resolve(TrainConfig(env=env_id, labeler="human", labels=10, steps=32_000, n_envs=4))
    assert (config.is_drawn, config.backend, config.segment_steps) == (True, "gymnasium", 50)
    assert how_shown(Task(env_id)) == "joints"
    env, other = (Task(env_id).make() for _ in range(2))
    env.reset(seed=1)
    other.reset(seed=2)
    scene = scene_of(env)
    assert (scene != scene_of(other)).any()
    other.unwrapped.set_scene(scene)
    assert (scene_of(other) == scene).all()


@pytest.mark.parametrize("env_id", ["dmc/walker-walk-v1"])
def test_check_knows_them(env_id):
    code = "import sys; from prefrl.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "check", env_id], capture_output=True, text=True, check=False)
    assert "a vector environment of its own" in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
