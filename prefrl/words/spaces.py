"""What networks take of Gymnasium's spaces: which of them are images, and how the others become vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from prefrl.words.errors import UserError

SMALLEST_IMAGE = 43  # pixels a side that both the reward's and the policy's convolutions need


def is_image(space: spaces.Space[Any]) -> bool:
    """Whether observations are pixels for a convolution: uint8, height x width x channels or channels first."""
    if not (isinstance(space, spaces.Box) and len(space.shape) == 3 and space.dtype == np.uint8):
        return False
    if space.low.min() != 0 or space.high.max() != 255:
        return False
    first, middle, last = space.shape
    return middle >= SMALLEST_IMAGE and min(first, last) < SMALLEST_IMAGE <= max(first, last)


def channels_first(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """An image's channels, height and width; the channels are the smallest, first or last."""
    return (shape[0], shape[1], shape[2]) if shape[0] < shape[2] else (shape[2], shape[0], shape[1])


def encoded_size(space: spaces.Space[Any]) -> int:
    """Numbers in the encoding of a space's elements: a vector as it is, choices as one-hot."""
    return int(spaces.flatdim(space))


def encode(space: spaces.Space[Any], batch: NDArray[Any]) -> NDArray[np.float32]:
    """A batch (n, *shape) of a space's elements as float32 (n, d): vectors as they are, choices one-hot."""
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return batch.reshape(len(batch), encoded_size(space)).astype(np.float32, copy=False)
    if isinstance(space, spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[batch.reshape(-1).astype(np.int64) - int(space.start)]
    if isinstance(space, spaces.MultiDiscrete):
        choices = batch.reshape(len(batch), space.nvec.size).astype(np.int64) - space.start.reshape(-1)
        ends = np.cumsum(space.nvec.reshape(-1))
        hot = np.zeros((len(batch), int(ends[-1])), np.float32)
        np.put_along_axis(hot, choices + ends - space.nvec.reshape(-1), 1.0, axis=1)
        return hot
    raise UserError(f"a reward cannot be learned on {space}: it takes Box, Discrete, MultiDiscrete and MultiBinary.")


def same_inputs(left: spaces.Space[Any], right: spaces.Space[Any]) -> bool:
    """Whether elements of two spaces are encoded alike; bounds, and the precision of vectors, do not matter."""
    if isinstance(left, spaces.Box) and isinstance(right, spaces.Box):
        return left.shape == right.shape and is_image(left) == is_image(right)
    return type(left) is type(right) and describe(left) == describe(right)


def describe(space: spaces.Space[Any]) -> dict[str, Any]:
    """A space as JSON: its kind, and the sizes and types that the networks depend on."""
    if isinstance(space, spaces.Box):
        return {"kind": "Box", "shape": list(space.shape), "dtype": np.dtype(space.dtype).str}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "shape": list(space.shape)}
    raise UserError(f"a reward cannot be learned on {space}: it takes Box, Discrete, MultiDiscrete and MultiBinary.")


def described_size(description: dict[str, Any]) -> int:
    """Numbers in the encoding of the space that `describe` described; nothing is made of it.

    Raises:
        KeyError, TypeError, ValueError: it is no such description.
    """
    if description["kind"] == "Discrete":
        return int(description["n"])
    if description["kind"] == "MultiDiscrete":
        return sum(int(count) for count in np.ravel(description["nvec"]))
    return math.prod(int(length) for length in description["shape"])


def space_of(description: dict[str, Any]) -> spaces.Space[Any]:
    """The space that `describe` described; the bounds of a Box, which the networks do not use, are its type's."""
    kind, about = description["kind"], description
    if kind == "Box":
        dtype = np.dtype(about["dtype"])
        if dtype.kind == "f":
            return spaces.Box(-np.inf, np.inf, tuple(about["shape"]), dtype.type)
        return spaces.Box(np.iinfo(dtype).min, np.iinfo(dtype).max, tuple(about["shape"]), dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(about["n"], start=about["start"])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(np.array(about["nvec"]), start=np.array(about["start"]))
    if kind == "MultiBinary":
        return spaces.MultiBinary(about["shape"])
    raise ValueError(f"there is no kind of space called {kind!r:.40}")
