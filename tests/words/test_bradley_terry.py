"""The likelihood of an answer, against hand-worked numbers."""

import math

import pytest
import torch

from prefrl.words.bradley_terry import cross_entropy, probability
from prefrl.words.errors import UserError

DTYPES = [torch.float32, torch.float64]
LN3 = math.log(3.0)  # a gap of ln 3 is odds of 3 to 1: sigmoid 0.75


def close(got, expected, dtype=torch.float64):
    tolerance = 1e-6 if dtype is torch.float32 else 1e-14
    torch.testing.assert_close(got, torch.tensor(expected, dtype=dtype), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_probability_by_hand(dtype):
    left, right = torch.tensor([LN3, 0.0, -LN3], dtype=dtype), torch.zeros(3, dtype=dtype)
    close(probability(left, right, floor=0.0), [0.75, 0.5, 0.25], dtype)
    close(probability(left, right), [0.9 * 0.75 + 0.05, 0.5, 0.9 * 0.25 + 0.05], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_probability_never_leaves_the_floor(dtype):
    gap = torch.tensor([1e4, -1e4], dtype=dtype)
    close(probability(gap, torch.zeros_like(gap)), [0.95, 0.05], dtype)


@pytest.mark.parametrize("floor", [0.0, 0.1, 0.5])
def test_probability_of_left_and_of_right_add_to_one(floor):
    left, right = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        probability(left, right, floor) + probability(right, left, floor), torch.ones(50).double()
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_by_hand(dtype):
    left, right = torch.full((3,), LN3, dtype=dtype), torch.zeros(3, dtype=dtype)
    mu = torch.tensor([1.0, 0.0, 0.5], dtype=dtype)
    for floor, p in ((0.0, 0.75), (0.1, 0.725), (0.5, 0.625)):
        expected = [-math.log(p), -math.log(1 - p), -(math.log(p) + math.log(1 - p)) / 2]
        close(cross_entropy(left, right, mu, floor), expected, dtype)


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_an_even_pair_costs_log_two_whatever_the_answer(floor):
    even = torch.full((3,), 7.0, dtype=torch.float64)
    close(cross_entropy(even, even, torch.tensor([1.0, 0.5, 0.0]).double(), floor), [math.log(2)] * 3)


def test_no_prediction_of_a_tie_costs_less_than_log_two():
    gap = torch.linspace(-5, 5, 101, dtype=torch.float64)
    loss = cross_entropy(gap, torch.zeros_like(gap), torch.full_like(gap, 0.5))
    assert loss.argmin() == 50
    close(loss.min(), math.log(2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_floor_of_the_loss_and_the_price_of_being_surely_wrong(dtype):
    left, right = torch.tensor([1e4, 1e4, -1e4], dtype=dtype), torch.zeros(3, dtype=dtype)
    loss = cross_entropy(left, right, torch.tensor([1.0, 0.0, 0.0], dtype=dtype))
    close(loss, [-math.log(0.95), -math.log(0.05), -math.log(0.95)], dtype)
    assert loss[0].item() == pytest.approx(0.0513, abs=5e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("floor", [0.0, 1e-12, 1e-3, 0.1])
def test_huge_gaps_keep_the_loss_exact_and_the_gradient_finite(dtype, floor):
    gaps = torch.tensor([1e4, 100.0, 20.0, 1.0, 0.0, -1.0, -20.0, -100.0, -1e4], dtype=dtype)
    for answer in (0.0, 0.5, 1.0):
        left = gaps.clone().requires_grad_()
        loss = cross_entropy(left, torch.zeros_like(left), torch.full_like(gaps, answer), floor)
        (slope,) = torch.autograd.grad(loss.sum(), left)
        wide = gaps.double()
        p, q = ((1 - floor) * torch.sigmoid(x) + floor / 2 for x in (wide, -wide))
        if floor == 0:
            log_p, log_q = -torch.logaddexp(-wide, wide * 0), -torch.logaddexp(wide, wide * 0)
            expected_slope = torch.sigmoid(wide) - answer
        else:
            log_p, log_q = p.log(), q.log()
            bump = (1 - floor) * torch.sigmoid(wide) * torch.sigmoid(-wide)
            expected_slope = bump * ((1 - answer) / q - answer / p)
        expected = -(answer * log_p + (1 - answer) * log_q)
        tolerance = {"rtol": 1e-6, "atol": 1e-6} if dtype is torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
        torch.testing.assert_close(loss.double(), expected, **tolerance)
        torch.testing.assert_close(slope.double(), expected_slope, **tolerance)


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_gradient_agrees_with_finite_differences(floor):
    generator = torch.Generator().manual_seed(1)
    left = torch.randn(3, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    right = torch.randn(3, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    mu = torch.tensor([1, 0, 0.5, 1, 0, 0.25], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: cross_entropy(a, b, mu, floor), (left, right))
    assert torch.autograd.gradgradcheck(lambda a, b: cross_entropy(a, b, mu, floor), (left, right))
    assert torch.autograd.gradcheck(lambda a, b: probability(a, b, floor), (left, right))


def test_without_a_floor_the_gradient_is_the_surprise():
    left = torch.tensor([LN3, LN3, LN3], dtype=torch.float64, requires_grad=True)
    loss = cross_entropy(left, torch.zeros(3).double(), torch.tensor([1.0, 0.0, 0.5]).double(), floor=0.0)
    (slope,) = torch.autograd.grad(loss.sum(), left)
    close(slope, [-0.25, 0.75, 0.25])


def test_members_share_the_answers_by_broadcasting_and_other_dtypes_of_mu_are_fine():
    generator = torch.Generator().manual_seed(2)
    left, right = torch.randn(2, 3, 5, generator=generator)
    mu = torch.tensor([1.0, 0.0, 0.5, 1.0, 0.0], dtype=torch.float64)
    for floor in (0.0, 0.1):
        together = cross_entropy(left, right, mu, floor)
        assert together.shape == (3, 5)
        assert together.dtype == torch.float32
        for member in range(3):
            alone = cross_entropy(left[member], right[member], mu.float(), floor)
            torch.testing.assert_close(together[member], alone)


def test_the_best_constant_gap_recovers_the_share_of_answers():
    # 70 of 100 answers say left: the loss is least where P = 0.7, that is sigmoid = (0.7 - 0.05) / 0.9.
    mu = torch.tensor([1.0] * 70 + [0.0] * 30, dtype=torch.float64)
    gaps = torch.linspace(-3, 3, 6001, dtype=torch.float64)[:, None]
    best = gaps[cross_entropy(gaps, torch.zeros(1).double(), mu).mean(1).argmin(), 0].item()
    assert best == pytest.approx(math.log(0.65 / 0.25), abs=1e-3)


@pytest.mark.parametrize("floor", [-0.1, 1.0, math.nan])
def test_an_impossible_floor_is_refused(floor):
    zero = torch.zeros(1)
    for call in (lambda: probability(zero, zero, floor), lambda: cross_entropy(zero, zero, zero, floor)):
        with pytest.raises(UserError, match="at least 0 and below 1"):
            call()
