import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from helpers import sentence

from prefrl.baseline import run_baseline
from prefrl.cli import main
from prefrl.exact.world import World
from prefrl.policies.policy import Policy
from prefrl.policies.reference import FILE
from prefrl.run import train
from prefrl.runs.saved import SavedRun, load_run
from prefrl.settings.config import BaselineConfig, TrainConfig
from prefrl.studies.best_of import best_of, chances_of_best, divergence_of
from prefrl.words.errors import UserError

SETTINGS = {"steps": 800, "set": ("n_steps=50", "batch_size=100"), "tensorboard": False, "checkpoint_every": 0}


@pytest.fixture(scope="module")
def bandit(tmp_path_factory: pytest.TempPathFactory) -> SavedRun:
    folder = tmp_path_factory.mktemp("runs") / "bandit"
    config = BaselineConfig(env="prefrl/ContextualBandit-v0", reference="start", out=folder, **SETTINGS)  # type: ignore[arg-type]
    return load_run(run_baseline(config, quiet=True))


def test_the_chances_are_those_over_every_choice() -> None:
    scores = np.array([3.0, 1.0, 2.0, 2.0, -1.0])
    for n in range(1, 6):
        by_hand = np.zeros(5)
        for chosen in combinations(range(5), n):
            best = [i for i in chosen if scores[i] == scores[list(chosen)].max()]
            by_hand[best] += 1 / len(best) / math.comb(5, n)
        by_hand[2] = by_hand[3] = by_hand[2:4].mean()
        np.testing.assert_allclose(chances_of_best(scores, n), by_hand)
    for wrong in (0, 6):
        with pytest.raises(ValueError, match="cannot be drawn"):
            chances_of_best(scores, wrong)


def test_of_many_episodes_the_chances_are_numbers() -> None:
    chances = chances_of_best(np.arange(5000.0), 2500)
    assert chances.sum() == pytest.approx(1)
    assert chances[-1] == pytest.approx(0.5)


def exactly_best(chances: np.ndarray, scores: np.ndarray, n: int) -> np.ndarray:
    """The chance of each outcome (a,) to be the best of n, drawn with putting back; no two score the same."""
    upto = np.array([chances[scores <= score].sum() for score in scores])
    return upto**n - (upto - chances) ** n


def test_the_best_of_n_is_worth_what_enumeration_says(bandit: SavedRun) -> None:
    env = bandit.make_env()
    world = World.of(env)
    drawn_by = Policy(bandit.folder / FILE, env.observation_space, env.action_space).probabilities(world.observations)
    found = best_of(bandit, (1, 2, 4), starts=600)
    for n, measures in found.items():
        best = np.stack([exactly_best(c, r, n) for c, r in zip(drawn_by, world.rewards, strict=True)])
        assert best.sum() == pytest.approx(4)
        expected = (world.start[:, None] * best * world.rewards).sum()
        low, high = measures["true_return_low"], measures["true_return_high"]
        assert abs(measures["true_return"] - expected) < 1.3 * (high - low) / 2
        # The nats beside it are more than those of the few outcomes there are, and equal where n is 1.
        apart = (world.start[:, None] * best * np.log(best / drawn_by)).sum()
        assert measures["nats"] == divergence_of(n)
        assert apart <= measures["nats"] + 1e-9
    assert found[1]["nats"] == 0
    assert found[1]["true_return"] < found[2]["true_return"] < found[4]["true_return"]


def test_of_very_many_outcomes_the_nats_are_those_of_the_best() -> None:
    chances, scores = np.full(20_000, 1 / 20_000), np.arange(20_000.0)
    for n in (2, 8, 64):
        best = exactly_best(chances, scores, n)
        best = best[best > 0]
        apart = (best * np.log(best * 20_000)).sum()
        assert apart == pytest.approx(divergence_of(n), rel=0.01)


def test_the_command_writes_a_table_of_a_learned_reward(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = TrainConfig(
        env="prefrl/ContextualBandit-v0", labels=10, segment_steps=1, out=tmp_path / "run", kl_beta=1.0,
        **SETTINGS,  # type: ignore[arg-type]
    )  # fmt: skip
    train(config, quiet=True)
    assert main(["bestof", str(tmp_path / "run"), "--n", "1", "4", "--starts", "5"]) == 0
    said = capsys.readouterr().out
    assert "learned_return" in said
    assert "best of 4" in said
    assert main(["bestof", str(tmp_path / "run"), "--policy", str(tmp_path / "run"), "--n", "1", "--starts", "1"]) == 0


def test_what_cannot_be_drawn_is_one_sentence(bandit: SavedRun, tmp_path: Path) -> None:
    for wrong in ({"n": (0,)}, {"n": ()}, {"n": (2,), "starts": 0}, {"n": (2,), "policy": str(tmp_path / "none")}):
        with pytest.raises(UserError) as error:
            best_of(bandit, **wrong)  # type: ignore[arg-type]
        sentence(error.value)
    config = BaselineConfig(env="prefrl/ContextualBandit-v0", out=tmp_path / "free", **SETTINGS)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="--policy"):
        best_of(load_run(run_baseline(config, quiet=True)), (2,))
