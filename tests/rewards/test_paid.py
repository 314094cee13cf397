from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import AnyEnv, counters, sentence
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper

from prefrl.experience.backends import make_vec_env
from prefrl.experience.environments import make_env
from prefrl.experience.recorder import Recorder
from prefrl.policies.learners import LEARNERS
from prefrl.policies.on_policy import Learner
from prefrl.rewards.paid import LearnedReward, LearnedRewardEnv, ScaledTrueReward
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.words.errors import UserError
from prefrl.words.scale import MOST

POISON = 1e17  # the largest sizes that the recorder takes: one that is looked at would drown everything else


class Poisoned(VecEnvWrapper):
    """Pays huge noise for every step, which says nothing of it."""

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.rng = np.random.default_rng(0)

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        return observations, self.rng.choice([-POISON, POISON], rewards.shape).astype(rewards.dtype), dones, infos


def ensemble(env: VecEnv | gym.Env[Any, Any], seed: int = 0) -> RewardEnsemble:
    """As first drawn, but with a normalisation of its own."""
    generator = torch.Generator().manual_seed(seed)
    r_hat = RewardEnsemble(env.observation_space, env.action_space, generator=generator)
    r_hat.output_mean.copy_(torch.tensor([0.1, -0.2, 0.3]))
    r_hat.output_std.copy_(torch.tensor([0.5, 2.0, 1.0]))
    return r_hat


