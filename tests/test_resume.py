"""A run that is stopped, however, goes on from its newest checkpoint, and ends as the unbroken one, to the byte."""

import csv
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import sentence

from prefrl.baseline import run_baseline
from prefrl.queries.store import Store
from prefrl.rewards.fit import Fit
from prefrl.run import train
from prefrl.runs import checkpoint
from prefrl.runs.runlog import is_finished
from prefrl.settings.config import BaselineConfig, CompareConfig, TrainConfig
from prefrl.studies.batch import resume
from prefrl.studies.compare import run_comparison
from prefrl.words.errors import UserError

FILES = ("metrics.csv", "reward.safetensors", "policy.safetensors")
PENDULUM = [
    "train", "--env", "Pendulum-v1", "--steps", "6000", "--labels", "20", "--set", "n_steps=32", "n_epochs=2",
    "--checkpoint-every", "2000",
]  # fmt: skip
PREFRL = [sys.executable, "-c", "import sys; from prefrl.cli import main; sys.exit(main())"]


class FragileEnv(gym.Env):
    """Walks on a line, and breaks after so many steps of all that there are in the process, if it is told to."""

    left = None  # steps, over all of them
    observation_space = spaces.Box(-10, 10, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1)
        return self._shown(), {}

    def step(self, action):
        if FragileEnv.left is not None:
            FragileEnv.left -= 1
            if FragileEnv.left < 0:
                raise RuntimeError("the motor is hot")
        self.place = float(np.clip(self.place + 0.1 * action[0] + self.np_random.normal(0, 0.02), -9, 9))
        return self._shown(), -abs(self.place - 1), abs(self.place) > 2, False, {}

    def _shown(self):
        return np.array([self.place, self.place**2], np.float32)


def near_one(observations, actions):
    """A principle of tests/judge.toml."""
    return np.clip(1 - np.abs(observations[:, 0] - 1), 0, 1)


def with_little_effort(observations, actions):
    """Another."""
    return np.abs(actions[:, 0]) < 0.5


