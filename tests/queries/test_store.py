import io
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from helpers import sentence
from made import content, make_preference, make_query, make_segment
from postgres import Postgres, programs

from prefrl.cli import main
from prefrl.queries.exchange import agreements
from prefrl.queries.patient_store import SPILLED, PatientStore
from prefrl.queries.rows import checked
from prefrl.queries.store import (
    Counts,
    Lease,
    NothingThereError,
    RefusedError,
    Store,
    UnreachableError,
    check_free,
)
from prefrl.queries.store_tables import MOST_BYTES, SCHEMA_VERSION, TABLES
from prefrl.words.errors import UserError
from prefrl.words.preference import Preference, Query, question_key_by_contents

QUIET_NAN = np.frombuffer(np.uint64(0x7FF800000000BEEF).tobytes(), np.float64)[0]


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.sqlite"


# What comes back


@pytest.mark.parametrize(
    ("observations", "actions"),
    [
        (np.array([[1.5, -0.0], [np.inf, QUIET_NAN]]), np.array([[0.1], [0.2]], np.float32)),
        (np.arange(2 * 8 * 8 * 4, dtype=np.uint8).reshape(2, 8, 8, 4), np.array([3, 0])),
        (np.array([4, 5]), np.array([True, False])),
        (np.array([[1.0], [2.0]], ">f8"), np.array([[1], [2]], ">i4")),
        (np.asfortranarray(np.arange(12.0).reshape(2, 2, 3)), np.zeros((2, 0), np.float32)),
        (np.array([["left", "ω"], ["", "x"]]), np.array([1 + 2j, 0])),
    ],
    ids=["floats", "frames", "discrete", "big-endian", "fortran and empty", "text and complex"],
)
def test_segments_come_back_bit_for_bit(path: Path, observations: Any, actions: Any) -> None:
    left = make_segment(0, observations=observations, actions=actions, rewards=np.array([-0.0, 1e-310]))
    given = Preference(Query(left, make_segment(1)), 0.5, "oracle", 0.1 + 0.2)
    with Store(path) as store:
        store.ask([given.query])
        store.add([given])
    with Store(path) as store:
        (found,), last = store.answers()
    assert last == 1
    assert content([found]) == content([given])
    for name in ("observations", "actions", "rewards"):
        before, after = getattr(left, name), getattr(found.query.left, name)
        assert (after.dtype, after.shape, after.tobytes()) == (before.dtype, before.shape, before.tobytes())
        assert not after.flags.writeable
    assert found.query.left.key == left.key
    for name in ("env_id", "step", "seed", "env_index", "episode", "offset"):
        assert getattr(found.query.left, name) == getattr(left, name)


def test_numpy_scalars_are_as_good_as_numbers() -> None:
    given = make_preference(0)
    for noun, name, value in (
        (given.query.left, "step", np.int64(2**40)),
        (given.query.left, "episode", np.uint8(3)),
        (given, "mu", np.float32(0.5)),
        (given, "seconds", np.float32(1.25)),
    ):
        object.__setattr__(noun, name, value)  # outside tests nothing checks the types that were promised
    with Store(":memory:") as store:
        store.add([given])
        ((found,), _) = store.answers()
    assert (found.query.left.step, found.query.left.episode, found.mu, found.seconds) == (2**40, 3, 0.5, 1.25)


def test_answers_arrive_in_order_and_only_new_ones_are_fetched(path: Path) -> None:
    with Store(path) as store:
        assert store.answers() == ([], 0)
        store.ask([make_query(number) for number in range(6)])
        assert store.answers() == ([], 0)
        store.add([make_preference(4), make_preference(1)])
        first, after = store.answers()
        assert content(first) == content([make_preference(4), make_preference(1)])
        assert store.answers(after) == ([], after)
        store.add([make_preference(5), make_preference(0, mu=None)])
        second, _ = store.answers(after)
        assert content(second) == content([make_preference(5), make_preference(0, mu=None)])
        every, last = store.answers()
        assert content(every) == content(first + second)
        assert store.answers(last) == ([], last)


def test_answers_about_one_query_share_it() -> None:
    with Store(":memory:") as store:
        a, b, c = (make_segment(number) for number in range(3))
        store.add([Preference(Query(a, b), 1.0, who, 0.0) for who in ("ann", "bob")])
        store.add([Preference(Query(b, c), 0.0, "ann", 0.0)])
        (first, second, third), _ = store.answers()
    assert first.query is second.query
    assert first.query.right is third.query.left


def test_counts() -> None:
    with Store(":memory:") as store:
        assert store.counts() == Counts(asked=0, answered=0, skipped=0, seconds=0.0)
        store.ask([make_query(number) for number in range(5)])
        store.add([make_preference(0, seconds=3.0), make_preference(1, mu=0.5, seconds=0.5)])
        store.add([make_preference(2, mu=None, seconds=4.0), make_preference(0, labeler="ann", mu=0.0, seconds=1.0)])
        assert store.counts() == Counts(asked=5, answered=3, skipped=1, seconds=8.5, open=2, withdrawn=0)


def test_nothing_asked_and_nothing_answered_is_nothing_recorded() -> None:
    with Store(":memory:") as store:
        store.ask([])
        store.add([])
        assert store.counts() == Counts(0, 0, 0, 0.0)


# What is kept once


def test_a_query_is_kept_once_and_so_is_a_segment(path: Path) -> None:
    a, b, c = (make_segment(number) for number in range(3))
    again = make_segment(0, step=9999)  # the same window, cut once more
    with Store(path) as store:
        store.ask([Query(a, b), Query(again, b), Query(b, a)])
        store.ask([Query(b, a), Query(again, c)])
        assert store.counts().asked == 3
    assert rows(path, "SELECT key, step FROM segments ORDER BY step") == [(s.key, s.step) for s in (a, b, c)]
    shown = "SELECT segment_key, i.step FROM items i JOIN queries q ON q.key = i.query_key ORDER BY q.id, place"
    assert rows(path, shown) == [(s.key, s.step) for s in (a, b, b, a, again, c)]


