"""Many runs: which of them are done, what is in their way, and how they are getting on.

`prefrl.studies.compare` runs them in processes of its own, `prefrl.studies.sweep` on Ray.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from prefrl.baseline import run_baseline
from prefrl.run import train
from prefrl.runs.alone import WAIT_S, alone
from prefrl.runs.checkpoint import has_any
from prefrl.runs.resolve import resolve
from prefrl.runs.runlog import is_finished, read_table
from prefrl.settings.config import BaselineConfig, TrainConfig, arm_name, from_toml, read_run
from prefrl.words.errors import UserError

NOT_COMPARED = ("out", "device", "backend", "tensorboard", "wandb")  # fields that leave a run what it is


def unfinished(runs: Sequence[BaselineConfig]) -> list[BaselineConfig]:
    """Those of these runs that are still to be run.

    Raises:
        UserError: one of them cannot be done as asked, another run is in its folder, or two would share a store.
    """
    left = [run for run in runs if not is_done(run)]
    stores = Counter(run.store for run in left if isinstance(run, TrainConfig) and run.store)
    for store, times in stores.items():
        if times > 1:
            raise UserError(f"{times} runs would write their answers to {store!r}: a store is of one run alone.")
    for run in left:
        try:
            resolve(_elsewhere(run))
        except UserError as error:
            raise UserError(f"{str(run.out)!r} cannot be run: {error}") from error
    return left


def is_done(run: BaselineConfig) -> bool:
    """Whether the run's folder holds this very run, finished.

    Raises:
        UserError: it holds a run of another configuration.
    """
    assert run.out is not None
    if not is_finished(run.out):
        return False
    for name, (recorded, asked) in _otherwise(run).items():
        raise UserError(
            f"{str(run.out)!r} holds a run with {name}={recorded!r}, and {asked!r} is asked for: choose another --out."
        )
    return True


def can_go_on(run: BaselineConfig) -> bool:
    """Whether the run's folder holds this very run, stopped after a checkpoint."""
    assert run.out is not None
    try:
        return has_any(run.out) and not is_finished(run.out) and not _otherwise(run)
    except UserError:  # what is there cannot be read
        return False


def _otherwise(run: BaselineConfig) -> dict[str, tuple[Any, Any]]:
    """Settings in which the run in the folder is another one: what it has, and what is asked for."""
    assert run.out is not None
    recorded, asked = from_toml(type(run), run.out / "config.toml"), resolve(_elsewhere(run))
    names = (field.name for field in fields(type(run)) if field.name not in NOT_COMPARED)
    both = {name: (getattr(recorded, name), getattr(asked, name)) for name in names}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def _elsewhere(run: BaselineConfig) -> BaselineConfig:
    """The run in a folder that is not taken, so that the rest of it can be checked."""
    assert run.out is not None
    return replace(run, out=run.out.with_name(run.out.name + ".not-there"))


def set_aside(run: BaselineConfig) -> None:
    """Move what a stopped run left out of the way, unless it can go on; nothing recorded is deleted.

    Raises:
        UserError: it has not stopped.
    """
    assert run.out is not None
    if run.out.exists() and not can_go_on(run):
        with alone(run.out, WAIT_S):
            pass
        count = 1
        while (aside := run.out.with_name(f"{run.out.name}.stopped{count}")).exists():
            count += 1
        run.out.rename(aside)


def is_set_aside(folder: Path) -> bool:
    """Whether `set_aside` has moved this folder out of the way."""
    return re.search(r"\.stopped\d+$", folder.name) is not None


def run_one(run: BaselineConfig) -> Path:
    """Train, or run the baseline, without showing progress; go on where it was stopped."""
    return _run(run, quiet=True, resume=can_go_on(run))


def resume(folder: Path, quiet: bool = False) -> Path:
    """Go on with the run in this folder from its newest checkpoint.

    Args:
        folder: of a run that was stopped.
        quiet: show no progress.

    Returns:
        The folder.

    Raises:
        UserError: there is no run, it has finished, or it left no checkpoint.
    """
    config = read_run(folder)
    if is_finished(folder):
        raise UserError(f"the run in {str(folder)!r} has finished: there is nothing to go on with.")
    return _run(replace(config, out=folder), quiet, resume=True)


def _run(run: BaselineConfig, quiet: bool, resume: bool) -> Path:
    return train(run, quiet, resume) if isinstance(run, TrainConfig) else run_baseline(run, quiet, resume)


class Board:
    """A live table of the runs that are under way, and a line for each that has ended.

    Where there is no terminal the lines are all there is.

    Args:
        runs: to be run.
        quiet: show nothing.
    """

    def __init__(self, runs: Sequence[BaselineConfig], quiet: bool = False) -> None:
        self._runs, self._ended_steps, self._began = list(runs), 0, time.perf_counter()
        self._steps, self._count, self._failed = sum(run.steps for run in runs), len(runs), 0
        self._console = Console(file=sys.stderr, quiet=quiet, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Board:
        """Show the table."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the table away; the lines stay."""
        self._live.stop()

    def ended(self, run: BaselineConfig, line: str, failed: bool = False) -> None:
        """Say how a run has ended."""
        self._runs.remove(run)
        self._ended_steps += run.steps
        self._failed += failed
        self.say(line, warn=failed)

    def say(self, line: str, warn: bool = False) -> None:
        """Put a line above the table."""
        self._console.print(line, soft_wrap=True, markup=False, style="red" if warn else None)

    def refresh(self) -> None:
        """Look at the folders of the runs that have not ended, and show how far they are."""
        if self._console.is_terminal:
            self._live.update(self._picture(), refresh=True)

    def _picture(self) -> Group:
        table = Table("task", "arm", "seed", box=None, header_style="dim")
        for name in ("steps", "true return"):
            table.add_column(name, justify="right")
        begun = [run for run in self._runs if run.out is not None and run.out.exists()]
        steps = self._ended_steps
        for run in begun:
            step, true_return = _progress(run)
            steps += step
            table.add_row(
                run.env, arm_name(run), str(run.seed), f"{step / run.steps:.0%} of {run.steps:,}", true_return
            )
        seconds = time.perf_counter() - self._began
        counts = {
            "finished": self._count - len(self._runs) - self._failed,
            "failed": self._failed,
            "running": len(begun),
            "waiting": len(self._runs) - len(begun),
        }
        left = timedelta(seconds=round((self._steps - steps) * seconds / steps)) if steps else "-"
        line = f"{', '.join(f'{n} {name}' for name, n in counts.items())}; {steps / seconds:,.0f} steps/s, {left} left"
        return Group(table, Text(line)) if begun else Group(Text(line))


def _progress(run: BaselineConfig) -> tuple[int, str]:
    """Steps taken and the newest true return of a run that is under way."""
    assert run.out is not None
    try:
        metrics = read_table(run.out / "metrics.csv", "true_return")
    except UserError:  # it has just begun
        return 0, ""
    returns = [value for value in metrics["true_return"] if math.isfinite(value)]
    return int(metrics["step"][-1]), f"{returns[-1]:.4g}" if returns else ""
