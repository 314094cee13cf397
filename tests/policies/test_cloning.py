import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import sentence

from prefrl.baseline import run_baseline
from prefrl.experience.backends import make_vec_env
from prefrl.policies.cloning import LEAST_LOG_STD, clone, log_likelihood
from prefrl.policies.on_policy import Learner
from prefrl.policies.policy import Policy
from prefrl.policies.reference import FILE
from prefrl.runs.resolve import resolve
from prefrl.settings.config import BaselineConfig
from prefrl.words.errors import UserError

VECTOR = spaces.Box(-1, 1, (3,), np.float32)
KINDS: dict[str, tuple[Any, Any]] = {
    "vector": (VECTOR, spaces.Box(-1, 1, (2,), np.float32)),
    "choice": (VECTOR, spaces.Discrete(3)),
    "choices": (VECTOR, spaces.MultiDiscrete([2, 3])),
    "switches": (VECTOR, spaces.MultiBinary(2)),
    "pixels": (spaces.Box(0, 255, (44, 44, 3), np.uint8), spaces.Discrete(3)),
}
TARGET = BaselineConfig(
    env="prefrl-tests/Target-v0", steps=480, n_envs=4, set=("n_steps=40", "batch_size=80"), phases=4, tensorboard=False
)


def learner_of(kind: str, **more: Any) -> Learner:
    seen, acted = KINDS[kind]
    env = make_vec_env("prefrl-tests/Any-v0", 2, 0, env_kwargs={"observation_space": seen, "action_space": acted})
    return Learner("ppo", env, {"n_steps": 16, "batch_size": 32} | more, seed=0)


