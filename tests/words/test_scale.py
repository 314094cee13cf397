"""What is taken from a reward and what the rest is divided by, by hand and over every kind of window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prefrl.experience.recorder import SAMPLE
from prefrl.words.scale import MOST, bounded, kept_mean, offset_and_scale


def taken(rewards, kept, last=1.0):
    """Offset and scale of one reward over this window."""
    window = np.asarray(rewards, np.float64)
    mean = window.mean()
    found = offset_and_scale(mean, window.std(), np.abs(window - mean).max(), kept, np.float64(last))
    return tuple(float(value) for value in found)


def test_the_mean_is_taken_away_and_the_rest_has_unit_deviation():
    assert taken([1, 3, 1, 3], kept=0) == (2, 1)


def test_where_the_mean_is_kept_the_root_mean_square_is_one():
    assert taken([1, 3, 1, 3], kept=1) == (0, np.sqrt(5))


def test_with_part_of_the_mean_what_is_left_has_a_root_mean_square_of_one():
    offset, scale = taken([1, 3, 1, 3], kept=0.25)
    paid = (np.array([1, 3]) - offset) / scale
    assert offset == 1.5
    assert np.sqrt(np.mean(paid**2)) == pytest.approx(1)


@pytest.mark.parametrize("kept", [0, 0.5, 1])
@pytest.mark.parametrize("reward", [1.0, -1.0, 0.1, -3e-12, 7e9])
def test_a_reward_that_does_not_vary_is_paid_as_one_or_minus_one(kept, reward):
    window = np.full(999, reward) * (1 + 1e-9 * np.sin(np.arange(999)))  # up to rounding
    offset, scale = taken(window, kept)
    assert (reward - offset) / scale == pytest.approx(np.sign(reward))


@pytest.mark.parametrize("kept", [0, 1])
def test_a_window_without_any_reward_leaves_the_scale_as_it_was(kept):
    assert taken(np.zeros(50), kept) == (0, 1)
    assert taken(np.zeros(50), kept, last=0.03) == (0, 0.03)


@pytest.mark.parametrize("kept", [0, 0.3, 1])
def test_units_of_the_reward_are_nothing_to_what_is_paid(kept):
    window = np.random.default_rng(0).normal(2, 1, 500)
    offset, scale = taken(window, kept)
    for unit in (1e-15, 1e15):
        assert taken(window * unit, kept) == pytest.approx((offset * unit, scale * unit), rel=1e-12)


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("seen", [0.0, 1e-6])
def test_a_rare_reward_that_a_sample_has_missed_is_paid_with_a_bound(kept, seen):
    offset, scale = (float(x) for x in offset_and_scale(*map(np.float64, (0.0, seen, 5000.0)), kept, np.float64(1e-9)))
    assert (5000 - offset) / scale == pytest.approx(MOST)


@given(arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e9, 1e9)), st.floats(0, 1))
def test_no_step_of_a_window_is_ever_paid_more_than_the_bound(window, kept):
    offset, scale = taken(window, kept)
    assert scale > 0
    assert np.abs((window - offset) / scale).max() <= MOST + 1


def test_nothing_in_a_sample_is_far_enough_for_the_bound_to_change_its_scale():
    for dtype in (np.float64, np.float32):
        window = np.zeros(SAMPLE, dtype)
        window[17] = 1
        mean = window.mean()
        moments = (mean, window.std(), np.abs(window - mean).max())
        assert offset_and_scale(*moments, 0.0, dtype(1))[1] == window.std()
        assert offset_and_scale(*moments, 1.0, dtype(1))[1] == pytest.approx(np.sqrt(np.mean(window**2)), rel=1e-5)


def test_what_is_paid_beyond_the_bound_is_cut():
    paid = bounded(np.array([-1e9, -0.1, 6.3, 6.5], np.float32), reward_std=0.1)
    np.testing.assert_allclose(paid, [-6.4, -0.1, 6.3, 6.4], rtol=1e-6)
    assert paid.dtype == np.float32


def test_the_mean_comes_back_little_by_little():
    run = {"explore_steps": 1_000, "steps": 50_000}
    assert kept_mean(None, now=40_000, **run) == 0
    assert kept_mean(8, now=1_000, **run) == kept_mean(1_000, now=1_000, **run) == 1  # known before anything is paid
    kept = [kept_mean(20_400, now=now, **run) for now in range(21_000, 51_000, 1_000)]
    assert kept[0] == pytest.approx(0.12)
    assert np.diff([0, *kept]).max() <= 0.2 + 1e-9
    assert kept[4:] == [pytest.approx(0.92), *[1.0] * 25]
