import json
import math
import struct
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import sentence
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv

from prefrl.experience.backends import make_vec_env
from prefrl.experience.recorder import Recorder
from prefrl.policies.learners import LEARNERS, check_settings, learner_class
from prefrl.policies.on_policy import Learner, plan
from prefrl.policies.policy import Policy
from prefrl.run import train
from prefrl.settings import presets
from prefrl.settings.config import TrainConfig
from prefrl.settings.values import as_toml, name_value
from prefrl.words.errors import UserError
from prefrl.words.spaces import SMALLEST_IMAGE
from prefrl.words.tensors import load_tensors, save_tensors

every_learner = pytest.mark.parametrize("name", LEARNERS)


def settings_of(name: str, n_steps: int = 16, **more: Any) -> dict[str, Any]:
    return {"n_steps": n_steps} | ({} if name == "a2c" else {"batch_size": n_steps}) | more


def target(n_envs: int = 4, seed: int = 0) -> Recorder:
    """`TargetEnv`s: what is shown says which action pays best; episodes of 20 steps."""
    return Recorder(make_vec_env("prefrl-tests/Target-v0", n_envs, seed), "Target-v0", seed, 100_000)


def start() -> float:
    return 0.0


def parameters(learner: Learner) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in learner.model.policy.state_dict().values()]


