"""Wrappers around an environment, named on a command line, and those that an environment needs to be learned on.

A wrapper is written as an import path and its arguments, "gymnasium.wrappers:RescaleAction min_action=-1 max_action=1".
Those below mend what Gymnasium's own have nothing for.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from prefrl.settings.values import name_value
from prefrl.words.errors import UserError, in_short
from prefrl.words.lookup import lookup

RESCALED = "gymnasium.wrappers:RescaleAction min_action=-1.0 max_action=1.0"
WIDEST, NARROWEST = 10.0, 0.1  # half the range of an action that noise of size 1 still explores
OFF_CENTRE = 0.1  # the middle of a range, in halves of the range, from which half the noise is lost at one end


def parsed(text: str) -> tuple[str, dict[str, Any]]:
    """A wrapper's import path, and its arguments.

    Raises:
        UserError: it is not of the form "package.module:Class name=value ...".
    """
    path, *pairs = re.split(r"\s+(?=[^\s=]+=)", text.strip())
    if ":" not in path or " " in path:
        raise UserError(
            f"wrapper {text!r:.120} is not of the form 'package.module:Class name=value', such as {RESCALED!r}."
        )
    return path, name_value(tuple(pairs), "wrapper argument")


def wrap(env: gym.Env[Any, Any], wrappers: Sequence[str]) -> gym.Env[Any, Any]:
    """The environment with these wrappers around it, the first one innermost.

    Raises:
        UserError: one of them cannot be imported, is no wrapper, or does not suit the environment.
    """
    for text in wrappers:
        path, kwargs = parsed(text)
        kind: Any = lookup("wrapper", path, {})
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*precision lowered")  # Gymnasium's word on its own Box of -1 to 1
                made = kind(env, **kwargs)
        except UserError:
            raise
        except Exception as error:  # whatever a wrapper of somebody else's raises
            name = env.spec.id if env.spec else type(env.unwrapped).__name__
            raise UserError(f"wrapper {path!r} cannot be put around {name}: {in_short(error)}.") from error
        if not isinstance(made, gym.Env):
            raise UserError(f"wrapper {path!r} made {made!r:.80}, which is no Gymnasium environment.")
        env = made
    return env


def needed(action_space: spaces.Space[Any]) -> tuple[str, ...]:
    """The wrappers without which a learner explores these actions badly; none for most.

    A policy begins with noise of deviation 1 around 0. Of a range such as 0 to 10 it sees an end alone, of one of
    thousands nothing, and of one of thousandths only the two ends.
    """
    if not (isinstance(action_space, spaces.Box) and np.issubdtype(action_space.dtype, np.floating)):
        return ()
    low, high = action_space.low.astype(np.float64), action_space.high.astype(np.float64)
    if not np.isfinite([low, high]).all() or (low == high).any():
        return ()
    reach, middle = (high - low) / 2, (high + low) / 2
    suits = (reach <= WIDEST) & (reach >= NARROWEST) & (np.abs(middle) <= OFF_CENTRE * reach)
    return () if suits.all() else (RESCALED,)


class ShowOnly(gym.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Shows one part of a Dict or Tuple observation, as it is: the picture of several things, say.

    Args:
        env: shows a Dict or a Tuple.
        key: of the part; for parts within parts, keys with dots between them.

    Raises:
        UserError: there is no such part.
    """

    def __init__(self, env: gym.Env[Any, Any], key: str | int) -> None:
        RecordConstructorArgs.__init__(self, key=key)
        super().__init__(env)
        space: Any = env.observation_space
        self._keys: list[Any] = []
        for name in str(key).split("."):
            parts: dict[Any, Any] = dict(space.spaces) if isinstance(space, spaces.Dict) else {}
            parts = dict(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else parts
            found = next((part for part in parts if str(part) == name), None)
            if found is None:
                has = ", ".join(map(str, parts)) or "no parts"
                raise UserError(f"observations have no part {name!r}: there are {has:.200}.")
            self._keys.append(found)
            space = parts[found]
        self.observation_space = space

    def observation(self, observation: Any) -> Any:
        """The part."""
        for key in self._keys:
            observation = observation[key]
        return observation


class Shifted(gym.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Shows vectors less a constant: numbers such as times of day, which float32 cannot tell apart, near zero.

    Args:
        env: shows vectors of numbers.
        by: what is subtracted, a number or one for each.
    """

    def __init__(self, env: gym.Env[Any, Any], by: float | Sequence[float]) -> None:
        RecordConstructorArgs.__init__(self, by=by)
        super().__init__(env)
        shown = env.observation_space
        if not isinstance(shown, spaces.Box):
            raise UserError(f"observations are {' '.join(str(shown).split()):.100}, and only a Box can be shifted.")
        self._by = np.broadcast_to(np.asarray(by, np.float64), shown.shape)
        with np.errstate(invalid="ignore"):
            low, high = shown.low.astype(np.float64) - self._by, shown.high.astype(np.float64) - self._by
        self.observation_space = spaces.Box(low, high, shown.shape, np.float64)

    def observation(self, observation: Any) -> Any:
        """The difference."""
        return np.asarray(observation, np.float64) - self._by


class Bounded(gym.ActionWrapper[Any, Any, Any], RecordConstructorArgs):
    """Gives actions without bounds a range, beyond which none is taken.

    Args:
        env: takes a Box of real numbers.
        low: the least, a number or one for each.
        high: the most.
    """

    def __init__(self, env: gym.Env[Any, Any], low: float | Sequence[float], high: float | Sequence[float]) -> None:
        RecordConstructorArgs.__init__(self, low=low, high=high)
        super().__init__(env)
        taken = env.action_space
        if not isinstance(taken, spaces.Box):
            raise UserError(f"actions are {' '.join(str(taken).split()):.100}, and only a Box can be bounded.")
        least, most = (np.broadcast_to(np.asarray(end, taken.dtype), taken.shape) for end in (low, high))
        self.action_space = spaces.Box(least, most, taken.shape, taken.dtype.type)

    def action(self, action: Any) -> Any:
        """The action, which lies within."""
        return action


class FromZero(gym.ActionWrapper[Any, Any, Any], RecordConstructorArgs):
    """Counts choices from zero, whatever the environment counts them from, and takes a table of them as a row.

    Args:
        env: takes Discrete, MultiDiscrete or MultiBinary actions.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        taken = env.action_space
        self._start: Any = getattr(taken, "start", 0)
        if isinstance(taken, spaces.Discrete):
            self.action_space = spaces.Discrete(int(taken.n))
        elif isinstance(taken, spaces.MultiDiscrete):
            self.action_space = spaces.MultiDiscrete(taken.nvec.reshape(-1))
        elif isinstance(taken, spaces.MultiBinary):
            self.action_space = spaces.MultiBinary(int(np.prod(taken.shape)))
        else:
            raise UserError(f"actions are {' '.join(str(taken).split()):.100}, and only choices count from zero.")

    def action(self, action: Any) -> Any:
        """The environment's own count of the choice."""
        if isinstance(self.env.action_space, spaces.Discrete):
            return int(np.asarray(action).item()) + int(self._start)
        return np.asarray(action).reshape(self.env.action_space.shape) + self._start
