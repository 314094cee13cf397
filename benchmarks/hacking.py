"""Does the policy exploit the reward model? Learned against true return, and fresh policies on finished rewards.

prefrl sweep benchmarks/grids/hacking.toml
prefrl sweep benchmarks/grids/transfer.toml      # after that one
python -m benchmarks.hacking
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from benchmarks import question
from benchmarks.committed import Question
from prefrl.studies.compare import Outcome
from prefrl.studies.plots import learning_curves
from prefrl.words.measures import smoothed

QUESTION = Question(
    name="hacking",
    title="Does the policy exploit the reward model?",
    about="""350 answers, a million steps, three seeds. Live: r-hat goes on learning. Frozen: all its answers are
asked in the first eighth of the run, and then it stays as it is. Fresh policies are then trained on each finished
reward, frozen.

The learned gain is how much better r-hat says the newest behaviour is than the untrained policy's, per step, in
deviations of what it pays. The alarm goes off where the true return has lost a fifth of all it had gained, beyond its
noise, and r-hat finds the newest behaviour no worse than the best (`prefrl.words.measures.parted`).""",
    grids=("hacking", "transfer"),
    measures=("learned_gain", "alarm", "accuracy", "correlation"),
)
SHOWN = {"true_return": "true return", "learned_gain": "learned gain", "correlation": "correlation"}


def draw(asked: Question) -> None:
    """For each task the true return, what r-hat says of it, and how well the two agree."""
    shown: dict[str, dict[str, list[tuple[np.ndarray, np.ndarray]]]] = {}
    for measure, words in SHOWN.items():
        for o in question.outcomes(asked, measure):
            shown.setdefault(f"{question.panel_of(o.task)}: {words}", {}).setdefault(o.arm, []).append(o.curve)
    tasks = dict.fromkeys(name.partition(":")[0] for name in shown)
    ordered = {f"{task}: {words}": shown[f"{task}: {words}"] for task in tasks for words in SHOWN.values()}
    learning_curves({k: v for k, v in ordered.items() if v}, asked.folder / "figure.png", ylabel="")


def alarms(runs: Sequence[Outcome]) -> str:
    """For each task and arm: how many runs had an alarm, and how good they were in their best phases and at their end.

    A run without a learned reward cannot have one.
    """
    rang = {(o.task, o.arm, o.seed): bool(np.any(o.curve[1])) for o in question.outcomes(QUESTION, "alarm")}
    table = [("task", "arm", "seeds", "with an alarm", "best", "end")]
    for task, arm in dict.fromkeys((o.task, o.arm) for o in runs):
        of_arm = [o for o in runs if (o.task, o.arm) == (task, arm)]
        rung = [rang[key] for o in of_arm if (key := (task, arm, o.seed)) in rang]
        alarmed = str(sum(rung)) if rung else "-"
        best = np.mean([max(smoothed(list(o.curve[1])), default=math.nan) for o in of_arm])
        end = np.mean([o.final for o in of_arm])
        table.append((question.panel_of(task), arm, str(len(of_arm)), alarmed, f"{best:,.4g}", f"{end:,.4g}"))
    return question.markdown(table, text=2)


def body(asked: Question) -> str:
    return f"{question.report(asked)}\n\n{alarms(question.outcomes(asked))}"


if __name__ == "__main__":
    question.main(QUESTION, body, draw)
