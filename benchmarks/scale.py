"""Does the scale of what is paid harm learning from the true reward? Beside stable-baselines3's PPO alone.

    python -m benchmarks.scale --run
    python -m benchmarks.scale

Tasks whose reward hardly varies: 1 a step in CartPole, -1 in Acrobot, until an episode ends by itself. The runs are
those of `prefrl compare --env CartPole-v1 --preset classic --labels 200 --steps 60000 --seeds 5` and of the same on
Acrobot-v1 with 150,000 steps; plain PPO has the same environments, settings and observation normalisation, and the
reward as it is.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecNormalize

from benchmarks.committed import HERE
from benchmarks.plain import schedule
from benchmarks.question import README, markdown, write_between
from prefrl.experience.backends import make_vec_env
from prefrl.experience.recorder import Recorder
from prefrl.policies.policy import CLIP_OBSERVATIONS
from prefrl.runs.resolve import resolve
from prefrl.runs.runlog import versions
from prefrl.settings.config import TRUE_REWARD, BaselineConfig, CompareConfig, arm_name
from prefrl.settings.values import name_value
from prefrl.studies.batch import is_done, run_one, set_aside
from prefrl.studies.compare import FINAL_SHARE, folder_of, plan_runs, read_outcome, share_of_way
from prefrl.studies.random_actions import random_return
from prefrl.words.process import for_small_networks
from prefrl.words.stats import interquartile_mean

STEPS = {"CartPole-v1": 60_000, "Acrobot-v1": 150_000}
LABELS, SEEDS, LEAST = 200, 5, 0.9
PLAIN, RANDOM = "plain PPO", "random actions"
FOLDER = HERE / "results" / "scale"
COLUMNS = ("task", "arm", "seed", "steps", "final_true_return", "commit")
Finals = dict[tuple[str, str, int], dict[str, str]]  # rows by task, arm, seed


@dataclass(frozen=True)
class Ask:
    """Report from the committed data, after running what it lacks."""

    run: bool = False
    """Run what is missing first: plain PPO and the true reward, then the answers. Ctrl-C stops it."""
    tasks: tuple[str, ...] = tuple(STEPS)
    """Of which tasks."""


def plain(config: BaselineConfig) -> float:
    """Mean true return, over the last tenth of the steps, of stable-baselines3's PPO with a baseline's settings."""
    cfg = resolve(config)
    assert cfg.n_envs
    kwargs = name_value(cfg.env_kwargs or (), "environment argument")
    env = Recorder(make_vec_env(cfg.env, cfg.n_envs, cfg.seed, cfg.backend, kwargs), cfg.env, cfg.seed, 64)
    settings = {name: schedule(value) for name, value in name_value(cfg.set, "learner setting").items()}
    venv = VecNormalize(env, norm_reward=False, clip_obs=CLIP_OBSERVATIONS)
    PPO("MlpPolicy", venv, seed=cfg.seed, device="cpu", **settings).learn(cfg.steps)
    env.close()
    last = [e.true_return for e in env.episodes if (1 - FINAL_SHARE) * cfg.steps < e.step <= cfg.steps]
    return float(np.mean(last))


def comparison(task: str) -> CompareConfig:
    """What `prefrl compare` is asked."""
    asked = {"labels": (LABELS,), "steps": STEPS[task], "seeds": SEEDS, "preset": "classic"}
    return CompareConfig(env=task, **asked, out=Path("runs/scale") / task)


def run(task: str) -> None:
    """Run what the committed data of a task lacks, and put each result in as it comes: the true reward first."""
    config = comparison(task)
    commit = versions()["commit"]
    zero = random_return(config, folder_of(config), keep=True)
    _put({"task": task, "arm": RANDOM, "seed": "0", "steps": "0", "final_true_return": f"{zero:.6g}", "commit": commit})
    runs = plan_runs(config, folder_of(config))
    for one in sorted(runs, key=lambda run: arm_name(run) != TRUE_REWARD):
        arm = arm_name(one)
        about = {"task": task, "seed": str(one.seed), "steps": str(one.steps), "commit": commit}
        if arm == TRUE_REWARD and (task, PLAIN, one.seed) not in _read():
            _put({**about, "arm": PLAIN, "final_true_return": f"{plain(replace(one, out=None)):.6g}"})
        if (task, arm, one.seed) in _read():
            continue
        if not is_done(one):
            set_aside(one)
            run_one(one)
        assert one.out is not None
        _put({**about, "arm": arm, "final_true_return": f"{read_outcome(one.out).final:.6g}"})


def report() -> str:
    """Results as Markdown, whether the true reward does as well as plain PPO, and what is missing."""
    rows = _read()
    order = [RANDOM, PLAIN, TRUE_REWARD, f"{LABELS} labels"]
    lines = [("task", "arm", "seeds", "IQM", "worst", "best", "of plain PPO")]
    claims = []
    for task in dict.fromkeys(task for task, _, _ in rows):
        arms: dict[str, list[float]] = {}
        for (of, arm, _), row in rows.items():
            if of == task:
                arms.setdefault(arm, []).append(float(row["final_true_return"]))
        zero = arms[RANDOM][0]
        plainly = interquartile_mean(arms[PLAIN]) if PLAIN in arms else math.nan
        for arm in sorted(arms, key=order.index):
            middle = interquartile_mean(arms[arm])
            share = share_of_way(middle, zero, plainly)
            numbers = (f"{x:z,.4g}" for x in (middle, min(arms[arm]), max(arms[arm])))
            lines.append((task, arm, str(len(arms[arm])), *numbers, "-" if share is None else f"{share:z.2f}"))
            if arm == TRUE_REWARD and share is not None:
                met = "met" if share >= LEAST else "missed"
                claims.append(f"{task}: the true reward is to reach {LEAST} of plain PPO: {share:z.2f}, {met}.")
    commits = ", ".join(sorted({row["commit"] for row in rows.values()}))
    note = (
        f"True return over the last {FINAL_SHARE:.0%} of the steps; of plain PPO: the share of the way from random "
        f"actions to its interquartile mean (IQM). Commit {commits}."
    )
    missing = len(STEPS) * 3 * SEEDS - sum(arm != RANDOM for _, arm, _ in rows)
    left = f"{missing} of {len(STEPS) * 3 * SEEDS} runs are missing: `--run` makes them." if missing else ""
    return "\n\n".join(part for part in (markdown(lines, text=2), note, " ".join(claims), left) if part)


def _put(row: dict[str, str]) -> None:
    """A result into its task's data, in place of the one before it."""
    rows = _read([row["task"]])
    rows[row["task"], row["arm"], int(row["seed"])] = row
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{row['task']}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[key] for key in sorted(rows))


def _read(tasks: Iterable[str] = STEPS) -> Finals:
    rows: Finals = {}
    for path in (FOLDER / f"{task}.csv" for task in tasks):
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows |= {(row["task"], row["arm"], int(row["seed"])): row for row in csv.DictReader(file)}
    return rows


def main(ask: Ask) -> None:
    """Run what is asked for, and put the table into the README of the benchmarks."""
    for_small_networks()
    for task in ask.tasks if ask.run else ():
        run(task)
    if not _read():
        sys.exit("there are no results yet: python -m benchmarks.scale --run")
    write_between(README, "scale", report())
    print(report())


if __name__ == "__main__":
    main(tyro.cli(Ask))