def test_the_same_seen_on_another_occasion_is_another_question_and_may_be_answered_otherwise() -> None:
    once = make_query(0)
    asked = [once] + [
        replace(once, left=replace(once.left, **elsewhere))
        for elsewhere in ({"seed": 8}, {"env_index": 0}, {"episode": 6}, {"offset": 12})
    ]
    assert len({query.left.key for query in asked}) == 1
    assert len({query.key for query in asked}) == 5
    answers = [Preference(query, mu, "ann", 1.0) for query, mu in zip(asked, (1.0, 0.0, 0.5, None, 0.25), strict=True)]
    with Store(":memory:") as store:
        assert store.add(answers) == answers
        assert store.counts() == Counts(asked=5, answered=4, skipped=1, seconds=5.0)
        found, _ = store.answers()
        assert content(found) == content(answers)
        assert [p.query.left.occasion for p in found] == [p.query.left.occasion for p in answers]
        assert store.occasions() == [(q.left.occasion, q.right.occasion) for q in asked]
        assert len(store.dump()["segments"]) == 2


def test_what_is_added_says_what_was_taken() -> None:
    once, again, other = make_preference(0, mu=1.0), make_preference(0, mu=0.0), make_preference(1)
    of_ann = make_preference(0, "ann")
    with Store(":memory:") as store:
        assert store.add([once, other, again]) == [once, other]
        assert store.add([again, of_ann]) == [of_ann]
        assert store.counts().answered == 3


@pytest.mark.parametrize("mu", [0.0, 0.3, 1 / 3, 1.0, None])
def test_any_weight_from_0_to_1_is_an_answer(mu: float | None) -> None:
    with Store(":memory:") as store:
        store.add([make_preference(0, mu=mu)])
        assert store.answers()[0][0].mu == mu
        assert store.counts().answered == (mu is not None)


