"""EnvPool's environments, in C++: Gymnasium's own MuJoCo tasks."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from prefrl.experience.backends.arrays import ArrayVecEnv, check_ends
from prefrl.experience.backends.wanted import CUT_SHORT, NotServedError, Wanted
from prefrl.experience.environments import float32_box
from prefrl.words.errors import UserError, install
from prefrl.words.lookup import did_you_mean


def step_envpool(wanted: Wanted) -> VecEnv:
    """EnvPool's environments.

    Raises:
        NotServedError: it has none by this id, or none that does as Gymnasium's class.
        UserError: it is not installed, or does not take these arguments.
    """
    spec = wanted.spec
    if not str(spec.entry_point).startswith("gymnasium.envs.mujoco"):
        raise NotServedError("EnvPool has none of that id.")
    check_ends(wanted)
    try:
        import envpool
    except ImportError as error:
        raise UserError(f"backend envpool needs the package envpool: {install('fast')}.") from error
    if spec.id not in envpool.list_all_envs():
        raise NotServedError("EnvPool has none of that id.")
    changed = [*(spec.kwargs or {}), *(wrapper.name for wrapper in spec.additional_wrappers)]
    changed += ["no time limit"] if spec.max_episode_steps is None else []
    if changed:
        raise UserError(
            f"{wanted.env_id} is registered with {', '.join(changed):.150}, which EnvPool does not know: use backend "
            f"auto or gymnasium."
        )
    kwargs = {"max_episode_steps": spec.max_episode_steps} | wanted.kwargs
    return EnvPoolVecEnv(envpool, spec.id, wanted.n_envs, wanted.seed, kwargs)


class EnvPoolVecEnv(ArrayVecEnv):
    """EnvPool's C++ environments behind stable-baselines3's interface.

    EnvPool would spend a further step on every reset; here the environments that finished are reset within the step,
    so that each step counted is a step taken. Steps in which no episode ends share one list of empty infos: nothing
    is allocated per environment.
    """

    stepped_by: ClassVar[str] = "EnvPool, in C++"

    def __init__(self, envpool: Any, env_id: str, n_envs: int, seed: int, env_kwargs: dict[str, Any]) -> None:
        known = self.arguments(envpool, env_id)
        for name in env_kwargs:
            if name not in known:
                raise UserError(f"{env_id} does not take {name!r}.{did_you_mean(name, known)}")
        # Gymnasium's seeding of environment i is seed + i; EnvPool does the same from the one seed.
        try:
            self.pool = envpool.make(env_id, env_type="gymnasium", num_envs=n_envs, seed=seed, **env_kwargs)
        except TypeError as error:  # its message is a page of C++ types
            raise UserError(f"{env_id} cannot be made with {env_kwargs}: a value is of the wrong type.") from error
        self._action_dtype = self.pool.action_space.dtype
        action = self.pool.action_space
        super().__init__(
            n_envs,
            float32_box(self.pool.observation_space),
            float32_box(self.pool.action_space),
            int(self.pool.config["max_episode_steps"]),
        )
        self._actions: NDArray[Any] = np.zeros((n_envs, *action.shape), self._action_dtype)

    @staticmethod
    def arguments(envpool: Any, env_id: str) -> list[str]:
        """Arguments of the environment, without those of the pool."""
        pools = [
            "num_envs",
            "batch_size",
            "num_threads",
            "max_num_players",
            "thread_affinity_offset",
            "base_path",
            "seed",
            "env_seed",
        ]
        pools += ["gym_reset_return_info", "frame_stack", "post_constraint"]
        return [name for name in envpool.make_spec(env_id).config._fields if name not in pools]

    def reset(self) -> NDArray[np.float32]:
        """Begin a new episode everywhere; observations (n_envs, d)."""
        return np.asarray(self.pool.reset()[0], np.float32)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions (n_envs, a) for `step_wait`."""
        self._actions[:] = actions

    def step_wait(self) -> VecEnvStepReturn:
        """One step of every environment; those that finish are reset, their last observation is in the infos."""
        raw, rewards, terminated, truncated, _ = self.pool.step(self._actions)
        observations = raw.astype(np.float32)
        cut = self._cut_short(terminated | truncated)
        dones = terminated | truncated | cut
        infos = self._no_infos
        if dones.any():
            infos = [{} for _ in range(self.num_envs)]
            ended = np.flatnonzero(dones)
            for env in ended:
                infos[env] = {
                    "terminal_observation": observations[env].copy(),
                    "TimeLimit.truncated": bool(not terminated[env]),
                }
                if cut[env]:
                    infos[env][CUT_SHORT] = True
            observations[ended] = self.pool.reset(ended.astype(np.int32))[0]
        return observations, rewards, dones, infos

    def close(self) -> None:
        """Free the environments."""
        self.pool.close()
