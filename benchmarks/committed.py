"""The runs of a question: which there are, which have been run, and the data that is kept of them.

`results/NAME/runs.csv` has a row for each run, with what made it; `results/NAME/curves.csv` its curve. A run whose
settings or code have changed since is stale (`benchmarks.fresh`): it is reported, as such, until it is made again.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.fresh import is_current, remember
from prefrl.runs.fingerprint import settings_hash
from prefrl.runs.resolve import resolve
from prefrl.runs.runlog import read_table
from prefrl.settings.config import BaselineConfig, TrainConfig, arm_name
from prefrl.studies.batch import is_done, set_aside
from prefrl.studies.compare import Outcome, read_outcome
from prefrl.studies.grid import Job, read_grid
from prefrl.studies.plots import TRUE_REWARD
from prefrl.words.errors import UserError

HERE = Path(__file__).parent
LIBRARIES = ("python", "gymnasium", "mujoco", "envpool", "ale-py", "stable-baselines3", "torch")
MADE_BY = ("commit", "settings", "code", "gpu", *LIBRARIES)
RUN_COLUMNS = ("task", "arm", "seed", "steps", "final_true_return", "seconds", *MADE_BY, "command")
COMMAND = "prefrl sweep benchmarks/grids/"
Key = tuple[str, str, int]  # task, arm, seed
Rows = dict[Key, list[dict[str, str]]]
Claim = tuple[str, bool | None]  # a sentence, and whether it holds; None where the runs do not say


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
            where its reference arm ends (`benchmarks.paper.plateau_of`).
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
        return {key: (job, f"{COMMAND}{name}.toml") for name in self.grids for key, job in _grid(name).items()}


def gather(question: Question) -> int:
    """Put the runs that have finished into the committed data, beside those that are in it; how many there were.

    A run of other settings than the grid's, in the folder of one of its, is left out, and said to be; a stale one does
    not take the place of one that is not.
    """
    about, curves = _read(question.folder)
    found = 0
    outdated = stale(question)
    for key, (job, command) in question.planned().items():
        folder = job.config.out
        assert folder is not None
        try:
            if not is_done(job.config):
                continue
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        made = _made_by(job)
        if key in about and key not in outdated and not _is_fresh(made, job):
            continue
        found += 1
        outcome, table = (
            read_outcome(folder),
            read_table(folder / "metrics.csv") | read_table(folder / "timing.csv"),
        )
        named = {"task": key[0], "arm": key[1], "seed": str(key[2])}
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
                    for name in ("true_return", "episodes", *question.measures)
                },
            }
            for row, step in enumerate(table["step"])
        ]
    if found:
        _write(question, about, curves)
    return found


def borrow(question: Question) -> int:
    """Take from other questions' committed data the very runs that this one lacks, or has stale; how many there were.

    Two runs are one where their configurations are the same, whatever their arms are called. What the other question
    kept of it must be all that this one keeps.
    """
    wanted = {_settings(job): key for key, job in to_make(question).items()}
    about, curves = _read(question.folder)
    borrowed = 0
    for folder in sorted(path.parent for path in (HERE / "results").glob("*/runs.csv")):
        if folder == question.folder:
            continue
        theirs, their_curves = _read(folder)
        grids = {rows[0]["command"].removeprefix(COMMAND).removesuffix(".toml") for rows in theirs.values()}
        for name in sorted(name for name in grids if (HERE / "grids" / f"{name}.toml").exists()):
            for key, job in _grid(name).items():
                mine = wanted.get(_settings(job))
                if mine is None or key not in theirs or int(theirs[key][0]["steps"]) != job.config.steps:
                    continue
                kept = their_curves[key][0].keys()
                if isinstance(job.config, TrainConfig) and not kept >= set(question.measures):
                    continue
                if not _is_fresh(theirs[key][0], job):  # made by other code, it may be another run by now
                    continue
                named = dict(zip(("task", "arm", "seed"), map(str, mine), strict=True))
                about[mine] = [{**row, **named} for row in theirs[key]]
                curves[mine] = [{**row, **named} for row in their_curves[key]]
                del wanted[_settings(job)]
                borrowed += 1
    if borrowed:
        _write(question, about, curves)
    return borrowed


def outcomes(question: Question, measure: str = "true_return") -> list[Outcome]:
    """The committed runs of as many steps as the grids ask for, in their order; the curve is of this measure."""
    about, curves = _read(question.folder)
    read = []
    for key, (job, _) in question.planned().items():
        points = [row for row in curves.get(key, []) if row[measure]]
        if points and int(about[key][0]["steps"]) == job.config.steps:
            steps, values = np.array([(float(row["step"]), float(row[measure])) for row in points]).T
            # runs made before episodes were counted have none; and only the true return is a mean over episodes
            counts = [row.get("episodes") for row in points if measure == "true_return"]
            episodes = np.array(counts, dtype=np.float64) if counts and all(counts) else None
            read.append(Outcome(*key, (steps, values), float(about[key][0]["seconds"]), episodes))
    return read


def lacking(question: Question) -> dict[Key, Job]:
    """The runs that its grids ask for and that are not committed, in their order."""
    there = {(o.task, o.arm, o.seed) for o in outcomes(question)}
    return {key: job for key, (job, _) in question.planned().items() if key not in there}


def stale(question: Question) -> set[Key]:
    """The committed runs whose settings or code have changed since, or were not recorded."""
    about, _ = _read(question.folder)
    planned = question.planned()
    return {
        (o.task, o.arm, o.seed)
        for o in outcomes(question)
        if not _is_fresh(about[o.task, o.arm, o.seed][0], planned[o.task, o.arm, o.seed][0])
    }


def to_make(question: Question) -> dict[Key, Job]:
    """The runs that are lacking and those that are stale, in the order of the grids."""
    wanted = lacking(question).keys() | stale(question)
    return {key: job for key, (job, _) in question.planned().items() if key in wanted}


def missing(question: Question) -> str:
    """A sentence about the runs that are asked for and not there yet; empty if none is."""
    jobs = lacking(question).values()
    if not jobs:
        return ""
    steps = sum(job.config.steps for job in jobs)
    return f"{len(jobs)} of {len(question.planned())} runs are missing ({steps / 1e6:,.4g} million steps)."


def run(question: Question) -> None:
    """Run what is lacking or stale, and take it in: grid by grid, since one may need what the one before leaves behind.

    What a stale run left in the folder of the new one is moved aside.

    Raises:
        UserError: as `prefrl.studies.sweep.sweep` does, and where runs have failed.
    """
    from prefrl.studies.sweep import sweep

    for name in question.grids:
        wanted = to_make(question)
        jobs = [job for key, job in _grid(name).items() if key in wanted]
        for job in jobs:
            if is_done(job.config) and not _is_fresh(_made_by(job), job):
                set_aside(job.config)
        ended = sweep(jobs)
        gather(question)
        failed = [str(run.job.config.out) for run in ended if run.error]
        if failed:
            raise UserError(
                f"{len(failed)} of {len(ended)} runs failed, the first in {failed[0]!r}: its error.txt says why."
            )


def _made_by(job: Job) -> dict[str, str]:
    """What the run in a job's folder says it was made by."""
    assert job.config.out is not None
    used = json.loads((job.config.out / "versions.json").read_text(encoding="utf-8"))
    if "modules" in used:
        remember(used["modules"])
    return {name: str(used.get(name, "")) for name in MADE_BY}


