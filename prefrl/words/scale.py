"""What is taken from a reward, and what it is divided by, before a learner is paid: the same for both arms.

A learner's step sizes suit rewards of one scale, so a reward is paid with a given standard deviation over a window of
recent experience (Christiano et al. 2017, section 2.2.3). Where episodes can end early the mean is part of the task,
since taking it away would make living neither good nor bad; it is kept there, and the reward is divided by its root
mean square: its deviation may vanish, as that of a reward of one a step does, and says nothing of its size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 64.0
"""Deviations that one step is paid at most.

None of 4,096 numbers, which is what a scale is taken from, lies further from their mean than 64 of their deviations or
is larger than 64 of their root mean squares. More than that comes from a step unlike all that the scale was taken from,
such as the first point of a game whose window had none, and would say more about the scale than about the step.
"""
ROUNDING = 1e-6  # a deviation of less than this share of the mean is no more than rounding in single precision
BLENDED = 0.1  # share of a run over which the mean comes back


Numbers = NDArray[Any] | np.floating[Any]


def offset_and_scale(
    mean: Numbers, std: Numbers, furthest: Numbers, kept: float, last: Numbers
) -> tuple[Numbers, Numbers]:
    """What is taken from rewards and what the rest is divided by, so that (reward - offset) / scale is paid.

    The scale is the root mean square of what is left of the reward: its deviation where all of the mean is taken away.

    Args:
        mean: (k,) of each of k rewards over the same window.
        std: (k,) standard deviations there.
        furthest: (k,) how far a step of the window lies from the mean at most. A few steps seen of a rare reward can
            have a deviation that is too small for it: none is paid more than `MOST` deviations.
        kept: share of the mean that is not taken away, 0 to 1. A reward that does not vary keeps all of it.
        last: (k,) scales until now, which stay where the window holds no reward at all.
    """
    share = np.where(std > ROUNDING * np.abs(mean), kept, 1.0).astype(std.dtype)
    left = share * mean
    scale = np.maximum(np.hypot(std, left), furthest / MOST)
    return mean - left, np.where(scale > 0, scale, last)


def bounded(paid: NDArray[Any], reward_std: float) -> NDArray[Any]:
    """Rewards of this standard deviation, none of them beyond `MOST` deviations."""
    return paid.clip(-MOST * reward_std, MOST * reward_std)


def kept_mean(ends_early_since: int | None, explore_steps: int, now: int, steps: int) -> float:
    """Share of the reward's mean that is paid: none where no episode ends early, all of it where episodes do.

    Early ends that the untrained policy meets are known before anything is paid. Where the first comes later, such as
    the first goal that is reached, the mean comes back little by little over a tenth of the run: the values that the
    learner has learned move with the mean, by many steps' worth of it, and would be wrong everywhere after a jump.

    Args:
        ends_early_since: environment steps after which an episode first ended by itself; None if none has.
        explore_steps: of the untrained policy, in which nothing is learned.
        now: environment steps taken.
        steps: of the whole run.
    """
    if ends_early_since is None:
        return 0.0
    return 1.0 if ends_early_since <= explore_steps else min(1.0, (now - ends_early_since) / (BLENDED * steps))
