"""The suites' own Python classes, as Gymnasium environments: they step one environment, and draw it.

What a picture is drawn from is a `scene`, a vector: the joints' positions, and where those bodies, shapes and sites of
the model are that an episode places anew. `set_scene` puts another simulation of the task there.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, ClassVar

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer
from gymnasium.spaces import Box
from numpy.typing import NDArray

from .mujoco_suites import keys, metadata_of

FOREVER = 2**30  # steps: whoever wraps the environment ends its episodes
PLACED = {
    "finger": ("site_pos",),
    "fish": ("geom_pos",),
    "manipulator": ("body_pos", "body_quat"),
    "reacher": ("geom_pos",),
    "stacker": ("body_pos", "body_quat"),
    "swimmer": ("geom_pos",),
    "Meta-World": ("body_pos", "body_quat", "site_pos"),
}
"""Domain, or suite -> the arrays of MuJoCo's model that its episodes begin by changing, as far as they can be seen."""

CAMERAS = {"quadruped": "y", "Meta-World": "corner2"}  # DeepMind's others are best seen from the first
HANGING = ("corner", "corner2", "corner3")  # cameras of Meta-World that hang upside down


class _Drawn(gym.Env[NDArray[Any], NDArray[Any]]):
    """What both suites share: pictures, and what they are drawn from.

    Args:
        camera: of the pictures, unless `camera_id` or `camera_name` says another.
        render_mode: "rgb_array", or None for no pictures.
        width: of the pictures, in pixels.
        height: of the pictures, in pixels.
        camera_id: number of a camera, -1 for a free one.
        camera_name: name of a camera.
    """

    placed: tuple[str, ...] = ()

    def __init__(
        self,
        camera: dict[str, Any],
        render_mode: str | None,
        width: int,
        height: int,
        camera_id: int | None,
        camera_name: str | None,
    ) -> None:
        self.render_mode = render_mode
        chosen = {"camera_id": camera_id, "camera_name": camera_name}
        if camera_id is None and camera_name is None:
            chosen = camera
        self._drawing: dict[str, Any] = {"width": width, "height": height, **chosen}
        self._renderer: MujocoRenderer | None = None

    @property
    @abstractmethod
    def model(self) -> mujoco.MjModel:
        """MuJoCo's model."""

    @property
    @abstractmethod
    def data(self) -> mujoco.MjData:
        """MuJoCo's state."""

    @property
    def scene(self) -> NDArray[np.float64]:
        """What the present step can be drawn from, (d,)."""
        parts = [self.data.qpos, *(getattr(self.model, name) for name in self.placed)]
        return np.concatenate([np.ravel(part) for part in parts])

    def set_scene(self, scene: NDArray[Any]) -> None:
        """Be where another simulation of this task was; nothing moves."""
        parts = [self.data.qpos, *(getattr(self.model, name) for name in self.placed)]
        ends = np.cumsum([part.size for part in parts])
        for part, values in zip(parts, np.split(np.asarray(scene), ends[:-1]), strict=True):
            part[:] = values.reshape(part.shape)
        self.data.qvel[:] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def render(self) -> Any:
        """A picture (height, width, 3) of uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            self._renderer = MujocoRenderer(self.model, self.data, **self._drawing)
        return self._renderer.render(self.render_mode)

    def close(self) -> None:
        """Free what draws."""
        if self._renderer is not None:
            self._renderer.close()  # type: ignore[no-untyped-call]
            self._renderer = None


class DMControl(_Drawn):
    """A task of DeepMind's control suite.

    Args:
        task: "walker-walk".
        render_mode: "rgb_array", or None for no pictures.
        width: of the pictures, in pixels.
        height: of the pictures, in pixels.
        camera_id: number of a camera, -1 for a free one; the suite's first if nothing is said.
        camera_name: name of a camera.
    """

    def __init__(
        self,
        task: str,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
        camera_id: int | None = None,
        camera_name: str | None = None,
    ) -> None:
        with warnings.catch_warnings():  # about screens, which are not needed here
            warnings.simplefilter("ignore")
            from dm_control import suite
        domain, name = task.split("-")
        self._suite = suite.load(domain, name, task_kwargs={"random": 0, "time_limit": np.inf})
        self._keys, self.placed = keys(task), PLACED.get(domain, ())
        fps = round(1 / self._suite.control_timestep())
        self.metadata = {**metadata_of("dmc"), "render_modes": ["rgb_array"], "render_fps": fps}
        shown, acted = self._suite.observation_spec(), self._suite.action_spec()
        size = sum(int(np.prod(shown[key].shape)) for key in self._keys)
        self.observation_space = Box(-np.inf, np.inf, (size,))
        self.action_space = Box(acted.minimum.astype(np.float32), acted.maximum.astype(np.float32))
        camera = {"camera_name": CAMERAS[domain]} if domain in CAMERAS else {"camera_id": 0 if self.model.ncam else -1}
        super().__init__(camera, render_mode, width, height, camera_id, camera_name)

    @property
    def model(self) -> mujoco.MjModel:
        """MuJoCo's model."""
        return self._suite.physics.model.ptr

    @property
    def data(self) -> mujoco.MjData:
        """MuJoCo's state."""
        return self._suite.physics.data.ptr

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; the start states of those that follow come from the seed."""
        super().reset(seed=seed)
        if seed is not None:
            self._suite.task.random.seed(int(self.np_random.integers(2**31)))
        return self._observed(self._suite.reset()), {}

    def step(self, action: NDArray[Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step of the suite's control."""
        after = self._suite.step(action)
        return self._observed(after), float(after.reward), False, False, {}

    def set_state(self, qpos: NDArray[Any], qvel: NDArray[Any]) -> None:
        """Be at these positions and velocities of the joints; targets stay where they are."""
        with self._suite.physics.reset_context():
            self.data.qpos[:], self.data.qvel[:] = qpos, qvel

    def _observed(self, step: Any) -> NDArray[np.float32]:
        parts = [np.ravel(step.observation[key]) for key in self._keys]
        return np.concatenate(parts).astype(np.float32)


