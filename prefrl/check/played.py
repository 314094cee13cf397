"""An environment played, and what is kept of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefrl.check.clock import TimeUpError, alarm
from prefrl.check.words import one_line, short

MOST_WIDE = 200  # numbers of an observation that are kept in float64 too
CELLS = 20  # a picture is looked at in this many bands of rows, and as many of columns


@dataclass(frozen=True, eq=False)
class Rollout:
    """What happened, step by step.

    Attributes:
        shown: (m, d) each observation in order, those of resets included: a vector, or the sums over a picture's cells.
        at: (n,) row of `shown` that each step acted on; the next row is what it led to.
        content: (n, d) of a picture, a number that tells what each cell holds after the step; (n, 0) of a vector.
        rewards: (n,) raw.
        episode: (n,) count of episodes before this one.
        offset: (n,) steps since the reset.
        ended: (n,) 0 where the episode goes on, 1 where a time limit cut it off, 2 where it ended by itself.
        info: the numbers in `info` by key, each (n,), NaN where there is none.
        raised: what the environment raised and where, as a clause; empty if it did not.
        wide: (m, d) as `shown`, in float64, of what is no float32 by itself; None of other things.
    """

    shown: NDArray[np.float32]
    at: NDArray[np.int64]
    content: NDArray[np.uint32]
    rewards: NDArray[np.float64]
    episode: NDArray[np.int64]
    offset: NDArray[np.int64]
    ended: NDArray[np.int64]
    info: dict[str, NDArray[np.float64]]
    raised: str
    wide: NDArray[np.float64] | None = None

    @property
    def scores(self) -> NDArray[np.float64]:
        """Sum of the episode's rewards before each step, (n,)."""
        before = np.cumsum(self.rewards) - self.rewards
        starts = np.flatnonzero(self.offset == 0)
        return before - np.repeat(before[starts], np.diff(starts, append=len(before)))


def roll(
    env: Any,
    plan: Sequence[tuple[str, int]],
    seed: int,
    action_seed: int | None = None,
    seconds: float | None = None,
) -> Rollout:
    """Play an environment for a number of steps in each of several ways, and keep what the findings need.

    Args:
        env: a single environment as `prefrl.experience.environments.make_env` gives it.
        plan: ways and their steps. "random": an action drawn each step. "still": zero, or the first choice. "held": an
            action drawn each 100 steps.
        seed: of the first reset of the first way; the second way begins from seed + 1, and so on.
        action_seed: of the actions; `seed` if None.
        seconds: after which it ends, whatever the plan; one step that takes half of them counts as raised.
    """
    from prefrl.words.spaces import channels_first, is_image

    space = env.action_space
    space.seed(seed if action_seed is None else action_seed)
    env, cast = _uncast(env)
    channels = None
    if is_image(env.observation_space):
        depth, height, width = channels_first(env.observation_space.shape)
        channels = 0 if env.observation_space.shape == (depth, height, width) else -1
        marks = (np.arange(1, height * width + 1) ** 2 % 8191).reshape(height, width, 1)
    shown: list[NDArray[np.float32]] = []
    wide: list[NDArray[np.float64]] = []
    ends = None if seconds is None else time.monotonic() + seconds
    began = time.monotonic()
    content: list[NDArray[Any]] = []
    steps: list[tuple[int, float, int, int, int]] = []
    infos: list[dict[str, float]] = []
    raised, episode, doing, action = "", -1, "", None
    try:
        with nullcontext() if seconds is None else alarm(seconds):
            for number, (way, count) in enumerate(plan):
                offset = -1
                for step in range(count):
                    if offset < 0:
                        episode, offset = episode + 1, 0
                        doing, action = f"in the reset of episode {episode}", None
                        began = time.monotonic()
                        observation, _ = env.reset(seed=seed + number if step == 0 else None)
                        shown.append(_summary(_picture(env, observation, channels), channels))
                        if cast:
                            wide.append(np.asarray(observation, np.float64))
                    if way == "random" or (way == "held" and offset % 100 == 0):
                        action = space.sample()
                    elif way == "still" and offset == 0:
                        action = still(space)
                    doing = f"at step {offset} of episode {episode}, with {way} actions"
                    began = time.monotonic()
                    observation, reward, terminated, truncated, info = env.step(action)
                    picture = _picture(env, observation, channels)
                    ended = 2 if terminated else int(bool(truncated))
                    steps.append((len(shown) - 1, float(np.asarray(reward).item()), episode, offset, ended))
                    infos.append({key: float(value) for key, value in info.items() if _is_number(value)})
                    content.append(_cells(picture * marks) if channels is not None else np.zeros(0))
                    shown.append(_summary(picture, channels))
                    if cast:
                        wide.append(np.asarray(observation, np.float64))
                    offset = -1 if ended else offset + 1
                    if ends is not None and time.monotonic() > ends:
                        break
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # whatever an environment raises is the finding, and what would end the process
        on = f", on action {short(action)}" if action is not None else ""
        raised = f"{type(error).__name__} {doing}{on}: {one_line(error)}"
        if isinstance(error, TimeUpError):
            if seconds is None:  # it is somebody else's time that is up
                raise
            waited = time.monotonic() - began
            raised = (
                f"nothing, and gave nothing back for {waited:.0f} s, {doing}" if waited > (seconds or 0) / 2 else ""
            )
    shown, wide = shown[: len(steps) + episode + 1], wide[: len(steps) + episode + 1]  # of a step broken off
    at, rewards, episodes, offsets, ended_by = np.array(steps, np.float64).reshape(-1, 5).T
    keys = sorted({key for info in infos for key in info})
    return Rollout(
        shown=np.array(shown, np.float32).reshape(len(shown), -1 if shown else 0),
        at=at.astype(np.int64),
        content=np.array(content, np.uint32).reshape(len(steps), -1 if steps else 0),
        rewards=rewards.copy(),
        episode=episodes.astype(np.int64),
        offset=offsets.astype(np.int64),
        ended=ended_by.astype(np.int64),
        info={key: np.array([info.get(key, np.nan) for info in infos], np.float64) for key in keys},
        raised=raised,
        wide=np.array(wide) if len(wide) == len(shown) and wide else None,
    )


