"""Which pairs are worth asking about (Christiano et al. 2017, section 2.2.4).

A strategy scores candidate pairs, `score(r_hat, pairs) -> array (n,)`; the highest are asked first. What a member
predicts about a pair is P[left > right], the probability that left wins, without the noise floor. Of K segments, to be
put in order or chosen from, doubts are those about every two of them, averaged.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from prefrl.experience.recorder import Pairs
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.rewards.watch import in_parts, predicted_preferences
from prefrl.words.errors import UserError, in_short
from prefrl.words.lookup import lookup

Strategy = Callable[[RewardEnsemble, Pairs], NDArray[np.floating]]


def find_strategy(name: str) -> Strategy:
    """The strategy called `name`: a key of `STRATEGIES`, or an import path.

    Raises:
        UserError: nothing is known by that name, or it is no function of two things.
    """
    strategy = lookup("strategy", name, STRATEGIES)
    try:
        inspect.signature(strategy).bind(None, None)
    except ValueError:  # what is compiled may not say what it takes
        pass
    except TypeError as error:
        raise UserError(
            f"strategy {name!r} cannot be called as strategy(r_hat, pairs) ({error}): give the path of a function that "
            f"takes the reward ensemble and n pairs, and returns n scores."
        ) from error
    return strategy


def best_first(score: Strategy, r_hat: RewardEnsemble, candidates: Pairs) -> NDArray[np.int64]:
    """The places of the candidates from the highest score to the lowest; among equals, the first comes first.

    Raises:
        UserError: the strategy failed, or returned something else than a score for each pair.
    """
    name = getattr(score, "__name__", repr(score))
    try:
        given: Any = score(r_hat, candidates)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"strategy {name} failed with {in_short(error)}; it is called as strategy(r_hat, pairs) "
            f"and returns one score per pair."
        ) from error
    n, kind, wrong = len(candidates), type(given).__name__, None
    try:
        scores = np.asarray(given, np.float64)
        if scores.shape != (n,):
            wrong = f"{kind} of shape {scores.shape}"
        elif np.isnan(scores).any():  # no order has a place for it
            wrong = f"NaN for {np.isnan(scores).sum()} of {n} pairs"
    except (TypeError, ValueError, RuntimeError) as error:  # the last: a tensor that would have gradients
        wrong = f"{kind} ({' '.join(str(error).split()):.150})"
    if wrong:
        raise UserError(
            f"strategy {name} returned {wrong}: it must return one score per pair, "
            f"here an array of {n} numbers, the highest for what should be asked first."
        )
    return np.argsort(-scores, kind="stable")


def uniform(r_hat: RewardEnsemble, pairs: Pairs) -> NDArray[np.floating]:
    """Every pair alike: the candidates, which are drawn uniformly, are asked in the order drawn."""
    return np.zeros(len(pairs))


def disagreement(r_hat: RewardEnsemble, pairs: Pairs) -> NDArray[np.floating]:
    """Variance over members of P[left > right]: the paper's rule (section 2.2.4)."""
    p = predicted_preferences(r_hat, pairs)
    variance: NDArray[np.floating] = (p - p.mean(0)).square().mean(0).mean(-1).cpu().numpy()
    return variance


def entropy(r_hat: RewardEnsemble, pairs: Pairs) -> NDArray[np.floating]:
    """Entropy, in nats, of the ensemble's mean prediction: H(mean_k p_k), all there is to doubt."""
    p = predicted_preferences(r_hat, pairs)
    result: NDArray[np.floating] = _binary_entropy(p.mean(0)).mean(-1).cpu().numpy()
    return result


def member_entropy(r_hat: RewardEnsemble, pairs: Pairs) -> NDArray[np.floating]:
    """Mean over members of the entropy of their own predictions, in nats: mean_k H(p_k), B-Pref's (Lee et al. 2021).

    High where members are unsure one by one, whether they agree or not; `entropy` less this is `information_gain`.
    """
    p = predicted_preferences(r_hat, pairs)
    result: NDArray[np.floating] = _binary_entropy(p).mean(0).mean(-1).cpu().numpy()
    return result


