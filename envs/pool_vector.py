"""EnvPool's environments as a Gymnasium vector environment: what ends is reset within its step."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled, ResetNeeded
from gymnasium.spaces import Space
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from .geometry import Array

try:
    import envpool
except ImportError as missing:
    raise DependencyNotInstalled(
        'the fast vector environment needs EnvPool: pip install envpool, or ask for vectorization_mode="sync".'
    ) from missing


class PoolVectorEnv(VectorEnv[Array, NDArray[np.float32], NDArray[Any]]):
    """Copies of one task.

    A step that ends an episode also begins the next (`AutoresetMode.SAME_STEP`): it returns the first observations of
    the next episodes, and the last ones of these are `infos["final_obs"]` (num_envs, d), with `infos["final_info"]`.
    The start states of all episodes follow from the seed given to `reset`; those of two seeds have nothing in common.

    Args:
        name: Gymnasium's id.
        pool: EnvPool's id, and its options.
        spaces: of one environment's observations and actions.
        metadata: of one environment.
        num_envs: how many copies.
        max_episode_steps: the horizon.
        num_threads: EnvPool's threads; 0 lets it choose.
        unknown: whatever else was asked for.

    Raises:
        ValueError: an argument that it does not take, or a number that is not positive.
    """

    def __init__(
        self,
        name: str,
        pool: tuple[str, dict[str, Any]],
        spaces: tuple[Space[Any], Space[Any]],
        metadata: dict[str, Any],
        num_envs: int,
        max_episode_steps: int,
        num_threads: int,
        unknown: dict[str, Any],
    ) -> None:
        for argument in unknown:
            raise ValueError(
                f"the vector environment of {name} does not take {argument!r}: it takes num_envs, max_episode_steps "
                f"and num_threads; for pictures use gymnasium.make."
            )
        for argument, number in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps)):
            if number < 1:
                raise ValueError(f"{argument} must be at least 1: got {number}.")
        self.num_envs = num_envs
        self.metadata = {
            **metadata,
            "render_modes": [],
            "autoreset_mode": AutoresetMode.SAME_STEP,
            "reset_mask": True,
        }
        self.single_observation_space, self.single_action_space = spaces
        self.observation_space, self.action_space = (batch_space(space, num_envs) for space in spaces)
        self._pool_id, options = pool
        self._options = options | {
            "num_envs": num_envs,
            "num_threads": num_threads,
            "max_episode_steps": max_episode_steps,
        }
        self._pool: Any = None

    @abstractmethod
    def observed(self, original: Any) -> Array:
        """Observations (n, d) of the task, from EnvPool's."""

    @abstractmethod
    def told(self, about: dict[str, Any]) -> dict[str, Any]:
        """What the single environment's `info` holds, in the form of Gymnasium's vectors: beside it, who has it."""

    def paid(self, original: Array, observations: Array, infos: dict[str, Any]) -> Array:
        """Rewards (num_envs,) of the task, from EnvPool's and from what `observed` and `told` returned."""
        return original

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Begin new episodes; observations (num_envs, d) and infos.

        Args:
            seed: of the start states from here on.
            options: `{"reset_mask": mask}` with mask (num_envs,) of bool begins new episodes in those environments
                alone; the observations of the others are zeros. Without it, everywhere.

        Raises:
            ValueError: options of another kind, or a mask together with a seed or before the first reset.
        """
        mask = (options or {}).get("reset_mask")
        if mask is not None and seed is None and self._pool is not None and np.shape(mask) == (self.num_envs,):
            begun = self._begin(np.flatnonzero(mask))
            observations = np.zeros((self.num_envs, *begun.shape[1:]))
            observations[mask] = begun
            return observations, {}
        if options:
            raise ValueError(
                f"reset takes a reset_mask of {self.num_envs} bools, after a first reset and without a seed: got "
                f"options {options} and seed {seed}."
            )
        super().reset(seed=seed)
        if self._pool is None or seed is not None:
            self.close_extras()
            seeds = self.np_random.integers(2**31, size=self.num_envs).tolist()  # EnvPool takes seeds at birth only
            self._pool = envpool.make(self._pool_id, env_type="gymnasium", env_seed=seeds, **self._options)
        return self._begin(), {}

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[Array, Array, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One step everywhere: observations (num_envs, d), rewards, terminated, truncated (num_envs,) and infos.

        Raises:
            ResetNeeded: `reset` was not called before.
            ValueError: the actions' shape is not (num_envs, a).
        """
        if self._pool is None:
            raise ResetNeeded("call reset() before the first step().")
        if np.shape(actions) != self.action_space.shape:
            raise ValueError(f"actions must have shape {self.action_space.shape}: got {np.shape(actions)}.")
        original, paid, terminated, truncated, about = self._pool.step(
            np.asarray(actions, self._pool.action_space.dtype)
        )
        observations = self.observed(original)
        infos = self.told(about)
        rewards = self.paid(paid, observations, infos)
        ended = terminated | truncated
        if ended.any():
            final = {"final_obs": observations.copy(), "final_info": infos}
            observations[ended] = self._begin(np.flatnonzero(ended))
            infos = infos | final | {f"_{name}": ended.copy() for name in final}
        return observations, rewards, terminated, truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """Free the simulations."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _begin(self, envs: NDArray[np.integer] | None = None) -> Array:
        """First observations of new episodes, in these environments or in all."""
        original, _ = self._pool.reset() if envs is None else self._pool.reset(envs.astype(np.int32))
        return self.observed(original)