class MetaWorld(_Drawn):
    """A task of Meta-World, version 3, paid by version 2 of its reward.

    Args:
        task: "window-open".
        partially_observable: whether the goal is hidden: the last three numbers of an observation are then zero.
        render_mode: "rgb_array", or None for no pictures.
        width: of the pictures, in pixels.
        height: of the pictures, in pixels.
        camera_id: number of a camera, -1 for a free one; corner2 if nothing is said.
        camera_name: name of a camera.
    """

    placed = PLACED["Meta-World"]
    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        **metadata_of("Meta-World"),
        "render_modes": ["rgb_array"],
        "render_fps": 80,
    }

    def __init__(
        self,
        task: str,
        partially_observable: bool = True,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
        camera_id: int | None = None,
        camera_name: str | None = None,
    ) -> None:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS

        self._env = ALL_V3_ENVIRONMENTS[f"{task}-v3"](reward_function_version="v2")
        self._hold_pads()
        self._env.max_path_length = FOREVER
        self._env._set_task_called = True
        self._env._freeze_rand_vec, self._env.seeded_rand_vec = (
            False,
            True,
        )  # another place in each episode, by the seed
        self._env._partially_observable = partially_observable
        self._env.__dict__.pop("sawyer_observation_space", None)  # which was reckoned with the goal hidden
        self.observation_space = Box(-np.inf, np.inf, (39,))
        self.action_space = Box(-1.0, 1.0, (4,))
        super().__init__({"camera_name": CAMERAS["Meta-World"]}, render_mode, width, height, camera_id, camera_name)

    @property
    def model(self) -> mujoco.MjModel:
        """MuJoCo's model."""
        return self._env.model

    @property
    def data(self) -> mujoco.MjData:
        """MuJoCo's state."""
        return self._env.data

    def render(self) -> Any:
        """A picture (height, width, 3) of uint8, the right way up; None without a render mode."""
        picture = super().render()
        if picture is not None and self._drawing.get("camera_name") in HANGING:
            return np.ascontiguousarray(picture[::-1, ::-1])
        return picture

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; the places of those that follow come from the seed."""
        super().reset(seed=seed)
        if seed is not None:
            self._env.seed(int(self.np_random.integers(2**31)))
        observation = self._env.reset()[0].astype(np.float32)
        self._hold_pads()
        return observation, {}

    def step(self, action: NDArray[Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step; `info["success"]` is 1 where the task is done."""
        observation, reward, _, _, about = self._env.step(np.asarray(action, np.float32))
        return observation.astype(np.float32), float(reward), False, False, {"success": float(about["success"])}

    def _hold_pads(self) -> None:
        """Keep where the gripper's pads began, which rewards read: what the class keeps is a view, and moves along."""
        for pad in ("init_left_pad", "init_right_pad"):
            setattr(self._env, pad, np.array(getattr(self._env, pad)))
