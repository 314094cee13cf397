"""The suites that papers on preferences report on: DeepMind's control suite, and Meta-World.

Every task is stepped by EnvPool, in C++, where there are many; `prefrl_envs.mujoco_suites_vector` is that door. One
alone, and whatever is drawn, is stepped by the suite's own Python class, if its package is installed; where it is not,
one alone is EnvPool's too, and nothing can be drawn.

**DeepMind's control suite**, `dmc/walker-walk-v1` and so on (Tassa et al. 2018, arXiv 1801.00690). Observations are the
suite's own, flattened in the suite's own order (`KEYS`). One step is one step of the suite's control (no action is
repeated), an episode is 1,000 of them, never ends early, and pays 0 to 1 a step. The two linear-quadratic problems are
left out: their episodes end early, and their rewards have no bounds.

**Meta-World**, `Meta-World/window-open-v3` and so on (Yu et al. 2019, arXiv 1910.10897; version 3 of its environments).
The reward is version 2, "v2", 0 to 10 a step; papers mixed it with version 1 (McLean et al. 2025, arXiv 2505.11289).
Objects and goals are placed anew in each episode, an episode is 500 steps and never ends early, and
`info["success"]` says at every step whether the task is done. The goal is not shown, as in the classes of Meta-World
itself and in the code of PEBBLE and of what came after it (the last three numbers are zero);
`partially_observable=False` shows it.

The physics of EnvPool and of the packages here may be those of two versions of MuJoCo: trajectories from one start
agree until contacts make them part.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from gymnasium.error import DependencyNotInstalled

ARM = "arm_pos arm_vel touch hand_pos object_pos object_vel target_pos"
HUMANOID = "joint_angles head_height extremities torso_vertical com_velocity velocity"
DOG = (
    "joint_angles joint_velocites torso_pelvis_height z_projection torso_com_velocity inertial_sensors foot_forces "
    "touch_sensors actuator_state"
)
QUADRUPED = "egocentric_state torso_velocity torso_upright imu force_torque"
KEYS = {
    "acrobot": {"swingup swingup_sparse": "orientations velocity"},
    "ball_in_cup": {"catch": "position velocity"},
    "cartpole": {"balance balance_sparse swingup swingup_sparse two_poles three_poles": "position velocity"},
    "cheetah": {"run": "position velocity"},
    "dog": {"stand walk trot run": DOG, "fetch": f"{DOG} ball_state target_position"},
    "finger": {
        "spin": "position velocity touch",
        "turn_easy turn_hard": "position velocity touch target_position dist_to_target",
    },
    "fish": {"upright": "joint_angles upright velocity", "swim": "joint_angles upright target velocity"},
    "hopper": {"stand hop": "position velocity touch"},
    "humanoid": {"stand walk run": HUMANOID, "run_pure_state": "position velocity"},
    "humanoid_CMU": {"stand walk run": HUMANOID},
    "manipulator": {"bring_ball bring_peg insert_ball insert_peg": ARM},
    "pendulum": {"swingup": "orientation velocity"},
    "point_mass": {"easy hard": "position velocity"},
    "quadruped": {
        "walk run": QUADRUPED,
        "escape": f"{QUADRUPED} origin rangefinder",
        "fetch": f"{QUADRUPED} ball_state target_position",
    },
    "reacher": {"easy hard": "position to_target velocity"},
    "stacker": {"stack_2 stack_4": ARM.replace("object", "box")},
    "swimmer": {"swimmer6 swimmer15": "joints to_target body_velocities"},
    "walker": {"stand walk run": "orientations height velocity"},
}
"""Domain of DeepMind's control suite -> tasks -> the parts of an observation, in the suite's order.

