"""Direct methods through `prefrl train`, against exact answers: what they find, what they imply, what biases them.

The teacher says exact Bradley-Terry probabilities, all answers come before training, and every step is on all of them.
"""

from typing import Any

import numpy as np
import pytest

from prefrl.exact.solver import Solution, solve, total_variation
from prefrl.exact.world import World
from prefrl.policies.policy import Policy
from prefrl.run import train
from prefrl.runs.saved import SavedRun, load_run
from prefrl.settings.config import TrainConfig

BANDIT = TrainConfig(
    env="prefrl/ContextualBandit-v0", method="dpo", beta=1.0, labels=300, steps=4000, explore_steps=2400,
    initial_labels=1.0, teachers=("soft",), held_out=0.0, batch=300, initial_epochs=200, fit_updates=20, phases=10,
    set=("learning_rate=lin_0.03", "n_steps=20"), clone_segments="none", tensorboard=False,
)  # fmt: skip
SMALL = {"prompts": 2, "tokens": 3, "length": 3, "rewarded": "token"}
WRITER = {"env": "prefrl/TokenWriter-v0", "env_kwargs": tuple(f"{name}={value}" for name, value in SMALL.items())}
BY_REGRET = {**WRITER, "env_kwargs": (*WRITER["env_kwargs"], "pays=entropy-advantage")}
MORE = {"labels": 400, "steps": 8000, "explore_steps": 6400, "batch": 400}
PIECES = {"pairs": "any", "segment_steps": 2}  # of texts, wherever they begin


def trained(folder: Any, **changes: Any) -> SavedRun:
    config = {**vars(BANDIT), **changes, "out": folder / "run"}
    return load_run(train(TrainConfig(**config), quiet=True))


def learned(run: SavedRun, world: World) -> np.ndarray:
    return run.policy.probabilities(world.observations)


def anchor(run: SavedRun, world: World) -> np.ndarray:
    """What the run's reference does in every state."""
    env = run.make_env()
    reference = Policy(run.folder / "reference.safetensors", env.observation_space, env.action_space)
    return reference.probabilities(world.observations)


def apart(run: SavedRun, world: World, best: Solution) -> float:
    return total_variation(world, learned(run, world), best.policy)


def implied(run: SavedRun, world: World) -> np.ndarray:
    """What the saved implicit reward says of every action in every state."""
    state, action = (part.ravel() for part in np.indices(world.rewards.shape))
    return run.r_hat.member_rewards(world.observations[state], action)[0].numpy().reshape(world.rewards.shape)


@pytest.fixture(scope="module")
def writer() -> World:
    return World.make("prefrl/TokenWriter-v0", **SMALL)


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_dpo_finds_the_bandits_closed_form(tmp_path, beta):
    run, world = trained(tmp_path, beta=beta), World.make("prefrl/ContextualBandit-v0")
    best = solve(world.anchored(anchor(run, world)), beta)
    assert total_variation(world, best.policy, anchor(run, world)) > 0.2
    assert apart(run, world, best) < 1e-3
    log_ratio = np.log(learned(run, world) / anchor(run, world))
    differences = beta * (log_ratio - log_ratio[:, :1])  # the partition function cancels
    np.testing.assert_allclose(differences, world.rewards - world.rewards[:, :1], atol=0.01)


def test_cpl_finds_the_optimal_policy_from_regret_and_is_biased_where_it_is_conservative(tmp_path):
    paid = {"env_kwargs": ("pays=entropy-advantage",), "method": "cpl"}
    world = World.make("prefrl/ContextualBandit-v0")
    best = solve(world.anchored(np.ones_like(world.rewards)), 1.0)
    exact = apart(trained(tmp_path / "1", conservative=1.0, **paid), world, best)
    biased = apart(trained(tmp_path / "2", conservative=0.5, **paid), world, best)
    assert exact < 1e-3
    assert 0.05 < biased < 0.2


def test_dpos_reward_of_a_token_is_the_soft_advantage(tmp_path, writer):
    run = trained(tmp_path, **WRITER, **MORE)
    best = solve(writer.anchored(anchor(run, writer)), 1.0)
    assert apart(run, writer, best) < 5e-3
    np.testing.assert_allclose(implied(run, writer), best.advantage, atol=0.05)
    assert np.abs(best.advantage - writer.rewards).max() > 0.3  # which is not the reward


def test_segments_of_other_starts_bias_dpo_and_not_cpl(tmp_path, writer):
    """The sum of advantages is sum r + V(s_T) - V(s_0): an answer by returns of pieces is none by advantages."""
    dpo = trained(tmp_path / "dpo", **WRITER, **MORE, **PIECES)
    by_regret = trained(tmp_path / "regret", **BY_REGRET, **MORE, **PIECES, method="cpl", conservative=1.0)
    best = solve(writer.anchored(anchor(dpo, writer)), 1.0)
    assert apart(dpo, writer, best) > 0.02
    assert np.abs(implied(dpo, writer) - best.advantage).max() > 0.2
    alone = solve(writer.anchored(np.ones_like(writer.rewards)), 1.0)
    assert apart(by_regret, writer, alone) < 5e-3


def test_the_sum_of_advantages_is_that_of_rewards_up_to_the_values_of_its_ends(writer):
    best = solve(writer, 0.7)
    for state, actions in ((0, (1, 2)), (0, (2, 1, 1)), (1, (0,))):
        advantage = reward = 0.0
        at = state
        for action in actions:
            advantage, reward = advantage + best.advantage[at, action], reward + writer.rewards[at, action]
            at = int(writer.successors[at, action, 0])
        after = 0.0 if at < 0 else best.value[at]
        assert advantage == pytest.approx(reward + after - best.value[state])


@pytest.mark.long
def test_dpo_finds_the_text_worlds_closed_form(tmp_path):
    """4 prompts, 6 tokens, length 5, rewarded at the end: 12,000 answers, in minibatches of 1,000."""
    how = {
        "env": "prefrl/TokenWriter-v0", "labels": 12_000, "steps": 132_000, "explore_steps": 128_000, "batch": 1000,
        "keep_steps": 200_000, "initial_epochs": 60, "fit_updates": 60, "phases": 20,
        "set": ("learning_rate=lin_0.1", "n_steps=25"),
    }  # fmt: skip
    run, world = trained(tmp_path, **how), World.make("prefrl/TokenWriter-v0")
    best = solve(world.anchored(anchor(run, world)), 1.0)
    assert total_variation(world, best.policy, anchor(run, world)) > 0.2
    assert apart(run, world, best) <= 0.02
