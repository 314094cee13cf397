"""A run's folder: what was asked, what happened, and what was learned.

config.toml          the configuration, every default filled in; `prefrl train --config` runs it again
versions.json        Python, library and code versions; at the end what made the run (`prefrl.runs.fingerprint`)
metrics.csv          a row per phase; the same seed gives the same bytes
timing.csv           seconds spent per phase and part, which no seed repeats
labels.sqlite        every question and answer, unless --store puts them elsewhere
tensorboard/         the same measures as events
made_here            where an environment's package or a database is named: a signature of whoever made the run
reward.safetensors   r-hat
policy.safetensors   the policy
clips/               films that people were shown, which can be made again
"""

from __future__ import annotations

import csv
import io
import json
import math
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any

import tomli_w

from prefrl.queries.store import NothingThereError, Store
from prefrl.runs.alone import WAIT_S, alone
from prefrl.runs.fingerprint import fingerprint
from prefrl.settings.config import MOST_STEPS, BaselineConfig, to_toml
from prefrl.settings.trust import sign
from prefrl.words.errors import UserError
from prefrl.words.files import read_text

MOST_MEASURED = 1e30  # that a cell of a table holds: what is infinite leaves it empty
PARTS = ("learn", "ask", "answer", "fit", "log")  # of a phase, as `RunLog.part` names them
LIBRARIES = ("prefrl", "gymnasium", "mujoco", "envpool", "ale-py", "stable-baselines3", "sb3-contrib", "torch", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python, of the libraries that results depend on, the GPU, and the commit where git knows it."""
    import torch  # which takes a second, and whoever reads a log does without

    found = {"python": platform.python_version(), "platform": platform.platform()}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found["commit"] = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        found["commit"] = "unknown"
    return found


class RunLog:
    """Writes a run's folder as the run goes; a run that is stopped leaves what it had.

    A run that fails before a row is written or a question asked leaves no folder, which would be in the way of the
    same command put right; one that is interrupted leaves what it had.

    Args:
        config: resolved; `config.out` is created.
        resume_at: go on in the folder that is there, as it was after so many steps; None begins.

    Raises:
        UserError: the folder cannot be made, or another process is at work in it.
    """

    def __init__(self, config: BaselineConfig, resume_at: int | None = None) -> None:
        assert config.out is not None
        self.folder, self._config, self._held = config.out, config, ExitStack()
        try:
            self.folder.mkdir(parents=True, exist_ok=resume_at is not None)
            self._held.enter_context(alone(self.folder, WAIT_S))
            with (self.folder / "config.toml").open("wb") as file:
                tomli_w.dump(to_toml(config), file)
            sign(config, self.folder)
            (self.folder / "versions.json").write_text(json.dumps(versions(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write the run folder {str(self.folder)!r}: {error.strerror}.") from error
        self._store = getattr(config, "store", None) or self.folder / "labels.sqlite"
        self._has_rows = resume_at is not None
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self.doing, self.begun = "", time.perf_counter()
        self._began = time.perf_counter()
        self._metrics, self._timing = (_Table(self.folder / f"{name}.csv", resume_at) for name in ("metrics", "timing"))
        self._tensorboard: Any = None
        if config.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._tensorboard = SummaryWriter(
                str(self.folder / "tensorboard"), purge_step=None if resume_at is None else resume_at + 1
            )
        self._wandb: Any = None
        if config.wandb:
            import wandb

            self._wandb = wandb.init(project=config.wandb, dir=str(self.folder), config=to_toml(config))

    def __enter__(self) -> RunLog:
        """Open until the block ends."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every file; after a failure, remove the folder if the run has recorded nothing."""
        self._metrics.close()
        self._timing.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=int(kind is not None))
        if isinstance(error, Exception) and not self._has_rows and not self._has_questions():
            shutil.rmtree(self.folder, ignore_errors=True)
        self._held.close()

    def _has_questions(self) -> bool:
        """Whether the run's store holds a question, and so perhaps an answer; true where that cannot be told."""
        try:
            with Store.reading(self._store) as store:
                return store.counts().asked > 0 and not store.is_of_another(self.folder)
        except NothingThereError:
            return False
        except UserError:
            return True

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the seconds of this block towards a part of the phase."""
        self.doing, self.begun = name, time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - self.begun
        self.doing = ""

    def finish(self) -> None:
        """Say that the run has come to its end."""
        seconds = round(time.perf_counter() - self._began, 3)
        about = json.loads((self.folder / "versions.json").read_text(encoding="utf-8")) | fingerprint(self._config)
        (self.folder / "versions.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        (self.folder / "result.json").write_text(
            json.dumps({"finished": True, "seconds": seconds}) + "\n", encoding="utf-8"
        )

    def write(self, step: int, row: Mapping[str, float | int]) -> None:
        """Add a phase's row to every log; a measure that could not be taken, NaN, is an empty cell."""
        self._has_rows = True
        self._metrics.write({"step": step, **row})
        self._timing.write({"step": step, "seconds": time.perf_counter() - self._began, **self._seconds})
        self._seconds = dict.fromkeys(PARTS, 0.0)
        measured = {name: value for name, value in row.items() if math.isfinite(value)}
        if self._tensorboard is not None:
            for name, value in measured.items():
                self._tensorboard.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(measured, step=step)


def is_finished(folder: Path) -> bool:
    """Whether the run in this folder came to its end."""
    return (folder / "result.json").exists()


