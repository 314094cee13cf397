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
at all; one seed says nothing about which arm is better (figure 2 is for that).

What does not learn: Ant, from either reward, which in half a million steps does little better than flap on the spot
(the paper gives it 20 million). InvertedPendulum from answers,
which the true reward solves in 80,000 steps: it falls within a second and lies for the rest of the episode, so that
nearly every pair shows two poles that lie, told apart by hundredths of a degree (r-hat orders 0.7 of fresh pairs).
InvertedDoublePendulum and Reacher are on their way from answers where the true reward has arrived. The runs from
answers were all made again after the first ones had shown how weak the reward's fit was; the last table has
what both gave.""",
    grids=("worlds",),
)

if __name__ == "__main__":
    question.main(QUESTION)
