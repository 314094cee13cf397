"""Observations of recent steps, each distinct frame kept once.

A stack of the last S frames repeats all but its newest frame from step to step: 25 steps of 84 x 84 x 4 are 28 frames
(198 kB), not 100 (706 kB).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ArrayRing:
    """Observations as they are: a row for each of the newest `capacity` vector steps.

    Args:
        capacity: rows.
        n_envs: environments E.
        shape: of one observation.
        dtype: of one observation.
    """

    older = 0  # rows before a row that its observations are made of

    def __init__(self, capacity: int, n_envs: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._rows: NDArray[Any] = np.zeros((capacity, n_envs, *shape), dtype)

    def put(self, row: int, observations: NDArray[Any]) -> None:
        """Keep a vector step's observations (E, *shape) in a row."""
        self._rows[row] = observations

    def get(self, row: NDArray[np.integer], env: NDArray[np.integer]) -> NDArray[Any]:
        """Observations (m, *shape) at these rows and environments, both (m,)."""
        observations: NDArray[Any] = self._rows[row, env]
        return observations

    def state(self) -> dict[str, Any]:
        """The rows."""
        return {"rows": self._rows}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Hold what `state` returned."""
        self._rows[:] = state["rows"]


class FrameRing:
    """Stacks of frames (S, H, W), newest last, of which only the newest is kept for each step.

    Where a stack is not the last one shifted by a frame (a reset), it is kept whole. Rows are given in order, each
    once around the ring.
    """

    def __init__(self, capacity: int, n_envs: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.stack = shape[0]
        self.older = self.stack - 1
        self._frames: NDArray[Any] = np.zeros((capacity, n_envs, *shape[1:]), dtype)
        self._age = np.zeros((capacity, n_envs), np.int64)  # steps since the environment's last whole stack, at most S
        self._whole: dict[tuple[int, int], NDArray[Any]] = {}
        self._last: NDArray[Any] | None = None

    def put(self, row: int, observations: NDArray[Any]) -> None:
        """Keep a vector step's observations (E, S, H, W) in a row."""
        envs = range(observations.shape[0])
        if (self._age[row] == 0).any():
            for env in envs:
                self._whole.pop((row, env), None)
        first = np.zeros(len(envs), bool)
        shifted = first if self._last is None else is_shifted(self._last, observations)
        self._age[row] = np.where(shifted, np.minimum(self._age[row - 1] + 1, self.stack), 0)
        for env in np.flatnonzero(~shifted).tolist():
            self._whole[row, env] = observations[env].copy()
        self._frames[row] = observations[:, -1]
        self._last = observations.copy()

    def get(self, row: NDArray[np.integer], env: NDArray[np.integer]) -> NDArray[Any]:
        """Observations (m, S, H, W) at these rows and environments, both (m,)."""
        capacity = len(self._frames)
        stacks: NDArray[Any] = self._frames[(row[:, None] - np.arange(self.older, -1, -1)) % capacity, env[:, None]]
        age = self._age[row, env]
        for i in np.flatnonzero(age < self.older):  # the oldest frames are those of the last whole stack
            whole = self._whole[int(row[i] - age[i]) % capacity, int(env[i])]
            stacks[i, : self.stack - age[i]] = whole[age[i] :]
        return stacks

    def state(self) -> dict[str, Any]:
        """The frames, and the stacks that are kept whole, by row and environment."""
        return {"frames": self._frames, "age": self._age, "whole": self._whole, "last": self._last}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Hold what `state` returned."""
        self._frames[:], self._age[:] = state["frames"], state["age"]
        self._whole, self._last = dict(state["whole"]), state["last"]


def is_shifted(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each environment's stack (E, S, H, W) is the one before, moved on by a frame; (E,)."""
    same: NDArray[np.bool_] = (after[:, :-1] == before[:, 1:]).all((1, 2, 3))
    return same
