"""Preferences in the exact worlds, through `train`: what is asked and answered, and what the reward learns of it."""

import numpy as np
import pytest

from prefrl.exact.solver import solve, total_variation
from prefrl.exact.world import World
from prefrl.run import train
from prefrl.runs.saved import load_run
from prefrl.settings.config import TrainConfig


@pytest.fixture(scope="module")
def bandit(tmp_path_factory):
    """A bandit of 6 different segments, asked about 150 times, with exact answers and no noise assumed."""
    config = TrainConfig(
        env="prefrl/ContextualBandit-v0",
        env_kwargs=("contexts=2", "actions=3"),
        labels=150,
        steps=4096,
        explore_steps=512,
        initial_labels=1.0,
        initial_epochs=100,
        teachers=("soft",),
        noise_floor=0.0,
        phases=2,
        tensorboard=False,
        out=tmp_path_factory.mktemp("exact") / "run",
    )
    return load_run(train(config, quiet=True))


def test_every_question_is_an_occasion_and_of_one_start(bandit):
    assert bandit.config.pairs == "same-start"
    asked = bandit.answers
    assert len(asked) == len({answer.query.key for answer in asked}) == 150
    segments = [s for answer in asked for s in (answer.query.left, answer.query.right)]
    assert len({segment.key for segment in segments}) == 6
    assert len({segment.occasion for segment in segments}) > 100
    for answer in asked:
        left, right = answer.query.left, answer.query.right
        assert np.array_equal(left.observations, right.observations)


def test_answers_are_the_likelihoods_own_numbers(bandit):
    for answer in bandit.answers:
        gap = answer.query.left.rewards.sum() - answer.query.right.rewards.sum()
        assert answer.mu == pytest.approx(1 / (1 + np.exp(-gap)), abs=1e-12)
    assert len({round(answer.mu, 9) for answer in bandit.answers}) > 3


def test_the_learned_reward_is_the_true_one_up_to_the_context(bandit):
    world = World.of(bandit.make_env())
    states, actions = np.indices(world.rewards.shape).reshape(2, -1)
    members = bandit.r_hat.member_rewards(world.observations[states], actions).double().numpy()
    learned = members.mean(0).reshape(world.rewards.shape)
    apart = learned - world.rewards
    np.testing.assert_allclose(apart - apart.mean(1, keepdims=True), 0, atol=0.1)
    beta = 0.5
    assert total_variation(world, solve(world.paying(learned), beta).policy, solve(world, beta).policy) < 0.02


def test_whole_episodes_are_segments_and_advantages_are_regrets(tmp_path):
    config = TrainConfig(
        env="prefrl/TokenWriter-v0",
        env_kwargs=("prompts=2", "tokens=4", "length=3", "pays=entropy-advantage", "beta=0.5"),
        labels=40,
        steps=4096,
        phases=2,
        pairs="any",
        tensorboard=False,
        out=tmp_path / "run",
    )
    run = load_run(train(config, quiet=True))
    assert run.config.segment_steps == 3
    plain = World.make("prefrl/TokenWriter-v0", prompts=2, tokens=4, length=3)
    best = solve(plain.anchored(np.ones_like(plain.rewards)), 0.5)
    place = {row.tobytes(): n for n, row in enumerate(plain.observations)}
    starts = set()
    for answer in run.answers:
        regrets = []
        for segment in (answer.query.left, answer.query.right):
            states = [place[row.tobytes()] for row in segment.observations]
            starts.add(segment.offset)
            regrets.append(0.5 * np.log(best.policy[states, segment.actions]).sum())
        assert answer.mu == (0.5 if np.isclose(*regrets) else float(regrets[0] > regrets[1]))
    assert len(starts) > 1  # of any two: regrets can be compared wherever segments begin


def test_episodes_are_whole_where_they_are_compared_by_their_start(tmp_path):
    config = TrainConfig(
        env="prefrl/TokenWriter-v0", labels=30, steps=2048, phases=2, tensorboard=False, out=tmp_path / "run"
    )
    run = load_run(train(config, quiet=True))
    lengths = set()
    for answer in run.answers:
        for segment in (answer.query.left, answer.query.right):
            assert segment.offset == 0
            ends_itself = segment.actions[-1] == 0
            assert ends_itself or len(segment) == 5
            lengths.add(len(segment))
        assert np.array_equal(answer.query.left.observations[0], answer.query.right.observations[0])
    assert len(lengths) > 2
