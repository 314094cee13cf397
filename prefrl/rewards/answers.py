"""The answers so far, stacked as arrays once when they come in, and given out by minibatch.

Steps of vectors stay one float32 tensor. Of images each answer keeps the frames that neighbouring stacks share once:
compressed on a CPU, where an answer takes a few dozen kilobytes instead of more than a megabyte; as they are on a GPU,
which would wait while they are unpacked.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from prefrl.experience.ring import is_shifted
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.words.preference import Preference


@dataclass(frozen=True)
class Minibatch:
    """Some answers, as a fit takes them.

    Attributes:
        inputs: (b, 2, T, *features) steps of left and right segments as the networks take them, not normalised.
        mask: (b, 2, T) 1 on the steps of a segment, 0 after its end.
        mu: (b,) weight on the left segment.
        counts: (b, K) times each answer is in each member's bootstrap.
        true_returns: (b, 2) of the segments, over their deviation among all answers; for the objective "target" alone.
    """

    inputs: Shaped[Tensor, "b 2 t *features"]
    mask: Float[Tensor, "b 2 t"]
    mu: Float[Tensor, " b"]
    counts: Float[Tensor, "b k"]
    true_returns: Float[Tensor, "b 2"]


@dataclass(frozen=True)
class Images:
    """An answer's images.

    Attributes:
        frames: (f, h, w) uint8, the first of them black; bytes of them, compressed, on a CPU.
        place: (2, T, c) of each channel of each step among the frames.
    """

    frames: Tensor | bytes
    place: NDArray[np.int64]


class Answers:
    """Decided answers in order of arrival, the newest `most` of them.

    Args:
        r_hat: says how steps are encoded, and on which device.
        segment_steps: T, the most steps in a segment.
        most: answers kept; None for all.
    """

    def __init__(self, r_hat: RewardEnsemble, segment_steps: int, most: int | None = None) -> None:
        self.r_hat, self.segment_steps, self.most = r_hat, segment_steps, most
        self.device = r_hat.input_mean.device
        self._steps: Tensor | None = None  # (N, 2, T, d), of vectors
        self._images: list[Images] = []
        self._frame_shape: tuple[int, ...] = ()
        self._mask = torch.zeros(0, 2, segment_steps, device=self.device)
        self._mu = torch.zeros(0, device=self.device)
        self._counts = torch.zeros(0, r_hat.members, device=self.device)
        self._true_returns = torch.zeros(0, 2, device=self.device)

    def __len__(self) -> int:
        """Answers kept, N."""
        return len(self._mu)

    def add(self, decided: Sequence[Preference], counts: NDArray[np.integer]) -> None:
        """Take in answers that are not skips, and how often each is in each bootstrap, (n, K)."""
        if not decided:
            return
        lengths = np.array([[len(p.query.left), len(p.query.right)] for p in decided])
        mask = (np.arange(self.segment_steps) < lengths[..., None]).astype(np.float32)
        if self.r_hat.is_image:
            self._images += [self._pack(p) for p in decided]
            self._images = self._images[-self.most if self.most else None :]
        else:
            segments = [s for p in decided for s in (p.query.left, p.query.right)]
            steps = self.r_hat.inputs(
                np.concatenate([s.observations for s in segments]), np.concatenate([s.actions for s in segments])
            )
            padded = torch.zeros(*mask.shape, steps.shape[-1], device=self.device)
            padded[torch.from_numpy(mask).bool()] = steps
            self._steps = self._newest(padded, self._steps)
        self._mask = self._newest(mask, self._mask)
        self._mu = self._newest(np.array([p.mu for p in decided], np.float32), self._mu)
        self._counts = self._newest(counts.astype(np.float32), self._counts)
        true = np.array([[p.query.left.rewards.sum(), p.query.right.rewards.sum()] for p in decided], np.float32)
        self._true_returns = self._newest(true, self._true_returns)

    def state(self) -> dict[str, Any]:
        """The answers kept, as arrays; of images the compressed frames."""
        return {
            "steps": self._steps,
            "images": [[images.frames, images.place] for images in self._images],
            "frame_shape": self._frame_shape,
            "mask": self._mask,
            "mu": self._mu,
            "counts": self._counts,
            "true_returns": self._true_returns,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Hold what `state` returned."""

        def here(tensor: Any) -> Any:
            return tensor.to(self.device) if isinstance(tensor, Tensor) else tensor

        self._steps = here(state["steps"])
        self._images = [Images(here(frames), place) for frames, place in state["images"]]
        self._frame_shape = tuple(state["frame_shape"])
        self._mask, self._mu = here(state["mask"]), here(state["mu"])
        self._counts, self._true_returns = here(state["counts"]), here(state["true_returns"])

    def keep(self, places: NDArray[np.bool_]) -> None:
        """Forget all answers but those at these places, (N,)."""
        chosen = torch.from_numpy(places).to(self.device)
        if self._steps is not None:
            self._steps = self._steps[chosen]
        self._images = [images for images, kept in zip(self._images, places, strict=False) if kept]
        self._mask, self._mu, self._counts = self._mask[chosen], self._mu[chosen], self._counts[chosen]
        self._true_returns = self._true_returns[chosen]

    def batch(self, index: NDArray[np.integer]) -> Minibatch:
        """The answers at these places."""
        place = torch.from_numpy(index).to(self.device)
        if self._steps is not None:
            inputs = self._steps[place]
        else:
            frames = [self._unpack(self._images[i]) for i in index]
            starts = np.cumsum([0, *map(len, frames[:-1])])
            places = np.stack([self._images[i].place + start for i, start in zip(index, starts, strict=True)])
            chosen = torch.cat(frames).index_select(0, torch.from_numpy(places.ravel()).to(self.device))
            inputs = chosen.view(*places.shape, *self._frame_shape)  # indexed as a whole, it takes eight times as long
        true = self._true_returns[place] / self._true_returns.std(correction=0).clamp_min(1e-8)
        return Minibatch(inputs, self._mask[place], self._mu[place], self._counts[place], true)

    def _newest(self, new: Tensor | NDArray[np.float32], old: Tensor | None) -> Tensor:
        added = torch.as_tensor(new, device=self.device)
        both = added if old is None else torch.cat([old, added])
        return both[-self.most if self.most else None :]

    def _pack(self, preference: Preference) -> Images:
        (left, of_left), (right, of_right) = (
            each_once(self.r_hat.inputs(segment.observations, segment.actions).cpu().numpy())
            for segment in (preference.query.left, preference.query.right)
        )
        self._frame_shape = left.shape[1:]
        frames = np.concatenate([np.zeros((1, *self._frame_shape), np.uint8), left, right])
        place = np.zeros((2, self.segment_steps, of_left.shape[1]), np.int64)  # padded with what is black
        place[0, : len(of_left)] = 1 + of_left
        place[1, : len(of_right)] = 1 + len(left) + of_right
        if self.device.type == "cpu":
            return Images(zlib.compress(frames.tobytes(), 1), place)
        return Images(torch.from_numpy(frames).to(self.device), place)

    def _unpack(self, images: Images) -> Tensor:
        if isinstance(images.frames, Tensor):
            return images.frames
        pixels = np.frombuffer(bytearray(zlib.decompress(images.frames)), np.uint8)  # which torch may write to
        return torch.from_numpy(pixels.reshape(-1, *self._frame_shape))


def each_once(images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A segment's frames, without those that a stack shares with the one before.

    Args:
        images: (t, c, h, w); where they are stacks, newest frame last.

    Returns:
        Frames (f, h, w), and the place (t, c) of each channel of each step among them.
    """
    steps, channels = images.shape[:2]
    new = np.ones((steps, channels), bool)
    new[1:, :-1] = ~is_shifted(images[:-1], images[1:])[:, None]
    # A stack is the last `channels` frames there are by then, whether it shares some of them or not.
    place = np.cumsum(new.sum(1))[:, None] + np.arange(-channels, 0)
    return images[new], place
