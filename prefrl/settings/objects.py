"""Objects where a name is taken: what a program passes is written as its import path, or marked as the program's own.

An object that can be imported is found again by everybody. Any other, such as a function within a function, is kept in
this process under a name that begins with "here"; whoever meets that name in another process is told what to pass.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from prefrl.settings.values import as_toml
from prefrl.words.errors import UserError
from prefrl.words.lookup import import_path, keep

DEFAULT_ENV = "HalfCheetah-v5"  # a configuration's, where none is named
KINDS = ("labeler", "strategy", "schedule", "learner", "backend")  # fields that are names of objects


def names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a configuration that hold objects, as a configuration has them: as names, and name=value.

    Args:
        values: by field.

    Raises:
        UserError: a value that can be told in no name.
    """
    found: dict[str, Any] = {}
    for kind in KINDS:
        if not isinstance(values.get(kind, ""), str):
            found[kind] = _named(kind, values[kind])
    if isinstance(values.get("set"), Mapping):
        found["set"] = tuple(f"{name}={_plain(name, value)}" for name, value in values["set"].items())
    env, kwargs = values.get("env", DEFAULT_ENV), values.get("env_kwargs")
    if isinstance(kwargs, Mapping):
        own = {name: value for name, value in kwargs.items() if not _is_plain(value)}
        found["env_kwargs"] = tuple(
            f"{name}={_plain(name, value)}" for name, value in kwargs.items() if name not in own
        )
        env = _with(env, own) if own else env
    if not isinstance(env, str):
        found["env"] = named_environment(env)
    return found


def named_environment(env: Any) -> str:
    """The id of an environment that is given as an object: a class, a function that makes one, or one that is made.

    Raises:
        UserError: it is none of these.
    """
    import gymnasium as gym

    if isinstance(env, str):
        return env
    limit = None
    if isinstance(env, gym.Env):
        spec, make = env.spec, _copies(env)
        limit = spec.max_episode_steps if spec else None
        name = spec.name if spec else type(env.unwrapped).__name__
    elif callable(env):
        make, name = env, getattr(env, "__name__", type(env).__name__)
        if isinstance(env, type) and issubclass(env, gym.Env) and (path := import_path(env)):
            return path
    else:
        raise UserError(f"env={env!r:.100} is no environment: give an id, a function that makes one, or one.")
    return f"here/{_registered(make, re.sub('[^A-Za-z0-9_]', '_', name), limit)}"


def _registered(make: Callable[..., Any], name: str, limit: int | None) -> str:
    """A name and version in Gymnasium's registry, new unless this very function has one."""
    import gymnasium as gym

    version = 0
    while (spec := gym.registry.get(f"here/{name}-v{version}")) is not None and spec.entry_point is not make:
        version += 1
    if spec is None:
        gym.register(f"here/{name}-v{version}", make, max_episode_steps=limit)
    return f"{name}-v{version}"


def _copies(env: Any) -> Callable[..., Any]:
    """A function that makes environments like this one: as its specification says, or as copies of it."""
    import gymnasium as gym

    if env.spec is not None:
        return lambda **kwargs: gym.make(env.spec, disable_env_checker=True, **kwargs)

    def make(render_mode: str | None = None) -> Any:
        try:
            made = copy.deepcopy(env)
        except Exception as error:
            raise UserError(
                f"{type(env.unwrapped).__name__} cannot be copied ({type(error).__name__}: {error}), and a run needs "
                f"several: give a function that makes one."
            ) from error
        made.unwrapped.render_mode = render_mode
        return made

    return make


def _with(env: Any, own: Mapping[str, Any]) -> Callable[..., Any]:
    """A function that makes the environment with arguments that no file can hold."""
    import gymnasium as gym

    def make(**kwargs: Any) -> Any:
        every = {**own, **kwargs}
        return gym.make(env, disable_env_checker=True, **every) if isinstance(env, str) else env(**every)

    make.__name__ = re.sub(r"-v\d+$", "", env.rpartition(":")[2]) if isinstance(env, str) else env.__name__
    return make


def _named(kind: str, thing: Any) -> str:
    """The name of an object, by which `lookup` finds it."""
    if not callable(thing):
        raise UserError(
            f"{kind}={thing!r:.100} can be neither called nor looked up: give a name, or an object that can."
        )
    if kind == "labeler" and not _is_factory(thing):
        return keep(lambda seed: thing, getattr(thing, "__name__", type(thing).__name__), thing)
    return import_path(thing) or keep(thing, getattr(thing, "__name__", type(thing).__name__), thing)


def _is_factory(thing: Any) -> bool:
    """Whether it makes a labeler of a seed, rather than being one."""
    try:
        inspect.signature(thing).bind(seed=0)
    except (TypeError, ValueError):
        return False
    return True


def _is_plain(value: Any) -> bool:
    """Whether TOML can say it."""
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_plain(part) for name, part in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float | bool)


def _plain(name: str, value: Any) -> str:
    """A setting's value as it is written; a class by its name, as `--set` names it."""
    told = _by_name(value)
    if not _is_plain(told):
        raise UserError(f"{name}={value!r:.100} cannot be written into a run's folder: give numbers, words and tables.")
    return as_toml(told)


def _by_name(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _by_name(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_by_name(part) for part in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    return value.__name__ if isinstance(value, type) else value
