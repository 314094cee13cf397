import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import sentence

from prefrl.experience.backends import make_vec_env
from prefrl.experience.environments import find_spec, list_environments, make_env
from prefrl.words.errors import UserError

VECTOR, CHOICE = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_vectors_become_float32(dtype: str) -> None:
    env = make_env("prefrl-tests/Counter-v0", {"index": 3, "dtype": dtype})
    assert env.observation_space.dtype == np.float32
    for observation in (env.reset(seed=0)[0], env.step(np.zeros(2, np.float32))[0]):
        assert observation.dtype == np.float32
        assert env.observation_space.contains(observation)
        assert observation[0] == 3
    vector = make_vec_env("prefrl-tests/Counter-v0", 2, 0, env_kwargs={"index": 3, "dtype": dtype})
    assert np.array(vector.reset()).dtype == np.float32


def test_bytes_that_are_no_image_become_float32() -> None:
    memory = {"observation_space": spaces.Box(0, 255, (128,), np.uint8), "action_space": spaces.Discrete(2)}
    env = make_env("prefrl-tests/Any-v0", memory)
    assert env.reset(seed=0)[0].dtype == np.float32 == env.observation_space.dtype


def test_images_stay_bytes() -> None:
    image = spaces.Box(0, 255, (84, 80, 3), np.uint8)
    env = make_env("prefrl-tests/Any-v0", {"observation_space": image, "action_space": CHOICE})
    assert env.observation_space == image
    assert env.reset(seed=0)[0].dtype == np.uint8


@pytest.mark.parametrize(
    ("space", "seen", "expected"),
    [
        (spaces.Dict(a=CHOICE, b=VECTOR), {"a": 1, "b": np.float32([0.5, -1])}, [0, 1, 0, 0.5, -1]),
        (spaces.Tuple([VECTOR, CHOICE]), (np.float32([0.5, -1]), 2), [0.5, -1, 0, 0, 1]),
        (CHOICE, 2, [0, 0, 1]),
        (spaces.Box(-9, 9, (2, 2), np.float64), np.array([[1.0, 2], [3, 4]]), [1, 2, 3, 4]),
        (spaces.Box(-9, 9, (2, 2), np.float32), np.float32([[1, 2], [3, 4]]), [1, 2, 3, 4]),
        (spaces.Box(0, 255, (1, 2, 3), np.uint8), np.arange(6, dtype=np.uint8).reshape(1, 2, 3), [0, 1, 2, 3, 4, 5]),
    ],
    ids=lambda value: str(value) if isinstance(value, gym.Space) else "",
)
def test_other_observations_are_flattened(space: gym.Space[Any], seen: Any, expected: list[float]) -> None:
    env = make_env("prefrl-tests/Any-v0", {"observation_space": space, "action_space": CHOICE})
    inside: Any = env.unwrapped
    inside.observation_space.sample = lambda: seen
    for observation in (env.reset()[0], env.step(0)[0]):
        assert observation.dtype == np.float32
        assert observation.tolist() == expected
        assert env.observation_space.contains(observation)


@pytest.mark.parametrize(
    ("observation_space", "action_space", "names"),
    [
        (spaces.Sequence(VECTOR), CHOICE, "Sequence"),
        (spaces.Graph(VECTOR, None), CHOICE, "Graph"),
        (spaces.Box(0, 1, (84, 84, 3), np.float32), CHOICE, "21168 numbers"),
        (VECTOR, spaces.Dict({"a": CHOICE}), "Dict"),
        (VECTOR, spaces.Tuple([CHOICE, VECTOR]), "Tuple"),
        (VECTOR, spaces.Discrete(3, start=1), "start=1"),  # stable-baselines3 would send 0
    ],
)
def test_spaces_that_no_reward_is_learned_on_are_one_sentence(
    observation_space: gym.Space[Any], action_space: gym.Space[Any], names: str
) -> None:
    given = {"observation_space": observation_space, "action_space": action_space}
    with pytest.raises(UserError) as error:
        make_env("prefrl-tests/Any-v0", given)
    assert names in sentence(error.value)
    with pytest.raises(UserError):
        make_vec_env("prefrl-tests/Any-v0", 2, 0, env_kwargs=given)


