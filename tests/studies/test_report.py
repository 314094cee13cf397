"""A run as one page: whole, without a server or a network, and true to the run."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers import sentence

import prefrl
from prefrl.cli import main
from prefrl.settings.config import BaselineConfig, TrainConfig
from prefrl.studies.report import agreement_figure, label_log, write_page
from prefrl.words.errors import UserError

SETTINGS = ("n_steps=50", "batch_size=100", "n_epochs=1")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A run from 40 answers, of a labeler that also skips and ties, and one from the true reward."""
    folder = tmp_path_factory.mktemp("runs")
    shared = {"env": "Pendulum-v1", "steps": 4_000, "n_envs": 4, "phases": 4, "set": SETTINGS, "tensorboard": False}
    teachers = ("oracle", "equal=0.5,name=fussy", "skip=0.9,name=<b>shy</b>")
    train = TrainConfig(**shared, labels=40, segment_steps=10, initial_epochs=10, teachers=teachers, out=folder / "one")
    prefrl.train(train, quiet=True)
    prefrl.run_baseline(BaselineConfig(**shared, out=folder / "true"), quiet=True)
    return folder


class Page(HTMLParser):
    """What a page holds: text, elements and where they point; and whether every element that must be is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.links, self.tags, self.open = "", [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href", "xlink:href", "action", "data") and v]
        if tag in ("div", "section", "main", "details", "table", "svg", "g"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("div", "section", "main", "details", "table", "svg", "g"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def test_a_page_holds_the_run_and_needs_nothing_else(runs, tmp_path, capsys):
    assert main(["report", str(runs), "--out", str(tmp_path / "page.html"), "--steps", "600", "--clips", "5"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "iframe", "form", "object"} & set(page.tags)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert not re.findall(r"@import|url\((?!#)", text)
    assert page.tags.count("svg") >= 1 + 4 + 2 * 5  # curves, four figures, both sides of five questions
    for word in ("2 runs on Pendulum-v1", "40 labels, seed 0", "true reward, seed 0", "EPIC", "segment_steps", "torch"):
        assert word in page.words
    assert "the share of the way from random actions to the true reward's result" in " ".join(page.words.split())
    final = prefrl.read_outcome(runs / "one").final
    assert f"{final:,.4g}" in page.words
    assert "<b>shy</b>" in page.words  # a name is text, whatever is in it
    assert "<b>shy" not in text


def test_the_label_log_is_what_was_answered_and_what_the_model_makes_of_it(runs):
    run = prefrl.load_run(runs / "one")
    log = label_log(run, clips=6)
    assert [asked.number for asked in log] == list(range(1, 41))
    words = {1.0: "left", 0.0: "right", 0.5: "equal", None: "cannot tell"}
    assert [asked.answer for asked in log] == [words[answer.mu] for answer in run.answers]
    assert {"equal", "cannot tell"} & {asked.answer for asked in log}
    for asked, answer in zip(log, run.answers, strict=True):
        assert asked.true_returns == (answer.query.left.rewards.sum(), answer.query.right.rewards.sum())
        assert asked.labeler == answer.labeler
        assert (asked.agrees is None) == (answer.mu not in (0.0, 1.0))
    # Members agree that a segment is as good as itself, and the model's sides are mirror images.
    right = np.mean([asked.agrees for asked in log if asked.agrees is not None])
    assert right > 0.6
    shown = [asked for asked in log if asked.sides]
    assert len(shown) == 6
    assert {shown[0].number, shown[-1].number} <= {1, 40} | {asked.number for asked in log}
    assert any(asked.number == 1 for asked in shown)
    for asked in shown:
        for side in asked.sides:
            points = np.array([point.split(",") for point in side.learned.split()], float)
            assert points.shape == (10, 2)
            assert (points >= 0).all()
            assert (points <= [100, 30]).all()
    assert not any(asked.sides for asked in label_log(run, clips=0))


@pytest.mark.parametrize("out", ["page.pdf", "missing/page.html"])
def test_a_page_that_cannot_be_written_is_explained(runs, tmp_path, out):
    with pytest.raises(UserError, match="folder that is there") as caught:
        write_page([runs], tmp_path / out)
    sentence(caught.value)
    assert not list(tmp_path.iterdir())


def test_no_runs_no_page(tmp_path):
    with pytest.raises(UserError, match="nor holds any"):
        write_page([tmp_path], tmp_path / "page.html")


def test_measures_of_saved_runs_are_a_table_and_a_file(runs, tmp_path, capsys):
    out = tmp_path / "measures.csv"
    arguments = ["evaluate", str(runs / "one"), "--steps", "400", "--pairs", "50", "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    row = dict(zip(*(line.split(",") for line in out.read_text().splitlines()), strict=True))
    assert row["run"] == str(runs / "one")
    assert f"{float(row['accuracy']):.3f}" in printed
    assert {"epic", "dard", "brier", "calibration_error", "episode_correlation"} <= set(row)
    assert main(["evaluate", str(runs / "true")]) == 2  # there is no learned reward
    assert "no reward model" in capsys.readouterr().err
    assert main(["evaluate", str(runs), "--steps", "400", "--pairs", "50", "--out", str(out)]) == 0
    named = {line.partition(",")[0] for line in out.read_text().splitlines()[1:]}
    assert str(runs / "one") in named
    assert str(runs / "true") not in named  # of a folder, those that have one


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["evaluate", "--pairs", "0"], "pairs=0 must be at least 1"),
        (["evaluate", "--steps", "-5"], "steps=-5 must be at least 1"),
        (["evaluate", "--seed", "-1"], "seed=-1 must be at least 0"),
        (["report", "--clips", "-3"], "clips=-3 must not be negative"),
    ],
)
def test_numbers_that_cannot_be_are_explained(runs, tmp_path, capsys, arguments, says):
    assert main([*arguments, str(runs / "one"), "--out", str(tmp_path / "out.html")]) == 2
    assert says in capsys.readouterr().err


def test_where_nothing_was_measured_the_figures_are_empty():
    unknown = {name: [math.nan] * 2 for name in ("accuracy", "held_out_accuracy", "correlation")}
    assert agreement_figure({"step": [1.0, 2.0], **unknown}).axes[0].get_ylim()[0] == 0.4
