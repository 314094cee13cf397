"""What would figure 3 cost with a GPU? The settings of figure 3 on four games, in small.

prefrl sweep benchmarks/grids/figure3_gpu.toml
python -m benchmarks.figure3_gpu
"""

from __future__ import annotations

import numpy as np

from benchmarks import question
from benchmarks.committed import Question
from benchmarks.figure3 import QUESTION as FIGURE3

QUESTION = Question(
    name="figure3_gpu",
    title="What would figure 3 cost with a GPU?",
    about="""Four of the paper's games with the settings of `benchmarks/grids/figure3.toml`, for 250,000 agent steps:
how fast is it on a GPU? Four runs at a time shared one NVIDIA H200 and 16 cores. Those from 1,000 answers were stopped
there at 95 % of their steps, and are missing.""",
    grids=("figure3_gpu",),
    measures=("learn",),
)


def body(asked: Question) -> str:
    """The report, and how long a run of figure 3 would take at that speed."""
    steps = {key: job.config.steps for key, (job, _) in asked.planned().items()}
    speeds: dict[str, list[float]] = {}
    for o in question.outcomes(asked, "learn"):
        speeds.setdefault(o.arm, []).append(steps[o.task, o.arm, o.seed] / float(np.sum(o.curve[1])))
    whole = max(job.config.steps for job, _ in FIGURE3.planned().values())
    table = [("arm", "runs", "policy, steps a second", f"hours for {whole / 1e6:.0f} million")]
    for arm, rates in speeds.items():
        rate = float(np.mean(rates))
        table.append((arm, str(len(rates)), f"{rate:,.0f}", f"{whole / rate / 3600:.1f}"))
    return f"{question.report(asked)}\n\n{question.markdown(table, text=1)}"


if __name__ == "__main__":
    question.main(QUESTION, body)
