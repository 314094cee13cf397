import sys
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import CounterEnv, sentence, vector_of
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from prefrl.experience.backends import CUT_SHORT, GymnasiumVecEnv, first_limits, make_vec_env
from prefrl.experience.recorder import Recorder
from prefrl.words.errors import UserError

pytest.importorskip("envpool", reason="the extra fast is not installed")

TASKS: dict[str, dict[str, Any]] = {
    "HalfCheetah-v5": {},
    "Hopper-v5": {"terminate_when_unhealthy": False},
    "Walker2d-v5": {"terminate_when_unhealthy": False},
}
BACKENDS = ("envpool", "gymnasium")
task = pytest.mark.parametrize("env_id", TASKS)
both = pytest.mark.parametrize("backend", BACKENDS)


class Oracle:
    """Gymnasium's single environment, put into a state that an observation shows; x, which none shows, is zero."""

    def __init__(self, env_id: str, **kwargs: Any) -> None:
        self.env: Any = gym.make(env_id, **kwargs).unwrapped
        self.env.reset(seed=0)

    def step(self, observation: NDArray[Any], action: NDArray[Any]) -> tuple[NDArray[np.float64], float]:
        places = self.env.model.nq - 1
        state = observation.astype(np.float64)
        self.env.set_state(np.concatenate([[0.0], state[:places]]), state[places:])
        after, reward, *_ = self.env.step(action)
        return after, reward


