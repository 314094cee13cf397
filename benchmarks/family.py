"""What became of the method, on equal terms: a learned reward, held near a start, rankings, and no reward at all.

prefrl sweep benchmarks/grids/family_start.toml
prefrl sweep benchmarks/grids/family.toml       # after that one
python -m benchmarks.family
"""

from __future__ import annotations

from benchmarks import question
from benchmarks.committed import Question

QUESTION = Question(
    name="family",
    title="What does each member of the family make of 700 answers?",
    about="""Two tasks, a million steps, three seeds, every arm with its defaults. Pairs: 700 of them, asked as the run
goes on. Rankings of four, and the best of four: as many as fit into the labelling time of 700 pairs, 215 and 267. Near
a cloned start: behaviour of a policy that learned the true reward for 100,000 steps is cloned first, and a nat of
divergence from it costs 0.003 in log-odds of an answer. DPO and CPL learn no reward: the policy is fitted to the
answers itself. What the demonstrator reaches by itself stands beside them.""",
    grids=("family_start", "family"),
    reference="reward, PPO",
    measures=("labelling_seconds", "held_out_accuracy", "kl"),
    ranked=True,
)

if __name__ == "__main__":
    question.main(QUESTION)
