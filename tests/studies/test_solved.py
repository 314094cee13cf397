"""A run against the optimum of its world: by its reward and by its policy, with the reference that it had."""

from pathlib import Path

import numpy as np
import pytest
from helpers import sentence

from prefrl.baseline import run_baseline
from prefrl.cli import main
from prefrl.exact.solver import expected_kl, solve, total_variation
from prefrl.exact.world import World
from prefrl.run import train
from prefrl.runs.saved import SavedRun, load_run
from prefrl.settings.config import BaselineConfig, TrainConfig
from prefrl.studies.solved import standing, world_of
from prefrl.words.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SavedRun:
    """A bandit's policy, held near its start and paid a reward that exact answers taught."""
    config = TrainConfig(
        env="prefrl/ContextualBandit-v0", env_kwargs=("contexts=2", "actions=3"), labels=100, steps=12_288,
        explore_steps=512, initial_labels=1.0, initial_epochs=60, teachers=("soft",), noise_floor=0.0, phases=3,
        kl_beta=0.5, set=("learning_rate=lin_1e-2",), tensorboard=False, out=tmp_path_factory.mktemp("solved") / "run",
    )  # fmt: skip
    return load_run(train(config, quiet=True))


def test_what_is_missing_is_the_rewards_or_the_policys(run: SavedRun) -> None:
    found, world = standing(run), world_of(run)
    assert found["beta"] == 0.5
    assert np.abs(world.reference - 1 / 3).max() < 0.1  # the policy that it began with, which is not quite uniform
    assert not np.array_equal(world.reference, np.full((2, 3), 1 / 3))
    policy = run.policy.probabilities(world.observations)
    assert found["total_variation"] == total_variation(world, policy, solve(world, 0.5).policy)
    assert found["total_variation"] <= found["of_the_reward"] + found["of_the_policy"] + 1e-12
    assert found["of_the_reward"] < 0.03
    assert found["of_the_policy"] < 0.1
    assert found["kl"] == pytest.approx(expected_kl(world, policy))
    assert 0 <= found["shortfall"] < 0.05
    assert found["reference_return"] < found["true_return"]
    elsewhere = standing(run, beta=0.1)
    assert elsewhere["total_variation"] > found["total_variation"] + 0.05
    assert elsewhere["best_return"] > found["best_return"]


def test_at_the_command_line(run: SavedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    true = run_baseline(
        BaselineConfig(env="prefrl/Dialogue-v0", steps=2048, tensorboard=False, out=tmp_path / "true"), quiet=True
    )
    assert main(["solve", str(run.folder), str(true)]) == 0
    rows = {row.split("|")[1].strip(): row.split("|")[2:4] for row in capsys.readouterr().out.splitlines()}
    assert float(rows["total_variation"][0]) == pytest.approx(standing(run)["total_variation"], abs=1e-3)
    assert rows["of_the_reward"][1].strip() == "-"  # nothing was learned but the policy
    assert float(rows["best_return"][1]) == pytest.approx(
        World.make("prefrl/Dialogue-v0").start @ solve(World.make("prefrl/Dialogue-v0"), 0.0).value, abs=1e-3
    )


def test_wrong_input_is_a_sentence(run: SavedRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="beta=-1") as refused:
        standing(run, beta=-1.0)
    sentence(refused.value)
    config = BaselineConfig(env="CartPole-v1", steps=512, n_envs=2, tensorboard=False, out=tmp_path / "pole")
    with pytest.raises(UserError, match="cannot be enumerated"):
        standing(load_run(run_baseline(config, quiet=True)))
