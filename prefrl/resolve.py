"""A configuration checked against its environment, with every default filled in, before anything is written."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from prefrl import presets
from prefrl.config import BaselineConfig, TrainConfig
from prefrl.labelers import LABELERS
from prefrl.labelers.oracle import parse_teacher
from prefrl.learners import check_settings, learner_class
from prefrl.lookup import lookup
from prefrl.preference import UserError
from prefrl.queries import STRATEGIES
from prefrl.reward_model import encoded_size
from prefrl.schedules import SCHEDULES
from prefrl.vector import find_spec, is_image, make_env

C = TypeVar("C", bound=BaselineConfig)


def resolve(config: C) -> C:
    """The configuration with no field left to default, or one sentence about the first thing wrong with it.

    Raises:
        UserError: anything that the run could not do as asked.
    """
    _check_numbers(config)
    learner_class(config.learner)
    spec = find_spec(config.env)
    preset, segment_steps, env_kwargs, image = _defaults(config)
    settings = {**preset.learners.get(config.learner, {}), **presets.name_value(config.set, "learner setting")}
    check_settings(config.learner, settings)
    horizon = spec.max_episode_steps
    n_envs = config.n_envs or _divisor(config.steps, preset.n_envs)
    if config.steps % n_envs:
        below = config.steps // n_envs * n_envs
        raise UserError(
            f"steps={config.steps} cannot be taken {n_envs} environments at a time: ask for {below or n_envs} or "
            f"{below + n_envs} steps, or another n_envs."
        )
    if isinstance(config, TrainConfig):
        segment_steps = config.segment_steps or segment_steps
    explore_steps = config.explore_steps
    if explore_steps is None:
        explore_steps = n_envs * max(2 * segment_steps, round(0.02 * config.steps / n_envs))
    if explore_steps % n_envs or not 0 <= explore_steps < config.steps:
        raise UserError(
            f"explore_steps={explore_steps} must be a multiple of n_envs={n_envs} and below steps={config.steps}: "
            f"take more steps, or fewer environments."
        )
    if config.device not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {config.device!r}: it is auto, cpu or cuda.")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda was asked for and torch sees no CUDA device: use auto or cpu.")
    fastest = "cuda" if image and torch.cuda.is_available() else "cpu"
    common: dict[str, Any] = {
        "n_envs": n_envs,
        "env_kwargs": env_kwargs,
        "set": tuple(f"{name}={value}" for name, value in settings.items()),
        "explore_steps": explore_steps,
        "reward_std": config.reward_std or preset.reward_std,
        "device": fastest if config.device == "auto" else config.device,
        "out": Path(config.out or _folder(config)),
    }
    if isinstance(config, TrainConfig):
        lookup("strategy", config.strategy, STRATEGIES)
        lookup("schedule", config.schedule, SCHEDULES)
        lookup("labeler", config.labeler, LABELERS)
        for teacher in config.teachers:
            parse_teacher(teacher)
        if horizon is not None and segment_steps > horizon:
            raise UserError(
                f"segment_steps={segment_steps} is longer than an episode of {config.env}, which ends after {horizon} "
                f"steps: ask for {horizon} or fewer."
            )
        if segment_steps * n_envs > explore_steps:
            raise UserError(
                f"explore_steps={explore_steps} over {n_envs} environments is shorter than a segment of "
                f"{segment_steps} steps: take at least {segment_steps * n_envs}."
            )
        shown = 2 * config.labels * segment_steps
        if shown > config.steps:
            raise UserError(
                f"{config.labels} labels cannot fit in {config.steps} steps: they show {shown} steps of behaviour (two "
                f"segments of {segment_steps} each), so ask for {config.steps // (2 * segment_steps)} labels or fewer."
            )
        common |= {
            "segment_steps": segment_steps,
            "entropy_bonus": preset.entropy_bonus if config.entropy_bonus is None else config.entropy_bonus,
            "max_answers": config.max_answers or preset.max_answers,
        }
    _check_folder(common["out"])
    return replace(config, **common)


def _defaults(config: BaselineConfig) -> tuple[presets.Preset, int, tuple[str, ...], bool]:
    """The environment's preset, segment length, arguments, and whether it shows pixels.

    The environment is made once, to see its spaces.

    Raises:
        UserError: it cannot be made, or a reward cannot be learned on its spaces.
    """
    spec = find_spec(config.env)
    env_kwargs = config.env_kwargs
    if env_kwargs is None:
        gymnasium_mujoco = str(spec.entry_point).startswith("gymnasium.envs.mujoco")
        env_kwargs = presets.ENV_KWARGS.get(spec.name, ()) if gymnasium_mujoco else ()
    env = make_env(config.env, presets.name_value(env_kwargs, "environment argument"))
    encoded_size(env.observation_space)
    image = is_image(env.observation_space)
    preset = presets.FAMILIES[presets.family(config.env, str(spec.entry_point), image)]
    segment_steps = env.metadata.get("segment_steps") or presets.SEGMENT_STEPS.get(spec.name, preset.segment_steps)
    env.close()
    if spec.max_episode_steps is not None and env.metadata.get("segment_steps") is None:
        segment_steps = min(segment_steps, spec.max_episode_steps)
    return preset, int(segment_steps), env_kwargs, image


def _check_numbers(config: BaselineConfig) -> None:
    positive = ["steps", "n_envs", "phases", "reward_window", "reward_std"]
    if isinstance(config, TrainConfig):
        positive += ["labels", "candidates", "segment_steps", "keep_steps", "members", "reward_learning_rate"]
        positive += ["batch", "initial_epochs", "fit_updates", "max_answers"]
        for name in ("noise_floor", "initial_labels"):
            value = getattr(config, name)
            if not 0 <= value <= 1:
                raise UserError(f"{name}={value} is a share: it must lie between 0 and 1.")
        if not 0 <= config.l2 < math.inf:
            raise UserError(f"l2={config.l2} must be zero (no penalty) or more.")
    for name in positive:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{name}={value} must be more than zero.")
    if config.seed < 0:
        raise UserError(f"seed={config.seed} must be zero or more.")


def _divisor(steps: int, most: int) -> int:
    """The largest number of environments, `most` at most, that divides the steps; `most` if none of half that does."""
    return next((n for n in range(most, most // 2, -1) if steps % n == 0), most)


def _folder(config: BaselineConfig) -> Path:
    arm = f"labels{config.labels}" if isinstance(config, TrainConfig) else "true-reward"
    return Path("runs") / config.env.replace("/", "-").replace(":", "-") / f"{arm}-seed{config.seed}"


def _check_folder(folder: Path) -> None:
    if folder.exists():
        raise UserError(f"the run folder {str(folder)!r} exists already: choose another with --out, or remove it.")
    parent = next(p for p in [*folder.absolute().parents] if p.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise UserError(f"cannot write the run folder {str(folder)!r}: no permission to write in {str(parent)!r}.")
