"""A number outlives its code only with a mark on it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import prefrl.baseline
import prefrl.run  # noqa: F401
from benchmarks import committed, fresh, question, speed
from benchmarks.committed import Question
from benchmarks.fresh import Equivalent, Fresh
from prefrl.runs.fingerprint import present_hashes
from prefrl.studies.batch import run_one, unfinished
from prefrl.studies.compare import Outcome
from prefrl.words.errors import UserError

GRID = """
env = "CartPole-v1"
steps = 3000
seed = [0, 1]
tensorboard = false
set = ["n_steps=64"]
out = "runs/short"
command = "baseline"
"""
KEY = ("CartPole-v1", "true reward", 0)


def step(before: str, after: str) -> Equivalent:
    return Equivalent(frozenset(before), frozenset(after), "cmp", "1a2b")


def test_code_is_still_there_as_it_was_or_by_way_of_what_was_shown_to_do_the_same() -> None:
    run = frozenset("abc")
    assert fresh.still_there(run, frozenset("cbaz"), ())
    assert not fresh.still_there(run, frozenset("bc"), ())
    assert fresh.still_there(run, frozenset("bcde"), (step("a", "de"),))  # one module has become two
    assert not fresh.still_there(run, frozenset("bcd"), (step("a", "de"),))  # and one of those has changed since
    assert fresh.still_there(run, frozenset("bcf"), (step("d", "f"), step("a", "d")))  # one change after another
    assert not fresh.still_there(run, frozenset("bcx"), (step("a", "d"), step("d", "a")))  # there and back ends too
    assert fresh.still_there(run, frozenset("cxy"), (step("ab", "xy"),))


def test_code_that_was_not_recorded_is_not_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "code.json"
    monkeypatch.setattr(fresh, "CODE", path)
    module, known = next(iter(present_hashes().items()))
    code = fresh.remember({module: known})
    other = fresh.remember({module: known, "prefrl.gone": "0123456789abcdef"})
    assert fresh.is_current(code)
    assert not fresh.is_current(other)
    assert not fresh.is_current("")
    assert not fresh.is_current("fedcba9876543210")
    assert json.loads(path.read_text())[code] == {module: known}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Question:
    """A question of its own, with its folders and its record of code elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(committed, "HERE", tmp_path)
    monkeypatch.setattr(fresh, "CODE", tmp_path / "code.json")
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "short.toml").write_text(GRID)
    return Question("short", "Does it run?", "", ("short",))


def change(place: Path, name: str) -> None:
    """As if this module were another now than in the run that the record tells of."""
    known = json.loads(place.read_text())
    for modules in known.values():
        modules[name] = "0123456789abcdef"
    place.write_text(json.dumps(known))


