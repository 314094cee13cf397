import io
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
from gymnasium import spaces
from helpers import AnyEnv, sentence
from people import make_queries

import prefrl
from prefrl.experience.backends import make_vec_env
from prefrl.experience.clips import (
    HEIGHT,
    WIDTH,
    Artist,
    enlarged,
    film,
    frame_rate,
    how_shown,
    jpeg,
    readable,
    scene_reader,
)
from prefrl.experience.recorder import Recorder
from prefrl.experience.task import Task
from prefrl.runs.saved import film_policy
from prefrl.settings.config import VideoConfig
from prefrl.words.errors import UserError


class Blind(AnyEnv):
    """Has no picture of itself."""

    metadata = {"render_modes": []}  # noqa: RUF012


class Broken(Blind):
    """Says that it has pictures, and fails to draw them."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, render_mode=None):
        super().__init__(spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (1,)))
        self.render_mode = render_mode

    def render(self):
        raise ImportError("libNoSuchThing.so: cannot open shared object file")


@pytest.fixture(autouse=True, scope="module")
def _environments():
    gym.register("prefrl-tests/Broken-v0", Broken, max_episode_steps=9)
    yield
    del gym.registry["prefrl-tests/Broken-v0"]


def test_what_is_kept_depends_on_the_environment():
    assert how_shown(Task("HalfCheetah-v5")) == "joints"
    assert how_shown(Task("prefrl/HopperBackflip-v0")) == "joints"
    assert how_shown(Task("prefrl/Pong-v0")) == "frames"
    assert how_shown(Task("CartPole-v1")) == "pictures"


@pytest.mark.parametrize(
    ("env_id", "says"),
    [("prefrl-tests/Counter-v0", "render modes: none"), ("prefrl-tests/Broken-v0", "libNoSuchThing")],
)
def test_what_cannot_be_drawn_is_one_sentence(env_id, says):
    with pytest.raises(UserError) as caught:
        how_shown(Task(env_id))
    assert says in sentence(caught.value)
    assert "--labeler oracle" in str(caught.value)


def test_joints_are_those_in_which_each_observation_was_made():
    """The cheetah's observation is all its joint positions but x, then its velocities."""
    venv = make_vec_env("HalfCheetah-v5", 2, 0, "gymnasium", {"max_episode_steps": 7}, render_mode="rgb_array")
    recorder = Recorder(venv, "HalfCheetah-v5", 0, 1000, scene_reader(venv))
    recorder.reset()
    for _ in range(20):
        recorder.step(np.stack([venv.action_space.sample() for _ in range(2)]))
    for query in recorder.pairs(30, 3, np.random.default_rng(0)).queries():
        for segment in (query.left, query.right):
            assert segment.scene.shape == (3, 9)
            np.testing.assert_allclose(segment.scene[:, 1:], segment.observations[:, :8], rtol=1e-6, atol=1e-6)


def test_a_film_of_joints_is_what_the_simulation_would_have_shown():
    (query,) = make_queries("HalfCheetah-v5", 1, 4)
    with closing(Artist(Task("HalfCheetah-v5"))) as artist:
        frames = artist.frames(query.left)
        env = artist.stage()
        assert frames.shape == (4, HEIGHT, WIDTH, 3)
        env.unwrapped.set_state(query.left.scene[2], np.zeros(9))
        np.testing.assert_array_equal(env.render(), frames[2])
        assert (frames[0] != frames[3]).any()


def test_segments_that_an_oracle_was_asked_about_are_drawn_from_what_they_show():
    (query,) = make_queries("prefrl/HalfCheetah-v0", 1, 4)
    bare = prefrl.Segment(
        query.left.observations, query.left.actions, query.left.rewards, *[query.left.env_id, 0, 0, 0, 0, 0]
    )
    with closing(Artist(Task("prefrl/HalfCheetah-v0"))) as artist:
        drawn = artist.frames(query.left).astype(float)
        again = artist.frames(bare).astype(float)
    assert drawn.shape == again.shape
    with (
        closing(Artist(Task("HalfCheetah-v5"))) as artist,
        pytest.raises(UserError, match="train with --labeler human"),
    ):
        artist.frames(bare)


def test_pictures_come_back_as_they_were_taken():
    (query,) = make_queries("CartPole-v1", 1, 3)
    assert query.left.scene.dtype.kind == "S"
    frames = Artist(Task("CartPole-v1")).frames(query.left)
    assert frames.shape[0] == 3
    assert frames.shape[1] <= HEIGHT
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    env.reset()
    env.unwrapped.state = query.left.observations[1]
    shown = iio.imread(jpeg(env.render()), extension=".jpg").astype(float)
    env.close()
    assert np.abs(shown[: frames.shape[1], : frames.shape[2]] - frames[1]).mean() < 2


