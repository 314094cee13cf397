"""Copies of an exact world, stepped as one array: `gymnasium.make_vec("prefrl/TokenWriter-v0", num_envs=64)`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from . import exact, texts
from .exact import Array, FiniteWorld, begun, moved, shown


class FiniteVectorEnv(VectorEnv[NDArray[np.float32], NDArray[np.int64], NDArray[Any]]):
    """Copies of one world, stepped as arrays; a step that ends an episode also begins the next.

    Args:
        kind: what is copied.
        num_envs: how many copies.
        max_episode_steps: not needed, since every world ends by itself before.
        arguments: of the world.
    """

    def __init__(
        self, kind: Callable[..., FiniteWorld], num_envs: int, max_episode_steps: int | None = None, **arguments: Any
    ) -> None:
        world = kind(**arguments)
        self.tables, self.num_envs = world.tables, num_envs
        self.metadata = {**world.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space, self.single_action_space = world.observation_space, world.action_space
        self.observation_space = batch_space(world.observation_space, num_envs)
        self.action_space = batch_space(world.action_space, num_envs)
        self._states = np.full(num_envs, -1)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode everywhere; observations (num_envs, d)."""
        super().reset(seed=seed)
        self._begin(np.ones(self.num_envs, bool))
        return self.tables.observations[self._states], {}

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], Array, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One step everywhere: observations (num_envs, d), rewards, terminated, truncated (num_envs,) and infos.

        Raises:
            ResetNeeded: `reset` was not called before.
        """
        if (self._states < 0).any():
            raise ResetNeeded("call reset() before the first step().")
        rewards = self.tables.rewards[self._states, actions]
        self._states = moved(self.tables, self._states, actions, self.np_random)
        ended = self._states < 0
        infos: dict[str, Any] = {}
        if ended.any():
            infos = {"final_obs": shown(self.tables, self._states), "_final_obs": ended}
            self._begin(ended)
        return self.tables.observations[self._states], rewards, ended, np.zeros_like(ended), infos

    def _begin(self, where: NDArray[np.bool_]) -> None:
        self._states[where] = begun(self.tables, int(where.sum()), self.np_random)


ContextualBandit = partial(FiniteVectorEnv, exact.ContextualBandit)
Dialogue = partial(FiniteVectorEnv, exact.Dialogue)
TokenWriter = partial(FiniteVectorEnv, texts.TokenWriter)
WholeText = partial(FiniteVectorEnv, texts.WholeText)
