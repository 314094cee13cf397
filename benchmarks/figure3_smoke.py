"""What would figure 3 cost without a GPU? The beginning of one of its games, and what that makes of the whole grid.

prefrl sweep benchmarks/grids/figure3_smoke.toml
python -m benchmarks.figure3_smoke
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from benchmarks import question
from benchmarks.committed import Question
from benchmarks.figure3 import QUESTION as FIGURE3
from prefrl.policies.on_policy import plan
from prefrl.runs.resolve import resolve
from prefrl.settings.config import BaselineConfig, TrainConfig
from prefrl.studies.plots import TRUE_REWARD
from prefrl.words.schedules import SCHEDULES, label_counts

QUESTION = Question(
    name="figure3_smoke",
    title="What would figure 3 cost without a GPU?",
    about="""The first 20,000 agent steps of Pong, from the true reward and from 300 answers (an exact oracle), with
the settings of `benchmarks/grids/figure3.toml`: does it run from end to end, and how long does each part take? A step
of the policy costs what it costs here, what r-hat pays for it included; so does an update of the reward's fit, on a
minibatch of 16 answers, and how many of them a run makes its configuration says. Nothing is learned in so few
steps.""",
    grids=("figure3_smoke",),
    measures=("learn", "fit"),
)
CORES = 16  # of a larger machine, to say it in days
draw = None  # two curves of a game not yet learned would show nothing


@dataclass(frozen=True)
class Cost:
    """Seconds of one core.

    Attributes:
        step: of a step of the policy.
        update: of an update of the reward's fit.
    """

    step: float
    update: float

    def of(self, config: BaselineConfig) -> tuple[float, float]:
        """Seconds that a run's policy and its reward's fit take."""
        return config.steps * self.step, fit_updates(config) * self.update


def fit_updates(config: BaselineConfig) -> int:
    """Updates of the reward's fit in a run; the oracle answers every question."""
    cfg = resolve(replace(config, out=question.HERE / "never-run"))  # where it ran, its own folder is in the way
    if not isinstance(cfg, TrainConfig):
        return 0
    assert cfg.n_envs and cfg.batch and cfg.initial_epochs and cfg.fit_updates
    assert cfg.explore_steps is not None and cfg.initial_labels is not None
    rollout = dict(pair.split("=", 1) for pair in cfg.set)["n_steps"]
    phases = len(plan((cfg.steps - cfg.explore_steps) // cfg.n_envs, int(rollout), cfg.phases))
    first = label_counts(cfg.labels, phases, cfg.initial_labels, SCHEDULES[cfg.schedule])[0]
    return cfg.initial_epochs * math.ceil(first / cfg.batch) + cfg.fit_updates * (phases - 1)


def costs(asked: Question) -> dict[bool, Cost]:
    """What was measured, over all of a question's runs, by whether the reward was learned."""
    planned = asked.planned()
    fitted = {(o.task, o.arm, o.seed): float(np.sum(o.curve[1])) for o in question.outcomes(asked, "fit")}
    spent: dict[bool, list[tuple[float, float, float, float]]] = {}
    for o in question.outcomes(asked, "learn"):
        key = (o.task, o.arm, o.seed)
        config = planned[key][0].config
        updates = fit_updates(config)
        parts = (float(np.sum(o.curve[1])), config.steps, fitted[key] if updates else 0.0, updates)
        spent.setdefault(o.arm != TRUE_REWARD, []).append(parts)
    return {
        learned: Cost(seconds / steps, fitting / updates if updates else 0.0)
        for learned, (seconds, steps, fitting, updates) in ((kind, np.sum(each, 0)) for kind, each in spent.items())
    }


def hours(measured: dict[bool, Cost]) -> dict[str, list[tuple[float, float]]]:
    """For each arm of figure 3 the hours that each of its runs' policy and its reward's fit would take."""
    arms: dict[str, list[tuple[float, float]]] = {}
    for (_, arm, _), (job, _) in FIGURE3.planned().items():
        if (cost := measured.get(arm != TRUE_REWARD)) is not None:
            policy, fit = cost.of(job.config)
            arms.setdefault(arm, []).append((policy / 3600, fit / 3600))
    return arms


def prices(asked: Question, unit: str) -> str:
    """A table of what figure 3 would take at the speed of a question's runs, and that speed.

    Args:
        asked: the question.
        unit: of the last column, as "hours of one core".
    """
    measured = costs(asked)
    table = [("arm", "policy, hours a run", "reward's fit, hours a run", "runs", f"{unit} in all")]
    for arm, each in hours(measured).items():
        policy, fit = np.mean(each, axis=0)
        table.append((arm, f"{policy:.1f}", f"{fit:.2f}", str(len(each)), f"{np.sum(each):,.0f}"))
    rates = [
        f"{1 / measured[learned].step:,.0f} steps a second with {words}"
        for learned, words in ((False, "the true reward"), (True, "a learned one"))
        if learned in measured
    ]
    if True in measured:
        rates.append(f"{measured[True].update:.2g} seconds an update of the fit")
    return f"{question.markdown(table, text=1)}\n\nMeasured: {', '.join(rates)}."


def body(asked: Question) -> str:
    """For each arm of figure 3 what a run would take, and all of its runs."""
    total = sum(np.sum(each) for each in hours(costs(asked)).values())
    whole = f"All of it: {total:,.0f} hours of one core, {total / 24 / CORES:,.1f} days of {CORES}."
    return f"{prices(asked, 'hours of one core')} {whole}"


if __name__ == "__main__":
    question.main(QUESTION, body, draw)
