"""The paper's MuJoCo tasks (Christiano et al. 2017, arXiv 1706.03741, section 3.1.1 and appendix A.1).

Each class is Gymnasium's v5 class of the same robot with three changes, for the paper's reasons:

1. **No early end.** Where an episode ends says what the reward is, so every episode runs to the horizon and is then
   truncated; `terminated` is always False. The paper puts "a penalty that encourages the parameters to remain in the
   range" in place of the end, one that has to be learned like the rest of the reward.
2. **No control cost.** A person cannot see torques in a clip, so no reward here reads the action.
3. **A clip length of its own.** 1.5 seconds of film shown slowly: `metadata["segment_steps"]` steps at
   `metadata["clip_fps"]` frames a second.

The paper gives no numbers for 1; the formulas are those of nottombrown/rl-teacher (a co-author's code, for gym's v1
classes), rewritten for v5. In gym v1 the alive bonus was paid at every step whatever the robot's posture, and that
form is kept: v5 would take it away from a fallen robot, a jump of 1 (10 for the double pendulum) that the paper's
levels do not show. Spaces, start states and physics are Gymnasium's unless a docstring says otherwise.

A reward is one array function, `reward(observation, info)`, over any leading axes: the single environment calls it on
one step, the vector environment (`prefrl_envs.mujoco_vector`) on all of them at once. Besides the observation it
reads at most `info["x_velocity"]`: the metres gone forward in the step, over the step's duration. That is all that is
kept of Gymnasium's `info` (Reacher and the pendulums have none); the rest are terms of a reward that is not paid here,
or positions that the two backends report differently. No observation holds a position that can grow without bound.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.inverted_double_pendulum_v5 import InvertedDoublePendulumEnv
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.envs.mujoco.reacher_v5 import ReacherEnv
from gymnasium.envs.mujoco.swimmer_v5 import SwimmerEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv
from gymnasium.utils import EzPickle

from .geometry import CHEETAH_BACK_LEG, CHEETAH_WITHOUT_BACK_LEG, HOPPER_ABOVE_FOOT, Array, clearance

HORIZONS = {
    "Reacher": 50,
    "HalfCheetah": 1000,
    "Ant": 1000,
    "Walker2d": 1000,
    "Hopper": 1000,
    "Swimmer": 1000,
    "InvertedPendulum": 50,
    "InvertedDoublePendulum": 1000,
    "HopperBackflip": 1000,
    "HalfCheetahOneLeg": 1000,
}
"""Class of this module -> steps in an episode; the id is `prefrl/<class>-v0`."""

RENDERING = (
    "render_mode",
    "width",
    "height",
    "camera_id",
    "camera_name",
    "default_camera_config",
    "max_geom",
    "visual_options",
)
"""The constructor's arguments: pictures only. The id fixes the task."""


def register() -> None:
    """Enter every task that is not there yet into Gymnasium's registry, as single and as vector environment."""
    for name, horizon in HORIZONS.items():
        if (env_id := f"prefrl/{name}-v0") not in gym.registry:
            gym.register(
                env_id,
                entry_point=f"prefrl_envs.mujoco:{name}",
                vector_entry_point=f"prefrl_envs.mujoco_vector:{name}",
                max_episode_steps=horizon,
            )


def _metadata(render_fps: int, segment_steps: int, reward: str) -> dict[str, Any]:
    return {
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"],
        "render_fps": render_fps,
        "segment_steps": segment_steps,
        "clip_fps": round(segment_steps / 1.5),
        "reward": reward,
    }


