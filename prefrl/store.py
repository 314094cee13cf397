"""Every query and every answer, durably: what `Store.add` was given is on disk when it returns.

One store is one database, an SQLite file unless a URL names another kind. Rows are only added; nothing is pickled.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from prefrl.preference import Preference, Query, Segment, UserError

SCHEMA_VERSION = 1  # one more with every change to the tables below
_INTEGERS = ("step", "seed", "env_index", "episode", "offset")


class _Steps(sa.TypeDecorator[Any]):
    """A segment's arrays as one table, a row for each step: NumPy's .npy format without pickle, compressed."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> bytes:
        """Pack a segment."""
        arrays = {"observations": value.observations, "actions": value.actions, "rewards": value.rewards}
        table = np.empty(len(value), [(name, array.dtype, array.shape[1:]) for name, array in arrays.items()])
        for name, array in arrays.items():
            table[name] = array
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, table, allow_pickle=False)
        return zlib.compress(buffer.getvalue(), level=1)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> list[Any]:
        """Unpack its arrays."""
        table = np.lib.format.read_array(io.BytesIO(zlib.decompress(value)), allow_pickle=False)
        return [table[name] for name in ("observations", "actions", "rewards")]


_TABLES = sa.MetaData()
_VERSION = sa.Table("prefrl", _TABLES, sa.Column("schema_version", sa.Integer, primary_key=True, autoincrement=False))
_SEGMENTS = sa.Table(
    "segments",
    _TABLES,
    sa.Column("key", sa.String(32), primary_key=True),
    sa.Column("steps", _Steps, nullable=False),
    sa.Column("env_id", sa.String, nullable=False),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in _INTEGERS),  # all columns in Segment's order
)
_QUERIES = sa.Table(
    "queries",
    _TABLES,
    sa.Column("id", sa.Integer, primary_key=True),  # in the order asked
    sa.Column("key", sa.String(32), nullable=False, unique=True),
    sa.Column("left_key", sa.ForeignKey(_SEGMENTS.c.key), nullable=False),
    sa.Column("right_key", sa.ForeignKey(_SEGMENTS.c.key), nullable=False),
    sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False, default=lambda: datetime.now(UTC)),
)
_ANSWERS = sa.Table(
    "answers",
    _TABLES,
    sa.Column("id", sa.Integer, primary_key=True),  # in the order of arrival
    sa.Column("query_key", sa.ForeignKey(_QUERIES.c.key), nullable=False),
    sa.Column("labeler", sa.String, nullable=False),
    sa.Column("mu", sa.Double),  # weight on the left segment; NULL is a skip
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False, default=lambda: datetime.now(UTC)),
    sa.UniqueConstraint("query_key", "labeler"),
)


@dataclass(frozen=True)
class Counts:
    """What a store holds: different queries, answers that state a preference and answers that do not, their time."""

    asked: int
    answered: int  # "equally good" included; two people's answers to one query are two
    skipped: int
    seconds: float  # of all answers, skips included


