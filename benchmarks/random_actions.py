"""What are random actions worth? The zero of every score in these benchmarks.

    python -m benchmarks.random_actions

Mean true return of whole episodes, or games, of actions drawn uniformly, for each task of the grids.
"""

from __future__ import annotations

import csv

import numpy as np

from benchmarks.committed import HERE
from prefrl.runs.runlog import versions
from prefrl.studies.grid import read_grid
from prefrl.studies.random_actions import true_returns


def main() -> None:
    """Measure every task that a grid has, and write the table."""
    tasks = dict.fromkeys(
        (job.config.env, job.config.env_kwargs or ())
        for file in sorted((HERE / "grids").glob("*.toml"))
        for job in read_grid(file)
    )
    commit = versions()["commit"]  # before this writes its own results
    with (HERE / "results" / "random_actions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "true_return", "deviation", "episodes", "commit"])
        for task, env_kwargs in sorted(tasks):
            found = np.array(true_returns(task, env_kwargs))
            row = [task, f"{found.mean():.6g}", f"{found.std():.4g}", len(found), commit]
            writer.writerow(row)
            print(*row)


if __name__ == "__main__":
    main()