class Task(MujocoEnv, EzPickle):
    """What the tasks share: a reward of their own and no end but the horizon.

    Raises:
        ValueError: an argument that is not about rendering.
    """

    pool: ClassVar[tuple[str, dict[str, Any]]]
    """EnvPool's id of the same simulation, and the options that keep it from ending."""
    observation_structure: dict[str, int]

    def __init__(self, **rendering: Any) -> None:
        for name in rendering:
            if name not in RENDERING:
                raise ValueError(
                    f"prefrl/{type(self).__name__}-v0 does not take {name!r}: the id fixes the task, and the arguments "
                    f"are about pictures only ({', '.join(RENDERING)})."
                )
        super().__init__(**rendering)
        EzPickle.__init__(self, **rendering)  # a copy is made from what this class was given, not what the original was
        self.metadata = {**type(self).metadata}

    @staticmethod
    @abstractmethod
    def reward(observation: Array, info: Mapping[str, Any]) -> Array:
        """True reward (...) of steps that ended in these observations (..., d)."""

    @staticmethod
    def observe(original: Array) -> Array:
        """The observations (..., d) made of Gymnasium's; the same, unless the task's docstring says otherwise."""
        return original

    def poses(self, observations: Array) -> Array:
        """Joint positions (T, nq) in which a segment's observations (T, d) were made; draws a clip with `set_state`.

        Where the robot is in the world is left out of the observation: it is summed up from the velocities, from 0.
        """
        hidden = self.observation_structure.get("skipped_qpos", 0)
        seen = self.observation_structure["qpos"]
        drift = observations[:, seen : seen + hidden] * self.dt
        root = np.cumsum(drift, axis=0) - (drift[:1] + drift) / 2
        return np.concatenate([root, observations[:, :seen]], axis=1)

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """One step of the original, paid by this task's reward; never terminated."""
        observation, _, _, _, info = super().step(action)
        info = {"x_velocity": info["x_velocity"]} if "x_velocity" in info else {}
        return observation, float(self.reward(observation, info)), False, False, info

    def _get_reset_info(self) -> dict[str, float]:
        return {}

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        def handler(text: str) -> None:
            # Gymnasium's half_cheetah.xml uses an attribute that MuJoCo 3.17 deprecates. Left alone, each environment
            # prints that and writes it to a file in the user's folder.
            if "settotalmass" not in text:
                warnings.warn(text, stacklevel=2)

        before = mujoco.get_mju_user_warning()
        mujoco.set_mju_user_warning(handler)
        try:
            return super()._initialize_simulation()
        finally:
            mujoco.set_mju_user_warning(before)


class Reacher(Task, ReacherEnv):
    """Touch a target with the tip of a two-link arm.

    | | |
    |---|---|
    | Observation | Box(10): cos, sin of both joints; target x, y; joint velocities; tip - target x, y |
    | Action | Box(-1, 1, 2): joint torques |
    | Reward | -distance(tip, target), metres, after the step |
    | Start | joints within 0.1 rad of straight, target uniform in a disc of 0.2 m |
    | Horizon, segment | 50 steps; 15 steps (1.5 s at 10 frames a second) |

    Changed against `Reacher-v5`: the control cost is dropped (rl-teacher, `reacher`; paper A.1). Gym v1 took the
    distance before the step, v5 takes it after; v5's is kept.

    Versions: v0, first.
    """

    metadata = _metadata(50, 15, "minus the distance from fingertip to target")
    pool = ("Reacher-v5", {})

    @staticmethod
    def reward(observation: Array, info: Mapping[str, Any]) -> Array:
        """-|tip - target|."""
        return np.asarray(-np.sqrt(np.square(observation[..., 8:10]).sum(axis=-1)))

    def poses(self, observations: Array) -> Array:
        """Joint angles and target (T, 4); see `Task.poses`."""
        return np.concatenate([np.arctan2(observations[:, 2:4], observations[:, :2]), observations[:, 4:6]], axis=1)


class HalfCheetah(Task, HalfCheetahEnv):
    """Run forward on two legs in a plane.

    | | |
    |---|---|
    | Observation | Box(17): height and pitch, 6 joint angles (back thigh to front foot); the 9 velocities |
    | Action | Box(-1, 1, 6): joint torques |
    | Reward | x velocity, m/s |
    | Horizon, segment | 1000 steps; 30 steps (1.5 s at 20 frames a second, the control rate) |

    Changed against `HalfCheetah-v5`: the control cost is dropped (rl-teacher, `cheetah`; paper A.1).

    Versions: v0, first.
    """

    metadata = _metadata(20, 30, "forward velocity")
    pool = ("HalfCheetah-v5", {})

    @staticmethod
    def reward(observation: Array, info: Mapping[str, Any]) -> Array:
        """Forward velocity."""
        return np.array(info["x_velocity"])


class Ant(Task, AntEnv):
    """Walk forward on four legs.

    | | |
    |---|---|
    | Observation | Box(105): height, orientation (4), 8 joint angles; 14 velocities; 78 contact forces in [-1, 1] |
    | Action | Box(-1, 1, 8): joint torques |
    | Reward | x velocity + (height - 1.2) |
    | Horizon, segment | 1000 steps; 30 steps (1.5 s at 20 frames a second, the control rate) |

    Changed against `Ant-v5`: control cost, contact cost and alive bonus are dropped; the height term stands for the
    ending, which was height outside [0.2, 1] (rl-teacher, `ant`; the paper's "upright bonus", 3.1.1). Contact forces
    stay in the observation, as in gym v1, where the paper's learner saw them; v1 also had six zeros for the world's
    own body, which v5 leaves out. A robot that flaps on the spot gets about -850, as in the paper's Figure 2.

    Versions: v0, first.
    """

    metadata = _metadata(20, 30, "forward velocity plus height above 1.2 m")
    pool = ("Ant-v5", {"terminate_when_unhealthy": False})

    @staticmethod
    def reward(observation: Array, info: Mapping[str, Any]) -> Array:
        """Forward velocity + height - 1.2."""
        return np.asarray(info["x_velocity"] + observation[..., 0] - 1.2)