class CustomPPO(PPO):
    """PPO with an entropy coefficient of its own."""

    def __init__(
        self, policy: Any, env: Any, n_steps: int = 16, ent_coef: float = 0.02, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(policy, env, n_steps=n_steps, batch_size=n_steps, ent_coef=ent_coef, seed=seed, device=device)


def test_plans_add_up_exactly_in_near_equal_parts() -> None:
    for vector_steps in chain(range(1, 400, 7), (997, 31_250, 999_983)):
        for rollout_steps in (1, 3, 16, 64, 100, 1000):
            for phases in (1, 2, 7, 50):
                planned = plan(vector_steps, rollout_steps, phases)
                rollouts = list(chain(*planned))
                assert sum(rollouts) == vector_steps
                assert max(rollouts) - min(rollouts) <= 1
                assert len(rollouts) == max(1, round(vector_steps / rollout_steps))
                assert len(planned) == min(phases, len(rollouts))
                assert max(map(len, planned)) - min(map(len, planned)) <= 1


def test_plans_by_hand() -> None:
    assert plan(10, 4, 2) == [[5], [5]]  # 2.5 rollouts are 2, to the even number
    assert plan(11, 4, 2) == [[3, 4], [4]]
    assert plan(3, 64, 50) == [[3]]
    assert plan(256, 64, 2) == [[64, 64], [64, 64]]


@every_learner
def test_steps_are_exact(name: str) -> None:
    env = target(3)
    learner = Learner(name, env, settings_of(name, 8), seed=0)
    learner.explore(11)
    assert env.steps == 33
    taken = 33
    for rollouts in ([8], [5, 6, 7], [2], [8, 13]):
        measures = learner.learn(rollouts, start)
        taken += 3 * sum(rollouts)
        assert env.steps == taken
        assert learner.model.rollout_buffer.buffer_size == rollouts[-1]
        assert measures
        assert all(isinstance(value, float) and math.isfinite(value) for value in measures.values())
    assert all(tensor.isfinite().all() for tensor in parameters(learner))
    assert learner.rollout_steps == 8  # as configured, whatever the last one was cut to


@every_learner
def test_episodes_run_on_from_one_rollout_to_the_next(name: str) -> None:
    env = target(2)
    learner = Learner(name, env, settings_of(name, 7), seed=0)
    learner.explore(5)  # the learner goes on where the untrained policy left off
    for rollouts in ([7, 7], [7], [7, 5, 7], [5]):
        learner.learn(rollouts, start)
    # The first episode of one of the two environments is cut short at 10 steps, and counts for nothing.
    assert [(episode.step, episode.steps) for episode in env.episodes] == [(40, 20), (60, 20), (80, 20), (100, 20)]


def test_a_minibatch_that_does_not_divide_the_rollout_is_nothing_to_warn_about() -> None:
    learner = Learner("ppo", target(3), {"n_steps": 7, "batch_size": 8}, seed=0)  # the rollouts are cut anyway
    learner.learn([7, 5], start)


@every_learner
def test_exploring_acts_at_random_and_learns_nothing(name: str) -> None:
    env = target(2)
    learner = Learner(name, env, settings_of(name), seed=0)
    before = parameters(learner)
    learner.explore(200)
    assert all(map(torch.equal, before, parameters(learner)))
    actions = env.recent(400)[1]
    assert 0.5 < actions.std() < 1.5  # a new policy's deviation is 1, clipped at 2 by the space
    assert np.abs(actions).max() <= 2


@every_learner
def test_schedules_follow_the_run_and_not_the_call(name: str) -> None:
    env = target(2)
    learner = Learner(name, env, settings_of(name, 8, learning_rate="lin_1e-2"), seed=0)
    total, progress, rates = 160, [], []

    def run() -> float:
        progress.append(env.steps / total)
        return progress[-1]

    learner.explore(10)
    for rollouts in ([8], [4, 4]) * 4:
        rates.append(learner.learn(rollouts, run)["learner_learning_rate"])  # noqa: PERF401
    assert env.steps < total
    np.testing.assert_allclose(progress, np.array([0, 8, 12, 16, 24, 28, 32, 40, 44, 48, 56, 60]) / 80 + 1 / 8)
    last = [0, 2, 3, 5, 6, 8, 9, 11]  # the last rollout of each call
    np.testing.assert_allclose(rates, 1e-2 * (1 - np.array(progress)[last]), rtol=1e-6)
    assert (np.diff(rates) < 0).all()
    assert learner.model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(rates[-1])


def test_every_setting_that_is_a_schedule_may_fall() -> None:
    learner = Learner("ppo", target(2), settings_of("ppo", clip_range="lin_0.4", learning_rate=3e-4), seed=0)
    measures = [learner.learn([16], lambda p=p: p) for p in (0.0, 0.25, 0.75)]  # type: ignore[misc]
    assert [m["learner_clip_range"] for m in measures] == pytest.approx([0.4, 0.3, 0.1])
    assert [m["learner_learning_rate"] for m in measures] == pytest.approx([3e-4] * 3)


@every_learner
def test_contract_every_learner_learns(name: str) -> None:
    env = target(8)
    settings = {
        "ppo": {"n_steps": 32, "batch_size": 64, "learning_rate": "lin_2e-3"},
        "a2c": {"n_steps": 5, "learning_rate": "lin_7e-3"},
        "trpo": {"n_steps": 64, "batch_size": 64, "target_kl": 0.05},
    }
    learner = Learner(name, env, settings.get(name, {}) | {"gamma": 0.5}, seed=0)
    learner.explore(100)
    before = env.recent(800)[2].mean()
    steps = 6_000 - env.steps
    for rollouts in plan(steps // 8, learner.rollout_steps, 5):
        learner.learn(rollouts, lambda: env.steps / 6_000)
    assert env.steps == 6_000
    observations = env.recent(800)[0]
    assert learner.normaliser is not None
    actions = learner.model.predict(learner.normaliser.normalize_obs(observations), deterministic=True)[0]
    missed = ((actions[:, 0] - (observations[:, 0] - 10) / 30) ** 2).mean()
    assert before < -0.9  # the targets vary by 1/3 and a new policy's actions by 1
    assert missed < 0.03


@every_learner
def test_a_learner_is_its_seed(name: str) -> None:
    def learned(seed: int) -> list[torch.Tensor]:
        learner = Learner(name, target(2, seed=0), settings_of(name), seed=seed)
        learner.explore(3)
        learner.learn([16, 9], start)
        return parameters(learner)

    first, again, other = learned(1), learned(1), learned(2)
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))


