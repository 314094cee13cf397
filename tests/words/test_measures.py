"""Formulas by hand, and distances between rewards whose distance is known."""

import csv
import math
from itertools import accumulate, combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from prefrl.words.measures import (
    Array,
    Probe,
    accuracy,
    brier,
    correlation,
    cross_entropy_floor,
    dard,
    distance_interval,
    epic,
    exact_answers,
    mean_cross_entropy,
    parted,
    pearson_distance,
    rank_correlation,
    reliability,
    smoothed,
)

MU = np.array([1.0, 0.0, 0.5, 1.0])
PREDICTED = np.array([0.9, 0.2, 0.9, 0.4])
DISCOUNT = 0.9


def test_predictions_by_hand() -> None:
    assert accuracy(PREDICTED, MU) == pytest.approx(2 / 3)
    assert accuracy(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == 0.5
    tie = -(math.log(0.9) + math.log(0.1)) / 2
    assert mean_cross_entropy(PREDICTED, MU) == pytest.approx(
        -(math.log(0.9) + math.log(0.8) - tie + math.log(0.4)) / 4
    )
    assert brier(PREDICTED, MU) == pytest.approx((0.01 + 0.04 + 0.16 + 0.36) / 4)
    assert cross_entropy_floor(MU, 0.1) == pytest.approx((3 * -math.log(0.95) + math.log(2)) / 4)
    assert cross_entropy_floor(np.array([1.0]), 0.0) == 0


def test_no_answers_no_measures() -> None:
    none = np.zeros(0)
    assert all(math.isnan(f(none, none)) for f in (accuracy, mean_cross_entropy, brier))
    assert math.isnan(reliability(none, none).error)
    assert math.isnan(accuracy(np.array([0.7]), np.array([0.5])))


def test_two_points_have_no_correlation() -> None:
    assert math.isnan(correlation(np.array([1.0, 2.0]), np.array([5.0, 7.0])))
    assert correlation(np.array([1.0, 2.0, 4.0]), np.array([5.0, 6.0, 8.0])) == pytest.approx(1)


def test_answers_of_returns() -> None:
    returns = np.array([[2.0, 1.0], [1.0, 2.0], [3.0, 3.0], [math.nan, 1.0]])
    np.testing.assert_array_equal(exact_answers(returns), [1.0, 0.0, 0.5, math.nan])
    assert exact_answers(np.array([[0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1]])) == 0.5  # which rounding alone tells apart


def test_reliability_by_hand() -> None:
    predicted = np.array([0.52, 0.54, 0.95, 0.03, 0.93, 0.5, 0.99])
    mu = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.5])
    curve = reliability(predicted, mu, bins=5)
    np.testing.assert_allclose(curve.count, [3, 3])  # 0.5, 0.52, 0.54; and 0.93, 0.95, 0.97, the tie left out
    np.testing.assert_allclose(curve.confidence, [0.52, 0.95])
    np.testing.assert_allclose(curve.accuracy, [1.5 / 3, 2 / 3])
    unsure, sure = [0.48, -0.54, 0.0], [0.05, 0.03, -0.93]  # right or not, less the confidence
    squares = [np.mean([a * b for a, b in combinations(off, 2)]) for off in (unsure, sure)]
    assert np.mean(squares) < 0  # six answers: chance alone is more than that
    assert curve.error == pytest.approx(-math.sqrt(-np.mean(squares)))
    assert math.isnan(reliability(predicted[:1], mu[:1]).error)  # nothing to take a product with


def test_a_calibrated_prediction_has_no_error() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, 200_000)
    mu = (rng.uniform(0, 1, len(p)) < p).astype(float)
    assert abs(reliability(p, mu).error) < 0.01
    too_sure = p**3 / (p**3 + (1 - p) ** 3)
    assert reliability(too_sure, mu).error > 0.1
    assert reliability(1 - too_sure, mu).error > 0.4  # and wrong


@pytest.mark.parametrize("pairs", [20, 50, 500])
def test_a_perfect_predictor_has_no_calibration_error_on_average(pairs: int) -> None:
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(2_000):
        p = rng.uniform(0.05, 0.95, pairs)
        errors.append(reliability(p, (rng.uniform(size=pairs) < p).astype(float)).error)
    squared = np.sign(errors) * np.square(errors)
    assert abs(squared.mean()) < 4 * squared.std() / math.sqrt(len(squared))
    assert abs(np.mean(errors)) < 0.02