def shown(kind: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    space = KINDS[kind][0]
    if space.dtype == np.uint8:
        return rng.integers(256, size=(n, *space.shape), dtype=np.uint8)
    return rng.normal(size=(n, *space.shape)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_seen_decides_what_is_done(kind: str) -> None:
    learner = learner_of(kind)
    policy, n = learner.model.policy, 100 if kind == "pixels" else 500
    observations = shown(kind, n)
    light = observations.reshape(n, -1)[:, 0] > (127 if kind == "pixels" else 0)
    if kind == "pixels":
        observations[~light] //= 4
    one, other = {
        "vector": ([0.5, -0.5], [-0.5, 0.5]),
        "choice": (2, 0),
        "choices": ([1, 2], [0, 0]),
        "switches": ([1, 0], [0, 1]),
        "pixels": (2, 0),
    }[kind]  # fmt: skip
    actions = np.where(light.reshape(-1, *[1] * np.ndim(one)), one, other)
    critic = policy.value_net.weight.clone()
    likelihood = clone(policy, observations, actions, 30, np.random.default_rng(0))
    acted = policy.predict(observations, deterministic=True)[0]
    assert np.abs(np.asarray(acted, float) - actions).mean() < 0.15
    assert likelihood > (-0.5 if kind == "vector" else -0.4)  # of a density, or of chances
    assert torch.equal(policy.value_net.weight, critic)


def test_actions_that_were_clipped_are_taken_for_the_whole_tail() -> None:
    policy = learner_of("vector").model.policy
    observations = torch.zeros(1, 3)
    gaussian = policy.get_distribution(observations).distribution
    assert isinstance(gaussian, torch.distributions.Normal)
    drawn = gaussian.sample((200_000,))[:, 0]
    clipped = drawn.clip(-1, 1)
    inside = torch.tensor([[0.3, -1.0]])
    by_hand = gaussian.log_prob(inside)[0, 0] + gaussian.cdf(torch.tensor([[0.0, -1.0]]))[0, 1].log()
    assert log_likelihood(policy, observations, inside.numpy()).item() == pytest.approx(by_hand.item(), rel=1e-4)
    # The density and the two chances of the tails are one distribution: they sum to 1.
    beside = gaussian.log_prob(torch.zeros(1, 2))[0, 1].item()
    ends = [log_likelihood(policy, observations, np.array([[end, 0.0]])).item() for end in (-1.0, 1.0)]
    tails = [math.exp(end - beside) for end in ends]
    assert tails == pytest.approx([float((clipped[:, 0] == end).float().mean()) for end in (-1, 1)], abs=0.01)


def test_mean_and_deviation_come_back_from_clipped_actions() -> None:
    policy = learner_of("vector").model.policy
    rng = np.random.default_rng(1)
    drawn = rng.normal([0.8, -0.3], [0.7, 0.4], size=(1500, 2)).clip(-1, 1)
    clone(policy, np.zeros((1500, 3), np.float32), drawn, 20, rng)
    gaussian = policy.get_distribution(torch.zeros(1, 3)).distribution
    assert isinstance(gaussian, torch.distributions.Normal)
    np.testing.assert_allclose(gaussian.mean.detach()[0], [0.8, -0.3], atol=0.08)
    np.testing.assert_allclose(gaussian.stddev.detach()[0], [0.7, 0.4], atol=0.08)


def test_bounds_as_far_as_numbers_go_give_numbers() -> None:
    env = make_vec_env("prefrl-tests/Any-v0", 2, 0, env_kwargs={
        "observation_space": VECTOR, "action_space": spaces.Box(-3e38, 3e38, (2,), np.float32)
    })  # fmt: skip
    policy = Learner("ppo", env, {"n_steps": 16, "batch_size": 32}, seed=0).model.policy
    rng = np.random.default_rng(0)
    assert math.isfinite(clone(policy, shown("vector", 200), rng.normal(size=(200, 2)), 2, rng))
    assert all(tensor.isfinite().all() for tensor in policy.state_dict().values())


def test_a_demonstrator_who_never_varies_leaves_some_variation() -> None:
    policy = learner_of("vector", policy_kwargs={"log_std_init": LEAST_LOG_STD + 0.01}).model.policy
    clone(policy, np.zeros((300, 3), np.float32), np.full((300, 2), 0.0), 5, np.random.default_rng(0))
    assert policy.log_std.detach().tolist() == [LEAST_LOG_STD] * 2


@pytest.mark.parametrize("more", [{"use_sde": True}, {"use_sde": True, "policy_kwargs": {"squash_output": True}}])
def test_policies_that_explore_by_state_are_cloned_too(more: dict[str, Any]) -> None:
    policy = learner_of("vector", **more).model.policy
    rng = np.random.default_rng(0)
    observations = shown("vector", 400)
    clone(policy, observations, np.tile(np.float32([0.5, -0.5]), (400, 1)), 40, rng)
    acted = policy.predict(observations, deterministic=True)[0]
    assert np.abs(acted - [0.5, -0.5]).mean() < 0.15


@pytest.fixture(scope="module")
def expert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the true reward, which has learned something."""
    folder = tmp_path_factory.mktemp("runs") / "expert"
    return run_baseline(replace(TARGET, steps=3200, set=(*TARGET.set, "gamma=0.0"), out=folder), quiet=True)


def policies(*files: Path) -> list[Policy]:
    env = gym.make(TARGET.env)
    return [Policy(file, env.observation_space, env.action_space) for file in files]


def test_a_run_may_begin_with_what_another_does(tmp_path: Path, expert: Path) -> None:
    config = replace(
        TARGET,
        demonstrations=(str(expert),),
        demonstration_steps=1500,
        cloning_epochs=12,
        kl_beta=0.1,
        out=tmp_path / "run",
    )
    folder = run_baseline(config, quiet=True)
    cloned, knows, last = policies(folder / FILE, expert / "policy.safetensors", folder / "policy.safetensors")
    at = np.linspace(-20, 40, 50, dtype=np.float32)[:, None]
    means = [policy.distribution(at).distribution.mean.numpy() for policy in (cloned, knows)]  # type: ignore[union-attr]
    assert np.abs(means[0] - means[1]).mean() < 0.1
    assert np.ptp(means[1]) > 0.5
    # Targets are 30 t + 10 with t uniform in [-1, 1]; the statistics are the demonstrations', and stay so.
    assert cloned.mean is not None and cloned.std is not None and last.mean is not None
    assert cloned.mean[0] == pytest.approx(10, abs=1)
    assert cloned.std[0] == pytest.approx(30 / math.sqrt(3), abs=1)
    np.testing.assert_array_equal(last.mean, cloned.mean)


def test_a_run_may_begin_with_the_weights_of_another(tmp_path: Path, expert: Path) -> None:
    config = replace(TARGET, set=(*TARGET.set, "learning_rate=1e-12"), start_from=str(expert), reference="start")
    folder = run_baseline(replace(config, out=tmp_path / "run"), quiet=True)
    begun, knows = policies(folder / FILE, expert / "policy.safetensors")
    for name, tensor in knows.policy.state_dict().items():
        assert torch.equal(begun.policy.state_dict()[name], tensor)
    np.testing.assert_array_equal(begun.mean, knows.mean)
    np.testing.assert_allclose(begun.std, knows.std)


def test_the_same_start_without_the_term_is_byte_equal(tmp_path: Path, expert: Path) -> None:
    config = replace(TARGET, start_from=str(expert))
    free = run_baseline(replace(config, out=tmp_path / "free"), quiet=True)
    zero = run_baseline(replace(config, kl_beta=0.0, reference="start", out=tmp_path / "zero"), quiet=True)
    assert (free / "policy.safetensors").read_bytes() == (zero / "policy.safetensors").read_bytes()


def test_another_network_has_no_room_for_the_weights(tmp_path: Path, expert: Path) -> None:
    for kwargs in ("{net_arch = [8]}", '{activation_fn = "ReLU"}'):
        config = replace(TARGET, set=(*TARGET.set, f"policy_kwargs={kwargs}"), start_from=str(expert))
        with pytest.raises(UserError) as error:
            run_baseline(replace(config, out=tmp_path / "run"), quiet=True)
        assert "--demonstrations" in sentence(error.value)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"demonstrations": ("nobody/knows-v0",)}, "minari download"),
        ({"start_from": "nowhere"}, "'nowhere'"),
        ({"start_from": "a", "demonstrations": ("b",)}, "give one of them"),
        ({"demonstration_steps": 0}, "demonstration_steps=0"),
        ({"cloning_epochs": -1}, "cloning_epochs=-1"),
    ],
)
def test_what_cannot_be_begun_with_is_one_sentence(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as error:
        resolve(replace(TARGET, **change))
    assert expected in sentence(error.value)


def test_a_start_for_another_environment_is_one_sentence(expert: Path) -> None:
    for change in ({"start_from": str(expert)}, {"demonstrations": (str(expert),)}):
        with pytest.raises(UserError) as error:
            resolve(replace(TARGET, env="CartPole-v1", **change))  # type: ignore[arg-type]
        assert "not a policy for this environment" in sentence(error.value)
