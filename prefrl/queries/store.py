"""Every query and every answer, durably: what `Store.add` or `Store.answer` was given is on disk when it returns.

One store is one database of one run, an SQLite file unless a URL names another kind. Nothing recorded is ever lost: an
answer that somebody takes back moves, whole, to the withdrawals. Nothing is pickled.

Questions are of several kinds (`prefrl.words.preference.KINDS`), in one table, with what each shows in another.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import sqlite3
import tempfile
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import sqlalchemy as sa

from prefrl.queries.store_tables import (
    ANSWERS,
    ARRAYS,
    INTEGERS,
    ITEMS,
    LEASES,
    MIGRATIONS,
    QUERIES,
    RUN,
    SCHEMA_VERSION,
    SEGMENTS,
    TABLES,
    VERSION,
    WITHDRAWALS,
    utc_now,
)
from prefrl.words.errors import UserError
from prefrl.words.preference import Occasion, Preference, Query, Segment, misfit

WRITES = "prefrl_writes"  # an execution option: this transaction will write
PATIENCE_S = 30.0  # for a turn in a file that others write to
DECIDED = sa.or_(ANSWERS.c.mu.is_not(None), ANSWERS.c.choice.is_not(None))
SAID = ("mu", "choice", "strength")  # of an answer


class UnreachableError(UserError):
    """The database does not answer, or has no room: what could not be written now may be written later."""


class NothingThereError(UserError):
    """There is no store to look at: no such file, or an empty database."""


class RefusedError(UserError):
    """An answer that cannot be taken: nobody asked for it, or another one was given before."""


@dataclass(frozen=True)
class Counts:
    """What a store holds: different queries, answers that state a preference and answers that do not, their time."""

    asked: int
    answered: int  # "equally good" included; two people's answers to one query are two
    skipped: int
    seconds: float  # of all answers, skips included
    open: int = 0  # queries that somebody is still to answer
    withdrawn: int = 0  # answers taken back


@dataclass(frozen=True)
class Lease:
    """A question that is somebody's to answer, for a while; the ticket proves it."""

    key: str
    kind: str
    clips: tuple[str, ...]  # keys of its segments, in the order they are shown
    ticket: str


@dataclass(frozen=True)
class Given:
    """One answer, without its segments: who, when, what, how long it took, and how far the policy was."""

    key: str
    labeler: str
    mu: float | None
    seconds: float
    answered_at: datetime
    step: int
    choice: str | None = None
    kind: str = "pair"


Rows = dict[str, list[dict[str, Any]]]
"""Everything a store holds but its leases, by table: segments, queries, items, answers, withdrawals."""


