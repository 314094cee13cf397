"""A segment as a short film, for people (Christiano et al. 2017, section 2.2.2: clips of one or two seconds).

What a film is drawn from is kept while training runs, and is small: joint positions of a MuJoCo simulation, or what it
calls its `scene`, which is drawn again later, from any camera, by whoever shows the film; the frames that an agent of
pixels sees anyway; and for every other environment pictures, as JPEG files, taken only where a person labels.
"""

from __future__ import annotations

import ctypes.util
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, Literal

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from prefrl.experience.guard import said
from prefrl.experience.pictures import HEIGHT, Frames, enlarged, readable
from prefrl.experience.task import Task
from prefrl.words.errors import UserError, install
from prefrl.words.preference import Segment
from prefrl.words.spaces import is_image

WIDTH = 480  # of a simulation's pictures, beside `HEIGHT`
FILMS = (".mp4", ".webp", ".gif")
CLIP_S = 1.5  # a clip lasts as long as the paper's, whatever its steps


def how_shown(task: Task) -> Literal["frames", "joints", "pictures"]:
    """What people are shown of this environment: frames that it observes, joints drawn later, or pictures kept.

    Raises:
        UserError: there is no picture of it to show them.
    """
    find_display()
    without_screen()
    env, env_id = task.make(), task.env_id
    modes = env.metadata.get("render_modes") or []
    seen = is_image(env.observation_space)
    env.close()
    if seen:
        return "frames"
    if "rgb_array" not in modes:
        raise UserError(
            f"{env_id} cannot be drawn (render modes: {', '.join(modes) or 'none'}), and people compare only what they "
            f"can see: give it the mode 'rgb_array', or use --labeler oracle."
        )
    env = task.make(render_mode="rgb_array")
    try:
        if has_joints(env):  # they are drawn later, elsewhere
            return "joints"
        if ends := ends_the_process(task):
            raise UserError(ends)
        env.reset(seed=0)
        jpeg(env.render())
        return "pictures"
    except Exception as error:
        text = str(error) if isinstance(error, UserError) else said(error)
        raise UserError(
            f"{env_id} cannot be drawn here ({text.rstrip('.'):.300}), and people compare only what they can see: "
            f"install what drawing it needs, or use --labeler oracle."
        ) from error
    finally:
        env.close()


def has_joints(env: gym.Env[Any, Any]) -> bool:
    """Whether the environment is a MuJoCo simulation whose joint positions, or scene, can be read and set."""
    if hasattr(env.unwrapped, "set_scene"):
        return True
    return hasattr(env.unwrapped, "set_state") and hasattr(getattr(env.unwrapped, "data", None), "qpos")


def scene_of(env: gym.Env[Any, Any]) -> NDArray[Any]:
    """What the current step of a simulation can be drawn from: its `scene` where it has one, else joint positions."""
    inner: Any = env.unwrapped
    return np.array(inner.scene if hasattr(inner, "scene") else inner.data.qpos)


def set_scene(env: gym.Env[Any, Any], scene: NDArray[Any]) -> None:
    """Put a simulation where `scene_of` found another one; nothing moves."""
    inner: Any = env.unwrapped
    if hasattr(inner, "set_scene"):
        inner.set_scene(scene)
    else:
        inner.set_state(np.array(scene), np.zeros(inner.model.nv))


def scene_reader(venv: VecEnv) -> Callable[[], NDArray[Any]] | None:
    """What reads, from each environment, what its current step can be drawn from, (E, ...); None where images do.

    Args:
        venv: Gymnasium's own classes side by side, made with render_mode "rgb_array", or environments of images.
    """
    if is_image(venv.observation_space):
        return None
    assert isinstance(venv, DummyVecEnv)
    envs = venv.envs
    if has_joints(envs[0]):
        return lambda: np.stack([scene_of(env) for env in envs])
    return lambda: np.array([jpeg(env.render()) for env in envs], object)  # type: ignore[arg-type]


