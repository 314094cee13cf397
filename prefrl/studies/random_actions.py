"""What random actions are worth: the 0 of every share of the way to the true reward's result."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.experience.backends import make_vec_env
from prefrl.experience.recorder import Recorder
from prefrl.runs.resolve import look_at
from prefrl.runs.runlog import versions
from prefrl.settings.config import BaselineConfig, read_run
from prefrl.settings.values import name_value

EPISODES = 24
MOST_STEPS = 50_000  # in search of them, for episodes that do not end
KEPT = "random_actions.json"


def true_returns(
    task: str,
    env_kwargs: Sequence[str] = (),
    fixed_horizon: bool = False,
    episodes: int = EPISODES,
    seed: int = 0,
    wrappers: Sequence[str] = (),
) -> list[float]:
    """True returns of episodes, or games, of actions drawn uniformly.

    They are played one after another: of several at a time, the first to end would be short ones. There are fewer than
    asked for where they last longer than `MOST_STEPS` steps in all.

    Raises:
        UserError: the environment cannot be made, or fails.
    """
    kwargs = name_value(tuple(env_kwargs), "environment argument")
    made = make_vec_env(task, 1, seed, env_kwargs=kwargs, fixed_horizon=fixed_horizon, wrappers=wrappers)
    env = Recorder(made, task, seed, 64)
    env.action_space.seed(seed)
    env.reset()
    while len(env.episodes) < episodes and env.steps < MOST_STEPS:
        env.step(np.asarray(env.action_space.sample())[None])
    env.close()
    return [episode.true_return for episode in env.episodes[:episodes]]


def random_return(config: BaselineConfig, folder: Path, keep: bool = False) -> float:
    """Mean true return of random actions on a run's own environment; NaN where no episode comes to its end.

    Args:
        config: of the run, or of a comparison.
        folder: that holds the runs. What is kept there is taken, if it is of this very environment.
        keep: keep it there, so that it is measured once.

    Raises:
        UserError: as `true_returns`.
    """
    kwargs, wrappers = config.env_kwargs, config.wrapper
    if kwargs is None:
        found = look_at(config)
        kwargs, wrappers = found.kwargs, found.wrappers
    about: dict[str, Any] = {"env": config.env, "env_kwargs": list(kwargs), "fixed_horizon": config.fixed_horizon}
    about |= {"wrapper": list(wrappers)} if wrappers else {}
    kept = _read(folder / KEPT)
    if all(kept.get(name) == value for name, value in about.items()) and isinstance(kept.get("true_returns"), list):
        returns = [float(value) for value in kept["true_returns"]]
    else:
        returns = true_returns(config.env, kwargs, config.fixed_horizon, wrappers=wrappers or ())
        if keep:
            folder.mkdir(parents=True, exist_ok=True)
            values = {**about, "true_returns": returns, "commit": versions()["commit"]}
            (folder / KEPT).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return float(np.mean(returns)) if returns else math.nan


def random_returns(runs: Sequence[Path]) -> dict[str, float]:
    """Mean true return of random actions by task, each on the environment of the first of these runs that has it.

    Raises:
        UserError: as `true_returns`, or a folder holds no run.
    """
    found: dict[str, float] = {}
    for run in runs:
        config = read_run(run)
        if config.env not in found:
            found[config.env] = random_return(config, run.parent)
    return found


def _read(path: Path) -> dict[str, Any]:
    """What is kept in a file; nothing where there is none, or it is not what is kept there."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}
