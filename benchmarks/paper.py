"""The paper's curves, digitised, and how ours compare with them."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.committed import HERE, Question, panel_of, random_returns
from prefrl.studies.compare import Outcome
from prefrl.words.stats import Curve, interquartile_mean

BAND = 0.1  # of what a panel's axis spans; the paper shows means of five runs, and no spread
READ = 0.001  # of the same, to which the curves could be read off


def curves_of(figure: int) -> dict[str, dict[str, Curve]]:
    """A figure of the paper, digitised: panel, arm, and its curve; gaps where curves hide each other."""
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    with (HERE / "paper_curves.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if int(row["figure"]) == figure:
                panel = points.setdefault(row["panel"], {})
                panel.setdefault(row["arm"], []).append((float(row["step"]), float(row["true_return"])))
    return {
        panel: {arm: (np.array(curve)[:, 0], np.array(curve)[:, 1]) for arm, curve in arms.items()}
        for panel, arms in points.items()
    }


@dataclass(frozen=True)
class Compared:
    """One task and arm beside the paper's curve; NaN where the paper's lies hidden behind others.

    Attributes:
        task: environment id.
        arm: ours.
        ours: interquartile mean of the final true returns, on the paper's scale.
        here: the paper's value at the step that ours ends at.
        end: the paper's value at the end of its own run.
        band: how far from the paper's value counts as the same, a tenth of what the panel's axis spans.
    """

    task: str
    arm: str
    ours: float
    here: float
    end: float
    band: float

    def verdict(self, paper: float) -> str:
        """Where ours lies of the band around a value of the paper's."""
        if math.isnan(paper):
            return "hidden"
        return "inside" if abs(self.ours - paper) <= self.band else "above" if self.ours > paper else "below"

    def reaches(self, paper: float) -> bool:
        """Whether ours is no lower than a value of the paper's, as far as that could be read off."""
        return self.ours >= paper - self.band * READ / BAND


def beside_paper(question: Question, runs: Sequence[Outcome]) -> list[Compared]:
    """Every task and arm that the paper's figure has, with the paper's values."""
    if question.figure is None:
        return []
    names, reference, unlike = question.names, question.reference, question.unlike
    paper, random, compared = curves_of(question.figure), random_returns(), []
    for task in dict.fromkeys(o.task for o in runs):
        panel = paper.get(panel_of(task), {})
        of_task = [o for o in runs if o.task == task and names.get(o.arm) in panel]
        if not of_task:
            continue
        values = np.concatenate([np.asarray(curve[1]) for curve in panel.values()])
        furthest = max(np.max(curve[0]) for curve in panel.values())
        anchor = [o.final for o in runs if o.task == task and o.arm == reference]
        if task in unlike and not anchor:
            continue
        for arm in dict.fromkeys(o.arm for o in of_task):
            steps, returns = (np.asarray(part) for part in panel[names[arm]])
            ours = interquartile_mean([o.final for o in of_task if o.arm == arm])
            if task in unlike:
                share = (ours - random[task]) / (interquartile_mean(anchor) - random[task])
                ours = values.min() + share * (plateau_of(panel, names[reference], furthest) - values.min())
            at = max(np.max(o.curve[0]) for o in of_task if o.arm == arm)
            band = BAND * float(np.ptp(values))
            here = value_at((steps, returns), float(at), band)
            end = end_of((steps, returns), furthest)
            if math.isnan(end) and task in unlike:
                end = plateau_of(panel, names[arm], furthest)
            compared.append(Compared(task, arm, ours, here, end, band))
    return compared


def value_at(curve: Curve, step: float, band: float) -> float:
    """A digitised curve at a step; NaN outside it, and in a gap that it crosses by more than the band."""
    steps, returns = (np.asarray(part) for part in curve)
    if not steps[0] <= step <= steps[-1]:
        return math.nan
    after = max(1, int(np.searchsorted(steps, step)))
    leap = abs(returns[min(after, len(steps) - 1)] - returns[after - 1])
    return float(np.interp(step, steps, returns)) if leap <= band else math.nan


def end_of(curve: Curve, furthest: float) -> float:
    """Mean of a digitised curve over the last twentieth of the axis; NaN if it lies hidden there, or stops before."""
    steps, returns = (np.asarray(part) for part in curve)
    last = steps >= 0.95 * furthest
    return float(returns[last].mean()) if last.any() else math.nan


def plateau_of(panel: Mapping[str, Curve], arm: str, furthest: float) -> float:
    """Where a digitised curve ends; if its end lies hidden, the highest end of the curves that may hide it."""
    ends = {name: end_of(curve, furthest) for name, curve in panel.items()}
    return float(np.nanmax(list(ends.values()))) if math.isnan(ends[arm]) else ends[arm]
