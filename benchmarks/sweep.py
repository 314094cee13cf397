"""What does a sweep gain? Short runs by `prefrl sweep` on all cores, and the same runs as commands one after another.

    python -m benchmarks.sweep

Wall time of whole commands, starts included: Ray's, and Python's sixteen times.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from prefrl.runs.runlog import versions

RESULTS = Path(__file__).parent / "results" / "sweep.json"
PREFRL = [sys.executable, "-c", "import sys; from prefrl.cli import main; sys.exit(main())"]


@dataclass(frozen=True)
class Sweep:
    """Wall time of runs one after another over that of a sweep."""

    env: str = "HalfCheetah-v5"
    """Task."""
    steps: int = 100_000
    """Environment steps of each run."""
    labels: int = 100
    """Answers of each run."""
    runs: int = 16
    """Seeds 0, 1, ..."""


def measure(ask: Sweep) -> dict[str, Any]:
    """Do both, and say how long they took.

    Returns:
        `one_after_another` and `sweep`, wall seconds; `ratio`; and `ratio_without_starts`, in which the runs one after
        another count from their first to their last step only.
    """
    with tempfile.TemporaryDirectory() as folder:
        seeds, out = range(ask.runs), Path(folder)
        common = {"env": ask.env, "steps": ask.steps, "labels": ask.labels}
        began = time.perf_counter()
        for seed in seeds:
            options = [text for name, value in common.items() for text in (f"--{name}", str(value))]
            command = [
                *PREFRL,
                "train",
                *options,
                "--no-tensorboard",
                "--seed",
                str(seed),
                "--out",
                str(out / f"{seed}"),
            ]
            subprocess.run(command, check=True, capture_output=True)
        single = time.perf_counter() - began
        running = sum(
            json.loads((out / f"{seed}" / "result.json").read_text(encoding="utf-8"))["seconds"] for seed in seeds
        )

        grid = {**common, "seed": list(seeds)}
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in grid.items()]
        (out / "grid.toml").write_text("".join(lines) + "tensorboard = false\n", encoding="utf-8")
        began = time.perf_counter()
        command = [*PREFRL, "sweep", str(out / "grid.toml"), "--out", str(out / "sweep")]
        subprocess.run(command, check=True, capture_output=True)
        swept = time.perf_counter() - began
        assert len(list((out / "sweep").rglob("result.json"))) == ask.runs
    return {
        "one_after_another": round(single, 1),
        "sweep": round(swept, 1),
        "ratio": round(single / swept, 2),
        "ratio_without_starts": round(running / swept, 2),
        "cores": len(os.sched_getaffinity(0)),
        "asked": vars(ask),
    }


def main(ask: Sweep) -> None:
    """Measure, print, and write the raw numbers."""
    result = measure(ask)
    print(f"{ask.runs} runs: {result['ratio']:.2f} times faster than one after another on {result['cores']} cores")
    RESULTS.write_text(json.dumps(result | {"versions": versions()}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Sweep))
