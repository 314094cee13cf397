"""What does learning from preferences cost beside SAC itself? Processor seconds, measured in turns.

    python -m benchmarks.replay

stable-baselines3's SAC alone on the true reward, and `prefrl train --learner sac` with the same settings, environments,
steps and updates, which asks, fits and pays its buffer anew besides. A run's phases are 20,000 steps long, its buffer
holds up to a million, and so few steps show neither: what paying a full buffer anew costs is measured apart.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger

from prefrl.experience.backends import make_vec_env
from prefrl.experiment import opened
from prefrl.policies.off_policy import Replayer
from prefrl.rewards.models import LearnedModel
from prefrl.runs.resolve import resolve
from prefrl.runs.runlog import versions
from prefrl.settings.config import TrainConfig
from prefrl.settings.resolved import ResolvedTrain
from prefrl.words.process import for_small_networks

RESULTS = Path(__file__).parent / "results" / "replay.json"
PHASE = 20_000  # steps of a phase of a million-step run
BUFFER = 500_000  # steps in the buffer, on average over such a run


@dataclass(frozen=True)
class Replay:
    """Plain SAC and ours, in turns."""

    env: str = "HalfCheetah-v5"
    """Task."""
    steps: int = 2_400
    """Of each run, the first third of them before anything is asked."""
    pairs: int = 1
    """Times that both are run."""
    paid_again: int = 100_000
    """Steps that are paid anew, to see what one costs."""


def main(ask: Replay) -> None:
    """Measure, print, and write the numbers."""
    for_small_networks()
    first = TrainConfig(
        env=ask.env, learner="sac", steps=ask.steps, labels=10, explore_steps=ask.steps // 48 * 16, phases=1,
        checkpoint_every=0, tensorboard=False, set=("learning_starts=320",),
    )  # fmt: skip
    plain, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ask.pairs):
            config = resolve(replace(first, seed=number, out=Path(folder) / str(number)))
            seconds, plain_updates = _plain(config)
            plain.append(seconds)
            seconds, updates, each = _ours(config, ask.paid_again)
            ours.append(seconds)
    ratio = float(np.sum(ours) / np.sum(plain))
    again = each * BUFFER * ask.steps / PHASE / np.mean(plain)
    result = {
        "command": "python -m benchmarks.replay",
        "plain_cpu_seconds": plain,
        "train_cpu_seconds": ours,
        "plain_updates": plain_updates,
        "train_updates": updates,
        "ratio": ratio,
        "paid_again_microseconds_a_step": 1e6 * each,
        "paid_again_share_of_a_long_run": float(again),
        "steps_a_cpu_second": ask.steps / float(np.mean(plain)),
        "versions": versions(),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


def _plain(config: ResolvedTrain) -> tuple[float, int]:
    """Processor seconds and updates of stable-baselines3's SAC, which learns as soon as ours does."""
    settings: dict[str, Any] = dict(config.settings)
    began = time.process_time()
    env = make_vec_env(config.env, config.n_envs, config.seed, config.backend)
    model = SAC("MlpPolicy", env, seed=config.seed, device="cpu", **settings)
    model.set_logger(Logger(folder=None, output_formats=[]))
    model.learn(config.steps)
    env.close()
    return time.process_time() - began, model._n_updates


def _ours(config: ResolvedTrain, paid_again: int) -> tuple[float, int, float]:
    """Processor seconds and updates of a run, and processor seconds of paying one step anew."""
    began = time.process_time()
    with opened(config, quiet=True) as run:
        for phase in run.phases:
            run.fit(phase, run.answer(run.ask(phase)))
            run.record(phase, run.learn(phase))
        took = time.process_time() - began
        assert isinstance(run.model, LearnedModel)
        assert isinstance(run.policy, Replayer)
        rows, times = run.policy.buffer.size(), -(-paid_again // (run.policy.buffer.size() * config.n_envs))
        began = time.process_time()
        for _ in range(times):
            run.model.paid_again(rows)
        each = (time.process_time() - began) / (times * rows * config.n_envs)
        return took, run.policy.model._n_updates, each


if __name__ == "__main__":
    main(tyro.cli(Replay))