@pytest.mark.parametrize("mu", [-0.1, 1.5, np.nan, np.inf])
def test_no_other_weight_is(mu: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        make_preference(0, mu=mu)


def test_the_first_answer_of_a_labeler_to_a_query_is_kept() -> None:
    with Store(":memory:") as store:
        store.add([make_preference(0, mu=1.0), make_preference(1), make_preference(0, mu=0.0)])
        store.add([make_preference(0, mu=0.5), make_preference(2), make_preference(0, labeler="ann", mu=None)])
        found, _ = store.answers()
    expected = [
        make_preference(0, mu=1.0),
        make_preference(1),
        make_preference(2),
        make_preference(0, labeler="ann", mu=None),
    ]
    assert content(found) == content(expected)


def test_more_queries_than_one_statement_can_name() -> None:
    preferences = [make_preference(number) for number in range(1201)]
    with Store(":memory:") as store:
        store.ask([p.query for p in preferences[:700]])
        store.add(preferences[600:])
        store.add(preferences)
        assert store.counts() == Counts(1201, 1201, 0, 2.5 * 1201)
        found, _ = store.answers()
    assert content(found) == content(preferences[600:] + preferences[:600])


def test_answers_of_one_store_start_another(path: Path) -> None:
    with Store(path) as old, Store(":memory:") as new:
        old.add([make_preference(3), make_preference(1, mu=None)])
        new.add(old.answers()[0])
        assert content(new.answers()[0]) == content(old.answers()[0])
        assert new.counts() == old.counts()


# Questions for people


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    if programs() is None:
        pytest.skip("no PostgreSQL here")
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[Store]:
    """An empty store in a file, and one on a server."""
    if request.param == "sqlite":
        with Store(path) as opened:
            yield opened
    else:
        url = request.getfixturevalue("postgres").url
        with Store(url) as opened:
            yield opened
            with opened._engine.begin() as connection:
                TABLES.drop_all(connection)


def ask(store: Store, count: int, second_opinions: float = 0.0) -> list[Query]:
    queries = [make_query(number) for number in range(count)]
    store.ask(queries, second_opinions)
    return queries


def keys(leases: list[Lease]) -> list[str]:
    return [lease.key for lease in leases]


def test_a_question_is_with_one_person_at_a_time_and_comes_back_when_nobody_answers(store: Store) -> None:
    queries = ask(store, 5)
    ann, bob = store.lease("ann", 2, 60), store.lease("bob", 9, 60)
    assert keys(ann) == [q.key for q in queries[:2]]
    assert keys(bob) == [q.key for q in queries[2:]]
    assert ann[0].clips == (queries[0].left.key, queries[0].right.key)
    assert store.lease("eve", 9, 60) == []
    assert store.lease("bob", 9, -1) == bob  # his time is over
    eve = store.lease("eve", 9, 60)
    assert keys(eve) == keys(bob)
    assert {lease.ticket for lease in eve}.isdisjoint(lease.ticket for lease in bob)
    assert store.lease("ann", 2, 60) == ann  # asked again, the same are hers


def test_an_answer_is_taken_from_whom_it_was_asked_once(store: Store) -> None:
    ask(store, 2)
    (lease,) = store.lease("ann", 1, 60)
    for key, who, ticket in (
        (lease.key, "bob", lease.ticket),
        (lease.key, "ann", "0" * 32),
        ("f" * 32, "ann", lease.ticket),
        (make_query(1).key, "ann", lease.ticket),
        (lease.key, "ann", "é"),
    ):
        with pytest.raises(RefusedError, match="not yours"):
            store.answer(key, who, ticket, 1.0, 2.0)
    assert store.counts().answered == 0
    store.answer(lease.key, "ann", lease.ticket, 1.0, 2.0)
    store.answer(lease.key, "ann", lease.ticket, 1.0, 2.0)  # sent again, because the reply was lost
    with pytest.raises(RefusedError, match="another answer"):
        store.answer(lease.key, "ann", lease.ticket, None, 2.0)
    assert store.counts() == Counts(asked=2, answered=1, skipped=0, seconds=2.0, open=1)
    assert keys(store.lease("ann", 9, 60)) == [make_query(1).key]
    assert [(g.key, g.labeler, g.mu, g.seconds, g.step) for g in store.given()] == [(lease.key, "ann", 1.0, 2.0, 1000)]


def test_a_late_answer_counts_and_a_skip_closes_a_question(store: Store) -> None:
    ask(store, 2)
    late, skipped = store.lease("ann", 2, -1)
    assert len(store.lease("bob", 2, 60)) == 2
    store.answer(late.key, "ann", late.ticket, 0.0, 99.0)
    store.answer(skipped.key, "ann", skipped.ticket, None, 1.0)
    assert store.lease("cat", 9, 60) == []
    assert store.counts() == Counts(asked=2, answered=1, skipped=1, seconds=100.0, open=0)


def test_what_is_taken_back_is_kept_told_and_asked_again(store: Store) -> None:
    ask(store, 3)
    first, second = store.lease("ann", 2, 60)
    store.answer(first.key, "ann", first.ticket, 1.0, 2.0)
    store.answer(second.key, "ann", second.ticket, 0.0, 3.0)
    answers, gone, after = store.news()
    assert ([a.mu for a in answers], gone) == ([1.0, 0.0], [])
    again = store.withdraw("ann", 60)
    assert again is not None
    assert again.key == second.key
    assert store.withdraw("bob", 60) is None
    assert store.counts() == Counts(asked=3, answered=1, skipped=0, seconds=2.0, open=2, withdrawn=1)
    with pytest.raises(RefusedError, match="not yours"):
        store.answer(second.key, "ann", second.ticket, 0.0, 3.0)  # the old ticket is spent
    store.answer(again.key, "ann", again.ticket, 0.5, 1.0)
    answers, gone, after = store.news(after)
    assert ([(a.query.key, a.mu) for a in answers], gone) == ([(second.key, 0.5)], [(second.key, "ann")])
    assert store.news(after) == ([], [], after)
    third = store.lease("ann", 1, 60)[0]
    store.answer(third.key, "ann", third.ticket, 1.0, 1.0)
    assert store.withdraw("ann", 60) is not None
    assert store.news(after)[:2] == ([], [])  # given and taken back between two looks


def test_the_last_answer_taken_back_does_not_hide_the_next(store: Store) -> None:
    """Ids are never used twice, so a reader who saw the first one sees the second."""
    ask(store, 1)
    (lease,) = store.lease("ann", 1, 60)
    store.answer(lease.key, "ann", lease.ticket, 1.0, 2.0)
    _, after = store.answers()
    again = store.withdraw("ann", 60)
    assert again is not None
    store.answer(again.key, "ann", again.ticket, 0.0, 2.0)
    assert [a.mu for a in store.answers(after)[0]] == [0.0]


def test_second_opinions_are_asked_of_another_person(store: Store) -> None:
    queries = ask(store, 40, second_opinions=0.5)
    twice = {q.key for q in queries if int(q.key, 16) < 2**127}
    assert 10 < len(twice) < 30
    for who in ("ann", "bob"):
        for lease in store.lease(who, 99, 60):
            store.answer(lease.key, who, lease.ticket, 1.0, 1.0)
    assert store.lease("cat", 99, 60) == []
    by = {who: {g.key for g in store.given() if g.labeler == who} for who in ("ann", "bob")}
    assert by["ann"] == {q.key for q in queries}
    assert by["bob"] == twice


def test_what_nobody_answers_is_there_for_the_oracle(store: Store) -> None:
    queries = ask(store, 4)
    (lease,) = store.lease("ann", 1, 60)
    store.add([Preference(queries[1], 1.0, "bob", 1.0)])
    assert [q.key for q in store.unanswered(9)] == [q.key for q in queries[2:]]
    assert [q.key for q in store.unanswered(1)] == [queries[2].key]
    assert store.unanswered(9, asked_before=datetime.now(UTC) - timedelta(seconds=30)) == []
    found = store.segment(queries[2].left.key)
    assert found is not None
    assert found.key == queries[2].left.key
    assert store.segment(lease.key) is None


def test_many_people_at_once_get_different_questions_and_nothing_is_lost(store: Store) -> None:
    ask(store, 120)

    def work(who: str) -> list[str]:
        done = []
        while leases := store.lease(who, 2, 60):
            for lease in leases:
                store.answer(lease.key, who, lease.ticket, 1.0, 1.0)
                done.append(lease.key)
        return done

    with ThreadPoolExecutor(8) as pool:
        answered = [key for keys in pool.map(work, [f"person {i}" for i in range(8)]) for key in keys]
    assert len(answered) == len(set(answered)) == 120
    assert {g.key for g in store.given()} == set(answered)
    assert store.counts() == Counts(asked=120, answered=120, skipped=0, seconds=120.0, open=0)


def test_a_store_dumped_and_restored_is_the_same_and_twice_is_once(store: Store) -> None:
    drawn = Query(make_segment(900, scene=np.arange(6.0).reshape(3, 2)), make_segment(901))
    store.ask([drawn])
    ask(store, 4)
    for lease in store.lease("ann", 3, 60):
        store.answer(lease.key, "ann", lease.ticket, 0.5, 1.0)
    store.withdraw("ann", 60)
    rows = store.dump()
    with Store(":memory:") as other:
        other.restore(rows)
        other.restore(rows)
        again = other.dump()
        assert other.counts() == store.counts()
        assert content(other.answers()[0]) == content(store.answers()[0])
        found = other.segment(drawn.left.key)
        assert found is not None
        np.testing.assert_array_equal(found.scene, drawn.left.scene)
    for table in ("queries", "answers", "withdrawals"):
        plain = [{k: v for k, v in row.items() if k != "answer_id"} for row in rows[table]]
        assert [{k: v for k, v in row.items() if k != "answer_id"} for row in again[table]] == plain != []


def test_two_stores_merge(path: Path) -> None:
    with Store(path) as one, Store(":memory:") as two:
        for store, who in ((one, "ann"), (two, "bob")):
            ask(store, 3)
            lease = store.lease(who, 2, 60)[-1]
            store.answer(lease.key, who, lease.ticket, 1.0, 1.0)
        lease = two.lease("bob", 1, 60)[0]
        two.answer(lease.key, "bob", lease.ticket, 0.0, 1.0)
        one.restore(two.dump())
        assert one.counts() == Counts(asked=3, answered=3, skipped=0, seconds=3.0, open=1)


def test_a_patient_store_goes_on_while_the_database_is_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if programs() is None:
        pytest.skip("no PostgreSQL here")
    with Postgres() as server, PatientStore(server.url, tmp_path) as trainer:
        trainer.ask([make_query(0)])
        assert trainer.counts().asked == 1
        server.kill()
        trainer.ask([make_query(1)])
        assert trainer.add([make_preference(0)]) == []
        assert trainer.news() == ([], [], (0, 0))
        assert trainer.unanswered(9) == []
        assert (trainer.counts().asked, trainer.counts().open) == (2, 2)  # one of them waits to be recorded
        assert trainer.waiting == 2
        server.start()
        answers, _, _ = trainer.news()
        assert content(answers) == content([make_preference(0)])
        assert trainer.waiting == 0
        assert trainer.counts() == Counts(asked=2, answered=1, skipped=0, seconds=2.5, open=1)
    said = capsys.readouterr().err
    assert said.count("Training goes on") == 1
    assert said.count("\n") == 1


VERSION_1 = """
CREATE TABLE prefrl (schema_version INTEGER NOT NULL, PRIMARY KEY (schema_version));
CREATE TABLE segments (
    "key" VARCHAR(32) NOT NULL, steps BLOB NOT NULL, env_id VARCHAR NOT NULL, step BIGINT NOT NULL,
    seed BIGINT NOT NULL, env_index BIGINT NOT NULL, episode BIGINT NOT NULL, "offset" BIGINT NOT NULL,
    PRIMARY KEY ("key"));
CREATE TABLE queries (
    id INTEGER NOT NULL, "key" VARCHAR(32) NOT NULL, left_key VARCHAR(32) NOT NULL, right_key VARCHAR(32) NOT NULL,
    asked_at DATETIME NOT NULL, PRIMARY KEY (id), UNIQUE ("key"),
    FOREIGN KEY(left_key) REFERENCES segments ("key"), FOREIGN KEY(right_key) REFERENCES segments ("key"));
CREATE TABLE answers (
    id INTEGER NOT NULL, query_key VARCHAR(32) NOT NULL, labeler VARCHAR NOT NULL, mu DOUBLE, seconds DOUBLE NOT NULL,
    answered_at DATETIME NOT NULL, PRIMARY KEY (id), UNIQUE (query_key, labeler),
    FOREIGN KEY(query_key) REFERENCES queries ("key"));
INSERT INTO prefrl VALUES (1);
"""


MORE_IN_2 = """
ALTER TABLE segments ADD COLUMN scene BLOB;
ALTER TABLE queries ADD COLUMN wanted INTEGER NOT NULL DEFAULT 1;
CREATE INDEX queries_wanted ON queries (id) WHERE wanted > 0;
CREATE TABLE withdrawals (
    id INTEGER NOT NULL, answer_id INTEGER NOT NULL, query_key VARCHAR(32) NOT NULL, labeler VARCHAR NOT NULL,
    mu DOUBLE, seconds DOUBLE NOT NULL, answered_at DATETIME NOT NULL, withdrawn_at DATETIME NOT NULL,
    PRIMARY KEY (id), UNIQUE (answer_id), FOREIGN KEY(query_key) REFERENCES queries ("key"));
CREATE TABLE leases (
    query_key VARCHAR(32) NOT NULL, labeler VARCHAR NOT NULL, ticket VARCHAR(32) NOT NULL, until DATETIME NOT NULL,
    PRIMARY KEY (query_key, labeler), FOREIGN KEY(query_key) REFERENCES queries ("key"));
CREATE INDEX leases_until ON leases (labeler, until);
UPDATE prefrl SET schema_version = 2;
"""


def make_old_store(path: Path, version: int) -> None:
    """Three questions, the first skipped, the second answered; of version 2 an answer taken back, a lease, a scene."""
    with Store(path.with_name("new")) as store:  # for segments as they are packed
        store.ask([make_query(number) for number in range(3)])
    with closing(sqlite3.connect(path)) as old, old:
        old.executescript(VERSION_1)
        old.execute("ATTACH ? AS new", (str(path.with_name("new")),))
        names = 'key, steps, env_id, step, seed, env_index, episode, "offset"'
        old.execute(f"INSERT INTO segments SELECT {names} FROM new.segments")
        then = "2026-01-02 03:04:05.000000"
        for number in range(3):
            query = make_query(number)
            sides = (query.left.key, query.right.key)
            old.execute("INSERT INTO queries VALUES (?, ?, ?, ?, ?)", (number + 1, old_key(query), *sides, then))
        for number, mu in ((1, 1.0), (0, None)):
            values = (2 - number, old_key(make_query(number)), "oracle", mu, 2.5, then)
            old.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?)", values)
        if version == 2:
            old.executescript(MORE_IN_2)
            old.execute("UPDATE queries SET wanted = 0 WHERE id < 3")
            key = old_key(make_query(2))
            old.execute("INSERT INTO withdrawals VALUES (1, 3, ?, 'ann', 0.0, 4.0, ?, ?)", (key, then, then))
            old.execute("INSERT INTO leases VALUES (?, 'ann', ?, ?)", (key, "a" * 32, "2030-01-01 00:00:00"))


