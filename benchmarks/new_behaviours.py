"""Behaviours that no reward of Gymnasium's asks for: a hopper that somersaults, a cheetah on one leg (paper, 3.2).

    python -m benchmarks.new_behaviours            # trains what is missing (runs/new_behaviours), then the report
    python -m benchmarks.new_behaviours --report   # measures and films the finished runs again

The tasks' written proxies stand in for the authors' judgement, through an oracle asked 900 and 800 questions. What
is measured is not the proxy but what the simulator says of the trained policy: turns, and which parts touch the floor.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from prefrl.queries.exchange import read, write
from prefrl.runs.runlog import is_finished, read_table, versions
from prefrl.runs.saved import SavedRun, film_policy, load_run
from prefrl.settings.config import TrainConfig, VideoConfig
from prefrl.studies.batch import is_done
from prefrl.studies.compare import run_all

RESULTS = Path(__file__).parent / "results" / "new_behaviours"
LABELS = {"prefrl/HopperBackflip-v0": 900, "prefrl/HalfCheetahOneLeg-v0": 800}
FOOT = {"foot_geom"}  # of the hopper
BACK_LEG = {"bthigh", "bshin", "bfoot"}  # of the cheetah
EPISODES = 10
LARGEST = 2 << 20  # bytes of a film in the README


@dataclass(frozen=True)
class NewBehaviours:
    """Train, measure and film both behaviours."""

    steps: int = 4_000_000
    """Environment steps of each run."""
    seeds: int = 3
    """Seeds 0, 1, ... of each."""
    jobs: int = 2
    """Runs at a time."""
    runs: Path = Path("runs/new_behaviours")
    """Where the runs are."""
    report: bool = False
    """Only measure and film what is finished."""


def touching(env: Any) -> set[str]:
    """Names of the parts that touch the floor now."""
    model, data = env.unwrapped.model, env.unwrapped.data
    found = set()
    for contact in data.contact[: data.ncon]:
        pair = {model.geom(int(geom)).name for geom in contact.geom}
        if "floor" in pair:
            found |= pair - {"floor"}
    return found


def measure(run: SavedRun, episodes: int = EPISODES) -> dict[str, float]:
    """What the trained policy does over whole episodes, from the simulator; it acts as it did in training.

    Turns are of the hopper's torso, backwards, over simulated time. On its foot or in the air: steps in which nothing
    else touches the floor. On one leg: steps in which the cheetah's back leg touches the floor and nothing else does;
    upright: steps in which nothing but the back leg does, so that leaps count too.
    """
    env = run.make_env()
    turned, clear, standing, metres, steps = 0.0, 0, 0, 0.0, 0
    allowed = FOOT if "Hopper" in run.config.env else BACK_LEG
    for episode in range(episodes):
        torch.manual_seed(episode)  # what the policy draws its actions from
        observation, _ = env.reset(seed=episode)
        begin = env.unwrapped.data.qpos.copy()  # type: ignore[attr-defined]
        done = False
        while not done:
            observation, _, terminated, truncated, _ = env.step(run.policy.act(observation[None])[0])
            parts = touching(env)
            clear += parts <= allowed
            standing += bool(parts) and parts <= allowed
            steps += 1
            done = terminated or truncated
        end = env.unwrapped.data.qpos  # type: ignore[attr-defined]
        turned += float(begin[2] - end[2]) / (2 * np.pi)
        metres += float(end[0] - begin[0])
    minutes = steps * env.unwrapped.dt / 60  # type: ignore[attr-defined]
    env.close()
    if allowed is FOOT:
        return {"turns_per_minute": turned / minutes, "nothing_but_the_foot_touches": clear / steps}
    return {
        "on_one_leg": standing / steps,
        "nothing_but_the_back_leg_touches": clear / steps,
        "metres_per_second": metres / (60 * minutes),
    }


def main(ask: NewBehaviours) -> None:
    """Train, measure, film, and keep the answers."""
    wanted = [
        TrainConfig(env=env, labels=labels, steps=ask.steps, seed=seed, tensorboard=False, out=_folder(ask, env, seed))
        for env, labels in LABELS.items()
        for seed in range(ask.seeds)
    ]
    if not ask.report and (missing := [config for config in wanted if not is_done(config)]):
        run_all(missing, ask.jobs)
    rows: list[dict[str, Any]] = []
    for config in wanted:
        assert config.out is not None
        if is_finished(config.out):
            run = load_run(config.out)
            true_return = float(np.nanmean(read_table(config.out / "metrics.csv")["true_return"][-5:]))
            asked = {"labels": config.labels, "steps": config.steps, "proxy_return": round(true_return, 1)}
            found = {name: round(value, 3) for name, value in measure(run).items()}
            commit = json.loads((config.out / "versions.json").read_text(encoding="utf-8"))["commit"]
            rows.append({"env": config.env, "seed": config.seed, **asked, **found, "commit": commit})
            print(json.dumps(rows[-1]), flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "measured.json").write_text(
        json.dumps({"runs": rows, "versions": versions()}, indent=1) + "\n", encoding="utf-8"
    )
    for env in LABELS:
        mine = [row for row in rows if row["env"] == env]
        if mine:
            best = max(mine, key=lambda row: row["proxy_return"])
            folder = _folder(ask, env, best["seed"])
            name = env.split("/")[1].removesuffix("-v0")
            film = film_policy(VideoConfig(run=folder, out=RESULTS / f"{name}.webp", seconds=6.0, camera="track"))
            assert film.stat().st_size < LARGEST, f"{film} is too large for the README"
            answers = RESULTS / f"{name}-answers"
            shutil.rmtree(answers, ignore_errors=True)  # of an earlier best seed
            write(read(folder), answers, "parquet")


def _folder(ask: NewBehaviours, env: str, seed: int) -> Path:
    return ask.runs / f"{env.split('/')[1].removesuffix('-v0')}-seed{seed}"


if __name__ == "__main__":
    main(tyro.cli(NewBehaviours))
