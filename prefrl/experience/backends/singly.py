"""Gymnasium's single class, as many times as asked for, stepped in turn: this serves every id, and it alone draws."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from prefrl.experience.backends.wanted import (
    CUT_SHORT,
    GAME,
    SEVERAL_GAMES,
    SUCCESS,
    TELLS_SUCCESS,
    Wanted,
    first_limits,
)
from prefrl.experience.environments import make_env


def step_in_turn(wanted: Wanted) -> VecEnv:
    """Gymnasium's class, stepped in turn.

    Raises:
        UserError: it cannot be made, or a reward cannot be learned on its spaces.
    """
    horizon = wanted.kwargs.get("max_episode_steps", wanted.spec.max_episode_steps)
    limits = first_limits(horizon, wanted.n_envs).tolist()
    env = DummyVecEnv([partial(make_one, wanted, limit) for limit in limits])
    env.seed(wanted.seed)
    return env


def make_one(wanted: Wanted, limit: int) -> gym.Env[Any, Any]:
    """One of them, whose first episode is cut short at the limit."""
    made = make_env(wanted.env_id, wanted.kwargs, wanted.fixed_horizon, wanted.wrappers, **wanted.render)
    return Alone(made, limit)


class Alone(gym.Wrapper[Any, Any, Any, Any]):
    """One environment among others, whose first episode is cut short, as a time limit would.

    Of `info` only `CUT_SHORT`, `GAME` and `SUCCESS` go on, as from environments stepped as arrays.

    Args:
        env: the environment.
        limit: steps of the first episode; 0 leaves it as it is.
    """

    def __init__(self, env: gym.Env[Any, Any], limit: int) -> None:
        super().__init__(env)
        self._left = limit
        self._has_games = bool(env.metadata.get(SEVERAL_GAMES))
        self._tells_success = bool(env.metadata.get(TELLS_SUCCESS))
        self._succeeded = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._succeeded = False
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
        if self._tells_success:
            self._succeeded |= bool(about["success"])
            if terminated or truncated:
                info[SUCCESS] = self._succeeded
        return observation, reward, terminated, truncated, info