def make_env_of(kind: str) -> VecEnv:
    image = {"observation_space": spaces.Box(0, 255, (84, 84, 3), np.uint8), "action_space": spaces.Discrete(3)}
    first = {"observation_space": spaces.Box(0, 255, (2, 84, 84), np.uint8), "action_space": spaces.Discrete(3)}
    ids: dict[str, tuple[str, dict[str, Any]]] = {
        "vector": ("Pendulum-v1", {}),
        "choice": ("CartPole-v1", {}),
        "image": ("prefrl-tests/Any-v0", image),
        "channels first": ("prefrl-tests/Any-v0", first),
    }
    return make_vec_env(ids[kind][0], 2, 0, env_kwargs=ids[kind][1])


def live_action(learner: Learner, observations: NDArray[Any]) -> NDArray[Any]:
    shown = learner.normaliser.normalize_obs(observations) if learner.normaliser else observations
    return learner.model.predict(shown, deterministic=True)[0]  # type: ignore[arg-type]


@every_learner
@pytest.mark.parametrize("kind", ["vector", "choice", "image", "channels first"])
def test_a_saved_policy_acts_as_the_live_one_did(tmp_path: Path, name: str, kind: str) -> None:
    env = make_env_of(kind)
    learner = Learner(name, env, settings_of(name, 8), seed=0)
    learner.explore(20)
    learner.learn([8], start)
    learner.save(tmp_path / "policy.safetensors")
    policy = Policy(tmp_path / "policy.safetensors", env.observation_space, env.action_space)
    rng = np.random.default_rng(0)
    shape = env.observation_space.shape or ()
    if kind in ("vector", "choice"):  # far out too, where normalised observations are clipped
        observations = (rng.normal(size=(50, *shape)) * rng.choice([0.1, 1, 100], (50, 1))).astype(np.float32)
    else:
        observations = rng.integers(256, size=(5, *shape), dtype=np.uint8)
    expected = live_action(learner, observations)
    np.testing.assert_array_equal(policy.act(observations, deterministic=True), expected)
    assert len(np.unique(expected)) > 1 or kind not in ("vector", "choice")
    np.testing.assert_allclose(policy.act(observations[0], deterministic=True), expected[0], rtol=1e-5)
    if kind == "vector":
        drawn = np.concatenate([policy.act(observations[:1]) for _ in range(100)])
        assert drawn.std() > 0.1
        assert isinstance(env.action_space, spaces.Box)
        assert (np.abs(drawn) <= env.action_space.high).all()


def test_images_as_small_as_the_reward_takes_suit_the_policy() -> None:
    space = {"observation_space": spaces.Box(0, 255, (SMALLEST_IMAGE, SMALLEST_IMAGE, 3), np.uint8)}
    env = make_vec_env("prefrl-tests/Any-v0", 2, 0, env_kwargs=space | {"action_space": spaces.Discrete(3)})
    learner = Learner("ppo", env, settings_of("ppo", 4), seed=0)
    assert learner.policy_name == "CnnPolicy"
    learner.learn([4], start)


class OwnShape(PPO):
    """PPO that says itself what its policy is made with."""

    def __init__(self, policy: Any, env: Any, n_steps: int = 16, seed: int = 0, device: str = "cpu") -> None:
        kwargs = {"activation_fn": torch.nn.ReLU, "net_arch": [8]}
        super().__init__(
            policy,
            env,
            n_steps=n_steps,
            batch_size=n_steps,
            policy_kwargs=kwargs,
            use_sde=True,
            seed=seed,
            device=device,
        )


