"""Whether it harms that environments are made anew at every checkpoint.

prefrl sweep benchmarks/grids/rebirth.toml
python -m benchmarks.rebirth
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import question
from benchmarks.committed import Claim, Question, panel_of
from prefrl.studies.compare import Outcome
from prefrl.words.stats import interquartile_mean

WITH, WITHOUT = "checkpoints", "no checkpoints"
LEAST, MOST = 0.9, 1.1  # of the result without


def claims(runs: Sequence[Outcome]) -> list[Claim]:
    """Of each task, that the result with checkpoints is that without, within a tenth."""
    found: list[Claim] = []
    for task in dict.fromkeys(run.task for run in runs):
        finals = {arm: [run.final for run in runs if (run.task, run.arm) == (task, arm)] for arm in (WITH, WITHOUT)}
        if not all(finals.values()):
            found.append((f"{panel_of(task)}: with checkpoints within a tenth of without", None))
            continue
        ratio = interquartile_mean(finals[WITH]) / interquartile_mean(finals[WITHOUT])
        found.append(
            (f"{panel_of(task)}: {ratio:.2f} of the result without, which is {LEAST} to {MOST}", LEAST <= ratio <= MOST)
        )
    return found


QUESTION = Question(
    name="rebirth",
    title="Does it harm that environments are made anew at every checkpoint?",
    about="""The true reward on three tasks, a million steps, five seeds: with the checkpoints that a run has by
default, every ten of the longest episodes in each environment, and without any. At a checkpoint the episodes that run
are cut, as a time limit cuts them, and the environments begin anew from seeds of their own.""",
    grids=("rebirth",),
    reference=WITHOUT,
    claims=claims,
)

if __name__ == "__main__":
    question.main(QUESTION)
