"""Does a reward get learned from pixels on a CPU? Two Atari games, from labels to policy.

prefrl sweep benchmarks/grids/atari_cpu.toml
python -m benchmarks.atari_cpu
"""

from __future__ import annotations

import numpy as np

from benchmarks import question
from benchmarks.committed import Question

MEASURES = {
    "held_out_accuracy": "right about held-out answers",
    "correlation": "correlation of segment rewards",
}

QUESTION = Question(
    name="atari_cpu",
    title="Does a reward get learned from pixels on a CPU?",
    about="""Two games, 200,000 steps, 1,000 answers of an exact oracle, one seed: enough to see the reward learned,
far too short for a policy that plays (the paper takes 50 million). Fewer passes over the answers than a long run makes,
as the grid says. Each number is the mean over the last fifth of the run. Row h of the README's table has steps a second
beside the plain learner, and its raw data the peak of memory.""",
    grids=("atari_cpu",),
    reference="1000 labels",
    measures=tuple(MEASURES),
)


def body(asked: Question) -> str:
    """The report, and what is known about each game's reward."""
    rows = [("task", *MEASURES.values())]
    runs = {measure: question.outcomes(asked, measure) for measure in MEASURES}
    for task in dict.fromkeys(o.task for of_measure in runs.values() for o in of_measure):
        curves = [np.concatenate([o.curve[1] for o in of_measure if o.task == task]) for of_measure in runs.values()]
        rows.append((question.panel_of(task), *(f"{curve[-max(1, len(curve) // 5) :].mean():.2f}" for curve in curves)))
    return f"{question.report(asked)}\n\n{question.markdown(rows, text=1)}"


if __name__ == "__main__":
    question.main(QUESTION, body)
