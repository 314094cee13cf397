"""Where the time of a step goes when a reward and a policy are learned from pixels, part by part beside its limit.

    python -m benchmarks.atari_parts                              # A2C on Pong, 5,600 labels, 10 million steps
    python -m benchmarks.atari_parts --learner ppo --n-envs 8
    python -m benchmarks.atari_parts --policy-kwargs '{features_extractor_class="SmallCNN"}'

Each part of a run with the shipped settings is called by itself, in turns with the others, and its CPU time is taken,
emulator threads included, so that other work on the machine disturbs little. The limit of the emulator is ALE's own
vector environment; that of a network its multiply-adds at the rate of a large matrix product in the numbers that it
computes with. Prints the table; nothing is written.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
import tyro
from ale_py.vector_env import AtariVectorEnv

from prefrl.experience.recorder import Recorder
from prefrl.experience.task import Task
from prefrl.policies.methods import learn_from_reward
from prefrl.policies.on_policy import Learner
from prefrl.policies.pixels import FrameCNN, in_blocks
from prefrl.queries.labelers import make_labeler
from prefrl.rewards.models import LearnedModel
from prefrl.rewards.networks import CNNs, computes_with_bfloat16
from prefrl.runs.resolve import resolve
from prefrl.settings.config import TrainConfig
from prefrl.settings.resolved import ResolvedTrain
from prefrl.words.process import for_small_networks, has_matrix_units

SIDE = 1024  # of the matrices whose product is the limit of all arithmetic


@dataclass(frozen=True)
class Parts:
    """The parts of an Atari run, each by itself."""

    env: str = "prefrl/Pong-v0"
    """Task, one of the games that come along."""
    learner: str = "a2c"
    """a2c or ppo."""
    n_envs: int = 16
    """Environments."""
    labels: int = 5600
    """Of the run, over which the reward's fit is spread."""
    steps: int = 10_000_000
    """Of the run."""
    policy_kwargs: str | None = None
    """What the policy is made with, as --set takes it."""
    rounds: int = 7
    """Times that each part is measured."""


@dataclass(frozen=True)
class Part:
    """One part of a step.

    Attributes:
        call: does it once.
        per_step: times that it is done for an agent step.
        multiply_adds: of one call; 0 where its limit is none of arithmetic.
        dtype: of the numbers that it computes with.
        limit: does no more than it has to, once.
    """

    call: Callable[[], object]
    per_step: float
    multiply_adds: float = 0.0
    dtype: torch.dtype = torch.float32
    limit: Callable[[], object] | None = None


def cpu_ms(call: Callable[[], object]) -> float:
    """CPU milliseconds of one call, over all threads."""
    start = time.process_time()
    call()
    return (time.process_time() - start) * 1e3


def multiply_adds(shape: tuple[int, ...], layers: tuple[tuple[int, int, int], ...], *hidden: int) -> list[float]:
    """Multiply-adds of each layer: convolutions of (filters, size, stride) on (c, h, w), then widths `hidden`."""
    channels, height, width = shape
    counts: list[float] = []
    for filters, size, stride in layers:
        height, width = (height - size) // stride + 1, (width - size) // stride + 1
        counts.append(height * width * filters * channels * size**2)
        channels = filters
    widths = [channels * height * width, *hidden]
    return counts + [a * b for a, b in pairwise(widths)]


def learning(counts: list[float]) -> float:
    """Forward, the gradients of weights, and those of inputs of all layers but the first."""
    return 3 * sum(counts) - counts[0]


