"""Do rankings pay at equal labelling time? Rewards fitted to pairs, to rankings of four, and to the best of four.

    python -m benchmarks.rankings            # fits what is missing of the data, then the report
    python -m benchmarks.rankings --report   # the report again, from the committed data

No policy is trained: behaviour is recorded once, an oracle answers questions of each kind about it for as long as 87
pairs take, and each reward is judged on the same pairs, which nobody was asked about. Time is the oracle's: segments
are watched two at a time, a ranking of K takes K log2 K / 2 decisions, a best one K - 1, a pair one
(`prefrl.queries.orders.effort`). As many gradient steps are more passes over fewer answers, and longer fits are better
ones, so that pairs and rankings, of the exact oracle, are fitted four times as long too.
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
KEY = ("seed", "task", "teacher", "arm")
MEASURES = ("accuracy", "cross_entropy", "step_correlation")
COUNTS = ("questions", "segments", "comparisons", "seconds")

ARMS = {  # the kind of question, gradient steps over the preset's for so many pairs, who answers, and which seeds
    "pairs": ("pair", 1, TEACHERS, SEEDS),
    "rankings of 4": ("ranking", 1, TEACHERS, SEEDS),
    "best of 4": ("best", 1, TEACHERS, SEEDS),
    "pairs, 4 x the steps": ("pair", 4, TEACHERS[:1], SEEDS[:2]),
    "rankings of 4, 4 x the steps": ("ranking", 4, TEACHERS[:1], SEEDS[:2]),
}
ROWS = [
    (str(seed), task, teacher, name)
    for seed in SEEDS
    for task in TASKS
    for teacher in TEACHERS
    for name, (_, _, teachers, seeds) in ARMS.items()
    if teacher in teachers and seed in seeds
]


@dataclass(frozen=True)
class Ask:
    """Fit every arm, and report."""

    report: bool = False
    """Only report, from the committed data."""


def in_time(answers: Sequence[Preference], seconds: float) -> list[Preference]:
    """The first answers that fit into the time."""
    taken = np.cumsum([answer.seconds for answer in answers]) <= seconds
    return list(answers[: int(taken.sum())])


def rows() -> list[dict[str, str]]:
    """What there is of the grid, in its order."""
    if not DATA.is_file():
        return []
    with DATA.open(encoding="utf-8", newline="") as file:
        found = {tuple(row[key] for key in KEY): row for row in csv.DictReader(file)}
    return [found[row] for row in ROWS if row in found]


def measure() -> None:
    """Fit what is missing of the grid, and write one row for each."""
    for_small_networks()
    commit = versions()["commit"]
    DATA.parent.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        for task in TASKS:
            have = {tuple(row[key] for key in KEY) for row in rows()}
            wanted = [row for row in ROWS if row[:2] == (str(seed), task) and row not in have]
            new = _fitted(task, seed, wanted, commit) if wanted else []
            both = rows() + new
            with DATA.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, [*KEY, *COUNTS, *MEASURES, "commit"], lineterminator="\n")
                writer.writeheader()
                writer.writerows(both)
            print(seed, task, flush=True)


def _fitted(task: str, seed: int, wanted: Sequence[tuple[str, ...]], commit: str) -> list[dict[str, str]]:
    env, rng, segment_steps = acted(task, seed)
    fresh = env.pairs(FRESH, segment_steps, rng)
    pairs = env.pairs(PAIRS, segment_steps, rng).queries()
    sets = env.pairs(PAIRS, segment_steps, rng, k=K)
    asked = {"pair": pairs, "ranking": sets.queries("ranking"), "best": sets.queries("best")}
    observations, actions, true = env.recent(STEPS * env.num_envs)
    found = []
    for key in wanted:
        teacher, name = key[2:]
        kind, times, *_ = ARMS[name]
        answers = {of: make_labeler("oracle", (teacher,), seed)(some) for of, some in asked.items()}
        given = in_time(answers[kind], sum(answer.seconds for answer in answers["pair"]))
        r_hat = RewardEnsemble(env.observation_space, env.action_space, generator=torch.Generator().manual_seed(seed))
        fit = Fit(
            r_hat,
            np.random.default_rng(seed),
            segment_steps,
            learning_rate=PRESET["reward_learning_rate"],
            batch=PRESET["batch"],
            l2=PRESET["l2"],
        )
        fit.add(given)
        updates = times * PRESET["initial_epochs"] * -(-PAIRS // PRESET["batch"])
        fit.refit((observations, actions), (observations, actions), updates, kept=0.0)
        measures = agreement(r_hat, fresh, fit.noise_floor)[0]
        measures["step_correlation"] = correlation(r_hat.reward(observations, actions), true)
        shown = len(given[0].query.segments)
        counts = (len(given), shown * len(given), comparisons(kind, shown) * len(given))
        time = f"{sum(answer.seconds for answer in given):.0f}"
        row = dict(zip(KEY, key, strict=True)) | dict(zip(COUNTS, [*map(str, counts), time], strict=True))
        found.append(row | {name: f"{measures[name]:.5g}" for name in MEASURES} | {"commit": commit})
    env.close()
    return found


def table() -> str:
    """What a time's answers come to by arm, and task by task how much better or worse than pairs, in Markdown."""
    every = rows()

    def values(measure: str, **of: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        chosen = [row for row in every if all(row[key] == value for key, value in of.items())]
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
        for name, (kind, times, teachers, _) in ARMS.items():
            if teacher not in teachers:
                continue
            beside = next(other for other, of in ARMS.items() if of[:2] == ("pair", times))
            mine, pairs = (
                [values("accuracy", arm=arm, teacher=teacher, task=task) for task in TASKS] for arm in (name, beside)
            )
            gaps = [one - other for one, other in zip(mine, pairs, strict=True)]
            low, high = interval(gaps)
            gap = (
                ("-", "-")
                if kind == "pair"
                else (f"{np.mean([each.mean() for each in gaps]):+.3f}", f"{low:+.3f} to {high:+.3f}")
            )
            by_task.append((name, *(f"{one.mean():.3f}" for one in mine), *gap))
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
