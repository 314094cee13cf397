"""What holds of every schedule, likelihood and ranking, whatever the numbers."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrl.words.bradley_terry import cross_entropy, probability
from prefrl.words.plackett_luce import plackett_luce_log_likelihood
from prefrl.words.schedules import label_counts

returns = st.floats(-50, 50, allow_nan=False)
floors = st.sampled_from([0.0, 0.1, 0.5, 0.9])


@settings(deadline=None)
@given(
    st.integers(0, 5000),
    st.integers(1, 300),
    st.floats(0, 1),
    st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(lambda steps: sum(steps) > 1e-3),
)
def test_labels_are_spent_to_the_last_one_and_never_taken_back(labels, phases, initial, steps):
    rises = np.cumsum([0, *steps]) / np.sum(steps)

    def schedule(t):
        return float(np.interp(t, np.linspace(0, 1, len(rises)), rises))

    counts = label_counts(labels, phases, initial, schedule)
    assert len(counts) == phases
    assert sum(counts) == labels
    assert min(counts) >= 0
    assert phases == 1 or counts[0] >= (labels > 0 and initial > 0)


@settings(deadline=None)
@given(returns, returns, floors, returns)
def test_a_preference_is_a_probability_that_only_the_gap_decides(left, right, floor, shift):
    a, b = torch.tensor(left, dtype=torch.float64), torch.tensor(right, dtype=torch.float64)
    p = probability(a, b, floor).item()
    assert floor / 2 - 1e-12 <= p <= 1 - floor / 2 + 1e-12
    assert p + probability(b, a, floor).item() == pytest.approx(1)
    assert probability(a + shift, b + shift, floor).item() == pytest.approx(p, abs=1e-9)
    assert abs(left - right) < 1e-9 or (p > 0.5) == (left > right)


@settings(deadline=None)
@given(returns, returns, floors, st.floats(0, 1))
def test_the_loss_is_that_of_the_probability(left, right, floor, mu):
    a, b = torch.tensor(left, dtype=torch.float64), torch.tensor(right, dtype=torch.float64)
    loss = cross_entropy(a, b, torch.tensor(mu, dtype=torch.float64), floor).item()
    p, q = probability(a, b, floor).item(), probability(b, a, floor).item()
    if min(p, q) > 1e-12:
        assert loss == pytest.approx(-(mu * math.log(p) + (1 - mu) * math.log(q)), rel=1e-6, abs=1e-9)
    assert loss >= -1e-12
    other = cross_entropy(b, a, torch.tensor(1 - mu, dtype=torch.float64), floor).item()
    assert loss == pytest.approx(other, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-8, 8), min_size=2, max_size=5), returns)
def test_rankings_sum_to_one_and_two_are_a_pair(values, shift):
    of = torch.tensor(values, dtype=torch.float64)
    orders = torch.tensor(list(itertools.permutations(range(len(values)))))
    chances = plackett_luce_log_likelihood(of, orders).exp()
    assert chances.sum().item() == pytest.approx(1)
    torch.testing.assert_close(plackett_luce_log_likelihood(of + shift, orders).exp(), chances, rtol=1e-6, atol=1e-9)
    if len(values) == 2:
        assert chances[0].item() == pytest.approx(probability(of[0], of[1], 0.0).item())