def jpeg(frame: Frames) -> bytes:
    """A picture (h, w, 3) as a JPEG file of `HEIGHT` rows at most.

    Its last byte is never zero, so an array of texts keeps it whole.
    """
    step = -(-frame.shape[0] // HEIGHT)
    file = io.BytesIO()
    iio.imwrite(file, frame[::step, ::step], extension=".jpg", quality=85)
    return file.getvalue()


def frame_rate(task: Task, steps: int) -> int:
    """Frames a second at which a segment is shown: the environment's `metadata["clip_fps"]`, or 1.5 seconds in all."""
    env = task.make()
    told = env.metadata.get("clip_fps")
    env.close()
    return int(told or min(60, max(4, round(steps / CLIP_S))))


class Artist:
    """Draws the segments of one task. It owns a simulation, so one thread uses it.

    Args:
        task: the environment as the run had it.
        camera: of a MuJoCo model, by name or number; None for the environment's own.

    Raises:
        UserError: the environment cannot be made to draw.
    """

    def __init__(self, task: Task, camera: str | None = None) -> None:
        self.task, self.camera = task, camera
        self._env: gym.Env[Any, Any] | None = None
        self._refused: UserError | None = None

    def frames(self, segment: Segment) -> Frames:
        """The pictures of a segment, (T, h, w, 3), both sides even.

        Raises:
            UserError: there is nothing to draw it from, no such camera, or nothing to draw with.
        """
        if segment.scene is not None and segment.scene.dtype.kind == "S":
            pictures = np.stack([iio.imread(bytes(picture), extension=".jpg") for picture in segment.scene])
        elif segment.observations.dtype == np.uint8 and segment.observations.ndim == 4:
            pictures = readable(segment.observations)
        else:
            pictures = self._simulate(segment)
        return even(pictures)

    def check(self) -> None:
        """Draw something, unless everything shown is frames that the environment observes.

        Raises:
            UserError: nothing can be drawn here.
        """
        if how_shown(self.task) != "frames":
            self.stage()

    def close(self) -> None:
        """Let the simulation go."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _simulate(self, segment: Segment) -> Frames:
        env = self.stage()
        if segment.scene is not None:
            poses = segment.scene
        elif hasattr(env.unwrapped, "poses"):  # what the observations show says where every joint is
            poses = env.unwrapped.poses(segment.observations.astype(np.float64))
        else:
            raise UserError(
                f"segments of {self.task.env_id} that were recorded for an oracle cannot be drawn: nothing was kept to "
                f"draw them from; train with --labeler human."
            )
        pictures = []
        for pose in poses:
            set_scene(env, pose)
            pictures.append(env.render())
        return np.stack(pictures)  # type: ignore[arg-type]

    def stage(self) -> gym.Env[Any, Any]:
        """The environment, ready to be drawn; MuJoCo's without shadows, which cost two thirds of the time."""
        if self._refused is not None:
            raise self._refused
        if self._env is None:
            find_display()
            without_screen()
            joints: dict[str, Any] = {}
            if self.camera is not None:
                number = self.camera.lstrip("-").isdigit()
                joints = {"camera_id": int(self.camera)} if number else {"camera_name": self.camera}
            env = self.task.make(render_mode="rgb_array")
            simulated = has_joints(env)
            if simulated:
                with suppress(UserError) if not joints else nullcontext():  # that of somebody else may have one size
                    larger = self.task.make(render_mode="rgb_array", width=WIDTH, height=HEIGHT, **joints)
                    env.close()
                    env = larger
                model: Any = env.unwrapped.model  # type: ignore[attr-defined]
                model.vis.quality.shadowsize = 0
                cameras = {text for i in range(model.ncam) for text in (model.camera(i).name, str(i))}
                if self.camera is not None and self.camera not in cameras | {"-1"}:
                    known = ", ".join(sorted(cameras)) or "none"
                    raise UserError(
                        f"{self.task.env_id} has no camera {self.camera!r}: its cameras are {known}, and -1 for a free "
                        f"one."
                    )
            elif joints:
                raise UserError(f"{self.task.env_id} has no cameras to choose from: leave --camera out.")
            ends = "" if simulated else ends_the_process(self.task)
            try:
                if ends:
                    raise UserError(ends)
                env.reset(seed=0)
                env.render()
            except UserError as error:
                env.close()
                screen = ": install OSMesa (Debian: apt install libosmesa6), or draw on a machine with a screen"
                self._refused = UserError(
                    f"{self.task.env_id} cannot be drawn here ({str(error).rstrip('.'):.300})"
                    f"{screen if simulated or ends else ''}."
                )
                raise self._refused from error
            self._env = env
        return self._env


def even(frames: Frames) -> Frames:
    """Frames without their last row or column where those are odd, as H.264 wants them."""
    return np.ascontiguousarray(frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2])


