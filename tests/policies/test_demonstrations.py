import csv
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from helpers import sentence

from prefrl.baseline import run_baseline
from prefrl.experience.task import Task
from prefrl.policies.demonstrations import check_demonstrations, demonstrated, read_demonstrations
from prefrl.queries.store import Store
from prefrl.run import train
from prefrl.runs.resolve import resolve
from prefrl.settings.config import BaselineConfig, TrainConfig
from prefrl.words.errors import UserError

TARGET = BaselineConfig(
    env="prefrl-tests/Target-v0", steps=480, n_envs=4, set=("n_steps=40", "batch_size=80"), phases=4, tensorboard=False
)
LEARNED = TrainConfig(
    env=TARGET.env, steps=480, n_envs=4, set=TARGET.set, phases=4, tensorboard=False, labels=6, segment_steps=5,
    initial_epochs=4, fit_updates=4, demonstration_steps=200, cloning_epochs=1,
)  # fmt: skip


def make_minari(root: Path, name: str, observations: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Minari dataset of one episode in which each action is the target that is shown."""
    import warnings

    import minari
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    n, env = len(observations) - 1, gym.make(TARGET.env)
    episode = EpisodeBuffer(
        id=0, observations=list(observations), actions=list(((observations - 10) / 30)[:-1]), rewards=[0.0] * n,
        terminations=[False] * n, truncations=[*[False] * (n - 1), True],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            name, [episode], observation_space=env.observation_space, action_space=env.action_space, data_format="arrow"
        )
    return root / name


def test_local_minari_datasets_are_demonstrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    observations = np.random.default_rng(0).uniform(-20, 40, (300, 1)).astype(np.float32)
    folder = make_minari(tmp_path / "datasets", "target/good-v0", observations, monkeypatch)
    env = gym.make(TARGET.env)
    for name in ("target/good-v0", str(folder)):
        check_demonstrations((name,), env.observation_space, env.action_space)
        seen, acted = read_demonstrations((name, name), Task(TARGET.env), 2, 10, 0)
        np.testing.assert_allclose(seen, np.concatenate([observations[:-1]] * 2))
        np.testing.assert_allclose(acted, (seen - 10) / 30, rtol=1e-5, atol=1e-6)
    wrong = replace(TARGET, env="CartPole-v1", demonstrations=("target/good-v0",))
    with pytest.raises(UserError) as error:
        resolve(wrong)
    assert "give demonstrations of the same environment" in sentence(error.value)


def test_segments_of_a_minari_dataset_are_windows_of_its_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    observations = np.arange(31, dtype=np.float32)[:, None]
    name = str(make_minari(tmp_path / "datasets", "target/good-v0", observations, monkeypatch))
    segments = demonstrated((name,), Task(TARGET.env), 2, 10, seed=0, count=200, segment_steps=28)
    assert {segment.offset for segment in segments} == {0, 1, 2}  # of 30 steps
    for segment in segments:
        np.testing.assert_array_equal(segment.observations, observations[segment.offset :][:28])
        np.testing.assert_allclose(segment.actions, (segment.observations - 10) / 30, rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError) as error:
        demonstrated((name,), Task(TARGET.env), 2, 10, seed=0, count=1, segment_steps=31)
    assert "31 steps" in sentence(error.value)


def test_demonstrations_are_better_than_the_policy_as_it_begins_and_nobody_is_asked(tmp_path: Path) -> None:
    expert = run_baseline(replace(TARGET, out=tmp_path / "expert"), quiet=True)
    config = replace(LEARNED, demonstrations=(str(expert),), demonstration_labels=30, out=tmp_path / "run")
    folder = train(config, quiet=True)
    with Store(folder / "labels.sqlite") as store:
        answers = store.answers()[0]
    given = [answer for answer in answers if answer.labeler == "demonstration"]
    assert len(answers) == 36
    assert len(given) == 30
    assert {answer.mu for answer in given} == {0.0, 1.0}
    shown = [(a.query.left, a.query.right) if a.mu else (a.query.right, a.query.left) for a in given]
    assert {usual.seed for _, usual in shown} == {0}
    assert 0 not in {good.seed for good, _ in shown}  # another occasion than any of the run's
    assert all(len(segment) == 5 for pair in shown for segment in pair)
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        assert [row["labels_asked"] for row in csv.DictReader(file)][-1] == "6"


def test_what_cannot_be_compared_is_one_sentence(tmp_path: Path) -> None:
    for change in ({"demonstration_labels": 5}, {"demonstration_labels": -1}):
        with pytest.raises(UserError) as error:
            resolve(replace(LEARNED, **change))  # type: ignore[arg-type]
        assert "demonstration_labels" in sentence(error.value)
