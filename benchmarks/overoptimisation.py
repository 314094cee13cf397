"""How far may a policy follow a learned reward? True and learned return against the divergence from where it began.

prefrl sweep benchmarks/grids/overoptimisation.toml
prefrl sweep benchmarks/grids/overoptimisation_policies.toml      # after that one
python -m benchmarks.overoptimisation
"""

from __future__ import annotations

import re

import numpy as np

from benchmarks import question
from benchmarks.committed import Question

QUESTION = Question(
    name="overoptimisation",
    title="How far may a policy follow a learned reward?",
    about="""A policy is started on the true reward for 100,000 steps, and rewards are learned from 50, 200 and 700
answers by policies that begin there. Then a policy that begins there follows each finished reward, frozen, at three
betas (r - beta (log pi - log pi_ref), the policy's start as reference; beta is in log-odds of the answers). A row is a
phase: nats of divergence of an episode, its true return, and its return by the frozen reward. What the learned return
gains while the true return loses is over-optimisation (Gao et al. 2023, arXiv 2210.10760). `prefrl bestof RUN` says
what the best of n episodes of the start are worth by the same reward, beside log n - (n - 1)/n nats.""",
    grids=("overoptimisation", "overoptimisation_policies"),
    reference="start",
    measures=("kl", "learned_return", "accuracy"),
)
ARM = re.compile(r"(\d+) answers, beta (.+)")


def followed() -> dict[tuple[str, int, str], list[np.ndarray]]:
    """For each task, number of answers and beta, a run's phases: nats, true and learned return, (3, n) a seed."""
    columns = [
        {(o.task, o.arm, o.seed): dict(zip(*o.curve, strict=True)) for o in question.outcomes(QUESTION, measure)}
        for measure in ("kl", "true_return", "learned_return")
    ]
    found: dict[tuple[str, int, str], list[np.ndarray]] = {}
    for key, nats in columns[0].items():
        of_arm = ARM.fullmatch(key[1])
        rest = [column.get(key, {}) for column in columns[1:]]
        steps = sorted(step for step in nats if all(step in other for other in rest))
        if of_arm and steps:
            at = (key[0], int(of_arm[1]), of_arm[2])
            found.setdefault(at, []).append(np.array([[of[step] for step in steps] for of in (nats, *rest)]))
    return found


def draw(asked: Question) -> None:
    """Each task and number of answers: true return, and below it the learned one, against the root of the nats."""
    from matplotlib.figure import Figure

    found = followed()
    columns = list(dict.fromkeys((task, answers) for task, answers, _ in found))
    if not columns:
        return
    figure = Figure(figsize=(3.2 * len(columns), 5), layout="constrained")
    axes = figure.subplots(2, len(columns), squeeze=False, sharex="col")
    for (task, answers, beta), seeds in found.items():
        place = columns.index((task, answers))
        colour = f"C{sorted({b for t, a, b in found if (t, a) == (task, answers)}).index(beta)}"
        axes[0, place].set_title(f"{question.panel_of(task)}, {answers} answers", fontsize=9)
        axes[1, place].set_xlabel("root of nats per episode")
        for number, (nats, *returns) in enumerate(seeds):
            for row, values in enumerate(returns):
                label = f"beta {beta}" if not number else None
                axes[row, place].plot(np.sqrt(nats), values, ".", ms=3, color=colour, label=label)
        axes[0, place].legend(fontsize=7)
    axes[0, 0].set_ylabel("true return")
    axes[1, 0].set_ylabel("learned return, as paid")
    asked.folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(asked.folder / "figure.png", dpi=160)


def body(asked: Question) -> str:
    """The figure, and for each task, answers and beta where the true return was best and where it ended."""
    table = [("task", "answers", "beta", "seeds", "best true return", "at nats", "end", "at nats")]
    for (task, answers, beta), seeds in followed().items():
        best = np.mean([run[:2, np.argmax(run[1])] for run in seeds], axis=0)
        end = np.mean([run[:2, -1] for run in seeds], axis=0)
        numbers = [f"{number:,.4g}" for number in (best[1], best[0], end[1], end[0])]
        table.append((question.panel_of(task), str(answers), beta, str(len(seeds)), *numbers))
    figure = f"![True and learned return against divergence](results/{asked.name}/figure.png)"
    return f"{figure}\n\n{question.markdown(table, text=3)}"


if __name__ == "__main__":
    question.main(QUESTION, body, draw)
