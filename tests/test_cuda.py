"""On a GPU: the same answers give the same reward as on a CPU, and a run leaves what a machine without one can read."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import prefrl
from prefrl.experience.backends import make_vec_env
from prefrl.experience.recorder import Recorder
from prefrl.policies.policy import Policy
from prefrl.queries.strategies import STRATEGIES, best_first, find_strategy
from prefrl.rewards import networks
from prefrl.rewards.fit import Fit
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.runs.resolve import resolve
from prefrl.runs.runlog import read_table
from prefrl.settings.config import BaselineConfig, TrainConfig
from prefrl.words.preference import Preference

DEVICE = "cuda"
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
SEGMENT = 5
GAMES = {"vectors": "Pendulum-v1", "images": "prefrl/Pong-v0"}


def play(env_id: str) -> Recorder:
    """An environment in which random actions have been taken."""
    env = Recorder(make_vec_env(env_id, 2, seed=0), env_id, seed=0, keep_steps=400)
    env.reset()
    env.action_space.seed(0)
    for _ in range(200):
        env.step(np.stack([env.action_space.sample() for _ in range(2)]))
    return env


@pytest.fixture(params=GAMES)
def played(request: pytest.FixtureRequest) -> Recorder:
    return play(GAMES[request.param])


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Single precision throughout, so that two devices can be compared."""
    monkeypatch.setattr(networks, "computes_with_bfloat16", lambda device: False)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def ensemble(env: Recorder) -> RewardEnsemble:
    r_hat = RewardEnsemble(env.observation_space, env.action_space, generator=torch.Generator().manual_seed(0))
    for module in r_hat.modules():
        if isinstance(module, networks.Dropout):
            module.p = 0.0  # which draws other bits on a GPU
    r_hat.observe(*env.recent(400, at_most=400)[:2])
    return r_hat


def answers(env: Recorder, count: int = 40) -> list[Preference]:
    rng = np.random.default_rng(0)
    queries = env.pairs(count, SEGMENT, rng).queries()
    return [Preference(q, float(rng.integers(2)), "someone", 1.0) for q in queries]


def fitted(r_hat: RewardEnsemble, given: list[Preference], **settings: Any) -> Fit:
    fit = Fit(r_hat, np.random.default_rng(0), SEGMENT, batch=8, **settings)
    fit.add(given[:30])
    fit.add(given[30:])
    return fit


def test_answers_are_given_out_as_on_a_cpu(played: Recorder) -> None:
    here, there = ensemble(played), ensemble(played).to(DEVICE)
    given = answers(played)
    index = np.array([3, 21, 7])
    batches = [fitted(r_hat, given, max_answers=25).answers.batch(index) for r_hat in (here, there)]
    for name, on_cpu in vars(batches[0]).items():
        on_gpu = getattr(batches[1], name)
        assert on_gpu.device.type == DEVICE, name
        torch.testing.assert_close(on_gpu.cpu(), on_cpu, msg=name)


def test_frames_wait_on_the_gpu_each_once() -> None:
    env = play("prefrl/Pong-v0")
    kept = [images.frames for images in fitted(ensemble(env).to(DEVICE), answers(env)).answers._images]
    assert all(isinstance(frames, torch.Tensor) and frames.device.type == DEVICE for frames in kept)
    assert {len(frames) for frames in kept} == {1 + 2 * (SEGMENT + 3)}  # black, and of each segment 4 + 4


@pytest.mark.parametrize("objective", ["preference", "target"])
def test_an_update_is_that_of_a_cpu(played: Recorder, exact: None, objective: str) -> None:
    # Double precision, so that a device's way of rounding is no excuse.
    here = ensemble(played).double()
    there = copy.deepcopy(here).to(DEVICE)
    given = answers(played)
    reports = [fitted(r_hat, given, objective=objective).run(1) for r_hat in (here, there)]
    assert vars(reports[1]) == pytest.approx(vars(reports[0]), rel=1e-6)
    for (name, on_cpu), on_gpu in zip(here.named_parameters(), there.parameters(), strict=True):
        assert on_cpu.grad is not None and on_gpu.grad is not None
        if "bias" not in name:  # a bias that cancels out has no gradient but rounding
            assert (on_gpu.grad.cpu() - on_cpu.grad).norm() < 1e-6 * on_cpu.grad.norm(), name


