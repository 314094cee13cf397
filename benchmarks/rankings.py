"""Do rankings pay at equal labelling time? Rewards fitted to pairs, to rankings of four, and to the best of four.

    python -m benchmarks.rankings            # fits everything again, some minutes on a core, then the report
    python -m benchmarks.rankings --report   # the report again, from the committed data

No policy is trained: behaviour is recorded once, an oracle answers questions of each kind about it for as long as 87
pairs take, and each reward is judged on the same pairs, which nobody was asked about. Time is the oracle's: segments are
watched two at a time, a ranking of K takes K log2 K / 2 decisions, a best one K - 1, a pair one
(`prefrl.queries.orders.effort`).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro

from benchmarks.committed import HERE
from benchmarks.question import README, markdown, write_between
from benchmarks.reward_fit import FRESH, PRESET, STEPS, acted
from prefrl.queries.labelers import make_labeler
from prefrl.rewards.fit import Fit
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.rewards.watch import agreement
from prefrl.runs.runlog import versions
from prefrl.words.measures import correlation
from prefrl.words.preference import Preference, comparisons
from prefrl.words.process import for_small_networks

DATA = HERE / "results" / "rankings" / "fits.csv"
TASKS = ("HalfCheetah", "Hopper", "Ant", "Reacher")
SEEDS = (100, 101, 102)
PAIRS = 87  # whose time there is: half of what a default run asks at first
TEACHERS = ("oracle", "right90")
K = 4
MEASURES = ("accuracy", "cross_entropy", "step_correlation")
COUNTS = ("questions", "segments", "comparisons", "seconds")


ARMS = {"pairs": "pair", "rankings of 4": "ranking", "best of 4": "best"}


@dataclass(frozen=True)
class Ask:
    """Fit every arm, and report."""

    report: bool = False
    """Only report, from the committed data."""


def in_time(answers: Sequence[Preference], seconds: float) -> list[Preference]:
    """The first answers that fit into the time."""
    taken = np.cumsum([answer.seconds for answer in answers]) <= seconds
    return list(answers[: int(taken.sum())])


def measure() -> None:
    """Fit every arm on every task, seed and teacher, and write one row for each."""
    for_small_networks()
    commit = versions()["commit"]
    DATA.parent.mkdir(parents=True, exist_ok=True)
    with DATA.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["seed", "task", "teacher", "arm", *COUNTS, *MEASURES, "commit"])
        for seed in SEEDS:
            for task in TASKS:
                for row in _of_task(task, seed):
                    writer.writerow([seed, task, *row, commit])
                file.flush()
                print(seed, task, flush=True)


def _of_task(task: str, seed: int) -> list[list[Any]]:
    env, rng, segment_steps = acted(task, seed)
    fresh = env.pairs(FRESH, segment_steps, rng)
    pairs = env.pairs(PAIRS, segment_steps, rng).queries()
    sets = env.pairs(PAIRS, segment_steps, rng, k=K)
    asked = {"pair": pairs, "ranking": sets.queries("ranking"), "best": sets.queries("best")}
    rows = []
    for teacher in TEACHERS:
        answers = {of: make_labeler("oracle", (teacher,), seed)(some) for of, some in asked.items()}
        seconds = sum(answer.seconds for answer in answers["pair"])
        for name, kind in ARMS.items():
            given = in_time(answers[kind], seconds)
            r_hat = RewardEnsemble(
                env.observation_space, env.action_space, generator=torch.Generator().manual_seed(seed)
            )
            fit = Fit(
                r_hat,
                np.random.default_rng(seed),
                segment_steps,
                learning_rate=PRESET["reward_learning_rate"],
                batch=PRESET["batch"],
                l2=PRESET["l2"],
            )
            fit.add(given)
            observations, actions, true = env.recent(STEPS * env.num_envs)
            updates = PRESET["initial_epochs"] * -(-PAIRS // PRESET["batch"])  # the same for every arm
            fit.refit((observations, actions), (observations, actions), updates, kept=0.0)
            found, _ = agreement(r_hat, fresh, fit.noise_floor)
            found["step_correlation"] = correlation(r_hat.reward(observations, actions), true)
            shown = len(given[0].query.segments)
            counts = [len(given), shown * len(given), comparisons(kind, shown) * len(given)]
            time = f"{sum(answer.seconds for answer in given):.0f}"
            rows.append([teacher, name, *counts, time, *(f"{found[m]:.5g}" for m in MEASURES)])
    env.close()
    return rows


def table() -> str:
    """What a time's answers come to by arm, and task by task how much better or worse than pairs, in Markdown."""
    with DATA.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    def values(measure: str, **of: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        chosen = [row for row in rows if all(row[key] == value for key, value in of.items())]
        return np.array([float(row[measure]) for row in chosen])

    by_arm: list[tuple[str, ...]] = [("answers of an exact oracle", *COUNTS, "right", "cross-entropy")]
    for name in ARMS:
        of = {"arm": name, "teacher": "oracle"}
        counts = (f"{values(count, **of).mean():.0f}" for count in COUNTS)
        means = (f"{values(m, **of).mean():.3f}" for m in ("accuracy", "cross_entropy"))
        by_arm.append((name, *counts, *means))
    tables = [markdown(by_arm, text=1)]
    for teacher in TEACHERS:
        by_task: list[tuple[str, ...]] = [(f"right, {teacher}", *TASKS, "less pairs", "95 % interval")]
        for name in ARMS:
            per_task = [values("accuracy", arm=name, teacher=teacher, task=task) for task in TASKS]
            of_pairs = [values("accuracy", arm="pairs", teacher=teacher, task=task) for task in TASKS]
            gaps = [mine - theirs for mine, theirs in zip(per_task, of_pairs, strict=True)]
            low, high = interval(gaps)
            gap = "-" if name == "pairs" else f"{np.mean(gaps):+.3f}"
            within = "-" if name == "pairs" else f"{low:+.3f} to {high:+.3f}"
            by_task.append((name, *(f"{mine.mean():.3f}" for mine in per_task), gap, within))
        tables.append(markdown(by_task, text=1))
    return "\n\n".join(tables)


def interval(gaps: Sequence[np.ndarray[Any, np.dtype[np.float64]]]) -> tuple[float, float]:
    """95 % of the mean gap, by a bootstrap over the seeds of each task."""
    rng = np.random.default_rng(0)
    means = [np.mean([rng.choice(gap, len(gap)).mean() for gap in gaps]) for _ in range(5_000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def main(ask: Ask) -> None:
    """Fit, unless only the report is asked for, and write this benchmark's part of the page."""
    if not ask.report:
        measure()
    write_between(README, "rankings", table())
    print(table())


if __name__ == "__main__":
    main(tyro.cli(Ask))
