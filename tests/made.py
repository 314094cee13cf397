"""Segments, questions and answers made by number, for tests of whatever keeps them."""

from dataclasses import replace
from typing import Any

import numpy as np

from prefrl.words.preference import Preference, Query, Segment


def make_segment(number: int, **changes: Any) -> Segment:
    """A segment of three steps that holds its number."""
    segment = Segment(
        observations=np.full((3, 2), number, np.float64),
        actions=np.zeros((3, 1), np.float32),
        rewards=np.arange(3.0),
        env_id="Some-v0",
        step=1000 + number,
        seed=7,
        env_index=2,
        episode=5,
        offset=11,
    )
    return replace(segment, **changes)


def make_query(number: int) -> Query:
    return Query(make_segment(2 * number), make_segment(2 * number + 1))


def make_preference(number: int, labeler: str = "oracle", mu: float | None = 1.0, seconds: float = 2.5) -> Preference:
    return Preference(make_query(number), mu, labeler, seconds)


def content(preferences: list[Preference]) -> list[tuple[str, float | None, str, float]]:
    return [(p.query.key, p.mu, p.labeler, p.seconds) for p in preferences]