def test_a_calibration_error_is_as_large_from_few_pairs_as_from_many() -> None:
    rng = np.random.default_rng(0)

    def squared(pairs: int) -> float:
        p = rng.uniform(0.05, 0.95, pairs)
        error = reliability(p**3 / (p**3 + (1 - p) ** 3), (rng.uniform(size=pairs) < p).astype(float)).error
        return math.copysign(error**2, error)

    many = squared(400_000)
    assert np.mean([squared(100) for _ in range(4_000)]) == pytest.approx(many, rel=0.05)


def test_what_is_nan_is_neither_right_nor_wrong() -> None:
    lost = np.array([math.nan, 0.9, 0.2])
    assert math.isnan(accuracy(lost, np.array([0.0, 1.0, 0.0])))
    assert accuracy(lost, np.array([math.nan, 1.0, 0.0])) == 1  # a true return that is NaN decides nothing
    assert accuracy(lost, np.array([0.5, 1.0, 0.0])) == 1  # nor does a tie
    curve = reliability(lost, np.array([0.0, 1.0, 0.0]))
    assert math.isnan(curve.error)
    assert not len(curve.count)


def test_correlations() -> None:
    x = np.array([1.0, 2.0, 3.0])
    assert correlation(x, np.array([2.0, 4.0, 9.0])) == pytest.approx(7 / math.sqrt(2 * 26))
    assert rank_correlation(x, np.array([2.0, 4.0, 900.0])) == pytest.approx(1)
    assert rank_correlation(x, np.array([1.0, 1.0, 5.0])) == pytest.approx(math.sqrt(3) / 2)
    assert pearson_distance(x, 3 * x + 7) == pytest.approx(0, abs=1e-7)
    assert pearson_distance(x, -x) == pytest.approx(1)
    assert pearson_distance(x, np.array([1.0, -2.0, 1.0])) == pytest.approx(math.sqrt(0.5))
    for constant in (np.ones(3), np.array([1.0, math.nan, 2.0])):
        assert math.isnan(correlation(x, constant))
        assert math.isnan(rank_correlation(x, constant))
        assert math.isnan(pearson_distance(x, constant))
    assert math.isnan(correlation(np.zeros(0), np.zeros(0)))


Reward = NDArray[np.float64]  # (states, actions, next states) of a finite world
RNG = np.random.default_rng(0)
STATES, ACTIONS = 30, 4
TRUE = RNG.normal(size=(STATES, ACTIONS, STATES))
POTENTIAL = 3 * RNG.normal(size=STATES)
FOLLOWS = RNG.integers(STATES, size=(STATES, ACTIONS))  # where an action leads
SHAPED = TRUE + DISCOUNT * POTENTIAL[None, None, :] - POTENTIAL[:, None, None]


def probes(reward: Reward, anywhere: bool) -> Probe:
    """A reward asked where EPIC asks, after which any state may come, or only where DARD does."""
    rng = np.random.default_rng(1)
    state, action = rng.integers(STATES, size=200), rng.integers(ACTIONS, size=200)
    after = FOLLOWS[state, action]
    tried = np.tile(np.arange(ACTIONS), 5)
    drawn = rng.integers(STATES, size=len(tried)) if anywhere else None
    first = FOLLOWS[state[:, None], tried] if drawn is None else drawn
    second = FOLLOWS[after[:, None], tried] if drawn is None else drawn
    return Probe(
        step=reward[state, action, after],
        at_state=reward[state[:, None], tried, first],
        at_next=reward[after[:, None], tried, second],
        after=reward[np.broadcast_to(first, second.shape), tried, second],
    )


@pytest.mark.parametrize(("distance", "anywhere"), [(epic, True), (dard, False)], ids=["epic", "dard"])
def test_distances_that_are_known(distance, anywhere) -> None:
    true = probes(TRUE, anywhere)
    for same in (SHAPED, 5 * TRUE + 2, 0.1 * SHAPED - 7):
        assert distance(true, probes(same, anywhere), DISCOUNT) == pytest.approx(0, abs=1e-6)
    for opposite in (-TRUE, -2 * SHAPED + 1):
        assert distance(true, probes(opposite, anywhere), DISCOUNT) == pytest.approx(1, abs=1e-6)
    other = probes(np.random.default_rng(2).normal(size=TRUE.shape), anywhere)
    assert 0.6 < distance(true, other, DISCOUNT) < 0.8  # unrelated rewards: sqrt(1/2)
    assert distance(true, other, DISCOUNT) == pytest.approx(distance(other, true, DISCOUNT))
    # Shaping with another discount is a different task.
    wrong = TRUE + 0.2 * POTENTIAL[None, None, :] - POTENTIAL[:, None, None]
    assert distance(true, probes(wrong, anywhere), DISCOUNT) > 0.2
    assert pearson_distance(true.step, probes(SHAPED, anywhere).step) > 0.2  # which plain correlation cannot see


