"""r-hat fitted to the answers (Christiano et al. 2017, section 2.2.3).

Each member learns from its own bootstrap of the answers, and is judged on the answers its bootstrap left out, about
1/e of them; the L2 penalty rises when a member's held-out loss exceeds 1.5 times its training loss and falls below 1.1.
The paper does not say when the losses are taken: here just before each update, on its minibatch, which costs nothing
more and makes the ratio 3 to 8 % lower than on all answers at one moment.
All members share a minibatch of answers and differ in the weights they give them, so that one forward pass serves every
member's training loss and held-out loss, and one backward pass fits them all.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from prefrl.rewards.answers import Answers, Minibatch
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.words.bradley_terry import cross_entropy
from prefrl.words.optimisers import restore_optimiser
from prefrl.words.plackett_luce import cross_entropy_of_choices
from prefrl.words.preference import Preference
from prefrl.words.process import flush_subnormals

L2_FACTOR = 1.02  # per gradient step; Ibarz et al. 2018 (A.3) use 1.001 over fifty times as many steps
# Held below 0.01, or left to rise to 0.3, r-hat explains fresh pairs less well (`python -m benchmarks.reward_fit`).
L2_RANGE = (1e-7, 0.1)
RATIO_RANGE = (1.1, 1.5)  # held-out over training loss (paper, section 2.2.3)
SMOOTHING = 0.05  # of the running losses that the ratio is taken from


Steps = tuple[NDArray[Any], NDArray[Any]]  # observations and actions


@dataclass(frozen=True)
class FitReport:
    """What one fit did: means over members, from the minibatches of its last pass over the answers.

    Attributes:
        updates: gradient steps.
        train_loss: cross-entropy on the answers in each member's bootstrap, in nats, each taken just before the update
            that learns from it: the longest after its last one, so that it is 3 to 8 % above what the same networks
            have on all of these answers at once.
        held_out_loss: cross-entropy on those left out of it.
        held_out_accuracy: share of the decided, left-out answers predicted right; one that takes no side is half right,
            and of one about more than two segments it is the share of the comparisons in it.
        l2: geometric mean of the penalty weights after the fit.
        diverged: whether it led to numbers that are not finite, and was taken back.
    """

    updates: int = 0
    train_loss: float = math.nan
    held_out_loss: float = math.nan
    held_out_accuracy: float = math.nan
    l2: float = math.nan
    diverged: bool = False


class Fit:
    """Fits an ensemble, and keeps what a warm start needs between phases: Adam's state, bootstraps, penalty weights.

    Args:
        r_hat: the ensemble that is fitted, in place.
        rng: draws bootstraps and minibatches.
        segment_steps: the most steps in a segment.
        noise_floor: chance of a random answer assumed by the likelihood (paper: 0.1).
        learning_rate: Adam's.
        batch: answers per minibatch.
        l2: first penalty weight; 0 for none.
        max_answers: fit to this many newest answers; None for all.
        objective: "preference", or "target" for least squares on true segment returns (paper, section 3.3).
        l2_range: least and most that the penalty weight is adapted to.
        likelihood: what an order of more than two is taken for, as `Answers` has it.
        margin: of what was called much better, as `Answers` has it.
    """

    def __init__(
        self,
        r_hat: RewardEnsemble,
        rng: np.random.Generator,
        segment_steps: int,
        noise_floor: float = 0.1,
        learning_rate: float = 1e-3,
        batch: int = 64,
        l2: float = 1e-4,
        max_answers: int | None = None,
        objective: str = "preference",
        l2_range: tuple[float, float] = L2_RANGE,
        likelihood: str = "plackett-luce",
        margin: float = 0.0,
    ) -> None:
        self.r_hat, self.rng = r_hat, rng
        self.noise_floor, self.batch, self.objective, self.l2_range = noise_floor, batch, objective, l2_range
        self.answers = Answers(r_hat, segment_steps, max_answers, likelihood, margin)
        self.adam = torch.optim.Adam(r_hat.parameters(), lr=learning_rate, fused=True)
        self.l2 = torch.full((r_hat.members,), float(l2), device=self.answers.device)
        self._given: list[tuple[str, str]] = []  # query key and labeler of each answer
        self._losses: Tensor | None = None  # (2, K) running training and held-out losses

    def add(self, preferences: Sequence[Preference]) -> None:
        """Take in new answers; skipped ones teach nothing and are left out.

        An answer enters each member's bootstrap Poisson(1) times, once and for all: the online bootstrap (Oza and
        Russell 2001), which leaves out a share 1/e and keeps an answer held out through every warm start.
        """
        decided = [p for p in preferences if p.is_decided]
        self.answers.add(decided, self.rng.poisson(1.0, (len(decided), self.r_hat.members)))
        self._given = (self._given + [(p.query.key, p.labeler) for p in decided])[-len(self.answers) or None :]

    def forget(self, given: Sequence[tuple[str, str]]) -> int:
        """Leave out answers that were taken back, by query key and labeler; how many of them were there."""
        if not given:
            return 0
        kept = np.array([pair not in given for pair in self._given], bool)
        self.answers.keep(kept)
        self._given = [pair for pair, keep in zip(self._given, kept, strict=True) if keep]
        return int(np.sum(~kept))

    def state(self) -> dict[str, Any]:
        """The ensemble, its optimiser and penalties, the answers with their bootstraps, and the generator."""
        return {
            "r_hat": self.r_hat.state(),
            "adam": self.adam.state_dict(),
            "l2": self.l2,
            "losses": self._losses,
            "given": self._given,
            "answers": self.answers.state(),
            "rng": self.rng.bit_generator.state,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        device = self.answers.device
        self.r_hat.restore(state["r_hat"])
        restore_optimiser(self.adam, state["adam"])
        self.l2 = state["l2"].to(device)
        self._losses = None if state["losses"] is None else state["losses"].to(device)
        self._given = [(key, labeler) for key, labeler in state["given"]]
        self.answers.restore(state["answers"])
        self.rng.bit_generator.state = state["rng"]

    def epochs(self, count: int) -> int:
        """Gradient steps in this many passes over the answers."""
        return count * math.ceil(len(self.answers) / self.batch)

    @flush_subnormals
    def run(self, updates: int) -> FitReport:
        """Take this many gradient steps on minibatches of the answers."""
        if not len(self.answers) or not updates:
            return FitReport()
        self.r_hat.train()
        tallies: deque[Tensor] = deque(maxlen=self.epochs(1))
        for index in self._minibatches(updates):
            tallies.append(self._update(self.answers.batch(index)))
        self.r_hat.eval()
        train, trained, held, left_out, right, decided = torch.stack(list(tallies)).sum(0).unbind()
        return FitReport(
            updates=updates,
            train_loss=(train / trained).nanmean().item(),
            held_out_loss=(held / left_out).nanmean().item(),
            held_out_accuracy=(right / decided).nanmean().item(),
            l2=self.l2.log().mean().exp().item(),
        )

    def refit(self, newest: Steps, window: Steps, updates: int, kept: float) -> FitReport:
        """Take in new experience, take gradient steps, and normalise what the ensemble pays.

        Gradient steps that lead to numbers that are not finite are taken back: the ensemble is what it was before them.

        Args:
            newest: observations (n, *observation_shape) and actions (n, *action_shape) since the last call.
            window: those over which the reward gets its scale.
            updates: gradient steps.
            kept: share of the reward's mean that is paid (`RewardEnsemble.normalise_outputs`).
        """
        self.r_hat.observe(*newest)
        reward, adam = copy.deepcopy((self.r_hat.state(), self.adam.state_dict()))
        l2, losses = self.l2, self._losses  # both are replaced, never changed in place
        report = self.run(updates)
        self.r_hat.normalise_outputs(*window, kept)
        if all(tensor.isfinite().all() for tensor in self.r_hat.state_dict().values()):
            return report
        self.r_hat.restore(reward)
        restore_optimiser(self.adam, adam)
        self.l2, self._losses = l2, losses
        self.r_hat.normalise_outputs(*window, kept)
        return FitReport(diverged=True)

    def _minibatches(self, updates: int) -> Sequence[NDArray[np.integer]]:
        """Places of each minibatch: pass after pass over the answers, each in a new order, in equal parts."""
        per_pass = self.epochs(1)
        orders = [self.rng.permutation(len(self.answers)) for _ in range(-(-updates // per_pass))]
        return [part for order in orders for part in np.array_split(order, per_pass)][:updates]

    def _update(self, batch: Minibatch) -> Float[Tensor, "6 k"]:
        """One gradient step of every member; sums of loss, accuracy and their weights before it."""
        returns = self.r_hat.returns(batch.inputs.flatten(0, 1), batch.mask.flatten(0, 1))
        returns = returns.view(self.r_hat.members, *batch.mask.shape[:2])  # (K, b, n)
        losses = self._losses_of(returns, batch)
        counts = batch.counts.T
        loss = (losses * counts).sum(1) / counts.sum(1).clamp_min(1.0)
        self.adam.zero_grad()
        loss.sum().backward()  # type: ignore[no-untyped-call]
        self.r_hat.network.decay(self.l2)
        self.adam.step()
        with torch.no_grad():
            held = counts == 0
            right_about, says = rightly_ordered(returns, batch)
            decided = held & says
            tally = torch.stack(
                [
                    (losses * counts).sum(1),
                    counts.sum(1),
                    (losses * held).sum(1),
                    held.sum(1),
                    torch.where(decided, right_about, 0.0).sum(1),
                    decided.sum(1),
                ]
            )
            self._adapt_l2(tally)
        return tally

    def _losses_of(self, returns: Float[Tensor, "k b n"], batch: Minibatch) -> Float[Tensor, "k b"]:
        """What each answer costs each member; of two segments by Bradley and Terry's form, which is exact."""
        if self.objective == "target":  # true returns, brought to unit deviation: r-hat is normalised after all
            off = (returns - batch.true_returns).square() * batch.there
            return off.sum(-1) / batch.there.sum(-1)
        judged = returns - batch.margin
        if judged.shape[-1] == 2:
            return cross_entropy(judged[..., 0], judged[..., 1], batch.mu, self.noise_floor)
        return cross_entropy_of_choices(judged, batch.chosen, batch.among, self.noise_floor)

    def _adapt_l2(self, tally: Float[Tensor, "6 k"]) -> None:
        """Move each member's penalty weight against over- or under-fitting (paper, section 2.2.3)."""
        losses = torch.stack([tally[0] / tally[1], tally[2] / tally[3]])
        if self._losses is None:
            self._losses = losses.clone()
        before = torch.where(self._losses.isfinite(), self._losses, losses)
        seen = losses.isfinite()  # a small minibatch may leave nothing out
        self._losses = torch.where(seen, before * (1 - SMOOTHING) + losses * SMOOTHING, before)
        self.l2 = adapted_l2(self.l2, self._losses[0], self._losses[1], self.l2_range)


