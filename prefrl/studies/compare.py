"""Learned reward beside true reward: every arm and seed, then a table and a figure.

Each run is an ordinary run folder; one that is finished is not run again, so a comparison that was stopped goes on
where it was.
"""

from __future__ import annotations

import csv
import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prefrl.runs.alone import WAIT_S, alone
from prefrl.runs.resolve import resolve
from prefrl.runs.runlog import is_finished, read_table, versions
from prefrl.settings.config import (
    TRUE_REWARD,
    BaselineConfig,
    CompareConfig,
    PreferenceConfig,
    TrainConfig,
    arm_name,
    read_run,
    slug,
)
from prefrl.studies.batch import Board, is_set_aside, run_one, set_aside, unfinished
from prefrl.studies.plots import Result, learning_curves, result_table
from prefrl.studies.random_actions import random_return
from prefrl.words.errors import UserError
from prefrl.words.process import end_with_parent
from prefrl.words.stats import Curve, bootstrap_interval, final_return, interquartile_mean

FINAL_SHARE = 0.1  # a run's result is its mean true return over this last share of the steps


@dataclass(frozen=True)
class Outcome:
    """One finished run.

    Attributes:
        task: environment id.
        arm: "true reward", or "700 labels".
        seed: of the run.
        curve: environment steps (n,) and mean true return (n,) of the episodes finished there.
        seconds: wall time.
        episodes: (n,) how many finished there; None where the run has not counted them.
    """

    task: str
    arm: str
    seed: int
    curve: Curve
    seconds: float
    episodes: NDArray[np.float64] | None = None

    @property
    def final(self) -> float:
        """Mean true return of the episodes of the last tenth of the steps; without their number, of its phases."""
        return final_return(*self.curve, share=FINAL_SHARE, episodes=self.episodes)


def run_comparison(config: CompareConfig, quiet: bool = False) -> list[Outcome]:
    """Run every arm and seed that is not finished yet, and write table, raw data and figure into `config.out`.

    Raises:
        UserError: a run cannot be done as asked, a folder in the way holds another run, or another comparison is at
            work there.
    """
    folder = folder_of(config)
    runs = plan_runs(config, folder)
    if unfinished(runs):
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder, WAIT_S):
            left = unfinished(runs)  # another comparison may just have finished some
            for run in left:
                set_aside(run)
            run_all(left, config.jobs, quiet)
    outcomes = [read_outcome(run.out) for run in runs if run.out is not None]
    write_report(outcomes, folder, zero_of(config), title=f"{config.env}, {config.steps:,} steps")
    return outcomes


def zero_of(config: CompareConfig) -> dict[str, float]:
    """Mean true return of random actions on the comparison's task; measured once, and kept in its folder."""
    return {config.env: random_return(config, folder_of(config), keep=True)}


def folder_of(config: CompareConfig) -> Path:
    """Where a comparison's runs, table, data and figure go."""
    return config.out or Path("runs/compare") / slug(config.env)


def plan_runs(config: CompareConfig, folder: Path) -> list[BaselineConfig]:
    """The configuration of every run: seed by seed, the true reward and each label budget.

    All take as many untrained first steps as the first label arm, and the reward's scale from a window as long, so that
    the arms differ in their reward alone.

    Raises:
        UserError: no label budget or no seed is asked for, or the arms cannot be run.
    """
    if not config.labels or config.seeds < 1 or config.jobs < 1:
        raise UserError("compare needs at least one label budget, one seed and one job at a time.")
    if config.arm is not None:
        raise UserError("compare names its arms itself, after their labels: leave out --arm, or use `prefrl sweep`.")
    shared = {field.name: getattr(config, field.name) for field in fields(PreferenceConfig)}
    first = TrainConfig(**{**shared, "labels": config.labels[0], "out": folder / "not-there-yet"})
    arm = resolve(first)
    baseline_fields = {field.name for field in fields(BaselineConfig)}
    runs: list[BaselineConfig] = []
    for seed in range(config.seed, config.seed + config.seeds):
        common = {**shared, "seed": seed, "explore_steps": arm.explore_steps, "reward_window": arm.reward_window}
        true_reward = {name: value for name, value in common.items() if name in baseline_fields}
        runs.append(BaselineConfig(**{**true_reward, "out": folder / f"true-reward-seed{seed}"}))
        runs += [
            TrainConfig(**{**common, "labels": labels, "out": folder / f"labels{labels}-seed{seed}"})
            for labels in config.labels
        ]
    return runs


def run_all(runs: Sequence[BaselineConfig], jobs: int, quiet: bool = False) -> None:
    """Run these, `jobs` at a time in processes of their own, and say how they are getting on."""
    with (
        ProcessPoolExecutor(min(jobs, len(runs)), mp_context=get_context("spawn"), initializer=end_with_parent) as pool,
        Board(runs, quiet) as board,
    ):
        waiting: dict[Future[Path], BaselineConfig] = {pool.submit(run_one, run): run for run in runs}
        try:
            while waiting:
                done, _ = wait(waiting, timeout=1.0, return_when="FIRST_COMPLETED")
                for future in done:
                    board.ended(waiting.pop(future), describe(future.result()))
                board.refresh()
        except BaseException:
            for future in waiting:
                future.cancel()
            raise


def read_outcome(folder: Path) -> Outcome:
    """What a run folder says of its run, finished or not.

    Raises:
        UserError: it is not a run folder, or no episode has finished in it.
    """
    config = read_run(folder)
    table = read_table(folder / "metrics.csv", "true_return")
    counted = table.get("episodes")
    columns = zip(table["step"], table["true_return"], counted or table["step"], strict=True)
    measured = [row for row in columns if math.isfinite(row[1])]
    if not measured:
        raise UserError(f"no episode has finished in {str(folder)!r} yet, so it has no true return to show.")
    steps, returns, episodes = np.array(measured).T
    return Outcome(
        task=config.env,
        arm=arm_name(config),
        seed=config.seed,
        curve=(steps, returns),
        seconds=read_table(folder / "timing.csv", "seconds")["seconds"][-1],
        episodes=episodes if counted else None,
    )


