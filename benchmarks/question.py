"""What the questions share: a grid that says which runs there are, committed data, the paper's curves, a report.

A question is `grids/NAME.toml`, which `prefrl sweep` runs; `results/NAME/`, which keeps every seed's curve and what
made it; and `python -m benchmarks.NAME`, which takes in the runs that have finished since, draws, and writes its part
of `benchmarks/README.md`. Nothing waits for the whole grid: a report says what is missing.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro

from prefrl.batch import is_done
from prefrl.compare import Outcome, panels, read_outcome
from prefrl.config import arm_name
from prefrl.grid import Job, read_grid
from prefrl.plots import TRUE_REWARD, learning_curves
from prefrl.preference import UserError
from prefrl.runlog import read_table
from prefrl.stats import Curve, bootstrap_share_interval, interquartile_mean

HERE = Path(__file__).parent
README = HERE / "README.md"
FRONT = HERE.parent / "README.md"
LIBRARIES = ("python", "gymnasium", "mujoco", "envpool", "ale-py", "stable-baselines3", "torch")
RUN_COLUMNS = ("task", "arm", "seed", "steps", "final_true_return", "seconds", "commit", *LIBRARIES, "command")
BAND = 0.1  # of what a panel's axis spans; the paper shows means of five runs, and no spread
READ = 0.001  # of the same, to which the curves could be read off
Key = tuple[str, str, int]  # task, arm, seed
Claim = tuple[str, bool | None]  # a sentence, and whether it holds; None where the runs do not say


@dataclass(frozen=True)
class Ask:
    """Take in finished runs, and report from the committed data."""

    check: bool = False
    """Compare with the paper; exit 1 where the results fall short of it."""
    gather: bool = True
    """Take in the runs that have finished."""


@dataclass(frozen=True)
class Question:
    """One question: its grids, its data, and how it is reported.

    Attributes:
        name: of its module, its folder of results and its part of the README.
        title: the question, as a heading.
        about: protocol and caveats, in Markdown.
        grids: names of its grid files.
        reference: the arm whose result is the 1 of every score; random actions are the 0.
        measures: columns of metrics.csv and timing.csv that are kept besides the true return.
        figure: of the paper, to compare with; None for a question that it does not ask.
        names: our arm -> the paper's.
        unlike: tasks whose levels cannot be the paper's; they are compared on the way from the bottom of its panel to
            where its reference arm ends (`paper_plateau`).
        claims: sentences about the runs, and whether each holds, as far as can be said.
        banded: whether `--check` is about the paper's curves, not about the claims.
        ranked: whether the table of scores has the best arm first.
    """

    name: str
    title: str
    about: str
    grids: tuple[str, ...]
    reference: str = TRUE_REWARD
    measures: tuple[str, ...] = ()
    figure: int | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    unlike: tuple[str, ...] = ()
    claims: Callable[[Sequence[Outcome]], list[Claim]] = lambda runs: []
    banded: bool = False
    ranked: bool = False

    @property
    def folder(self) -> Path:
        """Of its committed results."""
        return HERE / "results" / self.name

    def planned(self) -> dict[Key, tuple[Job, str]]:
        """Every run that its grids ask for, and the command that runs it."""
        files = [HERE / "grids" / f"{name}.toml" for name in self.grids]
        return {
            (job.config.env, arm_name(job.config), job.config.seed): (job, f"prefrl sweep benchmarks/grids/{file.name}")
            for file in files
            for job in read_grid(file)
        }


def gather(question: Question) -> int:
    """Put the runs that have finished into the committed data, beside those that are in it; how many there were.

    A run of other settings than the grid's, in the folder of one of its, is left out, and said to be.
    """
    about, curves = _read_rows(question.folder / "runs.csv"), _read_rows(question.folder / "curves.csv")
    found = 0
    for key, (job, command) in question.planned().items():
        folder = job.config.out
        assert folder is not None
        try:
            if not is_done(job.config):
                continue
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        found += 1
        outcome, used, table = (
            read_outcome(folder),
            json.loads((folder / "versions.json").read_text()),
            read_table(folder / "metrics.csv") | read_table(folder / "timing.csv"),
        )
        named = {"task": key[0], "arm": key[1], "seed": str(key[2])}
        made = {name: str(used.get(name, "")) for name in ("commit", *LIBRARIES)}
        about[key] = [
            {
                **named,
                "steps": str(job.config.steps),
                "final_true_return": f"{outcome.final:.6g}",
                "seconds": f"{outcome.seconds:.0f}",
                **made,
                "command": command,
            }
        ]
        curves[key] = [
            {
                **named,
                "step": f"{step:.0f}",
                **{
                    name: _cell(table.get(name, [math.nan] * (row + 1))[row])
                    for name in ("true_return", *question.measures)
                },
            }
            for row, step in enumerate(table["step"])
        ]
    if found:
        question.folder.mkdir(parents=True, exist_ok=True)
        _write_rows(question.folder / "runs.csv", RUN_COLUMNS, about)
        _write_rows(
            question.folder / "curves.csv", ("task", "arm", "seed", "step", "true_return", *question.measures), curves
        )
    return found


def outcomes(question: Question, measure: str = "true_return") -> list[Outcome]:
    """The committed runs of as many steps as the grids ask for, in their order; the curve is of this measure."""
    about, curves = _read_rows(question.folder / "runs.csv"), _read_rows(question.folder / "curves.csv")
    read = []
    for key, (job, _) in question.planned().items():
        points = [(float(row["step"]), float(row[measure])) for row in curves.get(key, []) if row[measure]]
        if points and int(about[key][0]["steps"]) == job.config.steps:
            steps, values = np.array(points).T
            read.append(Outcome(*key, (steps, values), float(about[key][0]["seconds"])))
    return read


def missing(question: Question) -> str:
    """A sentence about the runs that are asked for and not there yet; empty if none is."""
    there = {(o.task, o.arm, o.seed) for o in outcomes(question)}
    lacking = [(key, job) for key, (job, _) in question.planned().items() if key not in there]
    if not lacking:
        return ""
    steps = sum(job.config.steps for _, job in lacking)
    return f"{len(lacking)} of {len(question.planned())} runs are missing ({steps / 1e6:,.4g} million steps)."


def paper_curves(figure: int) -> dict[str, dict[str, Curve]]:
    """A figure of the paper, digitised: panel, arm, and its curve; gaps where curves hide each other."""
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    with (HERE / "paper_curves.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if int(row["figure"]) == figure:
                panel = points.setdefault(row["panel"], {})
                panel.setdefault(row["arm"], []).append((float(row["step"]), float(row["true_return"])))
    return {
        panel: {arm: (np.array(curve)[:, 0], np.array(curve)[:, 1]) for arm, curve in arms.items()}
        for panel, arms in points.items()
    }


def panel_of(task: str) -> str:
    """The paper's name of a task: "prefrl/Hopper-v0" is Hopper."""
    return task.rpartition("/")[2].rpartition("-")[0]


