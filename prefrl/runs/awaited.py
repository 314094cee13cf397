"""How fast a run is, said after ten seconds; and where nothing moves on, a line a minute on what is awaited.

What runs in this process cannot be stopped from it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from prefrl.runs.runlog import RunLog

FIRST_S = 10.0  # after which it is said how long the whole will take
LOOK_S = 60.0  # between looks
WORDS = {
    "learn": "the environments have taken no step, or the learner's update takes its time",
    "ask": "the strategy is choosing questions",
    "answer": "answers are awaited",
    "fit": "the reward is being fitted",
    "log": "the phase is being measured and written",
}


class Awaited:
    """Looks on from a thread of its own; a context manager.

    Args:
        log: of the run, which knows the part of the phase that it is in.
        steps: how many the environments have taken.
        quiet: say nothing.
        all_steps: how many they are to take; None says nothing of it.
    """

    def __init__(
        self, log: RunLog, steps: Callable[[], int], quiet: bool = False, all_steps: int | None = None
    ) -> None:
        self._log, self._steps, self._all, self._over = log, steps, all_steps, threading.Event()
        self._thread = None if quiet else threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Awaited:
        """Look on."""
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look away."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        begun, began = self._steps(), time.monotonic()
        if self._all is not None and not self._over.wait(FIRST_S):
            taken, seconds = self._steps() - begun, time.monotonic() - began
            rate = taken / seconds
            said = f"all {self._all:,} take some {_duration((self._all - begun) / rate)}" if taken else "no step yet"
            print(
                f"{self._log.folder.name}: {rate:,.0f} steps/s in the first {seconds:.0f} s; {said}.", file=sys.stderr
            )
        before, looks = (self._log.begun, self._steps()), 0
        while not self._over.wait(LOOK_S):
            now = (self._log.begun, self._steps())
            looks = looks + 1 if now == before else 0
            before = now
            if looks and self._log.doing:
                said = WORDS[self._log.doing]
                print(f"{self._log.folder.name}: {said}, for {looks * LOOK_S:.0f} s by now.", file=sys.stderr)


def _duration(seconds: float) -> str:
    """In the largest unit of which there are two or more."""
    units = (("days", 86_400), ("hours", 3600), ("minutes", 60))
    return next(
        (f"{seconds / size:.0f} {unit}" for unit, size in units if seconds >= 2 * size), f"{seconds:.0f} seconds"
    )
