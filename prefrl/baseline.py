"""The same learner on the true reward: the curve that every learned reward is compared with.

Everything but the reward is shared with `prefrl.run`: learner, seeds, untrained first steps, observation
normalisation, steps, log. The reward is the environment's, given zero mean and the same standard deviation over the
same window of recent experience as a learned reward is, so that the two learners see rewards of one scale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from prefrl.experience.recorder import SAMPLE, Recorder, mean_true_return
from prefrl.experience.task import Task
from prefrl.policies.on_policy import Learner, plan
from prefrl.runs.resolve import resolve
from prefrl.runs.runlog import Progress, RunLog
from prefrl.settings.config import BaselineConfig
from prefrl.settings.values import name_value
from prefrl.words.process import for_small_networks


class ScaledTrueReward(VecEnvWrapper):
    """Pays the true reward with zero mean and a given standard deviation over a window of recent experience.

    Args:
        recorder: the environments.
        reward_std: standard deviation of what is paid.
        clip: take rewards as at most 1 and at least -1 first (paper, A.2, on Atari).
    """

    def __init__(self, recorder: Recorder, reward_std: float, clip: bool = False) -> None:
        super().__init__(recorder)
        self.bound = 1.0 if clip else np.inf
        self.recorder, self.reward_std, self.mean, self.std = recorder, reward_std, 0.0, 1.0

    def normalise(self, rewards: NDArray[np.float64]) -> None:
        """Take mean and standard deviation from these rewards (n,); the mean stays where episodes can end early.

        There, as for a learned reward, the mean is part of the task (see `RewardEnsemble.normalise_outputs`).
        """
        rewards = rewards.clip(-self.bound, self.bound)
        self.mean = 0.0 if self.recorder.ends_early else float(rewards.mean())
        self.std = float(max(rewards.std(), 1e-8))

    def reset(self) -> Any:
        """Begin a new episode everywhere."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step, and pay its scaled true reward."""
        observations, rewards, dones, infos = self.venv.step_wait()
        rewards = rewards.clip(-self.bound, self.bound)
        return observations, (rewards - self.mean) / self.std * self.reward_std, dones, infos


def run_baseline(config: BaselineConfig, quiet: bool = False) -> Path:
    """Learn a policy from the true reward.

    Args:
        config: what to run; gaps are filled by `prefrl.runs.resolve`.
        quiet: show no progress.

    Returns:
        The run's folder (see `prefrl.runs.runlog`).

    Raises:
        UserError: the configuration cannot be run, or the environment fails as it runs. Unless a phase had come to its
            end by then, no folder is left.
    """
    cfg = resolve(config)
    assert cfg.n_envs and cfg.reward_std and cfg.explore_steps is not None
    for_small_networks()
    with RunLog(cfg) as log, Progress(log.folder.name, cfg.steps, quiet) as progress:
        env = Recorder(Task.of(cfg).make_vec(cfg.n_envs, cfg.seed), cfg.env, cfg.seed, cfg.reward_window)
        paid = ScaledTrueReward(env, cfg.reward_std, bool(cfg.clip_reward))
        learner = Learner(cfg.learner, paid, name_value(cfg.set, "learner setting"), cfg.seed, cfg.device)
        phases = plan((cfg.steps - cfg.explore_steps) // cfg.n_envs, learner.rollout_steps, cfg.phases)
        try:
            with log.part("learn"):
                learner.explore(cfg.explore_steps // cfg.n_envs)
            for rollouts in phases:
                paid.normalise(env.recent(cfg.reward_window, at_most=SAMPLE)[2])
                with log.part("learn"):
                    measures = learner.learn(rollouts, progress=lambda: env.steps / cfg.steps)
                with log.part("log"):
                    true_return = mean_true_return(env.pop_episodes())
                    log.write(env.steps, {"true_return": true_return} | measures)
                    progress.update(env.steps, 0, true_return)
            log.finish()
        finally:  # as in prefrl.run
            learner.save(log.folder / "policy.safetensors")
            env.close()
    return log.folder
