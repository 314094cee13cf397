"""Where nothing moves on, a line a minute says what is awaited: what runs in this process cannot be stopped from it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from prefrl.runs.runlog import RunLog

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
    """

    def __init__(self, log: RunLog, steps: Callable[[], int], quiet: bool = False) -> None:
        self._log, self._steps, self._over = log, steps, threading.Event()
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
        before, looks = (self._log.begun, self._steps()), 0
        while not self._over.wait(LOOK_S):
            now = (self._log.begun, self._steps())
            looks = looks + 1 if now == before else 0
            before = now
            if looks and self._log.doing:
                said = WORDS[self._log.doing]
                print(f"{self._log.folder.name}: {said}, for {looks * LOOK_S:.0f} s by now.", file=sys.stderr)
