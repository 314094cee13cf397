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

These runs are from before the settings were tuned. Ant and Swimmer get nowhere much here from either reward, and
Reacher not from answers; with the settings that `prefrl.presets` has now all three learn from both, on the seeds that
they were tuned on (`python -m benchmarks.tuning`).""",
    grids=("worlds",),
)

if __name__ == "__main__":
    question.main(QUESTION)
