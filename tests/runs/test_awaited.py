"""Where nothing moves on, somebody says what is awaited."""

import re
import time
from dataclasses import replace

import pytest

from prefrl.runs import awaited
from prefrl.runs.runlog import RunLog
from prefrl.settings.config import BaselineConfig


def looking_on(monkeypatch, folder, parts, steps):
    monkeypatch.setattr(awaited, "LOOK_S", 0.4)
    config = BaselineConfig(out=folder / "my-run", tensorboard=False)
    with RunLog(config) as log, awaited.Awaited(log, steps):
        for part in parts:
            with log.part(part):
                time.sleep(1.8 / len(parts))


@pytest.mark.parametrize(("part", "said"), [("answer", "answers are awaited"), ("learn", "have taken no step")])
def test_what_is_awaited_is_said(monkeypatch, tmp_path, capsys, part, said):
    looking_on(monkeypatch, tmp_path, [part], lambda: 7)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("my-run: ") and said in line and line.endswith(" s by now.") for line in lines)


def test_nothing_is_said_while_steps_are_taken_or_parts_follow_one_another(monkeypatch, tmp_path, capsys):
    steps = iter(range(10**6))
    looking_on(monkeypatch, tmp_path / "steps", ["learn"], lambda: next(steps))
    looking_on(monkeypatch, tmp_path / "parts", ["ask", "answer"] * 12, lambda: 7)
    assert capsys.readouterr().err == ""


def test_how_fast_a_run_is_is_said_soon_and_once(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(awaited, "FIRST_S", 0.2)
    steps = iter(range(10**6))
    config = BaselineConfig(out=tmp_path / "my-run", tensorboard=False)
    with RunLog(config) as log, awaited.Awaited(log, lambda: 100 * next(steps), all_steps=10_000_000):
        time.sleep(1.0)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"my-run: [\d,]+ steps/s in the first 0 s; all 10,000,000 take some \d+ (hours|minutes|days)\.", line
    )
    with RunLog(replace(config, out=tmp_path / "quiet")) as log, awaited.Awaited(log, lambda: 0, True, 100):
        time.sleep(0.4)
    assert capsys.readouterr().err == ""
