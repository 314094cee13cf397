"""True return of a policy, and agreement of r-hat with the true reward: the numbers that nobody trains on."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from prefrl.experience.guard import Guard
from prefrl.experience.recorder import Recorder, mean_true_return
from prefrl.rewards.watch import agreement
from prefrl.runs.saved import SavedRun
from prefrl.settings.config import TrainConfig
from prefrl.words.errors import UserError, blamed_on
from prefrl.words.measures import (
    Probe,
    Reliability,
    correlation,
    dard,
    distance_interval,
    epic,
    rank_correlation,
)
from prefrl.words.process import drawing_from
from prefrl.words.spaces import same_inputs

PROBED = 0.05  # of the steps are moments that `probe` looks at: neighbours say much the same
SOUGHT = 20  # times as many steps as that takes are taken in search of them


def policy_return(
    act: Callable[[NDArray[Any]], NDArray[Any]], env: gym.Env[Any, Any], episodes: int, seed: int
) -> NDArray[np.float64]:
    """True returns (episodes,) of whole episodes of a policy on its own environment.

    Args:
        act: observations (1, *observation_shape) to actions (1, *action_shape), such as `prefrl.Policy.act`.
        env: a single environment with its own reward.
        episodes: how many.
        seed: of the first reset, and of what the policy draws from torch's generators, which are put back afterwards.

    Raises:
        UserError: the environment failed, or paid what is no finite number.
    """
    env, returns = Guard(env), np.zeros(episodes)
    with drawing_from(seed):
        for episode in range(episodes):
            observation, _ = env.reset(seed=seed if episode == 0 else None)
            done = False
            while not done:
                observation, reward, terminated, truncated, _ = env.step(act(np.asarray(observation)[None])[0])
                returns[episode] += float(reward)
                done = terminated or truncated
    return returns


@dataclass(frozen=True)
class Evaluation:
    """What a saved reward model is worth on fresh behaviour of the run's own policy.

    Attributes:
        measures: by name: those of `agreement`, step_, episode_ and episode_rank_correlation, true_return (mean), epic
            and dard (NaN where the environment's state cannot be copied), each with the _low and _high of its 95 %
            interval. A reward of (s, a), which r-hat is, cannot be the true one with a potential's shaping, so that
            neither distance forgives it that.
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
    played = f"{run.config.env} with the policy of {str(run.folder)!r}"
    with blamed_on(played, "`prefrl check` says what is wrong with it"):
        return _evaluated(run, steps, pairs, moments, discount, seed)


def _evaluated(run: SavedRun, steps: int, pairs: int, moments: int, discount: float, seed: int) -> Evaluation:
    r_hat, policy, config = run.r_hat, run.policy, run.config
    if not (isinstance(config, TrainConfig) and config.segment_steps):
        raise UserError(f"{str(run.folder)!r} learns from the true reward: it has no reward model to evaluate.")
    if config.segment_steps > steps:
        raise UserError(f"steps={steps} hold no segment of {config.segment_steps} steps, as the run had: take more.")
    rng = np.random.default_rng(seed)
    venv = replace(run.task, backend="gymnasium").make_vec(1, seed)
    recorder = Recorder(venv, config.env, seed, steps, same_start=config.pairs == "same-start")
    for space, learned_on in (
        (recorder.observation_space, r_hat.observation_space),
        (recorder.action_space, r_hat.action_space),
    ):
        if not same_inputs(space, learned_on):
            raise UserError(
                f"the reward of {str(run.folder)!r} was learned on {learned_on!s:.80}, and its environment, "
                f"{config.env}, has {space!s:.80}: give a run as it was made."
            )
    observations: Any = recorder.reset()
    with drawing_from(seed):
        for _ in range(steps):
            observations, *_ = recorder.step(policy.act(observations))
        probes = probe(run, moments, rng)
    measures, curve = agreement(r_hat, recorder.pairs(pairs, config.segment_steps, rng), config.noise_floor)
    *experience, true = recorder.recent(steps)
    learned = r_hat.reward(*experience).astype(np.float64)
    episodes = recorder.pop_episodes()
    recorder.close()
    lost = steps - len(true)  # of the first episode: a ring of frames keeps a few less
    ends = np.array([episode.step for episode in episodes], np.int64) - lost
    began = [max(0, end - episode.steps) for end, episode in zip(ends.tolist(), episodes, strict=True)]
    learned_returns = np.array([learned[begin:end].sum() for begin, end in zip(began, ends.tolist(), strict=True)])
    true_returns = np.array([episode.true_return for episode in episodes])
    distances: dict[str, float] = {}
    for name, distance in (("epic", epic), ("dard", dard)):
        distances[name] = distance(*probes, discount) if probes else math.nan
        interval = distance_interval(distance, *probes, discount, rng) if probes else (math.nan, math.nan)
        distances[f"{name}_low"], distances[f"{name}_high"] = interval
    measures |= {
        "step_correlation": correlation(learned, true),
        "episode_correlation": correlation(learned_returns, true_returns),
        "episode_rank_correlation": rank_correlation(learned_returns, true_returns),
        "true_return": mean_true_return(episodes),
        **distances,
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
