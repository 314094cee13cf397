"""Results from few seeds: hand-worked numbers, and how often the intervals are right."""

import math

import numpy as np
import pytest
from scipy import stats

from prefrl.words.errors import UserError
from prefrl.words.stats import (
    align_curves,
    bootstrap_interval,
    bootstrap_share_interval,
    final_return,
    interquartile_mean,
    probability_of_improvement,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0], 5.0),
        ([1.0, 2.0, 9.0], 4.0),  # three values: nothing is cut
        ([100.0, 2.0, 3.0, -50.0], 2.5),  # four: one from each end
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 60.0], 3.0),  # seven: still one
        ([0.0, 0.0, 2.0, 3.0, 4.0, 7.0, 80.0, 90.0], 4.0),  # eight: two
    ],
)
def test_interquartile_mean_by_hand(values, expected):
    result = interquartile_mean(values)
    assert isinstance(result, float)
    assert result == expected


def test_interquartile_mean_along_an_axis():
    x = np.array([[1.0, 2, 3, 40], [10, 20, 30, -4]])
    assert interquartile_mean(x, axis=1).tolist() == [2.5, 15.0]
    assert interquartile_mean(x, axis=0).tolist() == [5.5, 11.0, 16.5, 18.0]
    assert interquartile_mean(x) == 8.75  # of -4 1 2 3 10 20 30 40 the middle is 2 3 10 20


def test_a_seed_that_diverged_is_not_trimmed_away():
    x = np.array([[1.0, 2, 3, 4, 5, 6, 7, np.nan], [1, 2, 3, 4, 5, 6, 7, 8]])
    assert math.isnan(interquartile_mean(x[0]))
    np.testing.assert_array_equal(interquartile_mean(x, axis=1), [np.nan, 4.5])
    rng = np.random.default_rng(0)
    assert all(math.isnan(end) for end in bootstrap_interval(x, interquartile_mean, rng, resamples=50))


def test_the_interval_of_three_seeds_is_their_range():
    # The worst seed is drawn three times in 1 of 27 resamples, 3.7 %, which is more than the 2.5 % cut off.
    interval = bootstrap_interval([[3.0, 1.0, 2.0]], np.mean, np.random.default_rng(0), resamples=20_000)
    assert interval == (1.0, 3.0)


def test_tasks_are_strata():
    # Within a task all seeds agree, so drawing seeds anew changes nothing, however far apart the tasks are.
    samples = np.array([[0.0] * 4, [100.0] * 4])
    assert bootstrap_interval(samples, np.mean, np.random.default_rng(0)) == (50.0, 50.0)
    ragged = [np.zeros(3), np.full(6, 30.0)]
    assert bootstrap_interval(ragged, np.mean, np.random.default_rng(0)) == (20.0, 20.0)


def test_the_width_is_the_standard_error_of_the_strata():
    rng = np.random.default_rng(1)
    samples = [rng.normal(0, 1, 200), rng.normal(500, 4, 100)]
    low, high = bootstrap_interval(samples, np.mean, rng, resamples=20_000)
    error = math.sqrt(200 * samples[0].var() + 100 * samples[1].var()) / 300
    assert (high - low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.04)
    assert (low + high) / 2 == pytest.approx(np.concatenate(samples).mean(), abs=0.1 * error)


def test_the_interval_agrees_with_scipy_on_one_task():
    rng = np.random.default_rng(2)
    seeds = rng.exponential(size=30)
    ours = bootstrap_interval([seeds], interquartile_mean, rng, confidence=0.9, resamples=20_000)
    theirs = stats.bootstrap(
        (seeds,),
        lambda x, axis: stats.trim_mean(x, 0.25, axis=axis),
        n_resamples=20_000,
        confidence_level=0.9,
        method="percentile",
        rng=rng,
    ).confidence_interval
    np.testing.assert_allclose(ours, theirs, atol=0.03 * (theirs.high - theirs.low))


@pytest.mark.parametrize("seeds", [3, 20])
def test_how_often_the_interval_covers_the_truth(seeds):
    # Three seeds: their range misses the mean of a symmetric distribution when all fall on one side, 1 in 4. More
    # seeds: as often as a t variable with n - 1 degrees stays below the normal quantile times sqrt((n - 1) / n).
    rng = np.random.default_rng(3)
    trials = 1500
    intervals = [bootstrap_interval([rng.normal(size=seeds)], np.mean, rng) for _ in range(trials)]
    covered = np.mean([low <= 0 <= high for low, high in intervals])
    normal = stats.norm.ppf(0.975) * math.sqrt((seeds - 1) / seeds)
    theory = 0.75 if seeds == 3 else 1 - 2 * stats.t.sf(normal, seeds - 1)
    assert covered == pytest.approx(theory, abs=3 * math.sqrt(theory * (1 - theory) / trials))


