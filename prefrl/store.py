"""Every query and every answer, durably: what `Store.add` or `Store.answer` was given is on disk when it returns.

One store is one database of one run, an SQLite file unless a URL names another kind. Nothing recorded is ever lost: an
answer that somebody takes back moves, whole, to the withdrawals. Nothing is pickled.
"""

from __future__ import annotations

import io
import secrets
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from prefrl.preference import Preference, Query, Segment, UserError

SCHEMA_VERSION = 2  # one more with every change to the tables below, and a line in _MIGRATIONS
_ARRAYS = ("observations", "actions", "rewards")
_INTEGERS = ("step", "seed", "env_index", "episode", "offset")


class _Steps(sa.TypeDecorator[Any]):
    """A segment's arrays as one table, a row for each step: NumPy's .npy format without pickle, compressed."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> bytes:
        """Pack observations, actions and rewards."""
        arrays = dict(zip(_ARRAYS, value, strict=True))
        table = np.empty(len(value[0]), [(name, array.dtype, array.shape[1:]) for name, array in arrays.items()])
        for name, array in arrays.items():
            table[name] = array
        return _pack(table)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> list[Any]:
        """Unpack them."""
        table = _unpack(value)
        return [table[name] for name in _ARRAYS]


class _Scene(sa.TypeDecorator[Any]):
    """What a segment can be drawn from, one array, packed as the steps are; NULL where nobody was to look."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> bytes | None:
        """Pack it."""
        return None if value is None else _pack(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        """Unpack it."""
        return None if value is None else _unpack(value)


def _pack(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return zlib.compress(buffer.getvalue(), level=1)


def _unpack(packed: bytes) -> NDArray[Any]:
    return np.lib.format.read_array(io.BytesIO(zlib.decompress(packed)), allow_pickle=False)


def _now() -> datetime:
    return datetime.now(UTC)


_TABLES = sa.MetaData()
_VERSION = sa.Table("prefrl", _TABLES, sa.Column("schema_version", sa.Integer, primary_key=True, autoincrement=False))
_SEGMENTS = sa.Table(
    "segments",
    _TABLES,
    sa.Column("key", sa.String(32), primary_key=True),
    sa.Column("steps", _Steps, nullable=False),
    sa.Column("env_id", sa.String, nullable=False),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in _INTEGERS),
    sa.Column("scene", _Scene),  # all columns in Segment's order
)
_QUERIES = sa.Table(
    "queries",
    _TABLES,
    sa.Column("id", sa.Integer, primary_key=True),  # in the order asked
    sa.Column("key", sa.String(32), nullable=False, unique=True),
    sa.Column("left_key", sa.ForeignKey(_SEGMENTS.c.key), nullable=False),
    sa.Column("right_key", sa.ForeignKey(_SEGMENTS.c.key), nullable=False),
    sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False, default=_now),
    sa.Column("wanted", sa.Integer, nullable=False, default=1),  # people who are still to be asked
    sa.Index("queries_wanted", "id", sqlite_where=sa.text("wanted > 0"), postgresql_where=sa.text("wanted > 0")),
)


def _answer() -> list[sa.Column[Any]]:
    return [
        sa.Column("query_key", sa.ForeignKey(_QUERIES.c.key), nullable=False),
        sa.Column("labeler", sa.String, nullable=False),
        sa.Column("mu", sa.Double),  # weight on the left segment; NULL is a skip
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False, default=_now),
    ]


_ANSWERS = sa.Table(
    "answers",
    _TABLES,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # in the order of arrival, never used twice
    *_answer(),
    sa.UniqueConstraint("query_key", "labeler"),
)
_WITHDRAWALS = sa.Table(  # answers that were taken back, whole
    "withdrawals",
    _TABLES,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # in the order they were taken back
    sa.Column("answer_id", sa.Integer, nullable=False, unique=True),
    *_answer(),
    sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=False, default=_now),
)
_LEASES = sa.Table(  # who was shown what; a question that nobody answers in time goes to somebody else
    "leases",
    _TABLES,
    sa.Column("query_key", sa.ForeignKey(_QUERIES.c.key), primary_key=True),
    sa.Column("labeler", sa.String, primary_key=True),
    sa.Column("ticket", sa.String(32), nullable=False),
    sa.Column("until", sa.DateTime(timezone=True), nullable=False),
    sa.Index("leases_until", "labeler", "until"),
)


