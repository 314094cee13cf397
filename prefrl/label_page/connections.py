"""Connections that end by themselves, so that nobody keeps others out by holding many and saying nothing."""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 2_000


class Impatient(H11Protocol):
    """A connection over which, for `patience_s`, nothing whole was asked and nothing of a reply was taken, is cut off.

    Bytes that trickle in do not count. While the server itself has something to do, it waits for itself; how long a
    body may take is the guard's to say.
    """

    patience_s = 20.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._since = 0.0  # the last time that something happened
        self._left = 0  # bytes of replies that were not taken then
        self._look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look at the clock."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._look_at_the_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop looking."""
        super().connection_lost(exc)
        if self._look is not None:
            self._look.cancel()

    def on_response_complete(self) -> None:
        """Patience begins anew with the reply."""
        self._since = self.loop.time()
        super().on_response_complete()

    def _look_at_the_clock(self) -> None:
        now, left = self.loop.time(), self.transport.get_write_buffer_size()
        at_work = self.cycle is not None and not self.cycle.response_complete and not left
        if at_work or left < self._left:
            self._since = now
        self._left = left
        if now - self._since > self.patience_s:
            self.transport.abort()  # a polite end would wait until the rest is taken
        else:
            self._look = self.loop.call_later(self.patience_s / 4, self._look_at_the_clock)


def most_connections() -> int:
    """How many there may be at a time: half of the files that this process may open, others are for its work."""
    return min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
