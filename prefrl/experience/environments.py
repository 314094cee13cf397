"""One environment for an id: found, made, and shown as a reward can be learned on; which environments there are."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from prefrl.experience.fixed_horizon import FixedHorizon
from prefrl.experience.guard import Guard, short
from prefrl.experience.wrappers import wrap
from prefrl.settings import presets
from prefrl.words.errors import UserError, in_short
from prefrl.words.lookup import did_you_mean, import_named
from prefrl.words.spaces import SMALLEST_IMAGE, is_image

OURS = "prefrl.experience.wrappers"
MOST_INPUTS = 10_000  # numbers in an observation that a network without convolutions still makes sense of


def find_spec(env_id: str) -> gym.envs.registration.EnvSpec:
    """Gymnasium's specification of an id; "package:Id-v0" imports the package first, "package:Class" takes its class.

    Raises:
        UserError: the package cannot be imported, or no environment has that id.
    """
    package, colon, name = env_id.rpartition(":")
    if colon:
        import_named(f"environment {env_id!r}: package {package!r}", package)
    if name not in gym.registry:
        load_plugins()
    if name not in gym.registry and package:  # a class in it, which it has not registered
        kind = getattr(sys.modules[package], name, None)
        if isinstance(kind, type) and issubclass(kind, gym.Env):
            gym.register(name, f"{package}:{name}")
    if name not in gym.registry and name.startswith("here/"):
        raise UserError(
            f"environment {env_id!r} was an object of the program that began the run: in Python pass it again, "
            f"env=OBJECT (prefrl.load_run takes it too), or give the id or class by which it can be imported."
        )
    if name not in gym.registry:
        raise UserError(
            f"unknown environment {env_id!r}: it is an id in Gymnasium's registry, or 'package:Id-v0'; "
            f"`prefrl envs` lists them.{did_you_mean(name, gym.registry)}"
        )
    return gym.registry[name]


def as_sent(env_id: str, spec: gym.envs.registration.EnvSpec) -> dict[str, Any]:
    """How another process finds an environment: by its id, or else as it is registered here, of what is importable."""
    entry: Any = spec.entry_point
    if isinstance(entry, type):
        entry = f"{entry.__module__}:{entry.__qualname__}"
    sent: dict[str, Any] = {"env_id": env_id}
    if isinstance(entry, str) and not spec.additional_wrappers:
        sent |= {"entry_point": entry, "kwargs": spec.kwargs, "max_episode_steps": spec.max_episode_steps}
    return sent


def arrive(sent: dict[str, Any]) -> str:
    """The id of what `as_sent` sent, registered in this process.

    Raises:
        UserError: it is not known here, nor can it be.
    """
    env_id = sent["env_id"]
    try:
        find_spec(env_id)
    except UserError as error:
        about = {name: value for name, value in sent.items() if name != "env_id"}
        if not about:
            raise UserError(
                f"another process does not know {env_id!r}: name it 'package:Id-v0', after the module that has it."
            ) from error
        gym.register(env_id.rpartition(":")[2], **about)
    return str(env_id)


@cache
def load_plugins() -> None:
    """Register the environments of installed packages that announce them (entry point group `gymnasium.envs`).

    Gymnasium did this itself before 1.0. A package that fails to is warned about, and the others still load.
    """
    for plugin in entry_points(group="gymnasium.envs"):
        try:
            plugin.load()()
        except Exception as error:
            warnings.warn(f"environments of {plugin.value} could not be registered: {error}", stacklevel=2)


def make_env(
    env_id: str,
    env_kwargs: dict[str, Any] | None = None,
    fixed_horizon: bool = False,
    wrappers: Sequence[str] = (),
    **render: Any,
) -> Guard:
    """One Gymnasium environment whose observations are float32 vectors or uint8 images, behind a `Guard`.

    Observations of other kinds (Dict, Tuple, Discrete, arrays of more dimensions, images too small for a
    convolution) are flattened into a vector, choices one-hot, by Gymnasium's own wrapper.

    Raises:
        UserError: it cannot be made, or its spaces are of a kind that a reward cannot be learned on.
    """
    return Guard(_shown(env_id, env_kwargs or {}, fixed_horizon, wrappers, render), env_id)


def _shown(
    env_id: str, env_kwargs: dict[str, Any], fixed_horizon: bool, wrappers: Sequence[str], render: dict[str, Any]
) -> gym.Env[Any, Any]:
    """The environment as a reward can be learned on it; what it does is not checked."""
    find_spec(env_id)
    try:
        env = gym.make(env_id, disable_env_checker=True, **(env_kwargs | render))
    except (Exception, SystemExit) as error:
        raise UserError(
            f"environment {env_id!r} cannot be made with {short(env_kwargs or 'no arguments')}: {in_short(error)}."
        ) from error
    for what, kind in (("metadata", dict), ("action_space", spaces.Space)):
        if not isinstance(declared := getattr(env, what, None), kind):
            known = "dict" if kind is dict else "space of Gymnasium's"
            raise UserError(f"{env_id} declares the {what} {short(declared)}, which is no {known}.")
    env = wrap(_with_real_actions(env), wrappers)
    if fixed_horizon:
        env = FixedHorizon(env)
    env = _with_real_actions(env)  # a wrapper may have made others of them
    for name in ("observation_space", "action_space"):
        if not isinstance(declared := getattr(env, name, None), spaces.Space):
            raise UserError(f"{env_id} declares the {name} {short(declared)}, which is no space of Gymnasium's.")
    obs, act = env.observation_space, env.action_space
    if not isinstance(act, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise UserError(f"{env_id} has actions {act}: they must be Box, Discrete, MultiDiscrete or MultiBinary.")
    if isinstance(act, spaces.Box):
        if not (np.isfinite(act.low).all() and np.isfinite(act.high).all()):
            raise UserError(
                f'{env_id} has actions {short(act)}: they need finite bounds, so give --wrapper "{OURS}:Bounded low=-1 '
                f'high=1", or other bounds.'
            )
    elif len(act.shape or ()) > 1:
        raise UserError(
            f'{env_id} has actions {short(act)}, a table: the learners take a row, so give --wrapper "{OURS}:FromZero".'
        )
    if np.any(getattr(act, "start", 0)):
        raise UserError(
            f"{env_id} has actions {short(act)}: they must count from 0, as the learners do, so give --wrapper "
            f'"{OURS}:FromZero".'
        )
    if is_image(obs):
        return env
    if not (isinstance(obs, spaces.Box) and len(obs.shape) == 1):
        try:
            size = spaces.flatdim(obs)
            if _has_text(obs):
                raise ValueError("text is not read here")
        except (NotImplementedError, ValueError) as error:
            raise UserError(
                f"{env_id} has observations {short(obs)}, which do not flatten into a vector ({error}): {_only(obs)}"
                f"wrap it so that it shows a Box, a Dict of Boxes, or discrete values."
            ) from error
        if size > MOST_INPUTS:
            raise UserError(
                f"{env_id} has observations {short(obs)}, {size} numbers and not an image: {_only(obs)}wrap it so that "
                f"it shows an image alone (uint8, {SMALLEST_IMAGE} x {SMALLEST_IMAGE} or more) or at most "
                f"{MOST_INPUTS} numbers."
            )
        env = gym.wrappers.FlattenObservation(env)
        obs = env.observation_space
    assert isinstance(obs, spaces.Box)
    if obs.dtype == np.float32:
        return env
    return gym.wrappers.TransformObservation(env, _as_float32, float32_box(obs))


def _with_real_actions(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """The environment, taking real numbers where it takes a Box of whole ones: learners act in those."""
    act = env.action_space
    if not isinstance(act, spaces.Box) or np.issubdtype(act.dtype, np.floating):
        return env
    whole = act.dtype
    real = spaces.Box(act.low.astype(np.float32), act.high.astype(np.float32), act.shape, np.float32)
    return gym.wrappers.TransformAction(env, lambda a: np.rint(a).astype(whole), real)


def list_environments(match: str = "") -> str:
    """A line for each environment in Gymnasium's registry whose id contains `match`: horizon, segment length, reward.

    Of several versions the newest is listed; without `match`, only Gymnasium's own and those of this project. A `match`
    of "package:" imports the package, and lists what it registers, as `--env` takes it.

    Raises:
        UserError: there is none, or the package cannot be imported.
    """
    package, _, match = match.rpartition(":")
    known = set(gym.registry)
    if package:
        import_named(f"package {package!r}", package)
    load_plugins()
    newest: dict[tuple[str | None, str], str] = {}
    for env_id, spec in sorted(gym.registry.items(), key=lambda item: item[1].version or 0):
        newest[spec.namespace, spec.name] = env_id
    shown = list(newest.values()) if match else [newest[key] for key in newest if key[0] in (None, "prefrl")]
    if package:
        shown = [env_id for env_id in newest.values() if env_id not in known or _is_of(package, env_id)]
    found = (env_id for env_id in shown if match.lower() in env_id.lower())
    ids = sorted(found, key=lambda env_id: (not env_id.startswith("prefrl/"), env_id))  # ours first
    if not ids and package:
        raise UserError(f"package {package!r} registers no environment whose id contains {match!r}.")
    if not ids:
        raise UserError(f"no environment's id contains {match!r}.{did_you_mean(match, gym.registry)}")
    lines = [f"{'id':<40} {'horizon':>8} {'segment':>8}  reward"]
    for env_id in ids:
        spec = gym.registry[env_id]
        about = _metadata(spec)
        segment = about.get(
            "segment_steps", presets.SEGMENT_STEPS.get(presets.task(spec.id, str(spec.entry_point)), "")
        )
        named = f"{package}:{env_id}" if package else env_id
        lines.append(f"{named:<40} {spec.max_episode_steps or '':>8} {segment:>8}  {about.get('reward', '')}")
    return "\n".join(line.rstrip() for line in lines)


def _is_of(package: str, env_id: str) -> bool:
    """Whether an environment comes from a package."""
    entry: Any = gym.registry[env_id].entry_point
    module = entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")
    return bool(module.partition(".")[0] == package.partition(".")[0])


def _metadata(spec: gym.envs.registration.EnvSpec) -> dict[str, Any]:
    """The metadata of an environment's class, without making one; empty where it cannot be imported.

    A class whose metadata depend on its arguments may say them in a static method, `metadata_of(**arguments)`.
    """
    try:
        entry: Any = spec.entry_point
        if isinstance(entry, str):
            entry = gym.envs.registration.load_env_creator(entry)
    except Exception:  # whatever an optional dependency says when it is missing: Box2D's is no ImportError
        return {}
    metadata_of = getattr(entry, "metadata_of", None)
    return dict((metadata_of(**spec.kwargs) if metadata_of else getattr(entry, "metadata", None)) or {})


def _only(space: spaces.Space[Any]) -> str:
    """How to show a part of it that can be learned on, where it has one: a picture, or else numbers."""
    parts = space.spaces if isinstance(space, spaces.Dict) else {}
    fit = [key for key, part in parts.items() if is_image(part)] or [
        key
        for key, part in parts.items()
        if not is_image(part) and not _has_text(part) and part.is_np_flattenable and spaces.flatdim(part) <= MOST_INPUTS
    ]
    return f'give --wrapper "{OURS}:ShowOnly key={fit[0]}", or ' if fit else ""


def _has_text(space: spaces.Space[Any]) -> bool:
    """Whether a space is text, or has some in it."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return any(_has_text(part) for part in (space.values() if isinstance(space, spaces.Dict) else space))
    return isinstance(space, spaces.Text)


def _as_float32(observation: Any) -> Any:
    """The observation as float32; what is none is left to whoever checks it, and what float32 cannot hold is inf."""
    array = np.asarray(observation)
    with np.errstate(over="ignore"):
        return array.astype(np.float32) if array.dtype.kind in "fiub" else observation


def float32_box(box: spaces.Box) -> spaces.Box:
    """The same box of float32; a bound beyond it is infinite."""
    with np.errstate(over="ignore"):
        return spaces.Box(box.low.astype(np.float32), box.high.astype(np.float32), box.shape, np.float32)