SHAPES: dict[str, dict[str, Any]] = {
    "sde": {"use_sde": True},
    "sde, often": {"use_sde": True, "sde_sample_freq": 3},
    "sde, squashed": {"use_sde": True, "policy_kwargs": {"squash_output": True, "log_std_init": -1.5}},
    "sde, few deviations": {"use_sde": True, "policy_kwargs": {"full_std": False, "use_expln": True}},
    "sizes": {"policy_kwargs": {"net_arch": [8, 4]}},
    "two shapes": {"policy_kwargs": {"net_arch": {"pi": [8], "vf": [4, 4]}}},
    "activation": {"policy_kwargs": {"activation_fn": "ReLU"}},
    "activation's path": {"policy_kwargs": {"activation_fn": "torch.nn.ELU"}},
    "activation with weights": {"policy_kwargs": {"activation_fn": "torch.nn:PReLU", "net_arch": [4]}},
    "activation's class": {"policy_kwargs": {"activation_fn": torch.nn.SiLU}},
    "optimizer": {"policy_kwargs": {"optimizer_class": "AdamW", "optimizer_kwargs": {"weight_decay": 0.01}}},
    "optimizer's path": {"policy_kwargs": {"optimizer_class": "torch.optim.SGD"}},
    "deviation": {"policy_kwargs": {"log_std_init": -2.0, "ortho_init": False}},
    "features": {
        "policy_kwargs": {"features_extractor_class": "FlattenExtractor", "share_features_extractor": False},
    },
    "falling rate": {"learning_rate": "lin_1e-3", "gamma": 0.9},
}


@pytest.mark.parametrize(
    ("name", "shape"), [*((n, s) for n in LEARNERS for s in SHAPES), (f"{__name__}:OwnShape", "its own")]
)
def test_contract_what_trains_can_be_read_back(tmp_path: Path, name: str, shape: str) -> None:
    env = make_env_of("vector")
    settings = settings_of(name, 8, **SHAPES[shape]) if name in LEARNERS else {}
    if shape != "activation's class":  # what a command line has, and a run's folder
        settings = name_value(tuple(f"{n}={as_toml(v)}" for n, v in settings.items()), "learner setting")
    learner = Learner(name, env, settings, seed=0)
    learner.explore(6)
    learner.learn([8, 8], start)
    learner.save(tmp_path / "policy.safetensors")
    policy = Policy(tmp_path / "policy.safetensors", env.observation_space, env.action_space)
    observations = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    sure = live_action(learner, observations)
    np.testing.assert_array_equal(policy.act(observations, deterministic=True), sure)
    assert len(np.unique(sure)) > 1
    torch.manual_seed(3)
    if learner.model.use_sde:
        learner.model.policy.reset_noise(20)
    assert learner.normaliser is not None
    expected = learner.model.predict(learner.normaliser.normalize_obs(observations))[0]  # type: ignore[arg-type]
    torch.manual_seed(3)
    np.testing.assert_array_equal(policy.act(observations), expected)


