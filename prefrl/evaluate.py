"""True return of a policy, and agreement of r-hat with the true reward: the numbers that nobody trains on."""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from prefrl.config import TrainConfig
from prefrl.measures import (
    SMOOTHED,
    Probe,
    Reliability,
    accuracy,
    answers_of,
    brier,
    correlation,
    cross_entropy,
    cross_entropy_floor,
    dard,
    epic,
    parted,
    rank_correlation,
    reliability,
    smoothed,
)
from prefrl.preference import UserError
from prefrl.presets import name_value
from prefrl.queries import predicted_preferences
from prefrl.recorder import Episode, Pairs, Recorder
from prefrl.reward_model import RewardEnsemble
from prefrl.saved import SavedRun
from prefrl.vector import make_vec_env

WATCHED = 1_024  # steps that r-hat is asked about when two stretches of behaviour are compared
CERTAIN = 2.0**-25  # as near to 0 and 1 as a prediction in single precision can tell
PROBED = 0.05  # of the steps are moments that `probe` looks at: neighbours say much the same
SOUGHT = 20  # times as many steps as that takes are taken in search of them
Steps = tuple[NDArray[Any], NDArray[Any]]  # observations and actions


def mean_true_return(episodes: Sequence[Episode]) -> float:
    """Mean true return of finished episodes; NaN when there is none."""
    return float(np.mean([episode.true_return for episode in episodes])) if episodes else float("nan")


def mean_steps(episodes: Sequence[Episode]) -> float:
    """Mean length in steps of finished episodes; NaN when there is none."""
    return float(np.mean([episode.steps for episode in episodes])) if episodes else float("nan")


def policy_return(
    act: Callable[[NDArray[Any]], NDArray[Any]], env: gym.Env[Any, Any], episodes: int, seed: int
) -> NDArray[np.float64]:
    """True returns (episodes,) of whole episodes of a policy on its own environment.

    Args:
        act: observations (1, *observation_shape) to actions (1, *action_shape), such as `prefrl.Policy.act`.
        env: a single environment with its own reward.
        episodes: how many.
        seed: of the first reset.
    """
    returns = np.zeros(episodes)
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed if episode == 0 else None)
        done = False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(act(np.asarray(observation)[None])[0])
            returns[episode] += float(reward)
            done = terminated or truncated
    return returns


