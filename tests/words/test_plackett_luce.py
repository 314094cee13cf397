"""Answers about K segments as choices, against hand-worked numbers and against Bradley-Terry."""

import itertools
import math

import numpy as np
import pytest
import torch

from prefrl.words.bradley_terry import cross_entropy
from prefrl.words.errors import UserError
from prefrl.words.plackett_luce import (
    all_pairs,
    best_of,
    cross_entropy_of_choices,
    plackett_luce,
    plackett_luce_log_likelihood,
)

KINDS = (plackett_luce, all_pairs, best_of)
FLOORS = (0.0, 0.1, 0.5)


def close(got, expected):
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=1e-14)


def loss(kind, returns, ranks, floor=0.0):
    chosen, among = kind(np.array(ranks))
    return cross_entropy_of_choices(returns, torch.from_numpy(chosen), torch.from_numpy(among), floor)


def random(*shape, seed=3):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("floor", FLOORS)
@pytest.mark.parametrize("kind", KINDS)
def test_two_are_bradley_terry(kind, floor):
    left, right = 3 * random(2, 4, 7)
    for ranks, mu in (((0, 1), 1.0), ((1, 0), 0.0), ((0, 0), 0.5)):
        wanted = cross_entropy(left, right, torch.full((7,), mu).double(), floor)
        torch.testing.assert_close(loss(kind, torch.stack([left, right], -1), ranks, floor), wanted)


@pytest.mark.parametrize("floor", FLOORS)
def test_the_chances_of_all_orders_add_to_one(floor):
    returns = 3 * random(5, 4)
    chances = [(-loss(plackett_luce, returns, order, floor)).exp() for order in itertools.permutations(range(4))]
    torch.testing.assert_close(torch.stack(chances).sum(0), torch.ones(5).double())


@pytest.mark.parametrize("floor", FLOORS)
def test_the_chances_of_each_to_be_the_best_add_to_one(floor):
    returns = 3 * random(5, 4)
    chances = [(-loss(best_of, returns, 1 - np.eye(4, dtype=int)[best], floor)).exp() for best in range(4)]
    torch.testing.assert_close(torch.stack(chances).sum(0), torch.ones(5).double())


