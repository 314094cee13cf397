"""True return of a policy, and agreement of r-hat with the true reward: the numbers that nobody trains on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from prefrl.recorder import Episode, Pairs
from prefrl.reward_model import RewardEnsemble


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


def segment_correlation(r_hat: RewardEnsemble, pairs: Pairs) -> float:
    """Pearson correlation of learned with true return over the windows of these pairs; NaN where either is constant."""
    cells, index, mask = pairs.steps()
    learned = (r_hat.reward(*pairs.recorder.at(cells))[index] * mask).sum(-1).ravel()
    return correlation(learned, pairs.true_returns().ravel())


def correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Pearson's correlation coefficient; NaN where either is constant or not finite."""
    if not len(a) or not (np.isfinite(a).all() and np.isfinite(b).all()) or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