def random_returns() -> dict[str, float]:
    """Mean true return of random actions, by task (`python -m benchmarks.random_actions`)."""
    with (HERE / "results" / "random_actions.csv").open(newline="") as file:
        return {row["task"]: float(row["true_return"]) for row in csv.DictReader(file)}


def comparable(runs: Sequence[Outcome]) -> list[Outcome]:
    """The runs of tasks that every arm has been run on, and of the seeds that all of them have there.

    So that every task weighs the same and every arm is judged on the same tasks and seeds, however much of a grid is
    still missing.
    """
    arms = {o.arm for o in runs}
    tasks = {task for task in {o.task for o in runs} if {o.arm for o in runs if o.task == task} == arms}
    seeds = [{o.seed for o in runs if (o.task, o.arm) == (task, arm)} for task in tasks for arm in arms]
    common = set.intersection(*seeds) if seeds else set()
    return [o for o in runs if o.task in tasks and o.seed in common]


def gains(runs: Sequence[Outcome], reference: str) -> dict[str, list[np.ndarray]]:
    """Each arm's comparable runs, task by task, as what they add to random actions' return.

    Tasks that the reference arm is no better than random on are left out.
    """
    random = random_returns()
    gained: dict[str, list[np.ndarray]] = {}
    runs = [o for o in comparable(runs) if o.task in random]
    for task in dict.fromkeys(o.task for o in runs):
        of_task = [o for o in runs if o.task == task]
        best = [o.final for o in of_task if o.arm == reference]
        if not best or interquartile_mean(best) <= random[task]:
            continue
        for arm in dict.fromkeys(o.arm for o in of_task):
            gained.setdefault(arm, []).append(np.array([o.final for o in of_task if o.arm == arm]) - random[task])
    return gained


def scores(runs: Sequence[Outcome], reference: str) -> dict[str, list[np.ndarray]]:
    """Each arm's comparable runs, task by task, as shares of the way from random actions to the reference's result."""
    gained = gains(runs, reference)
    return {
        arm: [of_task / interquartile_mean(best) for of_task, best in zip(tasks, gained[reference], strict=True)]
        for arm, tasks in gained.items()
    }


def worse_than(runs: Sequence[Outcome], reference: str, most: Mapping[str, float], words: str) -> list[Claim]:
    """For each arm a sentence about how much of the reference's result it reaches, and whether it is below `most`."""
    said: list[Claim] = []
    shares = scores(runs, reference)
    for arm, bound in most.items():
        if arm in shares:
            reached = interquartile_mean(np.concatenate(shares[arm]))
            sentence = f"{arm} reaches {reached:.2f} of the {reference}; {words} below {bound:.2f}."
            said.append((sentence, reached < bound))
        else:
            said.append((f"{arm} has not been run beside the {reference}; {words} below {bound:.2f}.", None))
    return said


