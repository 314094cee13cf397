"""When labels are asked for: the paper's numbers, and counts that add up."""

import math

import numpy as np
import pytest

from prefrl.words.errors import UserError
from prefrl.words.schedules import SCHEDULES, annealed, constant, exponential, hyperbolic, in_sessions, label_counts

EVERY = pytest.mark.parametrize("name", SCHEDULES)


@EVERY
def test_a_schedule_goes_from_nothing_to_everything_and_never_falls(name):
    spent = [SCHEDULES[name](t) for t in np.linspace(0, 1, 1001).tolist()]
    assert spent[0] == 0
    assert spent[-1] == pytest.approx(1, abs=1e-12)
    assert np.diff(spent).min() > 0


@pytest.mark.parametrize(("horizon", "c"), [(2e7, 2e6), (5e7, 5e6)])
def test_annealed_is_the_integral_of_the_papers_rate(horizon, c):
    steps = np.linspace(0, horizon, 200_001)
    rate = c / (steps + c)
    spent = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2)])
    for share in (0.05, 0.25, 0.5, 0.9):
        assert annealed(share) == pytest.approx(spent[round(share * 200_000)] / spent[-1], abs=1e-6)


def test_annealed_spends_half_by_five_million_of_twenty_and_three_quarters_by_ten():
    assert annealed(5e6 / 2e7) == pytest.approx(0.52, abs=0.005)
    assert annealed(10e6 / 2e7) == pytest.approx(0.75, abs=0.005)
    assert annealed(0.25) == pytest.approx(math.log(3.5) / math.log(11))


def test_the_others_by_hand():
    assert constant(0.3) == 0.3
    assert exponential(0.5) == pytest.approx(0.9 / 0.99)
    assert hyperbolic(0.5) == pytest.approx(math.log2(1.5))


@pytest.mark.parametrize(
    ("name", "ratio"), [("annealed", 11.0), ("constant", 1.0), ("exponential", 100.0), ("hyperbolic", 2.0)]
)
def test_rate_at_the_start_over_rate_at_the_end(name, ratio):
    f, h = SCHEDULES[name], 1e-6
    assert (f(h) - f(0)) / (f(1) - f(1 - h)) == pytest.approx(ratio, rel=1e-3)


def test_counts_by_hand():
    # 25 of 100 first; the other 75 at a constant rate over 4 phases: 18.75, 37.5, 56.25, 75 rounded (half to even).
    initial, *counts = label_counts(100, 5, 0.25, constant)
    assert initial == 25
    assert counts == [19, 19, 18, 19]


def test_a_phase_asks_for_what_the_schedule_has_spent_by_its_end():
    initial, *counts = label_counts(1000, 5, 0.0, annealed)
    assert initial == 0
    expected = [round(1000 * math.log(1 + 10 * t) / math.log(11)) for t in (0.25, 0.5, 0.75, 1)]
    assert np.cumsum(counts).tolist() == expected == [522, 747, 892, 1000]


@EVERY
@pytest.mark.parametrize("fraction", [0.0, 1e-9, 0.1, 0.25, 1 / 3, 0.999, 1.0])
def test_what_was_asked_for_is_what_is_asked(name, fraction):
    for labels in (0, 1, 2, 3, 7, 100, 699, 700, 1400, 123_457):
        for phases in (1, 2, 3, 10, 97, 500):
            counts = label_counts(labels, phases, fraction, SCHEDULES[name])
            assert sum(counts) == labels
            assert len(counts) == phases
            assert min(counts) >= 0
            assert all(type(count) is int for count in counts)
            if phases > 1:
                assert counts[0] == min(labels, max(round(fraction * labels), 1 if fraction > 0 else 0))


@EVERY
def test_the_running_total_is_never_a_label_away_from_the_schedule(name):
    _, *counts = label_counts(700, 91, 0.25, SCHEDULES[name])
    wanted = [525 * SCHEDULES[name]((i + 1) / 90) for i in range(90)]
    assert np.abs(np.cumsum(counts) - wanted).max() <= 0.5 + 1e-9


def test_a_schedule_of_ones_own_may_rest_and_jump():
    assert label_counts(10, 5, 0.0, lambda t: 0.0 if t < 0.5 else 1.0) == [0, 0, 10, 0, 0]


@pytest.mark.parametrize("times", [0.9999999, 1.0000001])
def test_a_schedule_that_ends_a_hair_from_one_still_spends_everything(times):
    counts = label_counts(123_457_890, 8, 0.0, lambda t: t * times)
    assert sum(counts) == 123_457_890
    assert min(counts) >= 0


def overshooting(t):
    return 4 * t * (1 - t) + t


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (lambda t: t / 2, "goes from 0 to 0.5, but .* to 1 at its end"),
        (lambda t: 1.0, "goes from 1 to 1, but"),
        (lambda t: math.nan, "goes from nan to nan"),
        (lambda t: math.nan if 0 < t < 1 else t, "goes from 0 to nan between 0 and 0.1 .* must never fall"),
        (overshooting, "schedule overshooting goes from 1.26 to 1 between 0.9 and 1 of .* must never fall"),
        (lambda t: None, r"schedule <lambda> failed .* must be a function of one number"),
        (lambda t: 1 / t, "failed .*division"),
        (lambda: 0.5, "failed .*argument"),
    ],
)
def test_a_schedule_that_is_none_is_explained(schedule, message):
    with pytest.raises(UserError, match=message):
        label_counts(100, 11, 0.25, schedule)


@pytest.mark.parametrize(
    ("labels", "phases", "fraction", "message"),
    [
        (-1, 10, 0.25, "0 or more: got -1"),
        (10, 0, 0.25, "at least 1 phase.*got 0"),
        (10, 10, 1.5, "between 0 and 1: got 1.5"),
        (10, 10, -0.1, "between 0 and 1: got -0.1"),
        (10, 10, math.nan, "between 0 and 1: got nan"),
    ],
)
def test_an_impossible_budget_is_explained(labels, phases, fraction, message):
    with pytest.raises(UserError, match=message):
        label_counts(labels, phases, fraction, constant)


def test_sessions_ask_alike_until_all_is_spent() -> None:
    assert in_sessions(25, 4, 10) == [10, 10, 5, 0]
    assert in_sessions(40, 4, 10) == [10] * 4
    assert in_sessions(0, 0, 10) == []
    with pytest.raises(UserError, match="session_labels=11"):
        in_sessions(41, 4, 10)
