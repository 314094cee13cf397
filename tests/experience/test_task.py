"""Every door makes the environment as the run had it, whatever arguments that took."""

import asyncio
import base64
import re
from contextlib import closing

import imageio.v3 as iio
import numpy as np
import pytest
from people import make_queries, make_run

from prefrl.experience.clips import Artist, frame_rate, how_shown
from prefrl.experience.task import Task
from prefrl.label_page.studio import Studio
from prefrl.queries.exchange import exchange
from prefrl.queries.store import Store
from prefrl.run import train
from prefrl.runs.saved import film_policy, load_run
from prefrl.settings.config import LabelsConfig, TrainConfig, VideoConfig
from prefrl.studies.evaluate import evaluate_run
from prefrl.studies.report import label_log
from prefrl.words.errors import UserError

ID = "helpers:prefrl-tests/Orchard-v0"  # a name that processes of the page import by themselves


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return TrainConfig(
        env=ID, env_kwargs=("trees=5",), steps=1_200, labels=8, n_envs=2, phases=2, members=1, segment_steps=8,
        tensorboard=False, out=tmp_path_factory.mktemp("runs") / "run",
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(config):
    return load_run(train(config, quiet=True))


def test_a_task_says_all_that_decides_how_an_environment_behaves(config):
    task = Task.of(config)
    assert task == Task(ID, {"trees": 5}, fixed_horizon=False, backend="auto")
    with closing(task.make()) as env, closing(task.make_vec(2, 0)) as venv:
        assert env.observation_space.shape == venv.observation_space.shape == (5,)
    with pytest.raises(UserError, match="trees"):
        Task(ID).make()


def test_clips_come_from_the_environment_that_the_run_had(config):
    task = Task.of(config)
    assert how_shown(task) == "pictures"
    assert frame_rate(task, 30) == 7
    (query,) = make_queries(task, 1, 4)
    with closing(Artist(task)) as artist:
        assert artist.frames(query.left).shape == (4, 40, 80, 3)


def test_the_page_draws_the_environment_that_the_run_had(config, tmp_path):
    task = Task.of(config)
    (query,) = make_queries(task, 1, 4)
    folder = make_run(tmp_path / "run", ID, [query], env_kwargs=config.env_kwargs)
    with Store(folder / "labels.sqlite") as store, closing(Studio(folder, store, task)) as studio:
        film = asyncio.run(studio.clip(query.left.key))
    assert iio.imread(film, index=..., plugin="pyav").shape == (4, 40, 80, 3)


def test_a_run_is_read_judged_and_filmed_in_its_environment(run):
    with closing(run.make_env()) as env:
        assert env.observation_space.shape == (5,)
    assert np.isfinite(evaluate_run(run, steps=200, pairs=20, moments=4).measures["true_return"])
    film = film_policy(VideoConfig(run.folder, run.folder / "film.gif", seconds=1))
    assert iio.imread(film, index=0).shape[1] / iio.imread(film, index=0).shape[0] == 2


def test_a_report_shows_the_clips_of_a_task_that_needs_arguments(config, tmp_path):
    people = TrainConfig(**{**vars(config), "out": tmp_path / "run", "labeler": "human", "oracle_after": 0.0})
    asked = label_log(load_run(train(people, quiet=True)), clips=2)
    clips = [side.clip for question in asked for side in question.sides]
    assert clips
    for clip in clips:
        picture = base64.b64decode(re.sub("^data:image/webp;base64,", "", clip))
        assert iio.imread(picture, index=0).shape == (20, 40, 3)


@pytest.mark.parametrize("place", ["run", "store", "store alone"])
def test_segments_of_a_task_that_needs_arguments_become_a_minari_dataset(run, place, tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    where, said = {"run": run.folder, "store": run.folder / "labels.sqlite"}.get(place), None
    if where is None:
        where, said = tmp_path / "answers.sqlite", ("trees=5",)
        where.write_bytes((run.folder / "labels.sqlite").read_bytes())
    exchange(LabelsConfig("export", (str(where),), "orchard/pairs-v0", "minari", env_kwargs=said))
    assert minari.load_dataset("orchard/pairs-v0").spec.observation_space.shape == (5,)