class Store:
    """Queries and answers in a database; a context manager. Threads may share one, processes open one each.

    Every method raises UserError when the database cannot be reached, read or written.
    """

    def __init__(self, url: str | Path, patience_s: float = PATIENCE_S, read_only: bool = False) -> None:
        """Open a store, new where there is none; one of an older schema is migrated.

        Its `url` is the path of an SQLite file, ":memory:" (gone when closed), or a URL as SQLAlchemy reads it. For a
        turn in a file it waits `patience_s` seconds. Raises UserError when that leads nowhere, or to something else
        than a store that this version can read.
        """
        self.read_only = read_only
        self._file: tuple[Path, tuple[int, int]] | None = None  # of SQLite: where it is, and which it was when opened
        self._engine, self._name = _connect_to_read(url) if read_only else _connect(url, patience_s)
        self._turn = threading.Lock()
        try:
            if read_only:
                self._look()
            else:
                self._create_or_migrate()
                if self._engine.dialect.name == "sqlite" and Path(self._name).is_file():
                    self._file = Path(self._name), _identity(Path(self._name))
        except BaseException:
            self.close()
            raise

    @classmethod
    def reading(cls, url: str | Path) -> Store:
        """A store to look at: nothing is created, migrated or written, not even beside it.

        An older one in a file is seen through a copy in memory, which is migrated.

        Raises:
            NothingThereError: there is none.
            UserError: it cannot be read, is something else, or is an older one on a server.
        """
        return cls(url, read_only=True)

    def _create_or_migrate(self) -> None:
        with self._transaction(writes=True) as connection:
            if connection.dialect.name == "postgresql":  # which lets two create one table at once, and fail
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(zlib.crc32(b"prefrl"))))
            connection.execute(sa.schema.CreateTable(VERSION, if_not_exists=True))  # first: creators take turns
            if sa.inspect(connection).get_table_names() == [VERSION.name]:
                TABLES.create_all(connection)
                connection.execute(sa.insert(VERSION).values(schema_version=SCHEMA_VERSION))
            _migrate(connection)
            self._check_version(connection.execute(sa.select(VERSION)).scalar())

    def _look(self) -> None:
        with self._transaction() as connection:
            names = sa.inspect(connection).get_table_names()
            if not names:
                raise NothingThereError(f"there is no store at {self._name}: it is an empty database.")
            version = connection.execute(sa.select(VERSION)).scalar() if VERSION.name in names else None
        if version in MIGRATIONS and self._engine.dialect.name == "sqlite":
            copy = sqlite3.connect(":memory:", check_same_thread=False)
            with closing(self._engine.raw_connection()) as there:
                cast(sqlite3.Connection, there.driver_connection).backup(copy)
            self._engine.dispose()
            self._engine = _sqlite_engine(sa.URL.create("sqlite"), creator=lambda: copy)
            with self._transaction() as connection:
                version = _migrate(connection)
        elif version in MIGRATIONS:
            raise UserError(
                f"the store {self._name} has schema version {version} and this prefrl reads {SCHEMA_VERSION}: looking "
                f"changes nothing there, and `prefrl label`, or `prefrl labels import` into it, brings it up to date."
            )
        self._check_version(version)

    def claim(self, folder: Path) -> None:
        """Make this the store of the run in that folder, and of no other.

        Raises:
            UserError: it is another run's, or holds questions already.
        """
        owner = _owner(folder)
        with self._writing() as connection:
            before = connection.execute(sa.select(RUN.c.owner)).scalar()
            if before == owner:
                return
            asked = connection.execute(sa.select(sa.func.count()).select_from(QUERIES)).scalar()
            if before is not None or asked:
                by = f" ({before})" if before else ""
                raise UserError(
                    f"the store {self._name} holds {asked} questions of another run{by}: give an empty database, or "
                    f"start from its answers with --labels-from."
                )
            connection.execute(sa.insert(RUN).values(id=1, owner=owner))

    def release(self, folder: Path) -> None:
        """Let another run have the store, if it is of the run in that folder and nothing has been asked."""
        unused = sa.and_(RUN.c.owner == _owner(folder), ~sa.exists().select_from(QUERIES))
        with self._writing() as connection:
            connection.execute(sa.delete(RUN).where(unused))

    def is_of_another(self, folder: Path) -> bool:
        """Whether another run than the one in that folder has claimed the store."""
        with self._transaction() as connection:
            return connection.execute(sa.select(RUN.c.owner)).scalar() not in (None, _owner(folder))

    def ask(self, queries: Sequence[Query], second_opinions: float = 0.0) -> None:
        """Record that these were asked, all or none; a query asked before is kept as it was.

        A share `second_opinions` of them, told by their keys, is asked of two people.
        """
        with self._writing() as connection:
            _record_queries(connection, queries, second_opinions)

    def add(self, preferences: Sequence[Preference]) -> list[Preference]:
        """Record these answers, all or none, on disk when this returns; those that were taken, in order.

        Of several answers by one labeler to one query the first is taken. A query that was never asked here is recorded
        too, so the answers of one store can be added to another.
        """
        rows = [
            {"query_key": p.query.key, "labeler": p.labeler, "seconds": p.seconds}
            | {name: getattr(p, name) for name in (*SAID, "critique")}
            for p in preferences
        ]
        first: dict[tuple[str, str], Preference] = {}
        for p in preferences:
            first.setdefault((p.query.key, p.labeler), p)
        with self._writing() as connection:
            _record_queries(connection, [p.query for p in preferences])
            taken = _record_answers(connection, rows)
        return [first[row["query_key"], row["labeler"]] for row in taken]

    def answers(self, after: int = 0) -> tuple[list[Preference], int]:
        """Answers in order of arrival, skips included, and the id to give as `after` for those yet to arrive.

        Equal queries are one object, and so are equal segments of one occasion, among the answers of one call.
        """
        with self._transaction() as connection:
            return _read_answers(connection, after)

    def news(self, after: tuple[int, int] = (0, 0)) -> tuple[list[Preference], list[tuple[str, str]], tuple[int, int]]:
        """What happened since: answers that arrived, then (query key, labeler) of earlier ones that were taken back.

        What was taken back comes first, in time: a query among both has been answered anew. A skip that is taken back
        is no news: nothing was learned from it. The third is what to give as `after` the next time.
        """
        gone = sa.select(WITHDRAWALS).where(WITHDRAWALS.c.id > after[1]).order_by(WITHDRAWALS.c.id)
        with self._moment() as connection:
            answers, last = _read_answers(connection, after[0])
            rows = connection.execute(gone).all()
        decided = [row for row in rows if row.mu is not None or row.choice is not None]
        withdrawn = [(row.query_key, row.labeler) for row in decided if row.answer_id <= after[0]]
        return answers, withdrawn, (last, rows[-1].id if rows else after[1])

    def place(self) -> tuple[int, int]:
        """Where the news ends by now, as `news` takes it."""
        ends = [sa.select(sa.func.max(table.c.id)).scalar_subquery() for table in (ANSWERS, WITHDRAWALS)]
        with self._transaction() as connection:
            answer, withdrawal = connection.execute(sa.select(*ends)).one()
        return answer or 0, withdrawal or 0

    def occasions(self) -> list[tuple[Occasion, ...]]:
        """Of every question that was asked: when its segments were cut, in the order they are shown."""
        columns = [QUERIES.c.id, *(ITEMS.c[name] for name in Occasion._fields)]
        shown = sa.select(*columns).select_from(QUERIES.join(ITEMS, ITEMS.c.query_key == QUERIES.c.key))
        with self._transaction() as connection:
            rows = connection.execute(shown.order_by(QUERIES.c.id, ITEMS.c.place)).all()
        every: dict[int, list[Occasion]] = {}
        for number, *occasion in rows:
            every.setdefault(number, []).append(Occasion(*occasion))
        return [tuple(occasions) for occasions in every.values()]

    def lease(self, labeler: str, count: int, seconds: float) -> list[Lease]:
        """Up to `count` questions, oldest first, that are this labeler's alone to answer for so many seconds.

        Those leased before and not answered yet are among them, and are leased anew. A question is never with more
        people at a time than are to answer it, and never with one who has answered it.
        """
        now = utc_now()
        live = sa.and_(LEASES.c.query_key == QUERIES.c.key, LEASES.c.until > now)
        others = sa.select(sa.func.count()).where(live, LEASES.c.labeler != labeler).scalar_subquery()
        mine = sa.exists().where(ANSWERS.c.query_key == QUERIES.c.key, ANSWERS.c.labeler == labeler)
        with self._writing() as connection:
            held = connection.execute(
                sa.select(QUERIES.c.key, QUERIES.c.kind, LEASES.c.ticket)
                .select_from(QUERIES.join(LEASES, live))
                .where(LEASES.c.labeler == labeler)
                .order_by(QUERIES.c.id)
                .limit(count)
            ).all()
            keys = [row.key for row in held]
            free = sa.select(QUERIES.c.key, QUERIES.c.kind)
            free = free.where(QUERIES.c.wanted > 0, others < QUERIES.c.wanted, ~mine)
            free = free.where(QUERIES.c.key.not_in(keys)).order_by(QUERIES.c.id).limit(count - len(held))
            new = connection.execute(free).all() if len(held) < count else []
            if keys:
                yours = sa.and_(LEASES.c.labeler == labeler, LEASES.c.query_key.in_(keys))
                connection.execute(sa.update(LEASES).where(yours).values(until=now + timedelta(seconds=seconds)))
            clips = _clips(connection, [*keys, *(row.key for row in new)])
            leases = [Lease(row.key, row.kind, clips[row.key], row.ticket) for row in held]
            given = [Lease(row.key, row.kind, clips[row.key], _ticket()) for row in new]
            return leases + [_give(connection, lease, labeler, seconds) for lease in given]

    def answer(
        self,
        key: str,
        labeler: str,
        ticket: str,
        mu: float | None,
        seconds: float,
        choice: str | None = None,
        strength: float | None = None,
    ) -> None:
        """Record one answer to a leased question, on disk when this returns; the same again changes nothing.

        What is said is as in `Preference`.

        Raises:
            RefusedError: the question is not this labeler's, is of another kind than the answer, or was answered
                otherwise before; nothing is recorded.
        """
        said = (mu, choice, strength)
        row = {"query_key": key, "labeler": labeler, "seconds": seconds} | dict(zip(SAID, said, strict=True))
        yours = sa.and_(LEASES.c.query_key == key, LEASES.c.labeler == labeler)
        given = sa.select(*(ANSWERS.c[name] for name in SAID))
        given = given.where(ANSWERS.c.query_key == key, ANSWERS.c.labeler == labeler)
        shown = sa.select(sa.func.count()).select_from(ITEMS).where(ITEMS.c.query_key == key).scalar_subquery()
        with self._writing() as connection:
            right = connection.execute(sa.select(LEASES.c.ticket).where(yours)).scalar()
            if right is None or not secrets.compare_digest(right.encode(), ticket.encode()):
                raise RefusedError("this question is not yours to answer, or no longer: take the next one.")
            kind, count = connection.execute(sa.select(QUERIES.c.kind, shown).where(QUERIES.c.key == key)).one()
            if wrong := misfit(kind, count, *said):
                raise RefusedError(f"this is no answer to that question: {wrong}.")
            before = connection.execute(given).all()
            if before and tuple(before[0]) != said:
                raise RefusedError("this question has another answer of yours already: undo that one first.")
            if not before:
                _record_answers(connection, [row])
                connection.execute(sa.update(LEASES).where(yours).values(until=utc_now()))

    def withdraw(self, labeler: str, seconds: float) -> Lease | None:
        """Take back this labeler's newest answer to a question leased here, and lease it anew; None if there is none.

        The answer moves to the withdrawals, and what has been learned from it is for the reader of `news` to forget.
        """
        leased = ANSWERS.join(
            LEASES, sa.and_(LEASES.c.query_key == ANSWERS.c.query_key, LEASES.c.labeler == ANSWERS.c.labeler)
        )
        newest = sa.select(ANSWERS).select_from(leased).where(ANSWERS.c.labeler == labeler)
        with self._writing() as connection:
            row = connection.execute(newest.order_by(ANSWERS.c.id.desc()).limit(1)).mappings().one_or_none()
            if row is None:
                return None
            place = (connection.execute(sa.select(sa.func.max(WITHDRAWALS.c.id))).scalar() or 0) + 1
            connection.execute(sa.insert(WITHDRAWALS).values({**row, "id": place, "answer_id": row["id"]}))
            connection.execute(sa.delete(ANSWERS).where(ANSWERS.c.id == row["id"]))
            this = QUERIES.c.key == row["query_key"]
            connection.execute(sa.update(QUERIES).where(this).values(wanted=QUERIES.c.wanted + 1))
            kind = connection.execute(sa.select(QUERIES.c.kind).where(this)).scalar_one()
            clips = _clips(connection, [row["query_key"]])[row["query_key"]]
            return _give(connection, Lease(row["query_key"], kind, clips, _ticket()), labeler, seconds)

    def unanswered(self, most: int, asked_before: datetime | None = None) -> list[Query]:
        """The oldest questions that nobody has answered and nobody has before them, at most so many."""
        answered = sa.exists().where(ANSWERS.c.query_key == QUERIES.c.key)
        shown = sa.exists().where(LEASES.c.query_key == QUERIES.c.key, LEASES.c.until > utc_now())
        early = QUERIES.c.asked_at < (asked_before or utc_now() + timedelta(days=1))
        wanted = sa.select(QUERIES.c.key).where(QUERIES.c.wanted > 0)
        wanted = wanted.where(early, ~answered, ~shown)
        with self._transaction() as connection:
            keys = list(connection.execute(wanted.order_by(QUERIES.c.id).limit(most)).scalars())
            queries = _read_queries(connection, keys)
        return [queries[key] for key in keys]

    def segment(self, key: str) -> Segment | None:
        """The segment of this key, if there is one."""
        with self._transaction() as connection:
            row = connection.execute(sa.select(SEGMENTS).where(SEGMENTS.c.key == key)).one_or_none()
        return None if row is None else Segment(*row[1], *row[2:])

    def given(self, newest: int | None = None) -> list[Given]:
        """Answers without their segments, newest first, all or so many of the newest."""
        first = sa.and_(ITEMS.c.query_key == QUERIES.c.key, ITEMS.c.place == 0)
        about = QUERIES.join(ANSWERS, ANSWERS.c.query_key == QUERIES.c.key).join(ITEMS, first)
        columns = [ANSWERS.c[name] for name in ("query_key", "labeler", "mu", "seconds", "answered_at")]
        chosen = sa.select(*columns, ITEMS.c.step, ANSWERS.c.choice, QUERIES.c.kind).select_from(about)
        with self._transaction() as connection:
            rows = connection.execute(chosen.order_by(ANSWERS.c.id.desc()).limit(newest))
            return [Given(*row[:4], _utc(row[4]), row.step, row.choice, row.kind) for row in rows]

    def counts(self) -> Counts:
        """How much was asked, answered and skipped, how long answering took, what is open and what was taken back."""
        answers, answered = sa.func.count(ANSWERS.c.id), sa.func.count(sa.case((DECIDED, 1)))
        seconds = sa.func.coalesce(sa.func.sum(ANSWERS.c.seconds), 0.0)
        asked, wanted, withdrawn = (
            sa.select(sa.func.count()).select_from(table).where(which).scalar_subquery()
            for table, which in ((QUERIES, sa.true()), (QUERIES, QUERIES.c.wanted > 0), (WITHDRAWALS, sa.true()))
        )
        every = sa.select(asked, answered, answers - answered, seconds, wanted, withdrawn)
        with self._transaction() as connection:
            return Counts(*connection.execute(every).one())

    def dump(self) -> Rows:
        """Everything that was asked, answered and taken back, as `restore` takes it."""
        order = (SEGMENTS.c.key, QUERIES.c.id, ITEMS.c.query_key, ANSWERS.c.id, WITHDRAWALS.c.id)
        with self._moment() as connection:
            tables = {
                column.table.name: connection.execute(
                    sa.select(column.table).order_by(column, *([ITEMS.c.place] if column.table is ITEMS else []))
                )
                .mappings()
                .all()
                for column in order
            }
        return {
            name: [{k: _utc(v) if isinstance(v, datetime) else v for k, v in row.items() if k != "id"} for row in rows]
            for name, rows in tables.items()
        }

    def restore(self, rows: Rows) -> None:
        """Add what another store's `dump` holds, all or none; what is here already is kept as it was.

        Rows from elsewhere go through `prefrl.queries.rows.checked` first.
        """
        with self._writing() as connection:
            _record(connection, rows["segments"], SEGMENTS.c.key)
            _record(connection, rows["queries"], QUERIES.c.key)
            _record(connection, rows["items"], ITEMS.c.query_key, ITEMS.c.place)
            wanted = {row.key: row.wanted for row in connection.execute(sa.select(QUERIES.c.key, QUERIES.c.wanted))}
            _record_answers(connection, rows["answers"])
            for row in rows["queries"]:  # a new query came with what is still wanted; an old one keeps the lesser
                least = min(wanted[row["key"]], row["wanted"])
                this = sa.and_(QUERIES.c.key == row["key"], QUERIES.c.wanted != least)
                connection.execute(sa.update(QUERIES).where(this).values(wanted=least))
            known = {
                (row.query_key, row.labeler, _utc(row.answered_at))
                for row in connection.execute(sa.select(WITHDRAWALS))
            }
            last = connection.execute(sa.select(sa.func.max(WITHDRAWALS.c.id))).scalar() or 0
            place = _next_id(connection)
            new = [w for w in rows["withdrawals"] if (w["query_key"], w["labeler"], w["answered_at"]) not in known]
            for i, row in enumerate(new):
                values = {**row, "id": last + 1 + i, "answer_id": place + i}
                connection.execute(sa.insert(WITHDRAWALS).values(values))

    def close(self) -> None:
        """Disconnect; nothing is waiting to be written."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _moment(self) -> Iterator[sa.Connection]:
        """A transaction in which everything is read as it is at one moment, with or without leave to write."""
        with self._transaction() if self.read_only else self._writing() as connection:
            yield connection

    @contextmanager
    def _transaction(self, writes: bool = False) -> Iterator[sa.Connection]:
        """All or nothing; what will write takes its turn in an SQLite file before it reads there.

        SQLite refuses at once, without waiting, to let a reader write when another has written since it began to read.
        """
        if self._file is not None and _identity(self._file[0]) != self._file[1]:
            raise UnreachableError(  # SQLite would go on with a file that nobody finds any more
                f"the store {self._name} has been removed, or another file put in its place: put it back."
            )
        try:
            with self._engine.execution_options(**{WRITES: writes}).begin() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            gone = type(error) is sa.exc.OperationalError or error.connection_invalidated
            if not gone and type(error) is not sa.exc.DatabaseError:  # a mistake of ours, not the user's
                raise
            raise (UnreachableError if gone else UserError)(
                f"cannot use {self._name} as a store ({' '.join(str(error.orig).split())}): give a store's file or a "
                f"new one, in a folder that exists, can be written to and has room, or the URL of a running database."
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction that waits for its turn, on any kind of database, by rewriting the version's only row.

        Hence what is unrecorded stays so until this records it, and the ids of answers grow in the order of commits.
        """
        if self.read_only:
            raise UserError(f"the store {self._name} was opened to be looked at: nothing is written there.")
        turn = sa.update(VERSION).values(schema_version=VERSION.c.schema_version)
        with self._turn, self._transaction(writes=True) as connection:  # threads wait here, and not in the database
            version = connection.execute(turn.returning(VERSION.c.schema_version)).scalar()
            self._check_version(version)  # again: the store may have been migrated since it was opened
            yield connection

    def _check_version(self, version: int | None) -> None:
        if version != SCHEMA_VERSION:
            raise UserError(
                f"the store {self._name} has schema version {version} and this prefrl reads {SCHEMA_VERSION}: use the "
                f"prefrl that wrote it, or a later one."
                if version
                else f"{self._name} is the database of something else: give a store's file, or a new one."
            )


