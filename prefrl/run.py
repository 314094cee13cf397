"""Deep reinforcement learning from human preferences, as one loop (Christiano et al. 2017, section 2.2).

Three things take turns: a policy acts and learns from r-hat; pairs of its segments are chosen, and someone says which
is better; r-hat is fitted to the answers.
"""

from __future__ import annotations

import copy
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch

from prefrl.experience.clips import watcher
from prefrl.experience.recorder import SAMPLE, Episode, Recorder, mean_steps, mean_true_return
from prefrl.experience.vector import make_vec_env
from prefrl.policies.on_policy import Learner, plan
from prefrl.policies.paid import LearnedReward
from prefrl.queries.exchange import inherit
from prefrl.queries.labelers import answers_of, make_labeler
from prefrl.queries.patient_store import PatientStore
from prefrl.queries.store import Store
from prefrl.queries.strategies import find_strategy, select, uniform
from prefrl.rewards.fit import Fit, FitReport
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.rewards.watch import Watch
from prefrl.runs.resolve import resolve
from prefrl.runs.runlog import Progress, RunLog
from prefrl.settings.config import TrainConfig
from prefrl.settings.values import name_value
from prefrl.words.lookup import lookup
from prefrl.words.process import for_small_networks
from prefrl.words.scale import kept_mean
from prefrl.words.schedules import SCHEDULES, label_counts