class Walker2d(Task, Walker2dEnv):
    """Walk forward on two legs in a plane.

    | | |
    |---|---|
    | Observation | Box(17): height and pitch of the torso, 6 joint angles; the 9 velocities, cut to [-10, 10] |
    | Action | Box(-1, 1, 6): joint torques |
    | Reward | x velocity + 1 + (height - 2) |
    | Horizon, segment | 1000 steps; 45 steps (1.5 s at 30 frames a second; 0.36 s of simulated time) |

    Changed against `Walker2d-v5`: the control cost is dropped, the alive bonus of 1 is always paid, and the height
    term stands for the ending, which was height outside (0.8, 2) or |pitch| above 1 (rl-teacher, `walker`). The model
    is v5's, with the same friction on both feet; the paper's had a slippery left foot.

    Versions: v0, first.
    """

    metadata = _metadata(125, 45, "forward velocity plus torso height above 1 m")
    pool = ("Walker2d-v5", {"terminate_when_unhealthy": False})

    @staticmethod
    def reward(observation: Array, info: Mapping[str, Any]) -> Array:
        """Forward velocity + 1 + (height - 2)."""
        return np.asarray(info["x_velocity"] + observation[..., 0] - 1.0)


class Hopper(Task, HopperEnv):
    """Hop forward on one leg in a plane.

    | | |
    |---|---|
    | Observation | Box(11): height and pitch of the torso, 3 joint angles; the 6 velocities, cut to [-10, 10] |
    | Action | Box(-1, 1, 3): joint torques |
    | Reward | x velocity + 1 + (height - 1) |
    | Horizon, segment | 1000 steps; 60 steps (1.5 s at 40 frames a second; 0.48 s of simulated time) |

    Changed against `Hopper-v5`: the control cost is dropped, the alive bonus of 1 is always paid, and the height term
    stands for the ending, which was height below 0.7 or |pitch| above 0.2 (rl-teacher, `hopper`).

    Versions: v0, first.
    """

    metadata = _metadata(125, 60, "forward velocity plus torso height")
    pool = ("Hopper-v5", {"terminate_when_unhealthy": False})

    @staticmethod
    def reward(observation: Array, info: Mapping[str, Any]) -> Array:
        """Forward velocity + 1 + (height - 1)."""
        return np.asarray(info["x_velocity"] + observation[..., 0])


class Swimmer(Task, SwimmerEnv):
    """Swim forward, three links in a viscous plane.

    | | |
    |---|---|
    | Observation | Box(8): heading, 2 joint angles; the 5 velocities |
    | Action | Box(-1, 1, 2): joint torques |
    | Reward | x velocity, m/s |
    | Horizon, segment | 1000 steps; 60 steps (1.5 s at 40 frames a second; 2.4 s of simulated time) |

    Changed against `Swimmer-v5`: the control cost is dropped (rl-teacher, `swimmer`; paper A.1).

    Versions: v0, first.
    """

    metadata = _metadata(25, 60, "forward velocity")
    pool = ("Swimmer-v5", {})

    @staticmethod
    def reward(observation: Array, info: Mapping[str, Any]) -> Array:
        """Forward velocity."""
        return np.array(info["x_velocity"])


