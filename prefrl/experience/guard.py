"""What an environment gives, or raises, checked where it comes in: one sentence says which step gave what.

Nothing behind this door meets a number that is not finite, and so nothing is saved that such a number has spoiled.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from prefrl.experience.pictures import Frames, picture
from prefrl.words.errors import UserError

LARGEST = 1e18  # deviations are taken of squares, and those of float32 end at some 1e38
SOUND = f"a number must be finite, and below {LARGEST:g}"
RESET = "Gymnasium's reset(seed=..., options=...) returns (observation, info)"
STEP = "Gymnasium's step(action) returns (observation, reward, terminated, truncated, info)"
CHECK = "mend it there, and check it with `prefrl check`"


def are_sound(numbers: NDArray[Any]) -> bool:
    """Whether each number is finite and below `LARGEST`.

    The sum of squares of sound numbers is below its square, and takes no array beside them; only where it is not, each
    number is looked at.
    """
    if numbers.dtype.kind != "f":
        return True
    return bool(np.vdot(numbers, numbers) < LARGEST**2 or (np.abs(numbers) < LARGEST).all())


def short(value: Any) -> str:
    """A value as text of some 80 characters at most; of an array that is long, its shape and type."""
    if isinstance(value, np.ndarray) and value.size > 6:
        unsound = "" if are_sound(value) else f" with {value[~(np.abs(value) < LARGEST)].reshape(-1)[0]} in it"
        return f"an array {value.shape} of {value.dtype}{unsound}"
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def said(error: BaseException) -> str:
    """What was raised, as part of a sentence."""
    return f"{type(error).__name__}: {(' '.join(str(error).split()) or 'no message').rstrip('.'):.200}"


class Guard(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that keeps to Gymnasium's interface, or fails with a `UserError` that says where it does not.

    Observations are new arrays of the declared type, so that an environment may use its own again; rewards are floats;
    pictures are (h, w, 3) of uint8, whatever they were drawn in.

    Args:
        env: the environment; an observation that is no array is passed on as it is.
        name: what to call it; None for its id.
    """

    def __init__(self, env: gym.Env[Any, Any], name: str | None = None) -> None:
        super().__init__(env)
        self.name = name or (env.spec.id if env.spec else type(env.unwrapped).__name__)
        self._episode = self._step = 0
        self._failed = False
        self._size: tuple[int, ...] | None = None  # of its pictures

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Raises:
            UserError: the environment raised something, or returned something else than an observation and a dict.
        """
        self._episode, self._step = self._episode + 1, 0
        try:
            returned = self.env.reset(seed=seed, options=options)
        except (KeyboardInterrupt, UserError):
            raise
        except BaseException as error:  # also what would end the process, such as SystemExit
            raise self._failure(error, RESET) from error
        if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], dict)):
            raise self._wrong(f"returned {_kinds(returned)}", RESET)
        return self._shown(returned[0]), returned[1]

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step.

        Raises:
            UserError: the environment raised something, or returned something else than it should.
        """
        self._step += 1
        try:
            returned = self.env.step(action)
        except (KeyboardInterrupt, UserError):
            raise
        except BaseException as error:
            raise self._failure(error, STEP) from error
        if not (isinstance(returned, tuple) and len(returned) == 5 and isinstance(returned[4], dict)):
            raise self._wrong(f"returned {_kinds(returned)}", STEP)
        observation, reward, terminated, truncated, info = returned
        paid: Any = reward
        if type(paid) is not float:
            number = np.asarray(paid)
            if number.size != 1 or number.dtype.kind not in "fiub":
                raise self._wrong(f"paid {short(paid)}", "a reward is one number")
            paid = float(number.item())
        if not -LARGEST < paid < LARGEST:
            raise self._wrong(f"paid {paid}", SOUND)
        try:
            ends = bool(terminated), bool(truncated)
        except Exception as error:
            raise self._failure(error, STEP) from error
        return self._shown(observation), paid, *ends, info

    def render(self) -> Any:
        """A picture (h, w, 3) of uint8 where the render mode asks for pictures.

        Raises:
            UserError: the environment raised something, or what it drew is no picture, or of another size than before.
        """
        try:
            drawn: Any = self.env.render()
        except (KeyboardInterrupt, UserError):
            raise
        except BaseException as error:
            raise self._failure(error, None) from error
        if self.render_mode in ("human", "ansi"):
            return drawn
        try:
            frame: Frames = picture(drawn)
        except ValueError as error:
            raise self._wrong(f"drew {error}", "a picture is (height, width, 3) of uint8") from error
        if self._size is not None and frame.shape != self._size:
            raise self._wrong(f"drew a picture {frame.shape} after one {self._size}", "a film has one size")
        self._size = frame.shape
        return frame

    def close(self) -> None:
        """Let the environment go.

        Raises:
            UserError: it raised something, and nothing before.
        """
        try:
            self.env.close()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if not self._failed:  # what it raised first has been said
                self._failed = True
                raise UserError(f"{self.name} failed as it was closed, with {said(error)}; {CHECK}.") from error

    def _shown(self, observation: Any) -> Any:
        """A copy of the observation, checked."""
        space = self.observation_space
        if not isinstance(space, spaces.Box):
            return observation
        try:
            array = np.asarray(observation)
        except Exception as error:
            raise self._failure(error, f"an observation is one of {short(space)}") from error
        if array.shape != space.shape or array.dtype.kind not in "fiub":
            raise self._wrong(
                f"showed {short(observation)} of shape {array.shape} and type {array.dtype}",
                f"its observation_space has {space.shape} of {space.dtype}",
            )
        if array.dtype == space.dtype:
            kept = array.copy()
        else:
            with np.errstate(all="ignore"):
                kept = array.astype(space.dtype)
            if kept.dtype.kind in "iu" and (kept != array).any():
                raise self._wrong(f"showed {short(array)}", f"its observation_space has {space.dtype} alone")
        if not are_sound(kept):
            raise self._wrong(f"showed {short(array)}", SOUND)
        return kept

    def _where(self) -> str:
        if self._step:
            return f"at step {self._step} of its episode {self._episode}"
        return "in its first reset" if self._episode < 2 else f"in the reset of its episode {self._episode}"

    def _wrong(self, what: str, wanted: str) -> UserError:
        self._failed = True
        return UserError(f"{self.name} {what} {self._where()}, and {wanted}: {CHECK}.")

    def _failure(self, error: BaseException, interface: str | None) -> UserError:
        """What it raised; where that is about what goes in or comes out, what Gymnasium's interface is."""
        self._failed = True
        unlike = interface and isinstance(error, TypeError | ValueError) and _is_about_interface(str(error))
        hint = f", and {interface}" if unlike else ""
        return UserError(f"{self.name} failed {self._where()} with {said(error)}{hint}; {CHECK}.")


def _is_about_interface(text: str) -> bool:
    return any(words in text for words in ("unpack", "unexpected keyword argument", "positional argument"))


def _kinds(returned: Any) -> str:
    """What was returned, by its kinds."""
    if isinstance(returned, tuple):
        return f"({', '.join(_kinds(part) for part in returned)})" if len(returned) < 8 else f"{len(returned)} things"
    if isinstance(returned, np.ndarray):
        return f"an array {returned.shape}"
    return "None" if returned is None else f"a {type(returned).__name__}"
