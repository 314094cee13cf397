"""What a backend is asked for, and what every backend promises of the environments it steps.

A backend is a function `backend(wanted) -> VecEnv`. Its environments show float32 vectors or uint8 images, take actions
as the action space says, and reset a finished episode within the step: the episode's last observation is then in
info["terminal_observation"], and info["TimeLimit.truncated"] says whether a time limit ended it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from prefrl.words.errors import UserError

# What is promised of `info`, by names that no environment has by chance: everything else in it stays below.
CUT_SHORT = "prefrl/cut_short"  # this end is none of the environment's (see `first_limits`)
GAME = "prefrl/game"  # of an episode of several games, where one or the episode ends: the ended game's score, or None
SUCCESS = "prefrl/success"  # where an episode ends: whether it reached its goal at any of its steps
TELLS_SUCCESS = "tells_success"  # metadata that promises info["success"] at every step
SEVERAL_GAMES = "several_games"  # metadata that promises info["game_over"] and info["score"] at every step


@dataclass(frozen=True)
class Wanted:
    """Environments that are to be stepped as one.

    Attributes:
        env_id: Gymnasium id, or "package:Id-v0".
        spec: what Gymnasium's registry says of it.
        n_envs: how many.
        seed: each environment's seed derives from it.
        kwargs: arguments of the environment.
        fixed_horizon: let every episode last to its time limit.
        render: how they are to draw, such as render_mode; only Gymnasium's classes can.
        wrappers: around each of them, as `prefrl.experience.wrappers` reads them; only Gymnasium's classes have them.
        workers: processes that step them, where several do; 0 for as many as there are cores.
    """

    env_id: str
    spec: gym.envs.registration.EnvSpec
    n_envs: int
    seed: int
    kwargs: dict[str, Any] = field(default_factory=dict)
    fixed_horizon: bool = False
    render: dict[str, Any] = field(default_factory=dict)
    wrappers: tuple[str, ...] = ()
    workers: int = 0


class NotServedError(UserError):
    """A backend knows nothing of an id, or cannot do with it as Gymnasium's class does: another may."""


def first_limits(horizon: int | None, n_envs: int) -> NDArray[np.int64]:
    """Steps after which each environment's first episode is cut short, (n_envs,); 0 for never.

    Environments of one fixed horizon that start together stay in step for ever: every rollout then shows the learner
    one stretch of the episode, and a fallen robot for nine rollouts out of ten. Cutting the first episodes at equal
    intervals spreads them over the horizon.
    """
    limits = (horizon or 0) * np.arange(1, n_envs + 1) // n_envs
    return np.where(limits < (horizon or 0), limits, 0)