def test_an_order_by_hand():
    # Strengths 1, 2, 3: third, second, first are chosen from all, from the other two, from itself.
    returns = torch.log(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    ranks = (2, 1, 0)
    close(loss(plackett_luce, returns, ranks), -math.log(3 / 6 * 2 / 3))
    close(loss(best_of, returns, ranks), -math.log(3 / 6))
    close(loss(all_pairs, returns, ranks), -(math.log(2 / 3) + math.log(3 / 4) + math.log(3 / 5)) / 3)
    floored = -(math.log(0.9 * 3 / 6 + 0.1 / 3) + math.log(0.9 * 2 / 3 + 0.05))
    close(loss(plackett_luce, returns, ranks, 0.1), floored)
    close(loss(best_of, returns, ranks, 0.1), -math.log(0.9 * 3 / 6 + 0.1 / 3))


def test_equals_by_hand():
    returns = torch.log(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    # First and third are equally the best: chosen twice from all three; then nothing is left to choose from.
    close(loss(plackett_luce, returns, (0, 1, 0)), -(math.log(1 / 6) + math.log(3 / 6)))
    # The second is the best; one choice between two equals is left.
    close(loss(plackett_luce, returns, (1, 0, 1)), -math.log(2 / 6) - (math.log(1 / 4) + math.log(3 / 4)) / 2)
    close(loss(best_of, returns, (0, 1, 0)), -(math.log(1 / 6) + math.log(3 / 6)) / 2)
    close(loss(all_pairs, returns, (0, 1, 0)), -(math.log(1 / 3) + math.log(3 / 5) + (math.log(3 / 16)) / 2) / 3)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_are_explained_best_by_equal_returns(kind):
    returns = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    loss(kind, returns, (0, 0, 0, 0), 0.1).backward()
    torch.testing.assert_close(returns.grad, torch.zeros(4).double())


def test_all_pairs_are_not_the_order():
    returns = random(4)
    orders = list(itertools.permutations(range(4)))
    chances = torch.stack([(-6 * loss(all_pairs, returns, order)).exp() for order in orders])
    assert abs(chances.sum() - 1) > 0.1
    assert not torch.allclose(3 * loss(all_pairs, returns, (0, 1, 2, 3)), loss(plackett_luce, returns, (0, 1, 2, 3)))


def test_without_equals_and_floor_it_is_the_closed_form():
    returns = random(6, 5)
    for order in ([4, 2, 0, 1, 3], [0, 1, 2, 3, 4]):
        wanted = -plackett_luce_log_likelihood(returns, torch.tensor(order))
        torch.testing.assert_close(loss(plackett_luce, returns, np.argsort(order)), wanted)


@pytest.mark.parametrize("floor", FLOORS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_and_huge_gaps(kind, floor):
    returns = random(3, 4).requires_grad_()
    for ranks in ((2, 0, 3, 1), (0, 1, 1, 0)):
        assert torch.autograd.gradcheck(lambda r, ranks=ranks: loss(kind, r, ranks, floor), (returns,))
    steep = torch.tensor([0.0, 1e4, -1e4], requires_grad=True)
    worst = loss(kind, steep, (1, 2, 0), floor)
    (slope,) = torch.autograd.grad(worst, steep)
    assert worst.isfinite()
    assert slope.isfinite().all()


def test_members_and_answers_broadcast_and_a_segment_that_is_not_there_changes_nothing():
    returns = random(3, 2, 4)
    ranks = [(1, 0, 2), (0, 2, 1)]
    choices = [plackett_luce(np.array(r)) for r in ranks]
    chosen = torch.stack([torch.from_numpy(np.pad(c.chosen, ((0, 1), (0, 1)))) for c in choices])
    among = torch.stack([torch.from_numpy(np.pad(c.among, ((0, 1), (0, 1)))) for c in choices])
    together = cross_entropy_of_choices(returns, chosen, among, 0.1)
    assert together.shape == (3, 2)
    for place, of_one in enumerate(ranks):
        torch.testing.assert_close(together[:, place], loss(plackett_luce, returns[:, place, :3], of_one, 0.1))


@pytest.mark.parametrize("floor", [-0.1, 1.0, math.nan])
def test_an_impossible_floor_is_refused(floor):
    with pytest.raises(UserError, match="at least 0 and below 1"):
        loss(best_of, torch.zeros(3), (0, 1, 1), floor)


def test_plackett_luce_by_hand():
    # Strengths 1, 2, 3: P(third, second, first) = 3/6 * 2/3 * 1/1 and P(first, second, third) = 1/6 * 2/5 * 1.
    returns = torch.log(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    close(plackett_luce_log_likelihood(returns, torch.tensor([2, 1, 0])).exp(), 1 / 3)
    close(plackett_luce_log_likelihood(returns, torch.tensor([0, 1, 2])).exp(), 1 / 15)


def test_plackett_luce_over_all_orders_adds_to_one():
    returns = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 3
    orders = torch.tensor(list(itertools.permutations(range(4))))
    likelihoods = plackett_luce_log_likelihood(returns[:, None], orders).exp()
    assert likelihoods.shape == (5, 24)
    torch.testing.assert_close(likelihoods.sum(-1), torch.ones(5).double())


def test_plackett_luce_gradient_and_huge_gaps():
    generator = torch.Generator().manual_seed(5)
    returns = torch.randn(3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    order = torch.stack([torch.randperm(4, generator=generator) for _ in range(3)])
    assert torch.autograd.gradcheck(lambda r: plackett_luce_log_likelihood(r, order), (returns,))

    steep = torch.tensor([0.0, 1e4, -1e4], requires_grad=True)
    worst = plackett_luce_log_likelihood(steep, torch.tensor([2, 0, 1]))
    (slope,) = torch.autograd.grad(worst, steep)
    assert worst.item() == pytest.approx(-3e4)  # -1e4 against 1e4, then 0 against 1e4
    torch.testing.assert_close(slope, torch.tensor([1.0, -2.0, 1.0]), rtol=1e-4, atol=1e-4)
