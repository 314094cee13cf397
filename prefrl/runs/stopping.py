"""How a run ends before its end: told to stop, at the next phase, with everything kept; or short of memory."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from prefrl.settings.resolved import Resolved
from prefrl.words.errors import UserError


class StoppedError(UserError):
    """A run that was told to stop, and has."""


class Stopping:
    """Notes the first Ctrl-C or SIGTERM, and lets the second one stop the process; a context manager.

    Args:
        quiet: the run is one of several, which somebody else began and Ctrl-C is to end at once.

    Attributes:
        asked: whether the run has been told to stop.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.asked = False
        self._signals = (signal.SIGTERM,) if quiet else (signal.SIGINT, signal.SIGTERM)
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopping:
        """Listen, where this is the main thread: no other may."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in self._signals}
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the signals to whoever had them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        for heard, handler in self._before.items():
            signal.signal(heard, handler)
        print("stopping after this phase; once more stops at once.", file=sys.stderr, flush=True)


@contextmanager
def in_words(config: Resolved) -> Iterator[None]:
    """What a run may meet that is no mistake of anybody's, said in one sentence.

    Raises:
        UserError: there was too little memory, on the device or in the machine.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        where = "on the GPU" if isinstance(error, torch.OutOfMemoryError) else "in the machine"
        raise UserError(
            f"{str(config.out)!r} ran out of memory {where}: give fewer environments (n_envs), shorter rollouts, or a "
            f"smaller batch; labels are safe, and a checkpoint, if there is one, can be gone on from."
        ) from error