def old_key(query: Query) -> str:
    return question_key_by_contents(query.left.key, query.right.key)


EXPECTED_OF_OLD = [(old_key(make_query(1)), 1.0, "oracle", 2.5), (old_key(make_query(0)), None, "oracle", 2.5)]


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_store_is_migrated_with_all_it_holds_and_keeps_its_keys(path: Path, version: int) -> None:
    make_old_store(path, version)
    with Store(path) as store:
        found, _ = store.answers()
        assert content(found) == EXPECTED_OF_OLD
        assert found[0].query.left.occasion == make_query(1).left.occasion
        assert store.counts() == Counts(asked=3, answered=1, skipped=1, seconds=5.0, open=1, withdrawn=version - 1)
        assert store.add(found) == []  # they stay attached to their questions
        (lease,) = store.lease("ann", 9, 60)
        assert lease.key == old_key(make_query(2))
        assert lease.ticket == "a" * 32 or version == 1
        store.answer(lease.key, "ann", lease.ticket, 1.0, 1.0)
        assert store.withdraw("ann", 60) is not None
        store.ask([Query(make_segment(8, scene=np.zeros((3, 2))), make_segment(9))])
        assert store.counts().asked == 4
        rows_there = store.dump()
    assert rows(path, "SELECT * FROM prefrl") == [(SCHEMA_VERSION,)]
    assert rows(path, "PRAGMA foreign_key_check") == []
    assert [name for (name,) in rows(path, "SELECT name FROM sqlite_master WHERE name LIKE 'old%'")] == []
    with Store(":memory:") as other:
        other.restore(checked(rows_there, "here"))
        assert other.counts() == Counts(4, 1, 1, 5.0, open=2, withdrawn=version)


