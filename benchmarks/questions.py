"""Which questions are worth asking? Every strategy, under equal labels and steps.

prefrl sweep benchmarks/grids/baselines.toml
prefrl sweep benchmarks/grids/questions.toml
python -m benchmarks.questions
"""

from __future__ import annotations

from benchmarks import question
from benchmarks.committed import Question

QUESTION = Question(
    name="questions",
    title="Which questions are worth asking?",
    about="""350 answers on three tasks, a million steps, three seeds; ten candidates for each question asked,
whatever the strategy. Expect small differences: intervals that overlap say that these runs do not tell two strategies
apart, and the paper itself finds that asking where the ensemble disagrees harms on some tasks.""",
    grids=("baselines", "questions"),
    ranked=True,
)

if __name__ == "__main__":
    question.main(QUESTION)
