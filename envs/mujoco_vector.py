"""The MuJoCo tasks at the speed of C: EnvPool's simulation, this package's rewards over whole arrays.

`gymnasium.make_vec("prefrl/Hopper-v0", num_envs=64)` gives one of these. EnvPool holds the same robots as Gymnasium's
v5 classes (trajectories agree to rounding until a contact makes them part); its reward and its endings are not used.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from . import mujoco
from .geometry import Array
from .pool_vector import PoolVectorEnv


class MujocoVectorEnv(PoolVectorEnv):
    """Copies of one task: spaces, reward, horizon and `info` are the single environment's.

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
        self.task = task
        single = task()
        spaces = (single.observation_space, single.action_space)
        single.close()  # type: ignore[no-untyped-call]
        super().__init__(
            f"prefrl/{task.__name__}-v0",
            task.pool,
            spaces,
            task.metadata,
            num_envs,
            max_episode_steps,
            num_threads,
            unknown,
        )

    def observed(self, original: Any) -> Array:
        """The task's own observations."""
        return self.task.observe(original)

    def paid(self, original: Array, observations: Array, infos: dict[str, Any]) -> Array:
        """The task's own reward; EnvPool's is not used."""
        return self.task.reward(observations, infos)

    def told(self, about: dict[str, Any]) -> dict[str, Any]:
        """What the task's reward reads besides the observation."""
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
