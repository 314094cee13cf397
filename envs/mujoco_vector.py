"""The MuJoCo tasks at the speed of C: EnvPool's simulation, this package's rewards over whole arrays.

`gymnasium.make_vec("prefrl/Hopper-v0", num_envs=64)` gives one of these. EnvPool holds the same robots as Gymnasium's
v5 classes (trajectories agree to rounding until a contact makes them part); its reward and its endings are not used.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from . import mujoco
from .geometry import Array

try:
    import envpool
except ImportError as missing:
    raise DependencyNotInstalled(
        'the fast vector environment needs EnvPool: pip install envpool, or ask for vectorization_mode="sync".'
    ) from missing


class MujocoVectorEnv(VectorEnv[Array, NDArray[np.float32], NDArray[Any]]):
    """Copies of one task.

    Spaces, reward, horizon and `info` are the single environment's. A step that truncates also resets
    (`AutoresetMode.SAME_STEP`): it returns the first observations of the next episodes, and the last ones of these
    are `infos["final_obs"]` (num_envs, d), with `infos["final_info"]`. The start states of all episodes follow from the
    seed given to `reset`; those of two seeds have nothing in common.

    Args:
        task: the single environment's class.
        num_envs: how many copies.
        max_episode_steps: the horizon.
        num_threads: EnvPool's threads; 0 lets it choose.
        unknown: whatever else was asked for.

    Raises:
        ValueError: an argument that it does not take, or a number that is not positive.
    """

    def __init__(
        self, task: type[mujoco.Task], num_envs: int, max_episode_steps: int, num_threads: int = 0, **unknown: Any
    ) -> None:
        for name in unknown:
            raise ValueError(
                f"the vector environment of prefrl/{task.__name__}-v0 does not take {name!r}: it takes num_envs, "
                f"max_episode_steps and num_threads; for pictures use gymnasium.make."
            )
        for name, number in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1: got {number}.")
        self.task = task
        self.num_envs = num_envs
        self.metadata = {
            **task.metadata,
            "render_modes": [],
            "autoreset_mode": AutoresetMode.SAME_STEP,
            "reset_mask": True,
        }
        single = task()
        self.single_observation_space = single.observation_space
        self.single_action_space = single.action_space
        self.observation_space = batch_space(single.observation_space, num_envs)
        self.action_space = batch_space(single.action_space, num_envs)
        single.close()  # type: ignore[no-untyped-call]
        self._config = {"num_envs": num_envs, "num_threads": num_threads, "max_episode_steps": max_episode_steps}
        self._pool: Any = None

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
            env_id, alive = self.task.pool
            seeds = self.np_random.integers(2**31, size=self.num_envs).tolist()  # EnvPool takes seeds at birth only
            self._pool = envpool.make(env_id, env_type="gymnasium", env_seed=seeds, **self._config, **alive)
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
        original, _, terminated, truncated, about = self._pool.step(np.asarray(actions))
        observations = self.task.observe(original)
        infos = self._infos(about)
        rewards = self.task.reward(observations, infos)
        if truncated.any():
            final = {"final_obs": observations.copy(), "final_info": infos}
            observations[truncated] = self._begin(np.flatnonzero(truncated))
            infos = final | {f"_{name}": truncated.copy() for name in final}
        return observations, rewards, terminated, truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """Free the simulations."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _begin(self, envs: NDArray[np.integer] | None = None) -> Array:
        """First observations of new episodes, in these environments or in all."""
        original, _ = self._pool.reset() if envs is None else self._pool.reset(envs.astype(np.int32))
        return self.task.observe(original)

    def _infos(self, about: dict[str, Any]) -> dict[str, Any]:
        """What the single environment's `info` holds, in the form of Gymnasium's vectors: beside it, who has it."""
        if "x_velocity" not in about:
            return {}
        return {"x_velocity": about["x_velocity"], "_x_velocity": np.ones(self.num_envs, dtype=np.bool_)}


Reacher = partial(MujocoVectorEnv, mujoco.Reacher)
HalfCheetah = partial(MujocoVectorEnv, mujoco.HalfCheetah)
Ant = partial(MujocoVectorEnv, mujoco.Ant)
Walker2d = partial(MujocoVectorEnv, mujoco.Walker2d)
Hopper = partial(MujocoVectorEnv, mujoco.Hopper)
Swimmer = partial(MujocoVectorEnv, mujoco.Swimmer)
InvertedPendulum = partial(MujocoVectorEnv, mujoco.InvertedPendulum)
InvertedDoublePendulum = partial(MujocoVectorEnv, mujoco.InvertedDoublePendulum)
HopperBackflip = partial(MujocoVectorEnv, mujoco.HopperBackflip)
HalfCheetahOneLeg = partial(MujocoVectorEnv, mujoco.HalfCheetahOneLeg)