def check_url(url: str | None) -> None:
    """Whether a store's URL may be written down with the run.

    Raises:
        UserError: it cannot be read, or it holds a password.
    """
    if url is not None:
        engine, _ = _connect(url)
        if engine.url.password is not None:
            raise UserError(
                "the store's URL holds a password, which would be written into the run's folder: leave it out, and "
                "give it as PGPASSWORD or in ~/.pgpass."
            )


def check_free(url: str) -> None:
    """Whether a run may take its store there, as far as can be told by looking.

    Raises:
        UserError: it holds questions of another run, cannot be read, or is something else.
    """
    try:
        with Store.reading(url) as store:
            if asked := store.counts().asked:
                raise UserError(
                    f"the store {store._name!r} holds {asked} questions of another run: give an empty database, or "
                    f"start from its answers with --labels-from."
                )
    except NothingThereError:
        pass


def _identity(file: Path) -> tuple[int, int]:
    """Which file it is, whatever its name; (0, 0) for none."""
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def _owner(folder: Path) -> str:
    """A run, as it is known to stores on other machines too."""
    return f"{socket.gethostname()}:{folder.absolute()}"


def _migrate(connection: sa.Connection) -> int:
    """Bring the tables up to date; their version then."""
    while migrate := MIGRATIONS.get(version := connection.execute(sa.select(VERSION)).scalar() or 0):
        migrate(connection)
        connection.execute(sa.update(VERSION).values(schema_version=VERSION.c.schema_version + 1))
    return version


