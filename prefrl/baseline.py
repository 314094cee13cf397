"""The same learner on the true reward: the curve that every learned reward is compared with.

Everything but the reward is shared with `prefrl.run`: learner, seeds, untrained first steps, observation
normalisation, steps, log. The reward is the environment's, brought by the same code to the same scale, over the same
window of recent experience, as a learned reward is, so that the two learners see rewards of one scale.
"""

from __future__ import annotations

from pathlib import Path

from prefrl.experience.recorder import Recorder, mean_true_return
from prefrl.experience.vector import make_vec_env
from prefrl.policies.on_policy import Learner, plan
from prefrl.policies.paid import ScaledTrueReward
from prefrl.runs.resolve import resolve
from prefrl.runs.runlog import Progress, RunLog
from prefrl.settings.config import BaselineConfig
from prefrl.settings.values import name_value
from prefrl.words.process import for_small_networks
from prefrl.words.scale import kept_mean


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
        env_kwargs = name_value(cfg.env_kwargs or (), "environment argument")
        venv = make_vec_env(cfg.env, cfg.n_envs, cfg.seed, cfg.backend, env_kwargs, cfg.fixed_horizon)
        env = Recorder(venv, cfg.env, cfg.seed, cfg.reward_window)
        paid = ScaledTrueReward(env, cfg.reward_std, bool(cfg.clip_reward))
        learner = Learner(cfg.learner, paid, name_value(cfg.set, "learner setting"), cfg.seed, cfg.device)
        phases = plan((cfg.steps - cfg.explore_steps) // cfg.n_envs, learner.rollout_steps, cfg.phases)
        try:
            with log.part("learn"):
                learner.explore(cfg.explore_steps // cfg.n_envs)
            for rollouts in phases:
                kept = kept_mean(env.ends_early_since, cfg.explore_steps, env.steps, cfg.steps)
                paid.normalise(env.recent_rewards(cfg.reward_window), kept)
                with log.part("learn"):
                    measures = learner.learn(rollouts, progress=lambda: env.steps / cfg.steps)
                with log.part("log"):
                    episodes = env.pop_episodes()
                    true_return = mean_true_return(episodes)
                    log.write(env.steps, {"episodes": len(episodes), "true_return": true_return} | measures)
                    progress.update(env.steps, 0, true_return)
            log.finish()
        finally:  # as in prefrl.run
            learner.save(log.folder / "policy.safetensors")
            env.close()
    return log.folder
