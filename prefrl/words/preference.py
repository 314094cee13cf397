"""The nouns: a segment of behaviour, a query about two of them, the preference someone states.

Christiano et al. 2017 (arXiv 1706.03741), sections 2.1 and 2.2.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


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
    """Two segments, shown side by side, for someone to say which is better.

    A question is an occasion: two pairs of segments that hold the same and were cut elsewhere are two questions, which
    a noisy labeler may answer differently.

    Attributes:
        left: one segment.
        right: the other.
        asked_as: the key under which a store has it; None where it is still to be asked.
    """

    left: Segment
    right: Segment
    asked_as: str | None = field(default=None, kw_only=True)

    @cached_property
    def key(self) -> str:
        """Hash of the ordered pair, contents and occasions, 32 hexadecimal digits."""
        return self.asked_as or question_key("pair", [(s.key, s.occasion) for s in (self.left, self.right)])


@dataclass(frozen=True)
class Preference:
    """An answer to a query (paper, section 2.2.2).

    Attributes:
        query: what was asked.
        mu: weight on the *left* segment, in [0, 1]: 1 left is better, 0 right is better, 0.5 equally good, and what
            lies between is how sure the labeler is; None when he could not tell, which spends a question and teaches
            nothing.
        labeler: who answered.
        seconds: how long answering took, in labeler's time (simulated for an oracle).
    """

    query: Query
    mu: float | None
    labeler: str
    seconds: float

    def __post_init__(self) -> None:
        if self.mu is not None and not (isinstance(self.mu, Real) and 0 <= self.mu <= 1):
            raise ValueError(
                f"mu is the weight on the left segment, a number from 0 to 1, or None (skipped): got {self.mu!r}"
            )


def word_of(mu: float | None) -> str:
    """What was said, in a word: left, right, equal or cannot tell."""
    if mu is None:
        return "cannot tell"
    return "equal" if mu == 0.5 else "left" if mu > 0.5 else "right"
