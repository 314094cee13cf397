"""r-hat fitted to the answers (Christiano et al. 2017, section 2.2.3).

Each member learns from its own bootstrap of the answers, and is judged on the answers its bootstrap left out, about
1/e of them; the L2 penalty rises when a member's held-out loss exceeds 1.5 times its training loss and falls below 1.1.
All members share a minibatch of answers and differ in the weights they give them, so that one forward pass serves every
member's training loss and held-out loss, and one backward pass fits them all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from prefrl.bradley_terry import cross_entropy
from prefrl.preference import Preference
from prefrl.reward_model import RewardEnsemble

L2_FACTOR = 1.02  # per gradient step; Ibarz et al. 2018 (A.3) use 1.001 over fifty times as many steps
L2_RANGE = (1e-7, 1.0)
RATIO_RANGE = (1.1, 1.5)  # held-out over training loss (paper, section 2.2.3)
SMOOTHING = 0.05  # of the running losses that the ratio is taken from


@dataclass(frozen=True)
class FitReport:
    """What one fit did: means over members, from the minibatches of its last pass over the answers.

    Attributes:
        updates: gradient steps.
        train_loss: cross-entropy on the answers in each member's bootstrap, in nats.
        held_out_loss: cross-entropy on those left out of it.
        held_out_accuracy: share of the decided, left-out answers predicted right.
        l2: geometric mean of the penalty weights after the fit.
    """

    updates: int = 0
    train_loss: float = math.nan
    held_out_loss: float = math.nan
    held_out_accuracy: float = math.nan
    l2: float = math.nan


class Fit:
    """The answers so far, and what a warm start needs between phases: Adam's state, bootstraps, penalty weights.

    Args:
        r_hat: the ensemble that is fitted, in place.
        rng: draws bootstraps and minibatches.
        noise_floor: chance of a random answer assumed by the likelihood (paper: 0.1).
        learning_rate: Adam's.
        batch: answers per minibatch.
        l2: first penalty weight; 0 for none.
        max_answers: fit to this many newest answers; None for all.
    """

    def __init__(
        self,
        r_hat: RewardEnsemble,
        rng: np.random.Generator,
        noise_floor: float = 0.1,
        learning_rate: float = 1e-3,
        batch: int = 64,
        l2: float = 1e-4,
        max_answers: int | None = None,
    ) -> None:
        self.r_hat, self.rng = r_hat, rng
        self.noise_floor, self.batch, self.max_answers = noise_floor, batch, max_answers
        self.adam = torch.optim.Adam(r_hat.parameters(), lr=learning_rate, fused=True)
        device = r_hat.input_mean.device
        self.l2 = torch.full((r_hat.members,), float(l2), device=device)
        self._losses: Tensor | None = None  # (2, K) running training and held-out losses
        self._inputs = torch.zeros(0, device=device)  # (N, 2, T, d), not normalised
        self._mu = torch.zeros(0, device=device)  # (N,)
        self._counts = torch.zeros(0, r_hat.members, device=device)  # (N, K) times each answer is in each bootstrap

    def __len__(self) -> int:
        """Answers that are fitted."""
        return len(self._mu)

    def add(self, preferences: Sequence[Preference]) -> None:
        """Take in new answers; skipped ones teach nothing and are left out.

        An answer enters each member's bootstrap Poisson(1) times, once and for all: the online bootstrap (Oza and
        Russell 2001), which leaves out a share 1/e and keeps an answer held out through every warm start.
        """
        decided = [p for p in preferences if p.mu is not None]
        if not decided:
            return
        segments = [s for p in decided for s in (p.query.left, p.query.right)]
        steps = self.r_hat.inputs(
            np.concatenate([s.observations for s in segments]), np.concatenate([s.actions for s in segments])
        )
        inputs = steps.view(len(decided), 2, -1, steps.shape[-1])
        mu = torch.tensor([p.mu for p in decided], dtype=torch.float32, device=steps.device)
        counts = torch.from_numpy(self.rng.poisson(1.0, (len(decided), self.r_hat.members))).float().to(steps.device)
        keep = slice(-self.max_answers if self.max_answers else None, None)
        self._inputs = torch.cat([self._inputs, inputs] if len(self) else [inputs])[keep]
        self._mu = torch.cat([self._mu, mu])[keep]
        self._counts = torch.cat([self._counts, counts])[keep]

    def epochs(self, count: int) -> int:
        """Gradient steps in this many passes over the answers."""
        return count * math.ceil(len(self) / self.batch)

    def run(self, updates: int) -> FitReport:
        """Take this many gradient steps on minibatches of the answers."""
        if not len(self) or not updates:
            return FitReport()
        normalised = self.r_hat.normalised(self._inputs)
        last_pass: list[Tensor] = []
        rows = self._minibatches(updates)
        per_pass = self.epochs(1)
        for index in rows:
            tally = self._update(normalised[index], self._mu[index], self._counts[index].T)
            last_pass = [*last_pass[-per_pass + 1 :], tally] if per_pass > 1 else [tally]
        train, trained, held, left_out, right, decided = torch.stack(last_pass).sum(0).unbind()
        return FitReport(
            updates=updates,
            train_loss=(train / trained).nanmean().item(),
            held_out_loss=(held / left_out).nanmean().item(),
            held_out_accuracy=(right / decided).nanmean().item(),
            l2=self.l2.log().mean().exp().item(),
        )

    def _minibatches(self, updates: int) -> list[Tensor]:
        """Indices of each minibatch: pass after pass over the answers, each in a new order."""
        per_pass = self.epochs(1)
        passes = [self.rng.permutation(len(self)) for _ in range(-(-updates // per_pass))]
        device = self._mu.device
        return [torch.from_numpy(part).to(device) for order in passes for part in np.array_split(order, per_pass)][
            :updates
        ]

    def _update(
        self, inputs: Float[Tensor, "b 2 t d"], mu: Float[Tensor, " b"], counts: Float[Tensor, "k b"]
    ) -> Float[Tensor, "6 k"]:
        """One gradient step of every member; sums of loss, accuracy and their weights before it."""
        rewards = self.r_hat(inputs.flatten(0, 2)).view(self.r_hat.members, *inputs.shape[:3])
        left, right = rewards.sum(-1).unbind(-1)  # (K, B) undiscounted returns
        losses = cross_entropy(left, right, mu, self.noise_floor)
        weight = counts.sum(1).clamp_min(1.0)
        penalty = torch.stack([w.square().sum((1, 2)) for w in self.r_hat.weights]).sum(0)
        total = ((losses * counts).sum(1) / weight + self.l2 * penalty).sum()
        self.adam.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        with torch.no_grad():
            held = counts == 0
            decided = held & (mu != 0.5)
            tally = torch.stack(
                [
                    (losses * counts).sum(1),
                    counts.sum(1),
                    (losses * held).sum(1),
                    held.sum(1),
                    (((left > right) == (mu > 0.5)) & decided).sum(1),
                    decided.sum(1),
                ]
            )
            self._adapt_l2(tally)
        return tally

    def _adapt_l2(self, tally: Float[Tensor, "6 k"]) -> None:
        """Move each member's penalty weight against over- or under-fitting (paper, section 2.2.3)."""
        losses = torch.stack([tally[0] / tally[1], tally[2] / tally[3]])
        if self._losses is None:
            self._losses = losses.clone()
        seen = losses.isfinite()  # a small minibatch may leave nothing out
        self._losses = torch.where(seen, self._losses.nan_to_num() * (1 - SMOOTHING) + losses * SMOOTHING, self._losses)
        self.l2 = adapted_l2(self.l2, self._losses[0], self._losses[1])


def adapted_l2(
    l2: Float[Tensor, " k"], train_loss: Float[Tensor, " k"], held_out_loss: Float[Tensor, " k"]
) -> Float[Tensor, " k"]:
    """The next penalty weights: larger where held-out > 1.5 x training loss, smaller where < 1.1 x, else the same.

    A weight of zero, which means no penalty was asked for, stays zero.
    """
    low, high = RATIO_RANGE
    ratio = held_out_loss / train_loss
    factor = torch.where(ratio > high, L2_FACTOR, torch.where(ratio < low, 1 / L2_FACTOR, 1.0))
    return torch.where(l2 > 0, (l2 * factor).clamp(*L2_RANGE), l2)
