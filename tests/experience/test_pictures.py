"""Whatever an environment draws is drawn right everywhere, or refused everywhere."""

import io
import os
import subprocess
import sys
from contextlib import closing

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
from gymnasium import spaces
from helpers import sentence
from people import make_queries

from prefrl.check.drawing import rendering_finding
from prefrl.experience.clips import Artist, ends_the_process, film, how_shown, policy_frames
from prefrl.experience.guard import Guard
from prefrl.experience.pictures import picture, readable
from prefrl.experience.task import Task
from prefrl.words.errors import UserError

ID = "prefrl-tests/Painter-v0"
RED = np.zeros((6, 8, 3), np.uint8)
RED[:, :4, 0] = 200  # its left half
GREY = np.zeros((6, 8), np.uint8)
GREY[:, :4] = 200
KINDS = {
    "colour": RED,
    "grey": GREY,
    "grey with a channel": GREY[..., None],
    "with an opacity": np.dstack([RED, np.where(RED[..., 0] > 0, 255, 0).astype(np.uint8)]),
    "shares": RED / 255,
    "float": RED.astype(np.float32),
    "whole numbers": RED.astype(np.int64),
    "channels first": RED.transpose(2, 0, 1),
    "a list": [np.zeros_like(RED), RED],
}
NONE_OF_THEM = {
    "None": None,
    "an empty list": [],
    "a word": "a hill",
    "a row": np.zeros(7),
    "no width": np.zeros((6, 0, 3)),
    "two channels": np.zeros((6, 8, 2)),
    "a film": np.zeros((2, 6, 8, 3, 1)),
    "below zero": RED - 1.0,
    "beyond white": RED * 3.0,
    "NaN": np.full((6, 8, 3), np.nan),
    "objects": np.full((6, 8, 3), None),
    "ragged": [[1, 2], [3]],
}