def _migrate_1(connection: sa.Connection) -> None:
    """To version 2: pictures, leases, withdrawals, and how many people a question is still for."""
    connection.execute(sa.text("ALTER TABLE segments ADD COLUMN scene " + _binary(connection)))
    connection.execute(sa.text("ALTER TABLE queries ADD COLUMN wanted INTEGER NOT NULL DEFAULT 1"))
    _TABLES.create_all(connection, [_WITHDRAWALS, _LEASES])
    for index in _QUERIES.indexes:
        index.create(connection)
    answered = sa.select(_ANSWERS.c.query_key)
    connection.execute(sa.update(_QUERIES).where(_QUERIES.c.key.in_(answered)).values(wanted=0))


def _binary(connection: sa.Connection) -> str:
    return sa.LargeBinary().compile(connection.dialect)


_MIGRATIONS: dict[int, Callable[[sa.Connection], None]] = {1: _migrate_1}


class UnreachableError(UserError):
    """The database does not answer, or has no room: what could not be written now may be written later."""


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
    left_key: str
    right_key: str
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


Rows = dict[str, list[dict[str, Any]]]
"""Everything a store holds but its leases, table by table: segments, queries, answers, withdrawals."""


class Store:
    """Queries and answers in a database; a context manager. Threads may share one, processes open one each.

    Every method raises UserError when the database cannot be reached, read or written.
    """

    def __init__(self, url: str | Path) -> None:
        """Open a store, new where there is none; one of an older schema is migrated.

        Its `url` is the path of an SQLite file, ":memory:" (gone when closed), or a URL as SQLAlchemy reads it. Raises
        UserError when that leads nowhere, or to something else than a store that this version can read.
        """
        self._engine, self._name = _connect(url)
        self._turn = threading.Lock()
        try:
            with self._transaction() as connection:
                if connection.dialect.name == "postgresql":  # which lets two create one table at once, and fail
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(zlib.crc32(b"prefrl"))))
                connection.execute(sa.schema.CreateTable(_VERSION, if_not_exists=True))  # first: creators take turns
                if sa.inspect(connection).get_table_names() == [_VERSION.name]:
                    _TABLES.create_all(connection)
                    connection.execute(sa.insert(_VERSION).values(schema_version=SCHEMA_VERSION))
                while migrate := _MIGRATIONS.get(connection.execute(sa.select(_VERSION)).scalar() or 0):
                    migrate(connection)
                    connection.execute(sa.update(_VERSION).values(schema_version=_VERSION.c.schema_version + 1))
                self._check_version(connection.execute(sa.select(_VERSION)).scalar())
        except BaseException:
            self.close()
            raise

    def ask(self, queries: Sequence[Query], second_opinions: float = 0.0) -> None:
        """Record that these were asked, all or none; a query asked before is kept as it was.

        A share `second_opinions` of them, told by their keys, is asked of two people.
        """
        with self._writing() as connection:
            _record_queries(connection, queries, second_opinions)

    def add(self, preferences: Sequence[Preference]) -> None:
        """Record these answers, all or none, on disk when this returns.

        Of several answers by one labeler to one query the first is kept. A query that was never asked here is recorded
        too, so the answers of one store can be added to another.
        """
        rows = [{"query_key": p.query.key, "labeler": p.labeler, "mu": p.mu, "seconds": p.seconds} for p in preferences]
        with self._writing() as connection:
            _record_queries(connection, [p.query for p in preferences])
            _record_answers(connection, rows)

    def answers(self, after: int = 0) -> tuple[list[Preference], int]:
        """Answers in order of arrival, skips included, and the id to give as `after` for those yet to arrive.

        Equal queries are one object, and so are equal segments, among the answers of one call.
        """
        with self._transaction() as connection:
            return _read_answers(connection, after)

    def news(self, after: tuple[int, int] = (0, 0)) -> tuple[list[Preference], list[tuple[str, str]], tuple[int, int]]:
        """What happened since: answers that arrived, then (query key, labeler) of earlier ones that were taken back.

        What was taken back comes first, in time: a query among both has been answered anew. The third is what to give
        as `after` the next time.
        """
        gone = sa.select(_WITHDRAWALS).where(_WITHDRAWALS.c.id > after[1]).order_by(_WITHDRAWALS.c.id)
        with self._writing() as connection:  # one moment for both
            answers, last = _read_answers(connection, after[0])
            rows = connection.execute(gone).all()
        withdrawn = [(row.query_key, row.labeler) for row in rows if row.answer_id <= after[0]]
        return answers, withdrawn, (last, rows[-1].id if rows else after[1])

    def lease(self, labeler: str, count: int, seconds: float) -> list[Lease]:
        """Up to `count` questions, oldest first, that are this labeler's alone to answer for so many seconds.

        Those leased before and not answered yet are among them, and are leased anew. A question is never with more
        people at a time than are to answer it, and never with one who has answered it.
        """
        now = _now()
        columns = (_QUERIES.c.key, _QUERIES.c.left_key, _QUERIES.c.right_key)
        live = sa.and_(_LEASES.c.query_key == _QUERIES.c.key, _LEASES.c.until > now)
        others = sa.select(sa.func.count()).where(live, _LEASES.c.labeler != labeler).scalar_subquery()
        mine = sa.exists().where(_ANSWERS.c.query_key == _QUERIES.c.key, _ANSWERS.c.labeler == labeler)
        with self._writing() as connection:
            if connection.dialect.name == "postgresql":  # a lease lost to a power cut is no loss
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            held = connection.execute(
                sa.select(*columns, _LEASES.c.ticket)
                .where(live, _LEASES.c.labeler == labeler)
                .order_by(_QUERIES.c.id)
                .limit(count)
            ).all()
            keys = [row.key for row in held]
            free = sa.select(*columns).where(_QUERIES.c.wanted > 0, others < _QUERIES.c.wanted, ~mine)
            free = free.where(_QUERIES.c.key.not_in(keys)).order_by(_QUERIES.c.id).limit(count - len(held))
            new = connection.execute(free).all() if len(held) < count else []
            if keys:
                yours = sa.and_(_LEASES.c.labeler == labeler, _LEASES.c.query_key.in_(keys))
                connection.execute(sa.update(_LEASES).where(yours).values(until=now + timedelta(seconds=seconds)))
            leases = [Lease(*row) for row in held]
            return leases + [_give(connection, Lease(*row, _ticket()), labeler, seconds) for row in new]

    def answer(self, key: str, labeler: str, ticket: str, mu: float | None, seconds: float) -> None:
        """Record one answer to a leased question, on disk when this returns; the same again changes nothing.

        Raises:
            RefusedError: the question is not this labeler's, or was answered otherwise before; nothing is recorded.
        """
        row = {"query_key": key, "labeler": labeler, "mu": mu, "seconds": seconds}
        yours = sa.and_(_LEASES.c.query_key == key, _LEASES.c.labeler == labeler)
        given = sa.select(_ANSWERS.c.mu).where(_ANSWERS.c.query_key == key, _ANSWERS.c.labeler == labeler)
        with self._writing() as connection:
            right = connection.execute(sa.select(_LEASES.c.ticket).where(yours)).scalar()
            if right is None or not secrets.compare_digest(right.encode(), ticket.encode()):
                raise RefusedError("this question is not yours to answer, or no longer: take the next one.")
            before = connection.execute(given).all()
            if before and before[0].mu != mu:
                raise RefusedError("this question has another answer of yours already: undo that one first.")
            if not before:
                _record_answers(connection, [row])
                connection.execute(sa.update(_LEASES).where(yours).values(until=_now()))

    def withdraw(self, labeler: str, seconds: float) -> Lease | None:
        """Take back this labeler's newest answer to a question leased here, and lease it anew; None if there is none.

        The answer moves to the withdrawals, and what has been learned from it is for the reader of `news` to forget.
        """
        leased = _ANSWERS.join(
            _LEASES, sa.and_(_LEASES.c.query_key == _ANSWERS.c.query_key, _LEASES.c.labeler == _ANSWERS.c.labeler)
        )
        newest = sa.select(_ANSWERS).select_from(leased).where(_ANSWERS.c.labeler == labeler)
        with self._writing() as connection:
            row = connection.execute(newest.order_by(_ANSWERS.c.id.desc()).limit(1)).mappings().one_or_none()
            if row is None:
                return None
            place = (connection.execute(sa.select(sa.func.max(_WITHDRAWALS.c.id))).scalar() or 0) + 1
            connection.execute(sa.insert(_WITHDRAWALS).values({**row, "id": place, "answer_id": row["id"]}))
            connection.execute(sa.delete(_ANSWERS).where(_ANSWERS.c.id == row["id"]))
            this = _QUERIES.c.key == row["query_key"]
            connection.execute(sa.update(_QUERIES).where(this).values(wanted=_QUERIES.c.wanted + 1))
            question = connection.execute(
                sa.select(_QUERIES.c.key, _QUERIES.c.left_key, _QUERIES.c.right_key).where(this)
            )
            return _give(connection, Lease(*question.one(), _ticket()), labeler, seconds)

    def unanswered(self, most: int, asked_before: datetime | None = None) -> list[Query]:
        """The oldest questions that nobody has answered and nobody has before them, at most so many."""
        answered = sa.exists().where(_ANSWERS.c.query_key == _QUERIES.c.key)
        shown = sa.exists().where(_LEASES.c.query_key == _QUERIES.c.key, _LEASES.c.until > _now())
        early = _QUERIES.c.asked_at < (asked_before or _now() + timedelta(days=1))
        wanted = sa.select(_QUERIES).where(_QUERIES.c.wanted > 0, early, ~answered, ~shown)
        with self._transaction() as connection:
            rows = connection.execute(wanted.order_by(_QUERIES.c.id).limit(most)).all()
            segments = _read_segments(connection, [key for row in rows for key in (row.left_key, row.right_key)])
        return [Query(segments[row.left_key], segments[row.right_key]) for row in rows]

    def segment(self, key: str) -> Segment | None:
        """The segment of this key, if there is one."""
        with self._transaction() as connection:
            return _read_segments(connection, [key]).get(key)

    def given(self, newest: int | None = None) -> list[Given]:
        """Answers without their segments, newest first, all or so many of the newest."""
        about = _ANSWERS.join(_QUERIES, _QUERIES.c.key == _ANSWERS.c.query_key)
        about = about.join(_SEGMENTS, _SEGMENTS.c.key == _QUERIES.c.left_key)
        columns = [_ANSWERS.c[name] for name in ("query_key", "labeler", "mu", "seconds", "answered_at")]
        chosen = sa.select(*columns, _SEGMENTS.c.step).select_from(about).order_by(_ANSWERS.c.id.desc()).limit(newest)
        with self._transaction() as connection:
            return [Given(*row[:4], _utc(row[4]), row[5]) for row in connection.execute(chosen)]

    def counts(self) -> Counts:
        """How much was asked, answered and skipped, how long answering took, what is open and what was taken back."""
        answers, answered = sa.func.count(_ANSWERS.c.id), sa.func.count(_ANSWERS.c.mu)
        seconds = sa.func.coalesce(sa.func.sum(_ANSWERS.c.seconds), 0.0)
        asked, wanted, withdrawn = (
            sa.select(sa.func.count()).select_from(table).where(which).scalar_subquery()
            for table, which in ((_QUERIES, sa.true()), (_QUERIES, _QUERIES.c.wanted > 0), (_WITHDRAWALS, sa.true()))
        )
        every = sa.select(asked, answered, answers - answered, seconds, wanted, withdrawn)
        with self._transaction() as connection:
            return Counts(*connection.execute(every).one())

    def dump(self) -> Rows:
        """Everything that was asked, answered and taken back, as `restore` takes it."""
        order = (_SEGMENTS.c.key, _QUERIES.c.id, _ANSWERS.c.id, _WITHDRAWALS.c.id)
        with self._writing() as connection:  # one moment for all
            tables = {
                column.table.name: connection.execute(sa.select(column.table).order_by(column)).mappings().all()
                for column in order
            }
        return {
            name: [{k: _utc(v) if isinstance(v, datetime) else v for k, v in row.items() if k != "id"} for row in rows]
            for name, rows in tables.items()
        }

    def restore(self, rows: Rows) -> None:
        """Add what another store's `dump` holds, all or none; what is here already is kept as it was."""
        with self._writing() as connection:
            _record(connection, rows["segments"], _SEGMENTS.c.key)
            _record(connection, rows["queries"], _QUERIES.c.key)
            wanted = {row.key: row.wanted for row in connection.execute(sa.select(_QUERIES.c.key, _QUERIES.c.wanted))}
            _record_answers(connection, rows["answers"])
            for row in rows["queries"]:  # a new query came with what is still wanted; an old one keeps the lesser
                least = min(wanted[row["key"]], row["wanted"])
                this = sa.and_(_QUERIES.c.key == row["key"], _QUERIES.c.wanted != least)
                connection.execute(sa.update(_QUERIES).where(this).values(wanted=least))
            known = {
                (row.query_key, row.labeler, _utc(row.answered_at))
                for row in connection.execute(sa.select(_WITHDRAWALS))
            }
            last = connection.execute(sa.select(sa.func.max(_WITHDRAWALS.c.id))).scalar() or 0
            place = _next_id(connection)
            new = [w for w in rows["withdrawals"] if (w["query_key"], w["labeler"], w["answered_at"]) not in known]
            for i, row in enumerate(new):
                values = {**row, "id": last + 1 + i, "answer_id": place + i}
                connection.execute(sa.insert(_WITHDRAWALS).values(values))

    def close(self) -> None:
        """Disconnect; nothing is waiting to be written."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """All or nothing."""
        try:
            with self._engine.begin() as connection:
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
        turn = sa.update(_VERSION).values(schema_version=_VERSION.c.schema_version)
        with self._turn, self._transaction() as connection:  # threads wait here, and not in the database
            version = connection.execute(turn.returning(_VERSION.c.schema_version)).scalar()
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


def _connect(url: str | Path) -> tuple[sa.Engine, str]:
    """The engine, and the store's name without any password."""
    try:
        place = sa.make_url(str(url)) if "://" in str(url) else sa.URL.create("sqlite", database=str(url))
        if place.get_backend_name() != "sqlite":
            limits = {"connect_timeout": 5} if place.get_driver_name().startswith("psycopg") else {}
            engine = sa.create_engine(place, pool_size=10, max_overflow=30, connect_args=limits)
            return engine, place.render_as_string()
        arguments = {"check_same_thread": False, "timeout": 30}  # one connection: threads share even ":memory:"
        engine = sa.create_engine(place, poolclass=sa.QueuePool, pool_size=1, max_overflow=0, connect_args=arguments)
    except (sa.exc.ArgumentError, ImportError, ValueError) as error:
        raise UserError(
            f"the store's URL, {str(url).partition('://')[0]}://..., leads nowhere ({' '.join(str(error).split())}): "
            f"give a file's path, or a URL such as 'postgresql+psycopg://user@host/database' with its driver installed."
        ) from error
    sa.event.listen(engine, "connect", _set_up_sqlite)
    # Python's driver begins a transaction by itself, but not before it reads or creates tables.
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine, place.database or ":memory:"


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.executescript("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
    if not names or _VERSION.name in names:  # else it is the database of something else, to be left as it is
        connection.execute("PRAGMA journal_mode = WAL")


def _record_queries(connection: sa.Connection, queries: Sequence[Query], second_opinions: float = 0.0) -> None:
    """Segments with one `key` become one, with the origin (step, seed, episode, ...) of the first."""
    rows = [
        {"key": s.key, "steps": [getattr(s, name) for name in _ARRAYS], "env_id": s.env_id, "scene": s.scene}
        | {name: getattr(s, name) for name in _INTEGERS}
        for query in queries
        for s in (query.left, query.right)
    ]
    _record(connection, rows, _SEGMENTS.c.key)
    rows = [
        {"key": q.key, "left_key": q.left.key, "right_key": q.right.key}
        | {"wanted": 1 + (int(q.key, 16) < second_opinions * 16 ** len(q.key))}
        for q in queries
    ]
    _record(connection, rows, _QUERIES.c.key)


def _record_answers(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Those that are new, each with the next id, and one person fewer still to be asked."""
    new = _record(connection, rows, _ANSWERS.c.query_key, _ANSWERS.c.labeler, first_id=_next_id(connection))
    fewer = sa.update(_QUERIES).where(_QUERIES.c.key == sa.bindparam("of"), _QUERIES.c.wanted > 0)
    if new:
        connection.execute(fewer.values(wanted=_QUERIES.c.wanted - 1), [{"of": row["query_key"]} for row in new])


def _next_id(connection: sa.Connection) -> int:
    """Of the next answer: one that no answer had, not even one taken back."""
    used = [sa.select(sa.func.max(column)).scalar_subquery() for column in (_ANSWERS.c.id, _WITHDRAWALS.c.answer_id)]
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
    chosen = sa.select(_ANSWERS, _QUERIES.c.left_key, _QUERIES.c.right_key).join(
        _QUERIES, _QUERIES.c.key == _ANSWERS.c.query_key
    )
    rows = connection.execute(chosen.where(_ANSWERS.c.id > after).order_by(_ANSWERS.c.id)).all()
    segments = _read_segments(connection, [key for row in rows for key in (row.left_key, row.right_key)])
    queries = {row.query_key: Query(segments[row.left_key], segments[row.right_key]) for row in rows}
    preferences = [Preference(queries[row.query_key], row.mu, row.labeler, row.seconds) for row in rows]
    return preferences, rows[-1].id if rows else after


def _read_segments(connection: sa.Connection, keys: Sequence[str]) -> dict[str, Segment]:
    """Segments by key; a key that is not there is left out."""
    found: dict[str, Segment] = {}
    distinct = list(dict.fromkeys(keys))
    for start in range(0, len(distinct), 500):
        chosen = sa.select(_SEGMENTS).where(_SEGMENTS.c.key.in_(distinct[start : start + 500]))
        found |= {key: Segment(*steps, *origin) for key, steps, *origin in connection.execute(chosen)}
    return found


def _ticket() -> str:
    return secrets.token_hex(16)


def _give(connection: sa.Connection, lease: Lease, labeler: str, seconds: float) -> Lease:
    """Record the lease, in place of an older one of the same question to the same labeler."""
    connection.execute(sa.delete(_LEASES).where(_LEASES.c.query_key == lease.key, _LEASES.c.labeler == labeler))
    until = _now() + timedelta(seconds=seconds)
    values = {"query_key": lease.key, "labeler": labeler, "ticket": lease.ticket, "until": until}
    connection.execute(sa.insert(_LEASES).values(values))
    return lease


def _utc(time: datetime) -> datetime:
    """SQLite keeps no time zone: all times are UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


class PatientStore(Store):
    """A store whose database may go away for a while: what is asked or added meanwhile waits, and is recorded later.

    For the trainer, which goes on without answers; what it adds is on disk only when `waiting` is 0 again.
    """

    def __init__(self, url: str | Path) -> None:
        """Open a store that is there now."""
        super().__init__(url)
        self._later: list[Callable[[], None]] = []
        self._counted = super().counts()

    @property
    def waiting(self) -> int:
        """Calls that are still to be recorded."""
        return len(self._later)

    def ask(self, queries: Sequence[Query], second_opinions: float = 0.0) -> None:
        """Record these, now or later."""
        self._later.append(lambda: super(PatientStore, self).ask(queries, second_opinions))
        self._catch_up()

    def add(self, preferences: Sequence[Preference]) -> None:
        """Record these, now or later."""
        self._later.append(lambda: super(PatientStore, self).add(preferences))
        self._catch_up()

    def news(self, after: tuple[int, int] = (0, 0)) -> tuple[list[Preference], list[tuple[str, str]], tuple[int, int]]:
        """What happened since; nothing while the database is away."""
        try:
            return super().news(after) if self._catch_up() else ([], [], after)
        except UnreachableError:
            return [], [], after

    def counts(self) -> Counts:
        """As they were when the database last answered."""
        with suppress(UnreachableError):
            self._counted = super().counts()
        return self._counted

    def unanswered(self, most: int, asked_before: datetime | None = None) -> list[Query]:
        """The oldest open questions; none while the database is away."""
        try:
            return super().unanswered(most, asked_before)
        except UnreachableError:
            return []

    def _catch_up(self) -> bool:
        """Record what waits, in order; whether nothing waits any more."""
        was_away = len(self._later) > 1
        try:
            while self._later:
                self._later[0]()
                self._later.pop(0)
        except UnreachableError as error:
            if not was_away:
                print(f"prefrl: {error} Training goes on; its questions are asked when it is back.", file=sys.stderr)
            return False
        return True
