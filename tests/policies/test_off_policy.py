"""Learners that replay: exact steps, a buffer that is paid as r-hat is now, and policies that are read back."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import AnyEnv, TargetEnv, sentence
from numpy.typing import NDArray
from prefrl.experience.vector import make_vec_env
from stable_baselines3 import SAC
from stable_baselines3.common.noise import NormalActionNoise

import prefrl
from prefrl.cli import main
from prefrl.experience.recorder import Recorder
from prefrl.experiment import opened
from prefrl.policies.learners import REPLAYERS, learner_class, replays
from prefrl.policies.methods import Agent
from prefrl.policies.off_policy import AFTER_RESET, Replayer
from prefrl.policies.policy import Policy
from prefrl.policies.state_entropy import StateEntropy
from prefrl.rewards.paid import bounded
from prefrl.runs.resolve import resolve
from prefrl.runs.runlog import read_table
from prefrl.settings import presets
from prefrl.settings.config import BaselineConfig, TrainConfig
from prefrl.words.errors import UserError


class NarrowEnv(TargetEnv):
    """`TargetEnv` with two actions bounded at 0.4, as Humanoid's are, the second of them unevenly."""

    action_space = spaces.Box(np.float32([-0.4, -0.1]), np.float32([0.4, 0.4]))


gym.register("prefrl-tests/Narrow-v0", NarrowEnv, max_episode_steps=20)

every_learner = pytest.mark.parametrize("name", [name for name in REPLAYERS if name != "pebble"])
SMALL = TrainConfig(
    env="prefrl-tests/Narrow-v0", learner="sac", steps=1_200, labels=30, n_envs=4, segment_steps=8, phases=4,
    explore_steps=320, initial_epochs=10, fit_updates=8, tensorboard=False,
    set=("gradient_steps=4", "learning_starts=40", "batch_size=16", "policy_kwargs={net_arch = [16]}"),
)  # fmt: skip


def settings_of(name: str, **more: Any) -> dict[str, Any]:
    small = {"buffer_size": 400, "learning_starts": 8, "batch_size": 16, "train_freq": 4, "gradient_steps": 2}
    return small | {"policy_kwargs": {"net_arch": [16]}} | ({"action_noise": 0.1} if name == "td3" else {}) | more


def target(n_envs: int = 4, seed: int = 0) -> Recorder:
    """`TargetEnv`s: what is shown says which action pays best; episodes of 20 steps."""
    return Recorder(make_vec_env("prefrl-tests/Target-v0", n_envs, seed), "Target-v0", seed, 100_000)


def made(name: str, env: Recorder, unsupervised: bool = False, **more: Any) -> Replayer:
    """A learner on the true reward as it is."""

    def paid(vector_steps: int) -> NDArray[np.float32]:
        return env.recent_rewards(vector_steps * env.num_envs).astype(np.float32)

    return Replayer(name, env, settings_of(name, **more), 0, "cpu", paid, unsupervised=unsupervised)


def start() -> float:
    return 0.0


def weights(learner: Replayer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.model.policy.state_dict().items()}


def rows_of(learner: Replayer) -> NDArray[np.int64]:
    """Places of what is replayed, oldest first."""
    size, place = learner.buffer.size(), learner.buffer.pos
    return np.arange(place - size, place) % learner.buffer.buffer_size


@every_learner
def test_steps_and_updates_are_exact(name: str) -> None:
    env = target(3)
    learner = made(name, env)
    assert isinstance(learner, Agent)
    learner.explore(11)
    assert (env.steps, learner.model._n_updates) == (33, 0)
    taken = 11
    for rollouts in ([4], [4, 3, 5], [1], [2, 4]):
        measures = learner.learn(rollouts, start)
        taken += sum(rollouts)
        assert env.steps == 3 * taken
        assert learner.model._n_updates == (taken - 11) // 2  # two updates for every four steps
        assert all(isinstance(value, float) and math.isfinite(value) for value in measures.values())
    assert all(tensor.isfinite().all() for tensor in weights(learner).values())
    assert learner.rollout_steps == 4


