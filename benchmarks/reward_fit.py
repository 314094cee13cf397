"""How should r-hat be fitted? Settings of its fit, judged on pairs that nobody was asked about.

    python -m benchmarks.reward_fit            # fits everything again, a quarter of an hour on a core, then the report
    python -m benchmarks.reward_fit --report   # the report again, from the committed data

No policy is trained, so that a setting can be told from another in seconds and without a policy's luck.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro

from benchmarks.committed import HERE
from benchmarks.question import README, markdown, write_between
from prefrl.experience.backends import make_vec_env
from prefrl.experience.recorder import Pairs, Recorder
from prefrl.queries.labelers import make_labeler
from prefrl.rewards.fit import L2_RANGE, Fit
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.rewards.watch import agreement
from prefrl.runs.resolve import resolve
from prefrl.runs.runlog import versions
from prefrl.settings.config import TrainConfig
from prefrl.settings.presets import MUJOCO
from prefrl.words.measures import correlation
from prefrl.words.preference import Preference
from prefrl.words.process import for_small_networks

DATA = HERE / "results" / "reward_fit" / "fits.csv"
TASKS = ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Swimmer", "Reacher", "InvertedDoublePendulum", "InvertedPendulum")
SEEDS = (100, 101, 102)
ANSWERS = 175  # that a default run asks at first
STEPS = 600  # of each environment, under a policy as wide as an untrained one
FRESH = 1000  # pairs that a fit is judged on
MEASURES = ("accuracy", "cross_entropy", "correlation", "step_correlation")
PRESET = {
    "reward_learning_rate": MUJOCO.reward_learning_rate,
    "batch": MUJOCO.batch,
    "initial_epochs": MUJOCO.initial_epochs,
    "l2": MUJOCO.l2,
    "l2_most": L2_RANGE[1],
}
BEFORE = "before: 3e-3, first L2 weight 1e-4, at most 0.01"
SETTINGS: dict[str, Mapping[str, Any]] = {
    "preset": {},
    "step size 1e-3": {"reward_learning_rate": 1e-3},
    "step size 3e-3": {"reward_learning_rate": 3e-3},
    "step size 1e-2": {"reward_learning_rate": 1e-2},
    "30 passes": {"initial_epochs": 30},
    "120 passes": {"initial_epochs": 120},
    "64 answers a minibatch": {"batch": 64},
    "no L2 penalty": {"l2": 0.0},
    "first L2 weight 1e-4": {"l2": 1e-4},
    "first L2 weight 0.1": {"l2": 0.1},
    "L2 weight at most 0.01": {"l2": 0.01, "l2_most": 0.01},
    "L2 weight at most 0.3": {"l2_most": 0.3},
    BEFORE: {"reward_learning_rate": 3e-3, "l2": 1e-4, "l2_most": 0.01},
}


@dataclass(frozen=True)
class Ask:
    """Fit with every setting, and report."""

    report: bool = False
    """Only report, from the committed data."""


@dataclass(frozen=True)
class Behaviour:
    """What an untrained policy did on a task, and what an exact oracle said about it."""

    recorder: Recorder
    segment_steps: int
    answers: list[Preference]
    fresh: Pairs


def acted(task: str, seed: int) -> tuple[Recorder, np.random.Generator, int]:
    """Steps of a Gaussian policy of unit deviation, the generator that goes on, and the task's segment length."""
    config = resolve(TrainConfig(env=f"prefrl/{task}-v0", seed=seed))
    assert config.n_envs and config.segment_steps
    venv = make_vec_env(config.env, config.n_envs, seed)
    env, rng = Recorder(venv, config.env, seed, STEPS * config.n_envs), np.random.default_rng(seed)
    env.reset()
    low, high = env.action_space.low, env.action_space.high  # type: ignore[attr-defined]
    for _ in range(STEPS):
        env.step(np.clip(rng.normal(size=(config.n_envs, *low.shape)), low, high).astype(np.float32))
    return env, rng, config.segment_steps


def behave(task: str, seed: int) -> Behaviour:
    """Steps of a Gaussian policy, and answers about them."""
    env, rng, segment_steps = acted(task, seed)
    answers = make_labeler("oracle", ("oracle",), seed)(env.pairs(ANSWERS, segment_steps, rng).queries())
    return Behaviour(env, segment_steps, answers, env.pairs(FRESH, segment_steps, rng))


def judge(seen: Behaviour, seed: int, setting: Mapping[str, Any]) -> dict[str, float]:
    """Fit a new ensemble to the answers, and compare what it says of fresh pairs with the truth."""
    s, env = PRESET | dict(setting), seen.recorder
    r_hat = RewardEnsemble(env.observation_space, env.action_space, generator=torch.Generator().manual_seed(seed))
    fit = Fit(
        r_hat,
        np.random.default_rng(seed),
        seen.segment_steps,
        learning_rate=s["reward_learning_rate"],
        batch=s["batch"],
        l2=s["l2"],
        l2_range=(L2_RANGE[0], s["l2_most"]),
    )
    fit.add(seen.answers)
    observations, actions, true = env.recent(STEPS * env.num_envs)
    fit.refit((observations, actions), (observations, actions), fit.epochs(s["initial_epochs"]), kept=0.0)
    found, _ = agreement(r_hat, seen.fresh, fit.noise_floor)
    return found | {"step_correlation": correlation(r_hat.reward(observations, actions), true)}


def measure() -> None:
    """Fit with every setting on every task and seed, and write one row for each."""
    for_small_networks()
    commit = versions()["commit"]
    DATA.parent.mkdir(parents=True, exist_ok=True)
    with DATA.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "seed", "setting", *MEASURES, "commit"])
        for task in TASKS:
            for seed in SEEDS:
                seen = behave(task, seed)
                for name, setting in SETTINGS.items():
                    found = judge(seen, seed, setting)
                    writer.writerow([task, seed, name, *(f"{found[m]:.5g}" for m in MEASURES), commit])
                file.flush()
                seen.recorder.close()
                print(task, seed, flush=True)


def table() -> str:
    """Each setting over all tasks and seeds, and the preset task by task, in Markdown."""
    with DATA.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    def mean(measure: str, **of: str) -> str:
        return f"{np.mean([float(r[measure]) for r in rows if all(r[key] == value for key, value in of.items())]):.3f}"

    header = ("setting", "right", "cross-entropy", "correlation of steps")
    shown = ("accuracy", "cross_entropy", "step_correlation")
    by_setting = [header] + [(name, *(mean(m, setting=name) for m in shown)) for name in SETTINGS]
    by_task = [("task", "right, preset", "right, before")] + [
        (task, *(mean("accuracy", task=task, setting=name) for name in ("preset", BEFORE))) for task in TASKS
    ]
    return f"{markdown(by_setting, text=1)}\n\n{markdown(by_task, text=1)}"


def main(ask: Ask) -> None:
    """Fit, unless only the report is asked for, and write this benchmark's part of the page."""
    if not ask.report:
        measure()
    write_between(README, "reward_fit", table())
    print(table())


if __name__ == "__main__":
    main(tyro.cli(Ask))
