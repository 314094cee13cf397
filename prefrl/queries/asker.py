"""What is asked next: the pairs, or sets, worth asking about (Christiano et al. 2017, 2.2.4), each once in a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from prefrl.experience.recorder import Pairs, Recorder
from prefrl.queries.strategies import Strategy, best_first, uniform
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.words.errors import UserError
from prefrl.words.preference import Occasion, Query

Windows = frozenset[Occasion]  # of a question, whichever is left
NO_WINDOW = (-1,) * len(Occasion._fields)  # where a question has fewer than another


class Asker:
    """Draws candidates, keeps those that the strategy scores highest, and never asks about the same windows twice.

    Args:
        strategy: scores candidates, once the reward knows something; until then any are as good.
        candidates: pairs drawn for each that is asked.
        segment_steps: T, the most steps in a segment.
        rng: draws the candidates.
        kind: of the questions, one of `prefrl.words.preference.KINDS`.
        k: segments in a question.
    """

    def __init__(
        self,
        strategy: Strategy,
        candidates: int,
        segment_steps: int,
        rng: np.random.Generator,
        kind: str = "pair",
        k: int = 2,
    ) -> None:
        self.strategy, self.candidates, self.segment_steps, self.rng = strategy, candidates, segment_steps, rng
        self.kind, self.k = kind, k
        self._asked: dict[Windows, None] = {}  # in the order asked

    def leave_out(self, occasions: Iterable[tuple[Occasion, ...]]) -> None:
        """Do not ask about these any more: they were asked before, as `Store.occasions` says."""
        self._asked |= dict.fromkeys(map(frozenset, occasions))

    def ask(self, recorder: Recorder, r_hat: RewardEnsemble, count: int, fitted: bool) -> list[Query]:
        """Exactly so many questions, the best of the candidates; more of those are drawn where some were asked before.

        Args:
            recorder: what has happened.
            r_hat: the reward that the strategy asks.
            count: questions.
            fitted: whether the reward has learned from any answer yet.

        Raises:
            UserError: too little has happened for so many questions, or the strategy failed.
        """
        strategy = self.strategy if fitted else uniform
        candidates = recorder.pairs(count * self.candidates, self.segment_steps, self.rng, k=self.k)
        queries = self._best(strategy, r_hat, candidates, count)
        while missing := count - len(queries):
            # Few windows are soon all asked about, and drawing at random would look for the last of them for ever.
            left = recorder.every_pair(self.segment_steps, at_most=4 * (len(self._asked) + count), k=self.k)
            if left is None:
                more = recorder.pairs(missing * self.candidates, self.segment_steps, self.rng, k=self.k)
            else:
                new = [place for place, one in enumerate(map(frozenset, left.occasions())) if one not in self._asked]
                if len(new) < missing:
                    sets = "pairs" if self.k == 2 else f"sets of {self.k}"
                    raise UserError(
                        f"{recorder.env_id} has shown only {len(left)} different {sets} of segments of "
                        f"{self.segment_steps} steps by step {recorder.steps:,}, and {len(left) - len(new)} of them "
                        f"have been asked already, so {missing} questions more cannot be: ask for fewer labels or "
                        f"shorter segments, or take more steps before (explore_steps, keep_steps)."
                    )
                drawn = self.rng.permutation(new)[: missing * self.candidates]
                more = left[drawn]
            queries += self._best(strategy, r_hat, more, missing)
        return queries

    def _best(self, strategy: Strategy, r_hat: RewardEnsemble, pairs: Pairs, count: int) -> list[Query]:
        """Up to so many of these, the best first, that have not been asked yet; they have been, from now on."""
        if not count:
            return []
        chosen, occasions = [], pairs.occasions()
        for place in best_first(strategy, r_hat, pairs):
            windows = frozenset(occasions[place])
            if windows not in self._asked:
                self._asked[windows] = None
                chosen.append(place)
                if len(chosen) == count:
                    break
        return pairs[np.array(chosen, np.int64)].queries(self.kind)

    def state(self) -> dict[str, Any]:
        """What later questions depend on: the generator, and the windows asked about, (n, K, 4) as `Occasion`s.

        K is the most windows of a question; of those with fewer, among answers that a run began with, it is filled up.
        """
        most = max(map(len, self._asked), default=self.k)
        asked = [sorted(windows) + [NO_WINDOW] * (most - len(windows)) for windows in self._asked]
        return {
            "rng": self.rng.bit_generator.state,
            "asked": np.array(asked, np.int64).reshape(-1, most, len(Occasion._fields)),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.rng.bit_generator.state = state["rng"]
        asked = np.asarray(state["asked"], np.int64).tolist()
        self._asked = {frozenset(Occasion(*one) for one in each if tuple(one) != NO_WINDOW): None for each in asked}
