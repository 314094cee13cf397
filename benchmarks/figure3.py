"""Figure 3: learning from 10,000, 5,600 and 3,300 answers on Atari, beside the paper's curves.

prefrl sweep benchmarks/grids/figure3.toml
python -m benchmarks.figure3 [--check]
"""

from __future__ import annotations

from benchmarks import question
from benchmarks.committed import Question
from prefrl.studies.plots import TRUE_REWARD

QUESTION = Question(
    name="figure3",
    title="Figure 3: do 3,300 to 10,000 answers do as well as the true reward on Atari?",
    about="""The paper's seven games as `prefrl/...-v0`: scores blanked, no life or game ends shown, 25-step segments.
PPO in place of A2C, an exact oracle, 10 million agent steps, a fifth of the paper's. True return is the score of a
game.""",
    grids=("figure3",),
    figure=3,
    names={
        TRUE_REWARD: "true reward",
        "10000 labels": "10k synthetic",
        "5600 labels": "5.6k synthetic",
        "3300 labels": "3.3k synthetic",
    },
    banded=True,
)

if __name__ == "__main__":
    question.main(QUESTION)