def with_metadata(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write a policy's file again with another description."""
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["prefrl"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(about)
    save_file(tensors, path, {"prefrl": json.dumps(about)})


@pytest.mark.parametrize("use_sde", [False, True])
def test_policies_saved_before_the_file_told_of_use_sde_are_read(tmp_path: Path, use_sde: bool) -> None:
    env, path = make_env_of("vector"), tmp_path / "policy.safetensors"
    kwargs = {"log_std_init": -2.0, "net_arch": [8]}
    learner = Learner("ppo", env, settings_of("ppo", use_sde=use_sde, policy_kwargs=kwargs), seed=0)
    learner.learn([16], start)
    learner.save(path)
    with_metadata(path, lambda about: about["policy_kwargs"].pop("use_sde"))
    observations = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    policy = Policy(path, env.observation_space, env.action_space)
    np.testing.assert_array_equal(policy.act(observations, deterministic=True), live_action(learner, observations))


def test_exploring_by_state_draws_its_noise_for_each_environment_and_rollout() -> None:
    env = target(2)
    learner = Learner("ppo", env, settings_of("ppo", 8, use_sde=True), seed=0)
    assert learner.normaliser is not None
    drawn = []
    for _ in range(3):
        learner.explore(8)
        drawn.append(learner.model.policy.action_dist.exploration_matrices.clone())  # type: ignore[union-attr]
    assert len(drawn[0]) == 2
    assert not torch.equal(drawn[0][0], drawn[0][1])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


def test_reading_back_before_training_draws_nothing_of_the_runs() -> None:
    env = target(2)
    learner = Learner("ppo", env, settings_of("ppo"), seed=5)
    first = torch.rand(4)
    model = PPO("MlpPolicy", learner.env, seed=5, n_steps=16, batch_size=16, device="cpu")
    assert torch.equal(first, torch.rand(4))
    assert all(map(torch.equal, parameters(learner), model.policy.state_dict().values()))


class Squared(torch.nn.Module):
    """An activation of somebody's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x**2


class OwnPolicy(ActorCriticPolicy):
    """A policy of somebody's own."""


class OwnPolicyPPO(CustomPPO):
    """It says what policy it acts with."""

    policy_aliases: ClassVar[dict[str, Any]] = {"MlpPolicy": OwnPolicy}


class LatePolicyPPO(CustomPPO):
    """Nothing but the policy that it made says what policy it acts with."""

    def _setup_model(self) -> None:
        self.policy_class = OwnPolicy  # type: ignore[assignment]
        super()._setup_model()


class ChangedPPO(CustomPPO):
    """Its policy is not what its settings say, though its weights have the same shapes."""

    def _setup_model(self) -> None:
        super()._setup_model()
        for layer in (self.policy.mlp_extractor.policy_net, self.policy.mlp_extractor.value_net):
            layer[1] = torch.nn.ReLU()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sb3_contrib:MaskablePPO", "MaskableActorCriticPolicy, which a run cannot save and use again"),
        ("sb3_contrib:RecurrentPPO", "RecurrentActorCriticPolicy, which a run cannot save and use again"),
        (f"{__name__}:OwnPolicyPPO", "OwnPolicy"),
    ],
)
def test_learners_whose_policy_cannot_be_read_back_are_refused_before_there_is_a_folder(
    tmp_path: Path, name: str, expected: str
) -> None:
    config = TrainConfig(env="CartPole-v1", learner=name, labels=4, steps=2000, out=tmp_path / "run")
    for refused in (lambda: learner_class(name), lambda: train(config, quiet=True)):
        with pytest.raises(UserError, match=expected) as error:
            refused()
        assert "ppo, a2c, trpo" in sentence(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "policy_kwargs", "expected"),
    [
        ("ppo", {"activation_fn": "Relu"}, "'ReLU'?"),
        ("ppo", {"activation_fn": "functional"}, "the name of a class of torch.nn"),
        ("ppo", {"activation_fn": "os:system"}, "the name of a class of torch.nn"),
        ("ppo", {"activation_fn": Squared}, "Squared of"),
        ("a2c", {"optimizer_class": "Adagrat"}, "'Adagrad'?"),
        ("trpo", {"features_extractor_class": "my_module:Net"}, "torch_layers"),
        ("ppo", {"net_arch": {1, 2}}, "cannot be written into the policy's file"),
        ("ppo", {"features_extractor_kwargs": {"rng": np.random.default_rng(0)}}, "cannot be written"),
        (f"{__name__}:LatePolicyPPO", None, "acts with OwnPolicy"),
        (f"{__name__}:ChangedPPO", None, "acts otherwise when it is made again"),
    ],
)
def test_what_could_not_be_read_back_is_refused_before_training(name: str, policy_kwargs: Any, expected: str) -> None:
    settings = settings_of(name, policy_kwargs=policy_kwargs) if policy_kwargs else {}
    with pytest.raises(UserError) as error:
        Learner(name, target(2), settings, seed=0)
    assert expected in sentence(error.value)
    if policy_kwargs:
        with pytest.raises(UserError):
            check_settings(name, settings)


class Talkative(CustomPPO):
    """Logs what is no number, and one number that comes late."""

    def train(self) -> None:
        super().train()
        self.logger.record("train/mood", "good")
        self.logger.record("train/weights", torch.ones(3))
        if self._n_updates > 10:
            self.logger.record("train/late", torch.tensor(0.5))