def film(frames: Frames, fps: float, suffix: str = ".mp4") -> bytes:
    """Pictures (T, h, w, 3) as an H.264 film that browsers play, or as an animated WebP or GIF.

    Raises:
        UserError: the suffix is of no kind that is written here, or a film needs a package that is missing.
    """
    if suffix == ".mp4":
        try:
            import av  # noqa: F401
        except ImportError as error:
            raise UserError(f"films need the package av: {install('people')}.") from error
        made: Any = iio.imwrite(
            "<bytes>", frames, extension=".mp4", plugin="pyav", codec="libx264", fps=fps, out_pixel_format="yuv420p"
        )
    elif suffix in FILMS:
        options: dict[str, Any] = {"quality": 60, "method": 4} if suffix == ".webp" else {"subrectangles": True}
        made = iio.imwrite("<bytes>", frames, extension=suffix, duration=round(1000 / fps), loop=0, **options)
    else:
        raise UserError(f"a film is one of {', '.join(FILMS)}, and {suffix!r} was asked for.")
    return bytes(made)


def without_screen() -> None:
    """Let pygame draw into memory where there is no screen to draw on; otherwise it complains, and may fail.

    Nor may SDL, below it, take SIGTERM for itself: it would make an event of it that nobody reads, and `kill`, like a
    cluster that wants its machine back, would end nothing.
    """
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")


def find_display() -> None:
    """Choose what MuJoCo draws with, where nobody has: a screen, or the first off-screen library that works.

    Must come before MuJoCo is first imported to draw. A library that is there may still not work, so it is tried, in
    a process of its own.
    """
    if "MUJOCO_GL" in os.environ or not sys.platform.startswith("linux") or os.environ.get("DISPLAY"):
        return
    for library, file in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if ctypes.util.find_library(file):
            code = "import mujoco; mujoco.GLContext(16, 16).make_current()"
            environ = {**os.environ, "MUJOCO_GL": library}
            done = subprocess.run([sys.executable, "-P", "-c", code], env=environ, capture_output=True, check=False)
            if done.returncode == 0:
                os.environ["MUJOCO_GL"] = library
                return


def ends_the_process(task: Task) -> str:
    """How drawing this task ends a process that tries, where it does: a library without a screen may abort.

    Only what draws with MuJoCo is tried, in a process of its own.
    """
    if not {"mujoco", "dm_control"} & sys.modules.keys():
        return ""
    code = "import json, sys; from prefrl.experience.clips import draw_once; draw_once(**json.load(sys.stdin))"
    try:
        known = {"kwargs": task.kwargs, "fixed_horizon": task.fixed_horizon, "wrappers": task.wrappers}
        about = json.dumps({"env_id": task.env_id, **known})
    except TypeError:  # an argument that only this process has
        return ""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], input=about.encode(), env=environ, capture_output=True, check=False
    )
    return f"drawing it ends the process with {signal.Signals(-done.returncode).name}" if done.returncode < 0 else ""


def draw_once(**about: Any) -> None:
    """The other process of `ends_the_process`: draw, and let whoever asked tell what comes of it."""
    without_screen()
    with suppress(UserError):
        env = Task(**about).make(render_mode="rgb_array")
        env.reset(seed=0)
        env.render()
    os._exit(0)  # a half-made OpenGL context may abort the process when it is torn down


def policy_frames(
    act: Callable[[NDArray[Any]], NDArray[Any]], artist: Artist, seconds: float, seed: int
) -> tuple[Frames, float]:
    """What a policy does, from a reset on, until an episode ends; and its frames a second, in the robot's own time."""
    env = artist.stage()
    fps = float(env.metadata.get("render_fps") or 30)
    thin = max(1, round(fps / 30))
    observation, _ = env.reset(seed=seed)
    pictures: list[Any] = []
    for step in range(round(seconds * fps)):
        if step % thin == 0:
            pictures.append(env.render())
        observation, _, terminated, truncated, _ = env.step(act(np.asarray(observation)[None])[0])
        if terminated or truncated:
            break
    return even(enlarged(np.stack(pictures))), fps / thin
