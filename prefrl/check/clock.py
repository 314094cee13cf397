"""How long a check may take: the whole of it, and each of its parts, whatever an environment does."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal

from prefrl.check.words import Finding, one_line, sentence

LEAST_S = 1.0  # that every part has, however little is left


class TimeUpError(BaseException):
    """A part's time is up. No `except Exception` of an environment's may swallow it."""


class Clock:
    """The seconds that a check may take.

    Args:
        seconds: of the whole.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self._ends = seconds, time.monotonic() + seconds

    def left(self, share: float = 1.0) -> float:
        """Seconds that a part may take: this share of the whole, or what is left of it."""
        return max(LEAST_S, min(share * self.seconds, self._ends - time.monotonic()))

    def part(
        self,
        name: str,
        share: float,
        look: Callable[[], list[Finding]],
        fix: str = "",
        level: Literal["warning", "fail"] = "warning",
    ) -> Iterator[Finding]:
        """What a part of the check finds, or that it could not look: it has no more than its share, and never raises.

        Args:
            name: of its finding where it cannot look.
            share: of the seconds.
            look: the part.
            fix: what to do where the environment raises something.
            level: "warning", or "fail" where nothing goes on without it.
        """
        seconds = self.left(share)
        ends = time.monotonic() + seconds
        try:
            with alarm(seconds):
                found = look()
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # also what would end the process
            says = sentence(f"this was not seen, because of {type(error).__name__}: {one_line(error)}")
            fix = fix or "mend the first line that is not ok."
            if isinstance(error, TimeUpError) or time.monotonic() > ends:  # something may have caught the alarm
                says = f"this was not seen: it took more than {seconds:.0f} s."
                fix = f"give --seconds {4 * self.seconds:.0f}, or make it quicker."
            found = [Finding(name, level, says, fix)]
        yield from found


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise `TimeUpError` where the block takes longer, even within a call that waits; only the main thread can.

    Raises:
        TimeUpError: it did.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeUpError

    before = signal.signal(signal.SIGALRM, ring)
    outer = signal.setitimer(signal.ITIMER_REAL, seconds)[0]
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, max(outer - seconds, 0.01) if outer else 0)
        signal.signal(signal.SIGALRM, before)
