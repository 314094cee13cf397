"""Does any environment work? Third-party packages that this code has never heard of, trained end to end.

    python -m benchmarks.any_env

A virtual environment of its own (runs/any_env/venv) takes the packages below, pinned; everything else it borrows from
the interpreter that runs this. Written: what was trained, and the sentences with which the rest was refused.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from math import isfinite
from operator import itemgetter
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tyro
from gymnasium.spaces import Box

from prefrl.run import train
from prefrl.runs.runlog import read_table, versions
from prefrl.runs.saved import load_run
from prefrl.settings.config import TrainConfig
from prefrl.words.errors import UserError

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "any_env.json"

# Installed without their dependencies, which follow where the interpreter does not have them: nothing that is there
# already (torch, MuJoCo, Gymnasium) is replaced.
PACKAGES = (
    "box2d==2.3.10",
    "dm_control==1.0.47",
    "flappy-bird-gymnasium==0.4.0",
    "gymnasium-robotics==1.4.2",
    "highway-env==1.12.1",
    "minigrid==3.2.0",
    "popgym==1.0.7",
    "shimmy==2.0.1",
    "vizdoom==1.3.2",
    "labmaze==1.0.6",
    "lxml==6.1.3",
    "pandas==3.1.1",
    "pettingzoo==1.27.0",
    "pygame-ce==2.5.8",
)


def minigrid_view(**kwargs: Any) -> gym.Env[Any, Any]:
    """MiniGrid's view of 7 x 7 cells without its mission, a text: an image too small for a convolution."""
    env = gym.make("minigrid:MiniGrid-Empty-5x5-v0", **kwargs)
    return gym.wrappers.TransformObservation(env, itemgetter("image"), Box(0, 255, (7, 7, 3), np.uint8))


def vizdoom_screen(**kwargs: Any) -> gym.Env[Any, Any]:
    """VizDoom's screen alone, every third pixel down and every fourth across."""
    env = gym.make("vizdoom.gymnasium_wrapper:VizdoomBasic-v1", **kwargs)
    space = Box(0, 255, (80, 80, 3), np.uint8)
    return gym.wrappers.TransformObservation(env, lambda shown: shown["screen"][::3, ::4], space)


WRAPPED = {"any_env/MiniGrid-v0": minigrid_view, "any_env/VizDoom-v0": vizdoom_screen}


@dataclass(frozen=True)
class Trial:
    """One environment, and why it is here.

    Attributes:
        kinds: of spaces and endings that it stands for.
        package: that it comes from.
        env: its id.
        settings: of the run, where they differ from those of all.
    """

    kinds: str
    package: str
    env: str
    settings: dict[str, Any]


PIXELS = {"steps": 2048, "labels": 30, "n_envs": 4, "initial_epochs": 10, "fit_updates": 4, "phases": 10}
TRIALS = (
    Trial("Dict observations", "gymnasium-robotics", "gymnasium_robotics:PointMaze_UMaze-v3", {}),
    Trial("Dict observations, float64 actions", "dm_control", "shimmy:dm_control/cartpole-balance-v0", {}),
    Trial("discrete observations", "popgym", "popgym:popgym-RepeatFirstEasy-v0", {}),
    Trial(
        "MultiDiscrete actions, discrete observations, episodes shorter than a segment",
        "popgym",
        "popgym:popgym-MineSweeperEasy-v0",
        {},
    ),
    Trial("pixels, channels last", "box2d", "CarRacing-v3", PIXELS),
    Trial("pixels, wrapped: a Dict with the screen in it", "vizdoom", "any_env/VizDoom-v0", PIXELS),
    Trial("small images, wrapped: a Dict with a text in it", "minigrid", "any_env/MiniGrid-v0", {}),
    Trial("early termination", "box2d", "LunarLander-v3", {}),
    Trial(
        "early termination, float64 observations", "flappy-bird-gymnasium", "flappy_bird_gymnasium:FlappyBird-v0", {}
    ),
    Trial(
        "early termination, observations of two dimensions",
        "highway-env",
        "highway_env:highway-fast-v0",
        {"steps": 2048, "labels": 30},
    ),
)
REFUSED = ("minigrid:MiniGrid-Empty-5x5-v0", "vizdoom.gymnasium_wrapper:VizdoomBasic-v1")


