"""Runs that people could label, made in a moment: questions about real behaviour, and no training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from prefrl.experience.clips import scene_reader
from prefrl.experience.recorder import Recorder
from prefrl.experience.task import Task
from prefrl.queries.store import Store
from prefrl.settings.config import TrainConfig, to_toml
from prefrl.words.preference import Query


def make_queries(
    task: Task | str, count: int, segment_steps: int, seed: int = 0, kind: str = "pair", k: int = 2
) -> list[Query]:
    """Pairs, or sets, of segments of random actions in a task, or the one of this id, and what they are drawn from."""
    task = replace(task if isinstance(task, Task) else Task(task), backend="gymnasium")
    venv = task.make_vec(2, seed, render_mode="rgb_array")
    recorder = Recorder(venv, task.env_id, seed, 10_000, scene_reader(venv))
    recorder.reset()
    rng = np.random.default_rng(seed)
    venv.action_space.seed(seed)
    for _ in range(3 * segment_steps):
        recorder.step(np.stack([venv.action_space.sample() for _ in range(2)]))
    queries = recorder.pairs(count, segment_steps, rng, k=k).queries(kind)
    venv.close()
    return queries


def make_run(folder: Path, env_id: str, queries: list[Query], url: str | None = None, **settings: Any) -> Path:
    """A run's folder whose store holds these questions."""
    folder.mkdir(parents=True)
    settings.setdefault("segment_steps", len(queries[0].left.actions) if queries else 1)  # no run leaves it open
    config = TrainConfig(env=env_id, labeler="human", labels=max(1, len(queries)), out=folder, store=url, **settings)
    with (folder / "config.toml").open("wb") as file:
        tomli_w.dump(to_toml(config), file)
    with Store(url or folder / "labels.sqlite") as store:
        store.ask(queries)
    return folder