def test_an_older_store_on_a_server_is_migrated_by_whoever_writes_and_refused_to_who_looks(
    path: Path, postgres: Postgres
) -> None:
    make_old_store(path, 2)
    engine = sa.create_engine(postgres.url)
    script = (VERSION_1 + MORE_IN_2).replace("BLOB", "BYTEA").replace("DATETIME", "TIMESTAMPTZ")
    script = script.replace("DOUBLE", "DOUBLE PRECISION").replace('id INTEGER NOT NULL, "key"', 'id SERIAL, "key"')
    try:
        with engine.begin() as connection, closing(sqlite3.connect(path)) as old:
            connection.exec_driver_sql(script)
            for table in ("segments", "queries", "answers", "withdrawals", "leases"):
                for row in old.execute(f"SELECT * FROM {table}"):
                    connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(row))})", row)
        with pytest.raises(UserError, match="looking changes nothing") as caught:
            Store.reading(postgres.url)
        assert_one_sentence(caught.value, names="version 2")
        with Store(postgres.url) as store:
            assert content(store.answers()[0]) == EXPECTED_OF_OLD
            store.ask([make_query(5)])
            assert store.counts().asked == 4
            with Store.reading(postgres.url) as looked:
                assert looked.counts() == store.counts()
                with pytest.raises(UserError, match="to be looked at"):
                    looked.ask([make_query(6)])
    finally:
        with engine.begin() as connection:
            TABLES.drop_all(connection)
        engine.dispose()


# Looking


def contents_of(folder: Path) -> dict[str, bytes]:
    return {item.name: item.read_bytes() for item in folder.iterdir() if not item.name.endswith("-shm")}


def test_who_looks_writes_nothing_not_even_beside_the_file(path: Path) -> None:
    with Store(path) as store:
        store.add([make_preference(0), make_preference(1, mu=None)])
        expected = content(store.answers()[0])
    path.chmod(0o444)
    before = contents_of(path.parent)
    with nobody_may_write(path.parent), Store.reading(path) as store:
        assert content(store.answers()[0]) == expected
        assert store.counts().asked == 2
        assert content(store.news()[0]) == expected
        assert len(store.dump()["answers"]) == 2
        for write in (
            lambda: store.ask([make_query(9)]),
            lambda: store.add([make_preference(9)]),
            lambda: store.lease("ann", 1, 60),
            lambda: store.claim(path.parent),
        ):
            with pytest.raises(UserError, match="to be looked at"):
                write()
    assert contents_of(path.parent) == before


def test_who_looks_sees_what_is_in_the_log_of_a_store_at_work_and_of_one_that_was_killed(path: Path) -> None:
    with Store(path) as store:
        store.add([make_preference(0)])
        assert path.with_name(path.name + "-wal").stat().st_size
        with Store.reading(path) as looked:
            assert looked.counts().answered == 1
            store.add([make_preference(1)])
            assert looked.counts().answered == 2
        killed = path.with_name("killed") / path.name
        killed.parent.mkdir()
        for name in (path.name, path.name + "-wal"):  # copied without its index
            shutil.copy(path.with_name(name), killed.with_name(name))
    with nobody_may_write(killed.parent), Store.reading(killed) as looked:
        assert looked.counts().answered == 2
    assert sorted(item.name for item in killed.parent.iterdir()) == [path.name, path.name + "-wal"]


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_store_can_be_looked_at_and_stays_as_it_is(path: Path, version: int) -> None:
    make_old_store(path, version)
    path.with_name("new").unlink()
    before = contents_of(path.parent)
    with nobody_may_write(path.parent), Store.reading(path) as store:
        assert content(store.answers()[0]) == EXPECTED_OF_OLD
        assert store.counts().open == 1
        assert len(checked(store.dump(), "here")["items"]) == 6
    assert contents_of(path.parent) == before


def test_where_there_is_nothing_to_look_at_nothing_is_made(path: Path) -> None:
    with pytest.raises(NothingThereError, match="there is no store at") as caught:
        Store.reading(path)
    assert_one_sentence(caught.value, names=path)
    assert not path.exists()
    check_free(str(path))
    assert not path.exists()
    path.touch()
    with pytest.raises(NothingThereError, match="empty"):
        Store.reading(path)
    make_someone_elses_database(path)
    with pytest.raises(UserError, match="something else"):
        Store.reading(path)
    assert {item.name for item in path.parent.iterdir()} == {path.name}


