"""A judge: answers by the principles of a constitution, some checked by a predicate, some put to a model.

Every principle says which of two segments keeps it better; their weights decide. A model is asked twice, with the clips
in either order, and one that says the same of both places has said nothing about the clips: that is recorded as equal
(a preference for the first clip is the best known fault of such judges; Zheng et al. 2023, arXiv 2306.05685, section
3.3). What was said, principle by principle, is the answer's critique.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.queries.constitution import Constitution, Principle
from prefrl.queries.endpoint import Clip, ModelClient, Verdict
from prefrl.words.preference import Preference, Query, Segment

LEAST_GAP = 1e-9  # of two shares: less is rounding
NAME = "judge"


class Judge:
    """Answers queries by principles.

    Args:
        constitution: the principles.
        cache: folder in which a model's replies are kept.
        draw: the pictures (T, h, w, 3) of a segment; needed where a model is shown them.

    Attributes:
        agreed: questions put to a model in both orders that it answered alike.
        asked: questions put to it in both orders, of which it decided both or called both equal.
        chose_first: of all clips it chose, how many stood first; `chose` counts them all.
    """

    def __init__(
        self, constitution: Constitution, cache: Path | None = None, draw: Callable[[Segment], Any] | None = None
    ) -> None:
        self.constitution, self._draw = constitution, draw
        self.asked = self.agreed = self.chose = self.chose_first = 0
        self._client: ModelClient | None = None
        if constitution.asks_a_model:
            assert constitution.endpoint is not None, "whoever made the constitution has seen to that"
            self._client = ModelClient(constitution.endpoint, cache or Path("judge_cache"))

    def __call__(self, queries: Sequence[Query]) -> list[Preference]:
        """Answers to all queries, in order; a skip where no principle could tell.

        Raises:
            UserError: a predicate fails, or the model does not answer.
        """
        if not queries:
            return []
        began = time.monotonic()
        found: list[list[tuple[Principle, float | None, str]]] = [[] for _ in queries]
        for principle in self.constitution.principles:
            said = self._put(principle, queries) if principle.question else [_checked(principle, q) for q in queries]
            for each, (weight, words) in zip(found, said, strict=True):
                each.append((principle, weight, words))
        seconds = (time.monotonic() - began) / len(queries) if self._client else 0.0
        return [
            Preference(query, self._together(each), NAME, seconds, critique=_critique(each))
            for query, each in zip(queries, found, strict=True)
        ]

    def measures(self) -> dict[str, float]:
        """Columns of metrics.csv: what the model was asked, how far it goes by the order, and what it cost.

        judge_order_agreement is the share of questions on which both orders agree; judge_first_share that of the chosen
        clips that stood first, half of them where the order is nothing to the model.
        """
        if self._client is None:
            return {}
        return {
            "judge_requests": self._client.requests,
            "judge_cached": self._client.cached,
            "judge_order_agreement": self.agreed / self.asked if self.asked else float("nan"),
            "judge_first_share": self.chose_first / self.chose if self.chose else float("nan"),
            "judge_cost": self._client.cost,
        }

    def state_dict(self) -> dict[str, Any]:
        """The counts, as JSON values; answers depend on nothing else."""
        client = self._client
        counts = [client.requests, client.cached, client.input_tokens, client.output_tokens] if client else []
        return {
            "asked": self.asked,
            "agreed": self.agreed,
            "chose": self.chose,
            "chose_first": self.chose_first,
            "client": counts,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        for name in ("asked", "agreed", "chose", "chose_first"):
            setattr(self, name, state[name])
        if self._client is not None and state["client"]:
            client = self._client
            client.requests, client.cached, client.input_tokens, client.output_tokens = state["client"]

    def _put(self, principle: Principle, queries: Sequence[Query]) -> list[tuple[float | None, str]]:
        """A principle's question, put to the model in both orders."""
        assert self._client is not None
        assert principle.question is not None
        clips = [(self._clip(query.left), self._clip(query.right)) for query in queries]
        orders = [(principle.question, a, b) for left, right in clips for a, b in ((left, right), (right, left))]
        verdicts = self._client.ask(self.constitution.about, orders)
        return [self._both(*pair) for pair in zip(verdicts[::2], verdicts[1::2], strict=True)]

    def _both(self, there: Verdict, back: Verdict) -> tuple[float | None, str]:
        """The weight on the left segment by both orders, and what was said."""
        chosen = [verdict.weight for verdict in (there, back) if verdict.weight in (0, 1)]
        self.chose, self.chose_first = self.chose + len(chosen), self.chose_first + chosen.count(1)
        words = f"left first: {there.words.strip()}\nright first: {back.words.strip()}"
        if there.weight is None or back.weight is None:
            return None, words
        self.asked += 1
        if there.weight == 1 - back.weight:
            self.agreed += 1
            return there.weight, words
        return 0.5, f"the two orders disagree\n{words}"

    def _clip(self, segment: Segment) -> Clip:
        assert self.constitution.endpoint is not None
        frames = None
        if self.constitution.endpoint.shows == "frames":
            assert self._draw is not None, "whoever made this judge has seen that clips can be drawn"
            frames = np.asarray(self._draw(segment), np.uint8)
        return Clip(frames, segment.observations, segment.actions)

    def _together(self, found: Sequence[tuple[Principle, float | None, str]]) -> float | None:
        """The weight on the left segment, by all principles that could tell; None where none could."""
        told = [(principle.weight, weight) for principle, weight, _ in found if weight is not None]
        if not told:
            return None
        total = sum(weight for weight, _ in told)
        mu = sum(weight * left for weight, left in told) / total
        if self.constitution.graded:
            return float(min(max(mu, 0.0), 1.0))
        return 0.5 if abs(mu - 0.5) < LEAST_GAP else float(mu > 0.5)


def _checked(principle: Principle, query: Query) -> tuple[float, str]:
    """The weight on the left segment by a predicate: half, and half the difference of the shares of steps it holds."""
    left, right = (float(principle.held(segment).mean()) for segment in (query.left, query.right))
    return 0.5 + (left - right) / 2, f"holds on {left:.0%} of the left clip's steps and {right:.0%} of the right one's"


def _critique(found: Sequence[tuple[Principle, float | None, str]]) -> str:
    return "\n".join(f"{principle.name}: {words}" for principle, _, words in found)
