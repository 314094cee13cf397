"""A store that training need not wait for."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from prefrl.queries.store import PATIENCE_S, Counts, Store, UnreachableError
from prefrl.words.errors import UserError
from prefrl.words.preference import Preference, Query

SPILLED = "unsaved.sqlite"  # in the run's folder: what never reached the database
SETTLE_S = 120.0  # to wait for the database at the end of a run


@dataclass(frozen=True)
class _Waiting:
    """What is still to be recorded."""

    queries: Sequence[Query] = ()
    second_opinions: float = 0.0
    preferences: Sequence[Preference] = ()


class PatientStore(Store):
    """A run's store, whose database may go away for a while: what is asked or added meanwhile is recorded later.

    For the trainer, which goes on without answers; what it adds is on disk only when `waiting` is 0 again. A file that
    somebody else holds locked, or a disk without room, is a database that is away.

    Args:
        url: of a store that is there now, and of no other run.
        folder: of the run; what cannot be recorded in the end is left there.
        patience_s: seconds to wait for a turn in a file.
    """

    def __init__(self, url: str | Path, folder: Path, patience_s: float = PATIENCE_S) -> None:
        """Open it, and claim it for the run.

        Raises:
            UserError: it cannot be used, or is another run's.
        """
        super().__init__(url, patience_s)
        self._later: list[_Waiting] = []
        self._taken: list[Preference] = []
        self._folder = folder
        self._away_until, self._said = 0.0, False
        try:
            self.claim(folder)
            self._counted = super().counts()
            self._is_used = self._counted.asked > 0
        except BaseException:
            super().close()
            raise

    def __enter__(self) -> PatientStore:
        return self

    @property
    def waiting(self) -> int:
        """Calls that are still to be recorded."""
        return len(self._later)

    def ask(self, queries: Sequence[Query], second_opinions: float = 0.0) -> None:
        """Record these, now or later."""
        self._later += [_Waiting(queries, second_opinions)] if queries else []
        self._is_used |= len(queries) > 0
        self._catch_up()

    def add(self, preferences: Sequence[Preference]) -> list[Preference]:
        """Record these, now or later; those that were taken by now, with what has waited since the last call."""
        self._later += [_Waiting(preferences=preferences)] if preferences else []
        self._catch_up()
        taken, self._taken = self._taken, []
        return taken

    def news(self, after: tuple[int, int] = (0, 0)) -> tuple[list[Preference], list[tuple[str, str]], tuple[int, int]]:
        """What happened since; nothing while the database is away."""
        self._catch_up()
        if self._later:
            return [], [], after
        try:
            return super().news(after)
        except UnreachableError:
            return [], [], after

    def counts(self) -> Counts:
        """As they were when the database last answered, and questions that wait to be recorded."""
        self._catch_up()
        if not self._is_away():
            with suppress(UnreachableError):
                self._counted = super().counts()
        more = sum(len(one.queries) for one in self._later)
        return replace(self._counted, asked=self._counted.asked + more, open=self._counted.open + more)

    def unanswered(self, most: int, asked_before: datetime | None = None) -> list[Query]:
        """The oldest open questions; none while the database is away."""
        if self._is_away():
            return []
        try:
            return super().unanswered(most, asked_before)
        except UnreachableError:
            return []

    def settle(self, wait_s: float | None = None) -> None:
        """Record what waits, before the run may say that it is finished; wait for the database if need be.

        It waits `SETTLE_S`, unless it is told how long.

        Raises:
            UserError: it did not come back in time. What waited is in the run's folder, in a store of its own that
                `prefrl labels import` reads.
        """
        wait_s = SETTLE_S if wait_s is None else wait_s
        until = time.monotonic() + wait_s
        if self._later:
            print(f"prefrl: waiting up to {wait_s:.0f} s for {self._name}, to record what is left.", file=sys.stderr)
        while self._later:
            self._away_until = 0.0
            self._catch_up()
            if self._later and time.monotonic() >= until:
                raise UserError(self._spill())
            if self._later:
                time.sleep(min(1.0, max(0.0, until - time.monotonic())))

    def close(self) -> None:
        """Disconnect; what still waits is left in the run's folder, and said."""
        if self._later:
            print(f"prefrl: {self._spill()}", file=sys.stderr)
        if not self._is_used:
            with suppress(UserError):
                self.release(self._folder)
        super().close()

    def _spill(self) -> str:
        """Put what waits into the run's folder; where it is, in a sentence."""
        waited, self._later = self._later, []
        answers, questions = sum(len(w.preferences) for w in waited), sum(len(w.queries) for w in waited)
        what = f"{answers} answers and {questions} questions could not be recorded in {self._name}"
        place = self._folder / SPILLED
        try:
            with Store(place) as spilled:
                for one in waited:
                    spilled.ask(one.queries, one.second_opinions)
                    spilled.add(one.preferences)
        except UserError as error:
            return f"{what}, nor in the run's folder, and are lost: {error}"
        out = self._engine.url.render_as_string() if self._engine.dialect.name != "sqlite" else self._name
        return f"{what}, and are in {str(place)!r}: bring them over with `prefrl labels import {place} --out {out}`."

    def _is_away(self) -> bool:
        """Whether to leave the database alone: it is not asked again before it has been left alone as long as it took.

        So training spends no more than half of its time on a database that makes it wait.
        """
        return time.monotonic() < self._away_until

    def _catch_up(self) -> None:
        """Record what waits, in order, as far as possible."""
        began = time.monotonic()
        try:
            while self._later and not self._is_away():
                first = self._later[0]
                super().ask(first.queries, first.second_opinions)
                self._taken += super().add(first.preferences)
                self._later.pop(0)
                self._said = False
        except UnreachableError as error:
            now = time.monotonic()
            self._away_until = now + (now - began)
            if not self._said:
                self._said = True
                print(f"prefrl: {error} Training goes on; its questions are asked when it is back.", file=sys.stderr)
