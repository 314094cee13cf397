"""One environment for an id: found, made, and shown as a reward can be learned on; which environments there are."""

from __future__ import annotations

import warnings
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from prefrl.experience.fixed_horizon import FixedHorizon
from prefrl.experience.guard import Guard, short
from prefrl.settings import presets
from prefrl.words.errors import UserError
from prefrl.words.lookup import did_you_mean, import_named
from prefrl.words.spaces import SMALLEST_IMAGE, is_image

MOST_INPUTS = 10_000  # numbers in an observation that a network without convolutions still makes sense of


def find_spec(env_id: str) -> gym.envs.registration.EnvSpec:
    """Gymnasium's specification of an id; "package:Id-v0" imports the package first.

    Raises:
        UserError: the package cannot be imported, or no environment has that id.
    """
    package, colon, name = env_id.rpartition(":")
    if colon:
        import_named(f"environment {env_id!r}: package {package!r}", package)
    if name not in gym.registry:
        load_plugins()
    if name not in gym.registry:
        raise UserError(
            f"unknown environment {env_id!r}: it is an id in Gymnasium's registry, or 'package:Id-v0'; "
            f"`prefrl envs` lists them.{did_you_mean(name, gym.registry)}"
        )
    return gym.registry[name]


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
    env_id: str, env_kwargs: dict[str, Any] | None = None, fixed_horizon: bool = False, **render: Any
) -> Guard:
    """One Gymnasium environment whose observations are float32 vectors or uint8 images, behind a `Guard`.

    Observations of other kinds (Dict, Tuple, Discrete, arrays of more dimensions, images too small for a
    convolution) are flattened into a vector, choices one-hot, by Gymnasium's own wrapper.

    Raises:
        UserError: it cannot be made, or its spaces are of a kind that a reward cannot be learned on.
    """
    return Guard(_shown(env_id, env_kwargs or {}, fixed_horizon, render), env_id)


def _shown(env_id: str, env_kwargs: dict[str, Any], fixed_horizon: bool, render: dict[str, Any]) -> gym.Env[Any, Any]:
    """The environment as a reward can be learned on it; what it does is not checked."""
    find_spec(env_id)
    try:
        env = gym.make(env_id, disable_env_checker=True, **(env_kwargs | render))
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"environment {env_id!r} cannot be made with {short(env_kwargs or 'no arguments')}: {said:.200}."
        ) from error
    if fixed_horizon:
        env = FixedHorizon(env)
    for name in ("observation_space", "action_space"):
        if not isinstance(declared := getattr(env, name, None), spaces.Space):
            raise UserError(f"{env_id} declares the {name} {short(declared)}, which is no space of Gymnasium's.")
    obs, act = env.observation_space, env.action_space
    if not isinstance(act, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise UserError(f"{env_id} has actions {act}: they must be Box, Discrete, MultiDiscrete or MultiBinary.")
    if isinstance(act, spaces.Box):
        if not (np.isfinite(act.low).all() and np.isfinite(act.high).all()):
            raise UserError(f"{env_id} has actions {act}: they need finite bounds, so wrap it to give them some.")
        if not np.issubdtype(act.dtype, np.floating):  # learners act in real numbers
            whole = act.dtype
            real = spaces.Box(act.low.astype(np.float32), act.high.astype(np.float32), act.shape, np.float32)
            env = gym.wrappers.TransformAction(env, lambda a: np.rint(a).astype(whole), real)
    elif len(act.shape or ()) > 1:
        table = " ".join(str(act).split())
        raise UserError(f"{env_id} has actions {table}, a table: the learners take a row, so wrap it to flatten them.")
    if np.any(getattr(act, "start", 0)):
        raise UserError(
            f"{env_id} has actions {act}: they must count from 0, as the learners do; wrap it so that they do."
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
                f"{env_id} has observations {obs}, which do not flatten into a vector ({error}): wrap it so that it "
                f"shows a Box, a Dict of Boxes, or discrete values."
            ) from error
        if size > MOST_INPUTS:
            raise UserError(
                f"{env_id} has observations {obs}, {size} numbers and not an image: wrap it so that it shows an image "
                f"alone (uint8, {SMALLEST_IMAGE} x {SMALLEST_IMAGE} or more) or at most {MOST_INPUTS} numbers."
            )
        env = gym.wrappers.FlattenObservation(env)
        obs = env.observation_space
    assert isinstance(obs, spaces.Box)
    if obs.dtype == np.float32:
        return env
    return gym.wrappers.TransformObservation(env, _as_float32, float32_box(obs))


def list_environments(match: str = "") -> str:
    """A line for each environment in Gymnasium's registry whose id contains `match`: horizon, segment length, reward.

    Of several versions the newest is listed; without `match`, only Gymnasium's own and those of this project.

    Raises:
        UserError: there is none.
    """
    load_plugins()
    newest: dict[tuple[str | None, str], str] = {}
    for env_id, spec in sorted(gym.registry.items(), key=lambda item: item[1].version or 0):
        newest[spec.namespace, spec.name] = env_id
    shown = newest.values() if match else [newest[key] for key in newest if key[0] in (None, "prefrl")]
    found = (env_id for env_id in shown if match.lower() in env_id.lower())
    ids = sorted(found, key=lambda env_id: (not env_id.startswith("prefrl/"), env_id))  # ours first
    if not ids:
        raise UserError(f"no environment's id contains {match!r}.{did_you_mean(match, gym.registry)}")
    lines = [f"{'id':<40} {'horizon':>8} {'segment':>8}  reward"]
    for env_id in ids:
        spec = gym.registry[env_id]
        about = _metadata(spec)
        segment = about.get(
            "segment_steps", presets.SEGMENT_STEPS.get(presets.task(spec.id, str(spec.entry_point)), "")
        )
        lines.append(f"{env_id:<40} {spec.max_episode_steps or '':>8} {segment:>8}  {about.get('reward', '')}")
    return "\n".join(line.rstrip() for line in lines)


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
