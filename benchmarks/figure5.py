"""Figure 5: what each part of the method is worth on MuJoCo (section 3.3).

prefrl sweep benchmarks/grids/figure5.toml
python -m benchmarks.figure5 [--check]   # exit 1 where what the paper says in words does not show
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import question
from benchmarks.committed import Claim, Question
from benchmarks.figure2 import QUESTION as FIGURE2
from prefrl.studies.compare import Outcome

ORIGINAL = "original"
ARMS = (ORIGINAL, "random queries", "no ensemble", "no online queries", "no regularisation", "no segments", "target")
# The most of the original's result that an arm without this part should reach: much worse, and worse.
CLAIMS = {"no segments": 0.8, "target": 0.8, "no online queries": 1.0}


def claims(runs: Sequence[Outcome]) -> list[Claim]:
    return question.worse_than(runs, ORIGINAL, CLAIMS, "by the paper's words it should be")


QUESTION = Question(
    name="figure5",
    title="Figure 5: what is each part of the method worth?",
    about="""700 labels, a million steps (pendulums 200,000), three seeds. Each arm is a switch of the one
loop: random queries (`strategy=uniform`), no ensemble (`members=1`, and so random queries too), no online queries
(all labels are asked about the untrained policy, `initial_labels=1`), no regularisation (`l2=0`), no segments
(`segment_steps=1`, as many labels), target (`objective=target`: least squares on the true returns of the same
segments, where a label states two numbers). Scores are shares of the way from random actions to the original's
result.""",
    grids=("figure5",),
    reference=ORIGINAL,
    figure=5,
    names={arm: arm for arm in ARMS},
    unlike=FIGURE2.unlike,
    claims=claims,
)

if __name__ == "__main__":
    question.main(QUESTION)