class Store:
    """Queries and answers in a database; a context manager. Threads may share one, processes open one each.

    Every method raises UserError when the database cannot be reached, read or written.
    """

    def __init__(self, url: str | Path) -> None:
        """Open a store, new where there is none.

        Its `url` is the path of an SQLite file, ":memory:" (gone when closed), or a URL as SQLAlchemy reads it. Raises
        UserError when that leads nowhere, or to something else than a store that this version can read.
        """
        self._engine, self._name = _connect(url)
        try:
            with self._transaction() as connection:
                connection.execute(sa.schema.CreateTable(_VERSION, if_not_exists=True))  # first: creators take turns
                if sa.inspect(connection).get_table_names() == [_VERSION.name]:
                    _TABLES.create_all(connection)
                    connection.execute(sa.insert(_VERSION).values(schema_version=SCHEMA_VERSION))
                self._check_version(connection)
        except BaseException:
            self.close()
            raise

    def ask(self, queries: Sequence[Query]) -> None:
        """Record that these were asked, all or none; a query asked before is kept as it was."""
        with self._writing() as connection:
            _record_queries(connection, queries)

    def add(self, preferences: Sequence[Preference]) -> None:
        """Record these answers, all or none, on disk when this returns.

        Of several answers by one labeler to one query the first is kept. A query that was never asked here is recorded
        too, so the answers of one store can be added to another.
        """
        rows = [{"query_key": p.query.key, "labeler": p.labeler, "mu": p.mu, "seconds": p.seconds} for p in preferences]
        with self._writing() as connection:
            _record_queries(connection, [p.query for p in preferences])
            _record(connection, rows, _ANSWERS.c.query_key, _ANSWERS.c.labeler)

    def answers(self, after: int = 0) -> tuple[list[Preference], int]:
        """Answers in order of arrival, skips included, and the id to give as `after` for those yet to arrive.

        Equal queries are one object, and so are equal segments, among the answers of one call.
        """
        sides = (_QUERIES.c.left_key, _QUERIES.c.right_key)
        new = _QUERIES.join(_ANSWERS, sa.and_(_ANSWERS.c.query_key == _QUERIES.c.key, _ANSWERS.c.id > after))
        shown = sa.union(*(sa.select(side).select_from(new) for side in sides))
        with self._transaction() as connection:
            rows = connection.execute(sa.select(_ANSWERS, *sides).select_from(new).order_by(_ANSWERS.c.id)).all()
            found = connection.execute(sa.select(_SEGMENTS).where(_SEGMENTS.c.key.in_(shown)))
            segments = {key: Segment(*steps, *origin) for key, steps, *origin in found}
        queries = {row.query_key: Query(segments[row.left_key], segments[row.right_key]) for row in rows}
        preferences = [Preference(queries[row.query_key], row.mu, row.labeler, row.seconds) for row in rows]
        return preferences, rows[-1].id if rows else after

    def counts(self) -> Counts:
        """How much was asked, answered and skipped, and how long answering took."""
        asked = sa.select(sa.func.count(_QUERIES.c.id)).scalar_subquery()
        answers, answered = sa.func.count(_ANSWERS.c.id), sa.func.count(_ANSWERS.c.mu)
        seconds = sa.func.coalesce(sa.func.sum(_ANSWERS.c.seconds), 0.0)
        with self._transaction() as connection:
            return Counts(*connection.execute(sa.select(asked, answered, answers - answered, seconds)).one())

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
        except sa.exc.DatabaseError as error:
            if type(error) not in (sa.exc.DatabaseError, sa.exc.OperationalError):  # a mistake of ours, not the user's
                raise
            raise UserError(
                f"cannot use {self._name} as a store ({' '.join(str(error.orig).split())}): give a store's file or a "
                f"new one, in a folder that exists, can be written to and has room, or the URL of a running database."
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction that waits for its turn, on any kind of database, by rewriting the version's only row.

        Hence what is unrecorded stays so until this records it, and the ids of answers grow in the order of commits.
        """
        with self._transaction() as connection:
            connection.execute(sa.update(_VERSION).values(schema_version=_VERSION.c.schema_version))
            self._check_version(connection)  # again: the store may have been migrated since it was opened
            yield connection

    def _check_version(self, connection: sa.Connection) -> None:
        version = connection.execute(sa.select(_VERSION)).scalar()
        if version != SCHEMA_VERSION:
            raise UserError(
                f"the store {self._name} has schema version {version} and this prefrl reads {SCHEMA_VERSION}: use the "
                f"prefrl that wrote it, or a later one."
                if version
                else f"{self._name} is the database of something else: give a store's file, or a new one."
            )


def _connect(url: str | Path) -> tuple[sa.Engine, str]:
    """The engine, and the store's name without any password."""
    try:
        place = sa.make_url(str(url)) if "://" in str(url) else sa.URL.create("sqlite", database=str(url))
        if place.get_backend_name() != "sqlite":
            return sa.create_engine(place), place.render_as_string()
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


def _record_queries(connection: sa.Connection, queries: Sequence[Query]) -> None:
    """Segments with one `key` become one, with the origin (step, seed, episode, ...) of the first."""
    rows = [
        {"key": s.key, "steps": s, "env_id": s.env_id} | {name: getattr(s, name) for name in _INTEGERS}
        for query in queries
        for s in (query.left, query.right)
    ]
    _record(connection, rows, _SEGMENTS.c.key)
    rows = [{"key": query.key, "left_key": query.left.key, "right_key": query.right.key} for query in queries]
    _record(connection, rows, _QUERIES.c.key)


def _record(connection: sa.Connection, rows: Iterable[dict[str, Any]], *key: sa.Column[Any]) -> None:
    """Insert the first of the rows with equal `key` columns, in the order given, unless the table has one already."""
    new: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
        new.setdefault(tuple(plain[column.name] for column in key), plain)
    some = [values[0] for values in new]
    for start in range(0, len(some), 500):  # databases limit the parameters of a statement, some to 999
        for old in connection.execute(sa.select(*key).where(key[0].in_(some[start : start + 500]))):
            new.pop(tuple(old), None)
    if new:
        connection.execute(sa.insert(key[0].table), list(new.values()))