def _is_fresh(row: Mapping[str, str], job: Job) -> bool:
    """Whether a run that was made so, by code and settings, would be made so now."""
    if not is_current(row.get("code", "")):
        return False
    return row.get("settings") == _resolved(replace(job.config, seed=0, arm=None, out=None))


@cache
def _resolved(config: BaselineConfig) -> str:
    """The hash of its settings with every default filled in; empty where it cannot be run now."""
    try:
        return settings_hash(resolve(replace(config, out=Path("not-there"))))
    except UserError:
        return ""


def panel_of(task: str) -> str:
    """The paper's name of a task: "prefrl/Hopper-v0" is Hopper."""
    return task.rpartition("/")[2].rpartition("-")[0]


def random_returns() -> dict[str, float]:
    """Mean true return of random actions, by task (`python -m benchmarks.random_actions`)."""
    with (HERE / "results" / "random_actions.csv").open(encoding="utf-8", newline="") as file:
        return {row["task"]: float(row["true_return"]) for row in csv.DictReader(file)}


def _grid(name: str) -> dict[Key, Job]:
    """The runs of a grid file, in its order."""
    jobs = read_grid(HERE / "grids" / f"{name}.toml")
    return {(job.config.env, arm_name(job.config), job.config.seed): job for job in jobs}


def _settings(job: Job) -> BaselineConfig:
    """What makes a run what it is: its configuration without the names it goes by."""
    return replace(job.config, arm=None, out=None)


def _cell(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""


def _read(folder: Path) -> tuple[Rows, Rows]:
    """What is committed about each run, and its curve; a run that one of the two files lacks is not there."""
    about, curves = _read_rows(folder / "runs.csv"), _read_rows(folder / "curves.csv")
    both = about.keys() & curves.keys()
    return {key: about[key] for key in about if key in both}, {key: curves[key] for key in curves if key in both}


def _write(question: Question, about: Rows, curves: Rows) -> None:
    question.folder.mkdir(parents=True, exist_ok=True)
    _write_rows(question.folder / "runs.csv", RUN_COLUMNS, about)
    columns = ("task", "arm", "seed", "step", "true_return", "episodes", *question.measures)
    _write_rows(question.folder / "curves.csv", columns, curves)


def _read_rows(path: Path) -> Rows:
    rows: Rows = {}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                rows.setdefault((row["task"], row["arm"], int(row["seed"])), []).append(row)
    return rows


def _write_rows(path: Path, columns: Sequence[str], rows: Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", restval="", extrasaction="ignore")
        writer.writeheader()
        for key in sorted(rows):
            writer.writerows(rows[key])