def test_measures_are_those_that_are_numbers() -> None:
    learner = Learner(f"{__name__}:Talkative", target(2), {}, seed=0)
    first, second = learner.learn([16], start), learner.learn([16], start)
    assert set(second) - set(first) == {"learner_late"}
    assert second["learner_late"] == 0.5
    assert "learner_mood" not in first
    assert "learner_weights" not in first


def test_the_file_is_tensors_and_json(tmp_path: Path) -> None:
    learner = Learner("a2c", make_env_of("vector"), settings_of("a2c"), seed=0)
    for name in ("a", "b"):
        learner.save(tmp_path / name)
    content = (tmp_path / "a").read_bytes()
    assert content == (tmp_path / "b").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert json.loads(header.pop("__metadata__")["prefrl"])["policy"] == "MlpPolicy"
    assert "observation_mean" in header
    assert len(content) == 8 + length + max(tensor["data_offsets"][1] for tensor in header.values())


def test_what_is_no_policy_for_this_environment_is_one_sentence(tmp_path: Path) -> None:
    env = make_env_of("vector")
    path = tmp_path / "policy.safetensors"
    Learner("ppo", env, settings_of("ppo"), seed=0).save(path)
    content = path.read_bytes()
    (tmp_path / "text").write_text("hello")
    (tmp_path / "cut").write_bytes(content[:-50])
    (tmp_path / "other").write_bytes(content.replace(b"MlpPolicy", b"MlpPolice"))
    box, action = env.observation_space, env.action_space
    wrong: list[tuple[Path, gym.Space[Any], gym.Space[Any]]] = [
        (tmp_path / "missing", box, action),
        (tmp_path / "text", box, action),
        (tmp_path / "cut", box, action),
        (tmp_path / "other", box, action),
        (path, spaces.Box(-1, 1, (4,), np.float32), action),
        (path, box, spaces.Box(-1, 1, (2,), np.float32)),
        (path, box, spaces.Discrete(3)),
        (path, box, spaces.Discrete(1)),  # as many outputs, of another kind
    ]
    for file, observation_space, action_space in wrong:
        with pytest.raises(UserError) as error:
            Policy(file, observation_space, action_space)
        assert repr(str(file)) in sentence(error.value)


@pytest.mark.parametrize(("name", "expected"), [("ppo", 0.01), ("a2c", 0.01), (f"{__name__}:CustomPPO", 0.03)])
def test_the_entropy_bonus_comes_on_top_of_the_learners_own(name: str, expected: float) -> None:
    settings = settings_of(name) if name in LEARNERS else {}
    learner = Learner(name, target(2), settings, seed=0, entropy_bonus=0.01)
    assert learner.model.ent_coef == pytest.approx(expected)
    more = Learner(name, target(2), settings | {"ent_coef": 0.005}, seed=0, entropy_bonus=0.01)
    assert more.model.ent_coef == pytest.approx(0.015)
    none = Learner(name, target(2), settings, seed=0)
    assert none.model.ent_coef == pytest.approx(expected - 0.01)