def _connect(url: str | Path, patience_s: float = PATIENCE_S) -> tuple[sa.Engine, str]:
    """The engine, and the store's name without any password."""
    try:
        place = _place(url)
        if place.get_backend_name() != "sqlite":
            limits = {"connect_timeout": 5} if place.get_driver_name().startswith("psycopg") else {}
            engine = sa.create_engine(place, pool_size=10, max_overflow=30, connect_args=limits)
            return engine, place.render_as_string()
        arguments = {"check_same_thread": False, "timeout": patience_s}
        engine = _sqlite_engine(place, connect_args=arguments)
    except (sa.exc.ArgumentError, ImportError, ValueError) as error:
        raise UserError(
            f"the store's URL, {str(url).partition('://')[0]}://..., leads nowhere ({' '.join(str(error).split())}): "
            f"give a file's path, or a URL such as 'postgresql+psycopg://user@host/database' with its driver installed."
        ) from error
    sa.event.listen(engine, "connect", _keep_a_log)
    return engine, place.database or ":memory:"


def _place(url: str | Path) -> sa.URL:
    return sa.make_url(str(url)) if "://" in str(url) else sa.URL.create("sqlite", database=str(url))


def _sqlite_engine(place: sa.URL, **how: Any) -> sa.Engine:
    """One connection: threads share even ":memory:"."""
    engine = sa.create_engine(place, poolclass=sa.QueuePool, pool_size=1, max_overflow=0, **how)
    sa.event.listen(engine, "connect", _set_up_sqlite)
    # Python's driver begins a transaction by itself, but not before it reads or creates tables.
    sa.event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(WRITES) else "BEGIN")


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.executescript("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")


