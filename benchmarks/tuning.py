"""Which settings of the learner? Tried for the true and for the learned reward alike.

prefrl sweep benchmarks/grids/tuning.toml
python -m benchmarks.tuning
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks import question
from benchmarks.committed import Question
from prefrl.studies.compare import Outcome, panels
from prefrl.studies.plots import learning_curves
from prefrl.words.stats import Curve

FIRST = "first preset"
CHOSEN = {
    "Walker2d": "narrow first policy",
    "Hopper": "small minibatches",
    "Swimmer": "small minibatches, discount 0.9999",
    "Ant": "very narrow first policy",
    "Reacher": "small minibatches, discount 0.99",
    "HalfCheetah": FIRST,
    "InvertedDoublePendulum": FIRST,
    "InvertedPendulum": FIRST,
}
"""What `prefrl.settings.presets` has since, for each task."""

QUESTION = Question(
    name="tuning",
    title="Which settings of the learner?",
    about="""Both kinds of reward with each setting, half a million steps (the pendulums 100,000 and 200,000), on seeds
100 and 101, which are reported nowhere else. `prefrl/settings/presets.py` has, for each task, the setting that does
best for both rewards together, so that neither gets the better ones. A single run says little: two seeds of one
setting differ by as much as most settings do. Swimmer's strokes end at about 30, 130 or 300, and which one, the seed
decides: its last two settings ran on seeds 102 and 103 too.""",
    grids=("tuning",),
    reference=f"true reward, {FIRST}",
)


def draw(asked: Question) -> None:
    """Both rewards with the first preset, and with what was chosen where that is another setting."""
    shown: dict[str, dict[str, list[Curve]]] = {}
    for task, arms in panels(question.outcomes(asked)).items():
        name = question.panel_of(task)
        chosen = CHOSEN[name]
        for reward in ("true reward", "700 labels"):
            for setting, words in ((FIRST, FIRST), (chosen, "chosen"))[: 1 + (chosen != FIRST)]:
                if f"{reward}, {setting}" in arms:
                    shown.setdefault(name, {})[f"{reward}, {words}"] = arms[f"{reward}, {setting}"]
    learning_curves(shown, asked.folder / "figure.png")


def settings_table(runs: Sequence[Outcome], what: str = "Final true return", whole: bool = False) -> str:
    """Each setting's results, means over the seeds: a column for each task, true reward / 700 labels.

    Args:
        runs: each of an arm "REWARD, SETTING".
        what: they are curves of.
        whole: the mean of the whole curve, not of its last tenth.
    """
    tasks = list(dict.fromkeys(o.task for o in runs))
    table = [("setting", *(question.panel_of(task) for task in tasks))]
    for setting in dict.fromkeys(o.arm.partition(", ")[2] for o in runs):
        cells = []
        for task in tasks:
            of_setting = [
                [o for o in runs if (o.task, o.arm) == (task, f"{reward}, {setting}")]
                for reward in ("true reward", "700 labels")
            ]
            values = [[float(np.mean(o.curve[1])) if whole else o.final for o in found] for found in of_setting]
            seeds = f" ({len(values[0])})" if len(values[0]) > 1 else ""
            said = " / ".join(f"{np.mean(of_reward):z,.4g}" if of_reward else "-" for of_reward in values)
            cells.append(f"{said}{seeds}" if any(values) else "")
        table.append((setting, *cells))
    about = f"{what} from the true reward / from 700 answers; in brackets the seeds, where there are several."
    return f"{about}\n\n{question.markdown(table, text=1)}"


def body(asked: Question) -> str:
    """Figure and table."""
    figure = f"![True return by steps, first preset and what was chosen](results/{asked.name}/figure.png)"
    return f"{figure}\n\n{settings_table(question.outcomes(asked))}"


if __name__ == "__main__":
    question.main(QUESTION, body, draw)
