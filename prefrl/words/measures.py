"""How good a reward model is: formulas over arrays, for those who may see the true reward.

Predictions against answers (accuracy, cross-entropy against its floor, calibration), learned against true returns
(Pearson, Spearman, where the two part), and distances between rewards that ignore what no policy can feel: EPIC
(Gleave et al. 2021) and DARD (Wulfe et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its parts load when they are used: scipy.stats alone takes a second
from numpy.typing import NDArray

Array = NDArray[np.float64]
ROUNDING = 1e-12  # of a sum of rewards, by which the order of its terms may change it
SMOOTHED = 5  # phases that `parted` averages over: one phase's episodes say little
LOST_SHARE = 0.2  # of what the true return had gained, before `parted` calls it lost
CERTAIN = 4.0  # standard errors that it must have lost: noise alone gets there in 2 runs of 100


def answers_of(returns: Array) -> Array:
    """An exact oracle's answer to pairs (n, 2) of returns: mu (n,), 1 left, 0 right, 0.5 equal, NaN if one is NaN.

    Returns that differ by rounding alone are equal.
    """
    gap = returns[:, 0] - returns[:, 1]
    return (1 + np.sign(np.where(np.abs(gap) <= ROUNDING * np.abs(returns).max(1), 0.0, gap))) / 2


def accuracy(predicted: Array, mu: Array) -> float:
    """Share of the decided answers on whose side the prediction P[left > right] is; NaN if none is decided.

    A prediction of exactly one half takes no side, and is half right.
    """
    decided = (mu == 0) | (mu == 1)
    if not decided.any():
        return math.nan
    p = predicted[decided]
    return float(np.where(p == 0.5, 0.5, (p > 0.5) == (mu[decided] > 0.5)).mean())


def cross_entropy(predicted: Array, mu: Array) -> float:
    """Mean of -(mu log P + (1 - mu) log(1 - P)), in nats; NaN without answers."""
    return (
        float(-(scipy.special.xlogy(mu, predicted) + scipy.special.xlog1py(1 - mu, -predicted)).mean())
        if len(mu)
        else math.nan
    )


def cross_entropy_floor(mu: Array, noise_floor: float) -> float:
    """The least cross-entropy a model with this noise floor can have on these answers, in nats.

    A decided answer costs at least -log(1 - noise_floor / 2), which is 0.0513 for the paper's 0.1; a tie log 2.
    """
    best = np.where(mu == 0.5, 0.5, np.abs(mu - noise_floor / 2))
    return cross_entropy(best, mu)


def brier(predicted: Array, mu: Array) -> float:
    """Mean squared distance of the prediction from the answer; NaN without answers."""
    return float(np.square(predicted - mu).mean()) if len(mu) else math.nan


@dataclass(frozen=True)
class Reliability:
    """How often the predicted side was right, by how sure the prediction was: bins that hold anything.

    Attributes:
        confidence: (b,) mean predicted probability of the predicted side, at least one half.
        accuracy: (b,) share of these in which it was the answer.
        count: (b,) answers in the bin.
    """

    confidence: Array
    accuracy: Array
    count: Array

    @property
    def error(self) -> float:
        """Expected calibration error: mean of |accuracy - confidence|, weighted by count."""
        return (
            float(np.average(np.abs(self.accuracy - self.confidence), weights=self.count))
            if len(self.count)
            else (math.nan)
        )


def reliability(predicted: Array, mu: Array, bins: int = 10) -> Reliability:
    """The reliability curve over equal bins of confidence in [0.5, 1]; ties, which no side is right about, are out."""
    decided = (mu == 0) | (mu == 1)
    p, answer = predicted[decided], mu[decided]
    sure = np.maximum(p, 1 - p)
    right = np.where(p == 0.5, 0.5, (p > 0.5) == (answer > 0.5))
    edges = np.linspace(0.5, 1.0, bins + 1)
    if not len(sure):
        return Reliability(*np.zeros((3, 0)))
    (count, confidence, correct), _, _ = scipy.stats.binned_statistic(
        sure, [np.ones_like(sure), sure, right], statistic="sum", bins=edges
    )
    full = count > 0
    return Reliability(confidence[full] / count[full], correct[full] / count[full], count[full])


def correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Pearson's correlation coefficient; NaN of fewer than three values, and where either is constant or not finite."""
    if len(a) < 3 or not (np.isfinite(a).all() and np.isfinite(b).all()) or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Spearman's: Pearson's of the ranks, ties sharing theirs; NaN where that is."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.nan
    return correlation(scipy.stats.rankdata(a), scipy.stats.rankdata(b))