def test_a_segment_that_claims_to_be_huge_is_one_sentence_and_allocates_nothing(path: Path) -> None:
    with Store(path) as store:
        store.add([make_preference(0)])
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": [("observations", "<f8", (2,))], "fortran_order": False, "shape": (10**9,)}
    )
    for blob in (zlib.compress(header.getvalue() + b"0" * 80), b"no blob", zlib.compress(bytes(MOST_BYTES + 10_000))):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE segments SET steps = ?", (blob,))
        with Store.reading(path) as store, pytest.raises(UserError, match="cannot be read") as caught:
            store.answers()
        assert_one_sentence(caught.value, names="damaged")


# A run has its store to itself


def test_of_two_trainers_on_one_database_the_second_gets_a_sentence(tmp_path: Path, path: Path) -> None:
    start = threading.Barrier(4)

    def train(number: int) -> str:
        start.wait()
        try:
            with PatientStore(path, tmp_path / f"run{number}") as store:
                store.ask([make_query(number)])
                time.sleep(0.5)
        except UserError as error:
            return str(error)
        return "trained"

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(train, range(4)))
    assert said.count("trained") == 1
    assert sum("of another run" in text for text in said) == 3
    with Store(path) as store:
        assert store.counts().asked == 1
        assert [store.is_of_another(tmp_path / f"run{i}") for i in range(4)].count(False) == 1


def test_a_store_in_which_nothing_was_asked_is_free_again(tmp_path: Path, path: Path) -> None:
    PatientStore(path, tmp_path / "one").close()
    with PatientStore(path, tmp_path / "two") as store:
        store.ask([make_query(0)])
        with pytest.raises(UserError, match="of another run"):
            PatientStore(path, tmp_path / "three")
    with pytest.raises(UserError, match="1 questions of another run"):
        check_free(str(path))


# A database that is away


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else has begun to write, and takes his time."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_lock_on_the_file_is_waited_out_and_nothing_is_lost(
    tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with PatientStore(path, tmp_path, patience_s=0.2) as trainer:
        trainer.ask([make_query(0)])
        with locked(path):
            assert trainer.add([make_preference(0)]) == []
            trainer.ask([make_query(1)])
            assert trainer.news() == ([], [], (0, 0))
            assert trainer.waiting == 2
            began = time.monotonic()
            for _ in range(20):
                trainer.counts()
            assert time.monotonic() - began < 2  # not 20 times its patience
        trainer.settle(wait_s=20)
        assert trainer.waiting == 0
        assert content(trainer.news()[0]) == content([make_preference(0)])
        assert trainer.counts() == Counts(asked=2, answered=1, skipped=0, seconds=2.5, open=1)
    assert capsys.readouterr().err.count("Training goes on") == 1
    assert not (tmp_path / SPILLED).exists()


def test_what_cannot_be_recorded_in_the_end_is_kept_in_the_runs_folder_and_can_be_imported(
    tmp_path: Path, path: Path
) -> None:
    with PatientStore(path, tmp_path, patience_s=0.1) as trainer:
        trainer.ask([make_query(number) for number in range(3)])
        trainer.add([make_preference(0)])
        with locked(path):
            trainer.add([make_preference(1), make_preference(2, mu=None)])
            trainer.ask([make_query(3)])
            with pytest.raises(UserError, match="2 answers and 1 questions could not be recorded") as caught:
                trainer.settle(wait_s=0.3)
        assert_one_sentence(caught.value, names=tmp_path / SPILLED)
    assert main(["labels", "import", str(tmp_path / SPILLED), "--out", str(path)]) == 0
    with Store(path) as store:
        assert store.counts() == Counts(asked=4, answered=2, skipped=1, seconds=7.5, open=1)


def test_a_run_that_is_stopped_leaves_what_waits_too(
    tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> None:
        with PatientStore(path, tmp_path, patience_s=0.1) as trainer:
            trainer.ask([make_query(0)])
            with locked(path):
                trainer.add([make_preference(0)])
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert "1 answers and 0 questions could not be recorded" in capsys.readouterr().err
    with Store.reading(tmp_path / SPILLED) as store:
        assert content(store.answers()[0]) == content([make_preference(0)])


def test_a_file_that_is_removed_or_replaced_is_noticed(tmp_path: Path, path: Path) -> None:
    """SQLite itself goes on writing to a file that has no name any more."""
    with Store(path) as store:
        store.add([make_preference(0)])
        path.unlink()
        with pytest.raises(UnreachableError, match="has been removed") as caught:
            store.add([make_preference(1)])
        assert_one_sentence(caught.value, names=path)
        Store(path).close()
        with pytest.raises(UnreachableError, match="another file put in its place"):
            store.answers()
    with PatientStore(tmp_path / "gone.sqlite", tmp_path) as trainer:
        trainer.ask([make_query(0)])
        (tmp_path / "gone.sqlite").unlink()
        trainer.add([make_preference(0)])
        with pytest.raises(UserError, match="1 answers"):
            trainer.settle(wait_s=0.1)


# What is on disk


def test_a_store_holds_numpy_arrays_and_no_pickles(path: Path) -> None:
    objects = make_segment(0, observations=np.array([[{}], [None], ["x"]], object))
    with Store(path) as store:
        store.ask([make_query(0)])
        with pytest.raises(Exception, match="allow_pickle"):
            store.ask([make_query(1), Query(make_segment(3), objects)])
        assert store.counts().asked == 1  # all or none
    packed = [zlib.decompress(blob) for (blob,) in rows(path, "SELECT steps FROM segments")]
    assert [blob[:6] for blob in packed] == [b"\x93NUMPY"] * 2


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "XYZ-5:30")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_greenwich")
def test_content_does_not_depend_on_the_clock_and_times_are_utc(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    for name in ("one", "two"):
        with Store(tmp_path / name) as store:
            store.ask([make_query(number) for number in range(3)])
            store.add([make_preference(2), make_preference(0)])
    after = datetime.now(UTC).replace(tzinfo=None) + timedelta(microseconds=1)
    for sql in (
        "SELECT * FROM prefrl",
        "SELECT * FROM segments",
        "SELECT id, key, kind FROM queries",
        "SELECT * FROM items",
        "SELECT id, query_key, labeler, mu, seconds FROM answers",
    ):
        assert rows(tmp_path / "one", sql) == rows(tmp_path / "two", sql) != []
    times = rows(tmp_path / "one", "SELECT asked_at FROM queries UNION ALL SELECT answered_at FROM answers")
    assert len(times) == 5
    assert all(before <= datetime.fromisoformat(text) <= after for (text,) in times)


def test_every_commit_is_flushed_and_references_hold(path: Path) -> None:
    with Store(path) as store:
        store.add([make_preference(0)])
        with store._engine.begin() as connection:
            settings = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]
        assert settings == ["wal", 2, 1]  # 2 is FULL
        with pytest.raises(Exception, match="FOREIGN KEY"), store._engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM segments")
        assert len(store.answers()[0]) == 1