def test_frames_of_games_are_the_newest_and_large_enough_to_read():
    observations = np.arange(2 * 4 * 84 * 84, dtype=np.uint8).reshape(2, 4, 84, 84)
    shown = readable(observations)
    assert shown.shape == (2, 336, 336, 3)
    np.testing.assert_array_equal(shown[1, ::4, ::4, 2], observations[1, 3])
    assert readable(np.zeros((5, 96, 96, 3), np.uint8)).shape == (5, 384, 384, 3)
    assert readable(np.zeros((5, 3, 96, 96), np.uint8)).shape == (5, 384, 384, 3)
    assert enlarged(np.zeros((1, 400, 600, 3), np.uint8)).shape == (1, 400, 600, 3)


@pytest.mark.parametrize("suffix", [".mp4", ".webp", ".gif"])
def test_films_play_at_their_rate(suffix):
    frames = np.zeros((12, 64, 64, 3), np.uint8)
    frames[np.arange(12), :, 5 * np.arange(12)] = 255
    made = film(frames, 20, suffix)
    if suffix == ".mp4":
        about = iio.immeta(io.BytesIO(made), plugin="pyav")
        assert (about["fps"], about["codec"]) == (20, "h264")
        assert about["duration"] == pytest.approx(0.6, abs=0.06)
    read = iio.imread(io.BytesIO(made), index=..., plugin="pyav" if suffix == ".mp4" else "pillow")
    assert read.shape[:3] == (12, 64, 64)


def test_a_clip_lasts_as_long_as_the_papers():
    assert frame_rate(Task("HalfCheetah-v5"), 30) == 20
    assert frame_rate(Task("prefrl/Hopper-v0"), 60) == 40
    assert frame_rate(Task("prefrl/Pong-v0"), 25) == 15


def test_no_display_library_is_one_sentence(tmp_path: Path):
    code = """
import ctypes.util
from prefrl.experience.clips import Artist
from prefrl.experience.task import Task
from prefrl.words.errors import UserError
ctypes.util.find_library = lambda name: None
try:
    Artist(Task("HalfCheetah-v5")).check()
except UserError as error:
    print(error)
"""
    environ = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY")} | {"MUJOCO_GL": "glfw"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ)
    assert "cannot be drawn here" in done.stdout, done.stderr
    assert "libosmesa6" in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_run_that_takes_pictures_can_be_ended_by_kill():
    """SDL, which draws Gymnasium's classic tasks, would take SIGTERM for itself."""
    code = """
import os, signal
from prefrl.experience.clips import how_shown, scene_reader
from prefrl.experience.task import Task
from prefrl.experience.backends import make_vec_env
how_shown(Task("CartPole-v1"))
venv = make_vec_env("CartPole-v1", 1, 0, "gymnasium", render_mode="rgb_array")
venv.reset()
scene_reader(venv)()
os.kill(os.getpid(), signal.SIGTERM)
scene_reader(venv)()
"""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SDL_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ)
    assert done.returncode == -signal.SIGTERM, done.stderr


def test_a_camera_that_is_not_there_is_one_sentence():
    with closing(Artist(Task("HalfCheetah-v5"), camera="no such camera")) as artist, pytest.raises(UserError) as caught:
        artist.check()
    assert "track" in sentence(caught.value)
    with closing(Artist(Task("HalfCheetah-v5"), camera="7")) as artist, pytest.raises(UserError, match="cameras are"):
        artist.check()
    with closing(Artist(Task("CartPole-v1"), camera="track")) as artist, pytest.raises(UserError, match="no cameras"):
        artist.check()


def test_a_policy_is_filmed(tmp_path: Path):
    config = prefrl.TrainConfig(
        env="Pendulum-v1", steps=2_000, labels=10, n_envs=8, phases=2, tensorboard=False, out=tmp_path / "run"
    )
    folder = prefrl.train(config, quiet=True)
    made = film_policy(VideoConfig(run=folder, seconds=1.0))
    assert made == folder / "policy.mp4"
    assert iio.improps(made, plugin="pyav").shape[0] == 30
    with pytest.raises(UserError, match="choose one of them"):
        film_policy(VideoConfig(run=folder, out=tmp_path / "film.avi"))
    with pytest.raises(UserError, match="600 at most"):
        film_policy(VideoConfig(run=folder, seconds=0))
    with pytest.raises(UserError, match=r"cannot read .*config\.toml'.*; give the folder of a run\."):
        film_policy(VideoConfig(run=tmp_path))
