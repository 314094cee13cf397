"""Do 700 answers do as well as the true reward? HalfCheetah, Hopper and Walker2d, 1M steps each.

    python -m benchmarks.loop                # runs what is missing (runs/loop), then the report
    python -m benchmarks.loop --report       # the report again, from the committed data alone

Settings were tuned on seeds 100 and up; seeds 0, 1, ... are reported. Runs that are finished are not run again.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks import figure2, question
from prefrl.compare import FINAL_SHARE, Outcome, panels, results, run_comparison
from prefrl.config import CompareConfig
from prefrl.plots import TRUE_REWARD, learning_curves, result_table
from prefrl.stats import bootstrap_interval, interquartile_mean

RESULTS = Path(__file__).parent / "results" / "loop"
LIBRARIES = ("gymnasium", "envpool", "stable-baselines3", "torch")


@dataclass(frozen=True)
class Loop:
    """Learned against true reward on three tasks, for the README's figure and table."""

    envs: tuple[str, ...] = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
    """Tasks; unhealthy termination is off, as in the paper."""
    labels: tuple[int, ...] = (700,)
    """Label budgets."""
    steps: int = 1_000_000
    """Environment steps of each run."""
    seeds: int = 3
    """Seeds 0, 1, ... of each arm."""
    jobs: int = 2
    """Runs at a time."""
    runs: Path = Path("runs/loop")
    """Where the runs are."""
    report: bool = False
    """Only rebuild table and figure from the committed data."""


def main(ask: Loop) -> None:
    """Run, write the raw data, report."""
    if not ask.report:
        outcomes: list[Outcome] = []
        for env in ask.envs:
            outcomes += run_comparison(
                CompareConfig(
                    env=env,
                    labels=ask.labels,
                    steps=ask.steps,
                    seeds=ask.seeds,
                    jobs=ask.jobs,
                    tensorboard=False,
                    out=ask.runs / env,
                )
            )
        write_data(outcomes, ask.runs)
    report(read_data())


def write_data(outcomes: list[Outcome], runs: Path) -> None:
    """Every seed's curve, and for each run what made it: commit, versions, seconds."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / "curves.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "arm", "seed", "step", "true_return"])
        for o in outcomes:
            steps, returns = (np.asarray(part) for part in o.curve)
            writer.writerows([o.task, o.arm, o.seed, int(s), f"{r:.6g}"] for s, r in zip(steps, returns, strict=True))
    with (RESULTS / "runs.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = ["task", "arm", "seed", "final_true_return", "seconds", "commit", *LIBRARIES, "command"]
        writer.writerow(columns)
        for o in outcomes:
            folder = (
                runs / o.task / f"{'true-reward' if o.arm == TRUE_REWARD else 'labels' + o.arm.split()[0]}-seed{o.seed}"
            )
            used = json.loads((folder / "versions.json").read_text())
            made = [used["commit"], *(used.get(name, "") for name in LIBRARIES), "python -m benchmarks.loop"]
            writer.writerow([o.task, o.arm, o.seed, f"{o.final:.6g}", f"{o.seconds:.0f}", *made])


def read_data() -> list[Outcome]:
    """The committed outcomes."""
    with (RESULTS / "runs.csv").open(newline="") as file:
        seconds = {(r["task"], r["arm"], r["seed"]): float(r["seconds"]) for r in csv.DictReader(file)}
    curves: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    with (RESULTS / "curves.csv").open(newline="") as file:
        for r in csv.DictReader(file):
            curves.setdefault((r["task"], r["arm"], r["seed"]), []).append((float(r["step"]), float(r["true_return"])))
    outcomes = []
    for (task, arm, seed), points in curves.items():
        steps, returns = np.array(points).T
        outcomes.append(Outcome(task, arm, int(seed), (steps, returns), seconds[task, arm, seed]))
    return outcomes


def summary(outcomes: list[Outcome]) -> str:
    """The table, how to read it, and each label budget's share of the true reward's result over all tasks."""
    lines = [
        result_table(results(outcomes)),
        "",
        f"True return over the last {FINAL_SHARE:.0%} of {max(o.curve[0][-1] for o in outcomes):,.0f} steps, from the "
        "policy as it trains; intervals are narrow for so few seeds (`prefrl.stats.bootstrap_interval`).",
    ]
    tasks = list(dict.fromkeys(o.task for o in outcomes))
    for arm in dict.fromkeys(o.arm for o in outcomes if o.arm != TRUE_REWARD):
        scores = []
        for task in tasks:
            reference = interquartile_mean([o.final for o in outcomes if o.task == task and o.arm == TRUE_REWARD])
            scores.append(np.array([o.final for o in outcomes if o.task == task and o.arm == arm]) / reference)
        middle = interquartile_mean(np.concatenate(scores))
        low, high = bootstrap_interval(scores, interquartile_mean, np.random.default_rng(0))
        lines.append(
            f"Over all {len(tasks)} tasks {arm} reach {middle:.2f} [{low:.2f}, {high:.2f}] of the true reward's result "
            "(interquartile mean of all runs, each over its task's true-reward mean)."
        )
    return "\n".join(lines)


def report(outcomes: list[Outcome]) -> None:
    """Draw figure.png, and print the table; both are the README's as long as figure 2 has not been run."""
    text = summary(outcomes)
    learning_curves(panels(outcomes), RESULTS / "figure.png")
    if not question.outcomes(figure2.QUESTION):
        question.write_between(question.FRONT, "table", text)
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Loop))