def add_for_ever(path: Path, start: int) -> None:
    """Add three answers at a time, saying how many there are after each time."""
    with Store(path) as store:
        for number in range(start, sys.maxsize, 3):
            preferences = [make_preference(number + i, seconds=float(number + i)) for i in range(3)]
            store.ask([p.query for p in preferences])
            store.add(preferences)
            print(number + 3, flush=True)


def test_every_acknowledged_answer_survives_kill_9(path: Path) -> None:
    delays = np.random.default_rng(0).uniform(0.0, 0.05, 5)
    stored = 0
    for delay in delays:
        command = [sys.executable, __file__, str(path), str(stored)]
        found = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}  # where `made` is
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=found)
        with process:
            assert process.stdout is not None
            acknowledged = int(process.stdout.readline())
            threading.Event().wait(delay)
            process.send_signal(signal.SIGKILL)
            acknowledged = int([str(acknowledged), *process.stdout.read().split("\n")[:-1]][-1])
        assert process.returncode == -signal.SIGKILL
        with Store(path) as store:
            found, _ = store.answers()
        stored = len(found)
        assert stored in (acknowledged, acknowledged + 3)  # what was in flight is there whole, or not at all
        assert content(found) == content([make_preference(i, seconds=float(i)) for i in range(stored)])
    assert stored >= 3 * len(delays)