def train(config: TrainConfig, quiet: bool = False) -> Path:
    """Learn a policy, and the reward it should maximise, from `config.labels` answers.

    Args:
        config: what to run; gaps are filled by `prefrl.runs.resolve`.
        quiet: show no progress.

    Returns:
        The run's folder (see `prefrl.runs.runlog`).

    Raises:
        UserError: the configuration cannot be run, or what it names, such as an environment or a labeler, fails as it
            runs. Unless a question had been asked by then, no folder is left.
    """
    cfg = resolve(config)
    assert cfg.n_envs and cfg.segment_steps and cfg.reward_std and cfg.keep_steps and cfg.batch and cfg.fit_updates
    assert cfg.explore_steps is not None and cfg.initial_epochs and cfg.initial_labels is not None
    assert cfg.reward_learning_rate and cfg.l2 is not None
    for_small_networks()
    ask_rng, fit_rng, eval_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(cfg.seed).spawn(3))

    with (
        RunLog(cfg) as log,
        PatientStore(cfg.store) if cfg.store else Store(log.folder / "labels.sqlite") as store,
        Progress(log.folder.name, cfg.steps, quiet) as progress,
        ThreadPoolExecutor(1, initializer=for_small_networks) as beside,
    ):
        env_kwargs = name_value(cfg.env_kwargs or (), "environment argument")
        shown = {"render_mode": "rgb_array"} if cfg.labeler == "human" and cfg.backend == "gymnasium" else {}
        venv = make_vec_env(cfg.env, cfg.n_envs, cfg.seed, cfg.backend, env_kwargs, cfg.fixed_horizon, **shown)
        env = Recorder(venv, cfg.env, cfg.seed, cfg.keep_steps, watcher(venv) if shown else None)
        first_weights = torch.Generator().manual_seed(cfg.seed)
        r_hat = RewardEnsemble(
            env.observation_space, env.action_space, cfg.members, cfg.reward_std, generator=first_weights
        )
        if cfg.reward_from:
            r_hat = RewardEnsemble.load(cfg.reward_from / "reward.safetensors")
        r_hat.to(cfg.device)
        paid = LearnedReward(env, r_hat, late=True)  # the learner never sees the true reward
        settings = name_value(cfg.set, "learner setting")
        learner = Learner(cfg.learner, paid, settings, cfg.seed, cfg.device, cfg.entropy_bonus or 0.0, paid.due)
        fit = Fit(
            copy.deepcopy(r_hat) if cfg.overlap else r_hat,
            fit_rng,
            cfg.segment_steps,
            cfg.noise_floor,
            cfg.reward_learning_rate,
            cfg.batch,
            cfg.l2,
            cfg.max_answers,
            cfg.objective,
        )
        inherit(store, cfg.labels_from, cfg.env, cfg.segment_steps)
        fit.add(store.answers()[0])
        if cfg.labeler == "human" and not quiet:
            print(f"people answer at `prefrl label {log.folder}`", file=sys.stderr)
        labeler = make_labeler(
            cfg.labeler,
            cfg.teachers,
            cfg.seed,
            store=store,
            patience_s=cfg.patience,
            keep_up=cfg.keep_up,
            slowdown=cfg.slowdown,
            stand_in_after_s=cfg.oracle_after,
        )
        strategy = find_strategy(cfg.strategy)
        phases = plan((cfg.steps - cfg.explore_steps) // cfg.n_envs, learner.rollout_steps, cfg.phases)
        live = (
            0 if cfg.reward_from else max(1, round(cfg.freeze_reward_at * len(phases)))
        )  # phases in which r-hat learns
        schedule = lookup("schedule", cfg.schedule, SCHEDULES)
        labels = label_counts(cfg.labels, live, cfg.initial_labels, schedule) if live else []
        labels += [0] * (len(phases) - live)
        try:
            with log.part("learn"):
                learner.explore(cfg.explore_steps // cfg.n_envs)
            watch = Watch(r_hat, env, cfg.segment_steps, cfg.noise_floor, eval_rng)
            asked = answered = seen = 0
            fitted = cfg.reward_from is not None  # people may answer later than asked
            labelling_seconds = 0.0
            episodes: list[Episode] = []
            for phase, (rollouts, count) in enumerate(zip(phases, labels, strict=True)):
                with log.part("ask"):  # keep the pairs worth asking (section 2.2.4); of an unfitted r-hat, any
                    candidates = env.pairs(count * cfg.candidates, cfg.segment_steps, ask_rng)
                    queries = select(strategy if fitted else uniform, r_hat, candidates, count).queries()
                    store.ask(queries, cfg.second_opinions)
                with log.part("answer"):  # someone answers (section 2.2.2)
                    if hasattr(labeler, "observe_policy"):
                        labeler.observe_policy(mean_true_return(episodes), mean_steps(episodes))
                    answers = answers_of(cfg.labeler, labeler, queries)
                    store.add(answers)
                report, fitting = FitReport(), None
                if hasattr(labeler, "pop_withdrawn"):
                    answered -= fit.forget(labeler.pop_withdrawn())
                if phase < live:
                    with log.part("fit"):  # r-hat explains every answer so far (section 2.2.3)
                        fit.add(answers)
                        newest = env.recent(env.steps - seen, at_most=SAMPLE)[:2]
                        window = env.recent(cfg.reward_window, at_most=SAMPLE)[:2]
                        updates = cfg.fit_updates if fitted else fit.epochs(cfg.initial_epochs)
                        kept = kept_mean(env.ends_early_since, cfg.explore_steps, env.steps, cfg.steps)
                        refit = partial(fit.refit, newest, window, updates, kept)
                        seen = env.steps
                        if cfg.overlap and fitted:
                            fitting = beside.submit(refit)
                        else:
                            report = refit()
                            fitted = fitted or report.updates > 0
                            r_hat.load_state_dict(fit.r_hat.state_dict())
                with log.part("learn"):  # the policy improves on r-hat (section 2.2.1)
                    measures = learner.learn(rollouts, progress=lambda: env.steps / cfg.steps)
                if fitting is not None:
                    with log.part("fit"):
                        report = fitting.result()
                        r_hat.load_state_dict(fit.r_hat.state_dict())
                with log.part("log"):
                    asked += len(queries)
                    answered += sum(answer.mu is not None for answer in answers)
                    labelling_seconds += sum(answer.seconds for answer in answers)
                    episodes = env.pop_episodes()
                    row = {
                        "labels_asked": asked,
                        "labels_answered": answered,
                        "labels_open": getattr(labeler, "open", 0),
                        "labelling_seconds": labelling_seconds,
                        "episodes": len(episodes),
                        **watch.measure(sum(rollouts) * cfg.n_envs, episodes, paid.pop_returns()),
                        "held_out_accuracy": report.held_out_accuracy,
                        "train_loss": report.train_loss,
                        "held_out_loss": report.held_out_loss,
                        "l2": report.l2,
                    }
                    log.write(env.steps, row | measures)
                    outstanding = (asked, sum(labels))
                    alarm = bool(row["alarm"])
                    progress.update(env.steps, answered, mean_true_return(episodes), alarm, outstanding)
                    if cfg.labeler == "human":  # for those who look on
                        learner.save(log.folder / "policy.new")
                        (log.folder / "policy.new").replace(log.folder / "policy.safetensors")  # never half of one
            log.finish()
        finally:  # what has been learned is kept, whatever stopped the run
            r_hat.save(log.folder / "reward.safetensors", env=cfg.env)
            learner.save(log.folder / "policy.safetensors")
            env.close()
    return log.folder
