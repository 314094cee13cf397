"""How this process uses the machine."""

from __future__ import annotations

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
