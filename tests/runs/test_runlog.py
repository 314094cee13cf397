"""What a run says while it runs, and what it leaves."""

import contextlib
import math
import re
import time

import pytest
from helpers import sentence
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
        (OSError("not the user's"), lambda log: None, False),
        (OSError("not the user's"), lambda log: log.write(100, {"true_return": 1.0}), True),
        (KeyboardInterrupt(), lambda log: None, True),
    ],
    ids=["nothing", "a row", "a question", "who knows", "another error", "another error after a row", "stopped"],
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


WHOLE = "step,true_return\n10,1.5\n20,\n"


def test_a_table_is_read_back_with_what_is_missing_as_nan(tmp_path):
    (tmp_path / "metrics.csv").write_text(WHOLE + "30")  # half written
    table = read_table(tmp_path / "metrics.csv", "true_return")
    assert table["step"] == [10, 20, 30]
    assert table["true_return"][0] == 1.5
    assert all(map(math.isnan, table["true_return"][1:]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no rows yet"),
        ("step,true_return\n", "has no rows yet"),
        ("step,loss\n10,1\n", "it has no column true_return"),
        ("true_return\n10\n", "it has no column step"),
        (WHOLE + "thirty,1\n", "could not convert string to float: 'thirty'"),
        (WHOLE + "30,1,7\n", "a row is longer than the first"),
        (WHOLE + "15,1\n", "its steps do not grow"),
        (WHOLE + "nan,1\n", "its steps do not grow"),
        (WHOLE + "30,1e300\n", "true_return is 1e300"),
        (WHOLE + "\0,1\n", "is not a table"),
        ("x" * 10_000_000, "is not a table"),
        ("a,b\n" * 2_500_000, "it has no column step"),
        ('step,true_return\n"' + "1\n" * 5_000_000, "is not a table"),
    ],
    ids=range(13),
)
def test_another_table_is_told_in_a_sentence_at_once(text, says, tmp_path):
    (tmp_path / "metrics.csv").write_text(text)
    began = time.process_time()
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        read_table(tmp_path / "metrics.csv", "true_return")
    sentence(caught.value)
    assert time.process_time() - began < 2
