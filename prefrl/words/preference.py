"""The nouns: a segment of behaviour, a query about two or more of them, the preference someone states.

Christiano et al. 2017 (arXiv 1706.03741), sections 2.1 and 2.2.2.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import comb
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prefrl.words.errors import UserError


class Occasion(NamedTuple):
    """Where and when a segment was cut: it happened once, however many segments look like it."""

    seed: int
    env_index: int
    episode: int
    offset: int


@dataclass(frozen=True, eq=False)
class Segment:
    """A clip of consecutive steps (o_0, a_0), ..., (o_{T-1}, a_{T-1}) that owns its data (paper, section 2.1).

    The arrays are private, read-only copies: a label taken today is about the same data for ever, whatever
    happens to the buffer the clip was cut from.

    Attributes:
        observations: (T, *observation_shape), as the environment gave them, before any normalisation.
        actions: (T, *action_shape), as the environment received them.
        rewards: (T,) true rewards, raw. For the oracle and the evaluation only; no learner reads them.
        env_id: Gymnasium id of the environment.
        step: environment steps the policy had taken, over all environments, when the clip was cut.
        seed: seed of the run.
        env_index: which of the parallel environments.
        episode: count of that environment's episodes before this one.
        offset: steps from the episode's reset to o_0.
        scene: (T, ...) what each step can be drawn from where the observations do not show it, for people alone:
            the simulator's joint positions, or pictures as JPEG files; None where nobody is to look. No part of `key`.
    """

    observations: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[np.float64]
    env_id: str
    step: int
    seed: int
    env_index: int
    episode: int
    offset: int
    scene: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        for name in ("observations", "actions", "rewards", *(["scene"] if self.scene is not None else [])):
            array = np.array(getattr(self, name), copy=True, order="C")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if not len(self.observations) == len(self.actions) == len(self.rewards) > 0:
            raise ValueError(
                f"a segment needs as many observations as actions and rewards, at least one: got "
                f"{len(self.observations)}, {len(self.actions)} and {len(self.rewards)}"
            )

    def __len__(self) -> int:
        """Steps T."""
        return len(self.rewards)

    def __repr__(self) -> str:
        return (
            f"Segment({self.env_id}, {len(self)} steps at {self.offset} of episode {self.episode}, "
            f"env {self.env_index}, policy step {self.step}, observations {self.observations.shape}, "
            f"actions {self.actions.shape}, key {self.key})"
        )

    @cached_property
    def key(self) -> str:
        """Content hash, 32 hexadecimal digits: what was seen, done and rewarded, and in which environment."""
        digest = hashlib.blake2b(self.env_id.encode(), digest_size=16)
        for array in (self.observations, self.actions, self.rewards):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    @property
    def occasion(self) -> Occasion:
        """The run, the environment, the episode and the step at which it began."""
        return Occasion(self.seed, self.env_index, self.episode, self.offset)


KINDS = ("pair", "ranking", "best")
"""Of questions: which of two is better, all of K in order, the best of K."""


def question_key(kind: str, shown: Sequence[tuple[str, Occasion]]) -> str:
    """What a question is known by, 32 hexadecimal digits: its kind, and what it shows in order.

    Args:
        kind: one of `KINDS`.
        shown: key and occasion of each segment; the environment is part of the key.
    """
    lines = [kind, *(f"{key} {' '.join(map(str, occasion))}" for key, occasion in shown)]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def question_key_by_contents(left_key: str, right_key: str) -> str:
    """What a pair was known by before questions were occasions; stores that are older keep such keys."""
    return hashlib.blake2b(f"{left_key}{right_key}".encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, eq=False)
class Query:
    """Segments, shown side by side: two, for someone to say which is better, or K, to be put in order or chosen from.

    A question is an occasion: two pairs of segments that hold the same and were cut elsewhere are two questions, which
    a noisy labeler may answer differently.

    Attributes:
        left: one segment; of K the first.
        right: the other; of K the second.
        others: of K those after, in order; none of a pair.
        kind: one of `KINDS`.
        asked_as: the key under which a store has it; None where it is still to be asked.

    Raises:
        UserError: another kind, a pair of more than two, or a segment that one of another kind shows twice.
    """

    left: Segment
    right: Segment
    others: tuple[Segment, ...] = field(default=(), kw_only=True)
    kind: str = field(default="pair", kw_only=True)
    asked_as: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.kind not in KINDS or (self.kind == "pair" and self.others):
            raise UserError(
                f"a question of kind {self.kind!r} shows {len(self.segments)} segments: a pair shows two, and one of "
                f"the kinds {' and '.join(KINDS[1:])} two or more."
            )
        shown = [(segment.key, segment.occasion) for segment in self.segments] if self.kind != "pair" else []
        if len(set(shown)) < len(shown):
            place = next(place for place, one in enumerate(shown) if one in shown[:place])
            raise UserError(
                f"a {self.kind} question shows one segment, {self.segments[place]!r}, in places "
                f"{shown.index(shown[place])} and {place}: it must show different ones."
            )

    @classmethod
    def of(cls, segments: Sequence[Segment], kind: str = "pair", asked_as: str | None = None) -> Query:
        """A question about these, in the order they are shown."""
        left, right, *others = segments
        return cls(left, right, others=tuple(others), kind=kind, asked_as=asked_as)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What is shown, in order."""
        return (self.left, self.right, *self.others)

    @cached_property
    def key(self) -> str:
        """Hash of its kind and of what it shows in order, contents and occasions, 32 hexadecimal digits."""
        return self.asked_as or question_key(self.kind, [(s.key, s.occasion) for s in self.segments])