def leaderboard(runs: Sequence[Outcome], reference: str, ranked: bool = False) -> str:
    """A Markdown table: each arm's interquartile mean over all tasks of those shares, and its 95 % interval."""
    rows = []
    gained, shares = gains(runs, reference), scores(runs, reference)
    for arm, tasks in shares.items():
        every = np.concatenate(tasks)
        interval = "-"  # of the reference, which is what is divided by, and of one run a task, which has no spread
        if arm != reference and all(len(of_task) > 1 for of_task in tasks):
            low, high = bootstrap_share_interval(gained[arm], gained[reference], np.random.default_rng(0))
            interval = f"{low:z.2f} to {high:z.2f}"
        rows.append((arm, len(tasks), len(every), interquartile_mean(every), interval))
    if ranked:
        rows.sort(key=lambda row: -row[3])
    table = [("arm", "tasks", "runs", f"share of {reference}", "95 % interval")]
    table += [(arm, str(tasks), str(runs), f"{mean:z.2f}", interval) for arm, tasks, runs, mean, interval in rows]
    return markdown(table, text=1) if rows else ""


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
    paper, random, compared = paper_curves(question.figure), random_returns(), []
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
                ours = values.min() + share * (paper_plateau(panel, names[reference], furthest) - values.min())
            at = max(np.max(o.curve[0]) for o in of_task if o.arm == arm)
            band = BAND * float(np.ptp(values))
            here = paper_value((steps, returns), float(at), band)
            end = paper_end((steps, returns), furthest)
            if math.isnan(end) and task in unlike:
                end = paper_plateau(panel, names[arm], furthest)
            compared.append(Compared(task, arm, ours, here, end, band))
    return compared


def paper_value(curve: Curve, step: float, band: float) -> float:
    """A digitised curve at a step; NaN outside it, and in a gap that it crosses by more than the band."""
    steps, returns = (np.asarray(part) for part in curve)
    if not steps[0] <= step <= steps[-1]:
        return math.nan
    after = max(1, int(np.searchsorted(steps, step)))
    leap = abs(returns[min(after, len(steps) - 1)] - returns[after - 1])
    return float(np.interp(step, steps, returns)) if leap <= band else math.nan


def paper_end(curve: Curve, furthest: float) -> float:
    """Mean of a digitised curve over the last twentieth of the axis; NaN if it lies hidden there, or stops before."""
    steps, returns = (np.asarray(part) for part in curve)
    last = steps >= 0.95 * furthest
    return float(returns[last].mean()) if last.any() else math.nan


def paper_plateau(panel: Mapping[str, Curve], arm: str, furthest: float) -> float:
    """Where a digitised curve ends; if its end lies hidden, the highest end of the curves that may hide it."""
    ends = {name: paper_end(curve, furthest) for name, curve in panel.items()}
    return float(np.nanmax(list(ends.values()))) if math.isnan(ends[arm]) else ends[arm]


def comparison_table(compared: Sequence[Compared], unlike: Sequence[str] = ()) -> str:
    """The comparison as Markdown; tasks of other levels than the paper's are marked."""
    table = [("task", "arm", "ours", "paper, same step", "ours is", "paper, its end", "ours is")]
    for c in compared:
        here, end = (("-" if math.isnan(x) else f"{x:z,.4g}", c.verdict(x)) for x in (c.here, c.end))
        table.append((panel_of(c.task) + " (share)" * (c.task in unlike), c.arm, f"{c.ours:z,.4g}", *here, *end))
    return markdown(table, text=2)


def draw(question: Question) -> None:
    """The question's figure: ours as `prefrl.plots` draws it, the paper's curves dotted, and marks where those end."""
    runs = outcomes(question)
    paper = paper_curves(question.figure) if question.figure else {}
    dotted: dict[str, dict[str, Curve]] = {}
    ends: dict[str, dict[str, float]] = {}
    for task in dict.fromkeys(o.task for o in runs if o.task not in question.unlike):
        name = panel_of(task)
        panel = paper.get(name, {})
        last = max(np.max(o.curve[0]) for o in runs if o.task == task)
        furthest = max((np.max(curve[0]) for curve in panel.values()), default=0.0)
        for arm, theirs in question.names.items():
            if theirs in panel:
                steps, returns = (np.asarray(part) for part in panel[theirs])
                if math.isfinite(end := paper_end((steps, returns), furthest)):
                    ends.setdefault(name, {})[arm] = end
                if (steps <= last).any():
                    dotted.setdefault(name, {})[arm] = (steps[steps <= last], returns[steps <= last])
    learning_curves(
        {panel_of(task): arms for task, arms in panels(runs).items()},
        question.folder / "figure.png",
        reference=dotted,
        reference_label="Christiano et al. 2017",
        ends=ends,
    )


