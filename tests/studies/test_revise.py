"""Behaviour that is begun anew from where it was, until it keeps the principles better, and is cloned."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import sentence

from prefrl.baseline import run_baseline
from prefrl.cli import main
from prefrl.policies.demonstrations import FILE, check_demonstrations
from prefrl.runs.runlog import is_finished
from prefrl.runs.saved import SavedRun, load_run
from prefrl.settings.config import BaselineConfig
from prefrl.studies.revise import revise
from prefrl.words.errors import UserError
from prefrl.words.tensors import load_tensors


class LineEnv(gym.Env):
    """Walks on a line for as long as it likes."""

    observation_space = spaces.Box(-10, 10, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)
    draws = None  # a generator that no seed reaches

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1) if self.draws is None else self.draws.uniform(-1, 1)
        return self._shown(), {}

    def step(self, action):
        self.place = float(np.clip(self.place + 0.3 * action[0] + self.np_random.normal(0, 0.02), -9, 9))
        return self._shown(), -abs(self.place), abs(self.place) > 2, False, {}

    def _shown(self):
        return np.array([self.place, self.place**2], np.float32)


class LooseEnv(LineEnv):
    draws = np.random.default_rng(0)


gym.register("prefrl-tests/Line-v0", LineEnv, max_episode_steps=40)
gym.register("prefrl-tests/Loose-v0", LooseEnv, max_episode_steps=40)


def to_the_left(observations, actions):
    """A principle."""
    return observations[:, 0] < 0


def constitution(folder: Path) -> Path:
    path = folder / "left.toml"
    path.write_text('[[principle]]\nname = "left"\npredicate = "test_revise:to_the_left"\n', encoding="utf-8")
    return path


def make_run(folder: Path, env: str) -> SavedRun:
    how = {"steps": 800, "n_envs": 2, "set": ("n_steps=50", "batch_size=100"), "tensorboard": False}
    return load_run(run_baseline(BaselineConfig(env=env, out=folder, checkpoint_every=0, **how), quiet=True))


@pytest.fixture(scope="module")
def line(tmp_path_factory) -> SavedRun:
    return make_run(tmp_path_factory.mktemp("runs") / "line", "prefrl-tests/Line-v0")


def test_what_keeps_the_principle_best_is_kept(line, tmp_path):
    out = tmp_path / "kept"
    shares = revise(line, constitution(tmp_path), out, starts=30, n=6, segment_steps=10)
    before, after = shares["left"]
    assert after > before + 0.15
    said = [json.loads(text) for text in (out / "revisions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(said) == 30
    assert {each["kept"] > 0 for each in said} == {True, False}
    assert all(each["critique"].startswith("left: holds on") for each in said if each["kept"])
    tensors, _ = load_tensors(out / FILE)
    assert np.mean(to_the_left(tensors["observations"].numpy(), None)) == pytest.approx(after)
    assert len(tensors["observations"]) == len(tensors["actions"]) <= 300


def test_the_same_seed_keeps_the_same(line, tmp_path):
    for name in ("one", "other"):
        revise(line, constitution(tmp_path), tmp_path / name, starts=4, n=3, segment_steps=8, seed=5)
    assert len({(tmp_path / name / FILE).read_bytes() for name in ("one", "other")}) == 1


def test_what_was_kept_is_cloned_by_another_run(line, tmp_path, capsys):
    kept = str(tmp_path / "kept")
    command = ["revise", str(line.folder), str(constitution(tmp_path)), "--out", kept]
    assert main([*command, "--starts", "20", "--n", "4", "--segment-steps", "10"]) == 0
    assert "--demonstrations" in capsys.readouterr().out
    how = "--env prefrl-tests/Line-v0 --steps 800 --n-envs 2 --set n_steps=50 batch_size=100 --no-tensorboard"
    out = tmp_path / "cloned"
    assert main(["baseline", *how.split(), "--demonstrations", kept, "--out", str(out)]) == 0
    assert is_finished(out)
    with pytest.raises(UserError) as caught:
        check_demonstrations((str(tmp_path / "kept"),), spaces.Box(-1, 1, (3,)), LineEnv.action_space)
    assert "of shapes (2,) and (1,)" in sentence(caught.value)


def test_an_environment_that_does_not_come_back_is_one_sentence(tmp_path):
    loose = make_run(tmp_path / "loose", "prefrl-tests/Loose-v0")
    with pytest.raises(UserError) as caught:
        revise(loose, constitution(tmp_path), tmp_path / "kept", starts=2, n=2, segment_steps=5)
    assert "does not come to the same place" in sentence(caught.value)
    assert not (tmp_path / "kept").exists()


def test_what_cannot_be_asked_is_one_sentence(line, tmp_path):
    for how in ({"n": 1}, {"starts": 0}, {"segment_steps": 0}, {"seed": -1}):
        with pytest.raises(UserError) as caught:
            revise(line, constitution(tmp_path), tmp_path / "kept", **how)
        assert "at least two stretches" in sentence(caught.value)
    with pytest.raises(UserError) as caught:
        revise(line, constitution(tmp_path), line.folder)
    assert "exists already" in sentence(caught.value)
