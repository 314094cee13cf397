"""Wrappers named on a command line, and those that an environment needs, in training and when a run is looked at."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import sentence

import prefrl
from prefrl.experience.backends import make_vec_env
from prefrl.experience.environments import load_plugins, make_env
from prefrl.experience.wrappers import RESCALED, needed, parsed, wrap
from prefrl.runs.resolve import resolve
from prefrl.settings.config import BaselineConfig, TrainConfig, from_toml
from prefrl.settings.trust import check_trust
from prefrl.words.errors import UserError

HERE = "prefrl.experience.wrappers"
WALK = "prefrl-tests/Throttle-v0"


class Throttle(gym.Env[Any, Any]):
    """Pays for a throttle, from 0 to 10, that is near 8; shows the last one, among other things."""

    action_space = spaces.Box(0.0, 10.0, (1,), np.float32)
    observation_space = spaces.Dict(
        dial=spaces.Box(0, 10, (1,), np.float64), screen=spaces.Box(0, 255, (50, 50, 3), np.uint8)
    )

    def _seen(self, dial: float) -> dict[str, Any]:
        return {"dial": np.array([dial]), "screen": np.full((50, 50, 3), 10 * dial, np.uint8)}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._seen(0.0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        return self._seen(float(action[0])), -abs(float(action[0]) - 8), False, False, {}


def never(env: Any, **kwargs: Any) -> None:
    """No wrapper."""


class Fussy(gym.Wrapper[Any, Any, Any, Any]):
    """Does not like what it is given."""

    def __init__(self, env: Any) -> None:
        raise LookupError("no such\n  luck")


gym.register(WALK, Throttle, max_episode_steps=20)


def box(low: Any, high: Any, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (box([-1.0], [1.0]), False),
        (box([-3.0, -0.4], [3.0, 0.4]), False),
        (box([0.0], [10.0]), True),
        (box([-1.0, 0.0], [1.0, 1.0]), True),
        (box([-500.0], [500.0]), True),
        (box([-0.01], [0.01]), True),
        (box([-np.inf], [np.inf]), False),
        (box([-1.0, 2.0], [1.0, 2.0]), False),  # nothing can be chosen there
        (spaces.Box(0, 9, (2,), np.int64), False),
        (spaces.Discrete(3), False),
    ],
)
def test_actions_off_centre_or_out_of_reach_need_rescaling(space: spaces.Space[Any], expected: bool) -> None:
    assert needed(space) == ((RESCALED,) if expected else ())


def test_no_task_that_was_tuned_needs_any() -> None:
    load_plugins()
    for env_id, spec in gym.registry.items():
        if str(spec.entry_point).startswith(("gymnasium.envs.mujoco", "prefrl_envs.mujoco")) and env_id.endswith(
            ("-v5", "-v0")
        ):
            env = gym.make(env_id)
            assert needed(env.action_space) == (), env_id
            env.close()


def test_an_import_path_and_its_arguments() -> None:
    assert parsed("a.b:C") == ("a.b:C", {})
    assert parsed(' a.b:C  x=1 keys=["p", "q"] word=two ') == ("a.b:C", {"x": 1, "keys": ["p", "q"], "word": "two"})
    for wrong in ("RescaleAction", "a.b:C 1", ""):
        with pytest.raises(UserError) as error:
            parsed(wrong)
        assert "package.module:Class" in sentence(error.value)


@pytest.mark.parametrize(
    ("wrapper", "expected"),
    [
        ("no_such_module:X", "no_such_module"),
        ("gymnasium.wrappers:RescaleActions", "Did you mean 'RescaleAction'?"),
        (f"{HERE}:ShowOnly key=sound", "no part 'sound': there are dial, screen"),
        (f"{HERE}:ShowOnly key=dial.x", "no part 'x': there are no parts"),
        (f"{HERE}:Shifted by=1", "only a Box can be shifted"),
        (f"{HERE}:FromZero", "only choices count from zero"),
        ("gymnasium.wrappers:RescaleAction", "TypeError"),
        (f"{__name__}:Fussy", "LookupError: no such luck"),
        (f"{__name__}:never", "no Gymnasium environment"),
    ],
)
def test_a_wrapper_that_does_not_fit_is_one_sentence(wrapper: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        make_env(WALK, wrappers=(wrapper,))
    assert expected in sentence(error.value)


def test_what_the_wrappers_do() -> None:
    shown = make_env(WALK, wrappers=(f"{HERE}:ShowOnly key=screen",))
    assert shown.observation_space == spaces.Box(0, 255, (50, 50, 3), np.uint8)
    shifted = make_env(WALK, wrappers=(f"{HERE}:ShowOnly key=dial", f"{HERE}:Shifted by=2.0"))
    assert shifted.reset(seed=0)[0].tolist() == [-2]
    bounded = wrap(gym.make("Pendulum-v1"), (f"{HERE}:Bounded low=-1 high=[0.5]",))
    assert (bounded.action_space.low, bounded.action_space.high) == (-1, 0.5)
    for space, action, expected in (
        (spaces.Discrete(3, start=4), 0, 4),
        (spaces.MultiDiscrete([[2, 2], [3, 3]]), np.array([0, 1, 2, 0]), [[0, 1], [2, 0]]),
        (spaces.MultiDiscrete([2, 2], start=[1, 5]), np.array([0, 1]), [1, 6]),
        (spaces.MultiBinary([2, 3]), np.arange(6) % 2, [[0, 1, 0], [1, 0, 1]]),
    ):
        given = {"observation_space": box([0.0], [1.0]), "action_space": space}
        env = wrap(gym.make("prefrl-tests/Any-v0", disable_env_checker=True, **given), (f"{HERE}:FromZero",))
        assert len(env.action_space.shape or ()) < 2
        assert np.array_equal(env.action(action), expected)  # type: ignore[attr-defined]
        env.reset(seed=0)
        env.step(env.action_space.sample())


def test_a_run_says_what_it_puts_around_and_every_door_has_it(tmp_path: Path, capsys: Any) -> None:
    small = {"steps": 1_200, "n_envs": 4, "segment_steps": 5, "phases": 3, "tensorboard": False}
    small |= {"set": ("n_steps=64", "batch_size=64", "n_epochs=1"), "labels": 12, "initial_epochs": 5}
    around = (RESCALED, f"{HERE}:ShowOnly key=dial")
    folder = prefrl.train(TrainConfig(env=WALK, wrapper=around, out=tmp_path / "run", **small))
    said = capsys.readouterr().err
    assert f"around it is {RESCALED}; around it is {HERE}:ShowOnly key=dial" in said
    run = prefrl.load_run(folder)
    assert run.config.wrapper == around
    env = run.make_env()
    assert (env.action_space.low, env.action_space.high, env.observation_space.shape) == (-1, 1, (1,))
    assert run.r_hat.observation_space.shape == (1,)
    env.reset(seed=0)
    assert env.step(np.array([0.6], np.float32))[1] == pytest.approx(0)
    assert np.isfinite(prefrl.policy_return(run.policy.act, env, 2, seed=0)).all()


def test_what_an_environment_needs_is_put_around_it_and_recorded(tmp_path: Path) -> None:
    asked = BaselineConfig(env=WALK, out=tmp_path / "run")
    config = resolve(asked)
    assert config.wrapper == (RESCALED,)
    assert f"around it is {RESCALED}" in config.taken
    assert "observations Dict(" in config.taken
    assert resolve(replace(asked, wrapper=())).wrapper == ()
    assert resolve(replace(asked, env="Pendulum-v1")).wrapper is None  # and so config.toml says nothing
    assert resolve(asked, resume=True).wrapper is None  # a run of before goes on as it was


def test_environments_stepped_as_arrays_have_no_wrappers() -> None:
    made = make_vec_env("prefrl-tests/Vector-v0", 2, 0, wrappers=(f"{__name__}:Twice",))
    assert made.reset().shape == (2, 3)
    assert made.get_attr("spec")
    with pytest.raises(UserError) as error:
        make_vec_env("prefrl-tests/Vector-v0", 2, 0, backend="vector", wrappers=(f"{__name__}:Twice",))
    assert "wrappers need backend gymnasium" in sentence(error.value)


class Twice(gym.RewardWrapper[Any, Any]):
    """Pays twice."""

    def reward(self, reward: Any) -> Any:
        return 2 * reward


@pytest.mark.parametrize(
    ("wrapper", "trusted"),
    [
        (RESCALED, True),
        (f"{HERE}:ShowOnly key=dial", True),
        ("gymnasium.wrappers:RecordVideo video_folder=here", False),  # which writes files
        (f"{HERE}:lookup name=mine:thing", False),
        ("numpy:save arr=1", False),
        ("somebodys:Wrapper", False),
    ],
)
def test_a_strangers_wrapper_takes_trust(wrapper: str, trusted: bool, tmp_path: Path) -> None:
    config = BaselineConfig(env="Pendulum-v1", wrapper=(wrapper,))
    if trusted:
        check_trust(config, tmp_path, "package")
        return
    with pytest.raises(UserError) as error:
        check_trust(config, tmp_path, "package")
    assert repr(wrapper.partition(":")[0]) in sentence(error.value)


def test_a_file_names_them(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(f'env = "Pendulum-v1"\nwrapper = ["{RESCALED}"]\n')
    assert from_toml(BaselineConfig, tmp_path / "run.toml").wrapper == (RESCALED,)
