"""What is asked next: the pairs worth asking (Christiano et al. 2017, section 2.2.4), each of them once in a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from prefrl.experience.recorder import Pairs, Recorder
from prefrl.queries.strategies import Strategy, best_first, uniform
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.words.errors import UserError
from prefrl.words.preference import Occasion, Query

Two = frozenset[Occasion]  # two windows, whichever is left


class Asker:
    """Draws candidates, keeps those that the strategy scores highest, and never asks about two windows twice.

    Args:
        strategy: scores candidates, once the reward knows something; until then any are as good.
        candidates: pairs drawn for each that is asked.
        segment_steps: T, the most steps in a segment.
        rng: draws the candidates.
    """

    def __init__(self, strategy: Strategy, candidates: int, segment_steps: int, rng: np.random.Generator) -> None:
        self.strategy, self.candidates, self.segment_steps, self.rng = strategy, candidates, segment_steps, rng
        self._asked: dict[Two, None] = {}  # in the order asked

    def leave_out(self, occasions: Iterable[tuple[Occasion, Occasion]]) -> None:
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
        candidates = recorder.pairs(count * self.candidates, self.segment_steps, self.rng)
        queries = self._best(strategy, r_hat, candidates, count)
        while missing := count - len(queries):
            # Few windows are soon all asked about, and drawing at random would look for the last of them for ever.
            left = recorder.every_pair(self.segment_steps, at_most=4 * (len(self._asked) + count))
            if left is None:
                more = recorder.pairs(missing * self.candidates, self.segment_steps, self.rng)
            else:
                new = [place for place, two in enumerate(map(frozenset, left.occasions())) if two not in self._asked]
                if len(new) < missing:
                    raise UserError(
                        f"{recorder.env_id} has shown only {len(left)} different pairs of segments of "
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
            two = frozenset(occasions[place])
            if two not in self._asked:
                self._asked[two] = None
                chosen.append(place)
                if len(chosen) == count:
                    break
        return pairs[np.array(chosen, np.int64)].queries()

    def state(self) -> dict[str, Any]:
        """What later questions depend on: the generator, and the windows asked about, (n, 2, 4) as `Occasion`s."""
        asked = np.array([sorted(two) for two in self._asked], np.int64).reshape(-1, 2, len(Occasion._fields))
        return {"rng": self.rng.bit_generator.state, "asked": asked}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.rng.bit_generator.state = state["rng"]
        asked = np.asarray(state["asked"], np.int64).reshape(-1, 2, len(Occasion._fields)).tolist()
        self._asked = {frozenset((Occasion(*one), Occasion(*other))): None for one, other in asked}
