"""The load benchmark in small: everything it starts is real, and it finds what is lost."""

import random

import pytest
from made import make_query
from postgres import programs

from benchmarks.label_load import Labeler, Load, compare, kill_page_or_database, kill_trainer, load, start_page
from prefrl.queries.store import Store
from prefrl.words.preference import Preference

needs_postgres = pytest.mark.skipif(programs() is None, reason="no PostgreSQL here")
SMALL = Load(labelers=12, answers=4, think_s=0.6)


def test_people_at_once_lose_nothing():
    found = load(SMALL, None)
    assert (found["acknowledged"], found["lost"], found["doubled"], found["shown_to_two"]) == (48, 0, 0, 0)
    assert found["statuses"].keys() == {200}


@needs_postgres
@pytest.mark.parametrize("what", ["page", "database"])
def test_what_was_acknowledged_survives_kill_9(what):
    found = kill_page_or_database(what, 2, people_count=8)
    assert found["acknowledged"] >= 16  # each kill waits for as many answers as there are people
    assert (found["lost"], found["doubled"], found["shown_to_two"]) == (0, 0, 0)


def test_what_was_acknowledged_survives_the_trainers_kill_9():
    found = kill_trainer(1)
    assert found["acknowledged"] > 0
    assert (found["lost"], found["damaged"]) == (0, 0)


def test_the_benchmark_finds_what_is_lost_doubled_or_shown_to_two():
    with Store(":memory:") as store:
        store.add([Preference(make_query(n), 1.0, who, 1.0) for n, who in ((0, "ann"), (0, "bob"), (1, "ann"))])
        ann, bob = (Labeler(name, lambda: 0, random.Random(0)) for name in ("ann", "bob"))
        keys = [make_query(n).key for n in range(4)]
        ann.acknowledged = {keys[0]: "left", keys[1]: "right", keys[3]: "cannot tell"}  # two of them are not there so
        bob.acknowledged = {keys[0]: "left"}
        ann.shown, bob.shown = keys[:3], keys[2:]
        assert compare([ann, bob], store) == {"acknowledged": 4, "lost": 2, "doubled": 1, "shown_to_two": 1}


def test_a_page_that_does_not_start_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="did not start: prefrl: "):
        start_page(tmp_path / "no run")
