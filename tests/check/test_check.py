"""`prefrl check`: each defect is found in an environment that has it, named with its fix, and not in one without."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import sentence
from numpy.typing import NDArray

from prefrl.check import CheckConfig, examine, run_check
from prefrl.check.drawing import rendering_finding
from prefrl.check.findings import score_finding
from prefrl.check.played import Rollout, first_difference, roll, still
from prefrl.check.reading import alignment, score_cells
from prefrl.check.words import Finding
from prefrl.experience.environments import find_spec, make_env
from prefrl.words.errors import UserError

STEPS = 1000


class Walk(gym.Env[Any, Any]):
    """A point drifts on a line, is pushed by the action, and is paid for being near 0; `defect` adds what is wrong."""

    metadata = {"render_modes": []}  # noqa: RUF012
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, defect: str = "") -> None:
        self.defect = defect
        self.observation_space: spaces.Space[Any] = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        if defect == "words":
            self.observation_space = spaces.Sequence(spaces.Discrete(5))
        if defect == "strong":
            self.action_space = spaces.Box(-500.0, 500.0, (1,), np.float32)
        if defect == "long segment":
            self.metadata = {"render_modes": [], "segment_steps": 70}

    def _observation(self) -> NDArray[np.float32]:
        extra = {
            "score": 10 * self.score + 3,
            "clock": self.count,
            "speed": 3 * self.paid - 1,
            "infinite": np.inf if self.count == 30 else 0.0,
        }
        seen = np.array([self.x, np.sin(self.x), self.pushed, extra.get(self.defect, 0.0)], np.float32)
        return seen[: 3 if self.defect == "shape" and self.count == 9 else None]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.rng = np.random.default_rng() if self.defect == "unseeded" else self.np_random
        self.x = 0.3 if self.defect == "one course" else self.rng.uniform(-1, 1)
        self.count, self.score, self.paid, self.pushed = 0, 0.0, 0.0, 0.0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.defect == "prints":
            print("step")
        self.count, self.pushed = self.count + 1, float(action[0])
        if self.defect == "raises" and self.count == 8:
            raise RuntimeError("the joint\nbroke")
        self.x = 0.9 * self.x + 0.3 * self.pushed + (self.defect != "one course") * 0.1 * self.rng.normal()
        self.paid = {"flat": 1.0, "rare": float(abs(self.x) > 1.2)}.get(self.defect, 5.0 - self.x**2)
        if self.defect == "not a number" and self.count == 20:
            self.paid = float("nan")
        self.score += self.paid
        over = self.defect == "falls" and self.count > 3 and abs(self.x) > 0.3
        return self._observation(), self.paid, over, False, {"paid": self.paid, "who": "me"}


class Screen(gym.Env[Any, Any]):
    """A dot moves over a screen and is paid when it passes the middle; `counts` draws the score as rows of blocks."""

    metadata = {"render_modes": []}  # noqa: RUF012
    action_space = spaces.Discrete(3)

    def __init__(self, counts: bool, shape: tuple[int, ...] = (60, 60, 1), dtype: str = "uint8") -> None:
        self.counts = counts
        self.observation_space = spaces.Box(0, 255, shape, np.dtype(dtype).type)

    def _observation(self) -> NDArray[Any]:
        screen = np.zeros((60, 60), self.observation_space.dtype)
        screen[30 + self.place // 60, self.place % 60] = 200
        if self.counts:
            screen[3:6, [3 * bit + 3 for bit in range(4) if self.score >> bit & 1]] = 255
        return screen.reshape(self.observation_space.shape)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.score = int(self.np_random.integers(60)), 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        before, self.place = self.place, (self.place + 1 + int(action)) % 600
        paid = before % 60 < 30 <= self.place % 60
        self.score = (self.score + paid) % 16
        return self._observation(), float(paid), False, False, {}


DRAWN = """
import os, gymnasium, numpy
class Drawn(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,))
    def __init__(self, how, render_mode=None):
        self.how, self.render_mode = how, render_mode
    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        print("a line that is no answer")
        return numpy.zeros(1, "float32"), {}
    def render(self):
        if self.how == "aborts": os.abort()
        if self.how == "needs": raise gymnasium.error.DependencyNotInstalled("pygame is not installed")
        picture = numpy.zeros((30, 40, 3), "uint8")
        picture[5] = 255 * (self.how != "black")
        if self.how == "dark": return -1.0 * picture
        return picture / 255 if self.how == "float" else picture
