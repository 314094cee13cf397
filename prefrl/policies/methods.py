"""How a run turns answers into behaviour: a model that explains them, and an agent that acts and learns from it.

One function for each method, in one table: `METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from prefrl.experience.recorder import Recorder
from prefrl.experience.task import Task
from prefrl.policies.cloning import clone, take_weights
from prefrl.policies.demonstrations import demonstrated, read_demonstrations
from prefrl.policies.direct import DIRECT
from prefrl.policies.direct_options import direct_fields, refuse_direct_options
from prefrl.policies.learners import replays
from prefrl.policies.off_policy import Replayer
from prefrl.policies.on_policy import Learner
from prefrl.policies.policy import read_policy
from prefrl.policies.reference import Reference, find_reference
from prefrl.policies.terms import Anchor
from prefrl.rewards.models import LearnedModel, Model, TrueReward, make_model
from prefrl.settings.config import AT_THE_START, BaselineConfig, TrainConfig
from prefrl.settings.presets import Preset
from prefrl.settings.resolved import Resolved, ResolvedTrain
from prefrl.words.errors import UserError, blamed_on
from prefrl.words.lookup import lookup
from prefrl.words.preference import Segment

CONSTANT = 1e-8  # variance of an input that says nothing: its scale is left


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


Method = Callable[[Resolved, Recorder, np.random.Generator, np.random.Generator], tuple[Model, Agent]]
"""Of a run's configuration, where it acts, what draws whatever fitting needs, and what draws whatever measuring needs:
the model and the agent of the run."""


def learn_from_reward(
    config: Resolved, env: Recorder, fit_rng: np.random.Generator, watch_rng: np.random.Generator
) -> tuple[Model, Agent]:
    """A reward model that pays, and a learner that learns from it (Christiano et al. 2017), or from the true reward."""
    model = make_model(config, env, fit_rng, watch_rng)
    return model, make_agent(config, env, model)


def make_agent(config: Resolved, env: Recorder, model: LearnedModel | TrueReward) -> Agent:
    """A learner that is paid by the model: one that learns from each step once, or one that replays them."""
    of_both = config.learner, model.paid, config.settings, config.seed, config.device
    if replays(config.learner):
        return Replayer(*of_both, model.paid_again, model.due, config.reward_std, bool(config.unsupervised))
    anchor, start = make_anchor(config, env, model), make_start(config)
    return Learner(*of_both, config.entropy_bonus, model.due, anchor, start)


METHODS: dict[str, Method] = {"reward": learn_from_reward, **DIRECT}


def make_method(
    config: Resolved, env: Recorder, fit_rng: np.random.Generator, watch_rng: np.random.Generator
) -> tuple[Model, Agent]:
    """The model and the agent of a run.

    Args:
        config: of the run.
        env: where it acts.
        fit_rng: draws whatever fitting needs.
        watch_rng: draws whatever measuring needs, so that measuring changes nothing.

    Raises:
        UserError: the method is somebody else's, and failed, or made something else.
    """
    name = config.method if isinstance(config, ResolvedTrain) else "reward"
    method = find_method(name)
    if name in METHODS:
        return method(config, env, fit_rng, watch_rng)
    with blamed_on(f"method {name!r}", "mend it there, or leave --method out"):
        made: Any = method(config, env, fit_rng, watch_rng)
    is_pair = isinstance(made, tuple) and len(made) == 2
    if not (is_pair and isinstance(made[0], Model) and isinstance(made[1], Agent)):
        raise UserError(f"method {name!r} returned {made!r:.80}: return a model and an agent, as {__name__} says.")
    return made[0], made[1]


def find_method(name: str) -> Method:
    """The method called `name`: a key of `METHODS`, or an import path.

    Raises:
        UserError: nothing is known by that name, or it cannot be called.
    """
    method: Any = lookup("method", name, METHODS)
    if not callable(method):
        raise UserError(f"method {name!r} is {method!r:.80}, which cannot be called: give the path of a function.")
    found: Method = method
    return found


def method_fields(config: BaselineConfig, preset: Preset) -> dict[str, Any]:
    """The fields that a direct method decides, `settings` among them; nothing of any other method.

    Raises:
        UserError: no such method, or options that it does not read.
    """
    if not isinstance(config, TrainConfig):
        return {}
    find_method(config.method)
    if config.method in DIRECT:
        return direct_fields(config, preset)
    refuse_direct_options(config)
    return {}


def make_anchor(config: Resolved, env: Recorder, model: Model) -> Anchor | None:
    """What holds a run's policy near a reference; None where nothing does."""
    if config.reference is None:
        return None
    reference = None
    if config.reference != AT_THE_START:
        spaces = env.observation_space, env.action_space
        reference = Reference.load(find_reference(config.reference), *spaces, config.device)
    return Anchor(config.kl_beta or 0.0, config.kl_target, lambda: model.unit, reference)


def make_start(config: Resolved) -> Callable[[Learner], None] | None:
    """What a run's policy knows before it first acts; None where it knows nothing."""
    if config.start_from is not None:
        return partial(_take, config.start_from)
    return partial(_clone, config) if config.demonstrations else None


def _take(saved: str, learner: Learner) -> None:
    """Take the weights and the observation statistics of a saved policy."""
    about, tensors = read_policy(find_reference(saved))
    take_weights(learner.model.policy, about, tensors)
    if "observation_mean" in tensors:
        learner.take_statistics(tensors["observation_mean"].numpy(), tensors["observation_var"].numpy(), 1.0)


def _clone(config: Resolved, learner: Learner) -> None:
    """Take the observation statistics of demonstrations, and clone what they do."""
    task, steps = Task.of(config), config.demonstration_steps
    shown = read_demonstrations(config.demonstrations, task, config.n_envs, steps, config.seed)
    observations = shown.observations
    if learner.normaliser is not None:
        mean, var = observations.mean(0, dtype=np.float64), observations.var(0, dtype=np.float64)
        learner.take_statistics(mean, np.where(var > CONSTANT, var, 1.0), float(len(observations)))
        observations = np.asarray(learner.normaliser.normalize_obs(observations))
    rng = np.random.default_rng((config.seed, len(observations)))
    clone(learner.model.policy, observations, shown.actions, config.cloning_epochs, rng)


def better_segments(config: Resolved) -> list[Segment]:
    """Segments of demonstrations that are taken to be better than the policy as it begins."""
    if not isinstance(config, ResolvedTrain) or not config.demonstration_labels:
        return []
    task, steps, count = Task.of(config), config.demonstration_steps, config.demonstration_labels
    return demonstrated(config.demonstrations, task, config.n_envs, steps, config.seed, count, config.segment_steps)
