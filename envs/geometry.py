"""How far parts of a robot are above the floor, from its pose alone, for any number of robots at once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Link = tuple[tuple[float, float], tuple[tuple[float, float], ...], float]


def _rod(x: float, z: float, tilt: float, half: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Both ends of a capsule's axis, from its middle, its tilt about y from the vertical and its half length."""
    dx, dz = half * float(np.sin(tilt)), half * float(np.cos(tilt))
    return (x + dx, z + dz), (x - dx, z - dz)


HOPPER_ABOVE_FOOT: tuple[Link, ...] = (
    ((0.0, 0.0), ((0.0, 0.2), (0.0, -0.2)), 0.05),
    ((0.0, -0.2), ((0.0, 0.0), (0.0, -0.45)), 0.05),
    ((0.0, -0.45), ((0.0, 0.0), (0.0, -0.5)), 0.04),
)
CHEETAH_WITHOUT_BACK_LEG: tuple[Link, ...] = (
    ((0.0, 0.0), ((-0.5, 0.0), (0.5, 0.0), *_rod(0.6, 0.1, 0.87, 0.15)), 0.046),
    ((0.5, 0.0), _rod(-0.07, -0.12, 0.52, 0.133), 0.046),
    ((-0.14, -0.24), _rod(0.065, -0.09, -0.6, 0.106), 0.046),
    ((0.13, -0.18), _rod(0.045, -0.07, -0.6, 0.07), 0.046),
)
CHEETAH_BACK_LEG: tuple[Link, ...] = (
    ((0.0, 0.0), (), 0.0),
    ((-0.5, 0.0), _rod(0.1, -0.13, -3.8, 0.145), 0.046),
    ((0.16, -0.25), _rod(-0.14, -0.07, -2.03, 0.15), 0.046),
    ((-0.28, -0.14), _rod(0.03, -0.097, -0.27, 0.094), 0.046),
)
"""Links from torso outwards, each (its joint in the link before, the ends of its capsules, their radius): metres along
x and z of the link's own frame, from Gymnasium's hopper.xml and half_cheetah.xml; a test holds them against MuJoCo."""


def clearance(height: Array, pitches: Iterable[Array], links: Iterable[Link]) -> Array:
    """Height above the floor of the lowest point of a chain of links in the x-z plane, metres, (...).

    Args:
        height: of the first link's joint, (...).
        pitches: angle of each link to the world about +y (nose down is positive), each (...).
        links: the chain.
    """
    lowest = np.full_like(height, np.inf)
    sin, cos = np.zeros_like(height), np.ones_like(height)
    for pitch, ((x, z), ends, radius) in zip(pitches, links, strict=True):
        height = height + z * cos - x * sin
        sin, cos = np.sin(pitch), np.cos(pitch)
        for x, z in ends:
            lowest = np.minimum(lowest, height + z * cos - x * sin - radius)
    return lowest