def test_intervals_come_from_the_generator_alone():
    samples = np.random.default_rng(4).normal(size=(3, 5))
    first, again, other = (bootstrap_interval(samples, np.mean, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert first == again != other


def test_more_confidence_is_wider():
    samples = np.random.default_rng(5).normal(size=(2, 10))
    narrow, wide = (bootstrap_interval(samples, np.mean, np.random.default_rng(0), level) for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        ([1.0, 2.0, 3.0], {}, "for a single task give a list of one array"),
        ([], {}, "for each task"),
        ([[1.0], []], {}, r"shapes \[\(1,\), \(0,\)\]"),
        ([[1.0, 2.0]], {"confidence": 95}, "between 0 and 1, for example 0.95: got 95"),
        ([[1.0, 2.0]], {"resamples": 0}, "at least 1 resample.*got 0"),
    ],
)
def test_an_impossible_bootstrap_is_explained(samples, options, message):
    with pytest.raises(UserError, match=message):
        bootstrap_interval(samples, np.mean, np.random.default_rng(0), **options)


def test_a_share_is_no_surer_than_what_it_is_a_share_of():
    """Of one distribution for both, 1 lies in 95 of 100 intervals, and in fewer if the reference is taken for known."""
    rng, covered, of_known = np.random.default_rng(0), 0, 0
    for _ in range(100):
        samples, references = rng.normal(1, 0.4, (2, 8, 5))
        low, high = bootstrap_share_interval(list(samples), list(references), rng, resamples=300)
        covered += low <= 1 <= high
        known = [a / interquartile_mean(b) for a, b in zip(samples, references, strict=True)]
        low, high = bootstrap_interval(known, interquartile_mean, rng, resamples=300)
        of_known += low <= 1 <= high
    assert covered >= 89
    assert of_known < covered


def test_shares_by_hand():
    rng = np.random.default_rng(0)
    assert bootstrap_share_interval([[1.0, 1.0], [4.0]], [[2.0], [8.0, 8.0]], rng) == (0.5, 0.5)
    low, high = bootstrap_share_interval([[1.0]], [[1.0, -3.0]], rng)  # at times no better than nothing
    assert low == 1
    assert high > 1e6


@pytest.mark.parametrize("axis", [None, 0])
def test_the_mean_of_nothing_is_explained(axis):
    with pytest.raises(UserError, match="at least one value"):
        interquartile_mean([], axis=axis)


def test_final_return_by_hand():
    steps, returns = np.arange(1, 11) * 1000, np.arange(10.0)
    assert final_return(steps, returns) == 9.0
    assert final_return(steps, returns, share=0.3) == 8.0
    assert final_return(steps, returns, share=1.0) == 4.5


@pytest.mark.parametrize("tenths", range(1, 11))
def test_final_return_counts_exactly_the_share_of_an_even_curve(tenths):
    steps = np.arange(1, 101) * 163_840
    assert final_return(steps, np.arange(100.0), share=tenths / 10) == np.arange(100 - 10 * tenths, 100).mean()


def test_final_return_of_a_sparse_curve_is_its_last_point():
    assert final_return([0, 10, 1000], [5.0, 6.0, 7.0]) == 7.0
    assert final_return([0], [3.0]) == 3.0
    assert final_return([500, 1000, 1000], [0.0, 1.0, 2.0]) == 1.5  # two environments at the same step


def test_final_return_weighs_episodes_where_they_are_counted():
    steps, returns, episodes = [80, 91, 95, 100], [7.0, 100.0, 10.0, 40.0], [1, 90, 9, 1]
    assert final_return(steps, returns) == 50
    assert final_return(steps, returns, episodes=episodes) == pytest.approx((9_000 + 90 + 40) / 100)
    for wrong in ([1, 2], [1, 0, 2, 3], [1, float("nan"), 2, 3]):
        with pytest.raises(UserError, match="one episode or more"):
            final_return(steps, returns, episodes=wrong)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, math.nan])
def test_final_return_needs_a_share(share):
    with pytest.raises(UserError, match="above 0 and at most 1"):
        final_return([1, 2], [1.0, 2.0], share)


def test_align_curves_by_hand():
    curves = [([0, 10, 20], [0.0, 10.0, 0.0]), ([5, 15], [100.0, 200.0])]
    aligned = align_curves(curves, [0, 5, 10, 15, 20])
    np.testing.assert_array_equal(aligned, [[0, 5, 10, 5, 0], [np.nan, 100, 150, 200, np.nan]])


def test_align_curves_takes_the_mean_of_points_at_one_step():
    aligned = align_curves([([0, 10, 10, 10, 20], [0.0, 3.0, 6.0, 9.0, 0.0])], [5, 10, 15])
    np.testing.assert_array_equal(aligned, [[3, 6, 3]])


def test_no_curves_align_to_no_rows():
    assert align_curves([], [0, 1, 2]).shape == (0, 3)


@pytest.mark.parametrize(
    ("steps", "returns"),
    [([], []), ([1, 2], [1.0]), ([2, 1], [1.0, 2.0]), ([[1, 2]], [[1.0, 2.0]]), ([0, math.nan], [0, 1])],
)
def test_what_is_no_curve_is_explained(steps, returns):
    for call in (lambda: final_return(steps, returns), lambda: align_curves([(steps, returns)], [0, 1])):
        with pytest.raises(UserError, match="as many steps as returns"):
            call()


def test_the_probability_of_improvement_by_hand_and_its_interval() -> None:
    ours, theirs = [[1.0, 3.0], [5.0, 5.0, 6.0]], [[2.0], [5.0, 7.0]]
    chance, low, high = probability_of_improvement(ours, theirs, np.random.default_rng(0))
    assert chance == pytest.approx((1 / 2 + (0.5 + 0.5 + 1) / 6) / 2)  # a draw counts half
    assert low < chance < high
    assert probability_of_improvement([[2.0, 3.0]], [[0.0, 1.0]], np.random.default_rng(0)) == (1, 1, 1)
    assert np.isnan(probability_of_improvement([[np.nan, 3.0]], [[0.0, 1.0]], np.random.default_rng(0))[1])
