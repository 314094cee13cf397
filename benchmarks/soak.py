"""Whether a long run keeps its memory and its speed: 20 million steps, looked at every half a minute.

    python -m benchmarks.soak --run RUN            # begins it, or goes on with it; an hour or so
    python -m benchmarks.soak                      # figure and numbers, from the committed data

`results/soak.csv` has, at each look, the steps taken, the bytes that the run's process keeps resident (not shared, as
/proc has it), its seconds of processor time, and the bytes of its folder. A run that was stopped goes on at its newest
checkpoint in another process: its rows have another `process`, and growth is told within the longest one.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks.same_bytes import PREFRL
from prefrl.runs import checkpoint
from prefrl.runs.runlog import is_finished, read_table
from prefrl.studies.plots import GRID, PALETTE
from prefrl.words.errors import UserError

RESULTS = Path(__file__).parent / "results"
TABLE = RESULTS / "soak.csv"
COLUMNS = ("process", "step", "resident_bytes", "cpu_s", "folder_bytes")
FROM_STEP, MOST_GROWTH = 2_000_000, 1.05
COMMAND = "train --env HalfCheetah-v5 --labels 700 --steps 20000000 --seed 0"
LOOK_S = 30.0


@dataclass(frozen=True)
class Ask:
    """A long run's memory and speed."""

    run: Path | None = None
    """Begin the run in this folder, or go on with it; without, only tell of what was measured."""


def look(process: int, folder: Path) -> dict[str, float] | None:
    """What the run has taken so far; None before its first row, or when it has ended."""
    try:
        pages = [int(part) for part in Path(f"/proc/{process}/statm").read_text().split()]
        times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        step = read_table(folder / "metrics.csv", "step")["step"][-1]
    except (OSError, UserError, IndexError, ValueError):
        return None
    return {
        "process": process,
        "step": int(step),
        "resident_bytes": (pages[1] - pages[2]) * os.sysconf("SC_PAGE_SIZE"),
        "cpu_s": (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"),
        "folder_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    }


def watch(folder: Path) -> int:
    """Run it to its end, and write down what is seen."""
    how = ["train", "--resume", str(folder)] if checkpoint.has_any(folder) else [*COMMAND.split(), "--out", str(folder)]
    running = subprocess.Popen([*PREFRL, *how])
    is_new = not TABLE.exists()
    with TABLE.open("a", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        if is_new:
            table.writeheader()
        while running.poll() is None:
            time.sleep(LOOK_S)
            if seen := look(running.pid, folder):
                table.writerow(seen)
                file.flush()
    return running.returncode


def report() -> int:
    """The figure, and a line; 1 where memory grew by more than it may."""
    from matplotlib.figure import Figure

    seen = {name: np.array(column) for name, column in read_table(TABLE).items()}
    longest = max(set(seen["process"].tolist()), key=lambda p: int((seen["process"] == p).sum()))
    of_it = seen["process"] == longest
    step, resident, cpu = (seen[name][of_it] for name in ("step", "resident_bytes", "cpu_s"))
    begin = int(np.searchsorted(step, FROM_STEP))
    if step[-1] < 2 * FROM_STEP:
        raise UserError(f"the run has {step[-1]:,.0f} steps so far: there is nothing to tell before {2 * FROM_STEP:,}.")
    growth = float(np.median(resident[-5:]) / np.median(resident[begin : begin + 5]))
    figure = Figure(figsize=(7, 3), layout="constrained")
    memory, speed = figure.subplots(1, 2)
    memory.plot(step / 1e6, resident / 2**20, color=PALETTE[0])
    memory.set(xlabel="million steps", ylabel="MiB resident", ylim=(0, None))
    apart = slice(None, None, 10)  # looks so far apart that a phase more or less is little beside them
    speed.plot(step[apart][1:] / 1e6, np.diff(step[apart]) / np.diff(cpu[apart]), color=PALETTE[1])
    speed.set(xlabel="million steps", ylabel="steps per CPU second", ylim=(0, None))
    for panel in (memory, speed):
        panel.grid(color=GRID)
    figure.savefig(RESULTS / "soak.png", dpi=120)
    rows = seen["folder_bytes"][of_it]
    print(
        f"from {step[begin]:,.0f} to {step[-1]:,.0f} steps resident memory is {growth:.3f} of what it was (at most "
        f"{MOST_GROWTH} is wanted), and the folder grew from {rows[begin] / 2**20:.1f} to {rows[-1] / 2**20:.1f} MiB"
    )
    return int(growth > MOST_GROWTH)


def main(ask: Ask) -> int:
    """Run or go on where a folder is given, and tell."""
    if ask.run is not None and not is_finished(ask.run) and (code := watch(ask.run)):
        return code
    return report()


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Ask)))