EnvPool shows all tasks of a domain the parts of them all, in an order of its own.
"""

META_WORLD = (
    "assembly basketball bin-picking box-close button-press button-press-topdown button-press-topdown-wall "
    "button-press-wall coffee-button coffee-pull coffee-push dial-turn disassemble door-close door-lock door-open "
    "door-unlock drawer-close drawer-open faucet-close faucet-open hammer hand-insert handle-press handle-press-side "
    "handle-pull handle-pull-side lever-pull peg-insert-side peg-unplug-side pick-out-of-hole pick-place "
    "pick-place-wall plate-slide plate-slide-back plate-slide-back-side plate-slide-side push push-back push-wall "
    "reach reach-wall shelf-place soccer stick-pull stick-push sweep sweep-into window-close window-open"
)

SEGMENT_STEPS = 50  # as every paper since PEBBLE has it (Lee et al. 2021, arXiv 2106.05091)
PACKAGES = {
    "dmc": ("dm_control", 'pip install "dm-control>=1.0.45,<1.0.47"'),
    "Meta-World": ("metaworld", 'pip install "metaworld>=3.1"'),
}
"""Suite, the namespace of its ids -> the package that holds its Python classes, and what installs it."""


def register() -> None:
    """Enter every task that is not there yet into Gymnasium's registry, as single and as vector environment."""
    for env_id, about, horizon in tasks():
        if env_id not in gym.registry:
            gym.register(
                env_id,
                entry_point="prefrl_envs.mujoco_suites:SuiteTask",
                vector_entry_point="prefrl_envs.mujoco_suites_vector:SuiteVectorEnv",
                max_episode_steps=horizon,
                kwargs=about,
            )


def tasks() -> Iterator[tuple[str, dict[str, str], int]]:
    """Each task's id, the arguments that fix it, and its horizon."""
    for domain, kinds in KEYS.items():
        for task in " ".join(kinds).split():
            yield f"dmc/{domain}-{task}-v1", {"suite": "dmc", "task": f"{domain}-{task}"}, 1000
    for task in META_WORLD.split():
        yield f"Meta-World/{task}-v3", {"suite": "Meta-World", "task": task}, 500


def keys(task: str) -> list[str]:
    """The parts of an observation of a task of DeepMind's control suite, "walker-walk", in the suite's order."""
    domain, name = task.split("-")
    (shown,) = (parts for names, parts in KEYS[domain].items() if name in names.split())
    return shown.split()


def pool_id(suite: str, task: str) -> str:
    """What EnvPool calls a task: "WalkerWalk-v1", "MetaWorld/WindowOpen-v3"."""
    words = task.replace("_", "-").split("-")
    name = "".join(word[:1].upper() + word[1:] for word in words)
    return f"{name}-v1" if suite == "dmc" else f"MetaWorld/{name}-v3"


def metadata_of(suite: str, **_: Any) -> dict[str, Any]:
    """What a testbed should know of a suite's tasks."""
    told: dict[str, dict[str, Any]] = {
        "dmc": {"reward": "of DeepMind's control suite, 0 to 1 a step"},
        "Meta-World": {"reward": "version 2 of Meta-World's, 0 to 10 a step", "tells_success": True},
    }
    return {"segment_steps": SEGMENT_STEPS, **told[suite]}


class SuiteTask(gym.Wrapper[Any, Any, Any, Any]):
    """One task of a suite, stepped by the suite's own class where its package is installed, else by EnvPool.

    Args:
        suite: a key of `PACKAGES`.
        task: "walker-walk", "window-open".
        partially_observable: of Meta-World: whether the goal is hidden.
        render_mode: "rgb_array", or None for no pictures.
        rendering: width, height, camera_id, camera_name of the pictures.

    Raises:
        DependencyNotInstalled: pictures are asked for, or EnvPool is not there either, and the package is missing.
        TypeError: an argument that it does not take.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, suite: str, task: str, render_mode: str | None = None, **arguments: Any) -> None:
        package, install = PACKAGES[suite]
        if importlib.util.find_spec(package) is not None:
            from . import mujoco_suites_python as python

            kind: Any = python.DMControl if suite == "dmc" else python.MetaWorld
            super().__init__(kind(task, render_mode=render_mode, **arguments))
        elif render_mode is not None:
            raise DependencyNotInstalled(f"{suite} is drawn by its own package, which is not installed: {install}.")
        else:
            from .mujoco_suites_vector import OneOfPool

            super().__init__(OneOfPool(suite, task, **arguments))
        self.metadata = self.env.metadata

    @staticmethod
    def metadata_of(**about: Any) -> dict[str, Any]:
        """What a testbed should know of it, without one being made."""
        return metadata_of(**about)