def information_gain(r_hat: RewardEnsemble, pairs: Pairs) -> NDArray[np.floating]:
    """What the answer is expected to tell about which member is right, in nats: H(mean_k p_k) - mean_k H(p_k).

    The mutual information of answer and member (Houlsby et al. 2011, BALD).
    """
    p = predicted_preferences(r_hat, pairs)
    gain = _binary_entropy(p.mean(0)) - _binary_entropy(p).mean(0)
    result: NDArray[np.floating] = gain.mean(-1).cpu().numpy()
    return result


def coverage(r_hat: RewardEnsemble, pairs: Pairs) -> NDArray[np.floating]:
    """Pairs far from one another: greedy k-centres in the ensemble's hidden features (Sener and Savarese 2018)."""
    return _farthest_first(_features(r_hat, pairs))


def coverage_disagreement(r_hat: RewardEnsemble, pairs: Pairs) -> NDArray[np.floating]:
    """Coverage among the half of the candidates that members disagree about most; the other half comes after."""
    doubt = disagreement(r_hat, pairs)
    order = np.argsort(-doubt, kind="stable")
    half = order[: (len(order) + 1) // 2]
    scores = np.full(len(pairs), -np.inf)
    scores[half] = _farthest_first(_features(r_hat, pairs[half]))
    scores[order[len(half) :]] = -len(pairs) + doubt[order[len(half) :]]
    return scores


def _binary_entropy(p: Tensor) -> Tensor:
    entropy_nats: Tensor = -(torch.special.xlogy(p, p) + torch.special.xlogy(1 - p, 1 - p))
    return entropy_nats


@torch.inference_mode()
def _features(r_hat: RewardEnsemble, pairs: Pairs) -> Float[Tensor, "n f"]:
    """Each pair's last hidden layer, averaged over the steps of each segment, of all members and all its segments."""
    cells, index, mask = pairs.steps()
    inputs = (r_hat.inputs(*pairs.recorder.at(part)) for part in in_parts(cells))
    hidden = torch.cat([r_hat.hidden_features(r_hat.seen(part)) for part in inputs], dim=1)  # (K, m, h)
    flat = hidden.transpose(0, 1).flatten(1)  # (m, K h)
    # Parts of 256 segments, so that the (n s, T, K h) gathered features are never all in memory.
    weight = mask / mask.sum(-1, keepdims=True)
    shape = (mask.shape[0] * mask.shape[1], pairs.segment_steps)
    parts = max(1, -(-shape[0] // 256))
    segments = torch.cat(
        [
            torch.einsum("nt,ntf->nf", torch.from_numpy(w).to(flat), flat[torch.from_numpy(i).to(flat.device)])
            for i, w in zip(
                np.array_split(index.reshape(shape), parts), np.array_split(weight.reshape(shape), parts), strict=True
            )
        ]
    )
    return segments.view(len(pairs), mask.shape[1] * flat.shape[1])


def _farthest_first(points: Float[Tensor, "n f"]) -> NDArray[np.floating]:
    """Minus the place of each point in the greedy traversal that always goes to the point farthest from those visited.

    Its first k points are the greedy k-centres for every k (Gonzalez 1985). It starts at the point farthest from the
    mean.
    """
    scores = np.zeros(len(points))
    distance = (points - points.mean(0)).square().sum(1)
    nearest = torch.full_like(distance, torch.inf)
    for place in range(len(points)):
        farthest = int((distance if place == 0 else nearest).argmax())
        scores[farthest] = -place
        nearest = torch.minimum(nearest, (points - points[farthest]).square().sum(1))
        nearest[farthest] = -1.0  # visited: behind every point not yet visited, duplicates included
    return scores


STRATEGIES: dict[str, Strategy] = {
    "disagreement": disagreement,
    "uniform": uniform,
    "entropy": entropy,
    "member_entropy": member_entropy,
    "information_gain": information_gain,
    "coverage": coverage,
    "coverage_disagreement": coverage_disagreement,
}
