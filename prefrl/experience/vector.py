"""The fastest vector environment there is for an id, as stable-baselines3's VecEnv.

EnvPool (C++) for Gymnasium's own MuJoCo tasks; the vector class an environment registers for itself
(`vector_entry_point`); Gymnasium's single class, stepped in turn, for everything else. All of them give float32 vectors
or uint8 images, take actions as the action space says, and reset a finished episode within the step.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from prefrl.experience.environments import find_spec, float32_box, make_env
from prefrl.experience.guard import short
from prefrl.words.errors import UserError, install
from prefrl.words.lookup import did_you_mean
from prefrl.words.spaces import is_image, same_inputs

# What is promised of `info`, by names that no environment has by chance: everything else in it stays below.
CUT_SHORT = "prefrl/cut_short"  # this end is none of the environment's (see `first_limits`)
GAME = "prefrl/game"  # of an episode of several games, where one or the episode ends: the ended game's score, or None
SEVERAL_GAMES = "several_games"  # metadata that promises info["game_over"] and info["score"] at every step


def make_vec_env(
    env_id: str,
    n_envs: int,
    seed: int,
    backend: str = "auto",
    env_kwargs: dict[str, Any] | None = None,
    fixed_horizon: bool = False,
    **render: Any,
) -> VecEnv:
    """Environments stepped as one.

    Args:
        env_id: Gymnasium id, or "package:Id-v0".
        n_envs: how many.
        seed: each environment's seed derives from it.
        backend: "auto", "envpool" or "gymnasium".
        env_kwargs: arguments of the environment.
        fixed_horizon: let every episode last to its time limit; Gymnasium's classes step it.
        render: how Gymnasium's classes draw, such as render_mode; no other backend does.

    Raises:
        UserError: unknown id, arguments it does not take, spaces not supported, or EnvPool asked for and missing.

    Only what an array of environments does as one would is stepped by one: where "auto" finds arguments, wrappers or
    spaces that it would not have, Gymnasium's class is stepped.
    """
    spec = find_spec(env_id)
    kwargs = env_kwargs or {}
    if backend not in ("auto", "envpool", "gymnasium"):
        raise UserError(f"unknown backend {backend!r}: it is auto, envpool or gymnasium.")
    if backend == "envpool" and fixed_horizon:
        raise UserError("a fixed horizon needs backend gymnasium: EnvPool resets what ends by itself.")
    if backend != "gymnasium" and not fixed_horizon:
        if venv := _as_arrays(env_id, spec, n_envs, seed, kwargs, backend):
            return venv
        if backend == "envpool":
            raise UserError(f"there is no fast backend for {env_id!r} here: use backend auto or gymnasium.")
    limits = first_limits(kwargs.get("max_episode_steps", spec.max_episode_steps), n_envs).tolist()
    env = DummyVecEnv([partial(_make_one, env_id, kwargs, fixed_horizon, limit, **render) for limit in limits])
    env.seed(seed)
    return env


def _as_arrays(
    env_id: str,
    spec: gym.envs.registration.EnvSpec,
    n_envs: int,
    seed: int,
    kwargs: dict[str, Any],
    backend: str,
) -> VecEnv | None:
    """Environments stepped as arrays; None where there are none, or none that do as Gymnasium's class.

    Raises:
        UserError: backend "envpool" was asked for, and they cannot be made.
    """
    only = backend == "envpool"
    if str(spec.entry_point).startswith("gymnasium.envs.mujoco") and (pool := _envpool(spec.id, backend)):
        known = set(EnvPoolVecEnv.arguments(pool, spec.id))  # EnvPool spells some otherwise
        changed = [*(spec.kwargs or {}), *(wrapper.name for wrapper in spec.additional_wrappers)]
        changed += ["no time limit"] if spec.max_episode_steps is None else []
        if changed and only:
            raise UserError(
                f"{env_id} is registered with {', '.join(changed):.150}, which EnvPool does not know: use backend auto "
                f"or gymnasium."
            )
        if not changed and (only or kwargs.keys() <= known):
            try:
                return EnvPoolVecEnv(
                    pool, spec.id, n_envs, seed, {"max_episode_steps": spec.max_episode_steps} | kwargs
                )
            except UserError:
                if only:
                    raise
    if spec.vector_entry_point is not None and (venv := _own_vector_env(env_id, spec, n_envs, kwargs, backend)):
        return GymnasiumVecEnv(venv, seed)
    return None


def _make_one(
    env_id: str, env_kwargs: dict[str, Any], fixed_horizon: bool, limit: int, **render: Any
) -> gym.Env[Any, Any]:
    return Alone(make_env(env_id, env_kwargs, fixed_horizon, **render), limit)


def _own_vector_env(
    env_id: str, spec: gym.envs.registration.EnvSpec, n_envs: int, kwargs: dict[str, Any], backend: str
) -> VectorEnv[Any, Any, Any] | None:
    """The vector environment that an environment registers for itself.

    None where it cannot be made, where it shows or takes something else than the environment alone, or where it does
    not reset within the step: a step of its own for every reset would count steps that are not taken.
    """
    try:
        venv: VectorEnv[Any, Any, Any] = gym.make_vec(spec, n_envs, vectorization_mode="vector_entry_point", **kwargs)
    except gym.error.DependencyNotInstalled as error:
        if backend == "auto":
            return None
        raise UserError(str(error)) from error
    except Exception as error:  # whatever a class of somebody else's raises
        if backend == "auto":
            return None
        said = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"the vector environment of {env_id!r} cannot be made with {short(kwargs or 'no arguments')} ({said:.200}):"
            f" use backend auto or gymnasium."
        ) from error
    shown = venv.single_observation_space
    plain = is_image(shown) or (isinstance(shown, spaces.Box) and len(shown.shape) == 1)
    if plain and venv.metadata.get("autoreset_mode") is AutoresetMode.SAME_STEP:
        alone = make_env(env_id, kwargs)
        alike = same_inputs(shown, alone.observation_space), same_inputs(venv.single_action_space, alone.action_space)
        alone.close()
        if all(alike):
            return venv
    venv.close()
    return None


def _envpool(env_id: str, backend: str) -> Any:
    """The envpool module where it is installed and has the id, else None."""
    try:
        import envpool
    except ImportError as error:
        if backend == "envpool":
            raise UserError(f"backend envpool needs the package envpool: {install('fast')}.") from error
        return None
    return envpool if env_id in envpool.list_all_envs() else None


def first_limits(horizon: int | None, n_envs: int) -> NDArray[np.int64]:
    """Steps after which each environment's first episode is cut short, (n_envs,); 0 for never.

    Environments of one fixed horizon that start together stay in step for ever: every rollout then shows the learner
    one stretch of the episode, and a fallen robot for nine rollouts out of ten. Cutting the first episodes at equal
    intervals spreads them over the horizon.
    """
    limits = (horizon or 0) * np.arange(1, n_envs + 1) // n_envs
    return np.where(limits < (horizon or 0), limits, 0)


class Alone(gym.Wrapper[Any, Any, Any, Any]):
    """One environment among others, whose first episode is cut short, as a time limit would.

    Of `info` only `CUT_SHORT` and `GAME` go on, as from environments stepped as arrays.

    Args:
        env: the environment.
        limit: steps of the first episode; 0 leaves it as it is.
    """

    def __init__(self, env: gym.Env[Any, Any], limit: int) -> None:
        super().__init__(env)
        self._left = limit
        self._has_games = bool(env.metadata.get(SEVERAL_GAMES))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        return self.env.reset(seed=seed, options=options)[0], {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step; the one at the limit ends the episode."""
        observation, reward, terminated, truncated, about = self.env.step(action)
        info: dict[str, Any] = {}
        self._left -= 1
        if terminated or truncated:
            self._left = 0
        elif self._left == 0:
            truncated, info = True, {CUT_SHORT: True}
        if self._has_games and (about["game_over"] or terminated or truncated):
            info[GAME] = float(about["score"]) if about["game_over"] else None
        return observation, reward, terminated, truncated, info


