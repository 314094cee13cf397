"""What would figure 3 cost with a GPU? The settings of figure 3 on four games, in small.

prefrl sweep benchmarks/grids/figure3_gpu.toml
python -m benchmarks.figure3_gpu
"""

from __future__ import annotations

from benchmarks import question
from benchmarks.committed import Question
from benchmarks.figure3_smoke import prices

QUESTION = Question(
    name="figure3_gpu",
    title="What would figure 3 cost with a GPU?",
    about="""Four of the paper's games with the settings of `benchmarks/grids/figure3.toml`, for 250,000 agent steps:
how fast is it on a GPU, and what is learned by then? Four runs at a time shared one NVIDIA H200 and 16 cores. What
the whole figure would take is reckoned as it is for `figure3_smoke`; a run's share of the GPU is a quarter.""",
    grids=("figure3_gpu",),
    measures=("learn", "fit"),
)


def body(asked: Question) -> str:
    """The report, and how long figure 3 would take at that speed."""
    return f"{question.report(asked)}\n\n{prices(asked, 'hours of a quarter of a GPU')}"


if __name__ == "__main__":
    question.main(QUESTION, body)