@torch.inference_mode()
def agreement(r_hat: RewardEnsemble, pairs: Pairs, noise_floor: float) -> tuple[dict[str, float], Reliability]:
    """How well r-hat foretells an exact oracle's answers to these pairs, which nobody was asked about.

    Args:
        r_hat: the ensemble.
        pairs: drawn from fresh experience; windows without a step are never drawn.
        noise_floor: chance of a random answer that the likelihood assumes.

    Returns:
        The reliability curve, and these measures; NaN where one cannot be taken:
        accuracy (share of unequal pairs that the learned reward orders as the true one does);
        cross_entropy of the ensemble's mean prediction, in nats, and cross_entropy_floor, the least it could be;
        brier (mean squared error of the prediction) and calibration_error (`Reliability.error`);
        correlation and rank_correlation (Pearson's and Spearman's, of learned with true window returns).
    """
    cells, index, mask = pairs.steps()
    learned = (r_hat.reward(*pairs.recorder.at(cells))[index] * mask).sum(-1).astype(np.float64)  # (n, 2)
    true = pairs.true_returns()
    mu = answers_of(true)
    sides = predicted_preferences(r_hat, pairs)
    predicted = ((1 - noise_floor) * sides.double() + noise_floor / 2).mean(0).cpu().numpy().clip(CERTAIN, 1 - CERTAIN)
    curve = reliability(predicted, mu)
    measures = {
        "accuracy": accuracy(answers_of(learned), mu),
        "cross_entropy": cross_entropy(predicted, mu),
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

        The alarm is 1 where `prefrl.measures.parted` says that learned and true reward have parted.

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
        fresh = self.recorder.pairs(50, self.segment_steps, self.rng, newest=steps)
        return {
            "true_return": true_return,
            "learned_return": float(learned_returns.mean()) if len(learned_returns) else math.nan,
            "learned_gain": learned_gain(self.r_hat, self.first, newest),
            "alarm": int(parted(self._true_returns, self._approval(true_return, newest))),
            "episode_correlation": correlation(paid, true_returns),
            "episode_rank_correlation": rank_correlation(paid, true_returns),
            **agreement(self.r_hat, fresh, self.noise_floor)[0],
        }

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


@dataclass(frozen=True)
class Evaluation:
    """What a saved reward model is worth on fresh behaviour of the run's own policy.

    Attributes:
        measures: by name: those of `agreement`, step_, episode_ and episode_rank_correlation, true_return (mean), epic
            and dard (NaN where the environment's state cannot be copied). A reward of (s, a), which r-hat is, cannot
            be the true one with a potential's shaping, so that neither distance forgives it that.
        reliability: the reliability curve.
        true: (n,) true reward of each step, in order.
        learned: (n,) what r-hat pays for it.
        ends: (e,) step after the last of each finished episode.
    """

    measures: dict[str, float]
    reliability: Reliability
    true: NDArray[np.float64]
    learned: NDArray[np.float64]
    ends: NDArray[np.int64]


def evaluate_run(
    run: SavedRun, steps: int = 10_000, pairs: int = 1_000, moments: int = 128, discount: float = 0.99, seed: int = 0
) -> Evaluation:
    """Let a run's policy act, and compare what its reward model pays with the true reward.

    Args:
        run: with a learned reward.
        steps: of fresh behaviour, in one environment.
        pairs: of windows drawn from it.
        moments: transitions that EPIC and DARD are taken over, half the policy's and half of random actions.
        discount: of EPIC and DARD.
        seed: of everything.

    Raises:
        UserError: the run has no reward model or no policy, or the steps are too few for two windows.
    """
    for name, value, least in (("steps", steps, 1), ("pairs", pairs, 1), ("moments", moments, 2), ("seed", seed, 0)):
        if value < least:
            raise UserError(f"{name}={value} must be at least {least}.")
    r_hat, policy, config = run.r_hat, run.policy, run.config
    assert isinstance(config, TrainConfig) and config.segment_steps
    rng = np.random.default_rng(seed)
    env_kwargs = name_value(config.env_kwargs or (), "environment argument")
    recorder = Recorder(
        make_vec_env(config.env, 1, seed, "gymnasium", env_kwargs, config.fixed_horizon), config.env, seed, steps
    )
    observations: Any = recorder.reset()
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # the policy draws its actions from torch's own generator
        for _ in range(steps):
            observations, *_ = recorder.step(policy.act(observations))
        probes = probe(run, moments, rng)
    measures, curve = agreement(r_hat, recorder.pairs(pairs, config.segment_steps, rng), config.noise_floor)
    *experience, true = recorder.recent(steps)
    learned = r_hat.reward(*experience).astype(np.float64)
    episodes = recorder.pop_episodes()
    recorder.close()
    lost = steps - len(true)  # of the first episode: a ring of frames keeps a few less
    ends = np.cumsum([episode.steps for episode in episodes], dtype=np.int64) - lost
    learned_returns = np.array([part.sum() for part in np.split(learned, ends)[:-1]])
    true_returns = np.array([episode.true_return for episode in episodes])
    measures |= {
        "step_correlation": correlation(learned, true),
        "episode_correlation": correlation(learned_returns, true_returns),
        "episode_rank_correlation": rank_correlation(learned_returns, true_returns),
        "true_return": mean_true_return(episodes),
        "epic": epic(*probes, discount) if probes else math.nan,
        "dard": dard(*probes, discount) if probes else math.nan,
    }
    return Evaluation(measures, curve, true, learned, ends)


def probe(run: SavedRun, moments: int, rng: np.random.Generator, actions: int = 8) -> tuple[Probe, Probe] | None:
    """The true and the learned reward around moments of the policy's behaviour and as many of random actions'.

    The true reward is asked of the simulator: its state is copied, and other actions are taken from there. None where a
    copy does not do what the original does, for images, which do not hold the state, and where there are no moments to
    be had, since every episode ends at once.
    """
    if run.r_hat.is_image:
        return None
    env, spare = run.make_env(), run.make_env()
    spare.reset(seed=0)
    env.action_space.seed(int(rng.integers(2**31)))
    tried = [env.action_space.sample() for _ in range(actions)]
    asked: list[tuple[Any, Any, float]] = []  # o, a and R(o, a): for each moment one, then the tried, in three parts
    for by_policy, enough in ((True, moments // 2), (False, moments)):
        done = True
        for _ in range(round(SOUGHT * moments / PROBED)):
            if len(asked) >= enough * (1 + 3 * actions):
                break
            if done:
                observation, _ = env.reset(seed=int(rng.integers(2**31)))
            action = run.policy.act(np.asarray(observation)[None])[0] if by_policy else env.action_space.sample()
            chosen = rng.random() < PROBED
            here = _state(env) if chosen else None
            following, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            if chosen and not terminated:
                there = _state(env)
                if here is None or there is None:
                    return None
                if not _leads_to(here, spare, action, following, float(reward)):
                    return None
                asked.append((observation, action, float(reward)))
                after = []
                for other in tried:
                    other_env = _restored(here, spare)
                    reached, paid, *_ = other_env.step(other)
                    asked.append((observation, other, float(paid)))
                    after.append((reached, other, float(other_env.step(other)[1])))
                at_next = [(following, other, float(_restored(there, spare).step(other)[1])) for other in tried]
                asked += at_next + after
            observation = following
        else:
            return None
    env.close()
    spare.close()
    observations, taken, true = (np.stack(part) for part in zip(*asked, strict=True))
    return _probe(true, actions), _probe(run.r_hat.reward(observations, taken).astype(np.float64), actions)


def _probe(rewards: NDArray[np.float64], actions: int) -> Probe:
    table = rewards.reshape(-1, 1 + 3 * actions)
    return Probe(table[:, 0], *np.split(table[:, 1:], 3, axis=1))


def _leads_to(state: Any, spare: gym.Env[Any, Any], action: Any, observation: Any, reward: float) -> bool:
    """Whether an environment restored to this state does what the original did."""
    try:
        seen, paid, *_ = _restored(state, spare).step(action)
    except Exception:  # a copy that is not whole
        return False
    return np.allclose(seen, observation, rtol=1e-3, atol=1e-4) and math.isclose(
        paid, reward, rel_tol=1e-3, abs_tol=1e-4
    )


def _state(env: gym.Env[Any, Any]) -> Any:
    """What `_restored` brings an environment back to; None where there is no such thing."""
    inner: Any = env.unwrapped
    if hasattr(inner, "set_state") and hasattr(inner, "data"):  # MuJoCo, whose classes copy as new
        return inner.data.qpos.copy(), inner.data.qvel.copy()
    try:
        return copy.deepcopy(env)
    except Exception:  # whatever a class that cannot be copied raises
        return None


def _restored(state: Any, spare: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """An environment in this state, which may be stepped: a copy, or the spare one."""
    if not isinstance(state, tuple):
        return copy.deepcopy(state)
    spare.reset()
    inner: Any = spare.unwrapped
    inner.set_state(*state)
    return spare