def _keep_a_log(connection: Any, _: Any) -> None:
    """Have readers and a writer not wait for one another: in a store, and never in the database of something else."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
    if not names or VERSION.name in names:
        connection.execute("PRAGMA journal_mode = WAL")


def _connect_to_read(url: str | Path) -> tuple[sa.Engine, str]:
    """As `_connect`, to look and not to touch.

    Raises:
        NothingThereError: there is no such file.
    """
    engine, name = _connect(url)
    if engine.dialect.name != "sqlite":
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True), name
    file = Path(name)
    if not file.is_file() or engine.url.query:
        if name != ":memory:" and not engine.url.query:
            raise NothingThereError(f"there is no store at {name!r}: give the folder of a run, or a store's file.")
        return engine, name
    return _sqlite_engine(engine.url, creator=partial(_open_to_read, file)), name


def _open_to_read(file: Path) -> sqlite3.Connection:
    """A connection that leaves the file, and its folder, as they are.

    What was written last may lie in a log beside the file. Where the log has its index, somebody is at work there or
    was killed, and SQLite reads both without writing. Where it has none, SQLite would write one: a copy is read. Where
    there is no log nobody is writing, and SQLite is told so, or it would begin one.
    """
    log, index = (file.with_name(file.name + ending) for ending in ("-wal", "-shm"))
    uri = file.absolute().as_uri()
    to_read = partial(sqlite3.connect, uri=True, check_same_thread=False, timeout=PATIENCE_S)
    if log.exists() and log.stat().st_size and not index.exists():
        copy = sqlite3.connect(":memory:", check_same_thread=False)
        with tempfile.TemporaryDirectory(prefix="prefrl-") as folder:
            for part in (file, log):
                shutil.copyfile(part, Path(folder) / part.name)
            with closing(sqlite3.connect(Path(folder) / file.name)) as whole:
                whole.backup(copy)
        return copy
    connection = to_read(f"{uri}?mode=ro" if log.exists() and index.exists() else f"{uri}?mode=ro&immutable=1")
    connection.execute("PRAGMA query_only = ON")
    return connection


def _record_queries(connection: sa.Connection, queries: Sequence[Query], second_opinions: float = 0.0) -> None:
    """Segments with one `key` become one, with the origin (step, seed, episode, ...) of the first."""
    rows = [
        {"key": s.key, "steps": [getattr(s, name) for name in ARRAYS], "env_id": s.env_id, "scene": s.scene}
        | {name: getattr(s, name) for name in INTEGERS}
        for query in queries
        for s in query.segments
    ]
    _record(connection, rows, SEGMENTS.c.key)
    rows = [
        {"key": q.key, "kind": q.kind, "wanted": 1 + (int(q.key, 16) < second_opinions * 16 ** len(q.key))}
        for q in queries
    ]
    new = {row["key"] for row in _record(connection, rows, QUERIES.c.key)}
    rows = [
        {"query_key": q.key, "place": place, "segment_key": s.key} | {name: getattr(s, name) for name in INTEGERS}
        for q in queries
        if q.key in new
        for place, s in enumerate(q.segments)
    ]
    _record(connection, rows, ITEMS.c.query_key, ITEMS.c.place)


def _record_answers(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that are new, each with the next id, and one person fewer still to be asked."""
    new = _record(connection, rows, ANSWERS.c.query_key, ANSWERS.c.labeler, first_id=_next_id(connection))
    fewer = sa.update(QUERIES).where(QUERIES.c.key == sa.bindparam("of"), QUERIES.c.wanted > 0)
    if new:
        connection.execute(fewer.values(wanted=QUERIES.c.wanted - 1), [{"of": row["query_key"]} for row in new])
    return new


