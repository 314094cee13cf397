"""Figure 2: learning from 1,400, 700 and 350 answers on MuJoCo, beside the paper's curves.

prefrl sweep benchmarks/grids/figure2.toml
python -m benchmarks.figure2             # takes in what has finished, draws, writes the READMEs' parts
python -m benchmarks.figure2 --check     # beside the paper's curves; exit 1 where ours lie below
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks import paper, question
from benchmarks.committed import Claim, Question
from prefrl.studies.compare import Outcome
from prefrl.studies.plots import TRUE_REWARD
from prefrl.words.stats import interquartile_mean

GOALS = {"700 labels": 0.95, "1400 labels": 1.0}  # of the way from random actions to the true reward's result
WEAK = 1.1  # of the true reward's result, by every other arm: then it is the true reward that learns badly
BY_TASK = """Task by task: what random actions and the true reward are worth, and how much of the way between them the
other arms reach, interquartile means of five seeds."""
REACHED = 5  # of the eight tasks on which 700 labels should reach the paper's final value in a tenth of its steps


def goals(runs: Sequence[Outcome]) -> list[Claim]:
    """What was hoped for, said as it turned out, and whether it did."""
    said: list[Claim] = []
    shares = question.scores(runs, TRUE_REWARD)
    for arm, least in GOALS.items():
        if arm in shares:
            reached = interquartile_mean(np.concatenate(shares[arm]))
            words = f"{arm} reach {reached:.2f} of the true reward's result; hoped for {least:.2f}."
            said.append((words, reached >= least))
    of_700 = [c for c in paper.beside_paper(QUESTION, runs) if c.arm == "700 labels"]
    if of_700:
        there = [question.panel_of(c.task) for c in of_700 if c.reaches(c.end)]
        words = f"700 labels reach the paper's final value on {len(there)} of {len(of_700)} tasks"
        said.append((f"{words} ({', '.join(there) or 'none'}); hoped for {REACHED} of 8.", len(there) >= REACHED))
    return said


QUESTION = Question(
    name="figure2",
    title="Figure 2: do 350, 700 and 1,400 answers do as well as the true reward on MuJoCo?",
    about="""The paper's eight tasks as `prefrl/...-v0`, PPO in place of TRPO, an exact oracle, 2 million steps and
five seeds: a tenth of the paper's steps. The pendulums train for 200,000: a tenth for the single one, a hundredth for
the double one. A run's result is the mean true return of the episodes that finished in the last tenth of its steps,
from the policy as it trains; a score is the share of the way from random actions (`python -m
benchmarks.random_actions`) to the true reward's result.

The paper's curves are digitised from its figure ([`paper_curves.csv`](paper_curves.csv)): means of five runs, without
spread, read to a thousandth of what the axis spans. Ours counts as inside where it lies within a tenth of that span.
The paper does not say how long its pendulums' episodes are, and their levels show that they are not ours: those two
tasks are compared on the way from random actions to the true reward's end, by share of it and given on the paper's
scale, and their curves are left out of the figure. A curve of theirs that goes on behind others is taken to end at the
highest of them.

While runs are missing, the table has the seeds that every arm has on every task, and the comparison with the paper
has all there are.""",
    grids=("figure2",),
    figure=2,
    names={
        TRUE_REWARD: "true reward",
        "1400 labels": "1400 synthetic",
        "700 labels": "700 synthetic",
        "350 labels": "350 synthetic",
    },
    unlike=("prefrl/InvertedPendulum-v0", "prefrl/InvertedDoublePendulum-v0"),
    claims=goals,
    banded=True,
)


def front() -> str:
    """The table of the project's README: every arm over all tasks, and what the numbers are."""
    runs = question.outcomes(QUESTION)
    tasks = len({o.task for o in runs})
    about = (
        f"Final true returns on {tasks} of the paper's MuJoCo tasks after at most a tenth of its steps, from 0, "
        "random actions, to 1, the true reward's result: interquartile mean of all runs, 95 % bootstrap interval. "
        f"{question.missing(QUESTION)}"
    )
    outdated = question.stale(QUESTION)
    parts = (
        question.share_of_stale(len(outdated), len(runs)),
        question.leaderboard(runs, TRUE_REWARD, outdated=outdated),
        about.strip(),
        question.improvements(runs, TRUE_REWARD),
        question.by_task(runs, TRUE_REWARD),
        f"{BY_TASK} {weak(runs)}".strip(),
    )
    return "\n\n".join(part for part in parts if part)


def weak(runs: Sequence[Outcome]) -> str:
    """A sentence about the tasks on which every other arm does better than the true reward; empty if there is none."""
    shares = question.scores(runs, TRUE_REWARD)
    others = [tasks for arm, tasks in shares.items() if arm != TRUE_REWARD]
    found = [
        question.panel_of(task)
        for place, task in enumerate(question.references(runs, TRUE_REWARD))
        if others and min(interquartile_mean(tasks[place]) for tasks in others) > WEAK
    ]
    said = "the other arms all do better than the true reward: its own arm is weak, and a share of it says little."
    return f"On {' and '.join(found)} {said}" if found else ""


def write_front() -> None:
    """Figure and table of the project's README."""
    alt = "True return of policies that learn from answers and from the true reward, and the paper's curves"
    question.write_between(question.FRONT, "figure", f"![{alt}](benchmarks/results/figure2/figure.png)")
    question.write_between(question.FRONT, "table", front())


if __name__ == "__main__":
    question.main(QUESTION, after=write_front)
