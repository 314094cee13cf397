"""The suites that papers on preferences report on: SAC with a buffer paid anew beside PPO, on as many labels.

prefrl sweep benchmarks/grids/suites_paper.toml   # Walker2d, Hopper, HalfCheetah
python -m benchmarks.suites
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks import question
from benchmarks.committed import Question
from prefrl.studies.compare import Outcome
from prefrl.words.stats import bootstrap_interval, interquartile_mean

SUCCESS = "success_rate"  # of the episodes of a phase, where the environment tells
PUBLISHED = {
    "dmc/walker-walk-v1": "PEBBLE 453 +- 159, SURF 661 +- 92, RUNE 415 +- 182, QPA 796 +- 148, PPE 908 +- 55",
    "dmc/cheetah-run-v1": "PEBBLE 546 +- 130, SURF 557 +- 59, RUNE 509 +- 186, QPA 579 +- 133, PPE 645 +- 30",
    "dmc/quadruped-walk-v1": "PEBBLE 364 +- 139, SURF 554 +- 279, RUNE 507 +- 266, QPA 622 +- 259, PPE 661 +- 180",
    "Meta-World/window-open-v3": "PEBBLE 87 %, SURF 87 %, RUNE 97 %, QPA 90 %, PPE 100 %",
    "Meta-World/door-open-v3": "PEBBLE 72 %, SURF 91 %, RUNE 98 %, QPA 100 %, PPE 100 %",
    "prefrl/Walker2d-v0": "TRPO, 700 labels, 20 million steps: 4,860",
    "prefrl/Hopper-v0": "TRPO, 700 labels, 20 million steps: 4,493",
}
"""Returns, on Meta-World successes, with as many labels and steps: PPE (NeurIPS 2025), table 1, five seeds, mean and
deviation of the last ten evaluations; of the paper's tasks the end of its curve."""

QUESTION = Question(
    name="suites",
    title="What do SAC and PPO make of the same labels, on the suites that the field reports on?",
    about="""An exact oracle; segments of 50 steps and sessions of questions every 20,000 steps (Meta-World 5,000,
quadruped 30,000) as in the published runs, on the paper's tasks 700 labels asked as in figure 2. SAC learns with
stable-baselines3's 2 x 256 units and half an update a step, its replay buffer paid anew before every phase; PPO with
this project's settings, on as many labels and steps. The true reward is SAC's.

A result is the mean of the episodes of the last tenth of the steps, from the policy as it trains: interquartile mean
over the seeds, in brackets a 95 % bootstrap interval, where there are three seeds or more. Published results are those
of five seeds, evaluated apart, on Meta-World with version 2 of its tasks.""",
    grids=("suites_paper",),
    measures=(SUCCESS,),
)


def result(runs: Sequence[Outcome], unit: float = 1.0) -> str:
    """Interquartile mean of the final values of one task and arm, and what the seeds leave open."""
    finals = np.array([run.final for run in runs]) * unit
    if not len(finals):
        return "-"
    mean = f"{interquartile_mean(finals):z,.4g}"
    if len(finals) < 3:
        return f"{mean} ({len(finals)})"
    low, high = bootstrap_interval([finals], interquartile_mean, np.random.default_rng(0))
    return f"{mean} ({low:z,.4g} to {high:z,.4g})"


def table(asked: Question) -> str:
    """Task by task: labels, each arm's return, success and minutes, and what was published."""
    runs, successes = question.outcomes(asked), question.outcomes(asked, SUCCESS)
    labels = {(task, arm): getattr(job.config, "labels", 0) for (task, arm, _), (job, _) in asked.planned().items()}
    rows = [("task", "arm", "labels", "steps", "return", "success, %", "minutes", "published")]
    for task, arm in dict.fromkeys((o.task, o.arm) for o in runs):
        of_arm = [o for o in runs if (o.task, o.arm) == (task, arm)]
        reached = [o for o in successes if (o.task, o.arm) == (task, arm)]
        rows.append(
            (
                question.panel_of(task),
                arm,
                f"{labels[task, arm]:,}" if labels[task, arm] else "-",
                f"{max(o.curve[0][-1] for o in of_arm):,.0f}",
                result(of_arm),
                result(reached, 100.0),
                f"{np.mean([o.seconds for o in of_arm]) / 60:,.0f}",
                PUBLISHED.get(task, "-") if labels[task, arm] else "-",
            )
        )
    return question.markdown(rows, text=2)


def body(asked: Question) -> str:
    """Figure and table."""
    return f"![True return by steps, task by task](results/{asked.name}/figure.png)\n\n{table(asked)}"


if __name__ == "__main__":
    question.main(QUESTION, body)
