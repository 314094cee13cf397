"""What a run begins from, by what its environment is, and what it says of that."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import AnyEnv, sentence
from stable_baselines3 import PPO

from prefrl.run import train
from prefrl.runs.resolve import resolve
from prefrl.settings.config import BaselineConfig, TrainConfig
from prefrl.words.errors import UserError

NUMBERS, CHOICES = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)


def register(name: str, action_space: Any, horizon: int | None, fps: int | None = None) -> str:
    """An environment of this kind, registered anew."""
    kind = type(name, (AnyEnv,), {"metadata": {"render_modes": [], **({"render_fps": fps} if fps else {})}})
    env_id = f"resolve/{name}-v0"
    gym.registry.pop(env_id, None)
    kwargs = {"observation_space": NUMBERS, "action_space": action_space}
    gym.register(env_id, kind, max_episode_steps=horizon, kwargs=kwargs)
    return env_id


class OwnPPO(PPO):
    """A learner that nobody has settings for."""


def test_a_stranger_begins_from_what_it_is(tmp_path: Path) -> None:
    config = resolve(TrainConfig(env=register("Chooser", CHOICES, 500, fps=20), labels=10, out=tmp_path / "run"))
    assert config.settings["gamma"] == 0.995
    assert (config.segment_steps, config.reward_std) == (30, 0.1)
    assert config.taken.startswith("resolve/Chooser-v0 begins from preset discrete, because it shows numbers and takes")
    assert "a horizon of 500 steps, discount 0.995, segments of 30 steps" in config.taken
    mover = resolve(BaselineConfig(env=register("Mover", NUMBERS, 50), out=tmp_path / "run"))
    assert mover.settings["gamma"] == 0.96
    assert "preset continuous" in mover.taken
    assert "segments" not in mover.taken
    endless = resolve(BaselineConfig(env=register("Endless", NUMBERS, None), out=tmp_path / "run"))
    assert endless.settings["gamma"] == 0.99
    assert "no time limit" in endless.taken


def test_what_was_tuned_stays_as_it_was(tmp_path: Path) -> None:
    cheetah = resolve(TrainConfig(out=tmp_path / "run"))
    assert dict(cheetah.settings) == {
        "n_steps": 64,
        "batch_size": 512,
        "n_epochs": 10,
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "learning_rate": "lin_1e-3",
        "policy_kwargs": {"log_std_init": -2.0},
    }
    assert (cheetah.n_envs, cheetah.segment_steps) == (32, 30)
    pendulum = resolve(BaselineConfig(env="Pendulum-v1", out=tmp_path / "run"))
    assert (pendulum.settings["gamma"], pendulum.n_envs, pendulum.reward_std) == (0.95, 8, 1.0)


def test_the_preset_can_be_asked_for(tmp_path: Path) -> None:
    asked = BaselineConfig(env="Pendulum-v1", preset="continuous", out=tmp_path / "run")
    config = resolve(asked)
    assert (config.settings["gamma"], config.n_envs, config.preset) == (0.99, 16, "continuous")
    assert "because it was asked for" in config.taken
    with pytest.raises(UserError) as error:
        resolve(BaselineConfig(env="Pendulum-v1", preset="continous", out=tmp_path / "run"))
    assert "Did you mean 'continuous'?" in sentence(error.value)


def test_a_setting_given_wins_over_the_horizons(tmp_path: Path) -> None:
    env = register("Chooser", CHOICES, 500)
    assert resolve(BaselineConfig(env=env, set=("gamma=0.9",), out=tmp_path / "run")).settings["gamma"] == 0.9


def test_a_learner_of_ones_own_is_told_that_few_phases_remain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"env": "prefrl-tests/Target-v0", "learner": f"{__name__}:OwnPPO", "steps": 8_000, "labels": 10}
    train(TrainConfig(**own, segment_steps=5, set=("n_epochs=1",), tensorboard=False, out=tmp_path / "run"))
    said = capsys.readouterr().err
    assert "1 of 50 phases remain, in which the reward is refreshed and questions are asked" in said
    assert "takes n_steps=2,048 in each of 16 environments" in said
    assert "--set n_steps=9." in said
    assert "begins from tests" not in said
    assert f"begins from {__name__}:OwnPPO's own settings" in said
    told = ("n_steps=9", "n_epochs=1", "batch_size=144")
    train(TrainConfig(**own, segment_steps=5, set=told, tensorboard=False, out=tmp_path / "more"))
    assert "phases remain" not in capsys.readouterr().err