def test_the_buffer_holds_what_happened_and_a_time_limit_is_no_end() -> None:
    env = target(2)
    learner = made("sac", env, buffer_size=60)
    learner.explore(7)
    learner.learn([4] * 20, start)
    observations, actions, rewards = env.recent(60)
    buffer, rows = learner.buffer, rows_of(learner)
    assert len(rows) == 30
    np.testing.assert_array_equal(buffer.observations[rows].reshape(60, -1), observations)
    np.testing.assert_allclose(2 * buffer.actions[rows].reshape(60, -1), actions, rtol=1e-6)  # bounded at 2
    np.testing.assert_allclose(buffer.rewards[rows].ravel(), rewards, rtol=1e-6)
    ends = buffer.dones[rows]
    assert ends.sum() == 3
    assert (buffer.timeouts[rows] == ends).all()
    follows = buffer.observations[rows][1:] == buffer.next_observations[rows][:-1]
    assert (follows[..., 0] == (ends[:-1] == 0)).all()  # the state that an episode ended in is no other's first


@pytest.mark.parametrize(("env", "bound"), [("Pendulum-v1", 2.0), ("prefrl-tests/Narrow-v0", 0.4)])
@pytest.mark.parametrize("unsupervised", [True, False])
def test_after_every_fit_all_that_is_replayed_is_paid_by_the_r_hat_of_now(
    tmp_path: Path, env: str, bound: float, unsupervised: bool
) -> None:
    config = replace(
        SMALL,
        env=env,
        unsupervised=unsupervised,
        wrapper=(),  # the bounds as they are
        out=tmp_path / "run",
        set=(*SMALL.set, "buffer_size=800"),
    )
    with opened(resolve(config), quiet=True) as run:
        before = np.zeros(0)
        for phase in run.phases:
            run.fit(phase, run.answer(run.ask(phase)))
            measures = run.learn(phase)
            learner, r_hat = run.policy, run.model.r_hat  # type: ignore[attr-defined]
            assert isinstance(learner, Replayer)
            buffer, rows = learner.buffer, rows_of(learner)
            assert buffer.size() == min(run.env.steps, 800) // 4
            space = run.env.action_space
            assert isinstance(space, spaces.Box)
            actions = space.low + (buffer.actions[rows] + 1) / 2 * (space.high - space.low)
            observations = buffer.observations[rows]
            told = bounded(
                r_hat.reward(observations.reshape(-1, observations.shape[-1]), actions.reshape(-1, actions.shape[-1])),
                r_hat.reward_std,
            )
            np.testing.assert_allclose(buffer.rewards[rows].ravel(), told, rtol=1e-3, atol=1e-4)
            held, happened = run.env.recent(buffer.size() * 4)[:2]
            np.testing.assert_array_equal(observations.reshape(held.shape), held)
            np.testing.assert_allclose(actions.reshape(happened.shape), happened, rtol=1e-5, atol=1e-6)
            assert 0.9 * bound < np.abs(happened).max() <= np.float32(bound)
            assert abs(told.mean()) < 0.2  # one scale over all that is replayed, not over the newest of it
            assert 0.7 < told.std() < 1.3
            assert not np.array_equal(told, before)
            before = told
            run.record(phase, measures)
            run.checkpoint(phase)


def test_the_true_reward_is_brought_to_one_scale_over_all_that_is_replayed(tmp_path: Path) -> None:
    names = ("env", "learner", "steps", "n_envs", "phases", "explore_steps", "set", "tensorboard")
    config = BaselineConfig(**{name: getattr(SMALL, name) for name in names}, out=tmp_path / "run")
    with opened(resolve(config), quiet=True) as run:
        for phase in run.phases:
            run.fit(phase)
            measures = run.learn(phase)
            learner = run.policy
            assert isinstance(learner, Replayer)
            paid, true = learner.buffer.rewards[rows_of(learner)].ravel(), run.env.recent(run.env.steps)[2]
            assert np.corrcoef(paid, true)[0, 1] == pytest.approx(1, abs=1e-5)
            steps = run.env.steps - sum(phase.rollouts) * 4  # the scale is that of before the phase
            assert paid[:steps].mean() == pytest.approx(0, abs=1e-3)
            assert paid[:steps].std() == pytest.approx(1, abs=1e-3)
            run.record(phase, measures)


@every_learner
def test_contract_every_learner_learns(name: str) -> None:
    env = target(4)
    learner = made(
        name, env, buffer_size=4000, gradient_steps=8, learning_rate=1e-2, batch_size=64, gamma=0.1, tau=0.05,
        policy_kwargs={"net_arch": [32]},
    )  # fmt: skip
    learner.explore(40)
    learner.learn([4] * 40, start)
    rewards = env.recent_rewards(10_000)
    assert rewards[-20:].mean() > rewards[:40].mean() / 2  # both are below zero