"""

gym.register("prefrl-tests/Walk-v0", Walk, max_episode_steps=50)
gym.register("prefrl-tests/Endless-v0", Walk)
gym.register("prefrl-tests/Screen-v0", Screen, max_episode_steps=400)
gym.register("prefrl-tests/Missing-v0", "no_such_module:Env")
gym.register(
    "prefrl-tests/BarePong-v0", "prefrl_envs.atari:AtariTask", kwargs={"game": "Pong", "mask": np.zeros((84, 84))}
)


def check(env_id: str, *kwargs: str, steps: int = STEPS) -> dict[str, Finding]:
    """The findings by name; each is a sentence on one line, and says how to fix it unless all is well."""
    findings = examine(CheckConfig(env_id, env_kwargs=kwargs or None, steps=steps))
    for finding in findings:
        assert finding.says.endswith((".", "?")), finding
        assert "\n" not in finding.says
        assert finding.fix.endswith(".") if finding.level != "ok" else not finding.fix
    by_name = {finding.name: finding for finding in findings}
    assert len(by_name) == len(findings), [finding.name for finding in findings]
    return by_name


def walk(defect: str = "") -> dict[str, Finding]:
    return check("prefrl-tests/Walk-v0", f"defect={defect}")


def levels(findings: dict[str, Finding]) -> dict[str, str]:
    """All that is not ok; these environments cannot be drawn, so that is left out."""
    return {name: each.level for name, each in findings.items() if each.level != "ok" and name != "rendering"}


def rollout(rewards: Any, episode: Any, shown: Any = None) -> Rollout:
    """A rollout of these rewards, one row of `shown` for each step."""
    rewards, episode = np.asarray(rewards, np.float64), np.asarray(episode, np.int64)
    begins = np.flatnonzero(np.diff(episode, prepend=-1))
    n, zeros = len(rewards), np.zeros(len(rewards), np.int64)
    offset = np.arange(n) - np.repeat(begins, np.diff(begins, append=n))
    values = np.zeros((n + 1, 1), np.float32) if shown is None else np.asarray(shown, np.float32)
    return Rollout(values, np.arange(n), np.zeros((n, 0), np.uint32), rewards, episode, offset, zeros, {}, "")


# --- environments without fault --------------------------------------------------------------------------------------


def test_an_environment_without_fault_has_no_line_to_fix() -> None:
    found = walk()
    assert levels(found) == {}
    assert found["made"].says == "made with defect=."
    assert "float32 (4,)" in found["spaces"].says
    assert found["horizon"].says == "the time limit is 50 steps."
    assert found["rendering"].level == "warning"
    assert "'rgb_array'" in found["rendering"].says


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "prefrl/Reacher-v0", "prefrl/Pong-v0"])
def test_the_projects_own_environments_pass(env_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_check(CheckConfig(env_id, steps=STEPS)) == 0
    said = capsys.readouterr().out
    assert "FAIL" not in said
    assert f"{env_id} is fit for learning from preferences: 0 failed" in said


@pytest.mark.parametrize(
    ("env_id", "kwargs", "line", "words"),
    [
        ("FrozenLake-v1", (), "spaces", "float32 (16,), flattened from Discrete(16), and acts in Discrete(4)"),
        ("prefrl-tests/Screen-v0", ("counts=false",), "image", "60 x 60 pixels, 1 channels, last; uint8"),
        ("prefrl-tests/Screen-v0", ("counts=false", "shape=[1,60,60]"), "image", "60 x 60 pixels, 1 channels, first"),
        ("prefrl-tests/Screen-v0", ("counts=false", 'dtype="float32"'), "image", "are taken as 3600 numbers"),
        ("prefrl-tests/Screen-v0", ("counts=false", "shape=[120,30,1]"), "image", "are taken as 3600 numbers"),
    ],
)
def test_what_a_learner_sees_is_described(env_id: str, kwargs: tuple[str, ...], line: str, words: str) -> None:
    found = check(env_id, *kwargs)[line]
    assert words in found.says
    assert found.level == ("warning" if "taken as" in words else "ok")


# --- defects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("defect", "line", "level", "words"),
    [
        ("score", "score", "fail", "observation 3 is the sum of the rewards so far"),
        ("speed", "readable", "warning", "observation 3 after the step is the step's reward"),
        ("not a number", "finite", "fail", "the reward is nan at step 19 of episode 0 (20 of 1000 steps)"),
        ("infinite", "finite", "fail", "observation 3 is inf after step 29 of episode 0"),
        ("raises", "steps", "fail", "RuntimeError at step 7 of episode 0, with random actions, on action ["),
        ("shape", "steps", "fail", "ValueError at step 8 of episode 0"),
        ("unseeded", "seeding", "warning", "different episodes, from step 0 on"),
        ("one course", "seeding", "warning", "three seeds give the same 200 steps"),
        ("words", "made", "fail", "do not flatten into a vector"),
        ("strong", "actions", "ok", "actions span -500 to 500"),
        ("flat", "ties", "fail", "of 300 pairs of random behaviour an oracle calls 100% equal"),
        ("rare", "ties", "warning", "of 300 pairs of random behaviour an oracle calls"),
        ("long segment", "segment", "fail", "a segment has 70 steps and an episode at most 50"),
    ],
)
def test_a_defect_is_named(defect: str, line: str, level: str, words: str) -> None:
    found = walk(defect)
    assert found[line].level == level
    assert words in found[line].says
    assert levels(found) == ({line: level} if level != "ok" else {})


def test_a_clock_is_no_score_and_a_readable_reward_is_no_fail() -> None:
    assert levels(walk("clock")) == {}
    assert "nearest r = " in walk("clock")["score"].says
    assert walk("speed")["score"].level == "ok"


def test_info_that_pays_is_mentioned() -> None:
    found = walk()["info"]
    assert found.level == "ok"
    assert found.says.startswith("info['paid'] is the reward; ")


def test_ends_that_give_the_task_away() -> None:
    found = walk("falls")
    assert {"ending": "warning", "length": "warning"}.items() <= levels(found).items()
    assert "leave the ends in: with --fixed-horizon" in found["ending"].fix  # most steps would be of what is over
    assert "correlation with their true return +1.00" in found["length"].says


def test_no_time_limit() -> None:
    assert check("prefrl-tests/Endless-v0")["horizon"].level == "warning"
    assert "max_episode_steps" in check("prefrl-tests/Endless-v0")["horizon"].fix
    limited = check("prefrl-tests/Endless-v0", "max_episode_steps=40")
    assert limited["horizon"].says == "the time limit is 40 steps."


def test_a_score_on_the_screen_is_found_and_a_dot_is_not() -> None:
    shown = check("prefrl-tests/Screen-v0", "counts=true", steps=2000)["score"]
    assert shown.level == "fail"
    assert "rows 3 to 5 and columns 3 to 5 " in shown.says  # the lowest bit, which changes with every point
    assert check("prefrl-tests/Screen-v0", "counts=false", steps=2000)["score"].level == "ok"


def test_pongs_score_is_found_where_it_is_not_blanked() -> None:
    find_spec("prefrl/Pong-v0")  # loads the plugin
    for env_id, level, words in (
        ("prefrl-tests/BarePong-v0", "fail", "the picture in rows 0 to "),
        ("prefrl/Pong-v0", "ok", "no observation holds the score so far"),
    ):
        env = make_env(env_id)
        found = score_finding(roll(env, [("random", 1500)], 0), 1500, env)
        assert found.level == level
        assert found.says.startswith(words)
        env.close()


# --- what is missing -------------------------------------------------------------------------------------------------


def test_a_missing_module_or_rom_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = check("prefrl-tests/Missing-v0")
    assert list(found) == ["made"]
    assert found["made"].fix == "install the package that has the module 'no_such_module'."
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    found = check("prefrl/Pong-v0")
    assert "pong.bin was not found" in found["made"].says
    assert "ale-py" in found["made"].fix


def test_a_wrong_argument_is_the_environments_own_sentence() -> None:
    found = check("prefrl/Pong-v0", "mask=[[1]]")
    assert found["made"].level == "fail"
    assert "The mask has shape (1, 1), but frames are 84 x 84" in found["made"].says
    assert "no_such" in check("Pendulum-v1", "no_such=1")["made"].says


def test_a_missing_envpool_is_slower_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    monkeypatch.setenv("MUJOCO_GL", "egl")  # one attempt at drawing is enough
    found = check("Reacher-v5", steps=400)
    assert found["run"].level == "warning"
    assert '-e ".[fast]" in your checkout' in found["run"].fix
    assert "fail" not in levels(found).values()
    assert walk()["run"].level == "ok"


@pytest.mark.parametrize(
    ("how", "level", "words", "fix"),
    [
        ("well", "ok", "a person can be shown it, 40 x 30 pixels.", ""),
        ("black", "warning", "a picture of one colour", "(h, w, 3) uint8"),
        ("float", "ok", "a person can be shown it, 40 x 30 pixels.", ""),
        ("dark", "warning", "it draws an array (30, 40, 3) of float64 from -255.0 to 0.0", "(h, w, 3) uint8"),
        ("needs", "warning", "pygame is not installed", 'pip install "gymnasium[classic-control]"'),
        ("aborts", "warning", "drawing it ended the process, SIGABRT", "rgb_array"),
    ],
)
def test_drawing_is_tried_in_another_process(
    how: str, level: str, words: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "drawn_env.py").write_text(DRAWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "drawn_env", raising=False)
    spec = gym.envs.registration.EnvSpec("Drawn-v0", "drawn_env:Drawn", kwargs={"how": how})
    found = rendering_finding(gym.make(spec, disable_env_checker=True).unwrapped)
    assert found.level == level
    assert words in found.says
    assert fix in found.fix


def test_an_environment_that_cannot_be_sent_is_not_drawn() -> None:
    env = Walk()
    env.metadata = {"render_modes": ["rgb_array"]}
    env.spec = gym.envs.registration.EnvSpec("Here-v0", lambda: Walk())
    found = rendering_finding(env)
    assert found.level == "warning"
    assert '"package:Id-v0"' in found.fix


# --- the command -----------------------------------------------------------------------------------------------------


def test_lines_are_aligned_and_followed_by_their_fix(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_check(CheckConfig("prefrl-tests/Walk-v0", ("defect=raises",), steps=STEPS)) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "prefrl-tests/Walk-v0 is not fit for learning from preferences: 1 failed, 1 warned."
    marks = [line[:4] for line in said[:-1]]
    assert set(marks) == {"ok  ", "warn", "FAIL", "    "}
    assert len({line.index(line[4:].split()[1], 8) for line in said[:2]}) == 1
    for place, mark in enumerate(marks):
        assert (mark in ("warn", "FAIL")) == (place + 1 < len(marks) and said[place + 1].strip().startswith("fix: "))


def test_json_is_one_object_whatever_the_environment_prints(capsys: pytest.CaptureFixture[str]) -> None:
    for defect, code, verdict in (("prints", 0, "fit"), ("score", 1, "not fit")):
        assert run_check(CheckConfig("prefrl-tests/Walk-v0", (f"defect={defect}",), steps=STEPS, json=True)) == code
        said = json.loads(capsys.readouterr().out)
        assert said["verdict"] == verdict
        assert said["env"] == "prefrl-tests/Walk-v0"
        assert {"name", "level", "says", "fix"} == set(said["findings"][0])
        assert ("fail" in {finding["level"] for finding in said["findings"]}) == code


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (CheckConfig("HalfChetah-v5"), "Did you mean 'HalfCheetah-v5'?"),
        (CheckConfig("no_such_package:Id-v0"), "cannot be imported"),
        (CheckConfig("Pendulum-v1", ("g",)), "name=value"),
        (CheckConfig("Pendulum-v1", steps=10), "takes 400 steps or more"),
        (CheckConfig("Pendulum-v1", seed=-1), "seed of zero or more"),
        (CheckConfig("Pendulum-v1", seconds=1), "takes 5 seconds or more"),
        (CheckConfig("Pendulum-v1", wrapper=("RescaleAction",)), "package.module:Class"),
    ],
)
def test_wrong_input_is_one_sentence(config: CheckConfig, words: str) -> None:
    with pytest.raises(UserError) as error:
        run_check(config)
    assert words in sentence(error.value)


def test_the_same_seed_finds_the_same() -> None:
    config = CheckConfig("prefrl-tests/Walk-v0", steps=STEPS)
    again, other = ([line for line in examine(c) if line.name != "speed"] for c in (config, replace(config, seed=1)))
    assert again == [line for line in examine(config) if line.name != "speed"]
    assert again != other


def test_help_costs_nothing() -> None:
    code = "import sys, prefrl.check; print(sorted({'torch', 'gymnasium', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- arithmetic ------------------------------------------------------------------------------------------------------


def test_scores_by_hand() -> None:
    assert rollout([1, 2, 4, 8, 16], [0, 0, 0, 1, 1]).scores.tolist() == [0, 1, 3, 0, 8]
    assert rollout([], []).scores.tolist() == []


def test_alignment_by_hand() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=60)
    clock = np.arange(60) % 20
    episode = np.arange(60) // 20
    shown = np.stack([5 - 2 * target, rng.normal(size=60), np.full(60, 3.0), target + 100 * episode, target + clock], 1)
    plain = alignment(shown, np.arange(60), target)
    assert plain[0] == pytest.approx(1)
    assert plain[1] == pytest.approx(abs(np.corrcoef(shown[:, 1], target)[0, 1]))
    assert plain[2] == 0
    assert plain[3:].max() < 0.5
    assert alignment(shown, np.arange(60), target, episode)[3] == pytest.approx(1)
    cleaned = alignment(shown, np.arange(60), target + 7 * clock, episode, clock)
    np.testing.assert_allclose(cleaned[[0, 3, 4]], 1)
    assert alignment(shown, np.arange(60), 7.0 * clock, episode, clock).max() == 0  # a clock tells no score
    assert alignment(shown, np.arange(20), target[:20]).max() == 0  # too few to say
    assert alignment(np.tile(shown, 200), np.arange(60), target).shape == (1000,)


def test_score_cells_by_hand() -> None:
    rewards = np.tile([0.0] * 9 + [1.0], 12)
    paid = np.cumsum(rewards)
    late = np.concatenate([[0, 0], paid[:-2]])  # drawn two steps later
    noise = np.arange(120)
    every_other = paid // 2
    content = np.stack([paid, late, noise, every_other, np.zeros(120)], 1).astype(np.uint32)
    episode = np.zeros(120, np.int64)
    assert score_cells(content, rewards, episode).tolist() == [True, True, False, False, False]
    assert score_cells(content, -rewards, episode).tolist() == [True, True, False, False, False]
    assert not score_cells(content[:100], rewards[:100], episode[:100]).any()  # nine rewards with something after them
    assert not score_cells(content, np.ones(120), episode).any()  # no stretch is long enough
    assert score_cells(content[:, :0], rewards, episode).shape == (0,)
    penalised = rewards.copy()
    penalised[5::30] = -10.0  # not on the screen; the stretches about it are too short to count
    assert score_cells(content, penalised, episode)[0]


def test_first_difference_by_hand() -> None:
    left = rollout([1, 2, 3], [0, 0, 0], [[0], [1], [2], [3]])
    assert first_difference(left, left) is None
    assert first_difference(left, rollout([1, 2, 4], [0, 0, 0], [[0], [1], [2], [3]])) == 2
    assert first_difference(left, rollout([1, 2, 3], [0, 0, 0], [[0], [1], [9], [3]])) == 1
    assert first_difference(left, rollout([1, 2], [0, 0], [[0], [1], [2]])) == 2
    nan = rollout([1, 2, 3], [0, 0, 0], [[np.nan], [1], [2], [3]])
    assert first_difference(nan, nan) is None


def test_doing_nothing() -> None:
    assert still(spaces.Box(-1, 1, (2,))).tolist() == [0, 0]
    assert still(spaces.Box(2, 3, (1,))).tolist() == [2]
    assert still(spaces.Discrete(3, start=4)) == 4
    assert still(spaces.MultiDiscrete([2, 3])).tolist() == [0, 0]
    assert still(spaces.MultiBinary(2)).tolist() == [0, 0]


def test_the_plan_is_kept_to() -> None:
    rolled = roll(make_env("prefrl-tests/Walk-v0"), [("random", 120), ("still", 60), ("held", 30)], 3)
    pushed = rolled.shown[rolled.at + 1, 2]
    assert len(rolled.rewards) == 210
    assert np.flatnonzero(rolled.offset == 0).tolist() == [0, 50, 100, 120, 170, 180]
    assert np.flatnonzero(rolled.ended).tolist() == [49, 99, 169]
    assert len(np.unique(pushed[:120])) == 120
    assert (pushed[120:180] == 0).all()
    assert len(np.unique(pushed[180:])) == 1
    assert rolled.shown.shape == (210 + 6, 4)
