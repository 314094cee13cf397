"""From Python: objects wherever an id or a path is taken, and what is said where another program meets their names."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from helpers import TargetEnv, sentence
from stable_baselines3 import PPO
from torch import nn

import prefrl
from prefrl.queries.strategies import coverage
from prefrl.settings.config import BaselineConfig, TrainConfig, read_run
from prefrl.words.errors import UserError
from prefrl.words.lookup import lookup

SMALL: dict[str, Any] = {
    "steps": 600,
    "n_envs": 4,
    "segment_steps": 5,
    "phases": 3,
    "labels": 12,
    "initial_epochs": 5,
    "tensorboard": False,
    "set": {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "policy_kwargs": {"activation_fn": nn.ReLU}},
}


class OwnPPO(PPO):
    """Nothing of its own."""


def test_objects_that_can_be_imported_are_their_paths() -> None:
    config = TrainConfig.of(env=TargetEnv, learner=OwnPPO, strategy=coverage)
    assert config.env == "helpers:TargetEnv"
    assert config.learner == f"{__name__}:OwnPPO"
    assert config.strategy == "prefrl.queries.strategies:coverage"
    assert TrainConfig.of(env="Pendulum-v1", set={"gamma": np.float32(0.5), "n_steps": 7}).set == (
        "gamma=0.5",
        "n_steps=7",
    )


def test_a_run_of_objects(tmp_path: Path) -> None:
    asked = []

    def make(render_mode: str | None = None) -> gym.Env[Any, Any]:
        return gym.wrappers.TimeLimit(TargetEnv(), 20)

    def ask(queries: Any) -> list[prefrl.Preference]:
        asked.append(len(queries))
        return [prefrl.Preference(query, float(query.left.rewards.sum() > 0), "me", 1.0) for query in queries]

    def boldest(r_hat: Any, pairs: Any) -> Any:
        return np.zeros(len(pairs))

    config = TrainConfig.of(env=make, labeler=ask, strategy=boldest, out=tmp_path / "run", **SMALL)
    again = TrainConfig.of(env=make, labeler=ask, strategy=boldest, out=tmp_path / "run", **SMALL)
    assert config == again  # the same objects have the same names
    folder = prefrl.train(config, quiet=True)
    assert sum(asked) == 12
    assert (read_run(folder).env, read_run(folder).labeler) == ("here/make-v0", "here:ask")  # type: ignore[attr-defined]
    run = prefrl.load_run(folder)
    paid = prefrl.LearnedRewardEnv(make(), folder)
    paid.reset(seed=0)
    assert np.isfinite(paid.step(np.zeros(1, np.float32))[1])
    assert run.policy.act(np.zeros((1, 1), np.float32)).shape == (1, 1)

    code = f"import prefrl; prefrl.load_run({str(folder)!r}).make_env()"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "env=OBJECT (prefrl.load_run takes it too)" in there.stderr
    code = f"import gymnasium, prefrl; prefrl.load_run({str(folder)!r}, env='Pendulum-v1').make_env()"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(UserError) as error:
        lookup("labeler", "here:nobody", {})
    assert "labeler=OBJECT" in sentence(error.value)


def test_an_environment_that_is_made_and_arguments_that_no_file_holds() -> None:
    made = gym.make("Pendulum-v1", g=3.0)
    config = BaselineConfig.of(env=made)
    assert config.env == "here/Pendulum-v0"
    copied = gym.make(config.env)
    assert copied.unwrapped.g == 3.0  # type: ignore[attr-defined]
    assert copied.spec is not None
    assert copied.spec.max_episode_steps == 200
    bare = BaselineConfig.of(env=TargetEnv())
    assert isinstance(gym.make(bare.env).unwrapped, TargetEnv)
    given = BaselineConfig.of(env="FrozenLake-v1", env_kwargs={"desc": None, "is_slippery": False})
    assert given.env_kwargs == ("is_slippery=false",)
    assert given.env == "here/FrozenLake-v0"
    gym.make(given.env, is_slippery=False).close()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"env": 3}, "is no environment"),
        ({"learner": 3}, "neither called nor looked up"),
        ({"set": {"learning_rate": lambda _: 1.0}}, "cannot be written into a run's folder"),
    ],
)
def test_what_is_no_object_of_the_kind_is_one_sentence(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as error:
        BaselineConfig.of(**wrong)
    assert says in sentence(error.value)


@pytest.mark.parametrize("net_arch", [[8, 8], []])
def test_a_policy_as_stable_baselines3_has_it(net_arch: list[int], tmp_path: Path) -> None:
    told = {**SMALL["set"], "policy_kwargs": {"net_arch": net_arch}}
    config = BaselineConfig.of(
        env="prefrl-tests/Target-v0",
        steps=600,
        n_envs=4,
        phases=3,
        set=told,
        tensorboard=False,
        out=tmp_path / "run",
    )
    run = prefrl.load_run(prefrl.run_baseline(config, quiet=True))
    zipped = PPO.load(run.export_policy(tmp_path / "policy.zip"), device="cpu")
    seen = np.linspace(-20, 40, 50, dtype=np.float32)[:, None]
    np.testing.assert_allclose(zipped.predict(seen, deterministic=True)[0], run.policy.act(seen, True), atol=1e-4)


def test_a_learned_reward_in_plain_stable_baselines3(tmp_path: Path) -> None:
    folder = prefrl.train(TrainConfig.of(env="prefrl-tests/Target-v0", out=tmp_path / "run", **SMALL), quiet=True)
    env = prefrl.LearnedRewardEnv(gym.make("prefrl-tests/Target-v0"), folder)
    PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1).learn(32)
    with pytest.raises(UserError) as error:
        prefrl.LearnedRewardEnv(gym.make("Pendulum-v1"), folder)
    assert "prefrl.load_run(folder).make_env()" in sentence(error.value)
