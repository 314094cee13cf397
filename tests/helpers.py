"""Small environments, registered with Gymnasium, and what several tests ask of the same thing."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv


class CounterEnv(gym.Env[Any, Any]):
    """Shows (index, episode, step) and pays 1000 index + 100 episode + step, so that every step is its own label.

    Episode number e is over after `lengths[e % len(lengths)]` steps: its time is up, or, with `terminates`, it ends by
    itself.
    """

    action_space = spaces.Box(-1e6, 1e6, (2,), np.float32)

    def __init__(
        self, index: int = 0, lengths: tuple[int, ...] = (5,), terminates: bool = False, dtype: str = "float32"
    ) -> None:
        self.index, self.lengths, self.terminates = index, lengths, terminates
        self.episode, self.step_number = -1, 0
        self.observation_space = spaces.Box(-1e6, 1e6, (3,), np.dtype(dtype).type)

    def _observation(self) -> NDArray[Any]:
        return np.array([self.index, self.episode, self.step_number], self.observation_space.dtype)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.step_number = self.episode + 1, 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        reward = 1000.0 * self.index + 100.0 * self.episode + self.step_number
        self.step_number += 1
        over = self.step_number == self.lengths[self.episode % len(self.lengths)]
        return self._observation(), reward, over and self.terminates, over and not self.terminates, {}


class TargetEnv(gym.Env[Any, Any]):
    """Pays -(action - target)^2 for a target in [-1, 1] that is shown, scaled and shifted, and drawn each step."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-2.0, 2.0, (1,), np.float32)

    def _show(self) -> NDArray[np.float32]:
        self.target = self.np_random.uniform(-1, 1)
        return np.array([30 * self.target + 10], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[Any], dict[str, Any]]:
        super().reset(seed=seed)
        return self._show(), {}

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        reward = -float((action[0] - self.target) ** 2)
        return self._show(), reward, False, False, {}


class AnyEnv(gym.Env[Any, Any]):
    """Samples of whatever spaces it is given; pays 1 a step."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        return self.observation_space.sample(), 1.0, False, False, {}


class Orchard(gym.Env[Any, Any]):
    """Shows one number for each of its trees, which it has to be told; its picture is as many columns wide."""

    metadata = {"render_modes": ["rgb_array"], "clip_fps": 7}  # noqa: RUF012
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, trees: int, render_mode: str | None = None) -> None:
        self.trees, self.render_mode = trees, render_mode
        self.observation_space = spaces.Box(-5, 5, (trees,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.height = self.np_random.uniform(0, 1, self.trees).astype(np.float32)
        return self.height.copy(), {}

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        self.height = np.clip(self.height + 0.1 * np.float32(action[0]), -5, 5)
        return self.height.copy(), float(self.height.mean()), False, False, {}

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        return np.full((40, 16 * self.trees, 3), np.clip(100 + 30 * self.height[0], 0, 255), np.uint8)


def vector_of(num_envs: int, same_step: bool = True, space: spaces.Box | None = None) -> SyncVectorEnv:
    """Environments as one Gymnasium vector environment, which shows its own buffers: `CounterEnv`s, or noise."""
    kinds = [lambda i=i: CounterEnv(i, (3 + i, 5)) for i in range(num_envs)]  # type: ignore[misc]
    if space is not None:
        kinds = [lambda: gym.wrappers.TimeLimit(AnyEnv(space, spaces.Discrete(3)), 4)] * num_envs
    mode = AutoresetMode.SAME_STEP if same_step else AutoresetMode.NEXT_STEP
    return SyncVectorEnv(kinds, copy=False, autoreset_mode=mode)


gym.register("prefrl-tests/Counter-v0", CounterEnv)
gym.register("prefrl-tests/Vector-v0", CounterEnv, vector_entry_point=vector_of)
gym.register("prefrl-tests/NextStep-v0", CounterEnv, vector_entry_point=partial(vector_of, same_step=False))
gym.register("prefrl-tests/Target-v0", TargetEnv, max_episode_steps=20)
gym.register("prefrl-tests/Orchard-v0", Orchard, max_episode_steps=30)
gym.register("prefrl-tests/Any-v0", AnyEnv, max_episode_steps=12)


def counters(n_envs: int, *lengths: int, terminates: bool = False) -> DummyVecEnv:
    """`CounterEnv`s side by side, each with its index; environment i begins with the length at place i."""
    turned = [tuple(np.roll(lengths, -i).tolist()) for i in range(n_envs)]
    return DummyVecEnv([lambda i=i: CounterEnv(i, turned[i], terminates) for i in range(n_envs)])  # type: ignore[misc]


def sentence(error: Exception) -> str:
    """The message of a user's mistake, which fits on a line and ends as a sentence does."""
    message = str(error)
    assert "\n" not in message
    assert len(message) < 500, message
    assert message.endswith((".", "?")), message
    return message
