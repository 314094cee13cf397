"""Figure 6: what each part of the method is worth on Atari (section 3.3).

prefrl sweep benchmarks/grids/figure6.toml
python -m benchmarks.figure6 [--check]   # exit 1 where what the paper says in words does not show
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import question
from benchmarks.committed import Claim, Question
from benchmarks.figure5 import ARMS, ORIGINAL
from prefrl.studies.compare import Outcome


def claims(runs: Sequence[Outcome]) -> list[Claim]:
    return question.worse_than(runs, ORIGINAL, {"no online queries": 1.0}, "by the paper's words it should be")


QUESTION = Question(
    name="figure6",
    title="Figure 6: what is each part of the method worth on Atari?",
    about="""The switches of figure 5, but for no segments, on six games: 5,500 labels, 10 million agent steps, three
seeds. The paper finds mixed results here, but for labels that are all asked at the start, which it finds poor.""",
    grids=("figure6",),
    reference=ORIGINAL,
    figure=6,
    names={arm: arm for arm in ARMS if arm != "no segments"},
    claims=claims,
)

if __name__ == "__main__":
    question.main(QUESTION)
