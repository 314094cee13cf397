"""A store that training need not wait for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from prefrl.queries.store import Counts, Store, UnreachableError
from prefrl.words.preference import Preference, Query


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
