"""The nouns: a segment of behaviour, a query about two of them, the preference someone states.

Christiano et al. 2017 (arXiv 1706.03741), sections 2.1 and 2.2.2.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


@dataclass(frozen=True, eq=False)
class Query:
    """Two segments, shown side by side, for someone to say which is better."""

    left: Segment
    right: Segment

    @cached_property
    def key(self) -> str:
        """Content hash of the ordered pair, 32 hexadecimal digits."""
        return hashlib.blake2b(f"{self.left.key}{self.right.key}".encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Preference:
    """An answer to a query (paper, section 2.2.2).

    Attributes:
        query: what was asked.
        mu: weight on the *left* segment: 1 left is better, 0 right is better, 0.5 equally good;
            None when the labeler could not tell, which spends a question and teaches nothing.
        labeler: who answered.
        seconds: how long answering took, in labeler's time (simulated for an oracle).
    """

    query: Query
    mu: float | None
    labeler: str
    seconds: float

    def __post_init__(self) -> None:
        if self.mu not in (None, 0.0, 0.5, 1.0):
            raise ValueError(f"mu is the weight on the left segment, one of 1, 0.5, 0 or None (skipped): got {self.mu}")