def test_a_full_disk_is_one_sentence_and_loses_nothing(path: Path) -> None:
    code = f"""
import resource, signal, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parent.parent)!r}]
from test_store import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Store(sys.argv[1]) as store:
    store.add([make_preference(0)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    noise = np.random.default_rng(0).normal(size=(3, 100_000))
    large = Query(make_segment(2, observations=noise), make_segment(3))
    try:
        store.add([make_preference(1), Preference(large, 1.0, "oracle", 0.0)])
    except UserError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.add([make_preference(4)])
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"cannot use {path} as a store (")
    with Store(path) as store:
        assert content(store.answers()[0]) == content([make_preference(0), make_preference(4)])


# Several at once


def test_stores_created_at_once_on_one_file_take_turns(path: Path) -> None:
    start = threading.Barrier(6)
    preferences = [make_preference(number) for number in range(40)]

    def work(worker: int) -> None:
        start.wait()
        with Store(path) as store:
            for number in range(0, 40, 4):
                store.ask([p.query for p in preferences[number : number + 4]])
                store.add(preferences[number : number + 4])
                store.add([replace(preferences[number], labeler=f"worker {worker}")])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    with Store(path) as store:
        assert store.counts() == Counts(asked=40, answered=40 + 6 * 10, skipped=0, seconds=2.5 * 100)
    assert [number for (number,) in rows(path, "SELECT id FROM answers ORDER BY id")] == list(range(1, 101))


@pytest.mark.parametrize("where", ["file", ":memory:"])
def test_threads_may_share_a_store_and_a_watcher_sees_every_answer_once(path: Path, where: str) -> None:
    seen: list[Preference] = []
    with Store(path if where == "file" else where) as store:

        def watch() -> None:
            after = 0
            while len(seen) < 80:
                new, after = store.answers(after)
                seen.extend(new)
                threading.Event().wait(0.002)

        with ThreadPoolExecutor(5) as pool:
            watching = pool.submit(watch)
            list(pool.map(lambda n: store.add([make_preference(n), make_preference(n + 40)]), range(40)))
            watching.result(timeout=30)
        assert content(seen) == content(store.answers()[0])
    assert len(seen) == 80


# What goes wrong


@contextmanager
def nobody_may_write(folder: Path) -> Iterator[None]:
    """Not even the superuser, who is somebody else meanwhile."""
    superuser = os.geteuid() == 0
    above = [parent for parent in folder.parents if superuser and parent.stat().st_uid == 0 and parent != Path("/")]
    modes = {parent: parent.stat().st_mode & 0o7777 for parent in (folder, *above)}
    for parent in above:
        parent.chmod(modes[parent] | 0o055)  # pytest's folders are closed to others
    folder.chmod(0o555)
    if superuser:
        os.seteuid(65534)
    try:
        yield
    finally:
        if superuser:
            os.seteuid(0)
        for parent, mode in modes.items():
            parent.chmod(mode)


@contextmanager
def read_only_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    with nobody_may_write(folder):
        yield folder
    folder.rmdir()


def assert_one_sentence(error: UserError, *, names: object) -> None:
    assert str(names) in str(error)
    assert "\n" not in str(error)
    assert str(error).endswith(".")


def test_a_read_only_folder_is_one_sentence() -> None:
    with read_only_folder() as folder:
        with pytest.raises(UserError, match="can be written to") as caught:
            Store(folder / "labels.sqlite")
        assert_one_sentence(caught.value, names=folder / "labels.sqlite")


def test_a_store_that_became_read_only_is_one_sentence(path: Path) -> None:
    Store(path).close()
    with Store(f"sqlite:///file:{path}?mode=ro&uri=true") as store:
        with pytest.raises(UserError, match="can be written to"):
            store.add([make_preference(0)])
        assert store.counts().answered == 0


def make_text(path: Path) -> None:
    path.write_text("These are my notes, and they are long enough to be taken for a database's header. " * 9)


def make_someone_elses_database(path: Path) -> None:
    rows(path, "CREATE TABLE recipes (name)")


def make_newer_store(path: Path) -> None:
    Store(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE prefrl SET schema_version = schema_version + 1")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_text, "not a database"),
        (make_someone_elses_database, "something else"),
        (make_newer_store, f"has schema version {SCHEMA_VERSION + 1} and this prefrl reads {SCHEMA_VERSION}"),
        (Path.mkdir, "unable to open"),
    ],
)
def test_what_is_not_a_store_is_one_sentence_and_left_alone(
    path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(UserError, match=message) as caught:
        Store(path)
    assert_one_sentence(caught.value, names=path)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "such" / "labels.sqlite"
    with pytest.raises(UserError, match="a folder that exists") as caught:
        Store(missing)
    assert_one_sentence(caught.value, names=missing)
    assert not missing.parent.exists()


@pytest.mark.parametrize(
    "url",
    [
        "postgres://ann:secret@host/db",
        "mysql+nosuchdriver://ann:secret@host/db",
        "postgresql://ann:secret@host:port/db",
        "sqlite://host/labels.sqlite",
        "://x",
    ],
)
def test_a_url_that_leads_nowhere_is_one_sentence_without_its_password(url: str) -> None:
    with pytest.raises(UserError, match="leads nowhere") as caught:
        Store(url)
    assert_one_sentence(caught.value, names=url.partition("://")[0])
    assert "secret" not in str(caught.value)


def test_a_store_migrated_while_it_is_open_is_not_written_to(path: Path) -> None:
    with Store(path) as store:
        store.add([make_preference(0)])
        make_newer = sqlite3.connect(path)
        with closing(make_newer), make_newer:
            make_newer.execute("UPDATE prefrl SET schema_version = schema_version + 1")
        with pytest.raises(UserError, match="schema version"):
            store.add([make_preference(1)])
        assert store.counts() == Counts(1, 1, 0, 2.5)


if __name__ == "__main__":
    add_for_ever(Path(sys.argv[1]), int(sys.argv[2]))


# Questions about more than two


def ranking(number: int = 0, kind: str = "ranking") -> Query:
    return Query.of([make_segment(10 * number + i) for i in range(4)], kind)


def test_rankings_are_leased_answered_taken_back_and_refused_as_pairs_are(path: Path) -> None:
    asked = [ranking(0), ranking(1, "best"), make_query(50)]
    with Store(path) as store:
        store.ask(asked)
        assert [query.key for query in store.unanswered(9)] == [query.key for query in asked]
        leases = store.lease("ann", 9, 60.0)
        assert [(lease.kind, len(lease.clips)) for lease in leases] == [("ranking", 4), ("best", 4), ("pair", 2)]
        assert leases[0].clips == tuple(segment.key for segment in asked[0].segments)
        first, best, pair = leases
        for lease, mu, choice in ((first, 1.0, None), (first, None, "0"), (best, None, "0>1"), (pair, None, "0")):
            with pytest.raises(RefusedError) as caught:
                store.answer(lease.key, "ann", lease.ticket, mu, 1.0, choice)
            assert "this is no answer to that question" in sentence(caught.value)
        store.answer(first.key, "ann", first.ticket, None, 1.0, "2>0=1>3")
        store.answer(first.key, "ann", first.ticket, None, 1.0, "2>0=1>3")  # the same again
        with pytest.raises(RefusedError, match="another answer of yours"):
            store.answer(first.key, "ann", first.ticket, None, 1.0, "3>2>1>0")
        store.answer(best.key, "ann", best.ticket, None, 1.0, "3", 0.5)
        assert [(a.mu, a.choice, a.strength) for a in store.answers()[0]] == [(None, "2>0=1>3", None), (None, "3", 0.5)]
        assert [(given.kind, given.choice) for given in store.given()] == [("best", "3"), ("ranking", "2>0=1>3")]
        assert store.counts() == Counts(asked=3, answered=2, skipped=0, seconds=2.0, open=1)
        place = store.place()
        again = store.withdraw("ann", 60.0)
        assert again is not None
        assert (again.key, again.clips) == (best.key, best.clips)
        answers, withdrawn, _ = store.news(place)
        assert (answers, withdrawn) == ([], [(best.key, "ann")])
        assert store.occasions() == [tuple(s.occasion for s in query.segments) for query in asked]
    with Store(path) as store:
        (kept,) = store.answers()[0]
    assert kept.query.key == asked[0].key
    assert kept.ranks == (1, 1, 0, 2)


def test_agreement_about_rankings_is_over_every_two_and_about_the_best_over_which_it_is() -> None:
    def kappa(kind: str, *said: tuple[str, str]) -> float:
        with Store(":memory:") as store:
            for number, both in enumerate(said):
                for who, choice in zip(("ann", "bob"), both, strict=True):
                    store.add([Preference(ranking(number, kind), None, who, 1.0, choice=choice)])
            (found,) = agreements(store.given())
            assert found.questions == len(said)
            return found.kappa

    assert kappa("ranking", ("2>0=1>3", "2>0=1>3"), ("0>1>2>3", "0>1>2>3")) == 1.0
    assert -1 <= kappa("ranking", ("0>1>2>3", "3>2>1>0"), ("3>2>1>0", "0>1>2>3")) < -0.9
    assert 0 < kappa("ranking", ("0>1>2>3", "0>1>3>2"), ("3>2>1>0", "3>2>0>1")) < 1
    assert kappa("best", ("1", "1"), ("2", "2"), ("0", "0")) == 1.0
    assert kappa("best", ("1", "2"), ("2", "1")) < 0