@pytest.mark.parametrize("objective", ["preference", "target"])
def test_a_fit_is_that_of_a_cpu(exact: None, objective: str) -> None:
    env = play(GAMES["vectors"])
    here = ensemble(env)
    there = copy.deepcopy(here).to(DEVICE)
    given, steps = answers(env), env.recent(400, at_most=400)[:2]
    reports = [fitted(r_hat, given, objective=objective).run(10) for r_hat in (here, there)]
    assert vars(reports[1]) == pytest.approx(vars(reports[0]), rel=1e-2)
    for r_hat in (here, there):
        r_hat.normalise_outputs(*steps)
    paid, same = here.reward(*steps), there.reward(*steps)
    assert np.corrcoef(paid, same)[0, 1] > 0.999
    assert np.abs(paid - same).mean() < 0.02


def test_a_fitted_reward_pays_on_a_cpu_what_it_pays_on_a_gpu(played: Recorder) -> None:
    there = ensemble(played).to(DEVICE)
    steps = played.recent(400, at_most=400)[:2]
    fitted(there, answers(played)).run(60)
    there.normalise_outputs(*steps)
    paid, same = there.reward(*steps), copy.deepcopy(there).to("cpu").reward(*steps)
    assert paid.dtype == np.float32
    assert np.corrcoef(paid, same)[0, 1] > 0.999  # images: both in half precision, each with its own rounding


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_pairs_are_asked_about(played: Recorder, exact: None, strategy: str) -> None:
    here = ensemble(played)
    candidates = played.pairs(60, SEGMENT, np.random.default_rng(1))
    score = find_strategy(strategy)
    on_cpu, on_gpu = (score(r_hat, candidates) for r_hat in (here, copy.deepcopy(here).to(DEVICE)))
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-2, atol=1e-4)
    assert len(best_first(score, copy.deepcopy(here).to(DEVICE), candidates)) == len(candidates)


def test_members_share_nothing(played: Recorder) -> None:
    r_hat = ensemble(played).to(DEVICE)
    fit = fitted(r_hat, answers(played))
    fit.answers._counts[:, 1] = 0  # no answer is in the second member's bootstrap
    fit.l2[1] = 0.0
    steps = played.recent(400, at_most=400)[:2]
    before = r_hat.member_rewards(*steps)[1]
    for module in r_hat.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0  # its statistics move without any answer
    fit.run(5)
    torch.testing.assert_close(r_hat.member_rewards(*steps)[1], before)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("kind", GAMES)
def test_a_run_leaves_what_a_cpu_can_read(tmp_path: Path, kind: str, overlap: bool) -> None:
    config = TrainConfig(
        env=GAMES[kind],
        steps=2_000,
        labels=20,
        n_envs=4,
        phases=3,
        segment_steps=10,
        initial_epochs=5,
        fit_updates=5,
        set=("n_steps=50", "batch_size=100", "n_epochs=2"),
        device=DEVICE,
        overlap=overlap,
        tensorboard=False,
        out=tmp_path / "run",
    )
    folder = prefrl.train(config, quiet=True)
    logged = read_table(folder / "metrics.csv")
    assert logged["step"][-1] == config.steps
    assert logged["labels_answered"][-1] == config.labels
    assert np.isfinite(logged["train_loss"]).all()
    r_hat = RewardEnsemble.load(folder / "reward.safetensors")
    env = make_vec_env(config.env, 2, seed=0)
    observations = np.asarray(env.reset())
    actions = Policy(folder / "policy.safetensors", env.observation_space, env.action_space).act(observations)
    assert np.isfinite(r_hat.reward(observations, actions)).all()


def test_the_baseline_runs(tmp_path: Path) -> None:
    config = BaselineConfig(
        env="prefrl/Pong-v0", steps=800, n_envs=4, phases=2, set=("n_steps=50", "batch_size=100"), device=DEVICE
    )
    folder = prefrl.run_baseline(replace(config, tensorboard=False, out=tmp_path / "run"), quiet=True)
    assert read_table(folder / "metrics.csv")["step"][-1] == config.steps


def test_images_are_for_the_gpu_and_vectors_for_the_cpu(tmp_path: Path) -> None:
    chosen = {kind: resolve(TrainConfig(env=env, out=tmp_path / kind)).device for kind, env in GAMES.items()}
    assert chosen == {"vectors": "cpu", "images": DEVICE}
