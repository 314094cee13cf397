"""How a process uses the machine.

A number below 1e-38 is subnormal in single precision, and a processor takes 20 to 40 times as long for it. The reward's
adapted penalty drives weights, activations and Adam's averages down to there, so whoever computes with r-hat treats
such numbers as zero. The processor keeps that setting for each thread: a thread starts with that of the one that starts
it, a process without. torch and numpy both follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
import torch

LARGEST_KEPT = (32 << 20) - (64 << 10)  # bytes: just below the most that glibc moves its threshold up to
SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal

P = ParamSpec("P")
R = TypeVar("R")


def for_small_networks() -> None:
    """One thread, subnormal numbers as zero, and memory that is kept: what suits networks of a few thousand weights.

    For a process, or a thread, that is ours from its start to its end: every one that trains or measures calls this
    first. A second thread costs small networks far more than it gives. And glibc hands blocks as large as a minibatch's
    activations back to the system whenever they are freed, so that every update faults its pages in anew: half of the
    reward's fit, as measured. A larger block, once freed, tells it to keep blocks up to that size (`man mallopt`,
    M_MMAP_THRESHOLD); elsewhere this does nothing.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    np.empty(LARGEST_KEPT, np.uint8)


def flushes_subnormals() -> bool:
    """Whether this thread treats subnormal numbers as zero."""
    return not SMALLEST_NORMAL * np.float32(0.5)


@contextmanager
def _subnormals_flushed() -> Iterator[None]:
    if flushes_subnormals():
        yield
        return
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def flush_subnormals(compute: Callable[P, R]) -> Callable[P, R]:
    """A function that treats subnormal numbers as zero while it runs, in whichever thread, and leaves that as it was.

    For what a program of somebody else's calls: its own numbers stay what they are. Where torch had several threads at
    work there before, only the calling one is sure to follow.
    """

    @wraps(compute)
    def flushed(*args: P.args, **kwargs: P.kwargs) -> R:
        with _subnormals_flushed():
            return compute(*args, **kwargs)

    return flushed
