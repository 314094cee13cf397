"""What a policy is paid by, and how that is learned: r-hat from the answers, or the true reward as it is.

A model takes what was answered, is fitted once a phase, pays the policy, and says how it is doing.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnvWrapper

from prefrl.experience.recorder import SAMPLE, Episode, Recorder, mean_true_return
from prefrl.rewards.fit import Fit, FitReport, Steps
from prefrl.rewards.paid import LearnedReward, ScaledTrueReward
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.rewards.watch import Watch
from prefrl.settings.resolved import Resolved, ResolvedTrain
from prefrl.words.preference import Preference
from prefrl.words.process import for_small_networks
from prefrl.words.scale import kept_mean

AT_ONCE = 65_536  # steps that are paid again at one time: a few MB of them


@runtime_checkable
class Model(Protocol):
    """Something that pays a policy, and may be learned from answers."""

    @property
    def paid(self) -> VecEnvWrapper:
        """The environments, paid by this model."""

    @property
    def due(self) -> Callable[[], NDArray[np.float32]] | None:
        """Rewards (steps, n_envs) of the rollout just collected, where `paid` pays none as it steps; else None."""

    @property
    def unit(self) -> float:
        """What one unit of the reward before it is scaled is paid as now; a learned reward's are log-odds."""

    def begin(self, given: Sequence[Preference]) -> None:
        """Take in the answers that were there before, and look at the untrained policy's steps, just taken."""

    def take(self, given: Sequence[Preference], taken_back: Sequence[tuple[str, str]]) -> None:
        """Learn from these answers from now on, and no longer from those, by query key and labeler."""

    def fit(self, live: bool) -> None:
        """Explain every answer so far, if the model still learns; it may be done beside the policy's learning."""

    def settle(self) -> None:
        """Wait for a fit that is done beside the policy's learning, and pay by it."""

    def measures(self, phase_steps: int, episodes: Sequence[Episode]) -> dict[str, float]:
        """Columns of metrics.csv about a phase of so many steps, over all environments, and its episodes."""

    def save(self, folder: Path) -> None:
        """Write what was learned into the run's folder."""

    def close(self) -> None:
        """End what runs beside."""

    def state(self) -> dict[str, Any]:
        """Everything that changes between two phases."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""


@runtime_checkable
class FitsAnswers(Protocol):
    """What has a reward explain the answers: `prefrl.rewards.fit.Fit`, or another of its kind."""

    @property
    def r_hat(self) -> RewardEnsemble:
        """The reward that is fitted."""

    def add(self, preferences: Sequence[Preference]) -> None:
        """Take in new answers."""

    def forget(self, given: Sequence[tuple[str, str]]) -> int:
        """Leave out answers that were taken back, by query key and labeler; how many of them were there."""

    def epochs(self, count: int) -> int:
        """Gradient steps in this many passes over the answers."""

    def refit(self, newest: Steps, window: Steps, updates: int, kept: float) -> FitReport:
        """Take in new experience, take gradient steps, and normalise what the reward pays."""

    def state(self) -> dict[str, Any]:
        """Everything that the next fit depends on; under `r_hat` the reward's own."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""