class InvertedPendulum(Task, InvertedPendulumEnv):
    """Balance a pole on a cart; the paper's "pendulum".

    | | |
    |---|---|
    | Observation | Box(4): cart position, within 1 m; pole angle from upright, within 90 degrees; both velocities |
    | Action | Box(-3, 3, 1): force on the cart |
    | Reward | 1 - angle^2; of a pole beyond 1.5 rad, which lies, 1 - (pi / 2)^2 |
    | Horizon, segment | 50 steps; 15 steps (1.5 s at 10 frames a second; 0.6 s of simulated time) |

    Changed against `InvertedPendulum-v5`: the bonus of 1 is always paid and the squared angle stands for the ending,
    which was |angle| above 0.2 (rl-teacher, `pendulum`). A pole that lies is worth the same however it lies: poles at
    rest on the joint's stop differ by thousandths of a radian, half of all pairs of a policy that lets it fall show two
    of them, and an oracle that told them apart would state preferences about what nobody can see.

    The paper's scale is not known: its first points lie at about -1,760 and its plateau at 1,372 (Figure 2), while
    rl-teacher's 25 steps pay at most 25. The horizon of 50 is a choice. A fallen pole can hardly be raised again, and a
    longer episode adds little but a pole lying down: with 200 steps nine windows in ten of a policy that lets it fall
    show just that, and half or more of 700 answers, on one seed four in five, were ties. A pole left to fall gets about
    -40, a pole held gets 50. `max_episode_steps=25` gives rl-teacher's.

    Versions: v0, first.
    """

    metadata = _metadata(25, 15, "one minus the squared angle of the pole, the same for any pole that lies")
    pool = ("InvertedPendulum-v5", {"healthy_z_min": -1e9, "healthy_z_max": 1e9})

    @staticmethod
    def reward(observation: Array, info: Mapping[str, Any]) -> Array:
        """1 - angle^2, a lying pole's angle taken as pi / 2."""
        angle = np.abs(observation[..., 1])
        return np.asarray(1.0 - np.square(np.where(angle > 1.5, np.pi / 2, angle)))


class InvertedDoublePendulum(Task, InvertedDoublePendulumEnv):
    """Balance two poles, one on the other, on a cart; the paper's "double pendulum".

    | | |
    |---|---|
    | Observation | Box(9): cart position; sin, then cos, of both angles; velocities v and rail force, in [-10, 10] |
    | Action | Box(-1, 1, 1): force on the cart |
    | Reward | 10 - 0.01 x^2 - (y - 2)^2 - 0.001 v1^2 - 0.005 v2^2 + 10 (y - 1), with the tip at x, y |
    | Horizon, segment | 1000 steps; 15 steps (1.5 s at 10 frames a second; 0.75 s of simulated time) |

    Changed against `InvertedDoublePendulum-v5`: the bonus of 10 is always paid and the height term stands for the
    ending, which was a tip at or below 1 m (rl-teacher, `double_pendulum`). The tip (upright: 1.2 m) is that of the
    observed pose and v that of the observation, cut at 10 rad/s; the original reads a tip one substep (0.01 s) older
    and does not cut.

    rl-teacher's horizon is 50; 1000 is a choice, and the paper's figures support it: the fallen poles get about -7,600
    in 1000 steps here, and the paper's first points lie at about -7,500 (Figure 2, first 100,000 steps).

    Versions: v0, first.
    """

    metadata = _metadata(20, 15, "balance bonus plus ten times the height of the tip above 1 m")
    pool = ("InvertedDoublePendulum-v5", {"healthy_z_max": -1e9})

    @staticmethod
    def reward(observation: Array, info: Mapping[str, Any]) -> Array:
        """10 - 0.01 x^2 - (y - 2)^2 - 0.001 v1^2 - 0.005 v2^2 + 10 (y - 1)."""
        cart, sin1, sin2, cos1, cos2, _, v1, v2, _ = np.moveaxis(observation, -1, 0)
        x = cart + 0.6 * (sin1 + sin1 * cos2 + cos1 * sin2)
        y = 0.6 * (cos1 + cos1 * cos2 - sin1 * sin2)
        lean = 0.01 * np.square(x) + np.square(y - 2.0)
        return np.asarray(10.0 - lean - 0.001 * np.square(v1) - 0.005 * np.square(v2) + 10.0 * (y - 1.0))

    def poses(self, observations: Array) -> Array:
        """Cart position and angles (T, 3); see `Task.poses`."""
        return np.concatenate([observations[:, :1], np.arctan2(observations[:, 1:3], observations[:, 3:5])], axis=1)


