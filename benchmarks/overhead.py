"""What do preferences cost? Wall time of `train` over `baseline`: same environments, learner and steps.

    python -m benchmarks.overhead

Interleaved pairs on one machine, each run in a process of its own; the median of the pairs' ratios is the result.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from prefrl.runlog import PARTS, read_table, versions

RESULTS = Path(__file__).parent / "results" / "overhead.json"


@dataclass(frozen=True)
class Overhead:
    """Wall time of learning from preferences over learning from the true reward."""

    env: str = "HalfCheetah-v5"
    """Task."""
    steps: int = 1_000_000
    """Environment steps of each run."""
    labels: int = 700
    """Answers."""
    pairs: int = 3
    """Pairs of runs, one after the other."""


def main(ask: Overhead) -> None:
    """Measure, print, and write the raw numbers."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for pair in range(ask.pairs):
            row: dict[str, float] = {}
            for arm in ("baseline", "train") if pair % 2 == 0 else ("train", "baseline"):
                out = Path(folder) / f"{arm}{pair}"
                labels = ["--labels", str(ask.labels)] if arm == "train" else []
                arguments = ["--env", ask.env, "--steps", str(ask.steps), "--seed", str(pair), "--out", str(out)]
                command = [sys.executable, "-c", "import sys; from prefrl.cli import main; sys.exit(main())", arm]
                subprocess.run([*command, *arguments, *labels, "--no-tensorboard"], check=True, capture_output=True)
                timing = read_table(out / "timing.csv")
                row[arm] = timing["seconds"][-1]
                if arm == "train":
                    row |= {part: sum(timing[part]) for part in PARTS}
            row["ratio"] = row["train"] / row["baseline"]
            rows.append(row)
            print({name: round(value, 2) for name, value in row.items()}, flush=True)
    ratio = statistics.median(row["ratio"] for row in rows)
    print(
        f"train takes {ratio:.2f} times the baseline's wall time ({ask.env}, {ask.steps:,} steps, {ask.labels} labels)"
    )
    RESULTS.parent.mkdir(exist_ok=True)
    result = {"median_ratio": ratio, "asked": asdict(ask), "pairs": rows, "versions": versions()}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Overhead))
