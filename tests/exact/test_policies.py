"""A saved policy, enumerated: its chances in every state are those with which it acts."""

import numpy as np

from prefrl.exact.solver import episodes, total_variation
from prefrl.exact.world import World
from prefrl.run import train
from prefrl.runs.saved import load_run
from prefrl.settings.config import TrainConfig


def test_a_trained_policy_is_enumerated(tmp_path):
    folder = train(
        TrainConfig(
            env="prefrl/Dialogue-v0",
            env_kwargs=("turns=2",),
            labels=10,
            steps=2000,
            explore_steps=400,
            set=("n_steps=50", "learning_rate=0.01", "gamma=1.0"),
            out=tmp_path / "run",
        ),
        quiet=True,
    )
    run = load_run(folder)
    world = World.of(run.make_env())
    chances = run.policy.probabilities(world.observations)
    assert chances.shape == world.rewards.shape
    np.testing.assert_allclose(chances.sum(1), 1)
    assert np.abs(chances - 1 / 3).max() > 0.01  # it has learned something
    for state, shown in enumerate(world.observations):
        acted = np.bincount(run.policy.act(np.tile(shown, (4000, 1))), minlength=3) / 4000
        np.testing.assert_allclose(acted, chances[state], atol=0.04)
    _, (chance,) = episodes(world, chances)
    assert len(chance) == 4 * 3**2 * 2**2  # each answer has its effect, or has not
    assert 0 < total_variation(world, chances, world.reference) < 1
