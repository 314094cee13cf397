"""How a run turns answers into behaviour: a model that explains them, and an agent that acts and learns from it.

One function for each method. A method whose model is the policy itself returns the two as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from prefrl.experience.recorder import Recorder
from prefrl.policies.on_policy import Learner
from prefrl.policies.reference import Reference, find_reference
from prefrl.policies.terms import Anchor
from prefrl.rewards.models import Model, make_model
from prefrl.settings.config import AT_THE_START
from prefrl.settings.resolved import Resolved


@runtime_checkable
class Agent(Protocol):
    """What acts and learns, one phase after another."""

    @property
    def rollout_steps(self) -> int:
        """Steps of each environment between two updates, which the run's phases are made of."""

    def explore(self, vector_steps: int) -> None:
        """Act, and learn nothing."""

    def learn(self, rollouts: list[int], progress: Callable[[], float]) -> dict[str, float]:
        """Act for so many steps of each environment, and learn from each such part; measures of its learning.

        Args:
            rollouts: steps of each environment, part by part.
            progress: share of the run done.
        """

    def begin_anew(self) -> None:
        """Begin new episodes everywhere at the next step: the environments are others now."""

    def save(self, path: Path) -> None:
        """Write what acts again by itself."""

    def state(self) -> dict[str, Any]:
        """Everything that its later behaviour depends on."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""


def make_method(
    config: Resolved, env: Recorder, fit_rng: np.random.Generator, watch_rng: np.random.Generator
) -> tuple[Model, Agent]:
    """The model and the agent of a run.

    Args:
        config: of the run.
        env: where it acts.
        fit_rng: draws whatever fitting needs.
        watch_rng: draws whatever measuring needs, so that measuring changes nothing.
    """
    model = make_model(config, env, fit_rng, watch_rng)
    agent = Learner(
        config.learner,
        model.paid,
        config.settings,
        config.seed,
        config.device,
        config.entropy_bonus,
        model.due,
        make_anchor(config, env, model),
    )
    return model, agent


def make_anchor(config: Resolved, env: Recorder, model: Model) -> Anchor | None:
    """What holds a run's policy near a reference; None where nothing does."""
    if config.reference is None:
        return None
    reference = None
    if config.reference != AT_THE_START:
        spaces = env.observation_space, env.action_space
        reference = Reference.load(find_reference(config.reference), *spaces, config.device)
    return Anchor(config.kl_beta or 0.0, config.kl_target, lambda: model.unit, reference)
