"""Do the paper's eight MuJoCo tasks run, and learn? One seed each of the true reward and of 700 labels.

prefrl sweep benchmarks/grids/worlds.toml
python -m benchmarks.worlds
"""

from __future__ import annotations

from benchmarks import question
from benchmarks.question import Question

QUESTION = Question(
    name="worlds",
    title="Do the paper's eight MuJoCo tasks run, and learn?",
    about="""A first look: half a million steps, 700 answers of an exact oracle, one seed. It shows which tasks learn
at all; one seed says nothing about which arm is better (figure 2 is for that).""",
    grids=("worlds",),
)

if __name__ == "__main__":
    question.main(QUESTION)