def test_unsupervised_exploration_spreads_out_and_leaves_critics_that_know_nothing() -> None:
    spread = {}
    for unsupervised in (True, False):
        venv = make_vec_env("Pendulum-v1", 4, 0)
        env = Recorder(venv, "Pendulum-v1", 0, 10_000)
        learner = made(
            "sac", env, unsupervised, gradient_steps=4, buffer_size=10_000, learning_rate=3e-3, batch_size=64,
            learning_starts=100,
        )  # fmt: skip
        before = weights(learner)
        learner.explore(200)
        after, model = weights(learner), learner.model
        acted = any(not torch.equal(before[name], after[name]) for name in before if name.startswith("actor"))
        assert acted == unsupervised
        assert model._n_updates == (176 if unsupervised else 0)  # of 100 steps in 4 environments nothing is learned
        assert bool(model.actor.optimizer.state) == unsupervised
        assert not model.critic.optimizer.state
        for name, tensor in model.critic.state_dict().items():
            assert torch.equal(tensor, model.critic_target.state_dict()[name])
        learner.learn([4], start)
        assert model._n_updates == (176 + AFTER_RESET if unsupervised else 0) + 4
        spread[unsupervised] = env.recent(400)[0].std(0).mean()
    assert spread[True] > spread[False]


def test_states_unlike_others_are_worth_more() -> None:
    rng = np.random.default_rng(0)
    seen = (rng.normal(size=(9000, 3)) * (1, 1000, 0)).astype(np.float32)  # whatever its unit, a coordinate counts
    entropy = StateEntropy(spaces.Box(-np.inf, np.inf, (3,), np.float32), reward_std=0.5)
    paid = entropy.fit(seen)
    assert paid.std() == pytest.approx(0.5, rel=1e-4)
    assert (paid >= 0).all()
    near, far, farther = entropy.reward(np.float32([[0, 0, 0], [5, 0, 0], [0, 9000, 0]]))
    assert near < far < farther
    np.testing.assert_allclose(entropy.reward(seen[:5]), paid[:5], rtol=1e-4)
    still = StateEntropy(spaces.Box(-1, 1, (1,), np.float32), 1.0)
    assert np.isfinite(still.fit(np.zeros((3, 1), np.float32))).all()


@every_learner
def test_a_learner_is_its_seed(name: str) -> None:
    one, two = ([], [])
    for found in (one, two):
        learner = made(name, target(), unsupervised=True)
        learner.explore(20)
        learner.learn([4] * 3, start)
        found += weights(learner).values()
    assert all(map(torch.equal, one, two))