class LearnedModel:
    """r-hat, fitted to the answers (Christiano et al. 2017, section 2.2.3).

    Args:
        config: of the run.
        env: its experience.
        r_hat: what pays.
        fit: has r-hat, or with `overlap` a copy of it, explain the answers.
        watch_rng: draws the windows that r-hat is judged on.
    """

    def __init__(
        self,
        config: ResolvedTrain,
        env: Recorder,
        r_hat: RewardEnsemble,
        fit: FitsAnswers,
        watch_rng: np.random.Generator,
    ) -> None:
        self.config, self.env, self.r_hat, self._fit, self._watch_rng = config, env, r_hat, fit, watch_rng
        # the learner never sees the true reward
        self.paid = LearnedReward(env, self.r_hat, late=True, at_the_end=config.reward_at == "end")
        self.due = self.paid.due
        self.fitted = config.reward_from is not None  # people may answer later than asked
        self._seen = 0  # steps whose inputs are in r-hat's normalisation
        self._report = FitReport()
        self._beside = ThreadPoolExecutor(1, initializer=for_small_networks)
        self._fitting: Future[FitReport] | None = None

    @property
    def unit(self) -> float:
        """What one log-odds of the members' weighted mean reward is paid as."""
        return self.r_hat.unit

    def begin(self, given: Sequence[Preference]) -> None:
        """Take in the answers that were there before; later behaviour is compared with the steps just taken."""
        self._fit.add(given)
        self._watch = self._watched()

    def _watched(self) -> Watch:
        return Watch(self.r_hat, self.env, self.config.segment_steps, self.config.noise_floor, self._watch_rng)

    def take(self, given: Sequence[Preference], taken_back: Sequence[tuple[str, str]]) -> None:
        """Learn from these answers from now on, and no longer from those, by query key and labeler."""
        self._fit.forget(taken_back)
        self._fit.add(given)

    def fit(self, live: bool) -> None:
        """Explain every answer so far; with `overlap` on another thread, from the second fit on."""
        self._report = FitReport()
        if not live:
            return
        config, env = self.config, self.env
        newest = env.recent(env.steps - self._seen, at_most=SAMPLE)[:2]
        window = env.recent(config.reward_window, at_most=SAMPLE)[:2]
        goes_on = self.fitted and not config.rounds  # a round's answers come all together, as the first do
        updates = config.fit_updates if goes_on else self._fit.epochs(config.initial_epochs)
        refit = partial(self._fit.refit, newest, window, updates, kept_mean_of(config, env))
        self._seen = env.steps
        if config.overlap and self.fitted:
            self._fitting = self._beside.submit(refit)
        else:
            self._pay_by(refit())

    def settle(self) -> None:
        """Wait for a fit that is done beside the policy's learning, and pay by it."""
        if self._fitting is not None:
            self._pay_by(self._fitting.result())
            self._fitting = None

    def paid_again(self, vector_steps: int) -> NDArray[np.float32]:
        """What the newest vector steps are paid as r-hat is now, oldest first: (vector_steps, n_envs)."""
        paid = [self.paid.worth(*steps) for steps in self.env.stretches(vector_steps, AT_ONCE)]
        return np.concatenate(paid).reshape(-1, self.env.num_envs)

    def _pay_by(self, report: FitReport) -> None:
        self._report = report
        if report.diverged:
            print(
                f"the reward's fit after {self.env.steps:,} steps led to numbers that are not finite, and was taken "
                f"back: r-hat is what it was before; a lower reward_learning_rate may help.",
                file=sys.stderr,
            )
        self.fitted = self.fitted or report.updates > 0
        self.r_hat.load_state_dict(self._fit.r_hat.state_dict())

    def measures(self, phase_steps: int, episodes: Sequence[Episode]) -> dict[str, float]:
        """How r-hat does on the phase's behaviour, which nobody was asked about, and what its fit came to."""
        return {
            **self._watch.measure(phase_steps, episodes, self.paid.pop_returns()),
            "held_out_accuracy": self._report.held_out_accuracy,
            "train_loss": self._report.train_loss,
            "held_out_loss": self._report.held_out_loss,
            "l2": self._report.l2,
        }

    def save(self, folder: Path) -> None:
        """Write r-hat as reward.safetensors."""
        self.r_hat.save(folder / "reward.safetensors", env=self.config.env)

    def close(self) -> None:
        """End the second thread."""
        self._beside.shutdown()

    def state(self) -> dict[str, Any]:
        """r-hat, what its fit and its watch carry from phase to phase, and how far they have come."""
        return {
            "fit": self._fit.state(),
            "watch": self._watch.state(),
            "fitted": self.fitted,
            "seen": self._seen,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._fit.restore(state["fit"])
        self.r_hat.restore(state["fit"]["r_hat"])
        self._watch = self._watched()
        self._watch.restore(state["watch"])
        self.fitted, self._seen = state["fitted"], state["seen"]


class TrueReward:
    """The environment's own reward, brought to the scale of a learned one: what every learned reward is compared with.

    Args:
        config: of the run.
        env: its experience.
    """

    due = None

    def __init__(self, config: Resolved, env: Recorder) -> None:
        self.config, self.env = config, env
        self.paid = ScaledTrueReward(env, config.reward_std, config.clip_reward)

    @property
    def unit(self) -> float:
        """What one unit of the true reward is paid as."""
        return self.paid.reward_std / self.paid.scale

    def begin(self, given: Sequence[Preference]) -> None:
        """Nothing: the scale is taken anew before every phase."""

    def take(self, given: Sequence[Preference], taken_back: Sequence[tuple[str, str]]) -> None:
        """Nothing: nobody is asked."""

    def fit(self, live: bool) -> None:
        """Take mean and deviation from the window that a learned reward takes them from."""
        window = self.env.recent_rewards(self.config.reward_window)
        self.paid.normalise(window, kept_mean_of(self.config, self.env))

    def paid_again(self, vector_steps: int) -> NDArray[np.float32]:
        """What the newest vector steps are paid as the scale is now, oldest first: (vector_steps, n_envs)."""
        return self.paid.worth(self.env.recent_rewards(vector_steps * self.env.num_envs)).astype(np.float32)

    def settle(self) -> None:
        """Nothing: no fit is done beside."""

    def measures(self, phase_steps: int, episodes: Sequence[Episode]) -> dict[str, float]:
        """The true return alone: nothing was learned that could agree with it."""
        return {"true_return": mean_true_return(episodes)}

    def save(self, folder: Path) -> None:
        """Nothing: the reward is the environment's."""

    def close(self) -> None:
        """Nothing runs beside."""

    def state(self) -> dict[str, Any]:
        """The scale, which stays where a window holds no reward."""
        return {"offset": self.paid.offset, "scale": self.paid.scale}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.paid.offset, self.paid.scale = state["offset"], state["scale"]


def kept_mean_of(config: Resolved, env: Recorder) -> float:
    """Share of the reward's mean that is paid in the phase that begins, in either arm."""
    return kept_mean(env.ends_early_since, config.explore_steps, env.steps, config.steps)


def make_model(
    config: Resolved, env: Recorder, fit_rng: np.random.Generator, watch_rng: np.random.Generator
) -> LearnedModel | TrueReward:
    """The model that a run's configuration asks for."""
    if not isinstance(config, ResolvedTrain):
        return TrueReward(config, env)
    if config.reward_from:
        r_hat = RewardEnsemble.load(config.reward_from / "reward.safetensors")
    else:
        first_weights = torch.Generator().manual_seed(config.seed)
        spaces = env.observation_space, env.action_space
        r_hat = RewardEnsemble(*spaces, config.members, config.reward_std, generator=first_weights)
    r_hat.to(config.device)
    fit = Fit(
        copy.deepcopy(r_hat) if config.overlap else r_hat,
        fit_rng,
        config.segment_steps,
        config.noise_floor,
        config.reward_learning_rate,
        config.batch,
        config.l2,
        config.max_answers,
        config.objective,
        likelihood=config.likelihood,
        margin=config.margin,
    )
    return LearnedModel(config, env, r_hat, fit, watch_rng)
