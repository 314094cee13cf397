"""The tables of a store, how arrays lie in them, and how older ones are brought up to date."""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from prefrl.words.errors import UserError

SCHEMA_VERSION = 3  # one more with every change to the tables below, and a line in MIGRATIONS
ARRAYS = ("observations", "actions", "rewards")
INTEGERS = ("step", "seed", "env_index", "episode", "offset")
MOST_BYTES = 1 << 28  # of a segment's arrays: a store that claims more is not ours, and unpacking it fills the memory


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
    if array.nbytes > MOST_BYTES:
        raise UserError(
            f"a segment of {array.nbytes / 2**20:,.0f} MiB is more than a store keeps, {MOST_BYTES >> 20} MiB: ask "
            f"about shorter segments, or show smaller observations."
        )
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return zlib.compress(buffer.getvalue(), level=1)


def _unpack(packed: bytes) -> NDArray[Any]:
    try:
        unpacking = zlib.decompressobj()
        plain = unpacking.decompress(packed, MOST_BYTES + 4096)
        if not unpacking.eof:
            raise ValueError(f"an array of more than {MOST_BYTES >> 20} MiB, or not all of one")
        return array_of(plain)
    except (ValueError, zlib.error) as error:
        raise UserError(
            f"a segment in the store cannot be read ({' '.join(str(error).split()):.150}): it is damaged, or no "
            f"prefrl wrote it."
        ) from error


def array_of(npy: bytes) -> NDArray[Any]:
    """The array in a file of NumPy's .npy format, without pickle; nothing is allocated that the file does not hold.

    Raises:
        ValueError: it is none, or its header claims another size than it has.
    """
    file = io.BytesIO(npy)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the .npy format")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    size = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=0) < 0 or size != len(npy) - file.tell():
        raise ValueError(f"an array of {dtype} and shape {shape} in {len(npy) - file.tell()} bytes")
    file.seek(0)
    array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


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
"""What segments hold, each once, with the origin of the first that held it."""
QUERIES = sa.Table(
    "queries",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),  # in the order asked
    sa.Column("key", sa.String(32), nullable=False, unique=True),
    sa.Column("kind", sa.String, nullable=False, default="pair"),  # as in `prefrl.words.preference.KINDS`
    sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False, default=utc_now),
    sa.Column("wanted", sa.Integer, nullable=False, default=1),  # people who are still to be asked
    sa.Index("queries_wanted", "id", sqlite_where=sa.text("wanted > 0"), postgresql_where=sa.text("wanted > 0")),
)
ITEMS = sa.Table(  # what a question shows: of a pair the left segment, then the right one
    "items",
    TABLES,
    sa.Column("query_key", sa.ForeignKey(QUERIES.c.key), primary_key=True),
    sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),  # from 0
    sa.Column("segment_key", sa.ForeignKey(SEGMENTS.c.key), nullable=False),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in INTEGERS),  # the occasion
)


def _answer() -> list[sa.Column[Any]]:
    return [
        sa.Column("query_key", sa.ForeignKey(QUERIES.c.key), nullable=False),
        sa.Column("labeler", sa.String, nullable=False),
        sa.Column("mu", sa.Double),  # of a pair, weight on the left segment in [0, 1]; neither mu nor choice is a skip
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False, default=utc_now),
        sa.Column("choice", sa.String),  # of a ranking, places from best to worst, "2>0=1"; of a best one, its place
        sa.Column("strength", sa.Double),  # how much better, in [0, 1]; NULL where nobody was asked
        sa.Column("critique", sa.Text),  # what was said about it in words
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


RUN = sa.Table(  # whose questions these are: one row at most
    "run",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False, default=utc_now),
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


def _migrate_2(connection: sa.Connection) -> None:
    """To version 3: questions of several kinds, what each shows in a table of its own, more that an answer may say.

    Old questions keep their keys, and so their answers. Their tables are made anew: SQLite drops no column that is a
    foreign key.
    """
    answer = "query_key, labeler, mu, seconds, answered_at"
    copied = {
        QUERIES: "id, key, asked_at, wanted",
        ANSWERS: f"id, {answer}",
        WITHDRAWALS: f"id, answer_id, {answer}, withdrawn_at",
        LEASES: "query_key, labeler, ticket, until",
    }
    for table in copied:
        for index in table.indexes:
            index.drop(connection)
        connection.execute(sa.text(f"ALTER TABLE {table.name} RENAME TO old_{table.name}"))
    TABLES.create_all(connection, [*copied, ITEMS, RUN])
    for table, names in copied.items():
        more, values = (", kind", ", 'pair'") if table is QUERIES else ("", "")
        copy = f"INSERT INTO {table.name} ({names}{more}) SELECT {names}{values} FROM old_{table.name}"
        connection.execute(sa.text(copy))
    origin = ", ".join(f'"{name}"' for name in INTEGERS)
    for place, side in enumerate(("left_key", "right_key")):
        shown = f"SELECT q.key, {place}, s.key, {origin} FROM old_queries q JOIN segments s ON s.key = q.{side}"
        connection.execute(sa.text(f"INSERT INTO items (query_key, place, segment_key, {origin}) {shown}"))
    for table in reversed(copied):
        connection.execute(sa.text(f"DROP TABLE old_{table.name}"))
    if connection.dialect.name == "postgresql":  # SQLite counts on from the largest id by itself
        last = "SELECT setval(pg_get_serial_sequence('queries', 'id'), max(id)) FROM queries HAVING max(id) IS NOT NULL"
        connection.execute(sa.text(last))


def _binary(connection: sa.Connection) -> str:
    return sa.LargeBinary().compile(connection.dialect)


MIGRATIONS: dict[int, Callable[[sa.Connection], None]] = {1: _migrate_1, 2: _migrate_2}
