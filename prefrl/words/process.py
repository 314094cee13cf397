"""How a process uses the machine.

A number below 1e-38 is subnormal in single precision, and a processor takes 20 to 40 times as long for it. The reward's
adapted penalty drives weights, activations and Adam's averages down to there, so whoever computes with r-hat treats
such numbers as zero. The processor keeps that setting for each thread: a thread starts with that of the one that starts
it, a process without. torch and numpy both follow it.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

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


@cache
def has_matrix_units(device: str) -> bool:
    """Whether this is a processor with matrix units for bfloat16: ten times the products that float32 has in a second.

    A processor that multiplies bfloat16 as vectors alone gains less by it than the change of numbers costs a policy.
    """
    return device == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))


def end_with_parent() -> None:
    """Have this process end when the one that started it is no more.

    One that is killed cannot stop those that it started: they would wait for work for ever, or go on with a run that
    somebody has begun again.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "nobody started this process to work for it"

    def watch() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


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


def generators() -> dict[str, Any]:
    """Where the process's own generators are, from which stable-baselines3, and environments of others, draw."""
    kind, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, np.asarray(keys), int(place), int(has_gauss), float(gauss)],
        "python": random.getstate(),
    }


def restore_generators(state: Mapping[str, Any]) -> None:
    """Go on from what `generators` returned; on another number of GPUs those draw anew."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    np.random.set_state(tuple(state["numpy"]))
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """What is drawn from the process's own generators inside comes from this seed; afterwards they are as before.

    A policy draws its actions from torch's: the same seed gives the same numbers, and the caller's go on untouched.
    """
    before = generators()
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        restore_generators(before)
