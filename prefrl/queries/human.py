"""People, who answer through the store, at their own pace, while training goes on.

Their questions are in the store; whoever shows them (`prefrl label`) records the answers there, and this labeler waits
for them, as long as it was told to. With no patience that is the paper's asynchronous regime (section 2.2): the policy
goes on learning from the reward so far, and an answer counts from the phase after it arrives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from prefrl.queries.store import Store
from prefrl.words.preference import Preference, Query

LOOK_S = 0.5  # between looks at the store, while waiting
AT_ONCE = 50  # open questions handed to the oracle at a time


class Human:
    """Waits for people; what they answer reaches the store by itself, so it returns none of it.

    Args:
        store: where the questions are, and where the answers will be.
        patience_s: seconds to wait for answers to every open question; inf waits for all of them.
        keep_up: share of the questions asked below which people have fallen behind.
        slowdown: while they have, a phase takes up to so many times as long as training alone needs.
        stand_in: answers what nobody has, after a time; its answers carry its own name.
        stand_in_after_s: that time; None for never.
        clock: seconds, of no particular beginning.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        store: Store,
        patience_s: float = 0.0,
        keep_up: float = 0.5,
        slowdown: float = 10.0,
        stand_in: Callable[[Sequence[Query]], list[Preference]] | None = None,
        stand_in_after_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.store, self.patience_s, self.keep_up, self.slowdown = store, patience_s, keep_up, slowdown
        self.stand_in, self.stand_in_after_s = stand_in, stand_in_after_s
        self.clock, self.sleep = clock, sleep
        self.asked = 0
        self._returned = clock()

    def __call__(self, queries: Sequence[Query]) -> list[Preference]:
        """Wait for answers to what is open, these among it, and never for ever on a slip."""
        began = self.clock()
        slow_until = began + (self.slowdown - 1) * (began - self._returned)
        self.asked += len(queries)
        while True:
            self._stand_in()
            unanswered = self.store.counts().open
            behind = self.asked - unanswered < self.keep_up * self.asked
            until = max(began + self.patience_s, slow_until if behind else began)
            if unanswered == 0 or self.clock() >= until:
                self._returned = self.clock()
                return []
            self.sleep(min(LOOK_S, until - self.clock()))

    def observe_policy(self, mean_return: float, episode_steps: float) -> None:
        """Tell the stand-in how the policy does."""
        told = getattr(self.stand_in, "observe_policy", None)
        if told is not None:
            told(mean_return, episode_steps)

    def state_dict(self) -> dict[str, Any]:
        """What later waiting and the stand-in's answers depend on, as JSON values."""
        say = getattr(self.stand_in, "state_dict", None)
        return {"asked": self.asked, "stand_in": None if say is None else say()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.asked = state["asked"]
        read = getattr(self.stand_in, "load_state_dict", None)
        if state["stand_in"] is not None and read is not None:
            read(state["stand_in"])

    def _stand_in(self) -> None:
        if self.stand_in is None or self.stand_in_after_s is None:
            return
        asked_before = datetime.now(UTC) - timedelta(seconds=self.stand_in_after_s)
        while left := self.store.unanswered(AT_ONCE, asked_before):
            self.store.add(self.stand_in(left))