class FragileFork(FragileEnv):
    """The same, from one of two places."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = float(self.np_random.choice((-1, 1)))
        return self._shown(), {}


class FragileScreen(FragileEnv):
    """The same as the newest of four frames, with the place as a bright column."""

    observation_space = spaces.Box(0, 255, (4, 44, 44), np.uint8)

    def reset(self, *, seed=None, options=None):
        self.frames = np.zeros((4, 44, 44), np.uint8)
        return super().reset(seed=seed)

    def _shown(self):
        frame = np.zeros((1, 44, 44), np.uint8)
        frame[0, :, int(22 + 10 * np.clip(self.place, -2, 2))] = 255
        self.frames = np.concatenate([self.frames[1:], frame])
        return self.frames


gym.register("prefrl-tests/Fragile-v0", FragileEnv, max_episode_steps=20)
gym.register("prefrl-tests/FragileFork-v0", FragileFork, max_episode_steps=20)
gym.register("prefrl-tests/FragileScreen-v0", FragileScreen, max_episode_steps=20)

SMALL = TrainConfig(
    env="prefrl-tests/Fragile-v0", steps=1600, labels=40, n_envs=2, segment_steps=8, set=("n_steps=32", "n_epochs=2"),
    initial_epochs=4, fit_updates=4, phases=12, tensorboard=False,
)  # fmt: skip
REPLAYING = (
    "buffer_size=600", "learning_starts=50", "batch_size=8", "gradient_steps=2", "policy_kwargs={net_arch = [8]}",
)  # fmt: skip
KINDS = {
    "judge": replace(SMALL, labeler="judge", constitution=Path(__file__).parent / "judge.toml"),
    "plain": SMALL,
    "irrational": replace(SMALL, teachers=("stochastic", "mistake", "skip", "right80"), strategy="coverage"),
    "same start": replace(
        SMALL, env="prefrl-tests/FragileFork-v0", labels=20, explore_steps=400, pairs="same-start", teachers=("soft",),
    ),
    "rankings": replace(SMALL, question="ranking", labels=24, teachers=("stochastic", "equal", "right80")),
    "best": replace(SMALL, question="best", k=3, labels=24),
    "overlap": replace(SMALL, overlap=True),
    "target": replace(SMALL, objective="target", max_answers=10),
    "frozen": replace(SMALL, freeze_reward_at=0.4),
    "a2c": replace(SMALL, learner="a2c", set=("n_steps=32",)),
    "trpo": replace(SMALL, learner="trpo", set=("n_steps=32",), entropy_bonus=0.01),
    "sac": replace(SMALL, learner="sac", set=REPLAYING, explore_steps=160),
    "td3": replace(SMALL, learner="td3", set=(*REPLAYING, "action_noise=0.1"), unsupervised=False),
    "sde": replace(SMALL, set=(*SMALL.set, "use_sde=true")),
    "pixels": replace(SMALL, env="prefrl-tests/FragileScreen-v0", steps=800, labels=8, keep_steps=400),
    "pixels, a2c": replace(
        SMALL, env="prefrl-tests/FragileScreen-v0", steps=800, labels=8, keep_steps=400, learner="a2c", set=()
    ),
    "dpo": replace(SMALL, method="dpo", set=("n_steps=32",)),
    "cpl": replace(SMALL, method="cpl", set=("n_steps=32",), clone_epochs=2, strategy="entropy", max_answers=30),
    "dpo on pixels": replace(
        SMALL, env="prefrl-tests/FragileScreen-v0", steps=800, labels=8, keep_steps=400, method="dpo",
        set=("n_steps=32",), clone_segments="preferred", clone_epochs=1,
    ),
    "anchored": replace(SMALL, kl_beta=0.1, kl_target=1.0),
    "rounds": replace(SMALL, rounds=3, reward_at="end", kl_beta=0.1),
    "true reward": BaselineConfig(
        env=SMALL.env, steps=SMALL.steps, n_envs=2, set=SMALL.set, tensorboard=False
    ),
    "true reward, sac": BaselineConfig(
        env=SMALL.env, steps=SMALL.steps, n_envs=2, learner="sac", set=REPLAYING, tensorboard=False
    ),
}  # fmt: skip


def run(config, **how):
    return (train if isinstance(config, TrainConfig) else run_baseline)(config, quiet=True, **how)


def broken(config, after):
    """The run's folder, broken off after so many steps of its environments."""
    FragileEnv.left = after
    try:
        with pytest.raises(UserError, match="the motor is hot"):
            run(config)
    finally:
        FragileEnv.left = None
    return config.out


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The unbroken run of the plain kind, which several tests compare with, and none changes."""
    return run(replace(SMALL, out=tmp_path_factory.mktemp("unbroken") / "whole"))


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory):
    """An unbroken run in a process of its own."""
    folder = tmp_path_factory.mktemp("unbroken") / "pendulum"
    subprocess.run([*PREFRL, *PENDULUM, "--out", str(folder)], check=True, capture_output=True)
    return folder


def same(one, other):
    return {name: (one / name).read_bytes() == (other / name).read_bytes() for name in FILES if (one / name).exists()}


def asked_and_answered(folder):
    with Store(folder / "labels.sqlite") as store:
        return [(p.query.key, p.mu, p.choice, p.labeler) for p in store.answers()[0]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_broke_off_ends_as_the_unbroken_one(tmp_path, kind):
    config = KINDS[kind]
    whole = run(replace(config, out=tmp_path / "whole"))
    left = broken(replace(config, out=tmp_path / "broken"), after=int(0.7 * config.steps))
    assert checkpoint.newest(left)[0] < 0.7 * config.steps
    resume(left, quiet=True)
    assert set(same(whole, left).values()) == {True}
    if isinstance(config, TrainConfig):
        assert asked_and_answered(whole) == asked_and_answered(left)
    assert is_finished(left)


def test_a_run_that_began_with_cloned_behaviour_goes_on_from_it(tmp_path, whole):
    config = replace(SMALL, demonstrations=(str(whole),), demonstration_steps=200, cloning_epochs=2, kl_beta=0.1)
    config = replace(config, demonstration_labels=10)
    unbroken = run(replace(config, out=tmp_path / "unbroken"))
    left = broken(replace(config, out=tmp_path / "broken"), after=400 + int(0.7 * config.steps))
    resume(left, quiet=True)
    assert set(same(unbroken, left).values()) == {True}


def test_a_run_that_breaks_off_again_and_again_ends_as_the_unbroken_one(tmp_path, whole):
    left = broken(replace(SMALL, out=tmp_path / "broken"), after=600)
    for after in (150, 450):
        FragileEnv.left = after
        with pytest.raises(UserError):
            resume(left, quiet=True)
    FragileEnv.left = None
    resume(left, quiet=True)
    assert set(same(whole, left).values()) == {True}
    assert asked_and_answered(whole) == asked_and_answered(left)


def test_a_generator_left_out_would_be_noticed(tmp_path, whole, monkeypatch):
    left = broken(replace(SMALL, out=tmp_path / "broken"), after=1000)
    restore = Fit.restore
    monkeypatch.setattr(
        Fit, "restore", lambda fit, state: restore(fit, {**state, "rng": np.random.default_rng(9).bit_generator.state})
    )
    resume(left, quiet=True)
    assert not any(same(whole, left).values())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_goes_on(tmp_path, pendulum, number):
    command = [*PREFRL, *PENDULUM, "--out", str(tmp_path / "killed")]
    killed = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not checkpoint.has_any(tmp_path / "killed"):
        time.sleep(0.01)
        assert killed.poll() is None
    killed.send_signal(number)
    said = killed.communicate()[1]
    assert killed.returncode == (2 if number == signal.SIGTERM else -number)
    if number == signal.SIGTERM:
        assert "was stopped after" in said
        assert "--resume" in said
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 2
    assert "prefrl train --resume" in again.stderr
    subprocess.run([*PREFRL, "train", "--resume", str(tmp_path / "killed")], check=True, capture_output=True)
    assert set(same(pendulum, tmp_path / "killed").values()) == {True}


def test_a_damaged_checkpoint_falls_back_and_says_so(tmp_path, whole, capsys):
    left = broken(replace(SMALL, out=tmp_path / "broken"), after=1400)
    newest = sorted((left / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    resume(left, quiet=True)
    assert "is damaged" in capsys.readouterr().err
    assert set(same(whole, left).values()) == {True}


def test_what_can_not_go_on_is_one_sentence(tmp_path, whole):
    early = broken(replace(SMALL, out=tmp_path / "early"), after=250)
    for folder, said in ((whole, "has finished"), (early, "before its first"), (tmp_path, "config.toml")):
        with pytest.raises(UserError) as caught:
            resume(folder, quiet=True)
        assert said in sentence(caught.value)


def test_a_checkpoint_of_another_version_is_one_sentence(tmp_path, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(Fit, "state", lambda fit: {"as it was": 1})
        left = broken(replace(SMALL, out=tmp_path / "broken"), after=1000)
    with pytest.raises(UserError) as caught:
        resume(left, quiet=True)
    assert "of another version" in sentence(caught.value)
    assert "--labels-from" in str(caught.value)


def test_resume_takes_no_other_option(tmp_path):
    done = subprocess.run([*PREFRL, "train", "--resume", str(tmp_path), "--seed", "1"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no other option" in done.stderr


def test_checkpoints_may_be_switched_off_and_change_nothing_where_there_are_none(tmp_path):
    never = run(replace(SMALL, checkpoint_every=0, out=tmp_path / "never"))
    late = run(replace(SMALL, checkpoint_every=10**6, out=tmp_path / "late"))
    assert not checkpoint.has_any(never)
    assert set(same(never, late).values()) == {True}


def test_the_log_goes_on_without_a_seam(tmp_path):
    left = broken(replace(SMALL, tensorboard=True, out=tmp_path / "broken"), after=1150)
    resume(left, quiet=True)
    with (left / "metrics.csv").open(newline="", encoding="utf-8") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps))
    assert steps[-1] == SMALL.steps
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(left / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("labels_asked")] == steps


def test_compare_goes_on_with_the_runs_that_were_stopped(tmp_path):
    small = replace(SMALL, env=f"test_resume:{SMALL.env}")  # which the processes of a comparison import
    ask = CompareConfig(
        **{name: value for name, value in vars(small).items() if name not in ("labels", "out", "reward_from")},
        labels=(40,), seeds=1, jobs=1, out=tmp_path / "compare",
    )  # fmt: skip
    whole = tmp_path / "whole"
    run_comparison(replace(ask, out=whole), quiet=True)
    shutil.copytree(whole, tmp_path / "compare")
    left = tmp_path / "compare" / "labels40-seed0"
    shutil.rmtree(left)
    broken(replace(small, explore_steps=None, out=left), after=1250)
    run_comparison(ask, quiet=True)
    assert set(same(whole / "labels40-seed0", left).values()) == {True}
    assert not list((tmp_path / "compare").glob("*.stopped*"))


def test_compare_that_is_killed_leaves_nobody_behind_and_goes_on(tmp_path):
    out = tmp_path / "compare"
    command = [*PREFRL, "compare", *PENDULUM[1:], "--seeds", "1", "--jobs", "2", "--out", str(out)]
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    arms = [out / "true-reward-seed0", out / "labels20-seed0"]
    while not all(checkpoint.has_any(arm) for arm in arms):
        time.sleep(0.01)
        assert killed.poll() is None
    killed.kill()
    killed.wait()
    first = [(arm / "timing.csv").read_text(encoding="utf-8").splitlines()[:3] for arm in arms]
    again = subprocess.run(command, capture_output=True, text=True)  # at once: those that it had started are to end
    assert again.returncode == 0, again.stderr
    then = [(arm / "timing.csv").read_text(encoding="utf-8").splitlines()[:3] for arm in arms]
    assert first == then, "a run began again from zero, or was made by two at a time"
    assert not list(out.glob("*.stopped*"))


def test_a_run_that_is_at_work_is_not_resumed_beside_itself(tmp_path):
    folder = tmp_path / "run"
    running = subprocess.Popen([*PREFRL, *PENDULUM, "--out", str(folder)], stderr=subprocess.DEVNULL)
    try:
        while not checkpoint.has_any(folder):
            time.sleep(0.01)
            assert running.poll() is None
        running.send_signal(signal.SIGSTOP)
        with pytest.raises(UserError) as caught:
            resume(folder, quiet=True)
    finally:
        running.kill()
        running.wait()
    assert "another process is at work" in sentence(caught.value)


def test_a_run_that_comes_near_its_checkpoints_too_often_is_warned(tmp_path, capsys):
    train(replace(SMALL, checkpoint_every=100, out=tmp_path / "often"))
    assert "episodes" in capsys.readouterr().err
