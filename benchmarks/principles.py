"""Principles for HalfCheetah, which `benchmarks/principles.toml` lists: o is height, pitch, 6 angles, 9 velocities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FAST = 5.0  # m/s, at which more is no better


def goes_forward(observations: NDArray[Any], actions: NDArray[Any]) -> NDArray[Any]:
    """How near it is to a fast run."""
    return np.asarray(np.clip(observations[:, 8] / FAST, 0, 1))


def stays_upright(observations: NDArray[Any], actions: NDArray[Any]) -> NDArray[Any]:
    """Whether its back is within 30 degrees of level."""
    return np.asarray(np.cos(observations[:, 1]) > np.cos(np.pi / 6))


def wastes_no_effort(observations: NDArray[Any], actions: NDArray[Any]) -> NDArray[Any]:
    """Whether the mean square of its torques is below four tenths of the most."""
    return np.asarray(np.square(actions).mean(axis=1) < 0.4)
