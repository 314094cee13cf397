"""The questions of a phase are put to whoever answers, and what the store took of the answers is handed over.

Whoever answers, at once, late, or as people do through the store, the run learns from and counts exactly what the
store holds: what has arrived there since the last phase, and what has been taken back since.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from prefrl.queries.labelers import Labeler
from prefrl.queries.store import Store
from prefrl.words.errors import UserError, in_short
from prefrl.words.preference import Preference, Query


@dataclass(frozen=True)
class Replies:
    """What came back in a phase; what was taken back comes first, in time.

    Attributes:
        given: answers that have arrived, skips included, in the order the store took them.
        taken_back: query key and labeler of decided answers, handed over in a phase before, that hold no longer.
        open: questions that somebody is still to answer.
    """

    given: list[Preference]
    taken_back: list[tuple[str, str]]
    open: int


class Answering:
    """Asks a labeler, records what it says, and hands over what the store took.

    Args:
        name: of the labeler, for messages.
        labeler: answers questions; a labeler of people returns none, since theirs reach the store by themselves.
        store: of the run. What it holds now is no news.
    """

    def __init__(self, name: str, labeler: Labeler, store: Store) -> None:
        self.name, self.labeler, self.store = name, labeler, store
        self._after = store.place()
        self._asked: dict[str, None] = {}  # in order
        self._held: dict[tuple[str, str], Preference] = {}  # arrived, and their question is not asked again yet

    def answer(
        self, queries: Sequence[Query], mean_return: float = math.nan, episode_steps: float = math.nan
    ) -> Replies:
        """Put these questions, which the store has, to the labeler, and see what has arrived.

        Args:
            queries: new questions; answers to earlier ones may arrive with theirs.
            mean_return: mean true return of the policy's latest episodes, for a labeler that goes by it; NaN for none.
            episode_steps: their mean length.

        Raises:
            UserError: the labeler failed, or returned something else than answers to what was asked; what was answered
                before is safe.
        """
        self._asked |= dict.fromkeys(query.key for query in queries)
        if hasattr(self.labeler, "observe_policy"):
            self._call(self.labeler.observe_policy, mean_return, episode_steps)
        self.store.add(self._checked(self._call(self.labeler, queries)))
        arrived, taken_back, self._after = self.store.news(self._after)
        was_held = [pair for pair in taken_back if self._held.pop(pair, None) is not None]
        self._held |= {(p.query.key, p.labeler): p for p in arrived}
        given = [p for p in self._held.values() if p.query.key in self._asked]
        for p in given:
            del self._held[p.query.key, p.labeler]
        return Replies(given, [pair for pair in taken_back if pair not in was_held], self.store.counts().open)

    def measures(self) -> dict[str, float]:
        """The labeler's own columns of metrics.csv; none of one that has no `measures`."""
        say = getattr(self.labeler, "measures", None)
        return {} if say is None else dict(self._call(say))

    def state(self) -> dict[str, Any]:
        """What later replies depend on, as JSON values; that of a labeler which cannot say its state is None.

        After a resume an answer is handed over when its question is asked again, which may be later than it arrived.
        """
        say = getattr(self.labeler, "state_dict", None)
        return {
            "after": list(self._after),
            "asked": list(self._asked),
            "held": [list(pair) for pair in self._held],
            "labeler": None if say is None else say(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned, with the same store."""
        answer, withdrawal = state["after"]
        self._after = answer, withdrawal
        self._asked = dict.fromkeys(state["asked"])
        held = {(key, labeler) for key, labeler in state["held"]}
        earlier = self.store.answers()[0] if held else []
        found = {(p.query.key, p.labeler): p for p in earlier}
        self._held = {pair: p for pair, p in found.items() if pair in held}
        if state["labeler"] is not None and hasattr(self.labeler, "load_state_dict"):
            self.labeler.load_state_dict(state["labeler"])

    def _call(self, what: Any, *arguments: Any) -> Any:
        try:
            return what(*arguments)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"labeler {self.name!r} failed with {in_short(error)}; what was answered before is "
                f"recorded, and starts another run with --labels-from."
            ) from error

    def _checked(self, answers: Any) -> list[Preference]:
        wrong = None
        if not isinstance(answers, Sequence):
            wrong = f"{answers!r:.80}"
        elif others := [answer for answer in answers if not _is_preference(answer)]:
            wrong = f"a {type(answers).__name__} with {others[0]!r:.80} in it"
        if wrong:
            raise UserError(
                f"labeler {self.name!r} returned {' '.join(wrong.split())}: it must return a list of "
                "prefrl.Preference, each with the query that it answers, mu from 0 to 1 or None, the labeler's name as "
                "text, and seconds as a number of zero or more."
            )
        if any(answer.query.key not in self._asked for answer in answers):
            raise UserError(
                f"labeler {self.name!r} returned an answer to a question that it was not asked: answer the queries as "
                "they are given, left and right in their places."
            )
        return list(answers)


def _is_preference(answer: Any) -> bool:
    """Whether this can be recorded and learned from; `Preference` itself looks at mu alone, and only once."""
    return (
        isinstance(answer, Preference)
        and isinstance(answer.query, Query)
        and (answer.mu is None or (isinstance(answer.mu, Real) and 0 <= answer.mu <= 1))
        and isinstance(answer.labeler, str)
        and bool(answer.labeler.strip())
        and isinstance(answer.seconds, Real)
        and 0 <= answer.seconds < math.inf
    )
