"""Which settings of the learner? Tried one at a time, for the true and for the learned reward alike.

prefrl sweep benchmarks/grids/tuning.toml
python -m benchmarks.tuning
"""

from __future__ import annotations

from benchmarks import question
from benchmarks.question import Question

QUESTION = Question(
    name="tuning",
    title="Which settings of the learner?",
    about="""Both kinds of reward with each setting, on seeds 100 and 101, which are reported nowhere else; half a
million steps. The settings that `prefrl.presets` has are chosen for both together, so that neither gets the better
ones.""",
    grids=("tuning",),
    reference="true reward, preset",
    ranked=True,
)

if __name__ == "__main__":
    question.main(QUESTION)