def _next_id(connection: sa.Connection) -> int:
    """Of the next answer: one that no answer had, not even one taken back."""
    used = [sa.select(sa.func.max(column)).scalar_subquery() for column in (ANSWERS.c.id, WITHDRAWALS.c.answer_id)]
    return max(last or 0 for last in connection.execute(sa.select(*used)).one()) + 1


def _record(
    connection: sa.Connection, rows: Iterable[dict[str, Any]], *key: sa.Column[Any], first_id: int | None = None
) -> list[dict[str, Any]]:
    """Insert the first of the rows with equal `key` columns, in the order given, unless the table has one already.

    Returns those inserted; with `first_id` they have ids that count from it.
    """
    new: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
        new.setdefault(tuple(plain[column.name] for column in key), plain)
    some = [values[0] for values in new]
    for start in range(0, len(some), 500):  # databases limit the parameters of a statement, some to 999
        for old in connection.execute(sa.select(*key).where(key[0].in_(some[start : start + 500]))):
            new.pop(tuple(old), None)
    inserted = list(new.values())
    if first_id is not None:
        inserted = [{**row, "id": first_id + i} for i, row in enumerate(inserted)]
    if inserted:
        connection.execute(sa.insert(key[0].table), inserted)
    return inserted


def _read_answers(connection: sa.Connection, after: int) -> tuple[list[Preference], int]:
    rows = connection.execute(sa.select(ANSWERS).where(ANSWERS.c.id > after).order_by(ANSWERS.c.id)).all()
    queries = _read_queries(connection, [row.query_key for row in rows])
    preferences = [
        Preference(
            queries[r.query_key],
            r.mu,
            r.labeler,
            r.seconds,
            choice=r.choice,
            strength=r.strength,
            critique=r.critique,
        )
        for r in rows
    ]
    return preferences, rows[-1].id if rows else after