def random_actions(env: VecEnv, rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.uniform(-1, 1, (env.num_envs, *(env.action_space.shape or ()))).astype(np.float32)


@both
@task
def test_spaces_are_those_of_gymnasium_in_float32(env_id: str, backend: str) -> None:
    env, reference = make_vec_env(env_id, 3, 0, backend, TASKS[env_id]), gym.make(env_id)
    assert env.num_envs == 3
    for mine, theirs in (
        (env.observation_space, reference.observation_space),
        (env.action_space, reference.action_space),
    ):
        assert isinstance(mine, spaces.Box)
        assert isinstance(theirs, spaces.Box)
        assert mine.dtype == np.float32
        np.testing.assert_array_equal(mine.low, theirs.low.astype(np.float32))
        np.testing.assert_array_equal(mine.high, theirs.high.astype(np.float32))
    observations = env.reset()
    assert isinstance(observations, np.ndarray)
    for _ in range(3):
        assert observations.dtype == np.float32
        assert observations.shape == (3, *(reference.observation_space.shape or ()))
        observations, rewards, dones, infos = env.step(random_actions(env, np.random.default_rng(0)))
        assert rewards.shape == dones.shape == (3,)
        assert len(infos) == 3
    env.close()


@both
@task
def test_a_transition_is_the_one_gymnasium_makes(env_id: str, backend: str) -> None:
    env, oracle = make_vec_env(env_id, 4, 1, backend, TASKS[env_id]), Oracle(env_id, **TASKS[env_id])
    rng = np.random.default_rng(0)
    before = np.array(env.reset())
    compared = 0
    for _ in range(60):
        actions = random_actions(env, rng)
        after, rewards, dones, _ = env.step(actions)
        assert not dones.any()
        for i in range(4):
            if np.abs(before[i]).max() < 10:  # faster than that, Hopper and Walker2d show a clipped velocity
                observation, reward = oracle.step(before[i], actions[i])
                np.testing.assert_allclose(after[i], observation, atol=1e-3)
                np.testing.assert_allclose(rewards[i], reward, atol=1e-4)
                compared += 1
        before = np.array(after)
    assert compared > 30
    env.close()


@task
def test_backends_pay_alike_from_start_to_end(env_id: str) -> None:
    returns = {}
    for backend in BACKENDS:
        env = make_vec_env(env_id, 16, 2, backend, TASKS[env_id])
        env.reset()
        rng = np.random.default_rng(0)
        returns[backend] = sum(env.step(random_actions(env, rng))[1].astype(np.float64) for _ in range(150))
        env.close()
    left, right = returns.values()
    error = np.sqrt(left.var(ddof=1) / 16 + right.var(ddof=1) / 16)
    assert abs(left.mean() - right.mean()) < 4 * error
    assert error > 0


@both
@task
def test_the_horizon_is_gymnasiums(env_id: str, backend: str) -> None:
    horizon = gym.spec(env_id).max_episode_steps
    assert horizon == 1000
    env = make_vec_env(env_id, 1, 0, backend, TASKS[env_id])
    env.reset()
    still = np.zeros((1, *(env.action_space.shape or ())), np.float32)
    ended = [bool(env.step(still)[2][0]) for _ in range(horizon)]
    assert ended == [False] * (horizon - 1) + [True]
    env.close()


@both
@task
def test_a_finished_episode_is_reset_within_the_step(env_id: str, backend: str) -> None:
    env = make_vec_env(env_id, 3, 0, backend, {**TASKS[env_id], "max_episode_steps": 6})
    oracle = Oracle(env_id, **TASKS[env_id])
    rng = np.random.default_rng(0)
    before = np.array(env.reset())
    starts = list(before)
    for step in range(1, 27):
        actions = random_actions(env, rng)
        after, _rewards, dones, infos = env.step(actions)
        # First episodes of 2, 4 and 6 steps, then 6 steps each: none is spent on resetting.
        assert dones.tolist() == [step >= first and (step - first) % 6 == 0 for first in (2, 4, 6)]
        for i, info in enumerate(infos):
            assert ("terminal_observation" in info) == dones[i]
            assert (CUT_SHORT in info) == ((i, step) in ((0, 2), (1, 4)))
            if dones[i]:
                assert info["TimeLimit.truncated"] is True
                last = info["terminal_observation"]
                assert last.dtype == np.float32
                if np.abs(before[i]).max() < 10:
                    np.testing.assert_allclose(last, oracle.step(before[i], actions[i])[0], atol=1e-3)
                starts.append(np.array(after[i]))
        before = np.array(after)
    for start in starts:  # each within the noise of a reset (0.1 sigma on HalfCheetah, 0.005 on the others)
        assert np.abs(start - starts[0]).max() < (1.0 if env_id == "HalfCheetah-v5" else 0.011)
    assert len({start.tobytes() for start in starts}) == len(starts) == 3 + 5 + 4 + 4  # and each drawn anew
    env.close()


@pytest.mark.parametrize(
    ("horizon", "n_envs", "expected"),
    [(1000, 4, [250, 500, 750, 0]), (1000, 1, [0]), (None, 3, [0, 0, 0]), (10, 3, [3, 6, 0]), (2, 4, [0, 1, 1, 0])],
)
def test_first_episodes_end_spread_over_the_horizon(horizon: int | None, n_envs: int, expected: list[int]) -> None:
    assert first_limits(horizon, n_envs).tolist() == expected


@pytest.mark.parametrize(("env_id", "horizon"), [("Pendulum-v1", 200), ("prefrl-tests/Target-v0", 20)])
def test_environments_with_a_horizon_do_not_march_in_step(env_id: str, horizon: int) -> None:
    env = make_vec_env(env_id, 4, 0)
    env.reset()
    ends: list[list[int]] = [[], [], [], []]
    for step in range(1, 2 * horizon + 1):
        _observations, _rewards, dones, infos = env.step(random_actions(env, np.random.default_rng(0)))
        for i in np.flatnonzero(dones):
            ends[i].append(step)
            assert infos[i]["TimeLimit.truncated"]
            assert (CUT_SHORT in infos[i]) == (step < horizon)
    quarter = horizon // 4
    assert ends == [[quarter * (i + 1), quarter * (i + 1) + horizon] for i in range(4)]


@both
def test_only_a_first_episode_is_cut_short(backend: str) -> None:
    env = make_vec_env("Hopper-v5", 8, 0, backend)  # falls long before step 125, the first limit
    env.reset()
    rng = np.random.default_rng(0)
    for _ in range(400):
        infos = env.step(random_actions(env, rng))[3]
        assert not any(CUT_SHORT in info for info in infos)
    env.close()


@both
def test_episodes_that_end_apart_are_reset_alone(backend: str) -> None:
    env = make_vec_env("Hopper-v5", 6, 0, backend, {"reset_noise_scale": 0.05})
    rng = np.random.default_rng(1)
    before = np.array(env.reset())
    fresh, apart = np.zeros(6, bool), 0
    for _ in range(150):
        after, _rewards, dones, infos = env.step(random_actions(env, rng))
        for i in np.flatnonzero(fresh):  # an episode goes on from its own start, which differs from all the others
            assert np.abs(after[i, :5] - before[:, :5]).sum(1).argmin() == i
        for i in np.flatnonzero(dones):
            assert infos[i]["TimeLimit.truncated"] is False  # it fell
            assert infos[i]["terminal_observation"][0] < 0.75 or abs(infos[i]["terminal_observation"][1]) > 0.15
            assert after[i, 0] > 1.0  # it stands again
        apart += int(dones.any() and not dones.all())
        before, fresh = np.array(after), dones.copy()
    assert apart > 10
    env.close()


@pytest.mark.parametrize(
    ("env_id", "backend"),
    [("HalfCheetah-v5", "envpool"), ("Hopper-v5", "envpool"), ("Hopper-v5", "gymnasium"), ("Pendulum-v1", "auto")],
)
def test_a_seed_is_a_trajectory(env_id: str, backend: str) -> None:
    def trajectory(seed: int) -> list[NDArray[Any]]:
        env = make_vec_env(env_id, 3, seed, backend, {**TASKS.get(env_id, {}), "max_episode_steps": 20})
        rng = np.random.default_rng(0)
        seen = [np.array(env.reset())]
        for _ in range(45):  # through two resets
            observations, rewards, _dones, _infos = env.step(random_actions(env, rng))
            seen += [np.array(observations), np.array(rewards)]
        env.close()
        return seen

    first, again, other = trajectory(3), trajectory(3), trajectory(4)
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(first[0], other[0])
    assert len(np.unique(first[0][:, 0])) == 3  # the environments of a run differ from one another


def test_auto_takes_what_is_fastest_and_falls_back() -> None:
    kinds = {
        env_id: type(make_vec_env(env_id, 1, 0)).__name__ for env_id in ("Hopper-v5", "Pendulum-v1", "CartPole-v1")
    }
    assert kinds == {"Hopper-v5": "EnvPoolVecEnv", "Pendulum-v1": "DummyVecEnv", "CartPole-v1": "DummyVecEnv"}
    assert type(make_vec_env("Hopper-v5", 1, 0, "gymnasium")).__name__ == "DummyVecEnv"


def test_auto_takes_every_argument_that_gymnasium_takes() -> None:
    # EnvPool spells this one otherwise, so it is Gymnasium that can do what was asked.
    env = make_vec_env("Hopper-v5", 1, 0, "auto", {"healthy_z_range": (0.0, 9.0)})
    env.reset()
    env.close()


@both
def test_arguments_reach_the_environment(backend: str) -> None:
    lengths = []
    for unhealthy_ends in (True, False):
        env = make_vec_env("Hopper-v5", 2, 0, backend, {"terminate_when_unhealthy": unhealthy_ends})
        env.reset()
        rng = np.random.default_rng(0)
        lengths.append(next((t for t in range(300) if env.step(random_actions(env, rng))[2].any()), 300))
        env.close()
    assert lengths[0] < 150 < lengths[1]


def test_what_the_interface_asks_of_envpools_environments() -> None:
    env = make_vec_env("Hopper-v5", 3, 0, "envpool")
    assert env.render_mode is None
    assert env.get_attr("render_mode", [0, 2]) == [None, None]
    assert env.env_is_wrapped(gym.Wrapper) == [False] * 3
    assert not env.has_attr("no_such_thing")
    for impossible in (lambda: env.get_attr("x"), lambda: env.set_attr("x", 1), lambda: env.env_method("x")):
        with pytest.raises(AttributeError, match="'x'"):
            impossible()
    env.close()


def test_an_environments_own_vector_class_does_what_single_ones_do() -> None:
    own = make_vec_env("prefrl-tests/Vector-v0", 4, 0)
    assert type(own).__name__ == "GymnasiumVecEnv"
    single = DummyVecEnv([lambda i=i: CounterEnv(i, (3 + i, 5)) for i in range(4)])  # type: ignore[misc]
    assert (own.observation_space, own.action_space) == (single.observation_space, single.action_space)
    np.testing.assert_array_equal(own.reset(), single.reset())
    finished = 0
    for _ in range(30):
        mine, theirs = (env.step(np.zeros((4, 2), np.float32)) for env in (own, single))
        for left, right in zip(mine[:3], theirs[:3], strict=True):
            np.testing.assert_array_equal(left, right)
        for done, left_info, right_info in zip(mine[2], mine[3], theirs[3], strict=True):
            finished += done
            assert left_info.get("TimeLimit.truncated", False) is right_info["TimeLimit.truncated"]
            assert ("terminal_observation" in left_info) == done
            if done:
                np.testing.assert_array_equal(left_info["terminal_observation"], right_info["terminal_observation"])
    assert finished > 20
    assert type(make_vec_env("prefrl-tests/Vector-v0", 4, 0, "gymnasium")).__name__ == "DummyVecEnv"


def test_a_vector_class_that_spends_steps_on_resets_is_left_alone() -> None:
    env = make_vec_env("prefrl-tests/NextStep-v0", 2, 0)
    assert type(env).__name__ == "DummyVecEnv"


@pytest.mark.parametrize(
    "space", [spaces.Box(-1, 1, (2,), np.float32), spaces.Box(0, 255, (84, 84, 3), np.uint8)], ids=["vectors", "images"]
)
def test_observations_of_a_step_are_not_overwritten_by_the_next(space: spaces.Box) -> None:
    env = GymnasiumVecEnv(vector_of(2, space=space), seed=0)
    given = [env.reset()]
    copies = [given[0].copy()]
    for _ in range(10):
        observations, _rewards, dones, infos = env.step(np.zeros(2, np.int64))
        given += [observations, *(info["terminal_observation"] for info in infos if dones.any())]
        copies += [seen.copy() for seen in given[len(copies) :]]
    for seen, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(seen, copy)


@pytest.mark.parametrize(
    ("backend", "kwargs"),
    [
        *((backend, {name: 1}) for backend in BACKENDS for name in ("terminate_when_unhealhty", "seed", "num_envs")),
        ("envpool", {"forward_reward_weight": "much"}),  # Gymnasium's class takes this until it has to multiply by it
    ],
)
def test_arguments_that_do_not_fit_are_one_sentence(backend: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(UserError) as error:
        make_vec_env("Hopper-v5", 2, 0, backend, kwargs)
    message = sentence(error.value)
    assert "Hopper-v5" in message
    assert next(iter(kwargs)) in message


def test_backends_that_cannot_be_had_are_one_sentence() -> None:
    for env_id, backend, expected in (
        ("Hopper-v5", "jax", "auto, envpool, gymnasium, subprocess, vector"),
        ("Pendulum-v1", "envpool", "auto"),
    ):
        with pytest.raises(UserError) as error:
            make_vec_env(env_id, 1, 0, backend)
        assert expected in sentence(error.value)


def test_envpool_missing_is_an_install_line_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(UserError) as error:
        make_vec_env("Hopper-v5", 1, 0, "envpool")
    assert '-e ".[fast]" in your checkout' in sentence(error.value)
    assert type(make_vec_env("Hopper-v5", 1, 0, "auto")).__name__ == "DummyVecEnv"


class Doubled(gym.RewardWrapper):
    """Pays twice as much."""

    def reward(self, reward):
        return 2 * reward


def _fails(error: Exception):
    def make(num_envs: int, **kwargs: object) -> None:
        raise error

    return make


@pytest.fixture
def registered():
    """Registers environments for one test."""
    before = dict(gym.registry)
    yield gym.register
    gym.registry.clear()
    gym.registry.update(before)


@pytest.mark.parametrize(
    "error",
    [TypeError("unexpected 'mode'"), ValueError("mode=1 is not known"), KeyError("mode"), gym.error.Error("no")],
    ids=lambda error: type(error).__name__,
)
def test_what_the_vector_class_refuses_is_stepped_alone(registered, error) -> None:
    registered("prefrl-tests/Picky-v0", CounterEnv, vector_entry_point=_fails(error))
    env = make_vec_env("prefrl-tests/Picky-v0", 2, 0, "auto", {"index": 3})
    assert type(env).__name__ == "DummyVecEnv"
    assert np.array(env.reset())[0, 0] == 3
    with pytest.raises(UserError, match="use backend auto or gymnasium") as caught:
        make_vec_env("prefrl-tests/Picky-v0", 2, 0, "envpool", {"index": 3})
    assert "prefrl-tests/Picky-v0" in sentence(caught.value)


def test_a_vector_class_that_shows_something_else_is_left_alone(registered) -> None:
    space = gym.spaces.Box(-1, 1, (5,), np.float32)
    registered("prefrl-tests/Other-v0", CounterEnv, vector_entry_point=partial(vector_of, space=space))
    env = make_vec_env("prefrl-tests/Other-v0", 2, 0)
    assert type(env).__name__ == "DummyVecEnv"
    assert env.observation_space.shape == (3,)


@pytest.mark.parametrize("env_id", ["Hopper-v5", "prefrl-tests/Vector-v0"])
def test_wrappers_of_a_specification_are_not_forgotten(registered, env_id) -> None:
    spec = gym.spec(env_id)
    wrapper = gym.envs.registration.WrapperSpec("Doubled", f"{__name__}:Doubled", {})
    bare = make_vec_env(env_id, 1, 0, "gymnasium")
    gym.registry[env_id] = replace(spec, additional_wrappers=(wrapper,))
    env = make_vec_env(env_id, 1, 0)
    assert type(env).__name__ == "DummyVecEnv"
    action = np.zeros((1, *env.action_space.shape), np.float32)
    for each in (bare, env):
        each.reset()
        each.step(action)
    np.testing.assert_allclose(env.step(action)[1], 2 * bare.step(action)[1])
    with pytest.raises(UserError, match="use backend auto or gymnasium"):
        make_vec_env(env_id, 1, 0, "envpool")


def test_arguments_and_a_time_limit_of_a_specification_are_not_forgotten(registered) -> None:
    spec = gym.spec("Hopper-v5")
    gym.registry["Hopper-v5"] = replace(spec, kwargs={"healthy_reward": 0.0})
    assert type(make_vec_env("Hopper-v5", 1, 0)).__name__ == "DummyVecEnv"
    gym.registry["Hopper-v5"] = replace(spec, max_episode_steps=7)
    env = make_vec_env("Hopper-v5", 1, 0, "auto", {"terminate_when_unhealthy": False})
    assert type(env).__name__ == "EnvPoolVecEnv"
    env.reset()
    dones = [bool(env.step(np.zeros((1, 3), np.float32))[2][0]) for _ in range(14)]
    assert np.flatnonzero(dones).tolist() == [6, 13]


def test_a_value_that_envpool_does_not_take_is_left_to_gymnasiums_class() -> None:
    skip = {"frame_skip": 4.0}
    assert type(make_vec_env("Hopper-v5", 1, 0, "auto", skip)).__name__ == "DummyVecEnv"
    with pytest.raises(UserError, match="wrong type"):
        make_vec_env("Hopper-v5", 1, 0, "envpool", skip)


class Rounds(gym.Env):
    """Games of given lengths, one after another, in episodes that a time limit cuts; it may promise to say so."""

    observation_space = gym.spaces.Box(0, 99, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, lengths=(3,), promises=True):
        self.metadata = {"several_games": promises}
        self.lengths = tuple(lengths)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.game, self.at = 0, 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.at += 1
        over = self.at == self.lengths[self.game % len(self.lengths)]
        info = {"game_over": over, "score": 10 * self.at}
        if over:
            self.game, self.at = self.game + 1, 0
        return np.array([self.at], np.float32), 1.0, False, False, info


@pytest.mark.parametrize("promises", [True, False])
def test_a_games_length_is_its_own_whatever_was_broken_off_before(registered, promises) -> None:
    registered("prefrl-tests/Rounds-v0", Rounds, max_episode_steps=8, kwargs={"promises": promises})
    recorder = Recorder(make_vec_env("prefrl-tests/Rounds-v0", 1, 0), "Rounds", 0, 100)
    recorder.reset()
    for _ in range(24):
        recorder.step(np.zeros(1, np.int64))
    found = [(e.step, e.true_return, e.steps) for e in recorder.pop_episodes()]
    games = [(3, 30.0, 3), (6, 30.0, 3), (11, 30.0, 3), (14, 30.0, 3), (19, 30.0, 3), (22, 30.0, 3)]
    assert found == (games if promises else [(8, 8.0, 8), (16, 8.0, 8), (24, 8.0, 8)])