def parts_of(config: ResolvedTrain) -> dict[str, Part]:
    """The parts of a run, ready to be called."""
    rng = np.random.default_rng(0)
    venv = Task.of(config).make_vec(config.n_envs, 0)
    recorder = Recorder(venv, config.env, 0, 4 * config.segment_steps * config.n_envs)
    model, agent = learn_from_reward(config, recorder, rng, rng)
    assert isinstance(model, LearnedModel)
    assert isinstance(agent, Learner)
    agent.explore(4 * config.segment_steps)
    answers = make_labeler("oracle", ("oracle",), 0)(
        recorder.pairs(3 * config.batch, config.segment_steps, rng).queries()
    )
    model.begin(answers)
    agent.learn([agent.rollout_steps], lambda: 0.0)

    policy, buffer = agent.model.policy, agent.model.rollout_buffer
    extractor = policy.features_extractor
    assert isinstance(extractor, FrameCNN)
    assert isinstance(model.r_hat.network, CNNs)
    shape = recorder.observation_space.shape
    assert shape is not None
    rollout = buffer.observations.reshape(-1, *shape)
    frames = torch.as_tensor(rollout[: config.n_envs])
    low = has_matrix_units("cpu") if extractor.in_bfloat16 is None else extractor.in_bfloat16
    acting = multiply_adds(shape, extractor.LAYERS, extractor.features_dim)
    judging = [config.members * c for c in multiply_adds(shape, CNNs.LAYERS, 64, 1)]
    types = torch.bfloat16 if low else torch.float32, torch.bfloat16 if computes_with_bfloat16("cpu") else torch.float32
    actions = np.zeros(config.n_envs, np.int64)
    ale = AtariVectorEnv(gym.spec(config.env).kwargs["game"].lower(), config.n_envs, stack_num=1)
    ale.reset(seed=0)

    def act() -> None:
        policy.set_training_mode(False)
        with torch.no_grad():
            policy(frames)

    def emulate() -> None:
        venv.step_async(actions)
        venv.step_wait()

    once, rollouts = 1 / config.n_envs, 1 / len(rollout)
    passes = getattr(agent.model, "n_epochs", 1)
    images = config.batch * 2 * config.segment_steps
    first = config.initial_epochs * math.ceil(config.labels * config.initial_labels / config.batch)
    updates = first + config.phases * config.fit_updates
    ones = np.zeros((len(rollout), *recorder.action_space.shape), np.int64)
    return {
        "emulator": Part(emulate, once, limit=lambda: ale.step(actions)),
        "emulator and recorder": Part(lambda: recorder.step(actions), once),
        "frames to numbers": Part(lambda: in_blocks(torch.as_tensor(rollout)).to(types[0]), (1 + passes) * rollouts),
        "policy acts": Part(act, once, config.n_envs * sum(acting), types[0]),
        "policy learns": Part(agent.model.train, rollouts, passes * len(rollout) * learning(acting), types[0]),
        "its optimiser alone": Part(policy.optimizer.step, passes * rollouts if passes == 1 else 0.0),
        "reward of a rollout": Part(
            lambda: model.r_hat.reward(rollout, ones), rollouts, len(rollout) * sum(judging), types[1]
        ),
        "an update of its fit": Part(
            lambda: model._fit.run(1), updates / config.steps, images * learning(judging), types[1]
        ),
    }


WITHIN = ("emulator", "frames to numbers", "its optimiser alone")  # parts of other parts, not added once more


def main(ask: Parts) -> None:
    """Measure, and print the table."""
    for_small_networks()
    given = (f"policy_kwargs={ask.policy_kwargs}",) if ask.policy_kwargs else ()
    config = resolve(
        TrainConfig(
            env=ask.env, learner=ask.learner, n_envs=ask.n_envs, labels=ask.labels, steps=ask.steps, set=given,
            device="cpu", out=Path("never-written"),
        )
    )  # fmt: skip
    assert isinstance(config, ResolvedTrain)
    parts = parts_of(config)
    sides = {dtype: torch.randn(SIDE, SIDE).to(dtype) for dtype in (torch.float32, torch.bfloat16)}
    taken: dict[str, list[float]] = {name: [] for name in parts}
    limits: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(ask.rounds + 1):
        products = {dtype: cpu_ms(lambda side=side: side @ side) for dtype, side in sides.items()}
        for name, part in parts.items():
            ms = cpu_ms(part.call)
            limit = cpu_ms(part.limit) if part.limit else part.multiply_adds / SIDE**3 * products[part.dtype]
            if turn:
                taken[name].append(ms)
                limits[name].append(limit)
    whole = {name: statistics.median(taken[name]) * part.per_step for name, part in parts.items()}
    total = sum(ms for name, ms in whole.items() if name not in WITHIN)
    print("| part | ms | ms a step | share | of its limit |\n| :--- | ---: | ---: | ---: | ---: |")
    for name, part in parts.items():
        of_limit = statistics.median(b / a for a, b in zip(taken[name], limits[name], strict=True))
        share = f"{of_limit:.2f}" if part.limit or part.multiply_adds else "-"
        label = f"- {name}" if name in WITHIN else name
        ms = statistics.median(taken[name])
        print(f"| {label} | {ms:.2f} | {whole[name]:.3f} | {whole[name] / total:.0%} | {share} |")
    alone = total - sum(ms for name, ms in whole.items() if "reward" in name or "fit" in name)
    said = f"{total:.3f} ms a step: {1e3 / total:,.0f} steps a CPU second; without the reward {1e3 / alone:,.0f}"
    print(f"\n{said}, {alone / total:.2f} of it.")


if __name__ == "__main__":
    main(tyro.cli(Parts))