def actions_of(env: VecEnv, rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.normal(size=(env.num_envs, *(env.action_space.shape or ()))).astype(np.float32)


def test_each_step_is_paid_for_the_observation_acted_on_and_the_action() -> None:
    venv = counters(3, 4, 7)
    r_hat = ensemble(venv)
    env = LearnedReward(venv, r_hat)
    rng = np.random.default_rng(0)
    acted_on = env.reset().copy()
    ends = 0
    for step in range(40):
        if step == 17:  # in mid-episode
            acted_on = env.reset().copy()
        actions = actions_of(env, rng)
        observations, rewards, dones, _infos = env.step(actions)
        np.testing.assert_array_equal(rewards, r_hat.reward(acted_on, actions))
        assert not np.isclose(rewards, r_hat.reward(observations, actions)).any()
        ends += dones.sum()
        acted_on = observations.copy()
        observations[:] = np.nan  # the caller's to spoil
    assert ends > 15


def test_the_reward_is_that_of_the_ensemble_as_it_is_now() -> None:
    venv = counters(2, 50)
    r_hat = ensemble(venv)
    env = LearnedReward(venv, r_hat)
    env.reset()
    action = np.ones((2, 2), np.float32)
    with torch.no_grad():
        for parameter in r_hat.parameters():
            parameter.zero_()
    expected = np.mean([-0.1 / 0.5, 0.2 / 2.0, -0.3 / 1.0])
    np.testing.assert_allclose(env.step(action)[1], expected, rtol=1e-6)
    r_hat.output_mean.zero_()
    np.testing.assert_array_equal(env.step(action)[1], 0)


def test_an_episode_may_be_paid_its_sum_at_its_end() -> None:
    each, whole = (counters(3, 4, 7) for _ in range(2))
    r_hat = ensemble(each)
    step_by_step = LearnedReward(each, r_hat)
    at_the_end = LearnedReward(whole, r_hat, late=True, at_the_end=True)
    rng = np.random.default_rng(0)
    step_by_step.reset()
    at_the_end.reset()
    running, due, expected = np.zeros(3), [], []
    for step in range(40):
        actions = actions_of(step_by_step, rng)
        _, rewards, dones, _ = step_by_step.step(actions)
        assert not at_the_end.step(actions)[1].any()
        running += rewards
        expected.append(np.where(dones, running, 0))
        running[dones] = 0
        if step % 9 == 8:  # as rollouts end, in mid-episode
            due.append(at_the_end.due())
    due.append(at_the_end.due())
    np.testing.assert_allclose(np.concatenate(due), np.stack(expected), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(at_the_end.pop_returns(), step_by_step.pop_returns(), rtol=1e-5)


def test_a_unit_is_what_a_log_odds_is_paid_as() -> None:
    venv = counters(2, 50)
    r_hat = ensemble(venv)
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(100, 3)).astype(np.float32), rng.normal(size=(100, 2)).astype(np.float32)
    r_hat.normalise_outputs(*steps)
    members = r_hat.member_rewards(*steps).numpy()
    weights = 1 / r_hat.output_std.numpy()
    mean = weights / weights.sum() @ members
    paid = r_hat.reward(*steps)
    np.testing.assert_allclose(paid - paid.mean(), r_hat.unit * (mean - mean.mean()), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("expose", [False, True])
def test_nothing_but_the_reward_differs_from_the_environment(expose: bool) -> None:
    env, alone = LearnedReward(counters(2, 5), ensemble(counters(2, 5)), expose), counters(2, 5)
    np.testing.assert_array_equal(env.reset(), alone.reset())
    rng = np.random.default_rng(0)
    for _ in range(12):
        actions = actions_of(env, rng)
        mine, theirs = env.step(actions), alone.step(actions)
        np.testing.assert_array_equal(mine[0], theirs[0])
        np.testing.assert_array_equal(mine[2], theirs[2])
        for my_info, their_info, true in zip(mine[3], theirs[3], theirs[1], strict=True):
            assert my_info.pop("true_reward", None) == (true if expose else None)
            assert sorted(my_info) == sorted(their_info)
            for key, value in their_info.items():
                np.testing.assert_array_equal(my_info[key], value)


def test_exposing_the_true_reward_leaves_the_environments_own_infos_alone() -> None:
    class Keeper(VecEnvWrapper):
        infos: Any = None

        def reset(self) -> Any:
            return self.venv.reset()

        def step_wait(self) -> Any:
            *step, self.infos = self.venv.step_wait()
            return *step, self.infos

    below = Keeper(counters(2, 5))
    env = LearnedReward(below, ensemble(below), expose_true_reward=True)
    env.reset()
    env.step(np.zeros((2, 2), np.float32))
    assert not any("true_reward" in info for info in below.infos)


def test_the_returns_are_of_what_was_paid_in_finished_episodes() -> None:
    venv = counters(2, 3, 5)
    env = LearnedReward(venv, ensemble(venv))
    env.reset()
    rng = np.random.default_rng(0)
    rewards = np.array([env.step(actions_of(env, rng))[1].astype(np.float64) for _ in range(8)])
    expected = [rewards[:3, 0].sum(), rewards[:5, 1].sum(), rewards[3:, 0].sum(), rewards[5:, 1].sum()]
    assert sorted(env.pop_returns()) == pytest.approx(sorted(expected))
    assert not len(env.pop_returns())
    env.step(actions_of(env, rng))
    env.reset()  # that step belongs to no finished episode
    rewards = np.array([env.step(actions_of(env, rng))[1].astype(np.float64) for _ in range(3)])
    # The abandoned episodes had 3 and 5 steps to go; those that follow have 5 and 3.
    assert env.pop_returns() == pytest.approx([rewards[:3, 1].sum()])


def test_a_poisoned_reward_changes_nothing_that_is_seen() -> None:
    clean, poisoned = (
        LearnedReward(Recorder(venv, "Counter-v0", 0, 100), ensemble(venv))
        for venv in (counters(2, 5), Poisoned(counters(2, 5)))
    )
    np.testing.assert_array_equal(clean.reset(), poisoned.reset())
    rng = np.random.default_rng(0)
    for _ in range(12):
        actions = actions_of(clean, rng)
        for mine, theirs in zip(clean.step(actions)[:3], poisoned.step(actions)[:3], strict=True):
            np.testing.assert_array_equal(mine, theirs)
    paid = clean.pop_returns()
    assert np.isfinite(paid).all()
    assert len(paid) == 4
    assert poisoned.pop_returns().tolist() == paid.tolist()


@pytest.mark.parametrize("name", LEARNERS)
def test_a_poisoned_reward_changes_nothing_that_is_learned(name: str) -> None:
    states = []
    for wrapper in (VecEnvWrapperThatDoesNothing, Poisoned):
        recorder = Recorder(wrapper(make_vec_env("prefrl-tests/Target-v0", 4, 0)), "Target-v0", 0, 1000)
        env = LearnedReward(recorder, ensemble(recorder))
        settings = {"n_steps": 16} | ({} if name == "a2c" else {"batch_size": 16})
        learner = Learner(name, env, settings, seed=0, entropy_bonus=0.01)
        learner.explore(5)
        measures = learner.learn([16, 16], lambda: 0.0)
        states.append((learner.model.policy.state_dict(), measures))
        assert (np.abs(recorder.recent(10)[2]) > POISON / 2).all() == (wrapper is Poisoned)  # so it was there
    assert all(torch.equal(value, states[1][0][key]) for key, value in states[0][0].items())
    assert states[0][1] == states[1][1]


class VecEnvWrapperThatDoesNothing(VecEnvWrapper):
    """The environments as they are."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        return self.venv.step_wait()


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
@pytest.mark.parametrize("saved", [False, True], ids=["ensemble", "file"])
def test_a_single_environment_pays_what_the_vector_environment_paid(tmp_path: Path, env_id: str, saved: bool) -> None:
    venv = make_vec_env(env_id, 1, seed=5)
    r_hat = ensemble(venv)
    r_hat.save(tmp_path / "reward.safetensors")
    vector = LearnedReward(venv, r_hat, expose_true_reward=True)
    single = LearnedRewardEnv(make_env(env_id), tmp_path / "reward.safetensors" if saved else r_hat, True)
    mine, _ = single.reset(seed=5)
    theirs = vector.reset()
    ends = 0
    single.action_space.seed(0)
    for _ in range(60):
        np.testing.assert_array_equal(mine, theirs[0])
        action = single.action_space.sample()
        mine, reward, terminated, truncated, info = single.step(action)
        theirs, rewards, dones, infos = vector.step(np.array([action]))
        assert isinstance(reward, float)
        assert reward == pytest.approx(rewards[0], rel=1e-4, abs=1e-6)
        assert info["true_reward"] == pytest.approx(infos[0]["true_reward"], rel=1e-5)
        assert (terminated or truncated) == dones[0]
        if dones[0]:
            np.testing.assert_array_equal(mine, infos[0]["terminal_observation"])
            mine, _ = single.reset()
            ends += 1
    assert ends >= (env_id == "CartPole-v1")


def test_a_single_environment_keeps_its_true_reward_to_itself() -> None:
    env = LearnedRewardEnv(gym.make("Pendulum-v1"), ensemble(gym.make("Pendulum-v1")))
    env.reset(seed=0)
    _observation, reward, _terminated, _truncated, info = env.step(np.zeros(1, np.float32))
    assert info == {}
    true = gym.make("Pendulum-v1")
    true.reset(seed=0)
    assert reward != pytest.approx(true.step(np.zeros(1, np.float32))[1], abs=1e-3)


def box(n: int) -> spaces.Box:
    return spaces.Box(-1, 1, (n,), np.float32)


@pytest.mark.parametrize(
    ("learned_on", "used_on"),
    [
        ((box(3), box(1)), (box(4), box(1))),
        ((box(3), box(1)), (box(3), box(2))),
        ((box(3), box(2)), (box(3), spaces.Discrete(2))),
        ((box(3), spaces.Discrete(3)), (box(3), spaces.Discrete(4))),
        ((box(3), spaces.Discrete(3)), (box(3), spaces.Discrete(3, start=1))),
        ((box(3), spaces.MultiDiscrete([2, 3])), (box(3), spaces.MultiDiscrete([3, 2]))),
        ((spaces.Box(0, 255, (60, 60, 3), np.uint8), box(1)), (spaces.Box(0, 1, (60, 60, 3), np.float32), box(1))),
    ],
    ids=["observations", "actions", "kind", "choices", "first choice", "choices of each", "images"],
)
def test_a_reward_of_other_spaces_is_one_sentence(learned_on: Any, used_on: Any) -> None:
    r_hat = RewardEnsemble(*learned_on)
    LearnedRewardEnv(AnyEnv(*learned_on), r_hat)
    with pytest.raises(UserError) as error:
        LearnedRewardEnv(AnyEnv(*used_on), r_hat)
    assert "space" in sentence(error.value)


def test_a_saved_reward_fits_the_spaces_it_was_saved_with(tmp_path: Path) -> None:
    for number, action_space in enumerate(
        (box(2), spaces.Discrete(3, start=4), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(4))
    ):
        env = AnyEnv(spaces.Box(0, 9, (3,), np.float64), action_space)  # bounds and precision do not matter
        RewardEnsemble(box(3), action_space).save(tmp_path / f"{number}")
        learned = LearnedRewardEnv(env, str(tmp_path / f"{number}"))
        learned.reset(seed=0)
        assert np.isfinite(learned.step(action_space.sample())[1])


def test_a_missing_reward_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        LearnedRewardEnv(gym.make("Pendulum-v1"), tmp_path / "reward.safetensors")
    assert "reward.safetensors" in sentence(error.value)


def test_choices_are_paid_for_too() -> None:
    venv = DummyVecEnv([lambda: AnyEnv(box(3), spaces.Discrete(3))] * 2)
    r_hat = ensemble(venv)
    env = LearnedReward(venv, r_hat)
    before = env.reset().copy()
    choices = np.array([2, 0])
    np.testing.assert_array_equal(env.step(choices)[1], r_hat.reward(before, choices))


def test_late_rewards_are_those_of_the_steps() -> None:
    venvs = [counters(3, 4, 7, 5), counters(3, 4, 7, 5)]
    at_once, late = LearnedReward(venvs[0], ensemble(venvs[0])), LearnedReward(venvs[1], ensemble(venvs[1]), late=True)
    rng = np.random.default_rng(0)
    at_once.reset(), late.reset()
    for steps in (1, 12, 3):
        paid = []
        for _ in range(steps):
            actions = actions_of(at_once, rng)
            paid.append(at_once.step(actions)[1])
            observations, nothing, _dones, _infos = late.step(actions)
            assert not nothing.any()
            observations[:] = actions[:] = np.nan  # the caller's to spoil
        np.testing.assert_allclose(late.due(), paid, rtol=1e-5, atol=1e-6)
        assert late.due().shape == (0, 3)
        np.testing.assert_allclose(late.pop_returns(), at_once.pop_returns(), rtol=1e-5)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_paid_by_the_rollout_learns_what_one_paid_at_the_step_does(name: str) -> None:
    rewards, weights = [], []
    for late in (False, True):
        recorder = Recorder(make_vec_env("prefrl-tests/Target-v0", 4, 0), "Target-v0", 0, 1000)
        paid = LearnedReward(recorder, ensemble(recorder), late=late)
        settings = {"n_steps": 16} | ({} if name == "a2c" else {"batch_size": 16})
        learner = Learner(name, paid, settings, seed=0, due=paid.due if late else None)
        learner.explore(30)
        learner.learn([25, 16], lambda: 0.0)  # time limits at 20 steps: a cut-off's value is in the reward
        rewards.append(learner.model.rollout_buffer.rewards)
        weights.append(torch.cat([p.detach().ravel() for p in learner.model.policy.parameters()]))
        assert not late or not len(paid.due())
    np.testing.assert_allclose(*rewards, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(*weights, rtol=1e-2, atol=1e-3)


class Written(gym.Env[Any, Any]):
    """Shows what it pays for the next step, a number that is written down beforehand."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, rewards: NDArray[np.float32]) -> None:
        self.rewards, self.at = rewards, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        return self.rewards[self.at : self.at + 1], {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.at += 1
        return self.rewards[self.at : self.at + 1], float(self.rewards[self.at - 1]), False, False, {}


def written(rewards: NDArray[np.float64]) -> Recorder:
    """A recorder of one environment that pays these, and ends with 0."""
    shown = np.append(rewards, 0).astype(np.float32)
    return Recorder(DummyVecEnv([lambda: Written(shown)]), "Written", 0, 10_000)


def as_written(members: int, reward_std: float) -> RewardEnsemble:
    """A reward model that has learned what `Written` shows: each member on a scale and from a zero of its own."""
    space = Written.observation_space
    r_hat = RewardEnsemble(space, Written.action_space, members, reward_std, hidden=())
    with torch.no_grad():
        for member in range(members):
            r_hat.network.weights[0][member] = torch.tensor([[3.0 ** (member - 1)], [0.0]])
            r_hat.network.biases[0][member] = 0.0
    return r_hat


RNG, STEPS = np.random.default_rng(0), 250
WINDOWS = {
    "dense": RNG.normal(3, 2, STEPS),
    "one a step": np.ones(STEPS),
    "minus one until a goal": np.where(np.arange(STEPS) % 70 == 69, 0.0, -1.0),
    "a point now and then": np.where(np.arange(STEPS) % 120 == 119, 20.0, 0.0),
    "none": np.zeros(STEPS),
}


@pytest.mark.parametrize("kept", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("kind", WINDOWS)
def test_a_learned_reward_that_is_the_true_one_is_paid_as_the_true_one_is(kind: str, kept: float) -> None:
    """One treatment of both arms."""
    rewards = np.concatenate([WINDOWS[kind], [5.0, -1.0, 0.0, 900.0, 1e9]])
    paid: list[NDArray[Any]] = []
    for is_true in (True, False):
        recorder, r_hat = written(rewards), as_written(3, 0.5)
        env = ScaledTrueReward(recorder, 0.5) if is_true else LearnedReward(recorder, r_hat)
        env.reset()
        action = np.zeros((1, 1), np.float32)
        for _ in range(STEPS):
            env.step(action)
        if isinstance(env, ScaledTrueReward):
            env.normalise(recorder.recent_rewards(STEPS), kept)
        else:
            r_hat.normalise_outputs(*recorder.recent(STEPS)[:2], kept)
        paid.append(np.array([env.step(action)[1] for _ in range(5)]))
    true, learned = paid
    if kind == "none":  # nothing is known of its scale: each arm goes on with the one that it has
        np.testing.assert_allclose(true.ravel(), [2.5, -0.5, 0.0, 32.0, 32.0])
        assert np.abs(learned).max() <= 32.0
    else:
        np.testing.assert_allclose(true, learned, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kept", [0.0, 1.0])
def test_a_reward_that_does_not_vary_is_paid_at_its_deviation(kept: float) -> None:
    recorder = written(np.ones(600))
    env = ScaledTrueReward(recorder, 0.1)
    env.reset()
    for _ in range(500):
        env.step(np.zeros((1, 1), np.float32))
    env.normalise(recorder.recent_rewards(400), kept)
    assert env.step(np.zeros((1, 1), np.float32))[1] == pytest.approx(0.1)


@pytest.mark.parametrize("kept", [0.0, 1.0])
def test_points_that_a_sample_of_the_window_misses_are_paid_with_a_bound(kept: float) -> None:
    env = ScaledTrueReward(counters_recorded(), 1.0)
    window = np.zeros((3_000, 4))
    window[1:1_500:699, 2] = 250.0  # three points; of 12,000 steps every third is looked at
    env.normalise(window, kept)
    assert (250.0 - env.offset) / env.scale == pytest.approx(MOST, rel=1e-3)
    env.normalise(np.zeros((3_000, 4)), kept)  # they are forgotten, and their scale is not
    assert (250.0 - env.offset) / env.scale == pytest.approx(MOST, rel=1e-3)


def counters_recorded() -> Recorder:
    return Recorder(counters(4, 5), "Counter", 0, 400)


@pytest.mark.parametrize("true_reward", [True, False])
def test_the_first_early_end_does_not_move_the_paid_mean_at_once(true_reward: bool) -> None:
    """The mean of what is paid, phase by phase of a tenth of the blend, when an episode has just ended by itself."""
    recorder, r_hat = written(RNG.normal(3, 1, 300)), as_written(2, 1.0)
    env = ScaledTrueReward(recorder, 1.0)
    env.reset()
    for _ in range(300):
        env.step(np.zeros((1, 1), np.float32))
    observations, actions, seen = recorder.recent(300)
    means = []
    for kept in np.linspace(0, 1, 11).tolist():
        env.normalise(seen[:, None], kept)
        r_hat.normalise_outputs(observations, actions, kept)
        paid = (seen - env.offset) / env.scale if true_reward else r_hat.reward(observations, actions)
        means.append(float(paid.mean()))
    assert means[0] == pytest.approx(0, abs=1e-3)
    assert means[-1] == pytest.approx(3 / np.sqrt(10), rel=0.03)
    assert np.abs(np.diff(means)).max() < 0.3


def test_the_true_reward_is_clipped_before_it_is_scaled() -> None:
    recorder = written(np.array([7.0, -9.0, 0.5, 0.0]))
    env = ScaledTrueReward(recorder, 1.0, clip=True)
    env.reset()
    assert [float(env.step(np.zeros((1, 1), np.float32))[1][0]) for _ in range(4)] == [1.0, -1.0, 0.5, 0.0]
    env.normalise(recorder.recent_rewards(4), 1.0)
    assert env.scale == pytest.approx(np.sqrt(2.25 / 4))