def describe(folder: Path) -> str:
    """A line about a finished run."""
    try:
        outcome = read_outcome(folder)
    except UserError as error:  # no episode has come to its end
        return str(error)
    return (
        f"{outcome.task}, {outcome.arm}, seed {outcome.seed}: true return {outcome.final:.4g} after "
        f"{int(np.asarray(outcome.curve[0])[-1]):,} steps, {outcome.seconds:.0f} s"
    )


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """The run folders among these folders and the finished ones anywhere inside them, each once, in order of name.

    Says, on stderr, which runs inside are left out because they have not finished.

    Raises:
        UserError: a folder neither is nor holds a finished run.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        inside = [path.parent for path in folder.rglob("config.toml") if not is_set_aside(path.parent)]
        if not inside:
            raise UserError(
                f"{str(folder)!r} neither is a run folder nor holds any: give folders that `prefrl train` made."
            )
        taken = [run for run in inside if run == folder or is_finished(run)]
        left = sorted(str(run) for run in inside if run not in taken)
        if not taken:
            raise UserError(f"none of the {len(left)} runs in {str(folder)!r} has finished: name those you mean.")
        if left:
            print(
                f"{len(left)} of {len(inside)} runs have not finished and are left out: {', '.join(left)}",
                file=sys.stderr,
            )
        found |= {run.resolve(): run for run in sorted(taken, key=_by_number)}
    return list(found.values())


def _by_number(path: Path) -> list[str | int]:
    """A sort key by which labels350 comes before labels1400."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]


def read_outcomes(folders: Sequence[Path]) -> list[Outcome]:
    """What these run folders say.

    Raises:
        UserError: as `read_outcome`, or two of them would pass for seeds of one arm though they are the same seed.
    """
    read: dict[tuple[str, str, int], tuple[Path, Outcome]] = {}
    for folder in folders:
        outcome = read_outcome(folder)
        other, _ = read.setdefault((outcome.task, outcome.arm, outcome.seed), (folder, outcome))
        if other != folder:
            raise UserError(
                f"{str(other)!r} and {str(folder)!r} are both seed {outcome.seed} of {outcome.arm!r} on "
                f"{outcome.task}: name arms that differ by --arm when you run them, or by `arm` in their config.toml."
            )
    return [outcome for _, outcome in read.values()]


def share_of_way(result: float, random: float, reference: float) -> float | None:
    """How much of the way from random actions to the reference's result is gone: 0 for none, 1 for all of it.

    None where the reference is no better than random actions, or where that is not known.
    """
    return (result - random) / (reference - random) if reference > random else None


def results(outcomes: Sequence[Outcome], random: Mapping[str, float]) -> list[Result]:
    """For each task and arm: interquartile mean of final true returns, 95 % interval, share of the true reward's.

    Args:
        outcomes: of the runs.
        random: mean true return of random actions by task, from which shares are counted.
    """
    rows = []
    for task in dict.fromkeys(outcome.task for outcome in outcomes):
        of_task = [outcome for outcome in outcomes if outcome.task == task]
        arms = sorted(dict.fromkeys(o.arm for o in of_task), key=lambda arm: arm != TRUE_REWARD)
        finals = {arm: np.array([o.final for o in of_task if o.arm == arm]) for arm in arms}
        zero = random.get(task, math.nan)
        reference = interquartile_mean(finals[TRUE_REWARD]) if TRUE_REWARD in finals else math.nan
        for arm, values in finals.items():
            middle = interquartile_mean(values)
            drawn = bootstrap_interval([values], interquartile_mean, np.random.default_rng(0))
            low, high = drawn if len(values) > 1 else (math.nan, math.nan)  # one seed has no spread
            share = share_of_way(middle, zero, reference)
            rows.append(Result(task, arm, len(values), middle, low, high, share, zero, reference <= zero))
    return rows


def panels(outcomes: Sequence[Outcome]) -> dict[str, dict[str, list[Curve]]]:
    """Curves by task and arm, as `prefrl.studies.plots.learning_curves` takes them."""
    grouped: dict[str, dict[str, list[Curve]]] = {}
    for outcome in outcomes:
        grouped.setdefault(outcome.task, {}).setdefault(outcome.arm, []).append(outcome.curve)
    return grouped


def write_report(outcomes: Sequence[Outcome], folder: Path, random: Mapping[str, float], title: str = "") -> str:
    """Write compare.csv (the raw curve of every seed), compare.md (the table) and compare.png; return the table."""
    about = versions()
    command = shlex.join(["prefrl", *sys.argv[1:]])
    with (folder / "compare.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["task", "arm", "seed", "step", "true_return", "episodes"])
        for o in outcomes:
            steps, returns = map(np.asarray, o.curve)
            counts = [""] * len(steps) if o.episodes is None else [f"{count:.0f}" for count in o.episodes]
            writer.writerows(
                [o.task, o.arm, o.seed, int(s), f"{r:.6g}", n] for s, r, n in zip(steps, returns, counts, strict=True)
            )
    table = result_table(results(outcomes, random))
    over = f"Mean true return of the episodes of the last {FINAL_SHARE:.0%} of the steps"
    final = f"{over}; commit {about['commit']}; `{command}`."
    (folder / "compare.md").write_text(f"{table}\n\n{final}\n", encoding="utf-8")
    learning_curves(panels(outcomes), folder / "compare.png", title=title)
    return table
