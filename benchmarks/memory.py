"""Whether a long Atari run fits into memory: what the recorder and 5,600 answers keep resident.

    python -m benchmarks.memory

Random actions fill the recorder of the default run, and questions about them are asked, answered and taken into a fit
as they come; results/memory.json has the process's peak resident bytes before and after, and what the same answers
would take as stacks of four frames.
"""

from __future__ import annotations

import json
import resource
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro

from prefrl.experience.backends import make_vec_env
from prefrl.experience.recorder import Recorder
from prefrl.queries.labelers import make_labeler
from prefrl.rewards.fit import Fit
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.runs.resolve import resolve
from prefrl.runs.runlog import versions
from prefrl.settings.config import TrainConfig
from prefrl.words.process import for_small_networks

RESULTS = Path(__file__).parent / "results" / "memory.json"
MOST_BYTES = 2 << 30


@dataclass(frozen=True)
class Memory:
    """Resident memory of the recorder and the answers of an Atari run."""

    env: str = "prefrl/Pong-v0"
    """Task."""
    answers: int = 5600
    """Answers, all of which are kept (by default a fit keeps the newest 3,000)."""
    batches: int = 28
    """Times that questions are asked while the recorder is filled and filled again."""


def main(ask: Memory) -> int:
    """Measure, print, and write the raw numbers; 1 when it is too much."""
    for_small_networks()
    cfg = resolve(TrainConfig(env=ask.env, steps=10_000_000, labels=ask.answers))
    assert cfg.n_envs and cfg.keep_steps and cfg.segment_steps
    env = Recorder(make_vec_env(cfg.env, cfg.n_envs, 0), cfg.env, 0, cfg.keep_steps)
    env.reset()
    actions = np.random.default_rng(0)
    _steps(env, 100, actions)  # the emulators, and everything that is imported late, are there
    r_hat = RewardEnsemble(env.observation_space, env.action_space, cfg.members)
    fit = Fit(r_hat, np.random.default_rng(0), cfg.segment_steps, max_answers=None)
    labeler = make_labeler(cfg.labeler, cfg.teachers, 0)
    before = _resident()
    each = -(-cfg.keep_steps // cfg.n_envs // (ask.batches // 2))  # the ring is filled twice over
    for _ in range(ask.batches):
        _steps(env, each, actions)
        fit.add(labeler(env.pairs(ask.answers // ask.batches, cfg.segment_steps, np.random.default_rng(0)).queries()))
    after = _resident()
    shape = env.observation_space.shape
    assert shape is not None
    stacks = len(fit.answers) * 2 * cfg.segment_steps * int(np.prod(shape))
    env.close()
    result = {
        "asked": asdict(ask),
        "keep_steps": cfg.keep_steps,
        "answers": len(fit.answers),
        "peak_bytes_before": before,
        "peak_bytes_after": after,
        "answers_as_stacks_bytes": stacks,
        "most_bytes": MOST_BYTES,
        "versions": versions(),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(
        f"{after / 2**30:.2f} GiB resident at most, with {cfg.keep_steps:,} steps and {len(fit.answers):,} answers of "
        f"{ask.env} ({(after - before) / 2**30:.2f} GiB of it theirs; as stacks of frames the answers alone: "
        f"{stacks / 2**30:.1f} GiB); at most {MOST_BYTES / 2**30:.0f} GiB is wanted"
    )
    return 0 if after <= MOST_BYTES else 1


def _steps(env: Recorder, vector_steps: int, rng: np.random.Generator) -> None:
    for _ in range(vector_steps):
        env.step(rng.integers(env.action_space.n, size=env.num_envs))


def _resident() -> int:
    """The most bytes that were ever resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    raise SystemExit(main(tyro.cli(Memory)))
