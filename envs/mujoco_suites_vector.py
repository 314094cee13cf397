"""DeepMind's control suite and Meta-World at the speed of C: EnvPool's simulations, rewards and all."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from .geometry import Array
from .mujoco_suites import keys, metadata_of, pool_id
from .pool_vector import PoolVectorEnv

FOREVER = 2**30  # steps: whoever wraps the environment ends its episodes


class SuiteVectorEnv(PoolVectorEnv):
    """Copies of one task of a suite: what `prefrl_envs.mujoco_suites` specifies, many at a time.

    Args:
        suite: "dmc" or "Meta-World".
        task: "walker-walk", "window-open".
        num_envs: how many copies.
        max_episode_steps: the horizon.
        num_threads: EnvPool's threads; 0 lets it choose.
        arguments: of Meta-World: `partially_observable`, whether the goal is hidden.

    Raises:
        ValueError: an argument that it does not take, or a number that is not positive.
    """

    def __init__(
        self, suite: str, task: str, num_envs: int, max_episode_steps: int, num_threads: int = 0, **arguments: Any
    ) -> None:
        import envpool

        self.keys = keys(task) if suite == "dmc" else None
        name = pool_id(suite, task)
        spec = envpool.make_spec(name)
        options = {"partially_observable": arguments.pop("partially_observable", True)} if self.keys is None else {}
        parts = spec.gymnasium_observation_space
        sizes = [parts.shape] if self.keys is None else [parts[key].shape for key in self.keys]
        shown = Box(-np.inf, np.inf, (sum(int(np.prod(size)) for size in sizes),))
        acted = spec.gymnasium_action_space
        super().__init__(
            f"{suite}/{task}",
            (name, options),
            (shown, Box(acted.low.astype(np.float32), acted.high.astype(np.float32))),
            metadata_of(suite),
            num_envs,
            max_episode_steps,
            num_threads,
            arguments,
        )

    def observed(self, original: Any) -> Array:
        """The suite's observations, its parts one after another in its own order."""
        if self.keys is None:
            return np.array(original)
        parts = [np.asarray(original[key]) for key in self.keys]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)

    def told(self, about: dict[str, Any]) -> dict[str, Any]:
        """Of Meta-World whether the task is done."""
        if "success" not in about:
            return {}
        return {"success": np.array(about["success"]), "_success": np.ones(self.num_envs, np.bool_)}


class OneOfPool(gym.Env[NDArray[Any], NDArray[Any]]):
    """One of EnvPool's environments, by itself; it cannot be drawn, and ends no episode.

    Args:
        suite: "dmc" or "Meta-World".
        task: "walker-walk", "window-open".
        arguments: of the task.
    """

    def __init__(self, suite: str, task: str, **arguments: Any) -> None:
        self.metadata = {**metadata_of(suite), "render_modes": []}
        self._many = SuiteVectorEnv(suite, task, 1, FOREVER, **arguments)
        self.observation_space = self._many.single_observation_space
        self.action_space = self._many.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        return self._many.reset(seed=seed)[0][0], {}

    def step(self, action: NDArray[Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step."""
        observations, rewards, terminated, truncated, about = self._many.step(np.asarray(action)[None])
        told = {"success": float(about["success"][0])} if "success" in about else {}
        return observations[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), told

    def close(self) -> None:
        """Free the simulation."""
        self._many.close()