def pearson_distance(a: Array, b: Array) -> float:
    """sqrt((1 - rho) / 2), in [0, 1]: 0 for rewards that differ by a positive scale and a shift, 1 for opposites."""
    return math.sqrt(max(0.0, (1 - correlation(a, b)) / 2)) if not math.isnan(correlation(a, b)) else math.nan


@dataclass(frozen=True)
class Probe:
    """One reward, asked at n transitions s, a, s' and at m actions A around each of them.

    What A leads to is S' from s and S'' from s'; A is drawn without looking at the state.

    Attributes:
        step: (n,) R(s, a, s').
        at_state: (n, m) R(s, A, S').
        at_next: (n, m) R(s', A, S'').
        after: (n, m) R(S', A, S''), one step further on from s.
    """

    step: Array
    at_state: Array
    at_next: Array
    after: Array


def epic(one: Probe, other: Probe, discount: float) -> float:
    """EPIC distance: Pearson's, of rewards made canonical by C(R) = R + E[g R(s',A,S') - R(s,A,S') - g R(S,A,S')].

    Expectations are over the same m draws for both rewards. The last term is one number for all transitions, and
    nothing here. Blind to scale, shift and potential shaping g phi(s') - phi(s), exactly, if S' is drawn without
    looking at the state; probes of a simulator can only look where it goes, which for rewards that are functions of
    (s, a), as a learned one is, makes no difference.
    """
    canonical = [p.step + discount * p.at_next.mean(1) - p.at_state.mean(1) for p in (one, other)]
    return pearson_distance(*canonical)


def dard(one: Probe, other: Probe, discount: float) -> float:
    """DARD: as EPIC, but C(R) = R + E[g R(s',A,S'') - R(s,A,S') - g R(S',A,S'')] asks only where one can get.

    S' follows s under A, and S'' follows s', so that the last term differs from transition to transition.
    """
    canonical = [p.step + (discount * p.at_next - p.at_state - discount * p.after).mean(1) for p in (one, other)]
    return pearson_distance(*canonical)


def smoothed(true_returns: Sequence[float]) -> Array:
    """Means over every `SMOOTHED` phases in a row, of those in which an episode finished; empty if they are fewer."""
    finished = np.array([value for value in true_returns if math.isfinite(value)])
    if len(finished) < SMOOTHED:
        return np.zeros(0)
    means: Array = np.lib.stride_tricks.sliding_window_view(finished, SMOOTHED).mean(-1)
    return means


def parted(true_returns: Sequence[float], approval: float) -> bool:
    """Whether the learned reward still approves while the true return is being lost: the sign of a hacked reward.

    True when, averaged over the newest phases, the true return has fallen from its best so far by a fifth of all it had
    ever gained, and by more than its ups and downs explain, four standard errors of the difference of two such
    averages; and when r-hat pays no less for the newest behaviour than for that of the best phases.

    Args:
        true_returns: mean true return of each phase so far; NaN where no episode finished.
        approval: how much more r-hat, as it is now, pays a step of the newest behaviour than one of the best.
    """
    means = smoothed(true_returns)
    if len(means) <= SMOOTHED:
        return False
    finished = np.array([value for value in true_returns if math.isfinite(value)])
    best, gained = means.max(), np.ptp(means[: int(means.argmax()) + 1])
    noise = np.diff(finished).std() / math.sqrt(2)  # of one phase, whatever the trend
    least = max(LOST_SHARE * gained, CERTAIN * noise * math.sqrt(2 / SMOOTHED))
    return bool(gained > 0 and best - means[-1] > least and approval >= 0)
