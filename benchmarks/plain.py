"""stable-baselines3's learners alone: what learning costs when nobody is asked anything.

    python -m benchmarks.plain --env HalfCheetah-v5 --steps 100000

On the same vector environment and with the same settings as `prefrl baseline`; with --own-defaults on
stable-baselines3's own `make_vec_env` with PPO's own defaults. Prints wall seconds, those of learning among them, the
steps, the last true return, and what made them (`prefrl.runs.fingerprint`).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro
from stable_baselines3.common.env_util import make_vec_env as own_make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

from prefrl.experience.backends import make_vec_env
from prefrl.policies.learners import learner_class
from prefrl.runs.fingerprint import made_by, modules_from, settings_hash, short_hash
from prefrl.runs.resolve import resolve
from prefrl.settings.config import BaselineConfig
from prefrl.settings.values import name_value
from prefrl.words.process import for_small_networks
from prefrl.words.spaces import is_image


@dataclass(frozen=True)
class Plain:
    """One run of a learner of stable-baselines3 on the true reward."""

    env: str = "HalfCheetah-v5"
    """Task."""
    steps: int = 1_000_000
    """Environment steps."""
    seed: int = 0
    """Of the run."""
    learner: str = "ppo"
    """ppo or a2c."""
    n_envs: int | None = None
    """Environments. Default: by family."""
    own_defaults: bool = False
    """stable-baselines3's own environments and settings instead of ours."""


def main(ask: Plain) -> None:
    """Run, and print a line of JSON."""
    for_small_networks()
    start = time.perf_counter()
    settings: dict[str, Any] = {}
    venv: VecEnv
    asked = short_hash(repr(ask))
    if ask.own_defaults:
        venv = own_make_vec_env(ask.env, seed=ask.seed)
    else:
        asked_for = BaselineConfig(
            env=ask.env, steps=ask.steps, seed=ask.seed, learner=ask.learner, n_envs=ask.n_envs
        )  # fmt: skip
        cfg = resolve(asked_for)
        settings = {name: schedule(value) for name, value in name_value(cfg.set, "learner setting").items()}
        asked = settings_hash(cfg)
        assert cfg.n_envs
        kwargs = name_value(cfg.env_kwargs or (), "environment argument")
        venv = VecMonitor(make_vec_env(cfg.env, cfg.n_envs, cfg.seed, cfg.backend, kwargs))
    pixels = is_image(venv.observation_space)
    venv = venv if pixels else VecNormalize(venv)
    algorithm = learner_class(ask.learner)
    learner = algorithm("CnnPolicy" if pixels else "MlpPolicy", venv, seed=ask.seed, device="cpu", **settings)
    began = time.perf_counter()
    learner.learn(ask.steps)
    finished = [episode["r"] for episode in learner.ep_info_buffer or []]
    result = {
        "seconds": time.perf_counter() - start,
        "learning": time.perf_counter() - began,
        "steps": learner.num_timesteps,
        "true_return": float(np.mean(finished)) if finished else None,
        "settings": asked,
        "modules": modules_from("__main__", *made_by(ask.env)),
    }
    print(json.dumps(result))


def schedule(value: Any) -> Any:
    """A "lin_x" as stable-baselines3 takes it: a function of the share of the run that is left."""
    if not (isinstance(value, str) and value.startswith("lin_")):
        return value
    start = float(value.removeprefix("lin_"))
    return lambda left: start * left


if __name__ == "__main__":
    main(tyro.cli(Plain))