@dataclass(frozen=True)
class AnyEnv:
    """Train on third-party environments that nothing in this project names but this benchmark."""

    venv: Path = Path("runs/any_env/venv")
    """The virtual environment; made if it is not there."""


def main(ask: AnyEnv) -> None:
    """Install, train, write the results."""
    python = ask.venv.absolute() / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ask.venv)], check=True)
        borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        (found,) = ask.venv.glob("lib/python*/site-packages")
        lines = [f"import site; site.addsitedir({path!r})\n" for path in sorted(borrowed)]
        (found / "borrowed.pth").write_text("".join(lines), encoding="utf-8")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", *PACKAGES]
    subprocess.run(pip, check=True)
    quiet = {"SDL_VIDEODRIVER": "dummy", "MUJOCO_GL": "disable", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    inside = [str(python), "-W", "ignore", "-c", "from benchmarks.any_env import measure; measure()"]
    subprocess.run(inside, check=True, cwd=ROOT, env={**os.environ, **quiet})


def measure() -> None:
    """Train on everything in `TRIALS`, ask for everything in `REFUSED`, and write `RESULTS`; inside the environment."""
    for env_id, make in WRAPPED.items():
        gym.register(env_id, make)
    with tempfile.TemporaryDirectory() as folder:
        trained = [_trained(trial, Path(folder) / str(place)) for place, trial in enumerate(TRIALS)]
        refused = [_refused(env_id, Path(folder) / "refused") for env_id in REFUSED]
    result = {
        "command": "python -m benchmarks.any_env",
        "trained": trained,
        "refused": refused,
        "versions": versions() | {pin.split("==")[0]: version(pin.split("==")[0]) for pin in PACKAGES},
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _trained(trial: Trial, out: Path) -> dict[str, Any]:
    """A run, and what it says of itself once it is read back from its folder."""
    settings = {"steps": 4096, "labels": 60, "n_envs": 8, "tensorboard": False, **trial.settings}
    began = time.process_time()
    run = load_run(train(TrainConfig(env=trial.env, out=out, **settings), quiet=True))
    cpu_seconds = time.process_time() - began
    env = run.make_env()
    observation, _ = env.reset(seed=0)
    action = run.policy.act(np.asarray(observation)[None])[0]
    assert env.action_space.contains(action), f"{trial.env}: the saved policy does {action}"
    measured = {name: [v for v in column if isfinite(v)] for name, column in read_table(out / "metrics.csv").items()}
    last = {name: column[-1] for name, column in measured.items() if column}
    seconds = json.loads((out / "result.json").read_text(encoding="utf-8"))["seconds"]
    row = {
        "env": trial.env,
        "package": trial.package,
        "version": version(trial.package),
        "kinds": trial.kinds,
        "observation_space": _plain(env.unwrapped.observation_space),
        "learned_on": _plain(env.observation_space),
        "action_space": _plain(env.action_space),
        "steps": int(last["step"]),
        "labels_answered": int(last["labels_answered"]),
        "steps_per_second": round(last["step"] / seconds, 1),
        "steps_per_cpu_second": round(last["step"] / cpu_seconds, 1),
        "held_out_accuracy": round(last["held_out_accuracy"], 3),
        "correlation": round(last["correlation"], 3),
    }
    print(json.dumps(row), flush=True)
    env.close()
    return row


def _refused(env_id: str, out: Path) -> dict[str, str]:
    """The sentence that answers the wish to train on this environment as it is."""
    try:
        train(TrainConfig(env=env_id, steps=4096, labels=60, out=out), quiet=True)
    except UserError as error:
        row = {"env": env_id, "sentence": _plain(error)}
        print(json.dumps(row), flush=True)
        return row
    raise AssertionError(f"{env_id} was not refused")


def _plain(thing: object) -> str:
    """What it says of itself, on a line, without addresses in memory."""
    return re.sub(" at 0x[0-9a-f]+", "", " ".join(str(thing).split()))


if __name__ == "__main__":
    main(tyro.cli(AnyEnv))
