"""The vector class that an environment registers for itself (`vector_entry_point`)."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from prefrl.experience.backends.arrays import ArrayVecEnv, check_ends
from prefrl.experience.backends.wanted import (
    CUT_SHORT,
    GAME,
    SEVERAL_GAMES,
    SUCCESS,
    TELLS_SUCCESS,
    NotServedError,
    Wanted,
)
from prefrl.experience.environments import float32_box, make_env
from prefrl.experience.guard import short
from prefrl.words.errors import UserError
from prefrl.words.spaces import is_image, same_inputs


def step_own_vector(wanted: Wanted) -> VecEnv:
    """The vector environment that an environment registers for itself.

    Raises:
        NotServedError: it registers none, or one that shows or takes something else than the environment alone, or
            that does not reset within the step: a step of its own for every reset would count steps that are not taken.
        UserError: it cannot be made.
    """
    spec, kwargs = wanted.spec, wanted.kwargs
    if spec.vector_entry_point is None:
        raise NotServedError("it registers no vector environment of its own.")
    check_ends(wanted)
    try:
        venv: VectorEnv[Any, Any, Any] = gym.make_vec(
            spec, wanted.n_envs, vectorization_mode="vector_entry_point", **kwargs
        )
    except gym.error.DependencyNotInstalled as error:
        raise UserError(str(error)) from error
    except Exception as error:  # whatever a class of somebody else's raises
        said = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"the vector environment of {wanted.env_id!r} cannot be made with {short(kwargs or 'no arguments')} "
            f"({said:.200}): use backend auto or gymnasium."
        ) from error
    shown = venv.single_observation_space
    plain = is_image(shown) or (isinstance(shown, spaces.Box) and len(shown.shape) == 1)
    if plain and venv.metadata.get("autoreset_mode") is AutoresetMode.SAME_STEP:
        alone = make_env(wanted.env_id, kwargs)
        alike = same_inputs(shown, alone.observation_space), same_inputs(venv.single_action_space, alone.action_space)
        alone.close()
        if all(alike):
            return GymnasiumVecEnv(venv, wanted.seed)
    venv.close()
    raise NotServedError("its own vector environment does not do as the environment alone does.")


class GymnasiumVecEnv(ArrayVecEnv):
    """A Gymnasium vector environment that resets within the step, behind stable-baselines3's interface.

    Args:
        venv: its autoreset mode is SAME_STEP.
        seed: of the first reset.
    """

    stepped_by: ClassVar[str] = "a vector environment of its own"

    def __init__(self, venv: VectorEnv[Any, Any, Any], seed: int) -> None:
        self.venv = venv
        self._first_seed: int | None = seed
        obs, act = venv.single_observation_space, venv.single_action_space
        assert isinstance(obs, spaces.Box)
        self._pixels = is_image(obs)
        self._has_games = bool(venv.metadata.get(SEVERAL_GAMES))
        horizon = venv.spec.max_episode_steps if venv.spec and venv.metadata.get("reset_mask") else None
        super().__init__(venv.num_envs, obs if self._pixels else float32_box(obs), act, horizon)
        self._tells_success = bool(venv.metadata.get(TELLS_SUCCESS))
        self.metadata: dict[str, Any] = {**self.metadata, TELLS_SUCCESS: self._tells_success}
        self._succeeded = np.zeros(venv.num_envs, bool)  # the running episodes

    def reset(self) -> NDArray[Any]:
        """Begin a new episode everywhere; the first time from the seed."""
        observations, _ = self.venv.reset(seed=self._first_seed)
        self._first_seed = None
        self._succeeded[:] = False
        return self._as_told(observations)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """One step of every environment; where one ended, its last observation is in the infos."""
        observations, rewards, terminated, truncated, about = self.venv.step(self._actions)
        dones = terminated | truncated
        games = about["game_over"] if self._has_games else dones
        if self._tells_success:
            self._succeeded |= np.asarray(about["success"], bool)
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
                if self._tells_success:
                    infos[env][SUCCESS] = bool(self._succeeded[env])
            self._succeeded[dones] = False
        return self._as_told(observations), rewards, dones, infos

    def close(self) -> None:
        """Free the environments."""
        self.venv.close()

    def _as_told(self, observations: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and whoever records it says so
            return observations.astype(np.uint8 if self._pixels else np.float32)
