"""What steps environments side by side: backends by name, each a stable-baselines3 VecEnv in the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from prefrl.experience.backends.envpool import EnvPoolVecEnv, step_envpool
from prefrl.experience.backends.processes import step_in_processes
from prefrl.experience.backends.singly import Alone, step_in_turn
from prefrl.experience.backends.vector import GymnasiumVecEnv, step_own_vector
from prefrl.experience.backends.wanted import (
    CUT_SHORT,
    GAME,
    SEVERAL_GAMES,
    SUCCESS,
    TELLS_SUCCESS,
    NotServedError,
    Wanted,
    first_limits,
)
from prefrl.experience.environments import find_spec
from prefrl.words.errors import UserError, blamed_on
from prefrl.words.lookup import lookup

__all__ = [
    "BACKENDS",
    "CUT_SHORT",
    "DRAWS",
    "GAME",
    "SEVERAL_GAMES",
    "SUCCESS",
    "TELLS_SUCCESS",
    "Alone",
    "Backend",
    "EnvPoolVecEnv",
    "GymnasiumVecEnv",
    "NotServedError",
    "Wanted",
    "find_backends",
    "first_limits",
    "make_vec_env",
]

Backend = Callable[[Wanted], VecEnv]

BACKENDS: dict[str, Backend] = {
    "envpool": step_envpool,
    "vector": step_own_vector,
    "gymnasium": step_in_turn,
    "subprocess": step_in_processes,
}
"""Built-in backends, the fastest first. `prefrl.experience.backends.wanted` says what each of them promises."""
DRAWS = "gymnasium"  # the one whose environments can be drawn
STAND_FOR = {
    "auto": ("envpool", "vector", "gymnasium"),  # the first that serves the id
    "envpool": ("envpool", "vector"),  # this project's own vector environments are EnvPool's, too
}


def find_backends(name: str) -> tuple[Backend, ...]:
    """The backends that `name` stands for, in the order in which they are tried.

    Args:
        name: "auto", a key of `BACKENDS`, or an import path "package.module:backend".

    Raises:
        UserError: nothing is known by that name, or it is of one's own and cannot be called.
    """
    if name in STAND_FOR:
        return tuple(BACKENDS[key] for key in STAND_FOR[name])
    backend: Any = lookup("backend", name, BACKENDS | dict.fromkeys(STAND_FOR))
    if not callable(backend):
        raise UserError(f"backend {name!r} is {backend!r:.80}, which cannot be called: give the path of a function.")
    return (backend,)


def make_vec_env(
    env_id: str,
    n_envs: int,
    seed: int,
    backend: str = "auto",
    env_kwargs: dict[str, Any] | None = None,
    fixed_horizon: bool = False,
    wrappers: Sequence[str] = (),
    workers: int = 0,
    **render: Any,
) -> VecEnv:
    """Environments stepped as one.

    Args:
        env_id: Gymnasium id, or "package:Id-v0".
        n_envs: how many.
        seed: each environment's seed derives from it.
        backend: "auto" for the fastest that does as Gymnasium's class, a key of `BACKENDS`, or an import path
            "package.module:backend".
        env_kwargs: arguments of the environment.
        fixed_horizon: let every episode last to its time limit; Gymnasium's classes step it.
        wrappers: around each environment, as `prefrl.experience.wrappers` reads them; Gymnasium's classes have them.
        workers: processes that step them, where several do; 0 for as many as there are cores.
        render: how Gymnasium's classes draw, such as render_mode; no other backend does.

    Raises:
        UserError: unknown id or backend, arguments it does not take, spaces not supported, or a backend that was asked
            for by name and does not serve the id, or is not installed.

    Only what an array of environments does as one would is stepped by one: where "auto" finds arguments, wrappers or
    spaces that it would not have, Gymnasium's class is stepped.
    """
    wanted = Wanted(
        env_id, find_spec(env_id), n_envs, seed, env_kwargs or {}, fixed_horizon, render, tuple(wrappers), workers
    )
    *others, last = find_backends(backend)
    if ":" in backend:
        return _made_by_stranger(backend, last, wanted)
    for step in others:
        try:
            return step(wanted)
        except UserError as error:
            if backend != "auto" and not isinstance(error, NotServedError):
                raise
    try:
        return last(wanted)
    except NotServedError as error:
        why = str(error).rstrip(".")
        raise UserError(f"backend {backend} does not step {env_id!r}: {why}; use backend auto or gymnasium.") from error


def _made_by_stranger(name: str, backend: Backend, wanted: Wanted) -> VecEnv:
    """What a backend of somebody else's makes, checked."""
    with blamed_on(f"backend {name!r}", "mend it there, or use backend auto"):
        made: Any = backend(wanted)
    if not isinstance(made, VecEnv) or made.num_envs != wanted.n_envs:
        raise UserError(
            f"backend {name!r} returned {made!r:.80} for {wanted.n_envs} environments: return a stable-baselines3 "
            f"VecEnv of as many."
        )
    return made