@pytest.mark.parametrize("bonus", [0.0, 0.25])
def test_trpo_is_paid_its_entropy(bonus: float) -> None:
    env = target(1)
    learner = Learner("trpo", env, settings_of("trpo", 10), seed=0, entropy_bonus=bonus)
    for steps in (10, 7):  # a rollout that is cut keeps the bonus; no episode of 20 steps ends here
        learner.learn([steps], start)
        buffer = learner.model.rollout_buffer
        assert np.ptp(buffer.log_probs) > 0.1
        paid = env.recent(steps)[2][:, None] - bonus * buffer.log_probs
        np.testing.assert_allclose(buffer.rewards, paid, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("ppo", {"n_step": 8}, "'n_steps'?"),
        ("a2c", {"batch_size": 8}, "'batch_size'"),
        ("trpo", {"ent_coef": 0.1}, "'ent_coef'"),
        ("ppo", {"policy": "MlpPolicy"}, "'policy'"),
        ("ppo", {"seed": 3}, "'seed'"),
        ("ppo", {"_init_setup_model": False}, "'_init_setup_model'"),
        ("ppo", {"learning_rate": "lin_fast"}, "lin_fast"),
        ("ppo", {"learning_rate": "fast"}, "such as lin_3e-4"),
        ("a2c", {"learning_rate": [1e-3]}, "such as lin_3e-4"),
        ("trpo", {"learning_rate": math.nan}, "learning_rate=nan"),
        ("ppo", {"gamma": "lin_0.9"}, "must be a number."),
        ("ppo", {"target_kl": "small"}, "must be a number."),
        ("ppo", {"gamma": True}, "gamma=True"),
        ("a2c", {"n_steps": 0}, "a whole number above zero"),
        ("a2c", {"n_steps": -3}, "a whole number above zero"),
        ("ppo", {"n_epochs": 0}, "a whole number above zero"),
        ("ppo", {"batch_size": 64.0}, "a whole number above zero"),
        ("ppo", {"use_sde": "yes"}, "true or false"),
        ("ppo", {"policy_kwargs": 3}, "a table"),
        (f"{__name__}:CustomPPO", {"n_steps": -1}, "a whole number above zero"),
    ],
)
def test_settings_that_a_learner_does_not_take_are_one_sentence(
    name: str, settings: dict[str, Any], expected: str
) -> None:
    checks: list[Callable[[], object]] = [
        lambda: check_settings(name, settings),
        lambda: Learner(name, target(2), settings, seed=0),
    ]
    for check in checks:
        with pytest.raises(UserError) as error:
            check()
        assert expected in sentence(error.value)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ppo", {"sde_sample_freq": -1, "verbose": 0, "clip_range": 1, "clip_range_vf": "lin_0.2", "target_kl": 0.03}),
        ("trpo", {"learning_rate": "lin_1e-3", "policy_kwargs": {"log_std_init": -2.0}}),
        (f"{__name__}:Loose", {"n_steps": "as many", "rate": "lin_1", "entropy": "auto"}),
    ],
)
def test_settings_that_a_learner_may_take_are_let_through(name: str, settings: dict[str, Any]) -> None:
    check_settings(name, settings)


class Loose(PPO):
    """Says little about what it takes."""

    def __init__(self, policy, env, n_steps=None, rate=3e-4, entropy: float | str = 0.0) -> None:  # type: ignore[no-untyped-def]
        raise AssertionError("nobody makes it")


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        (
            "ppo",
            {"n_steps": 8, "batch_size": 1},
            "n_steps=8 batch_size=1 (AssertionError: `batch_size` must be greater",
        ),
        ("ppo", {"learning_rate": -1}, "ValueError: Invalid learning rate"),
        ("a2c", {"policy_kwargs": {"no_such": 1}}, "no_such"),
        ("ppo", {"clip_range_vf": "wide"}, "clip_range_vf=wide"),
        (f"{__name__}:Loose", {}, "TypeError"),
    ],
)
def test_settings_that_a_learner_cannot_be_made_with_are_one_sentence(
    name: str, settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError) as error:
        Learner(name, target(2), settings, seed=0)
    assert expected in sentence(error.value)
    assert repr(name) in str(error.value)


def test_learners_by_name_and_path() -> None:
    assert learner_class("ppo") is PPO
    assert learner_class("stable_baselines3:PPO") is PPO
    assert learner_class(f"{__name__}:CustomPPO") is CustomPPO
    for wrong, expected in (
        ("pop", "'ppo'?"),
        ("no_such_module:X", "no_such_module"),
        ("stable_baselines3:PPPO", "'PPO'?"),
        ("stable_baselines3:DQN", "DQNPolicy"),
        ("math:pi", "OnPolicyAlgorithm"),
    ):
        with pytest.raises(UserError) as error:
            learner_class(wrong)
        assert expected in sentence(error.value)