@every_learner
def test_a_saved_policy_acts_as_the_live_one_did(tmp_path: Path, name: str) -> None:
    env = Recorder(make_vec_env("prefrl-tests/Narrow-v0", 2, 0), "Narrow", 0, 1000)
    learner = made(name, env)
    learner.explore(10)
    learner.learn([4] * 4, start)
    learner.save(tmp_path / "policy.safetensors")
    policy = Policy(tmp_path / "policy.safetensors", env.observation_space, env.action_space)
    observations = np.random.default_rng(0).normal(10, 30, size=(50, 1)).astype(np.float32)
    expected = learner.model.predict(observations, deterministic=True)[0]
    np.testing.assert_array_equal(policy.act(observations, deterministic=True), expected)
    np.testing.assert_allclose(policy.act(observations[0], deterministic=True), expected[0], rtol=1e-5)
    drawn = np.concatenate([policy.act(observations[:1]) for _ in range(50)])
    assert (drawn.std(0).max() > 1e-6) == (
        name != "td3"
    )  # whose policy is certain; what it explores by is no part of it
    assert isinstance(env.action_space, spaces.Box)
    assert (drawn >= env.action_space.low).all()
    assert (drawn <= env.action_space.high).all()
    names = set(policy.policy.state_dict())
    assert names
    assert all(name.startswith("actor.") for name in names)  # critics act on nothing


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has come to its end, with several checkpoints."""
    out = tmp_path_factory.mktemp("sac") / "run"
    return prefrl.train(replace(SMALL, env="Pendulum-v1", steps=2_400, checkpoint_every=800, out=out), quiet=True)


def test_commands_read_such_a_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", str(finished), "--steps", "400", "--pairs", "20"])
    assert "accuracy" in capsys.readouterr().out
    run = prefrl.load_run(finished)
    env = run.make_env()
    observation, _ = env.reset(seed=0)
    assert env.action_space.contains(run.policy.act(np.asarray(observation)[None])[0])


def test_a_run_spends_what_it_was_asked_to(finished: Path) -> None:
    table = read_table(finished / "metrics.csv")
    assert table["step"][-1] == 2_400
    assert table["labels_answered"][-1] == SMALL.labels
    assert all(map(math.isfinite, table["learner_ent_coef"]))


def test_sessions_of_questions_come_every_so_many_steps(tmp_path: Path) -> None:
    config = replace(SMALL, session_steps=200, session_labels=12, labels=40, out=tmp_path / "run")
    table = read_table(prefrl.train(config, quiet=True) / "metrics.csv")
    assert table["labels_asked"] == [12, 24, 36, 40]
    assert np.abs(np.diff([320, *table["step"]]) - 220).max() <= 16  # 880 steps in four sessions
    with pytest.raises(UserError) as error:
        resolve(replace(config, labels=60, out=tmp_path / "other"))
    assert "session_labels=15" in sentence(error.value)


def test_questions_may_come_from_recent_experience_alone(tmp_path: Path) -> None:
    config = replace(SMALL, keep_steps=160, out=tmp_path / "run")
    resolved = resolve(config)
    assert (resolved.keep_steps, resolved.replay_steps, resolved.reward_window) == (160, 1200, 1200)
    with opened(resolved, quiet=True) as run:
        for phase in run.phases:
            queries = run.ask(phase)
            for query in queries:
                for side in (query.left, query.right):
                    begins = run.env.recent(160)[0]
                    assert any(np.array_equal(side.observations[0], shown) for shown in begins)
            run.fit(phase, run.answer(queries))
            run.record(phase, run.learn(phase))


def test_presets_suit_their_learners() -> None:
    assert presets.REPLAY_PRESETS.keys() == REPLAYERS.keys()
    for name in REPLAYERS:
        resolved = resolve(TrainConfig(env="HalfCheetah-v5", learner=name, steps=500_000, labels=100))
        assert resolved.settings["gradient_steps"] <= resolved.settings["train_freq"] * resolved.n_envs
        assert resolved.reward_std == 1.0
        assert resolved.unsupervised
        assert resolved.replay_steps == resolved.reward_window == 500_000
    assert (resolved.segment_steps, resolved.n_envs, resolved.explore_steps) == (50, 1, 10_000)  # PEBBLE's
    assert resolved.phases == round(490_000 / 20_000)
    usual = resolve(TrainConfig(env="HalfCheetah-v5"))
    assert (usual.reward_window, usual.replay_steps, usual.unsupervised) == (50_000, 0, None)


def test_learners_by_name_and_path() -> None:
    assert learner_class("sac") is SAC
    assert replays("stable_baselines3:TD3")
    assert not replays("ppo")
    noise = made("td3", target(), action_noise=0.2).model.action_noise
    assert isinstance(noise, NormalActionNoise)


BOX = spaces.Box(-1, 1, (3,), np.float32)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"env": "CartPole-v1"}, "Discrete(2)"),
        ({"env": "prefrl-tests/Pictures-v0"}, "pictures"),
        ({"set": ("buffer_size=100000000000",)}, "buffer_size"),
        ({"set": ("use_sde=true",)}, "leave it out"),
        ({"set": ("optimize_memory_usage=true",)}, "leave it out"),
        ({"set": ("train_freq=0",)}, "train_freq"),
        ({"set": ("train_freq=[1, 'episode']",)}, "train_freq"),
        ({"set": ("action_noise=lots",)}, "action_noise"),
        ({"set": ("n_epochs=3",)}, "n_epochs"),
        ({"set": ("ent_coef=plenty",)}, "ent_coef"),
        ({"learner": "stable_baselines3:DQN"}, "DQNPolicy"),
        ({"learner": "sacc"}, "'sac'?"),
        ({"entropy_bonus": 0.01}, "ent_coef"),
        ({"kl_beta": 0.1}, "replays"),
        ({"learner": "ppo", "unsupervised": True, "set": ()}, "once"),
        ({"session_steps": -1}, "session_steps"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as error:
        prefrl.train(replace(SMALL, out=tmp_path / "run", **change), quiet=True)
    assert expected in sentence(error.value)
    assert not (tmp_path / "run").exists()


def _any(observation: spaces.Space[Any], action: spaces.Space[Any]) -> Any:
    return lambda: AnyEnv(observation, action)


gym.register("prefrl-tests/Pictures-v0", _any(spaces.Box(0, 255, (44, 44, 3), np.uint8), BOX), max_episode_steps=9)
