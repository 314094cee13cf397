"""The store that the page began with, and no other that may come to lie in its place."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from prefrl.queries.store import Store, UnreachableError

IDENTITY = sa.Table("identity", sa.MetaData(), sa.Column("id", sa.String(32), primary_key=True))  # one row


class MovedError(UnreachableError):
    """The database is not there, or is another one; its sentence is for everybody who looks at the page."""


def identity_of(store: Store) -> str:
    """What tells this store from every other, wherever it lies: 32 hexadecimal digits, drawn when first asked for."""
    with store._writing() as connection:
        IDENTITY.create(connection, checkfirst=True)
        identity: str | None = connection.execute(sa.select(IDENTITY.c.id)).scalar()
        if identity is None:
            identity = secrets.token_hex(16)
            connection.execute(sa.insert(IDENTITY).values(id=identity))
    return identity


class SameStore(Store):
    """A store that notices when its database is replaced: nothing is read from another one, nor written into it.

    The database says who it is (`identity_of`), which a copy or a move keeps. An SQLite file is closed whenever nobody
    uses it, and found by its name for the next who does: a file that is open stays the one it was when another takes
    its name, and its journal would be read into the other.
    """

    def __init__(self, url: str | Path) -> None:
        """Open a store, and give it an identity where it has none."""
        self.identity: str | None = None
        self._path: Path | None = None
        self._opened: tuple[int, int] | None = None  # the file that is open
        self._users, self._counting = 0, threading.Lock()
        super().__init__(url)
        self._file = None  # any other file in its place would be refused for good; a copy of this one is welcome here
        if self._engine.dialect.name == "sqlite" and (self._engine.url.database or ":memory:") != ":memory:":
            self._path = Path(str(self._engine.url.database)).absolute()
        self.identity = identity_of(self)

    @contextmanager
    def _transaction(self, writes: bool = False) -> Iterator[sa.Connection]:
        """All or nothing, in the database that it began with.

        Raises:
            MovedError: that is not where it was; what was to be written is not acknowledged.
        """
        place = self._enter()
        try:
            with super()._transaction(writes) as connection:
                if self.identity is not None:
                    self._compare(connection)
                yield connection
        except sa.exc.TimeoutError as error:  # too many wait for a connection
            raise UnreachableError("the database is busy: wait a moment.") from error
        finally:
            self._leave()
        if self._place() != place:  # it was written into a file that nobody will find
            raise MovedError("the database of this run is being replaced: wait a moment.")

    def _enter(self) -> tuple[int, int] | None:
        place = self._place()
        with self._counting:
            self._users += 1
            if place != self._opened:
                self._engine.dispose()
                self._opened = place
        return place

    def _leave(self) -> None:
        with self._counting:
            self._users -= 1
            if self._path is not None and not self._users:
                self._engine.dispose()

    def _place(self) -> tuple[int, int] | None:
        """What tells one file from another of the same name; None for a database that is no file."""
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError as error:
            raise MovedError(
                "the database of this run is gone from its folder: whoever runs this page should put it back there."
            ) from error
        return found.st_dev, found.st_ino

    def _compare(self, connection: sa.Connection) -> None:
        known = sa.inspect(connection).has_table(IDENTITY.name)
        if not known or connection.execute(sa.select(IDENTITY.c.id)).scalar() != self.identity:
            raise MovedError(
                "the database of this run was replaced by another one: whoever runs this page should put it back, or "
                "start `prefrl label` again for the new one."
            )
