"""A family by what an environment is; tuned tasks by exact id and package, never by a word in an id."""

import pytest

from prefrl.settings.presets import SEGMENT_STEPS, TASKS, Facts, discount, family, segment_steps, task

CHEETAH = "gymnasium.envs.mujoco.half_cheetah_v5:HalfCheetahEnv"
PENDULUM = "gymnasium.envs.classic_control.pendulum:PendulumEnv"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts("HalfCheetah-v5", CHEETAH, False, True), "mujoco"),
        (Facts("mine/Cheetah-v0", CHEETAH, False, True), "mujoco"),  # the simulation that was tuned on, registered anew
        (Facts("prefrl/Hopper-v0", "prefrl_envs.mujoco:Hopper", False, True), "mujoco"),
        (Facts("Pendulum-v1", PENDULUM, False, True), "classic"),
        (Facts("prefrl/Enduro-v0", "prefrl_envs.atari:Enduro", True, False), "pixels"),
        (Facts("mine/Pixels-v0", "mine:Pixels", True, True), "pixels"),
        (Facts("LunarLander-v3", "gymnasium.envs.box2d.lunar_lander:LunarLander", False, False), "discrete"),
        (Facts("LunarLanderContinuous-v3", "gymnasium.envs.box2d.lunar_lander:LunarLander", False, True), "continuous"),
        (Facts("prefrl/Dialogue-v0", "prefrl_envs.exact:Dialogue", False, False, is_exact=True), "exact"),
        (Facts("mujoco_like/Pendulum-v1", "my_mujoco_things:Pendulum", False, True), "continuous"),  # words say nothing
        (Facts("FetchReach-v4", "gymnasium_robotics.envs.fetch.reach:MujocoFetchReachEnv", False, True), "continuous"),
    ],
)
def test_a_family_is_chosen_by_facts(facts: Facts, expected: str) -> None:
    chosen, why = family(facts)
    assert chosen == expected
    assert why.startswith(("it ", "this "))


@pytest.mark.parametrize(
    ("env_id", "entry_point", "expected"),
    [
        ("HalfCheetah-v5", CHEETAH, "HalfCheetah"),
        ("HalfCheetah-v4", "gymnasium.envs.mujoco.half_cheetah_v4:HalfCheetahEnv", "HalfCheetah"),
        ("prefrl/Hopper-v0", "prefrl_envs.mujoco:Hopper", "Hopper"),
        ("ALE/Pong-v5", "ale_py.env:AtariEnv", "Pong"),
        ("Pong-v4", "ale_py.env:AtariEnv", "Pong"),
        ("mine/HalfCheetah-v5", CHEETAH, ""),
        ("HalfCheetah-v5", "mine:Cheetah", ""),
        ("MyHalfCheetah-v5", CHEETAH, "MyHalfCheetah"),  # which no table has
        ("Pendulum-v1", "<function make at 0x1>", ""),
    ],
)
def test_a_task_is_known_by_its_exact_id_and_its_package(env_id: str, entry_point: str, expected: str) -> None:
    assert task(env_id, entry_point) == expected
    assert (expected in TASKS) == (expected == "HalfCheetah")


def test_discounts_follow_the_horizon() -> None:
    found = [discount(horizon) for horizon in (None, 5, 50, 100, 200, 400, 1000, 27_000)]
    assert found == [0.99, 0.95, 0.96, 0.98, 0.99, 0.995, 0.995, 0.995]


@pytest.mark.parametrize(
    ("facts", "preset", "expected"),
    [
        (Facts("mine/A-v0", "mine:A", False, True, 500, 50.0), "continuous", 50),
        (Facts("mine/A-v0", "mine:A", False, True, 500, 20.0), "continuous", 30),
        (Facts("mine/A-v0", "mine:A", False, True, 500, 4.0), "discrete", 15),
        (Facts("mine/A-v0", "mine:A", False, True, 12, 50.0), "discrete", 12),
        (Facts("mine/A-v0", "mine:A", False, True), "continuous", 30),
        (Facts("mine/A-v0", "mine:A", True, False, None, 60.0), "pixels", 25),
        (Facts("Pendulum-v1", PENDULUM, False, True, 200, 30.0), "classic", 25),
        (Facts("Hopper-v5", "gymnasium.envs.mujoco.hopper_v5:HopperEnv", False, True, 1000, 125.0), "mujoco", 60),
    ],
)
def test_segments_last_as_long_as_the_task_or_the_step_rate_says(facts: Facts, preset: str, expected: int) -> None:
    assert segment_steps(facts, preset) == expected


def test_a_strangers_hopper_has_a_strangers_segments() -> None:
    assert segment_steps(Facts("mine/Hopper-v0", "mine:Hopper", False, True), "continuous") != SEGMENT_STEPS["Hopper"]