class HopperBackflip(Task, HopperEnv):
    """Somersault backwards, again and again, landing on the foot (paper, section 3.2).

    | | |
    |---|---|
    | Observation | Box(12): torso height; sin, cos of its pitch; 3 joint angles; 6 velocities, cut to [-10, 10] |
    | Action | Box(-1, 1, 3): joint torques |
    | Reward | -pitch velocity (rad/s, backwards is positive) x lift |
    | | lift = clip(c / 0.05, 0, 1), c = metres between floor and the lowest point of torso, thigh and leg |
    | Horizon, segment | 1000 steps; 60 steps (1.5 s at 40 frames a second; 0.48 s of simulated time) |

    The paper's reward was a person's judgement, 900 queries in under an hour; this one is a written proxy for the
    oracle and the evaluation. It adds up the angle turned backwards while nothing but the foot touches the floor:
    785 of return is one full turn (2 pi rad / 0.008 s), rocking to and fro pays nothing, and rolling on the floor
    pays nothing. What it does not forbid is a touch of the floor on the way round: one run of PPO, 3.6 million steps,
    returned 7,350 with 14 turns in an episode, each through the air and up onto the foot again, but with the torso on
    the floor for 13 % of the time. With penalties of 5 and 20 a step for that, runs of 2 million turned less (11 and 9
    times) and still touched (8 % and 5 %).

    Changed against `Hopper-v5`: reward and ending, as above, and the pitch is observed as sine and cosine because in
    a policy that succeeds the angle grows without bound.

    Versions: v0, first.
    """

    metadata = _metadata(125, 60, "angle turned backwards while nothing but the foot touches the floor")
    pool = ("Hopper-v5", {"terminate_when_unhealthy": False})

    def __init__(self, **rendering: Any) -> None:
        super().__init__(**rendering)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (12,), np.float64)

    @staticmethod
    def reward(observation: Array, info: Mapping[str, Any]) -> Array:
        """-pitch velocity x lift."""
        pitch = np.arctan2(observation[..., 1], observation[..., 2])
        thigh = pitch - observation[..., 3]
        pitches = (pitch, thigh, thigh - observation[..., 4])
        lift = np.clip(clearance(observation[..., 0], pitches, HOPPER_ABOVE_FOOT) / 0.05, 0.0, 1.0)
        return np.asarray(-observation[..., 8] * lift)

    @staticmethod
    def observe(original: Array) -> Array:
        """The pitch, entry 1 of 11, as sine and cosine, entries 1 and 2 of 12."""
        pitch = original[..., 1:2]
        return np.concatenate([original[..., :1], np.sin(pitch), np.cos(pitch), original[..., 2:]], axis=-1)

    def _get_obs(self) -> Array:
        return self.observe(super()._get_obs())  # type: ignore[no-untyped-call]

    def poses(self, observations: Array) -> Array:
        """Joint positions (T, 6); see `Task.poses`."""
        pitch = np.arctan2(observations[:, 1:2], observations[:, 2:3])
        return super().poses(np.concatenate([observations[:, :1], pitch, observations[:, 3:]], axis=1))


class HalfCheetahOneLeg(Task, HalfCheetahEnv):
    """Move forward standing on the back leg alone (paper, section 3.2).

    | | |
    |---|---|
    | Observation | Box(17), as `prefrl/HalfCheetah-v0` |
    | Action | Box(-1, 1, 6): joint torques |
    | Reward | lift x stand x (1 + clip(x velocity, -1, 1)) |
    | | lift = clip(c / 0.3, 0, 1), c = metres between floor and the lowest point of torso, head and front leg |
    | | stand = clip(1 - b / 0.05, 0, 1), b = metres between floor and the lowest point of the back leg |
    | Horizon, segment | 1000 steps; 30 steps (1.5 s at 20 frames a second, the control rate) |

    The paper's reward was a person's judgement, 800 queries in under an hour; this one is a written proxy for the
    oracle and the evaluation. It pays 1 a step for standing on the back leg and up to 2 for going forward on it. Speed
    beyond 1 m/s pays nothing more, or a fast gallop with the front leg up half the time could win. Sliding on the back
    pays nothing, since torso and head must be clear of the floor too; nor does flight, since the back leg must be near
    it. Both bounds come from policies that found their way round looser ones: paid for 10 cm under the front leg they
    leapt, and with the back leg within 10 cm of the floor besides, they galloped.

    Changed against `HalfCheetah-v5`: the reward.

    Versions: v0, first.
    """

    metadata = _metadata(20, 30, "going forward while only the back leg touches the floor")
    pool = ("HalfCheetah-v5", {})

    @staticmethod
    def reward(observation: Array, info: Mapping[str, Any]) -> Array:
        """Lift x stand x (1 + clip(forward velocity, -1, 1))."""
        height = observation[..., 0] + 0.7
        front, back = (
            clearance(height, np.moveaxis(np.cumsum(observation[..., angles], axis=-1), -1, 0), links)
            for angles, links in (([1, 5, 6, 7], CHEETAH_WITHOUT_BACK_LEG), ([1, 2, 3, 4], CHEETAH_BACK_LEG))
        )
        lift, stand = np.clip(front / 0.3, 0.0, 1.0), np.clip(1.0 - back / 0.05, 0.0, 1.0)
        return np.asarray(lift * stand * (1.0 + np.clip(info["x_velocity"], -1.0, 1.0)))
