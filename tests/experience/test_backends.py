"""The contract of a backend, over the whole table: a new entry is tested by standing in it."""

from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import sentence, vector_of
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from prefrl.experience.backends import (
    BACKENDS,
    CUT_SHORT,
    DRAWS,
    GAME,
    SUCCESS,
    NotServedError,
    Wanted,
    find_backends,
    make_vec_env,
)
from prefrl.experience.backends.singly import step_in_turn
from prefrl.experience.environments import find_spec, make_env
from prefrl.words.errors import UserError

ENVS = 4
IDS = ("Hopper-v5", "prefrl-tests/Vector-v0", "Pendulum-v1", "prefrl/Pong-v0", "Meta-World/window-open-v3")
ARGUMENTS = {
    "Hopper-v5": {"terminate_when_unhealthy": False, "max_episode_steps": 20},
    "Meta-World/window-open-v3": {"max_episode_steps": 20},
}
TOLD = {CUT_SHORT, GAME, SUCCESS, "terminal_observation", "TimeLimit.truncated"}


def served(name: str, seed: int = 0) -> Iterator[tuple[str, VecEnv]]:
    """Environments of each id that a backend serves."""
    for env_id in IDS:
        try:
            yield env_id, BACKENDS[name](Wanted(env_id, find_spec(env_id), ENVS, seed, ARGUMENTS.get(env_id, {})))
        except NotServedError:
            continue
        except UserError as error:
            if "needs the package" not in str(error):
                raise
            pytest.skip(str(error))


def actions(env: VecEnv, rng: np.random.Generator) -> np.ndarray:
    space = env.action_space
    if isinstance(space, spaces.Box):
        return rng.uniform(space.low, space.high, (ENVS, *space.shape)).astype(np.float32)
    assert isinstance(space, spaces.Discrete)
    return rng.integers(space.n, size=ENVS)


@pytest.mark.parametrize("name", BACKENDS)
def test_what_a_backend_promises(name: str) -> None:
    kinds = 0
    for env_id, env in served(name):
        kinds += 1
        alone = make_env(env_id, ARGUMENTS.get(env_id, {}))
        assert env.num_envs == ENVS, env_id
        assert env.observation_space.shape == alone.observation_space.shape, env_id
        assert env.action_space.shape == alone.action_space.shape, env_id
        assert env.observation_space.dtype in (np.float32, np.uint8), env_id
        rng = np.random.default_rng(0)
        seen = [env.reset()]
        copies = [np.array(seen[0])]
        ends = 0
        for _ in range(50):
            observations, rewards, dones, infos = env.step(actions(env, rng))
            assert isinstance(observations, np.ndarray)
            assert observations.shape == (ENVS, *(env.observation_space.shape or ())), env_id
            assert observations.dtype == env.observation_space.dtype, env_id
            assert rewards.shape == dones.shape == (ENVS,), env_id
            assert dones.dtype == bool, env_id
            for done, info in zip(dones, infos, strict=True):
                assert info.keys() <= TOLD, env_id
                assert ("terminal_observation" in info) == done, env_id
                if done:
                    ends += 1
                    assert (SUCCESS in info) == env_id.startswith("Meta-World"), env_id
                    assert isinstance(info["TimeLimit.truncated"], bool), env_id
                    assert info["terminal_observation"].shape == env.observation_space.shape, env_id
            seen.append(observations)
            copies.append(observations.copy())
        for given, copy in zip(seen, copies, strict=True):  # a later step changes nothing that was given before
            np.testing.assert_array_equal(given, copy)
        assert ends or env_id == "prefrl/Pong-v0", env_id
        env.close()
        alone.close()
    assert kinds, f"no id here is served by {name}: add one to IDS"


@pytest.mark.parametrize("name", BACKENDS)
def test_a_seed_is_a_trajectory(name: str) -> None:
    def trajectory(env: VecEnv) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        seen = [np.array(env.reset())]
        for _ in range(25):
            seen += [np.array(part) for part in env.step(actions(env, rng))[:2]]
        env.close()
        return seen

    for (env_id, one), (_, same) in zip(served(name, 3), served(name, 3), strict=True):
        for left, right in zip(trajectory(one), trajectory(same), strict=True):
            np.testing.assert_array_equal(left, right, err_msg=env_id)


@pytest.mark.parametrize("name", BACKENDS)
def test_episodes_of_one_length_are_gymnasiums_alone(name: str) -> None:
    if name in (DRAWS, "subprocess"):
        assert make_vec_env("Hopper-v5", 2, 0, name, fixed_horizon=True).num_envs == 2
        return
    with pytest.raises(UserError, match=r"fixed horizon|does not step"):
        make_vec_env("Hopper-v5", 2, 0, name, fixed_horizon=True)


def test_names_stand_for_backends_and_old_ones_still_do() -> None:
    assert find_backends("auto") == tuple(step for name, step in BACKENDS.items() if name != "subprocess")
    assert find_backends("envpool") == (BACKENDS["envpool"], BACKENDS["vector"])
    assert find_backends("gymnasium") == (step_in_turn,)
    for name in BACKENDS:
        assert find_backends(name)[0] == BACKENDS[name]
    assert type(make_vec_env("prefrl-tests/Vector-v0", 2, 0, "envpool")).__name__ == "GymnasiumVecEnv"
    assert type(make_vec_env("prefrl-tests/Vector-v0", 2, 0, "vector")).__name__ == "GymnasiumVecEnv"


def test_a_name_that_is_none_is_one_sentence() -> None:
    with pytest.raises(UserError) as error:
        find_backends("vektor")
    assert "auto, envpool, gymnasium, subprocess, vector, or an import path" in sentence(error.value)
    assert "Did you mean 'vector'?" in sentence(error.value)
    with pytest.raises(UserError) as error:
        find_backends("math:pi")
    assert "cannot be called" in sentence(error.value)


def counters(wanted: Wanted) -> VecEnv:
    """A backend of somebody else's."""
    return DummyVecEnv([lambda: gym.make(wanted.spec)] * wanted.n_envs)


def three_counters(wanted: Wanted) -> VecEnv:
    """One that makes another number of environments."""
    return DummyVecEnv([lambda: gym.make(wanted.spec)] * 3)


def none_at_all(wanted: Wanted) -> object:
    """One that makes something else."""
    return vector_of(wanted.n_envs)


def broken(wanted: Wanted) -> VecEnv:
    """One that fails."""
    return {}[wanted.env_id]


def test_an_import_path_is_a_backend() -> None:
    env = make_vec_env("prefrl-tests/Counter-v0", 2, 0, f"{__name__}:counters")
    assert type(env) is DummyVecEnv
    assert env.num_envs == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [("three_counters", "of as many"), ("none_at_all", "return a stable-baselines3 VecEnv"), ("broken", "KeyError")],
)
def test_what_a_backend_of_ones_own_does_wrong_is_one_sentence(name: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        make_vec_env("prefrl-tests/Counter-v0", 2, 0, f"{__name__}:{name}")
    assert says in sentence(error.value)
    assert f"{Path(__file__).stem}:{name}" in sentence(error.value)


def test_a_backend_that_does_not_serve_an_id_says_why() -> None:
    with pytest.raises(UserError) as error:
        make_vec_env("Pendulum-v1", 2, 0, "vector")
    assert "registers no vector environment" in sentence(error.value)
    assert "use backend auto or gymnasium" in sentence(error.value)
