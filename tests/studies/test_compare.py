"""What a comparison says of its runs: final returns, and shares of the way from random actions."""

import csv
import json

import helpers  # noqa: F401  registers the environments
import numpy as np
import pytest

from prefrl.settings.config import TRUE_REWARD, BaselineConfig, CompareConfig, TrainConfig
from prefrl.studies import random_actions
from prefrl.studies.compare import Outcome, plan_runs, read_outcome, results, write_report
from prefrl.studies.random_actions import random_return, true_returns

SMALL = {
    "env": "prefrl-tests/Target-v0",
    "steps": 4_000,
    "n_envs": 4,
    "segment_steps": 10,
    "set": ("n_steps=50", "batch_size=100"),
}


def outcome(arm, seed, final, task="Some-v0"):
    return Outcome(task, arm, seed, (np.array([1.0, 2.0]), np.array([0.0, final])), 1.0)


def shares(outcomes, random):
    return {row.arm: row.share for row in results(outcomes, random)}


def test_a_share_is_of_the_way_from_random_actions_to_the_true_reward():
    runs = [outcome(arm, seed, final) for arm, final in ((TRUE_REWARD, -100), ("9 labels", -140)) for seed in (0, 1)]
    assert shares(runs, {"Some-v0": -500}) == {TRUE_REWARD: 1.0, "9 labels": 0.9}  # returns below zero are no obstacle
    assert shares(runs, {}) == {TRUE_REWARD: None, "9 labels": None}
    assert shares(runs[2:], {"Some-v0": -500}) == {"9 labels": None}  # there is no true reward to compare with


def test_there_is_no_share_of_a_true_reward_that_is_no_better_than_random_actions(tmp_path):
    runs = [outcome(TRUE_REWARD, 0, 9.4), outcome("9 labels", 0, 99.0)]
    assert shares(runs, {"Some-v0": 22.0}) == {TRUE_REWARD: None, "9 labels": None}
    table = write_report(runs, tmp_path, {"Some-v0": 22.0})
    assert "On Some-v0 the true reward's IQM is no better than random actions" in table
    assert table in (tmp_path / "compare.md").read_text()


def test_episodes_are_counted_and_weighed(tmp_path):
    (tmp_path / "config.toml").write_text('env = "Some-v0"\nseed = 3\n')
    (tmp_path / "timing.csv").write_text("step,seconds\n100,7\n")
    rows = ["step,episodes,true_return", "50,4,1", "94,30,20", "97,0,", "100,10,100"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    read = read_outcome(tmp_path)
    assert read.final == (30 * 20 + 10 * 100) / 40
    write_report([read], tmp_path, {})
    with (tmp_path / "compare.csv").open() as file:
        assert [(row["step"], row["episodes"]) for row in csv.DictReader(file)] == [
            ("50", "4"),
            ("94", "30"),
            ("100", "10"),
        ]
    old = [
        ",".join(cell for i, cell in enumerate(row.split(",")) if i != 1) for row in rows
    ]  # before they were counted
    (tmp_path / "metrics.csv").write_text("\n".join(old) + "\n")
    read = read_outcome(tmp_path)
    assert read.episodes is None
    assert read.final == 60
    write_report([read], tmp_path, {})


def test_random_actions_are_played_on_the_runs_own_environment_once(tmp_path, monkeypatch):
    config = CompareConfig(env="prefrl-tests/Counter-v0", env_kwargs=("lengths=[4, 2, 1]",))
    # episode e pays 100 e + step, for 4, 2, 1, 4, ... steps, in order: none is left out for its length
    expected = np.mean([sum(100 * e + t for t in range((4, 2, 1)[e % 3])) for e in range(random_actions.EPISODES)])
    assert random_return(config, tmp_path) == pytest.approx(expected)
    assert not list(tmp_path.iterdir())  # who only looks writes nothing
    assert random_return(config, tmp_path / "new", keep=True) == pytest.approx(expected)
    kept = json.loads((tmp_path / "new" / random_actions.KEPT).read_text())
    assert kept["env_kwargs"] == ["lengths=[4, 2, 1]"]
    assert kept["commit"]

    def never(*_):
        raise AssertionError("measured again")

    with monkeypatch.context() as patched:
        patched.setattr(random_actions, "true_returns", never)
        assert random_return(config, tmp_path / "new") == pytest.approx(expected)
        run = BaselineConfig(env=config.env, env_kwargs=config.env_kwargs, out=tmp_path / "new" / "a")
        assert random_return(run, tmp_path / "new") == pytest.approx(expected)
    other = CompareConfig(env=config.env, env_kwargs=("lengths=[3]",))
    assert random_return(other, tmp_path / "new", keep=True) != pytest.approx(expected)
    (tmp_path / "new" / random_actions.KEPT).write_text("{")
    assert random_return(config, tmp_path / "new") == pytest.approx(expected)


def test_random_actions_are_the_same_each_time_and_differ_by_seed():
    once = true_returns("prefrl-tests/Target-v0", episodes=3)
    assert once == true_returns("prefrl-tests/Target-v0", episodes=3)
    assert once != true_returns("prefrl-tests/Target-v0", episodes=3, seed=1)


def test_episodes_that_do_not_end_are_given_up(monkeypatch, tmp_path):
    monkeypatch.setattr(random_actions, "MOST_STEPS", 50)
    config = CompareConfig(env="prefrl-tests/Counter-v0", env_kwargs=("lengths=[60]",))
    assert np.isnan(random_return(config, tmp_path, keep=True))
    assert np.isnan(random_return(config, tmp_path))


def test_both_arms_take_their_scale_from_as_many_steps(tmp_path):
    runs = plan_runs(CompareConfig(**SMALL, labels=(20,), keep_steps=900, seeds=1), tmp_path)
    assert [type(run) for run in runs] == [BaselineConfig, TrainConfig]
    assert runs[0].reward_window == 900