class Painter(gym.Env):
    """Draws whatever it was told to, twelve times as large."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, kind="colour", render_mode=None):
        self.kind, self.render_mode = kind, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.asarray(action, np.float32), float(action[0]), False, False, {}

    def render(self):
        kinds = KINDS | NONE_OF_THEM
        drawn = kinds[self.kind]
        if self.kind in NONE_OF_THEM:
            return drawn
        if self.kind == "channels first":
            return drawn.repeat(12, 1).repeat(12, 2)
        return (
            [d.repeat(12, 0).repeat(12, 1) for d in drawn]
            if self.kind == "a list"
            else drawn.repeat(12, 0).repeat(12, 1)
        )


@pytest.fixture(autouse=True, scope="module")
def _painter():
    gym.register(ID, Painter, max_episode_steps=20)
    yield
    del gym.registry[ID]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_a_picture_is_drawn_right(kind):
    drawn = picture(KINDS[kind])
    assert drawn.dtype == np.uint8
    expected = np.dstack([GREY] * 3) if "grey" in kind else RED
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("kind", NONE_OF_THEM)
def test_what_is_no_picture_is_refused(kind):
    with pytest.raises(ValueError, match=r"None|array|something"):
        picture(NONE_OF_THEM[kind])


def test_truth_values_are_black_and_white():
    assert set(picture(GREY > 0).ravel().tolist()) == {0, 255}


@pytest.mark.parametrize("kind", ["grey", "with an opacity", "shares", "a list", "channels first"])
def test_clips_and_films_show_it_right(kind):
    task = Task(ID, {"kind": kind})
    assert how_shown(task) == "pictures"
    (query,) = make_queries(task, 1, 4)
    with closing(Artist(task)) as artist:
        clip = artist.frames(query.left)
        frames, fps = policy_frames(lambda observations: np.zeros((1, 1), np.float32), artist, 0.5, 0)
    shown = iio.imread(io.BytesIO(film(frames, fps, ".gif")), index=0)
    for frame in (clip[0], frames[0], shown):
        middle, width = frame.shape[0] // 2, frame.shape[1]
        assert abs(int(frame[middle, width // 4, 0]) - 200) < 12
        assert frame[middle, 3 * width // 4].max() < 12
    assert rendering_finding(Painter(kind)).level == "warning"  # it has no specification to be made from elsewhere
    assert rendering_finding(gym.make(ID, kind=kind).unwrapped).level == "ok"


@pytest.mark.parametrize("kind", ["None", "an empty list", "beyond white"])
def test_what_is_no_picture_is_one_sentence_at_every_door(kind):
    task = Task(ID, {"kind": kind})
    for door in (lambda: how_shown(task), Artist(task).check, lambda: make_queries(task, 1, 4)):
        with pytest.raises(UserError) as error:
            door()
        assert ID in sentence(error.value)
        assert "(height, width, 3) of uint8" in str(error.value)
    found = rendering_finding(gym.make(ID, kind=kind).unwrapped)
    assert found.level == "warning"
    assert "it draws" in found.says


def test_a_picture_that_changes_its_size_is_one_sentence():
    env = Guard(gym.make(ID, kind="colour", render_mode="rgb_array"), ID)
    env.reset(seed=0)
    assert env.render().shape == (72, 96, 3)
    env.unwrapped.kind = "a row"
    with pytest.raises(UserError, match="drew an array"):
        env.render()
    env.unwrapped.render = lambda: np.zeros((10, 10, 3), np.uint8)
    with pytest.raises(UserError, match=r"\(10, 10, 3\) after one \(72, 96, 3\)") as error:
        env.render()
    sentence(error.value)


@pytest.mark.parametrize(
    ("channels", "newest"), [(1, [0] * 3), (2, [1] * 3), (3, [0, 1, 2]), (4, [3] * 3), (6, [3, 4, 5])]
)
@pytest.mark.parametrize("first", [True, False])
def test_of_an_observation_the_newest_picture_is_shown(channels, newest, first):
    observations = np.broadcast_to(np.arange(channels, dtype=np.uint8), (2, 48, 60, channels)).copy()
    observations[0, 0, 0] += 1  # not one opacity everywhere
    shown = readable(observations.transpose(0, 3, 1, 2) if first else observations)
    assert shown.shape[:3] == (2, 384, 480)
    np.testing.assert_array_equal(shown[1, 100, 100], newest)


def test_an_opacity_that_is_observed_is_no_picture():
    observations = np.full((2, 48, 60, 4), 255, np.uint8)
    observations[..., :3] = (10, 20, 30)
    np.testing.assert_array_equal(readable(observations)[0, 0, 0], [10, 20, 30])


ABORTING = """
import os, signal
import gymnasium as gym, numpy as np
from gymnasium.spaces import Box
import mujoco

class Aborting(gym.Env):
    metadata = {"render_modes": ["rgb_array"]}
    observation_space, action_space = Box(-1, 1, (1,), np.float32), Box(-1, 1, (1,), np.float32)
    def __init__(self, render_mode=None):
        self.render_mode = render_mode
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}
    def render(self):
        os.kill(os.getpid(), signal.SIGABRT)

gym.register("Aborting-v0", Aborting, max_episode_steps=5)
"""


def test_drawing_that_would_end_the_process_is_one_sentence(tmp_path):
    (tmp_path / "aborting.py").write_text(ABORTING, encoding="utf-8")
    code = """
from prefrl.experience.clips import Artist, how_shown
from prefrl.experience.task import Task
from prefrl.words.errors import UserError
for door in (how_shown, lambda task: Artist(task).stage()):
    try:
        door(Task("aborting:Aborting-v0"))
    except UserError as error:
        print(error)
"""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.count("ends the process with SIGABRT") for line in done.stdout.splitlines()] == [1, 1]


def test_what_draws_without_mujoco_is_not_tried_in_another_process(monkeypatch):
    monkeypatch.setattr(
        sys, "modules", {name: m for name, m in sys.modules.items() if name not in ("mujoco", "dm_control")}
    )
    assert ends_the_process(Task("no-such-module:Any-v0")) == ""
