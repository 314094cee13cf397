"""Names and import paths, and what is said when neither leads anywhere."""

import math
import operator
import re
import sys

import pytest
from helpers import sentence

from prefrl.words.errors import UserError
from prefrl.words.lookup import did_you_mean, lookup

TABLE = {"uniform": 1, "disagreement": 2, "entropy": 3}


def test_a_name_in_the_table():
    assert lookup("strategy", "entropy", TABLE) == 3


def test_a_false_entry_is_an_entry():
    assert lookup("strategy", "nothing", {"nothing": 0}) == 0


def test_an_import_path():
    assert lookup("strategy", "operator:add", {}) is operator.add
    assert lookup("constant", "math:pi", TABLE) == math.pi


def test_a_module_of_a_package():
    assert lookup("schedule", "prefrl.schedules:annealed", {})(1.0) == 1.0


def test_the_table_comes_before_the_import_path():
    assert lookup("strategy", "math:pi", {"math:pi": 3}) == 3


def test_a_module_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_strategies_for_lookup.py").write_text("def boldest():\n    return 'bold'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert lookup("strategy", "my_strategies_for_lookup:boldest", TABLE)() == "bold"


def test_an_unknown_name_lists_what_is_known_and_guesses():
    with pytest.raises(UserError) as caught:
        lookup("strategy", "disagrement", TABLE)
    assert str(caught.value) == (
        "unknown strategy 'disagrement': it is one of disagreement, entropy, uniform, or an import path "
        "'package.module:name'. Did you mean 'disagreement'?"
    )


def test_a_name_like_nothing_known_is_not_guessed_at():
    with pytest.raises(UserError, match="unknown labeler 'xyzzy'") as caught:
        lookup("labeler", "xyzzy", TABLE)
    assert "Did you mean" not in str(caught.value)


def test_a_module_that_is_not_there():
    with pytest.raises(UserError, match=r"strategy 'no_such_module_anywhere:f' cannot be imported .*before the colon"):
        lookup("strategy", "no_such_module_anywhere:f", TABLE)


def test_a_module_whose_own_imports_fail_says_which(tmp_path, monkeypatch):
    (tmp_path / "needs_what_is_missing.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="No module named 'no_such_module_anywhere'"):
        lookup("strategy", "needs_what_is_missing:f", TABLE)


def test_a_module_without_the_attribute_guesses():
    with pytest.raises(UserError) as caught:
        lookup("schedule", "prefrl.schedules:anealed", {})
    assert str(caught.value) == (
        "schedule 'prefrl.schedules:anealed': module 'prefrl.schedules' has no 'anealed'. Did you mean 'annealed'?"
    )


def test_did_you_mean():
    assert did_you_mean("unifrom", TABLE) == " Did you mean 'uniform'?"
    assert did_you_mean("zzz", TABLE) == ""
    assert did_you_mean("anything", []) == ""


def test_a_module_of_the_working_folder_is_found_last_and_only_when_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "operator.py").write_text("raise RuntimeError('this lies here by chance')\n")
    assert lookup("strategy", "operator:add", {}) is operator.add
    assert str(tmp_path) not in sys.path
    (tmp_path / "boldest_of_all.py").write_text("def score():\n    return 'bold'\n")
    assert lookup("strategy", "boldest_of_all:score", TABLE)() == "bold"
    assert sys.path[-1] == str(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 / 0\n", "ZeroDivisionError: division by zero, fails_{}.py line 1"),
        ("import sys\nsys.exit('enough')\n", "SystemExit: enough, fails_{}.py line 2"),
        ("def f(:\n", "SyntaxError: invalid syntax"),
    ],
)
def test_a_module_that_fails_as_it_is_imported_says_where(text, says, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"fails_{len(text)}.py").write_text(text)
    with pytest.raises(UserError, match=re.escape(says.format(len(text)))) as caught:
        lookup("labeler", f"fails_{len(text)}:f", TABLE)
    sentence(caught.value)