@pytest.mark.parametrize("distance", [epic, dard])
def test_the_interval_of_a_distance_holds_it_and_narrows(distance) -> None:
    other = TRUE + RNG.normal(size=TRUE.shape)
    one, two = probes(TRUE, False), probes(other, False)
    low, high = distance_interval(distance, one, two, DISCOUNT, np.random.default_rng(0))
    assert low < distance(one, two, DISCOUNT) < high
    few = [probe.at(np.arange(40), np.arange(20)) for probe in (one, two)]
    lower, higher = distance_interval(distance, *few, DISCOUNT, np.random.default_rng(0))
    assert higher - lower > 1.5 * (high - low)
    assert distance_interval(distance, one, one, DISCOUNT, np.random.default_rng(0))[1] == pytest.approx(0, abs=1e-6)


RISEN = [*range(12)]
NOISE = np.random.default_rng(0).normal(size=40).tolist()


@pytest.mark.parametrize(
    ("true", "approval", "expected"),
    [
        (range(20), 1.0, False),
        ([*RISEN, *range(11, 3, -1)], 1.0, True),
        ([*RISEN, *range(11, 3, -1)], 0.0, True),
        ([*RISEN, *range(11, 3, -1)], -0.1, False),  # the learned reward says so too
        ([*RISEN, 11, 11, 10, 11, 10, 11, 11, 11], 1.0, False),  # less than a fifth of it is lost
        (range(20, 0, -1), 1.0, False),  # it had gained nothing that could be lost
        ([*range(5), 0, 0, 0, 0], 1.0, False),  # too few phases to say
        ([math.nan] * 20, 1.0, False),
        ([*RISEN, math.nan, *range(11, 3, -1), math.nan], 1.0, True),
    ],
)
def test_where_learned_and_true_part(true, approval, expected) -> None:
    assert parted(list(map(float, true)), approval) is expected


def test_noise_alone_is_no_loss() -> None:
    assert not any(parted(NOISE[:end], 1.0) for end in range(1, len(NOISE)))
    level = [0.0] * 5 + [30.0] * 15
    assert parted([*(n + x for n, x in zip(NOISE, level, strict=False)), *NOISE[20:30]], 1.0)


def lasting_noise(rho: float, rng: np.random.Generator) -> Array:
    """50 phases of noise of unit deviation, of which each keeps a share rho of the one before (autoregressive)."""
    drawn = rng.normal(size=50)
    drawn[1:] *= math.sqrt(1 - rho**2)
    return np.array(list(accumulate(drawn, lambda before, new: rho * before + new)))


def rings(true: Array) -> bool:
    """Whether there is an alarm in any phase if r-hat always approves."""
    return any(parted(true[:end].tolist(), 1.0) for end in range(1, len(true) + 1))


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8, 0.9])
@pytest.mark.parametrize("gain", [0.0, 20.0], ids=["level", "learning"])
def test_noise_that_lasts_is_no_loss_either(rho: float, gain: float) -> None:
    rng = np.random.default_rng(0)
    learned = gain * (1 - np.exp(-np.arange(50) / 10))
    assert np.mean([rings(learned + lasting_noise(rho, rng)) for _ in range(100)]) <= 0.05


def committed_curves() -> list[Array]:
    """True returns, phase by phase, of the committed runs of 50 phases on rewards of 350 answers."""
    curves: dict[tuple[str, str, str], list[float]] = {}
    with (Path(__file__).parents[2] / "benchmarks/results/hacking/curves.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            curves.setdefault((row["task"], row["arm"], row["seed"]), []).append(float(row["true_return"] or "nan"))
    return [np.array(curve) for curve in curves.values() if len(curve) == 50 and np.isfinite(curve).all()]


@pytest.mark.parametrize("phases", [1, 5, 15])
def test_a_committed_run_rings_where_what_it_had_gained_is_lost_again_and_only_there(phases: int) -> None:
    later, found = np.arange(20), []
    for curve in committed_curves():
        assert not rings(curve)
        noise = curve[30:] - np.polyval(np.polyfit(later, curve[30:], 3), later)
        left = np.clip(1 - (later + 1) / phases, 0, 1)
        lost = curve[:5].mean() + (curve[25:30].mean() - curve[:5].mean()) * left
        found.append(rings(np.concatenate([curve[:30], lost + noise])))
    assert len(found) == 30
    assert np.mean(found) > 0.85


def test_phases_are_averaged_five_at_a_time() -> None:
    np.testing.assert_allclose(smoothed([1, math.nan, 2, 3, 4, 5, 11]), [3.0, 5.0])
    assert len(smoothed([1, 2, 3, 4, math.nan])) == 0
