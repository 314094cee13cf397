"""What becomes of wrong answers? B-Pref's six teachers, and teachers that are right 95 to 70 times in a hundred.

prefrl sweep benchmarks/grids/baselines.toml
prefrl sweep benchmarks/grids/teachers.toml
python -m benchmarks.teachers
"""

from __future__ import annotations

from benchmarks import question
from benchmarks.committed import Question

QUESTION = Question(
    name="teachers",
    title="What becomes of wrong answers?",
    about="""700 answers on three tasks, a million steps, three seeds. The teachers are those of B-Pref at its
settings (Lee et al. 2021): exact; stochastic, which draws from a Bradley-Terry model of the true returns; mistakes, a
tenth of them; skip, of pairs where neither does well; equal, where they are close; myopic, which sees the end of a
clip best. The others are right 95, 90, 80 and 70 times in a hundred, wrong more often the closer the two clips are. A
true return sums hundreds of small rewards in one task and a few large ones in another, so what "stochastic" means
differs from task to task, and what "90 % right" means does not.""",
    grids=("baselines", "teachers"),
)

if __name__ == "__main__":
    question.main(QUESTION)
