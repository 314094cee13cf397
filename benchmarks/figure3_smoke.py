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
from prefrl.config import BaselineConfig, TrainConfig
from prefrl.learners import plan
from prefrl.plots import TRUE_REWARD
from prefrl.resolve import resolve
from prefrl.schedules import SCHEDULES, label_counts

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


def costs() -> dict[bool, Cost]:
    """What was measured, by whether the reward was learned."""
    planned, found = QUESTION.planned(), {}
    learn, fit = ({o.arm: o for o in question.outcomes(QUESTION, part)} for part in ("learn", "fit"))
    for (_, arm, _), (job, _) in planned.items():
        if arm in learn:
            updates = fit_updates(job.config)
            found[arm != TRUE_REWARD] = Cost(
                float(np.sum(learn[arm].curve[1])) / job.config.steps,
                float(np.sum(fit[arm].curve[1])) / updates if updates else 0.0,
            )
    return found


def body(asked: Question) -> str:
    """For each arm of figure 3 what a run would take, and all of its runs."""
    measured = costs()
    table = [("arm", "policy, hours a run", "reward's fit, hours a run", "runs", "hours of one core in all")]
    total = 0.0
    arms: dict[str, list[tuple[float, float]]] = {}
    for (_, arm, _), (job, _) in FIGURE3.planned().items():
        if (cost := measured.get(arm != TRUE_REWARD)) is not None:
            arms.setdefault(arm, []).append(cost.of(job.config))
    for arm, seconds in arms.items():
        policy, fit = np.array(seconds).mean(0) / 3600
        hours = float(np.sum(seconds)) / 3600
        total += hours
        table.append((arm, f"{policy:.1f}", f"{fit:.1f}", str(len(seconds)), f"{hours:,.0f}"))
    rates = [
        f"{1 / measured[learned].step:.0f} steps a second with {words}"
        for learned, words in ((False, "the true reward"), (True, "a learned one"))
        if learned in measured
    ]
    if True in measured:
        rates.append(f"{measured[True].update:.2f} seconds an update of the fit")
    whole = f"All of it: {total:,.0f} hours of one core, {total / 24 / CORES:,.1f} days of {CORES}."
    return f"{question.markdown(table, text=1)}\n\nMeasured: {', '.join(rates)}. {whole}"


if __name__ == "__main__":
    question.main(QUESTION, body, draw)