def _read_queries(connection: sa.Connection, keys: Sequence[str]) -> dict[str, Query]:
    """Questions by key, which is the store's own."""
    kinds: dict[str, str] = {}
    shown: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    held: dict[str, Any] = {}
    distinct = list(dict.fromkeys(keys))
    for start in range(0, len(distinct), 500):
        some = sa.select(QUERIES.c.key, QUERIES.c.kind).where(QUERIES.c.key.in_(distinct[start : start + 500]))
        kinds |= {row.key: row.kind for row in connection.execute(some)}
        items = sa.select(ITEMS).where(ITEMS.c.query_key.in_(distinct[start : start + 500]))
        for key, _, segment_key, *origin in connection.execute(items.order_by(ITEMS.c.query_key, ITEMS.c.place)):
            shown.setdefault(key, []).append((segment_key, tuple(origin)))
            held[segment_key] = None
    needed = list(held)
    for start in range(0, len(needed), 500):
        chosen = sa.select(SEGMENTS.c.key, SEGMENTS.c.steps, SEGMENTS.c.env_id, SEGMENTS.c.scene)
        for row in connection.execute(chosen.where(SEGMENTS.c.key.in_(needed[start : start + 500]))):
            held[row.key] = row
    segments: dict[tuple[str, tuple[int, ...]], Segment] = {}
    for item in (item for items in shown.values() for item in items):
        if item not in segments:
            row = held[item[0]]
            columns: tuple[Any, ...] = (*row.steps, row.env_id, *item[1], row.scene)
            segments[item] = Segment(*columns)
    return {key: Query.of([segments[item] for item in items], kinds[key], asked_as=key) for key, items in shown.items()}


def _clips(connection: sa.Connection, keys: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The keys of the segments of a few questions, in the order they are shown."""
    items = sa.select(ITEMS.c.query_key, ITEMS.c.segment_key).where(ITEMS.c.query_key.in_(keys))
    shown: dict[str, tuple[str, ...]] = {}
    for key, segment in connection.execute(items.order_by(ITEMS.c.query_key, ITEMS.c.place)):
        shown[key] = (*shown.get(key, ()), segment)
    return shown


def _ticket() -> str:
    return secrets.token_hex(16)


def _give(connection: sa.Connection, lease: Lease, labeler: str, seconds: float) -> Lease:
    """Record the lease, in place of an older one of the same question to the same labeler."""
    connection.execute(sa.delete(LEASES).where(LEASES.c.query_key == lease.key, LEASES.c.labeler == labeler))
    until = utc_now() + timedelta(seconds=seconds)
    values = {"query_key": lease.key, "labeler": labeler, "ticket": lease.ticket, "until": until}
    connection.execute(sa.insert(LEASES).values(values))
    return lease


def _utc(time: datetime) -> datetime:
    """SQLite keeps no time zone: all times are UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
