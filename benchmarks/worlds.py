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
at all; one seed says nothing about which arm is better (figure 2 is for that). How little it says: between the set of
runs before and this one, nothing but the rounding of the reward's fit changed for seven of the tasks, and 700 answers
took the double pendulum to 4,734 instead of -777, and Walker2d to 393 instead of -105.

What does not learn: Ant, from either reward, which in half a million steps does little better than flap on the spot
(the paper gives it 20 million). Swimmer, from either, goes no further than the slow stroke that PPO finds first. On its
way is Reacher from answers: its policy stays on a plateau that the true reward's leaves after 200,000 steps, although
its r-hat correlates at 0.98 with the true returns of its segments; on the tuning seeds 100 and 101 the same settings
end at -2.2 and -3.9.""",
    grids=("worlds",),
)

if __name__ == "__main__":
    question.main(QUESTION)
