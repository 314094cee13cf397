"""When labels are asked for: the share of the online budget spent by a fraction of training, and exact counts.

Christiano et al. 2017 (arXiv 1706.03741), sections 2.2 and A.1; the alternatives are those of rl-teacher and
imitation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from prefrl.words.errors import UserError, in_short

Schedule = Callable[[float], float]


def annealed(t: float) -> float:
    """The paper's: labels at a rate c / (T + c) after T steps, c a tenth of the horizon (section A.1, A.2).

    f(t) = ln(1 + t / 0.1) / ln(1 + 1 / 0.1): half of the labels in the first quarter, eleven times as many at the
    start as at the end.
    """
    return math.log1p(10 * t) / math.log1p(10)


def constant(t: float) -> float:
    """Labels at one rate throughout: f(t) = t."""
    return t


def exponential(t: float) -> float:
    """rl-teacher's: a rate that falls to a hundredth, f(t) = (1 - 0.01^t) / (1 - 0.01)."""
    return (1 - math.pow(0.01, t)) / (1 - 0.01)


def hyperbolic(t: float) -> float:
    """imitation's: a rate 1 / (1 + t) that halves over training, f(t) = ln(1 + t) / ln 2."""
    return math.log1p(t) / math.log(2)


SCHEDULES: dict[str, Schedule] = {
    "annealed": annealed,
    "constant": constant,
    "exponential": exponential,
    "hyperbolic": hyperbolic,
}


def label_counts(labels: int, phases: int, initial_fraction: float, schedule: Schedule) -> list[int]:
    """How many labels to ask for at the start of each phase; together exactly `labels`.

    The first phase begins after the untrained policy's steps: its labels are the initial ones (paper, section A.1: a
    quarter of all), and a single phase has them all. The rest is the online budget. Of n phases that follow, the i-th
    asks for what the schedule has spent by the *end* of it, so that no label is asked after the last policy step. The
    running total is rounded, not the steps between, so rounding never adds up.

    Args:
        labels: the whole budget, at least 0.
        phases: how many phases training is cut into, at least 1.
        initial_fraction: share of the budget asked for before training, in [0, 1]; if both it and `labels` are
            positive, at least one label is.
        schedule: f(t), the share of the online budget spent by the fraction t of training: f(0) = 0, f(1) = 1,
            never falling.

    Returns:
        The labels of each phase, (phases,).

    Raises:
        UserError: an argument is out of range, or the schedule is not what its description says.
    """
    if labels < 0:
        raise UserError(f"labels must be 0 or more: got {labels}.")
    if phases < 1:
        raise UserError(f"training needs at least 1 phase, because labels are asked at the start of one: got {phases}.")
    if not 0 <= initial_fraction <= 1:
        raise UserError(f"the initial fraction of the labels must be between 0 and 1: got {initial_fraction}.")
    spent = _spent(schedule, max(1, phases - 1))
    if phases == 1:
        return [labels]
    initial = round(initial_fraction * labels)
    if labels > 0 and initial_fraction > 0:
        initial = max(initial, 1)
    totals = np.rint(spent * (labels - initial)).astype(np.int64)
    return [initial, *np.diff(totals).tolist()]


def in_sessions(labels: int, phases: int, each: int) -> list[int]:
    """As `label_counts`, so many at the start of each phase until all are spent.

    Raises:
        UserError: there are too few phases for them.
    """
    if labels > phases * each:
        raise UserError(
            f"{phases} sessions of {each} questions have no room for {labels} labels: ask for more in each "
            f"(session_labels={-(-labels // phases)}), or more often (session_steps, or phases)."
        )
    return [min(each, max(0, labels - each * number)) for number in range(phases)]


def _spent(schedule: Schedule, phases: int) -> NDArray[np.float64]:
    """(phases + 1,) the checked schedule at 0, 1/phases, ..., 1, beginning with exactly 0 and ending with exactly 1."""
    name = getattr(schedule, "__name__", repr(schedule))
    times = np.arange(phases + 1) / phases
    try:
        spent = np.array([float(schedule(float(t))) for t in times])
    except Exception as error:  # it may be the user's own
        raise UserError(
            f"schedule {name} failed ({in_short(error)}): it must be a function of one number, the fraction of "
            f"training done, that returns one number, the share of the labels asked by then."
        ) from error
    if not np.allclose(spent[[0, -1]], (0, 1), rtol=0, atol=1e-6):
        raise UserError(
            f"schedule {name} goes from {spent[0]:.6g} to {spent[-1]:.6g}, but a schedule is the share of the labels "
            f"asked so far, so it must go from 0 at the start of training to 1 at its end: subtract its first value "
            f"and divide by its last."
        )
    steps = np.diff(spent)
    if not (steps >= -1e-9).all():  # written so that NaN is refused as well
        worst = int(np.argmin(steps))
        raise UserError(
            f"schedule {name} goes from {spent[worst]:.6g} to {spent[worst + 1]:.6g} between {times[worst]:.4g} and "
            f"{times[worst + 1]:.4g} of training, but labels cannot be taken back: it must never fall."
        )
    spent[0], spent[-1] = 0, 1
    return np.clip(np.maximum.accumulate(spent), 0, 1)
