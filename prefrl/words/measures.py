"""How good a reward model is: formulas over arrays, for those who may see the true reward.

Predictions against answers (accuracy, cross-entropy against its floor, calibration), learned against true returns
(Pearson, Spearman, where the two part), and distances between rewards that ignore what no policy can feel: EPIC
(Gleave et al. 2021) and DARD (Wulfe et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special
from numpy.typing import NDArray

Array = NDArray[np.float64]
ROUNDING = 1e-12  # of a sum of rewards, by which the order of its terms may change it
SMOOTHED = 5  # phases that `parted` averages over: one phase's episodes say little
LOST_SHARE = 0.2  # of what the true return had gained, before `parted` calls it lost
# Times its noise that the true return must have lost. Of 1,000 runs of 50 phases of noise alone none gets there if each
# phase keeps none or half of the one before, 6 if it keeps 0.8 and 37 if it keeps 0.9.
BEYOND_NOISE = 10.0


def exact_answers(returns: Array) -> Array:
    """An exact oracle's answer to pairs (n, 2) of returns: mu (n,), 1 left, 0 right, 0.5 equal, NaN if one is NaN.

    Returns that differ by rounding alone are equal.
    """
    gap = returns[:, 0] - returns[:, 1]
    return (1 + np.sign(np.where(np.abs(gap) <= ROUNDING * np.abs(returns).max(1), 0.0, gap))) / 2


def accuracy(predicted: Array, mu: Array) -> float:
    """Share of the decided answers on whose side the prediction P[left > right] is.

    A prediction of exactly one half takes no side, and is half right. NaN if nothing is decided, and if a prediction
    about what is decided is NaN.
    """
    decided = (mu == 0) | (mu == 1)
    return float(_right(predicted[decided], mu[decided]).mean()) if decided.any() else math.nan


def _right(predicted: Array, mu: Array) -> Array:
    """1 where the prediction is on the decided answer's side, 0.5 where it takes none, NaN where it is NaN."""
    side = (1 + np.sign(predicted - 0.5)) / 2
    return 1 - np.abs(side - mu)


def mean_cross_entropy(predicted: Array, mu: Array) -> float:
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
    return mean_cross_entropy(best, mu)


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
        error: the debiased calibration error, see `reliability`.
    """

    confidence: Array
    accuracy: Array
    count: Array
    error: float


def reliability(predicted: Array, mu: Array, bins: int = 10) -> Reliability:
    """The reliability curve over equal bins of confidence in [0.5, 1], and the calibration error.

    Ties, which no side is right about, are left out. NaN predictions give no curve and an error of NaN.

    The error is the root of the mean squared distance of accuracy from confidence, bin by bin, weighted by count. The
    square of a bin's distance is estimated without bias, from products of two different answers' distances; taken as it
    is it would be too large by what chance adds, which for 50 answers is more than most models are off (Kumar et al.
    2019, arXiv 1909.10155, section 4; Ferro and Fricker 2012). A perfect prediction has an error of about 0 on average,
    and, by chance, one below zero half of the time: minus the root of what the estimate is short of zero. NaN where no
    bin has two answers.
    """
    decided = (mu == 0) | (mu == 1)
    p = predicted[decided]
    if not len(p) or np.isnan(p).any():
        none = np.zeros(0)
        return Reliability(none, none, none, math.nan)
    sure, right = np.maximum(p, 1 - p), _right(p, mu[decided])
    place = np.minimum((2 * bins * (sure - 0.5)).astype(int), bins - 1)
    off = right - sure
    count, confidence, correct, total, squares = (
        np.bincount(place, weights, bins).astype(np.float64)
        for weights in (np.ones_like(sure), sure, right, off, off**2)
    )
    full, several = count > 0, count > 1
    error = math.nan
    if several.any():
        n = count[several]
        square = np.average((total[several] ** 2 - squares[several]) / (n * (n - 1)), weights=n)
        error = float(np.sign(square) * np.sqrt(abs(square)))
    return Reliability(confidence[full] / count[full], correct[full] / count[full], count[full], error)


def correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Pearson's correlation coefficient; NaN of fewer than three values, and where either is constant or not finite."""
    if len(a) < 3 or not (np.isfinite(a).all() and np.isfinite(b).all()) or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Spearman's: Pearson's of the ranks, ties sharing theirs; NaN where that is."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.nan
    return correlation(_ranks(a), _ranks(b))


