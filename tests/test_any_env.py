"""Any environment: whatever it shows and takes, however its episodes end, and when it fails."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import counters, sentence
from numpy.typing import NDArray
from scipy.stats import chisquare
from stable_baselines3.common.vec_env import DummyVecEnv

import prefrl
from prefrl.cli import main
from prefrl.config import TrainConfig
from prefrl.fit import Fit
from prefrl.fixed_horizon import FixedHorizon
from prefrl.preference import Preference, Query, Segment, UserError
from prefrl.recorder import Recorder
from prefrl.reward_model import RewardEnsemble
from prefrl.runlog import is_finished
from prefrl.store import Store

LEVEL = 1e-3  # of the statistical tests

TINY = TrainConfig(
    steps=1200,
    labels=50,
    n_envs=4,
    segment_steps=5,
    phases=3,
    batch=16,
    initial_epochs=40,
    fit_updates=40,
    set=("n_steps=64", "batch_size=64", "n_epochs=1"),
    tensorboard=False,
)


def box(*shape: int, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(-1, 1, shape, dtype)


def pixels(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


class LinearEnv(gym.Env[Any, Any]):
    """Shows samples of a space; pays a weighted sum of the numbers in observation and action, choices one-hot."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        rng = np.random.default_rng(0)
        self.weights = [rng.normal(size=spaces.flatdim(space)) for space in (observation_space, action_space)]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.shown = self.observation_space.sample()
        return self.shown, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(np.asarray(action)), action
        parts = spaces.flatten(self.observation_space, self.shown), spaces.flatten(self.action_space, action)
        reward = sum(float(w @ part) / np.sqrt(len(w)) for w, part in zip(self.weights, parts, strict=True))
        self.shown = self.observation_space.sample()
        return self.shown, reward, False, False, {}


class BrightnessEnv(gym.Env[Any, Any]):
    """Shows noise around a grey level drawn at each step, and pays the level."""

    action_space = spaces.Discrete(2)

    def __init__(self, *shape: int) -> None:
        self.observation_space = pixels(*shape)

    def _show(self) -> NDArray[np.uint8]:
        self.level = self.np_random.uniform()
        noise = self.np_random.integers(0, 40, self.observation_space.shape)
        return (noise + 200 * self.level).astype(np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._show(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = self.level
        return self._show(), reward, False, False, {}


class FailingEnv(LinearEnv):
    """Raises at its step 30 in all, in the second episode."""

    def __init__(self) -> None:
        super().__init__(box(2), spaces.Discrete(2))
        self.steps = 0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        if self.steps == 30:
            raise ZeroDivisionError("the wheel came\n  off")
        return super().step(action)


SPACES: dict[str, tuple[spaces.Space[Any], spaces.Space[Any]]] = {
    "Dict observations": (
        spaces.Dict(place=box(2, 2, dtype=np.float64), kind=spaces.Discrete(3), lamps=spaces.MultiBinary(3)),
        spaces.Discrete(4),
    ),
    "Tuple observations": (spaces.Tuple([box(3), spaces.Discrete(4)]), box(2)),
    "Dict in Tuple in Dict": (
        spaces.Dict(a=spaces.Tuple([spaces.Dict(b=box(2)), spaces.MultiDiscrete([2, 3])]), c=spaces.Discrete(3)),
        spaces.Discrete(2),
    ),
    "Discrete observations": (spaces.Discrete(6), spaces.Discrete(3)),
    "Discrete observations from below zero": (spaces.Discrete(5, start=-2), spaces.Discrete(2)),
    "MultiDiscrete": (spaces.MultiDiscrete([3, 4]), spaces.MultiDiscrete([3, 2, 4])),
    "MultiBinary": (spaces.MultiBinary([2, 2]), spaces.MultiBinary(5)),
    "float64 of several dimensions": (box(2, 3, 2, 2, dtype=np.float64), box(2, 2, dtype=np.float64)),
    "float16 observations": (box(3, dtype=np.float16), box(3)),
    "whole numbers": (spaces.Box(-5, 5, (4,), np.int32), spaces.Discrete(2)),
    "numbers of no dimension": (box(), box()),
}
IMAGES = {"channels last": (48, 52, 3), "channels first": (1, 50, 46)}


@pytest.fixture(autouse=True, scope="module")
def _environments() -> Any:
    before = set(gym.registry)
    for name, (observation_space, action_space) in SPACES.items():
        register(name, LinearEnv, observation_space=observation_space, action_space=action_space)
    for name, shape in IMAGES.items():
        gym.register(any_id(name), lambda shape=shape: BrightnessEnv(*shape), max_episode_steps=20)
    register("failing", FailingEnv)
    gym.register(
        any_id("fixed"), lambda: FixedHorizon(gym.make("CartPole-v1"), 100, penalty=1.0), max_episode_steps=100
    )
    yield
    for env_id in set(gym.registry) - before:
        del gym.registry[env_id]


def any_id(name: str) -> str:
    return f"any/{name.replace(' ', '_')}-v0"


def register(name: str, kind: Any, **kwargs: Any) -> None:
    gym.register(any_id(name), kind, max_episode_steps=20, kwargs=kwargs)


def learned(config: TrainConfig) -> prefrl.SavedRun:
    """A run that is read back: everything was spent, and both networks take what the environment shows."""
    run = prefrl.load_run(prefrl.train(config, quiet=True))
    assert (run.metrics["labels_answered"][-1], run.metrics["step"][-1]) == (config.labels, config.steps)
    env = run.make_env()
    observation, _ = env.reset(seed=0)
    assert env.action_space.contains(np.asarray(run.policy.act(np.asarray(observation)[None])[0]))
    for answer in run.answers[:3]:
        for segment in (answer.query.left, answer.query.right):
            rewards = run.r_hat.reward(segment.observations, segment.actions)
            assert rewards.shape == (len(segment),)
            assert np.isfinite(rewards).all()
            assert segment.observations.dtype == env.observation_space.dtype
            assert segment.actions.dtype == env.action_space.dtype
    env.close()
    return run


@pytest.mark.parametrize("name", SPACES)
def test_a_reward_is_learned_whatever_is_shown_and_taken(name: str, tmp_path: Path) -> None:
    run = learned(replace(TINY, env=any_id(name), out=tmp_path / "run"))
    assert run.metrics["correlation"][-1] > 0.5  # of 50 answers about a linear reward


@pytest.mark.parametrize("name", IMAGES)
def test_a_reward_is_learned_on_images(name: str, tmp_path: Path) -> None:
    few = {"steps": 480, "labels": 24, "initial_epochs": 15, "fit_updates": 5, "batch": 8}
    run = learned(replace(TINY, env=any_id(name), out=tmp_path / "run", **few))
    assert run.r_hat.is_image
    assert run.metrics["correlation"][-1] > 0.3


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "Taxi-v4", "CliffWalking-v1", "Blackjack-v1", "CartPole-v1"])
def test_gymnasiums_own(env_id: str, tmp_path: Path) -> None:
    learned(replace(TINY, env=env_id, out=tmp_path / "run"))
