"""How the reward model of a run does as it goes, on behaviour that nobody was asked about."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from prefrl.experience.recorder import Episode, Pairs, Recorder, mean_true_return
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.words.bradley_terry import probability
from prefrl.words.measures import (
    SMOOTHED,
    Reliability,
    accuracy,
    brier,
    correlation,
    cross_entropy_floor,
    exact_answers,
    mean_cross_entropy,
    parted,
    rank_correlation,
    reliability,
    smoothed,
)

WATCHED = 1_024  # steps that r-hat is asked about when two stretches of behaviour are compared
WATCHED_PAIRS = 500  # a phase: an accuracy of 0.9 has a standard error of 0.013
LEAST_CHANCE = 2.0**-25  # as near to 0 and 1 as a prediction in single precision can tell

Steps = tuple[NDArray[Any], NDArray[Any]]  # observations and actions


@torch.inference_mode()
def predicted_preferences(r_hat: RewardEnsemble, pairs: Pairs) -> Float[Tensor, "k n c"]:
    """P[left > right] by each member, without the noise floor: one of a pair, of K windows one of every two."""
    returns = member_returns(r_hat, pairs)
    left, right = torch.triu_indices(returns.shape[-1], returns.shape[-1], 1, device=returns.device)
    p: Tensor = probability(returns[..., left], returns[..., right], floor=0.0)
    return p


@torch.inference_mode()
def member_returns(r_hat: RewardEnsemble, pairs: Pairs) -> Float[Tensor, "k n s"]:
    """Each member's unnormalised return of each window. Each step is evaluated once, however many windows share it."""
    cells, index, mask = pairs.steps()
    rewards = torch.cat([r_hat.member_rewards(*pairs.recorder.at(part)) for part in in_parts(cells)], dim=1)
    device = rewards.device
    returns: Tensor = (rewards[:, torch.from_numpy(index).to(device)] * torch.from_numpy(mask).to(device)).sum(-1)
    return returns


