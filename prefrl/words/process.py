"""How this process uses the machine."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

LARGEST_KEPT = (32 << 20) - (64 << 10)  # bytes: just below the most that glibc moves its threshold up to


def for_small_networks() -> None:
    """One thread, and memory that is kept: what suits networks of a few thousand weights.

    A second thread costs them far more than it gives. And glibc hands blocks as large as a minibatch's activations back
    to the system whenever they are freed, so that every update faults its pages in anew: half of the reward's fit, as
    measured. A larger block, once freed, tells it to keep blocks up to that size (`man mallopt`, M_MMAP_THRESHOLD);
    elsewhere this does nothing.
    """
    torch.set_num_threads(1)
    np.empty(LARGEST_KEPT, np.uint8)


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