class _Table:
    """A CSV file whose columns are those of its first row; each row is on disk when written.

    A measure that comes later has no column here. The first row with it says so, once, and the other logs have it.
    """

    def __init__(self, path: Path, resume_at: int | None = None) -> None:
        kept = [] if resume_at is None or not path.exists() else _rows_until(path, resume_at)
        new = path.with_suffix(".new")
        with new.open("w", newline="", encoding="utf-8") as file:
            file.writelines(kept)
        new.replace(path)
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer: csv.DictWriter[str] | None = None
        if kept:
            self._writer = csv.DictWriter(self._file, next(csv.reader(kept)), restval="", extrasaction="ignore")
        self._late: set[str] = set()

    def write(self, row: Mapping[str, float | int]) -> None:
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, list(row), restval="", extrasaction="ignore")
            self._writer.writeheader()
        if late := sorted(row.keys() - set(self._writer.fieldnames) - self._late):
            self._late.update(late)
            print(
                f"{self._file.name} has no column for {', '.join(late)}, first measured after its first row: "
                f"TensorBoard and Weights & Biases have what comes late.",
                file=sys.stderr,
            )
        self._writer.writerow({name: _cell(value) for name, value in row.items()})
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _rows_until(path: Path, step: int) -> list[str]:
    """The lines of a table that a run had written by so many steps, its head first; none where there is no such row."""
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = file.readlines() or [""]
    kept = [
        row for row in rows if row.endswith("\n") and row.split(",")[0].isdigit() and int(row.split(",")[0]) <= step
    ]
    return [head, *kept] if kept else []


def _cell(value: float | int) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return str(value)


def read_table(path: Path, *needed: str) -> dict[str, list[float]]:
    """The columns of a metrics.csv or timing.csv; an empty cell is NaN.

    Args:
        path: of the file.
        needed: columns that it must have, besides `step`.

    Raises:
        UserError: there is no such file, it has no rows, or it is no table of numbers by growing steps.
    """
    try:
        table = _columns(csv.reader(io.StringIO(read_text(path), newline="")), needed)
    except (csv.Error, ValueError) as error:
        if isinstance(error, UserError):
            raise
        said = " ".join(str(error).split())
        raise UserError(f"{str(path)!r} is not a table that a run wrote: {said:.150}.") from error
    if not table.get("step"):
        raise UserError(f"{str(path)!r} has no rows yet: the run has not finished its first phase.")
    return table


def _columns(rows: Iterator[list[str]], needed: Sequence[str]) -> dict[str, list[float]]:
    """The columns of these rows, the first of which names them; ValueError at the first that is no run's."""
    head = next(rows, [])
    table: dict[str, list[float]] = {name: [] for name in head}
    for row in rows:
        for name in ("step", *needed):
            if name not in table:
                raise ValueError(f"it has no column {name}")
        step = table["step"][-1] if table["step"] else -1.0
        for name, cell in zip_longest(head, row, fillvalue=""):  # the last may be half written
            if not name:
                raise ValueError("a row is longer than the first")
            value = float(cell) if cell else math.nan
            if abs(value) > MOST_MEASURED:
                raise ValueError(f"{name} is {cell}")
            table[name].append(value)
        if not step < table["step"][-1] < MOST_STEPS:  # written so that NaN is refused as well
            raise ValueError("its steps do not grow")
    return table


class Progress:
    """A live bar with steps/s, labels, true return and time left; a plain line now and then where there is no terminal.

    Args:
        title: what runs.
        steps: environment steps in all.
        quiet: show nothing.
        begun_at: steps taken before, in a run that goes on.
    """

    def __init__(self, title: str, steps: int, quiet: bool = False, begun_at: int = 0) -> None:
        import rich.progress
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        console = Console(file=sys.stderr, quiet=quiet)
        self.quiet, self._begun_at = quiet, begun_at
        self._live, self._alarm = console.is_terminal, False
        self._title, self._steps, self._began, self._said = title, steps, time.perf_counter(), 0.0
        self._bar = rich.progress.Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not self._live,
        )
        self._task = self._bar.add_task(title, total=steps, note="")

    def __enter__(self) -> Progress:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last state on the screen."""
        self._bar.stop()

    def update(
        self, step: int, labels: int, true_return: float, alarm: bool = False, outstanding: tuple[int, int] = (0, 0)
    ) -> None:
        """Show how far the run is; an alarm is shown when it begins, wherever the run shows anything.

        With answers outstanding, of how many questions asked, and scheduled in all.
        """
        asked, scheduled = outstanding
        seconds = time.perf_counter() - self._began
        said = f"{labels} labels, " if labels else ""
        if asked > labels:
            said = f"{labels} labels of {asked} asked ({labels / scheduled:.0%} of the schedule), "
        note = f"{(step - self._begun_at) / seconds:,.0f} steps/s, {said}true return {true_return:.4g}"
        self._bar.update(self._task, completed=step, note=note)
        share = step / self._steps
        if alarm and not self._alarm and not self.quiet:
            self._bar.console.print(
                f"{self._title}: after {step:,} steps the true return has fallen, and the learned reward finds "
                "that no worse: the policy may be exploiting the reward model (column alarm of metrics.csv).",
                soft_wrap=True,
            )
        self._alarm = alarm
        if not self._live and not self.quiet and (share >= self._said + 0.1 or share == 1):
            self._said = share
            print(f"{self._title}: {step:,} of {self._steps:,} steps, {note}, {seconds:.0f} s", file=sys.stderr)
