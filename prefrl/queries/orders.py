"""How simulated labelers put K segments in order, or choose the best: at K = 2 what they say of pairs, in law.

Rationality, myopia, mistakes, skipping and indifference are those of `prefrl.queries.oracle`, which draws and scales.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefrl.words.preference import choice_of

Array = NDArray[Any]


def effort(kind: str, k: int) -> tuple[float, float]:
    """What a question about K segments takes, in units of what a pair takes: time of watching, and decisions.

    Segments are watched two at a time, as a pair's are, K / 2. Sorting K takes about K log2 K decisions where a pair
    is sorted in 2 log2 2 = 2, so K log2 K / 2; finding the best takes K - 1.
    """
    return k / 2, float(k - 1) if kind == "best" else k * math.log2(k) / 2


def drawn_orders(felt: Array, beta: Array, draws: Array) -> Array:
    """Orders, best first, that Boltzmann labelers state: with Gumbel's noise the order is Plackett and Luce's.

    Hence any two of the K come in the order of Bradley and Terry, whatever the others are.

    Args:
        felt: (n, K) return of each segment, as the labeler weighs its steps.
        beta: (n,) rationality; inf orders by the returns, the first first where they are equal.
        draws: (n, K) uniform on [0, 1).

    Returns:
        Places (n, K).
    """
    noise = -np.log(-np.log(np.clip(draws, np.finfo(np.float64).tiny, None)))
    is_finite = np.isfinite(beta)
    worth = np.where(is_finite[:, None], np.where(is_finite, beta, 0.0)[:, None] * felt + noise, felt)
    return np.argsort(-worth, axis=1, kind="stable")


def with_mistakes(order: Array, kind: str, mistaken: Array, draws: Array) -> Array:
    """Orders in which two places, drawn alike, are exchanged by mistake; of the best, it and another.

    Args:
        order: (n, K) places, best first.
        kind: "ranking" or "best".
        mistaken: (n,) which of them.
        draws: (n,) uniform on [0, 1): which two.
    """
    pairs = np.array([two for two in combinations(range(order.shape[1]), 2) if kind == "ranking" or two[0] == 0])
    one, other = pairs[(draws * len(pairs)).astype(np.intp)].T
    rows = np.flatnonzero(mistaken)
    changed = order.copy()
    changed[rows, one[rows]], changed[rows, other[rows]] = order[rows, other[rows]], order[rows, one[rows]]
    return changed


def choices(order: Array, are_equal: Array, kind: str) -> list[str]:
    """What is recorded of these orders (n, K), of whose neighbours some, (n, K - 1), are called equal."""
    ranks = np.empty_like(order)
    stated = np.concatenate([np.zeros((len(order), 1), np.intp), np.cumsum(~are_equal, axis=1)], axis=1)
    np.put_along_axis(ranks, order, stated, axis=1)
    return [choice_of(row, kind) for row in ranks.tolist()]