def in_parts(cells: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Steps in parts of at most 4,096, so that images and hidden layers of all of them are never in memory at once."""
    return np.array_split(cells, max(1, -(-len(cells) // 4096)))


@torch.inference_mode()
def agreement(r_hat: RewardEnsemble, pairs: Pairs, noise_floor: float) -> tuple[dict[str, float], Reliability]:
    """How well r-hat foretells an exact oracle's answers to these pairs, which nobody was asked about.

    Args:
        r_hat: the ensemble.
        pairs: drawn from fresh experience; windows without a step are never drawn.
        noise_floor: chance of a random answer that the likelihood assumes.

    Returns:
        These measures, and the reliability curve; all NaN of a reward that is NaN, and NaN where one cannot be taken:
        accuracy (share of unequal pairs that the learned reward orders as the true one does);
        cross_entropy of the ensemble's mean prediction, in nats, and cross_entropy_floor, the least it could be;
        brier (mean squared error of the prediction) and calibration_error (see `reliability`: 0 on average if perfect);
        correlation and rank_correlation (Pearson's and Spearman's, of learned with true window returns).
    """
    returns = member_returns(r_hat, pairs)
    # The mean of the normalised members, which is what is paid but for one positive factor.
    shift = r_hat.output_mean[:, None, None] * torch.from_numpy(pairs.length).to(returns)
    learned = ((returns - shift) / r_hat.output_std[:, None, None]).mean(0).double().cpu().numpy()  # (n, 2)
    true = pairs.true_returns()
    mu = exact_answers(true)
    sides = probability(returns[..., 0], returns[..., 1], floor=0.0).double()
    mean = ((1 - noise_floor) * sides + noise_floor / 2).mean(0).cpu().numpy()
    predicted = mean.clip(LEAST_CHANCE, 1 - LEAST_CHANCE)
    curve = reliability(predicted, mu)
    measures = {
        "accuracy": accuracy(exact_answers(learned), mu),
        "cross_entropy": mean_cross_entropy(predicted, mu),
        "cross_entropy_floor": cross_entropy_floor(mu, noise_floor),
        "brier": brier(predicted, mu),
        "calibration_error": curve.error,
        "correlation": correlation(learned.ravel(), true.ravel()),
        "rank_correlation": rank_correlation(learned.ravel(), true.ravel()),
    }
    return measures, curve


def learned_gain(r_hat: RewardEnsemble, before: Steps, newest: Steps) -> float:
    """How much more r-hat pays a step of the newest behaviour than one of some before, in deviations of r-hat.

    The reward that is paid has zero mean at every phase, so its return does not rise as the policy improves; this does,
    because the same r-hat judges both.
    """
    return float(r_hat.reward(*newest).mean() - r_hat.reward(*before).mean()) / r_hat.reward_std


class Watch:
    """Measures the reward model of a run as it goes, from behaviour that nobody was asked about.

    Made after the untrained policy's steps, which are what `learned_gain` compares with.

    Args:
        r_hat: the ensemble, which goes on learning.
        recorder: of the run.
        segment_steps: of the windows drawn.
        noise_floor: chance of a random answer that the likelihood assumes.
        rng: draws the windows.
    """

    def __init__(
        self,
        r_hat: RewardEnsemble,
        recorder: Recorder,
        segment_steps: int,
        noise_floor: float,
        rng: np.random.Generator,
    ) -> None:
        self.r_hat, self.recorder, self.rng = r_hat, recorder, rng
        self.segment_steps, self.noise_floor = segment_steps, noise_floor
        self.first: Steps = recorder.recent(recorder.steps, at_most=WATCHED)[:2]
        self._true_returns: list[float] = []
        self._lately: deque[Steps] = deque(maxlen=SMOOTHED)  # of the newest phases
        self._best: Steps = self.first  # of the phases with the best true return so far

    def measure(
        self, steps: int, episodes: Sequence[Episode], learned_returns: NDArray[np.float64]
    ) -> dict[str, float]:
        """A phase's measures: true_return, learned_return (as paid), learned_gain, alarm and those of `agreement`.

        The alarm is 1 where `prefrl.words.measures.parted` says that learned and true reward have parted.

        Args:
            steps: the phase's, over all environments.
            episodes: that finished in it.
            learned_returns: of the same episodes, as paid.
        """
        newest: Steps = self.recorder.recent(steps, at_most=WATCHED)[:2]
        true_return = mean_true_return(episodes)
        self._true_returns.append(true_return)
        true_returns = np.array([episode.true_return for episode in episodes])
        # an episode of several games has one return and several scores
        paid = learned_returns if len(learned_returns) == len(true_returns) else np.full(len(true_returns), math.nan)
        fresh = self.recorder.pairs(WATCHED_PAIRS, self.segment_steps, self.rng, newest=steps)
        return {
            "true_return": true_return,
            "learned_return": float(learned_returns.mean()) if len(learned_returns) else math.nan,
            "learned_gain": learned_gain(self.r_hat, self.first, newest),
            "alarm": int(parted(self._true_returns, self._approval(true_return, newest))),
            "episode_correlation": correlation(paid, true_returns),
            "episode_rank_correlation": rank_correlation(paid, true_returns),
            **agreement(self.r_hat, fresh, self.noise_floor)[0],
        }

    def state(self) -> dict[str, Any]:
        """The behaviour that later behaviour is compared with, the true returns so far, and the generator."""
        return {
            "first": self.first,
            "best": self._best,
            "lately": list(self._lately),
            "true_returns": self._true_returns,
            "rng": self.rng.bit_generator.state,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.first, self._best = tuple(state["first"]), tuple(state["best"])
        self._lately.extend(tuple(steps) for steps in state["lately"])
        self._true_returns = list(state["true_returns"])
        self.rng.bit_generator.state = state["rng"]

    def _approval(self, true_return: float, newest: Steps) -> float:
        """The learned gain of the newest phases over the best, by r-hat as it is: its scale changes."""
        if math.isfinite(true_return):
            every = -(-len(newest[0]) * SMOOTHED // WATCHED)
            self._lately.append((newest[0][::every], newest[1][::every]))
        lately = [np.concatenate(part) for part in zip(*self._lately, strict=True)] or self.first
        means = smoothed(self._true_returns)
        if math.isfinite(true_return) and len(means) and means[-1] == means.max():
            self._best = (lately[0], lately[1])
        return learned_gain(self.r_hat, self._best, (lately[0], lately[1]))
