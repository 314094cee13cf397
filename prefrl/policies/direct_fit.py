"""A policy fitted to the answers itself, by one of the losses of `prefrl.words.direct_losses`.

Gradient steps are counted as those of a reward's fit are: so many passes over the first answers, then so many steps a
phase on minibatches of all answers so far. A share of the answers is held out for good, and says how far to trust the
rest; nothing stops early.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from prefrl.policies.direct_answers import DirectAnswers, Shown
from prefrl.policies.implicit import ImplicitReward
from prefrl.rewards.fit import FitReport, Steps
from prefrl.words.direct_losses import discounted
from prefrl.words.errors import UserError
from prefrl.words.optimisers import restore_optimiser
from prefrl.words.preference import Preference
from prefrl.words.process import flush_subnormals

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of a left and a right sum over segments, and the weights on the left ones: a loss for each, all (b,)."""


@dataclass(frozen=True)
class Start:
    """What the policy is before the first answer teaches it.

    Attributes:
        segments: which of the segments asked about it is fitted to by maximum likelihood first.
        epochs: passes over them.
        is_given: whether it came with observation statistics, which then stay.
    """

    segments: Literal["none", "all", "preferred"] = "none"
    epochs: int = 0
    is_given: bool = False


class DirectFit:
    """Fits a policy, and keeps what a warm start needs between phases.

    Args:
        r_hat: the reward that the policy implies; the policy in it is fitted, in place.
        loss: of sums over segments, of log pi - log pi_ref where the reward has a reference, else of log pi.
        rng: draws minibatches, and which answers are held out.
        segment_steps: the most steps in a segment.
        start: what comes before the first answer teaches anything.
        learning_rate: Adam's, by the share of the run done.
        batch: answers in a minibatch; as many as there are, and every step is on all of them.
        held_out: share of the answers that are held out.
        discount: of later steps in a segment.
        max_answers: fit to this many newest answers; None for all.
    """

    def __init__(
        self,
        r_hat: ImplicitReward,
        loss: Loss,
        rng: np.random.Generator,
        segment_steps: int,
        start: Start,
        learning_rate: Callable[[], float],
        batch: int,
        held_out: float,
        discount: float = 1.0,
        max_answers: int | None = None,
    ) -> None:
        self.r_hat = r_hat
        self.loss, self.rng, self.start, self.learning_rate = loss, rng, start, learning_rate
        self.batch, self.held_out, self.discount = batch, held_out, discount
        self.answers = DirectAnswers(r_hat.policy, segment_steps, max_answers)
        self.has_begun = False
        self.adam = self._new_adam()

    def add(self, preferences: Sequence[Preference]) -> None:
        """Take in new answers; skipped ones teach nothing and are left out.

        Raises:
            UserError: an answer is about more than two segments.
        """
        if other := next((p.query.kind for p in preferences if p.query.kind != "pair"), None):
            raise UserError(
                f"a direct method learns from answers about two segments, and one of these is of the kind {other!r}: "
                f"use --method reward, or answers to pairs."
            )
        decided = [p for p in preferences if p.mu is not None]
        self.answers.add(decided, self.rng.random(len(decided)) < self.held_out)
        if self.has_begun:
            self._refer(len(decided))

    def forget(self, given: Sequence[tuple[str, str]]) -> int:
        """Leave out answers that were taken back, by query key and labeler; how many of them were there."""
        kept = np.array([pair not in given for pair in self.answers.given], bool)
        if not kept.all():
            self.answers.keep(kept)
        return int(np.sum(~kept))

    def epochs(self, count: int) -> int:
        """Gradient steps in this many passes over the answers that are not held out."""
        return count * math.ceil(int(np.sum(~self.answers.held)) / self.batch)

    def refit(self, newest: Steps, window: Steps, updates: int, kept: float) -> FitReport:
        """Take gradient steps, and normalise what the policy's reward pays; the first time, begin.

        Gradient steps that lead to numbers that are not finite are taken back: the policy is what it was before them.

        Args:
            newest: observations (n, *observation_shape) and actions (n, *action_shape) since the last call.
            window: those over which the reward gets its scale.
            updates: gradient steps.
            kept: share of the reward's mean that is paid (`RewardEnsemble.normalise_outputs`).
        """
        before = self._now()
        try:
            if not self.has_begun:
                self._begin(newest[0])
                before = self._now()
            report = self.run(updates)
        except FloatingPointError:
            reward, adam = before
            self.r_hat.restore(reward)
            restore_optimiser(self.adam, adam)
            report = FitReport(diverged=True)
        self.r_hat.normalise_outputs(*window, kept)
        return report

    def _now(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """A copy of what gradient steps change: both policies, and the optimiser."""
        return copy.deepcopy((self.r_hat.state(), self.adam.state_dict()))

    def _begin(self, seen: NDArray[Any]) -> None:
        """Set the statistics of observations for good, clone, and take what comes of it for the reference."""
        policy = self.r_hat.policy
        if not self.start.is_given:
            policy.look_at(self.answers.observations(seen))
        if self.start.segments != "none":
            self._descend(self.epochs(self.start.epochs), self._cloning_loss)
            self.adam = self._new_adam()
        self.r_hat.anchor()
        self.has_begun = True
        self._refer(len(self.answers))

    @flush_subnormals
    def run(self, updates: int) -> FitReport:
        """Take this many gradient steps on minibatches of the answers."""
        losses = self._descend(updates, self._loss)
        if not losses:
            return FitReport()
        held_loss, held_accuracy = self._on_held_out()
        return FitReport(
            updates=updates,
            train_loss=torch.stack(losses[-self.epochs(1) :]).mean().item(),
            held_out_loss=held_loss,
            held_out_accuracy=held_accuracy,
        )

    def _descend(self, updates: int, loss: Callable[[Shown], Tensor]) -> list[Tensor]:
        """Gradient steps on a loss of minibatches; what it was before each.

        Raises:
            FloatingPointError: the next of them would lead to numbers that are not finite.
        """
        taken, weights = [], [weight for group in self.adam.param_groups for weight in group["params"]]
        for group in self.adam.param_groups:
            group["lr"] = self.learning_rate()
        for index in self._minibatches(updates):
            of_batch = loss(self.answers.batch(index))
            self.adam.zero_grad()
            of_batch.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
            if not norm.isfinite():
                raise FloatingPointError("a gradient that is not finite")
            self.adam.step()
            taken.append(of_batch.detach())
        return taken

    def _minibatches(self, updates: int) -> Sequence[NDArray[np.integer]]:
        """Places of each minibatch: pass after pass over the answers, each in a new order, in equal parts."""
        places, per_pass = np.flatnonzero(~self.answers.held), self.epochs(1)
        if not per_pass:
            return []
        orders = [self.rng.permutation(places) for _ in range(-(-updates // per_pass))]
        return [part for order in orders for part in np.array_split(order, per_pass)][:updates]

    def _loss(self, shown: Shown) -> Tensor:
        left, right = self._sums(shown).unbind(1)
        return self.loss(left, right, shown.mu).mean()

    def _sums(self, shown: Shown) -> Float[Tensor, "b 2"]:
        """Of each segment: log pi, less log pi_ref where there is one, over its steps."""
        log_prob = self.r_hat.policy(shown.observations, shown.actions).view(shown.mask.shape)
        return discounted(log_prob - shown.reference, shown.mask, self.discount)

    def _cloning_loss(self, shown: Shown) -> Tensor:
        """Minus the mean log pi of the steps of all segments, or of the preferred ones."""
        log_prob = self.r_hat.policy(shown.observations, shown.actions).view(shown.mask.shape)
        weight = shown.mask
        if self.start.segments == "preferred":
            weight = weight * torch.stack([shown.mu, 1 - shown.mu], dim=1)[..., None]
        log_likelihood: Tensor = (log_prob * weight).sum() / weight.sum().clamp_min(1.0)
        return -log_likelihood

    @torch.no_grad()
    def _on_held_out(self) -> tuple[float, float]:
        """Loss, and accuracy on the decided ones, of the answers held out; NaN where there are none."""
        places = np.flatnonzero(self.answers.held)
        if not len(places):
            return math.nan, math.nan
        losses, correct = [], []
        for part in np.array_split(places, -(-len(places) // self.batch)):
            shown = self.answers.batch(part)
            left, right = self._sums(shown).unbind(1)
            losses.append(self.loss(left, right, shown.mu))
            side = (1 + (left - right).sign()) / 2  # one half takes no side
            correct.append((1 - (side - (shown.mu > 0.5).float()).abs())[shown.mu != 0.5])
        decided = torch.cat(correct)
        return torch.cat(losses).mean().item(), decided.mean().item() if len(decided) else math.nan

    def _refer(self, newest: int) -> None:
        if self.r_hat.reference is not None:
            self.answers.refer_to(self.r_hat.reference, newest, self.batch)

    def _new_adam(self) -> torch.optim.Adam:
        weights = [weight for weight in self.r_hat.policy.parameters() if weight.requires_grad]
        return torch.optim.Adam(weights, lr=self.learning_rate(), fused=True)

    def state(self) -> dict[str, Any]:
        """Both policies, the optimiser, the answers and which are held out, and the generator."""
        return {
            "r_hat": self.r_hat.state(),
            "adam": self.adam.state_dict(),
            "answers": self.answers.state(),
            "has_begun": self.has_begun,
            "rng": self.rng.bit_generator.state,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.r_hat.restore(state["r_hat"])
        restore_optimiser(self.adam, state["adam"])
        self.answers.restore(state["answers"])
        self.has_begun = state["has_begun"]
        self.rng.bit_generator.state = state["rng"]
