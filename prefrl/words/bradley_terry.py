"""How summed rewards predict an answer: Bradley-Terry with a noise floor, and its loss.

Christiano et al. 2017 (arXiv 1706.03741), section 2.2.3; the floor as written out by Ibarz et al. 2018
(arXiv 1811.06521), section A.3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from prefrl.words.errors import UserError


def probability(left: Tensor, right: Tensor, floor: float = 0.1) -> Tensor:
    """P[left > right], the chance that the left segment is called better (paper, equation 1 and section 2.2.3).

    P = (1 - floor) * sigmoid(left - right) + floor / 2: whoever answers follows the rewards, except that a share
    `floor` of the answers is a coin toss, however clear the case.

    Args:
        left: reward summed over the steps of the left segments, any shape.
        right: the same for the right segments, a shape that broadcasts with `left`.
        floor: share of the answers given at random, in [0, 1).

    Returns:
        Probabilities in [floor / 2, 1 - floor / 2], of the broadcast shape.

    Raises:
        UserError: `floor` is outside [0, 1).
    """
    check_floor(floor)
    return (1 - floor) * torch.sigmoid(left - right) + floor / 2


def cross_entropy(left: Tensor, right: Tensor, mu: Tensor, floor: float = 0.1) -> Tensor:
    """-(mu log P + (1 - mu) log(1 - P)) of each answer under `probability` (paper, section 2.2.3, the loss of r-hat).

    Exact and finite, gradients too, for gaps far beyond those where the sigmoid saturates. With a floor, a confident
    prediction that turns out wrong costs at most -log(floor / 2) and its gradient fades: it may be the answer that
    is wrong. The least a decisive answer can cost is -log(1 - floor / 2), 0.0513 for the paper's floor; the least a
    tie can cost is log 2.

    Args:
        left: reward summed over the steps of the left segments, any shape, for example (K members, N queries).
        right: the same for the right segments, a shape that broadcasts with `left`.
        mu: weight on the left segment, in [0, 1], a shape that broadcasts with both, for example (N,).
        floor: share of the answers given at random, in [0, 1).

    Returns:
        Losses in nats, of the broadcast shape; nothing is averaged.

    Raises:
        UserError: `floor` is outside [0, 1).
    """
    check_floor(floor)
    gap = left - right
    if floor == 0:
        return -torch.lerp(logsigmoid(-gap), logsigmoid(gap), mu.to(gap.dtype))
    # log P = log(1 - floor) + log(sigmoid(gap) + share); 1 - P likewise with -gap, which keeps its small values exact.
    share = floor / 2 / (1 - floor)
    log_left = torch.log(torch.sigmoid(gap) + share)
    log_right = torch.log(torch.sigmoid(-gap) + share)
    return -math.log1p(-floor) - torch.lerp(log_right, log_left, mu.to(gap.dtype))


def check_floor(floor: float) -> None:
    """Raises UserError where this is no share of answers given at random."""
    if not 0 <= floor < 1:
        raise UserError(
            f"floor is the share of answers given at random, at least 0 and below 1 (paper: 0.1): got {floor}"
        )