@pytest.mark.parametrize(
    ("env_id", "expected"),
    [
        ("HalfCheeta-v5", "'HalfCheetah-v5'?"),
        ("zzz", "zzz"),
        ("no_such_package:Thing-v0", "no_such_package"),
        (":Pendulum-v1", "cannot be imported"),
        (".relative:Pendulum-v1", "cannot be imported"),
    ],
)
def test_unknown_ids_are_one_sentence(env_id: str, expected: str) -> None:
    for make in (find_spec, make_env, lambda e: make_vec_env(e, 1, 0)):
        with pytest.raises(UserError) as error:
            make(env_id)
        assert expected in sentence(error.value)


def test_a_package_before_the_colon_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_package.py").write_text(
        "import gymnasium\ngymnasium.register('Some-v0', 'gymnasium.envs.classic_control.pendulum:PendulumEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError):
        find_spec("Some-v0")
    try:
        assert find_spec("some_package:Some-v0").id == "Some-v0"
        make_vec_env("some_package:Some-v0", 2, 0).reset()
    finally:
        gym.registry.pop("Some-v0", None)
        sys.modules.pop("some_package", None)


def test_whatever_goes_wrong_while_making_an_environment_is_one_sentence() -> None:
    with pytest.raises(UserError) as error:
        make_env("FrozenLake-v1", {"map_name": "9x9"})  # a KeyError of the environment's own
    assert "FrozenLake-v1" in sentence(error.value)
    with pytest.raises(UserError) as error:
        make_env("Hopper-v5", {"xml_file": "missing.xml"})  # an OSError
    assert "missing.xml" in sentence(error.value)


def test_each_of_the_papers_environments_is_listed_with_horizon_segment_and_reward() -> None:
    lines = list_environments("prefrl/").splitlines()[1:]
    assert len(lines) == 22
    for line in lines:
        _id, horizon, segment, reward = line.split(maxsplit=3)
        assert int(horizon) > int(segment) > 0 or int(horizon) == int(segment) == 1
        assert len(reward.split()) > 1


def test_environments_are_listed_newest_version_only() -> None:
    lines = list_environments("hopper-v").splitlines()
    assert lines[0].split() == ["id", "horizon", "segment", "reward"]
    rows = [line.split() for line in lines[1:]]
    assert ["Hopper-v5", "1000", "60"] in rows
    assert not any(row[0] == "Hopper-v4" for row in rows)
    assert all("hopper-v" in row[0].lower() for row in rows)
    with pytest.raises(UserError) as error:
        list_environments("Hoper-v5")
    assert "Hopper-v5" in sentence(error.value)


def test_the_environments_of_a_package_are_listed_as_they_are_asked_for(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "my_worlds.py").write_text(
        "import gymnasium\n"
        "class World(gymnasium.Env):\n    metadata = {'segment_steps': 7, 'reward': 'for being there'}\n"
        "gymnasium.register('MyWorld-v0', World, max_episode_steps=30)\n"
        "gymnasium.register('my/Other-v1', 'my_worlds:World')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        for _ in range(2):  # the second time it is imported already
            lines = list_environments("my_worlds:").splitlines()[1:]
            assert [line.split()[0] for line in lines] == ["my_worlds:MyWorld-v0", "my_worlds:my/Other-v1"]
            assert lines[0].split(maxsplit=3)[1:] == ["30", "7", "for being there"]
        assert len(list_environments("my_worlds:other").splitlines()) == 2
        for wrong, said in (("my_worlds:none", "registers no environment"), ("no_such_worlds:", "cannot be imported")):
            with pytest.raises(UserError) as error:
                list_environments(wrong)
            assert said in sentence(error.value)
    finally:
        sys.modules.pop("my_worlds", None)
        for env_id in ("MyWorld-v0", "my/Other-v1"):
            gym.registry.pop(env_id, None)
