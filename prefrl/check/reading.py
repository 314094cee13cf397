"""What can be read off an observation: a number that follows another, a picture's cells that count."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefrl.check.played import CELLS


def alignment(
    shown: NDArray[Any],
    rows: NDArray[np.int64],
    target: NDArray[np.float64],
    episode: NDArray[np.int64] | None = None,
    clock: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """|Pearson correlation| of each column of `shown[rows]` with `target`, (d,); 0 where either is constant.

    Args:
        shown: (m, d).
        rows: (n,) into `shown`.
        target: (n,).
        episode: (n,) in order; differences between episodes are taken out of both sides.
        clock: (n,) steps since the reset; what is linear in it is taken out of both sides, so that a clock is not
            mistaken for a score that rises steadily.
    """
    groups = np.zeros(len(target), np.int64) if episode is None else np.unique(episode, return_inverse=True)[1]
    counts = np.bincount(groups)
    starts = np.cumsum(counts) - counts

    def centred(values: NDArray[Any]) -> NDArray[np.float64]:
        wide = values.astype(np.float64)
        return wide - (np.add.reduceat(wide, starts, axis=0) / counts[:, None])[groups]

    def cleaned(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        left = centred(values)
        if clock is not None and np.ptp(clock):
            time = centred(clock[:, None])[:, 0]
            left -= np.outer(time, time @ left / (time @ time))
        size = np.linalg.norm(left, axis=0)
        rounding = 1e-6 * np.sqrt(len(values)) * np.abs(values).max(axis=0)
        return left, np.where(size > rounding, size, np.inf)

    if len(target) < 30:  # too few for a correlation near 1 to mean anything
        return np.zeros(shown.shape[1])
    aim, aim_size = cleaned(target[:, None])
    columns = [slice(i, i + 256) for i in range(0, shown.shape[1], 256)]  # observations may be 10,000 wide
    parts = [cleaned(shown[rows, block]) for block in columns]
    return np.concatenate([np.abs(aim[:, 0] @ left) / (size * aim_size) for left, size in parts])


def score_cells(
    content: NDArray[np.uint32], rewards: NDArray[np.float64], episode: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """The cells of a picture (d,) that stay as they are from one reward to the next and are other after it.

    So a score's digits do, and pieces of the game do not. Of each stretch between rewards the commonest content counts:
    a digit may be drawn some frames late, and an older frame of a stack shows it later still. Only rewards of the
    commoner sign count: a penalty need not be on the screen. On six Atari games and five seeds, 3000 steps each, some
    cell of each score was steady for 0.77 of a stretch or more and changed with 0.81 of the rewards or more; with the
    score blanked, no cell as steady changed with more than 0.60.

    Args:
        content: (n, d).
        rewards: (n,). Stretches of five steps and fewer are left out, and fewer than ten rewards say nothing.
        episode: (n,).
    """
    nothing = np.zeros(content.shape[1], bool)
    edges = np.flatnonzero((rewards[:-1] != 0) | (np.diff(episode) != 0)) + 1
    stretches = [slice(a, b) for a, b in pairwise([0, *edges.tolist(), len(rewards)]) if b - a > 5]
    sign = 1 if (rewards > 0).sum() >= (rewards < 0).sum() else -1
    counts = [episode[a.start] == episode[b.start] and rewards[b.start - 1] * sign > 0 for a, b in pairwise(stretches)]
    if sum(counts) < 10 or not content.size:
        return nothing
    held = np.array([np.quantile(content[part], 0.5, axis=0, method="lower") for part in stretches], np.uint32)
    steady = np.mean([(content[part] == h).mean(axis=0) for part, h in zip(stretches, held, strict=True)], axis=0)
    changed = (held[1:] != held[:-1])[counts].mean(axis=0)
    return np.asarray((steady > 0.75) & (changed > 0.75))


def place(env: Any, features: NDArray[np.int64]) -> str:
    """Where features are: an observation's index, or the part of the picture that holds these cells."""
    from prefrl.words.spaces import channels_first, is_image

    if not is_image(env.observation_space):
        return f"observation {features[0]}"
    depth, height, width = channels_first(env.observation_space.shape)
    row, column = np.divmod(features // depth, CELLS)
    top, bottom = row.min() * height // CELLS, (row.max() + 1) * height // CELLS
    left, right = column.min() * width // CELLS, (column.max() + 1) * width // CELLS
    return f"the picture in rows {top} to {bottom - 1} and columns {left} to {right - 1}"


def correlation_or_zero(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Pearson's; 0 where either is constant."""
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else 0.0
