"""How summed rewards predict an answer about K segments: a ranking as choices of the best, each from what is left.

An answer is one or more choices, each of one segment from some of the K, and one formula gives the chance of them all:

* Plackett-Luce (Plackett 1975; Rafailov et al. 2023, arXiv 2305.18290, equation 18): the best of all, then the best of
  the rest, and so on, K - 1 choices;
* all pairs (Ouyang et al. 2022, arXiv 2203.02155, section 3.5): the better of every two, C(K, 2) choices that weigh
  one together, which is no likelihood of an order: what follows from other comparisons counts again;
* best of K: the first choice of Plackett-Luce alone.

At K = 2 each is Bradley-Terry (`prefrl.words.bradley_terry`), noise floor included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from prefrl.words.bradley_terry import check_floor

APART = -1e30  # what a segment that is not to be chosen is worth; finite, so that zero times it is zero


class Choices(NamedTuple):
    """An answer about K segments as S choices.

    Attributes:
        chosen: (S, K) weight of each segment in what was chosen; several of a choice where they are equally good.
        among: (S, K) whether it was there to be chosen; a choice from nothing, all zeros, says nothing.
    """

    chosen: NDArray[np.float64]
    among: NDArray[np.bool_]


def plackett_luce(ranks: NDArray[np.integer]) -> Choices:
    """The K - 1 choices of an order.

    Of equals each is as good a choice as any other while all of them are there: a group of t is chosen t times (t - 1
    times where nothing is left after it) with even weights, from itself and all that is worse (Breslow 1974, for ties
    in Cox regression). Two equals and nothing else are Bradley-Terry's mu = 0.5.

    Args:
        ranks: (K,) place of each segment in the order, lower is better; equals have equal ranks.
    """
    count = len(ranks)
    chosen, among = np.zeros((count - 1, count), np.float64), np.zeros((count - 1, count), bool)
    place = 0
    for rank in np.unique(ranks):
        equals, left = ranks == rank, ranks >= rank
        size = int(equals.sum())
        times = size if left.sum() > size else size - 1
        if times:
            chosen[place], among[place] = equals * (times / size), left
        place += size
    return Choices(chosen, among)


def all_pairs(ranks: NDArray[np.integer]) -> Choices:
    """The C(K, 2) choices of the better of two, equals with even weights, that weigh one together; ranks as above."""
    pairs = list(combinations(range(len(ranks)), 2))
    chosen, among = np.zeros((len(pairs), len(ranks)), np.float64), np.zeros((len(pairs), len(ranks)), bool)
    for place, (one, other) in enumerate(pairs):
        mu = (1 + np.sign(float(ranks[other]) - float(ranks[one]))) / 2
        chosen[place, [one, other]] = np.array([mu, 1 - mu]) / len(pairs)
        among[place, [one, other]] = True
    return Choices(chosen, among)


def best_of(ranks: NDArray[np.integer]) -> Choices:
    """The one choice of the best, several with even weights where they are equally the best; ranks as above."""
    best = ranks == ranks.min()
    return Choices((best / best.sum())[None], np.ones((1, len(ranks)), bool))


LIKELIHOODS: dict[str, Callable[[NDArray[np.integer]], Choices]] = {
    "plackett-luce": plackett_luce,
    "all-pairs": all_pairs,
}
"""What an order can be taken for, by name."""


def cross_entropy_of_choices(
    returns: Float[Tensor, "*n k"], chosen: Float[Tensor, "*m s k"], among: Bool[Tensor, "*m s k"], floor: float = 0.1
) -> Float[Tensor, "*n"]:
    """-sum_s sum_i chosen_si log P_s(i) of each answer, P_s(i) = (1 - floor) softmax_s(returns)_i + floor / n_s.

    The softmax is over the n_s segments that choice s is from: a share `floor` of the choices is made at random, each
    by itself, so that one slip spoils one choice and not the whole order. Over all K! orders the chances of
    Plackett-Luce's choices add up to 1 at any floor; with none this is minus `plackett_luce_log_likelihood`.

    Args:
        returns: reward summed over the steps of each segment, for example (M members, N questions, K).
        chosen: as `Choices`, whose leading shape broadcasts with that of the returns, for example (N, S, K).
        among: the same.
        floor: share of the choices made at random, in [0, 1).

    Returns:
        Losses in nats, of the leading shape of the returns; nothing is averaged.

    Raises:
        UserError: `floor` is outside [0, 1).
    """
    check_floor(floor)
    log_p = torch.where(among, returns[..., None, :], APART).log_softmax(-1)
    if floor > 0:
        share = floor / (1 - floor) / among.sum(-1, keepdim=True, dtype=log_p.dtype).clamp_min(1)
        log_p = math.log1p(-floor) + torch.log(log_p.exp() + share)
    return -(chosen.to(log_p.dtype) * log_p).sum((-2, -1))


def plackett_luce_log_likelihood(returns: Tensor, order: Tensor) -> Tensor:
    """Log-probability of ranking K segments in a given order; at K = 2 it is Bradley-Terry without a floor.

    P(order) = prod_k exp(returns[order[k]]) / sum_{j >= k} exp(returns[order[j]]): the best is chosen from all K, the
    second best from the rest, and so on (as `plackett_luce`, which takes ties and a floor too).

    Args:
        returns: (..., K) reward summed over the steps of each segment.
        order: (..., K) integers, a permutation of 0..K-1 along the last axis, *best first*: order[0] is the index of
            the best segment. Leading axes broadcast with those of `returns`.

    Returns:
        Log-likelihoods in nats, of the broadcast leading shape.
    """
    returns, order = torch.broadcast_tensors(returns, order)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    ranked = returns.gather(-1, order)
    log_rest = torch.logcumsumexp(ranked.flip(-1), dim=-1).flip(-1)
    return (ranked - log_rest).sum(dim=-1)
