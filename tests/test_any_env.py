"""Any environment: whatever it shows and takes, however its episodes end, and when it fails."""

import re
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import AnyEnv, CounterEnv, counters, sentence, vector_of
from numpy.typing import NDArray
from scipy.stats import chisquare

import prefrl
from prefrl.cli import main
from prefrl.experience.backends import make_vec_env
from prefrl.experience.environments import make_env
from prefrl.experience.fixed_horizon import FixedHorizon
from prefrl.experience.recorder import Recorder
from prefrl.rewards.fit import Fit
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.runs.runlog import is_finished
from prefrl.settings.config import TrainConfig
from prefrl.words.errors import UserError
from prefrl.words.preference import Preference, Query, Segment

LEVEL = 1e-3  # of the statistical tests

TINY = TrainConfig(
    steps=600,
    labels=40,
    n_envs=4,
    segment_steps=5,
    phases=3,
    batch=16,
    initial_epochs=30,
    fit_updates=30,
    set=("n_steps=64", "batch_size=64", "n_epochs=1"),
    tensorboard=False,
)


def box(*shape: int, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(-1, 1, shape, dtype)


def pixels(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


class LinearEnv(gym.Env[Any, Any]):
    """Shows samples of a space; pays a weighted sum of the numbers in observation and action, choices one-hot."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        rng = np.random.default_rng(0)
        self.weights = [rng.normal(size=spaces.flatdim(space)) for space in (observation_space, action_space)]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.shown = self.observation_space.sample()
        return self.shown, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(np.asarray(action)), action
        parts = spaces.flatten(self.observation_space, self.shown), spaces.flatten(self.action_space, action)
        reward = sum(float(w @ part) / np.sqrt(len(w)) for w, part in zip(self.weights, parts, strict=True))
        self.shown = self.observation_space.sample()
        return self.shown, reward, False, False, {}


class NothingEnv(gym.Env[Any, Any]):
    """Has spaces, and is never stepped."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space


class BrightnessEnv(gym.Env[Any, Any]):
    """Shows noise around a grey level drawn at each step, and pays the level."""

    action_space = spaces.Discrete(2)

    def __init__(self, *shape: int) -> None:
        self.observation_space = pixels(*shape)

    def _show(self) -> NDArray[np.uint8]:
        self.level = self.np_random.uniform()
        noise = self.np_random.integers(0, 40, self.observation_space.shape)
        return (noise + 200 * self.level).astype(np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._show(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = self.level
        return self._show(), reward, False, False, {}


class FailingEnv(LinearEnv):
    """Raises at its step 30 in all, in the second episode."""

    def __init__(self) -> None:
        super().__init__(box(2), spaces.Discrete(2))
        self.steps = 0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        if self.steps == 30:
            raise ZeroDivisionError("the wheel came\n  off")
        return super().step(action)


SPACES: dict[str, tuple[spaces.Space[Any], spaces.Space[Any]]] = {
    "Dict observations": (
        spaces.Dict(place=box(2, 2, dtype=np.float64), kind=spaces.Discrete(3), lamps=spaces.MultiBinary(3)),
        spaces.Discrete(4),
    ),
    "Tuple observations": (spaces.Tuple([box(3), spaces.Discrete(4)]), box(2)),
    "Dict in Tuple in Dict": (
        spaces.Dict(a=spaces.Tuple([spaces.Dict(b=box(2)), spaces.MultiDiscrete([2, 3])]), c=spaces.Discrete(3)),
        spaces.Discrete(2),
    ),
    "Discrete observations": (spaces.Discrete(6), spaces.Discrete(3)),
    "Discrete observations from below zero": (spaces.Discrete(5, start=-2), spaces.Discrete(2)),
    "MultiDiscrete": (spaces.MultiDiscrete([3, 4]), spaces.MultiDiscrete([3, 2, 4])),
    "MultiBinary": (spaces.MultiBinary([2, 2]), spaces.MultiBinary(5)),
    "float64 of several dimensions": (box(2, 3, 2, 2, dtype=np.float64), box(2, 2, dtype=np.float64)),
    "float16 observations": (box(3, dtype=np.float16), box(3)),
    "whole numbers": (spaces.Box(-5, 5, (4,), np.int32), spaces.Discrete(2)),
    "numbers of no dimension": (box(), box()),
    "actions in whole numbers": (box(2), spaces.Box(-5, 5, (2,), np.int64)),
}
IMAGES = {"channels last": (48, 52, 3), "channels first": (1, 50, 46)}


@pytest.fixture(autouse=True, scope="module")
def _environments() -> Any:
    for name, (observation_space, action_space) in SPACES.items():
        register(name, LinearEnv, observation_space=observation_space, action_space=action_space)
    for name, shape in IMAGES.items():
        gym.register(any_id(name), lambda shape=shape: BrightnessEnv(*shape), max_episode_steps=20)
    register("failing", FailingEnv)
    gym.register(
        any_id("fixed"), lambda: FixedHorizon(gym.make("CartPole-v1"), 100, penalty=1.0), max_episode_steps=100
    )
    yield
    for env_id in [env_id for env_id in gym.registry if env_id.startswith("any/")]:
        del gym.registry[env_id]


def any_id(name: str) -> str:
    return f"any/{re.sub('[^a-zA-Z0-9]', '_', name)}-v0"


def register(name: str, kind: Any, **kwargs: Any) -> None:
    gym.register(any_id(name), kind, max_episode_steps=20, kwargs=kwargs)


def learned(config: TrainConfig) -> prefrl.SavedRun:
    """A run that is read back: everything was spent, and both networks take what the environment shows."""
    run = prefrl.load_run(prefrl.train(config, quiet=True))
    assert (run.metrics["labels_answered"][-1], run.metrics["step"][-1]) == (config.labels, config.steps)
    env = run.make_env()
    observation, _ = env.reset(seed=0)
    assert env.action_space.contains(np.asarray(run.policy.act(np.asarray(observation)[None])[0]))
    for answer in run.answers[:3]:
        for segment in (answer.query.left, answer.query.right):
            rewards = run.r_hat.reward(segment.observations, segment.actions)
            assert rewards.shape == (len(segment),)
            assert np.isfinite(rewards).all()
            assert segment.observations.dtype == env.observation_space.dtype
            assert segment.actions.dtype == env.action_space.dtype
    env.close()
    return run


@pytest.mark.parametrize("name", SPACES)
def test_a_reward_is_learned_whatever_is_shown_and_taken(name: str, tmp_path: Path) -> None:
    run = learned(replace(TINY, env=any_id(name), out=tmp_path / "run"))
    assert run.metrics["correlation"][-1] > 0.5  # of 40 answers about a linear reward


@pytest.mark.parametrize("name", IMAGES)
def test_a_reward_is_learned_on_images(name: str, tmp_path: Path) -> None:
    few = {"steps": 480, "labels": 24, "initial_epochs": 40, "fit_updates": 10, "batch": 8}  # enough on any seed
    run = learned(replace(TINY, env=any_id(name), out=tmp_path / "run", **few))
    assert run.r_hat.is_image
    assert run.metrics["correlation"][-1] > 0.3


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "Taxi-v4", "CliffWalking-v1", "CartPole-v1"])
def test_gymnasiums_own(env_id: str, tmp_path: Path) -> None:
    learned(replace(TINY, env=env_id, out=tmp_path / "run"))


REFUSED = {
    "a sequence": (spaces.Sequence(box(2)), spaces.Discrete(2), "Sequence"),
    "a film": (spaces.Box(0, 1, (3, 80, 80, 3)), spaces.Discrete(2), "57600 numbers"),
    "a text": (spaces.Text(5), spaces.Discrete(2), "Text"),
    "a text among others": (spaces.Dict(a=box(2), b=spaces.Tuple([spaces.Text(5)])), spaces.Discrete(2), "Text"),
    "Dict actions": (box(2), spaces.Dict(a=spaces.Discrete(2)), "Dict"),
    "Tuple actions": (box(2), spaces.Tuple([spaces.Discrete(2), box(2)]), "Tuple"),
    "Text actions": (box(2), spaces.Text(5), "Text"),
    "actions without bounds": (box(2), spaces.Box(-np.inf, np.inf, (12, 9)), "finite bounds"),
    "actions from one": (box(2), spaces.Discrete(3, start=1), "start=1"),
    "actions from one and two": (box(2), spaces.MultiDiscrete([2, 2], start=[1, 2]), "start=[1 2]"),
    "a table of choices": (box(2), spaces.MultiDiscrete([[2, 2], [3, 3]]), "a row"),
    "a table of switches": (box(2), spaces.MultiBinary([2, 3]), "a row"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_supported_is_one_sentence_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    observation_space, action_space, says = REFUSED[name]
    register(f"refused {name}", NothingEnv, observation_space=observation_space, action_space=action_space)
    with pytest.raises(UserError) as error:
        prefrl.train(replace(TINY, env=any_id(f"refused {name}"), out=tmp_path / "run"), quiet=True)
    assert says in sentence(error.value)
    assert any_id(f"refused {name}") in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "space",
    [pixels(42, 60, 3), pixels(50, 3, 50), spaces.Box(0, 1, (50, 50, 3), np.uint8), pixels(50, 50)],
    ids=["small", "channels in the middle", "from 0 to 1", "no channels"],
)
def test_images_that_the_convolutions_do_not_take_are_flattened(space: spaces.Box) -> None:
    name = f"{space.shape} to {space.high.max()}"
    register(name, NothingEnv, observation_space=space, action_space=spaces.Discrete(2))
    shown = make_env(any_id(name)).observation_space
    assert (shown.shape, shown.dtype) == ((np.prod(space.shape),), np.float32)


def test_a_vector_class_whose_observations_have_to_be_flattened_is_left_alone() -> None:
    gym.register(
        any_id("tables"),
        partial(AnyEnv, box(2, 2), spaces.Discrete(3)),
        vector_entry_point=partial(vector_of, space=box(2, 2)),
    )
    env = make_vec_env(any_id("tables"), 2, 0)
    observations = env.reset()
    assert isinstance(observations, np.ndarray)
    assert observations.shape == (2, 4)


def test_windows_that_an_early_end_cut_short_are_drawn_as_often_as_they_happen() -> None:
    lengths, most = (3, 8, 5), 4
    recorder = Recorder(counters(2, *lengths, terminates=True), "Counter-v0", 0, 1000)
    recorder.reset()
    for _ in range(sum(lengths)):  # every episode has come to its end
        recorder.step(np.zeros((2, 2), np.float32))
    pairs = recorder.pairs(8000, most, np.random.default_rng(0))

    # Every step begins a window, which lasts four steps or until the end: 32 windows, drawn alike.
    episodes = {(0, 0): 3, (0, 1): 8, (0, 2): 5, (1, 0): 8, (1, 1): 5, (1, 2): 3}
    windows = {(*where, at): min(most, steps - at) for where, steps in episodes.items() for at in range(steps)}
    cells, index, mask = pairs.steps()
    observations = recorder.at(cells)[0].astype(int)
    drawn = Counter(map(tuple, observations[index[..., 0].ravel()].tolist()))
    assert set(drawn) == set(windows)
    assert chisquare(list(drawn.values())).pvalue > LEVEL
    starts = observations[index[..., 0].ravel()].tolist()
    assert pairs.length.ravel().tolist() == [windows[*start] for start in starts]
    assert mask.sum(-1).tolist() == pairs.length.tolist()
    assert [[len(q.left), len(q.right)] for q in pairs[np.arange(50)].queries()] == pairs.length[:50].tolist()

    # So the last step of an episode is seen as often as one in its middle: in four windows of 32.
    seen = Counter(map(tuple, observations[index[mask > 0]].tolist()))
    for (env, episode), steps in episodes.items():
        for at in range(steps):
            expected = min(at + 1, most) / len(windows)
            deviation = np.sqrt(16_000 * expected * (1 - expected))
            assert abs(seen[env, episode, at] - 16_000 * expected) < 4.5 * deviation


def segment(observations: NDArray[np.float32], actions: NDArray[np.int64]) -> Segment:
    steps = len(observations)
    return Segment(observations, actions, np.zeros(steps), "Any-v0", 0, 0, 0, 0, 0)


def answers_of_many_lengths() -> list[Preference]:
    rng = np.random.default_rng(1)
    answers = []
    for lengths, mu in (((3, 6), 0.0), ((6, 6), 1.0), ((1, 2), 0.5), ((6, 1), 1.0), ((4, 6), 0.0), ((2, 2), 1.0)):
        sides = (segment(rng.normal(size=(n, 2)).astype(np.float32), rng.integers(3, size=n)) for n in lengths)
        answers.append(Preference(Query(*sides), mu, "someone", 1.0))
    return answers


def fit_of(answers: list[Preference], segment_steps: int) -> Fit:
    r_hat = RewardEnsemble(box(2), spaces.Discrete(3), members=3, generator=torch.Generator().manual_seed(0))
    fit = Fit(r_hat, np.random.default_rng(0), segment_steps, noise_floor=0.1)
    fit.add(answers)
    return fit


def test_steps_after_the_end_are_not_in_the_likelihood() -> None:
    answers = answers_of_many_lengths()
    fit = fit_of(answers, segment_steps=9)
    counts = fit.answers.batch(np.arange(len(answers))).counts.numpy()
    losses = []
    for answer in answers:
        sides = (answer.query.left, answer.query.right)
        left, right = (fit.r_hat.member_rewards(s.observations, s.actions).sum(1).numpy() for s in sides)
        p = 0.9 / (1 + np.exp(right - left)) + 0.05  # that left is better, by each member
        losses.append(-(answer.mu * np.log(p) + (1 - answer.mu) * np.log(1 - p)))
    by_member = (counts * losses).sum(0) / counts.sum(0)
    assert fit.run(1).train_loss == pytest.approx(by_member.mean(), rel=1e-5)


def test_how_long_a_segment_may_be_changes_nothing_about_shorter_ones() -> None:
    tight, loose = (fit_of(answers_of_many_lengths(), steps) for steps in (6, 50))
    assert tight.run(10).train_loss == pytest.approx(loose.run(10).train_loss, rel=1e-4)
    for mine, theirs in zip(tight.r_hat.parameters(), loose.r_hat.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_episodes_shorter_than_a_segment_are_asked_about_whole(tmp_path: Path) -> None:
    run = learned(replace(TINY, env="Blackjack-v1", segment_steps=25, labels=12, out=tmp_path / "run"))
    lengths = [len(s) for answer in run.answers for s in (answer.query.left, answer.query.right)]
    assert 1 <= min(lengths) <= max(lengths) < 12  # a hand is over within eleven cards


def test_cartpole_learns_to_live_from_two_hundred_answers(tmp_path: Path) -> None:
    asked = {"labels": 200, "segment_steps": 25}
    config = TrainConfig(env="CartPole-v1", steps=10_000, **asked, out=tmp_path / "run", tensorboard=False)
    run = learned(config)
    rng = np.random.default_rng(0)
    by_chance = prefrl.policy_return(lambda seen: rng.integers(2, size=len(seen)), run.make_env(), 20, seed=0)
    by_labels = prefrl.policy_return(run.policy.act, run.make_env(), 6, seed=0)
    assert by_chance.mean() < 30
    assert by_labels.mean() > 60
    assert np.quantile(by_labels, 0.25) > by_chance.mean()


def walk(env: gym.Env[Any, Any], steps: int) -> list[tuple[list[float], float, bool, bool]]:
    taken = [env.step(np.zeros(2, np.float32)) for _ in range(steps)]
    return [(o.tolist(), r, terminated, truncated) for o, r, terminated, truncated, _ in taken]


@pytest.mark.parametrize("terminates", [True, False])
def test_an_ended_episode_stays_where_it_is_until_the_horizon(terminates: bool) -> None:
    env = FixedHorizon(CounterEnv(lengths=(3, 5, 9), terminates=terminates), horizon=5, penalty=2.0)
    env.reset()
    rewards = [(0.0, 1), (1.0, 2), (2.0, 3), (-2.0, 3), (-2.0, 3)]
    assert walk(env, 5) == [([0, 0, at], reward, False, n == 4) for n, (reward, at) in enumerate(rewards)]
    env.reset()  # one that ends at the horizon itself, and one that would go on
    assert walk(env, 5) == [([0, 1, n + 1], 100.0 + n, False, n == 4) for n in range(5)]
    env.reset()
    assert walk(env, 5) == [([0, 2, n + 1], 200.0 + n, False, n == 4) for n in range(5)]
    env = FixedHorizon(CounterEnv(lengths=(1,), terminates=terminates), horizon=3)
    env.reset()
    assert [reward for _, reward, _, _ in walk(env, 3)] == [0.0, 0.0, 0.0]


def test_the_fixed_horizon_is_the_time_limit_unless_it_is_said() -> None:
    env = FixedHorizon(gym.make("CartPole-v1"))
    assert env.horizon == 500
    again = gym.make(FixedHorizon(gym.make("CartPole-v1"), 100).spec)
    assert isinstance(again, FixedHorizon)
    assert again.horizon == 100
    for inner, horizon, says in (
        (gym.make("CartPole-v1"), 501, "1 to 500"),
        (gym.make("CartPole-v1"), 0, "1 to 500"),
        (CounterEnv(), 0, "as many as"),
        (CounterEnv(), None, "no time limit"),
    ):
        with pytest.raises(UserError) as error:
            FixedHorizon(inner, horizon)
        assert says in sentence(error.value)


def test_a_run_at_a_fixed_horizon(tmp_path: Path) -> None:
    run = learned(replace(TINY, env=any_id("fixed"), out=tmp_path / "run"))
    segments = [s for answer in run.answers for s in (answer.query.left, answer.query.right)]
    assert {len(s) for s in segments} == {TINY.segment_steps}
    assert {float(r) for s in segments for r in s.rewards} == {1.0, -1.0}


def test_an_environment_that_raises_leaves_what_was_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    with pytest.raises(UserError) as error:
        prefrl.train(replace(TINY, env=any_id("failing"), explore_steps=80, labels=20, out=out), quiet=True)
    # The first of four environments raises at its 30th step: after episodes of 5, which were cut short, and 20.
    assert f"{any_id('failing')} failed at step 5 of its episode 3" in sentence(error.value)
    assert "ZeroDivisionError: the wheel came off" in str(error.value)
    assert isinstance(error.value.__cause__, ZeroDivisionError)

    run = prefrl.load_run(out)
    assert not is_finished(out)
    asked = run.answers
    assert len(asked) == 5  # those of before training
    left = asked[0].query.left
    assert np.isfinite(run.r_hat.reward(left.observations, left.actions)).all()
    assert run.policy.act(left.observations).shape == (5,)

    arguments = ["train", "--env", any_id("failing"), "--steps", "800", "--n-envs", "4", "--segment-steps", "5"]
    assert main([*arguments, "--labels", "20", "--out", str(tmp_path / "again"), "--no-tensorboard"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if "wheel" in line]) == 1
    assert not [line for line in said if "Traceback" in line]


GUIDE = (Path(__file__).parent.parent / "envs" / "README.md").read_text()


def test_the_guide_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    code, program = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    Path("balloon.py").write_text(code)
    commands = re.findall(r"^prefrl (.+)$", GUIDE, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["envs", "check", "train", "baseline", "evaluate", "report"]
    try:
        for command in commands:
            assert main(command.split()) == 0, command
        exec(compile(program, "guide", "exec"), {"__name__": "guide"})
    finally:
        sys.modules.pop("balloon", None)
    assert "Balloon-v0 is fit for learning" in (said := capsys.readouterr().out)
    assert re.search(r"^balloon:Balloon-v0 +100 +20 +1 at half height", said, re.MULTILINE)
    assert Path("balloon.html").stat().st_size > 10_000
    assert Path("policy.zip").exists()
    run = prefrl.load_run("runs/balloon")
    assert run.metrics["true_return"][-1] > 1.3 * run.metrics["true_return"][0]