class _ArrayVecEnv(VecEnv):
    """What environments stepped as arrays share: first episodes cut short, and no Python environments to ask.

    Args:
        n_envs: environments.
        observation_space: of one.
        action_space: of one.
        horizon: steps of an episode, over which the first ends are spread; None leaves them together.
    """

    def __init__(
        self, n_envs: int, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], horizon: int | None
    ) -> None:
        super().__init__(n_envs, observation_space, action_space)
        self._limits = first_limits(horizon, n_envs)
        self._clock = 0
        self._no_infos: list[dict[str, Any]] = [{} for _ in range(n_envs)]

    def _cut_short(self, dones: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which environments' first episodes are cut at this step, the next of all; (n_envs,)."""
        self._clock += 1
        self._limits[dones] = 0  # the first episode is over
        cut: NDArray[np.bool_] = self._limits == self._clock
        return cut

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The render mode, which is None; no other attribute can be read.

        Raises:
            AttributeError: for any other attribute.
        """
        if attr_name != "render_mode":
            raise AttributeError(f"environments stepped as arrays have no attribute {attr_name!r} of their own.")
        return [None for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not possible.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(f"environments stepped as arrays have no attribute {attr_name!r} that can be set.")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Not possible.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(f"environments stepped as arrays have no method {method_name!r} of their own.")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        """No Gymnasium wrapper is ever around these."""
        return [False for _ in self._get_indices(indices)]


class GymnasiumVecEnv(_ArrayVecEnv):
    """A Gymnasium vector environment that resets within the step, behind stable-baselines3's interface.

    Args:
        venv: its autoreset mode is SAME_STEP.
        seed: of the first reset.
    """

    def __init__(self, venv: VectorEnv[Any, Any, Any], seed: int) -> None:
        self.venv = venv
        self._first_seed: int | None = seed
        obs, act = venv.single_observation_space, venv.single_action_space
        assert isinstance(obs, spaces.Box)
        self._pixels = is_image(obs)
        self._has_games = bool(venv.metadata.get(SEVERAL_GAMES))
        horizon = venv.spec.max_episode_steps if venv.spec and venv.metadata.get("reset_mask") else None
        super().__init__(venv.num_envs, obs if self._pixels else float32_box(obs), act, horizon)

    def reset(self) -> NDArray[Any]:
        """Begin a new episode everywhere; the first time from the seed."""
        observations, _ = self.venv.reset(seed=self._first_seed)
        self._first_seed = None
        return self._as_told(observations)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """One step of every environment; where one ended, its last observation is in the infos."""
        observations, rewards, terminated, truncated, about = self.venv.step(self._actions)
        dones = terminated | truncated
        games = about["game_over"] if self._has_games else dones
        infos = self._no_infos
        cut = self._cut_short(dones)
        if cut.any():
            about = {**about, "final_obs": np.where(cut[:, None], observations, about.get("final_obs", observations))}
            observations[cut] = self.venv.reset(options={"reset_mask": cut})[0][cut]
            dones, truncated = dones | cut, truncated | cut
        if dones.any() or games.any():
            infos = [{} for _ in range(self.num_envs)]
            if self._has_games:  # their ends and scores, for evaluation
                for env in np.flatnonzero(games | dones):
                    infos[env][GAME] = float(about["score"][env]) if games[env] else None
            for env in np.flatnonzero(dones):
                infos[env] |= {
                    "terminal_observation": self._as_told(np.asarray(about["final_obs"][env])),
                    "TimeLimit.truncated": bool(truncated[env] and not terminated[env]),
                }
                if cut[env]:
                    infos[env][CUT_SHORT] = True
        return self._as_told(observations), rewards, dones, infos

    def close(self) -> None:
        """Free the environments."""
        self.venv.close()

    def _as_told(self, observations: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and whoever records it says so
            return observations.astype(np.uint8 if self._pixels else np.float32)


class EnvPoolVecEnv(_ArrayVecEnv):
    """EnvPool's C++ environments behind stable-baselines3's interface.

    EnvPool would spend a further step on every reset; here the environments that finished are reset within the step,
    so that each step counted is a step taken. Steps in which no episode ends share one list of empty infos: nothing
    is allocated per environment.
    """

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
