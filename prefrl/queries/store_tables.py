"""The tables of a store, how arrays lie in them, and how older ones are brought up to date."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

SCHEMA_VERSION = 2  # one more with every change to the tables below, and a line in MIGRATIONS
ARRAYS = ("observations", "actions", "rewards")
INTEGERS = ("step", "seed", "env_index", "episode", "offset")


class _Steps(sa.TypeDecorator[Any]):
    """A segment's arrays as one table, a row for each step: NumPy's .npy format without pickle, compressed."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> bytes:
        """Pack observations, actions and rewards."""
        arrays = dict(zip(ARRAYS, value, strict=True))
        table = np.empty(len(value[0]), [(name, array.dtype, array.shape[1:]) for name, array in arrays.items()])
        for name, array in arrays.items():
            table[name] = array
        return _pack(table)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> list[Any]:
        """Unpack them."""
        table = _unpack(value)
        return [table[name] for name in ARRAYS]


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


def utc_now() -> datetime:
    """The time, as it is recorded."""
    return datetime.now(UTC)


TABLES = sa.MetaData()
VERSION = sa.Table("prefrl", TABLES, sa.Column("schema_version", sa.Integer, primary_key=True, autoincrement=False))
SEGMENTS = sa.Table(
    "segments",
    TABLES,
    sa.Column("key", sa.String(32), primary_key=True),
    sa.Column("steps", _Steps, nullable=False),
    sa.Column("env_id", sa.String, nullable=False),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in INTEGERS),
    sa.Column("scene", _Scene),  # all columns in Segment's order
)
QUERIES = sa.Table(
    "queries",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),  # in the order asked
    sa.Column("key", sa.String(32), nullable=False, unique=True),
    sa.Column("left_key", sa.ForeignKey(SEGMENTS.c.key), nullable=False),
    sa.Column("right_key", sa.ForeignKey(SEGMENTS.c.key), nullable=False),
    sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False, default=utc_now),
    sa.Column("wanted", sa.Integer, nullable=False, default=1),  # people who are still to be asked
    sa.Index("queries_wanted", "id", sqlite_where=sa.text("wanted > 0"), postgresql_where=sa.text("wanted > 0")),
)


def _answer() -> list[sa.Column[Any]]:
    return [
        sa.Column("query_key", sa.ForeignKey(QUERIES.c.key), nullable=False),
        sa.Column("labeler", sa.String, nullable=False),
        sa.Column("mu", sa.Double),  # weight on the left segment; NULL is a skip
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False, default=utc_now),
    ]


ANSWERS = sa.Table(
    "answers",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # in the order of arrival, never used twice
    *_answer(),
    sa.UniqueConstraint("query_key", "labeler"),
)
WITHDRAWALS = sa.Table(  # answers that were taken back, whole
    "withdrawals",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # in the order they were taken back
    sa.Column("answer_id", sa.Integer, nullable=False, unique=True),
    *_answer(),
    sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=False, default=utc_now),
)
LEASES = sa.Table(  # who was shown what; a question that nobody answers in time goes to somebody else
    "leases",
    TABLES,
    sa.Column("query_key", sa.ForeignKey(QUERIES.c.key), primary_key=True),
    sa.Column("labeler", sa.String, primary_key=True),
    sa.Column("ticket", sa.String(32), nullable=False),
    sa.Column("until", sa.DateTime(timezone=True), nullable=False),
    sa.Index("leases_until", "labeler", "until"),
)


def _migrate_1(connection: sa.Connection) -> None:
    """To version 2: pictures, leases, withdrawals, and how many people a question is still for."""
    connection.execute(sa.text("ALTER TABLE segments ADD COLUMN scene " + _binary(connection)))
    connection.execute(sa.text("ALTER TABLE queries ADD COLUMN wanted INTEGER NOT NULL DEFAULT 1"))
    TABLES.create_all(connection, [WITHDRAWALS, LEASES])
    for index in QUERIES.indexes:
        index.create(connection)
    answered = sa.select(ANSWERS.c.query_key)
    connection.execute(sa.update(QUERIES).where(QUERIES.c.key.in_(answered)).values(wanted=0))


def _binary(connection: sa.Connection) -> str:
    return sa.LargeBinary().compile(connection.dialect)


MIGRATIONS: dict[int, Callable[[sa.Connection], None]] = {1: _migrate_1}