def test_a_run_is_stale_when_its_code_or_its_settings_have_changed_and_is_made_again(
    asked: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def sweep(jobs):
        made.append([job.config.seed for job in jobs])
        for config in unfinished([job.config for job in jobs]):
            run_one(config)
        return []

    monkeypatch.setattr("prefrl.studies.sweep.sweep", sweep)
    question.run(asked)
    assert made == [[0, 1]]
    assert len(question.outcomes(asked)) == 2
    assert not question.stale(asked)
    assert "Stale" not in question.section(asked, "")
    question.run(asked)
    assert made[1:] == [[]]

    change(tmp_path / "code.json", "prefrl.baseline")
    assert question.stale(asked) == {KEY, (*KEY[:2], 1)}
    assert "**Stale:** All 2 runs are of an earlier code" in question.section(asked, "")
    (tmp_path / "code.json").unlink()  # as of a run before there was a record
    assert len(question.stale(asked)) == 2
    question.run(asked)  # what the folders hold is of this code: the record says so again
    assert not question.stale(asked)

    about = tmp_path / "runs/short/CartPole-v1/true-reward-seed1/versions.json"
    said = json.loads(about.read_text())
    said["modules"]["prefrl.baseline"] = "0123456789abcdef"
    said["code"] = "0123456789abcdef"
    about.write_text(json.dumps(said))
    committed.gather(asked)  # of an earlier code: it does not take the place of the one that is there
    assert not question.stale(asked)

    rows = committed._read(asked.folder)[0]
    rows[KEY][0]["settings"] = "0123456789abcdef"
    committed._write(asked, rows, committed._read(asked.folder)[1])
    assert question.stale(asked) == {KEY}


def test_an_arm_of_which_a_run_is_stale_is_marked_in_the_table() -> None:
    task, arms = "prefrl/Hopper-v0", {"true reward": 900.0, "700 labels": 800.0}
    ended = np.array([1.0, 2.0])
    runs = [Outcome(task, arm, seed, (ended, ended * end), 1.0) for arm, end in arms.items() for seed in (0, 1)]
    lines = question.leaderboard(runs, "true reward", outdated={(task, "700 labels", 1)}).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["true reward", "700 labels (stale)"]


def test_a_change_is_listed_as_equivalent_only_once_its_proof_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "EQUIVALENT", tmp_path / "equivalent.toml")
    before = tmp_path / "before"
    (before / "prefrl").mkdir(parents=True)
    (before / "prefrl" / "fit.py").write_text("RATE = 1\n")
    ask = Fresh(before, "true", "1a2b3c")
    with pytest.raises(UserError, match="--command"):
        fresh.list_equivalent(Fresh(before))
    with pytest.raises(UserError, match="'false' failed"):
        fresh.list_equivalent(replace(ask, command="false"))
    with pytest.raises(UserError, match="nothing that was in"):
        fresh.list_equivalent(replace(ask, same_as=tmp_path / "nowhere"))
    assert fresh.equivalents() == ()
    assert "equivalent to 1 before" in fresh.list_equivalent(ask)
    (listed,) = fresh.equivalents(fresh.EQUIVALENT)
    assert (listed.command, listed.commit, len(listed.before)) == ("true", "1a2b3c", 1)
    assert fresh.still_there(listed.before, fresh._present(), (listed,))
    (tmp_path / "equivalent.toml").write_text('[[equivalent]]\nbefore = ["a"]\n')
    with pytest.raises(UserError, match="has no 'after'"):
        fresh.equivalents(fresh.EQUIVALENT)


def test_what_is_listed_as_equivalent_can_be_read() -> None:
    assert all(step.before and step.command and step.commit for step in fresh.equivalents())


def test_the_table_of_speed_says_what_is_stale_and_only_that_is_measured_again() -> None:
    whole = {row: speed.Goal("a ratio", 1.0) for row in speed.BOUNDS}
    assert "**Stale:** All 18 rows are of an earlier code" in speed.table(whole)
    assert "| a4 | a ratio | 1.00 | <= 1.02 | met, stale |" in speed.table(whole)
    assert speed.to_measure(speed.Speed(), whole) == list(speed.MEASURES.values())
    assert {row for rows in speed.MEASURES for row in rows} == set(speed.BOUNDS)
    assert speed.to_measure(speed.Speed(only=("a4", "i")), whole) == [speed.loop_and_memory, speed.start_up]
    assert speed.to_measure(speed.Speed(only=("c",)), whole) == [speed.training]
    with pytest.raises(UserError, match="no row 'z'"):
        speed.to_measure(speed.Speed(only=("z",)), whole)


def test_a_row_keeps_what_its_runs_and_its_own_measure_were_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "CODE", tmp_path / "code.json")
    present = present_hashes()
    name = "prefrl.rewards.fit"

    def growth(quick: bool) -> dict[str, speed.Goal]:
        run = {"wall": 2.0, "settings": "s", "modules": {name: present[name]}}
        return {"f": speed.Goal("a ratio", 1.5, raw=[[run, {"wall": 1.0}]])}

    (row, goal), *_ = speed.measured(growth, quick=False).items()
    assert row == "f"
    assert goal.raw == [[{"wall": 2.0}, {"wall": 1.0}]]
    modules = json.loads((tmp_path / "code.json").read_text())[goal.code]
    assert modules.keys() == {name, "benchmarks.speed:growth"}
    assert goal.settings
    assert not goal.is_stale
    assert "| f | a ratio | 1.50 | <= 8 | met |" in speed.table({"f": goal})
    change(tmp_path / "code.json", "benchmarks.speed:growth")
    assert goal.is_stale


def test_the_readme_has_the_table_of_speed_as_it_is_now() -> None:
    assert question.FRONT.read_text().split(speed.MARK)[1].strip() == speed.table(speed.read_goals())