@dataclass(frozen=True)
class Preference:
    """An answer to a query (paper, section 2.2.2).

    Attributes:
        query: what was asked.
        mu: of a pair, weight on the *left* segment, in [0, 1]: 1 left is better, 0 right is better, 0.5 equally good,
            and what lies between is how sure the labeler is; None when he could not tell, which spends a question and
            teaches nothing.
        labeler: who answered.
        seconds: how long answering took, in labeler's time (simulated for an oracle).
        choice: of a ranking, the places of its segments from best to worst, from 0, equals joined: "2>0=1"; of a
            question for the best, its place, or several that are equally the best: "2", "0=1"; None when he could not
            tell, and of a pair.
        strength: how much better what was called better is, in [0, 1], where the labeler says so; not of a ranking,
            which says it by what it puts between.
        critique: what was said about it in words; nothing is learned from it.
    """

    query: Query
    mu: float | None
    labeler: str
    seconds: float
    choice: str | None = field(default=None, kw_only=True)
    strength: float | None = field(default=None, kw_only=True)
    critique: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name, about in (("mu", "the weight on the left segment"), ("strength", "how much better one is")):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, Real) and 0 <= float(value) <= 1):
                raise ValueError(f"{name} is {about}, a number from 0 to 1, or None (skipped): got {value!r}")
        kind, count = self.query.kind, len(self.query.segments)
        if why := misfit(kind, count, self.mu, self.choice, self.strength):
            raise ValueError(why)

    @property
    def is_decided(self) -> bool:
        """Whether anything was said; "equally good" is something."""
        return self.mu is not None or self.choice is not None

    @property
    def ranks(self) -> tuple[int, ...]:
        """The place of each segment in the order that was stated, 0 for the best; equals, and the rest, have the same.

        Raises:
            ValueError: nothing was said.
        """
        if self.choice is not None:
            return ranks_of(self.choice, len(self.query.segments))
        if self.mu is None:
            raise ValueError("a skipped question has no order")
        return int(self.mu < 0.5), int(self.mu > 0.5)


def comparisons(kind: str, k: int) -> int:
    """How many pairs of segments an answer compares: all of a ranking's, of a best one that with each of the rest."""
    return k - 1 if kind == "best" else comb(k, 2)


CHOICE = re.compile("[0-9]{1,3}([>=][0-9]{1,3})*")


def ranks_of(choice: str, count: int) -> tuple[int, ...]:
    """The ranks, from 0, of `count` segments by a choice such as "2>0=1"; what it leaves out comes last, all equal."""
    ranks = [choice.count(">") + 1] * count
    for rank, equals in enumerate(choice.split(">")):
        for place in equals.split("="):
            ranks[int(place)] = rank
    return tuple(ranks)


def choice_of(ranks: Sequence[float], kind: str = "ranking") -> str:
    """What is recorded of an order, lower is better: all of it, or, of the kind "best", what comes first."""
    groups = ["=".join(str(i) for i, one in enumerate(ranks) if one == rank) for rank in sorted(set(ranks))]
    return groups[0] if kind == "best" else ">".join(groups)


def misfit(kind: str, count: int, mu: Any, choice: Any, strength: Any = None) -> str:
    """Why this is no answer to a question of so many segments; "" where it is one."""
    if kind == "pair":
        return "" if choice is None else f"choice is {choice!r:.80}, and a pair is answered by mu alone"
    if mu is not None:
        return f"mu is {mu!r:.80}, and its question is no pair: it is answered by a choice such as '2>0=1'"
    if kind == "ranking" and strength is not None:
        return f"strength is {strength!r:.80}, and a ranking says by what lies between how much better one is"
    if choice is None:
        return ""
    good = isinstance(choice, str) and CHOICE.fullmatch(choice)
    places = [int(place) for place in re.split("[>=]", choice)] if good else []
    if kind == "best":
        fits = places and ">" not in choice and len(set(places)) == len(places) and max(places) < count
    else:
        fits = sorted(places) == list(range(count))
    wanted = "the best one's place" if kind == "best" else "the place of each, once, from best to worst as in '2>0=1'"
    return "" if fits else f"choice is {choice!r:.80} of {count} segments, and not {wanted}"


def word_of(mu: float | None, choice: str | None = None) -> str:
    """What was said, in a word: left, right, equal or cannot tell; of a choice its places, as people count, from 1."""
    if choice is not None:
        return re.sub("[0-9]+", lambda place: str(int(place[0]) + 1), choice)
    if mu is None:
        return "cannot tell"
    return "equal" if mu == 0.5 else "left" if mu > 0.5 else "right"
