"""What a run says while it runs, and what it leaves."""

import contextlib
import math

import pytest
from made import make_query

from prefrl.queries.store import Store
from prefrl.runs.runlog import Progress, RunLog, read_table
from prefrl.settings.config import BaselineConfig
from prefrl.words.errors import UserError


def test_an_alarm_is_said_once_each_time_it_begins(capsys):
    with Progress("some run", 1_000) as progress:
        for step, alarm in ((100, False), (120, True), (140, True), (160, False), (180, True)):
            progress.update(step, 10, -3.5, alarm=alarm)
    said = [line for line in capsys.readouterr().err.splitlines() if "exploiting" in line]
    assert len(said) == 2
    assert said[0].startswith("some run: after 120 steps the true return has fallen, and the learned reward finds")
    assert "after 180 steps" in said[1]


def test_a_quiet_run_says_nothing(capsys):
    with Progress("some run", 1_000, quiet=True) as progress:
        progress.update(1_000, 10, -3.5, alarm=True)
    assert capsys.readouterr() == ("", "")


def ask(log):
    with Store(log.folder / "labels.sqlite") as store:
        store.ask([make_query(0)])


def spoil(log):
    (log.folder / "labels.sqlite").write_text("a disk has other ideas")


@pytest.mark.parametrize(
    ("error", "happens", "stays"),
    [
        (UserError("a mistake."), lambda log: None, False),
        (UserError("a mistake."), lambda log: log.write(100, {"true_return": 1.0}), True),
        (UserError("a mistake."), ask, True),
        (UserError("a mistake."), spoil, True),
        (OSError("not the user's"), lambda log: None, True),
        (KeyboardInterrupt(), lambda log: None, True),
    ],
    ids=["nothing", "a row", "a question", "who knows", "another error", "stopped"],
)
def test_a_mistake_leaves_no_folder_unless_something_is_recorded(tmp_path, error, happens, stays):
    config = BaselineConfig(out=tmp_path / "run")
    with contextlib.suppress(UserError, OSError, KeyboardInterrupt), RunLog(config) as log:
        assert (tmp_path / "run" / "config.toml").exists()
        happens(log)
        raise error
    assert (tmp_path / "run").exists() == stays
    assert (tmp_path / "run" / "tensorboard").exists() == stays


def test_a_measure_that_comes_late_is_told_once_and_stops_nothing(tmp_path, capsys):
    with RunLog(BaselineConfig(out=tmp_path / "run", tensorboard=False)) as log:
        log.write(10, {"true_return": 1.0})
        log.write(20, {"true_return": 2.0, "learner_late": 5.0})
        log.write(30, {"true_return": 3.0, "learner_late": 6.0, "learner_later": 7.0})
        log.write(40, {"learner_late": 6.0, "learner_later": 7.0})
    said = capsys.readouterr().err.splitlines()
    assert [line.split("no column for ")[1].split(",")[0] for line in said] == ["learner_late", "learner_later"]
    table = read_table(tmp_path / "run" / "metrics.csv")
    assert list(table) == ["step", "true_return"]
    assert table["true_return"][:3] == [1.0, 2.0, 3.0]
    assert math.isnan(table["true_return"][3])
