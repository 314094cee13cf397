"""What are random actions worth? The zero of every score in these benchmarks.

    python -m benchmarks.random_actions

Mean true return of whole episodes, or games, of actions drawn uniformly, for each task of the grids.
"""

from __future__ import annotations

import csv

import numpy as np

from benchmarks.committed import HERE
from prefrl.experience.recorder import Recorder
from prefrl.experience.vector import make_vec_env
from prefrl.runs.runlog import versions
from prefrl.settings.values import name_value
from prefrl.studies.grid import read_grid

EPISODES, ENVIRONMENTS = 24, 8


def true_returns(task: str, env_kwargs: tuple[str, ...]) -> list[float]:
    """True returns of the first episodes that finish."""
    env = Recorder(make_vec_env(task, ENVIRONMENTS, 0, env_kwargs=name_value(env_kwargs, "argument")), task, 0, 64)
    env.action_space.seed(0)
    env.reset()
    while len(env.episodes) < EPISODES:
        env.step(np.stack([env.action_space.sample() for _ in range(ENVIRONMENTS)]))
    env.close()
    return [episode.true_return for episode in env.episodes]


def main() -> None:
    """Measure every task that a grid has, and write the table."""
    tasks = dict.fromkeys(
        (job.config.env, job.config.env_kwargs or ())
        for file in sorted((HERE / "grids").glob("*.toml"))
        for job in read_grid(file)
    )
    commit = versions()["commit"]  # before this writes its own results
    with (HERE / "results" / "random_actions.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "true_return", "deviation", "episodes", "commit"])
        for task, env_kwargs in sorted(tasks):
            found = np.array(true_returns(task, env_kwargs))
            row = [task, f"{found.mean():.6g}", f"{found.std():.4g}", len(found), commit]
            writer.writerow(row)
            print(*row)


if __name__ == "__main__":
    main()
