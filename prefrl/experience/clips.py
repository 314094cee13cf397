"""A segment as a short film, for people (Christiano et al. 2017, section 2.2.2: clips of one or two seconds).

What a film is drawn from is kept while training runs, and is small: joint positions of a MuJoCo simulation, which is
drawn again later, from any camera, by whoever shows the film; the frames that an agent of pixels sees anyway; and for
every other environment pictures, as JPEG files, taken only where a person labels.
"""

from __future__ import annotations

import ctypes.util
import io
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from prefrl.experience.environments import make_env
from prefrl.words.errors import UserError
from prefrl.words.preference import Segment
from prefrl.words.spaces import is_image

Frames = NDArray[np.uint8]

WIDTH, HEIGHT = 480, 360
FILMS = (".mp4", ".webp", ".gif")
CLIP_S = 1.5  # a clip lasts as long as the paper's, whatever its steps


def how_shown(env_id: str, env_kwargs: dict[str, Any]) -> Literal["frames", "joints", "pictures"]:
    """What people are shown of this environment: frames that it observes, joints drawn later, or pictures kept.

    Raises:
        UserError: there is no picture of it to show them.
    """
    without_screen()
    env = make_env(env_id, env_kwargs)
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
    env = make_env(env_id, env_kwargs, render_mode="rgb_array")
    try:
        env.reset(seed=0)
        if has_joints(env):  # they are drawn later, elsewhere
            return "joints"
        jpeg(env.render())
        return "pictures"
    except Exception as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"{env_id} cannot be drawn here ({said:.200}), and people compare only what they can see: install what "
            f"drawing it needs, or use --labeler oracle."
        ) from error
    finally:
        env.close()


def has_joints(env: gym.Env[Any, Any]) -> bool:
    """Whether the environment is a MuJoCo simulation whose joint positions can be read and set."""
    return hasattr(env.unwrapped, "set_state") and hasattr(getattr(env.unwrapped, "data", None), "qpos")


def watcher(venv: VecEnv) -> Callable[[], NDArray[Any]] | None:
    """What reads, from each environment, what its current step can be drawn from, (E, ...); None where images do.

    Args:
        venv: Gymnasium's own classes side by side, made with render_mode "rgb_array", or environments of images.
    """
    if is_image(venv.observation_space):
        return None
    assert isinstance(venv, DummyVecEnv)
    envs = venv.envs
    if has_joints(envs[0]):
        return lambda: np.stack([env.unwrapped.data.qpos for env in envs])  # type: ignore[attr-defined]
    return lambda: np.array([jpeg(env.render()) for env in envs], object)


def jpeg(picture: Any) -> bytes:
    """A picture (h, w, 3) as a JPEG file of `HEIGHT` rows at most.

    Its last byte is never zero, so an array of texts keeps it whole.
    """
    frame = np.asarray(picture, np.uint8)
    step = -(-frame.shape[0] // HEIGHT)
    file = io.BytesIO()
    iio.imwrite(file, frame[::step, ::step], extension=".jpg", quality=85)
    return file.getvalue()


def frame_rate(env_id: str, steps: int) -> int:
    """Frames a second at which a segment is shown: the environment's `metadata["clip_fps"]`, or 1.5 seconds in all."""
    env = make_env(env_id, {})
    told = env.metadata.get("clip_fps")
    env.close()
    return int(told or min(60, max(4, round(steps / CLIP_S))))


class Artist:
    """Draws the segments of one task. It owns a simulation, so one thread uses it.

    Args:
        env_id: the task.
        env_kwargs: arguments of the environment.
        camera: of a MuJoCo model, by name or number; None for the environment's own.

    Raises:
        UserError: the environment cannot be made to draw.
    """

    def __init__(self, env_id: str, env_kwargs: dict[str, Any] | None = None, camera: str | None = None) -> None:
        self.env_id, self.kwargs, self.camera = env_id, env_kwargs or {}, camera
        self._env: gym.Env[Any, Any] | None = None

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
        if how_shown(self.env_id, self.kwargs) != "frames":
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
                f"segments of {self.env_id} that were recorded for an oracle cannot be drawn: nothing was kept to draw "
                f"them from; train with --labeler human."
            )
        still = np.zeros(env.unwrapped.model.nv)  # type: ignore[attr-defined]
        pictures = []
        for pose in poses:
            env.unwrapped.set_state(np.array(pose), still)  # type: ignore[attr-defined]
            pictures.append(env.render())
        return np.stack(pictures)  # type: ignore[arg-type]

    def stage(self) -> gym.Env[Any, Any]:
        """The environment, ready to be drawn; MuJoCo's without shadows, which cost two thirds of the time."""
        if self._env is None:
            find_display()
            without_screen()
            joints: dict[str, Any] = {}
            if self.camera is not None:
                number = self.camera.lstrip("-").isdigit()
                joints = {"camera_id": int(self.camera)} if number else {"camera_name": self.camera}
            env = make_env(self.env_id, self.kwargs, render_mode="rgb_array")
            if has_joints(env):
                env.close()
                env = make_env(
                    self.env_id, {**self.kwargs, "width": WIDTH, "height": HEIGHT, **joints}, render_mode="rgb_array"
                )
                model: Any = env.unwrapped.model  # type: ignore[attr-defined]
                model.vis.quality.shadowsize = 0
                cameras = {text for i in range(model.ncam) for text in (model.camera(i).name, str(i))}
                if self.camera is not None and self.camera not in cameras | {"-1"}:
                    known = ", ".join(sorted(cameras)) or "none"
                    raise UserError(
                        f"{self.env_id} has no camera {self.camera!r}: its cameras are {known}, and -1 for a free one."
                    )
            elif joints:
                raise UserError(f"{self.env_id} has no cameras to choose from: leave --camera out.")
            try:
                env.reset(seed=0)
                env.render()
            except Exception as error:
                said = " ".join(f"{type(error).__name__}: {error}".split())
                raise UserError(
                    f"{self.env_id} cannot be drawn here ({said:.200}): install OSMesa (Debian: apt install "
                    f"libosmesa6), or label on a machine with a screen."
                ) from error
            self._env = env
        return self._env


def readable(observations: Frames) -> Frames:
    """The newest frame of each stack, or each picture, enlarged, (T, h, w, 3)."""
    if observations.shape[-1] not in (1, 3):  # channels or frames come first
        newest = observations if observations.shape[1] == 3 else observations[:, -1:]
        observations = newest.transpose(0, 2, 3, 1)
    return enlarged(observations.repeat(3 // observations.shape[-1], axis=-1))


def enlarged(frames: Frames) -> Frames:
    """Frames (T, h, w, 3), small ones by the whole factor that brings them to some `HEIGHT` rows."""
    times = max(1, round(HEIGHT / frames.shape[1]))
    return frames.repeat(times, axis=1).repeat(times, axis=2)


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
            raise UserError('films need the package av: pip install "prefrl[people]".') from error
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
    for library, file in (("osmesa", "OSMesa"), ("egl", "EGL")):
        if ctypes.util.find_library(file):
            code = "import mujoco; mujoco.GLContext(16, 16).make_current()"
            environ = {**os.environ, "MUJOCO_GL": library}
            done = subprocess.run([sys.executable, "-P", "-c", code], env=environ, capture_output=True, check=False)
            if done.returncode == 0:
                os.environ["MUJOCO_GL"] = library
                return


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
            pictures.append(np.asarray(env.render()))
        observation, _, terminated, truncated, _ = env.step(act(np.asarray(observation)[None])[0])
        if terminated or truncated:
            break
    return even(enlarged(np.stack(pictures))), fps / thin
