"""Runs that are held near their reference, against the policy that is best in view of it, by enumeration."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prefrl.baseline import run_baseline
from prefrl.exact.solver import expected_kl, solve, total_variation
from prefrl.exact.world import World
from prefrl.policies.policy import Policy
from prefrl.policies.reference import FILE
from prefrl.run import train
from prefrl.runs.saved import SavedRun, load_run
from prefrl.settings.config import BaselineConfig, TrainConfig

BANDIT = BaselineConfig(
    env="prefrl/ContextualBandit-v0",
    steps=30_000,
    n_envs=8,
    set=("n_steps=64", "batch_size=512", "n_epochs=4", "learning_rate=lin_1.5e-2"),
    kl_beta=0.5,
    checkpoint_every=0,
    tensorboard=False,
)


def anchored_world(run: SavedRun) -> World:
    """A run's world, with the reference that the run had."""
    env = run.make_env()
    world = World.of(env)
    reference = Policy(run.folder / FILE, env.observation_space, env.action_space)
    return world.anchored(reference.probabilities(world.observations))


def apart(run: SavedRun, world: World, beta: float) -> float:
    """Total variation of a run's policy to the best one, the mean over where episodes begin."""
    return total_variation(world, run.policy.probabilities(world.observations), solve(world, beta).policy)


def test_ppo_comes_to_the_optimum_of_a_bandit(tmp_path: Path) -> None:
    run = load_run(run_baseline(replace(BANDIT, out=tmp_path / "run"), quiet=True))
    world = anchored_world(run)
    assert apart(run, world, 0.5) <= 0.02
    assert apart(run, world, 0.25) > 0.1  # so it is that of this beta
    expected = expected_kl(world, run.policy.probabilities(world.observations), world.reference)
    assert run.metrics["kl"][-1] == pytest.approx(expected, rel=0.05)


def test_and_of_a_learned_reward_in_log_odds(tmp_path: Path) -> None:
    """What the reward is scaled by scales the term: the optimum is that of the members' log-odds."""
    config = TrainConfig(
        env=BANDIT.env, steps=BANDIT.steps, n_envs=8, set=BANDIT.set, checkpoint_every=0, tensorboard=False,
        out=tmp_path / "run", kl_beta=1.5, labels=300, segment_steps=1, freeze_reward_at=0.3, reward_std=0.2,
        teachers=("stochastic",),
    )  # fmt: skip
    run = load_run(train(config, quiet=True))
    world = anchored_world(run)
    states, actions = world.rewards.shape
    paid = run.r_hat.reward(world.observations.repeat(actions, 0), np.tile(np.arange(actions), states))
    learned = world.paying(paid.reshape(world.rewards.shape).astype(np.float64) / run.r_hat.unit)
    assert run.r_hat.unit < 0.5  # so that it matters
    assert learned.rewards.std() > 0.5
    assert apart(run, learned, 1.5) <= 0.02


@pytest.mark.long
def test_ppo_comes_to_the_optimum_of_texts_written_by_the_token(tmp_path: Path) -> None:
    settings = (
        "n_steps=128", "batch_size=1024", "n_epochs=8", "learning_rate=lin_1e-2", "gamma=1.0", "gae_lambda=0.95",
    )  # fmt: skip
    config = replace(
        BANDIT, env="prefrl/TokenWriter-v0", steps=200_000, kl_beta=1.0, set=settings, out=tmp_path / "run"
    )
    run = load_run(run_baseline(config, quiet=True))
    assert apart(run, anchored_world(run), 1.0) <= 0.05