@pytest.mark.parametrize("family", presets.FAMILIES)
def test_presets_suit_their_learners(family: str) -> None:
    preset = presets.FAMILIES[family]
    assert set(preset.learners) == {*LEARNERS, "direct"}
    for name, settings in preset.learners.items():
        if name in LEARNERS:
            check_settings(name, settings)
        assert "n_steps" in settings
        size = settings.get("batch_size")
        assert size is None or settings["n_steps"] * preset.n_envs % size == 0  # no minibatch is cut short
    scales = {"classic": 1.0, "exact": 1.0, "pixels": 0.05}  # the last is the paper's, A.2
    assert preset.reward_std == scales.get(family, 0.1)


def test_segments_last_as_long_as_in_the_paper() -> None:
    for name, steps in presets.SEGMENT_STEPS.items():
        assert 15 <= steps <= 60, name
        assert any(spec.name == name for spec in gym.registry.values()), name
    for name in presets.ENV_KWARGS:
        gym.make(f"{name}-v5", **name_value(presets.ENV_KWARGS[name], "environment argument")).close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1", 1),
        ("a=1e-4", 1e-4),
        ("a=lin_1e-3", "lin_1e-3"),
        ("a=[1, 2]", [1, 2]),
        ('a="1"', "1"),
        ("a=true", True),
        ("a=false", False),
        ("a=True", True),  # as Python writes them; a word that is true whatever it says would be a trap
        ("a=False", False),
        ("a=b=c", "b=c"),
        ("a={x = 1}", {"x": 1}),
        ('a={x = "ReLU", "y z" = ["b", true, 1.5, "c\\n"]}', {"x": "ReLU", "y z": ["b", True, 1.5, "c\n"]}),
    ],
)
def test_names_and_values(text: str, expected: Any) -> None:
    parsed = name_value((text,), "learner setting")
    assert parsed == {"a": expected}
    assert type(parsed["a"]) is type(expected)
    assert name_value((f"a={as_toml(expected)}",), "learner setting") == parsed  # as a run's folder has it


@pytest.mark.parametrize("text", ["a", "=1", "", "a=1\nb=2"])
def test_what_is_no_name_and_value_is_one_sentence(text: str) -> None:
    with pytest.raises(UserError) as error:
        name_value((text,), "learner setting")
    assert "learner setting" in sentence(error.value)


CRAFTED = {
    "a layer of 10^9": {"net_arch": [10**9]},
    "layers of 10^5": {"net_arch": {"pi": [100_000, 100_000], "vf": []}},
    "10^5 layers": {"net_arch": [1] * 100_000},
    "a word": {"net_arch": ["wide"]},
    "a layer below zero": {"net_arch": [-8]},
    "a class by name": {"features_extractor_class": "os.system"},
    "no table": 7,
}


@pytest.mark.parametrize("said", CRAFTED.values(), ids=CRAFTED)
def test_a_policy_takes_no_more_memory_than_its_file_holds(said: Any, tmp_path: Path) -> None:
    env = make_env_of("vector")
    path = tmp_path / "policy.safetensors"
    Learner("ppo", env, settings_of("ppo"), seed=0).save(path)
    tensors, about = load_tensors(path)
    kwargs = {**about["policy_kwargs"], **said} if isinstance(said, dict) else said
    save_tensors(path, tensors, {**about, "policy_kwargs": kwargs})
    began = time.process_time()
    with pytest.raises(UserError, match="is not a policy for this environment"):
        Policy(path, env.observation_space, env.action_space)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("name", "value"), [("observation_mean", torch.zeros(7)), ("observation_var", -torch.ones(3)), ("NaN", torch.nan)]
)
def test_a_policy_that_cannot_act_is_not_read(name: str, value: Any, tmp_path: Path) -> None:
    env = make_env_of("vector")
    path = tmp_path / "policy.safetensors"
    Learner("ppo", env, settings_of("ppo"), seed=0).save(path)
    tensors, about = load_tensors(path)
    changed = {key: tensor * value for key, tensor in tensors.items()} if name == "NaN" else {**tensors, name: value}
    save_tensors(path, changed, about)
    with pytest.raises(UserError, match="is not a policy for this environment"):
        Policy(path, env.observation_space, env.action_space)
