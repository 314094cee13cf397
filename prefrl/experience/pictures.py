"""What environments draw, as pictures of one kind; small ones enlarged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefrl.words.spaces import channels_first

Frames = NDArray[np.uint8]

HEIGHT = 360


def picture(drawn: Any) -> Frames:
    """What `render` returned as a picture (h, w, 3) of uint8.

    Grey pictures (h, w) and (h, w, 1), those with an opacity (h, w, 4), which is left out, channels that come first,
    truth values, and numbers from 0 to 1 or from 0 to 255 are understood; of a list of pictures the newest counts.

    Raises:
        ValueError: it is none of these; the message says what it is, as the object of a sentence.
    """
    if isinstance(drawn, list | tuple) and len(drawn) and not np.isscalar(drawn[-1]) and np.ndim(drawn[-1]) >= 2:
        drawn = drawn[-1]
    try:
        array = np.asarray(drawn)
    except Exception as error:
        raise ValueError(f"something that is no array ({type(drawn).__name__})") from error
    what = "None" if drawn is None else f"an array {array.shape} of {array.dtype}"
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or min(array.shape) < 1 or min(array.shape[:2]) < 2:
        raise ValueError(what)
    if array.dtype.kind not in "biuf":
        raise ValueError(what)
    if array.dtype != np.uint8:
        low, high = array.min(), array.max()
        if not 0 <= low <= high <= 255:
            raise ValueError(f"{what} from {low + 0} to {high + 0}")  # no minus before a zero
        shares = array.dtype.kind in "bf" and high <= 1
        array = np.rint(array * 255.0 if shares else array).astype(np.uint8)
    colours = array[..., :3]
    return np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3)))


def readable(observations: Frames) -> Frames:
    """The newest picture of each observation (T, h, w, c) or (T, c, h, w), enlarged, (T, h, w, 3).

    Channels are those of one grey or coloured picture, of one with an opacity, which is whole everywhere, or of a
    stack of grey or coloured ones.
    """
    if channels_first(observations.shape[1:]) == observations.shape[1:]:
        observations = observations.transpose(0, 2, 3, 1)
    if observations.shape[-1] == 4 and (observations[..., 3] == 255).all():
        observations = observations[..., :3]
    newest = observations[..., -3:] if observations.shape[-1] % 3 == 0 else observations[..., -1:]
    return enlarged(newest.repeat(3 // newest.shape[-1], axis=-1))


def enlarged(frames: Frames) -> Frames:
    """Frames (T, h, w, 3), small ones by the whole factor that brings them to some `HEIGHT` rows."""
    times = max(1, round(HEIGHT / frames.shape[1]))
    return frames.repeat(times, axis=1).repeat(times, axis=2)
