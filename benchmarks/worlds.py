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
(the paper gives it 20 million). On their way from answers where the true reward has arrived or is ahead:
InvertedDoublePendulum (r-hat orders 0.96 of fresh pairs right, but it has seen few poles that stand), Walker2d, and
Reacher, whose policy stops improving early although its r-hat correlates at 0.96 with the true reward of an untrained
policy's steps and at 0.93 with that of its own; on seed 100 the same settings end at -2.2. InvertedPendulum from
answers stays down here, though 300 answers held the pole in 200,000 steps on seeds 0 to 2 and 700 on seeds 100 and
101: nine windows in ten show a pole that lies, 81 in 100 of the answers said that two of them are equal, and r-hat has
learned one side only, that a pole which leans to the left is good and one which leans to the right lies.""",
    grids=("worlds",),
)

if __name__ == "__main__":
    question.main(QUESTION)