def _uncast(env: Any) -> tuple[Any, bool]:
    """The environment as it is before its numbers become float32, and whether they would."""
    from gymnasium import spaces
    from gymnasium.wrappers import TransformObservation

    from prefrl.experience.environments import _as_float32

    if isinstance(env, TransformObservation) and env.func is _as_float32:
        inner = env.env
        if isinstance(inner.observation_space, spaces.Box) and int(np.prod(inner.observation_space.shape)) <= MOST_WIDE:
            return inner, True
    return env, False


def before_flattening(env: Any) -> Any:
    """The space of what is flattened into a vector; that which is shown where nothing is."""
    from gymnasium import Wrapper
    from gymnasium.wrappers import FlattenObservation

    inner = env
    while isinstance(inner, Wrapper):
        if isinstance(inner, FlattenObservation):
            return inner.env.observation_space
        inner = inner.env
    return env.observation_space


def parts_of(space: Any) -> list[tuple[str, Any]]:
    """Each part of a Dict or Tuple, and of those in it, by its keys with dots between; nothing of another space."""
    from gymnasium import spaces

    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return []
    named = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
    found: list[tuple[str, Any]] = []
    for key, part in named:
        found += [(str(key), part), *((f"{key}.{inner}", deeper) for inner, deeper in parts_of(part))]
    return found


def still(space: Any) -> Any:
    """The action of doing nothing, as far as the space says what that is: zero, or the first choice."""
    from gymnasium import spaces

    if isinstance(space, spaces.Box):
        return np.clip(np.zeros(space.shape), space.low, space.high).astype(space.dtype)
    return np.zeros(space.shape, space.dtype) if isinstance(space, spaces.MultiBinary) else space.start


def _picture(env: Any, observation: Any, channels: int | None) -> NDArray[Any]:
    """The observation as an array, a picture's channels last."""
    array = np.array(observation)
    if array.shape != env.observation_space.shape:
        raise ValueError(f"an observation of shape {array.shape} where {env.observation_space.shape} was declared")
    return array if channels is None else np.moveaxis(array, channels, -1)


def _summary(array: NDArray[Any], channels: int | None) -> NDArray[np.float32]:
    return array.astype(np.float32) if channels is None else _cells(array.astype(np.float32))


def _cells(picture: NDArray[Any]) -> NDArray[Any]:
    """Sums over the cells of a picture (h, w, c), (CELLS * CELLS * c)."""
    rows, columns = (np.arange(CELLS) * side // CELLS for side in picture.shape[:2])
    sums: NDArray[Any] = np.add.reduceat(np.add.reduceat(picture, rows, axis=0), columns, axis=1).reshape(-1)
    return sums


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.bool_)


def unsound(numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the numbers a run refuses: those not finite, or beyond `prefrl.experience.guard.LARGEST`."""
    from prefrl.experience.guard import LARGEST

    found: NDArray[np.bool_] = ~(np.abs(numbers) < LARGEST)
    return found


def sound_part(rollout: Rollout) -> Rollout:
    """The steps before the first that shows or pays what a run refuses; NaN would drown every other finding."""
    bad = unsound(rollout.rewards) | unsound(rollout.shown[rollout.at + 1]).any(axis=1)
    bad |= unsound(rollout.shown[rollout.at]).any(axis=1)
    n = int(np.argmax(bad)) if bad.any() else len(bad)
    return replace(
        rollout,
        **{name: getattr(rollout, name)[:n] for name in ("at", "content", "rewards", "episode", "offset", "ended")},
        info={key: values[:n] for key, values in rollout.info.items()},
    )


def first_difference(left: Rollout, right: Rollout) -> int | None:
    """The first step from, in, or after which two rollouts are not the same to the last bit; None if there is none."""
    n = min(len(left.rewards), len(right.rewards))
    differ = np.zeros(n + 1, bool)
    differ[n] = len(left.rewards) != len(right.rewards)
    for one, other in zip(_stepwise(left), _stepwise(right), strict=True):
        same = (one[:n] == other[:n]) | (np.isnan(one[:n]) & np.isnan(other[:n]))
        differ[:n] |= ~same.all(axis=1)
    return int(np.argmax(differ)) if differ.any() else None


def _stepwise(rollout: Rollout) -> tuple[NDArray[Any], ...]:
    """What each step began with, led to, paid and ended, (n, ...) each."""
    at, paid = rollout.at, np.stack([rollout.rewards, rollout.ended], axis=1)
    return rollout.shown[at], rollout.shown[at + 1], paid
