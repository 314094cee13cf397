"""Each direct loss by hand, under an exchange of the sides, by its gradient, and at its minimum."""

import math

import pytest
import torch

from prefrl.words.bradley_terry import cross_entropy
from prefrl.words.direct_losses import cpl, discounted, dpo, ipo

LEFT, RIGHT = torch.tensor([2.0, -1.0, 0.5]).double(), torch.tensor([1.0, 3.0, 0.5]).double()
MU = torch.tensor([1.0, 0.25, 0.5]).double()
LOSSES = {
    "dpo": lambda left, right, mu: dpo(left, right, mu, beta=0.3),
    "smoothed dpo": lambda left, right, mu: dpo(left, right, mu, beta=0.3, smoothing=0.1),
    "ipo": lambda left, right, mu: ipo(left, right, mu, tau=0.4),
    "cpl": lambda left, right, mu: cpl(left, right, mu, alpha=0.7),
    "conservative cpl": lambda left, right, mu: cpl(left, right, mu, alpha=0.7, conservative=0.5),
}


def log_sigmoid(x):
    return -math.log(1 + math.exp(-x))


def test_by_hand():
    assert dpo(LEFT, RIGHT, MU, beta=0.5)[0].item() == pytest.approx(-log_sigmoid(0.5))
    assert dpo(LEFT, RIGHT, MU, beta=0.5)[1].item() == pytest.approx(-0.25 * log_sigmoid(-2) - 0.75 * log_sigmoid(2))
    assert dpo(LEFT, RIGHT, MU, beta=0.5)[2].item() == pytest.approx(math.log(2))
    smoothed = dpo(LEFT, RIGHT, MU, beta=0.5, smoothing=0.2)[0].item()
    assert smoothed == pytest.approx(-0.8 * log_sigmoid(0.5) - 0.2 * log_sigmoid(-0.5))
    assert ipo(LEFT, RIGHT, MU, tau=0.25).tolist() == pytest.approx([1.0, 0.25 * 36 + 0.75 * 4, 4.0])
    assert cpl(LEFT, RIGHT, MU, alpha=0.5)[0].item() == pytest.approx(-log_sigmoid(0.5))
    held = cpl(LEFT, RIGHT, MU, alpha=0.5, conservative=0.5)[1].item()
    assert held == pytest.approx(-0.25 * log_sigmoid(-0.5 - 0.75) - 0.75 * log_sigmoid(1.5 + 0.25))


@pytest.mark.parametrize("name", LOSSES)
def test_the_sides_may_be_exchanged_and_gradients_are_those_of_differences(name):
    loss = LOSSES[name]
    torch.testing.assert_close(loss(LEFT, RIGHT, MU), loss(RIGHT, LEFT, 1 - MU))
    sides = LEFT.clone().requires_grad_(), RIGHT.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda left, right: loss(left, right, MU), sides)


@pytest.mark.parametrize("name", LOSSES)
def test_far_gaps_stay_finite(name):
    far = torch.tensor([1e4, -1e4]).requires_grad_()
    loss = LOSSES[name](far, -far, torch.tensor([0.0, 0.5])).sum()
    loss.backward()
    assert loss.isfinite() and far.grad.isfinite().all()


def test_dpo_and_cpl_are_bradley_terry_of_the_sums():
    expected = cross_entropy(0.3 * LEFT, 0.3 * RIGHT, MU, floor=0.0)
    torch.testing.assert_close(dpo(LEFT, RIGHT, MU, beta=0.3), expected)
    torch.testing.assert_close(cpl(LEFT, RIGHT, MU, alpha=0.3), expected)


def test_the_least_is_where_each_says():
    gap = torch.linspace(-8, 8, 16001).double()
    none, sure = torch.zeros_like(gap), torch.ones_like(gap)

    def least(loss):
        return gap[loss.argmin()].item()

    assert least(dpo(gap, none, 0.7 * sure, beta=1.0)) == pytest.approx(math.log(0.7 / 0.3), abs=1e-3)
    assert least(dpo(gap, none, sure, beta=1.0)) == 8.0  # a decided answer asks for ever more
    assert least(dpo(gap, none, sure, beta=0.5, smoothing=0.1)) == pytest.approx(2 * math.log(9), abs=1e-3)
    assert least(ipo(gap, none, 0.7 * sure, tau=0.1)) == pytest.approx(2.0, abs=1e-3)


def test_what_both_sums_share_counts_only_where_cpl_is_conservative():
    both = LEFT - 1, RIGHT - 1
    torch.testing.assert_close(cpl(*both, MU, 0.7), cpl(LEFT, RIGHT, MU, 0.7))
    assert (cpl(*both, MU, 0.7, conservative=0.5) > cpl(LEFT, RIGHT, MU, 0.7, conservative=0.5)).all()


def test_a_segment_counts_from_its_first_step_and_ends_where_the_mask_does():
    steps = torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, math.nan]])
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    assert discounted(steps, mask).tolist() == [7.0, 3.0]
    assert discounted(steps, mask, 0.5).tolist() == [3.0, 2.0]