def report(question: Question) -> str:
    """What was found, in Markdown, from the committed data: figure, scores, claims, and the paper's values."""
    runs = outcomes(question)
    so_far = " so far" if missing(question) else ""
    said = {True: f"Yes{so_far}", False: f"No{so_far}", None: "Not yet"}
    claims = "\n".join(f"- {said[holds]}: {sentence}" for sentence, holds in question.claims(runs))
    parts = [
        f"![True return by steps, task by task](results/{question.name}/figure.png)",
        leaderboard(runs, question.reference, question.ranked) if {o.arm for o in runs} - {question.reference} else "",
        claims,
        comparison_table(beside_paper(question, runs), question.unlike) if question.figure else "",
    ]
    return "\n\n".join(part for part in parts if part)


def check(question: Question) -> bool:
    """Print how the results compare with the paper's; whether they hold up, which takes something to compare."""
    runs = outcomes(question)
    if not runs:
        raise UserError(f"there is nothing to check yet: {missing(question)}")
    compared, claims = beside_paper(question, runs), question.claims(runs)
    print(comparison_table(compared, question.unlike))
    for sentence, holds in claims:
        print(f"{'not yet' if holds is None else 'yes' if holds else 'no'}: {sentence}")
    print(missing(question))
    if question.banded:
        verdicts = [row.verdict(row.here) for row in compared]
        return "below" not in verdicts and any(verdict != "hidden" for verdict in verdicts)
    return bool(claims) and all(holds is True for _, holds in claims)


def markdown(table: Sequence[Sequence[str]], text: int) -> str:
    """Rows, the first of them the header, as a Markdown table that lines up; the first `text` columns are words."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    rule = [":" + "-" * (w - 1) if i < text else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    cells = [
        [c.ljust(w) if i < text else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        for row in table
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in [cells[0], rule, *cells[1:]])


def write_between(path: Path, mark: str, text: str) -> None:
    """Put the text between the two lines <!-- mark --> of a file.

    Raises:
        UserError: the file does not have the two.
    """
    line = f"<!-- {mark} -->"
    parts = path.read_text().split(line)
    if len(parts) != 3:
        raise UserError(f"{path.name} has {len(parts) - 1} lines {line!r}, and two are needed, around what is written.")
    path.write_text(f"{parts[0]}{line}\n{text}\n{line}{parts[2]}")


def section(question: Question, body: str) -> str:
    """A question's part of the README: heading, protocol, what was found and what is missing."""
    command = f"python -m benchmarks.{question.name}"
    lacking = missing(question)
    sweeps = "\n".join(f"prefrl sweep benchmarks/grids/{name}.toml" for name in question.grids)
    found = outcomes(question)
    hours = sum(o.seconds for o in found) / 3600
    paid = f"{len(found)} runs took {hours:.1f} hours of one core each." if found else ""
    return "\n\n".join(
        part
        for part in (
            f"## {question.title} `{command}`",
            question.about.strip(),
            f"```\n{sweeps}\n{command}\n```",
            body.strip() if found else "",
            " ".join(part for part in (paid, lacking) if part),
        )
        if part
    )


def main(
    question: Question,
    body: Callable[[Question], str] = report,
    figure: Callable[[Question], None] | None = draw,
    after: Callable[[], None] | None = None,
) -> None:
    """The command of a question.

    Args:
        question: which.
        body: what was found, in Markdown.
        figure: draws it; None for nothing to see.
        after: what else is rewritten.
    """
    ask = tyro.cli(Ask, prog=f"python -m benchmarks.{question.name}", description=question.title)
    try:
        if ask.check:
            if question.figure is None:
                raise UserError(f"the paper does not ask what {question.name} asks: leave out --check.")
            sys.exit(0 if check(question) else 1)
        if ask.gather:
            print(f"{gather(question)} finished runs taken in.")
        found = bool(outcomes(question))
        if found and figure:
            figure(question)
        text = section(question, body(question) if found else "")
        write_between(README, question.name, text)
        if found and after is not None:
            after()
        print(text)
    except UserError as error:
        print(f"benchmarks.{question.name}: {error}", file=sys.stderr)
        sys.exit(2)


def _cell(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""


def _read_rows(path: Path) -> dict[Key, list[dict[str, str]]]:
    rows: dict[Key, list[dict[str, str]]] = {}
    if path.exists():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                rows.setdefault((row["task"], row["arm"], int(row["seed"])), []).append(row)
    return rows


def _write_rows(path: Path, columns: Sequence[str], rows: Mapping[Key, Sequence[Mapping[str, str]]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", restval="")
        writer.writeheader()
        for key in sorted(rows):
            writer.writerows(rows[key])