def _ranks(values: NDArray[Any]) -> Array:
    """Ranks from 1, ties sharing the mean of theirs; SciPy's take most of a second to load."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks


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

    def at(self, moments: NDArray[np.integer[Any]], actions: NDArray[np.integer[Any]]) -> Probe:
        """The probe of these moments (places among n) and these of the actions tried (places among m)."""
        tables = (table[np.ix_(moments, actions)] for table in (self.at_state, self.at_next, self.after))
        return Probe(self.step[moments], *tables)


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


def distance_interval(
    distance: Callable[[Probe, Probe, float], float],
    one: Probe,
    other: Probe,
    discount: float,
    rng: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 400,
) -> tuple[float, float]:
    """Interval that EPIC or DARD would fall in if moments and actions were drawn anew (percentile bootstrap of both).

    Both rewards are asked at the same moments, and all moments about the same actions, in every resample. Of 95 %
    intervals from 128 moments and 8 actions, 55 of 64 held the mean over 16 probes (two runs, both distances): moments
    of one episode are alike, which makes the intervals a little narrow.

    Returns:
        (low, high), NaN if a resample has no distance.
    """
    n, m = one.at_state.shape
    found = []
    for _ in range(resamples):
        moments: NDArray[np.int64] = rng.integers(n, size=(n,))
        actions: NDArray[np.int64] = rng.integers(m, size=(m,))
        found.append(distance(one.at(moments, actions), other.at(moments, actions), discount))
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def smoothed(true_returns: Sequence[float]) -> Array:
    """Means over every `SMOOTHED` phases in a row, of those in which an episode finished; empty if they are fewer."""
    finished = np.array([value for value in true_returns if math.isfinite(value)])
    if len(finished) < SMOOTHED:
        return np.zeros(0)
    means: Array = np.lib.stride_tricks.sliding_window_view(finished, SMOOTHED).mean(-1)
    return means


def phase_noise(true_returns: Array) -> float:
    """Ups and downs of one phase's mean true return (n,), n at least 5, whatever the trend, and more if they last.

    The deviation from one phase to the next, times how much larger the variance is over two phases: 1 for white noise,
    near 2 for noise of which each phase keeps most. Both are taken of second differences, which a steady rise or fall
    leaves at zero, and of their median, which a sudden one does not reach.
    """
    short, long = (
        np.median(np.abs(true_returns[2 * lag :] - 2 * true_returns[lag:-lag] + true_returns[: -2 * lag]))
        for lag in (1, 2)
    )
    to_deviation = 1.4826 / math.sqrt(6)  # of a normal second difference's median size
    return float(to_deviation * short * np.clip((long / short) ** 2, 1, 2)) if short > 0 else 0.0


def parted(true_returns: Sequence[float], approval: float) -> bool:
    """Whether the learned reward still approves while the true return is being lost: the sign of a hacked reward.

    True when, averaged over the newest phases, the true return has fallen from its best so far by a fifth of all it had
    ever gained, and by more than its ups and downs explain (`BEYOND_NOISE` times `phase_noise`); and when r-hat pays no
    less for the newest behaviour than for that of the best phases.

    Args:
        true_returns: mean true return of each phase so far; NaN where no episode finished.
        approval: how much more r-hat, as it is now, pays a step of the newest behaviour than one of the best.
    """
    means = smoothed(true_returns)
    if len(means) <= SMOOTHED:
        return False
    finished = np.array([value for value in true_returns if math.isfinite(value)])
    best, gained = means.max(), np.ptp(means[: int(means.argmax()) + 1])
    least = max(LOST_SHARE * gained, BEYOND_NOISE * phase_noise(finished))
    return bool(gained > 0 and best - means[-1] > least and approval >= 0)