def rightly_ordered(
    returns: Float[Tensor, "k b n"], batch: Minibatch
) -> tuple[Float[Tensor, "k b"], Bool[Tensor, " b"]]:
    """Share of each answer's comparisons that each member orders as it does, and whether it makes any.

    Equals are not compared, and a member that takes no side is half right.
    """
    one, other = torch.triu_indices(returns.shape[-1], returns.shape[-1], 1, device=returns.device)
    there = batch.there > 0
    compared = (batch.ranks[:, one] != batch.ranks[:, other]) & there[:, one] & there[:, other]  # (b, c)
    gap = returns[..., one] - returns[..., other]
    side = torch.where(gap.isnan(), gap, (1 + gap.sign()) / 2)
    right = 1 - (side - (batch.ranks[:, one] < batch.ranks[:, other]).float()).abs()
    return torch.where(compared, right, 0.0).sum(-1) / compared.sum(-1).clamp_min(1), compared.any(-1)


def adapted_l2(
    l2: Float[Tensor, " k"],
    train_loss: Float[Tensor, " k"],
    held_out_loss: Float[Tensor, " k"],
    l2_range: tuple[float, float] = L2_RANGE,
) -> Float[Tensor, " k"]:
    """The next penalty weights: larger where held-out > 1.5 x training loss, smaller where < 1.1 x, else the same.

    A weight of zero, which means no penalty was asked for, stays zero; one that was asked for above the range may fall
    into it, and does not rise.
    """
    low, high = RATIO_RANGE
    ratio = held_out_loss / train_loss
    factor = torch.where(ratio > high, L2_FACTOR, torch.where(ratio < low, 1 / L2_FACTOR, 1.0))
    least, most = l2_range
    return torch.where(l2 > 0, torch.minimum(l2 * factor, l2.clamp_min(most)).clamp_min(least), l2)
