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
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from prefrl.experience.ring import is_shifted
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.words.plackett_luce import LIKELIHOODS, Choices, best_of
from prefrl.words.preference import Preference


@dataclass(frozen=True)
class Minibatch:
    """Some answers, as a fit takes them: about n segments each, 2 of pairs; one about fewer is filled up.

    Attributes:
        inputs: (b, n, T, *features) steps of the segments as the networks take them, not normalised; of a pair left and
            right.
        mask: (b, n, T) 1 on the steps of a segment, 0 after its end, and where there is none.
        chosen: (b, s, n) what was said, as `prefrl.words.plackett_luce.Choices`; of a pair the weights on its segments.
        among: (b, s, n) what each choice was from.
        ranks: (b, n) places in the stated order, 0 for the best.
        margin: (b, n) by how much a segment must beat the others to be called as good as they are, in nats.
        counts: (b, K) times each answer is in each member's bootstrap.
        true_returns: (b, n) of the segments, over their deviation among all answers; for the objective "target" alone.
    """

    inputs: Shaped[Tensor, "b n t *features"]
    mask: Float[Tensor, "b n t"]
    chosen: Float[Tensor, "b s n"]
    among: Bool[Tensor, "b s n"]
    ranks: Float[Tensor, "b n"]
    margin: Float[Tensor, "b n"]
    counts: Float[Tensor, "b k"]
    true_returns: Float[Tensor, "b n"]

    @property
    def mu(self) -> Float[Tensor, " b"]:
        """Of answers about two segments: the weight on the left one."""
        return self.chosen[:, 0, 0]

    @property
    def there(self) -> Float[Tensor, "b n"]:
        """1 for a segment, 0 where an answer was about fewer."""
        return self.mask.amax(-1)


@dataclass(frozen=True)
class Images:
    """An answer's images.

    Attributes:
        frames: (f, h, w) uint8, the first of them black; bytes of them, compressed, on a CPU.
        place: (n, T, c) of each channel of each step among the frames.
    """

    frames: Tensor | bytes
    place: NDArray[np.int64]


class Answers:
    """Decided answers in order of arrival, the newest `most` of them.

    Args:
        r_hat: says how steps are encoded, and on which device.
        segment_steps: T, the most steps in a segment.
        most: answers kept; None for all.
        likelihood: what an order is taken for, a key of `prefrl.words.plackett_luce.LIKELIHOODS`.
        margin: nats by which what was called best must beat the others where it was called better by all there is; 0
            leaves out how much better it was called (Touvron et al. 2023, arXiv 2307.09288, equation 2).
    """

    def __init__(
        self,
        r_hat: RewardEnsemble,
        segment_steps: int,
        most: int | None = None,
        likelihood: str = "plackett-luce",
        margin: float = 0.0,
    ) -> None:
        self.r_hat, self.segment_steps, self.most = r_hat, segment_steps, most
        self.likelihood, self.margin = likelihood, margin
        self.device = r_hat.input_mean.device
        self._steps: Tensor | None = None  # (N, n, T, d), of vectors
        self._images: list[Images] = []
        self._frame_shape: tuple[int, ...] = ()
        self._mask = torch.zeros(0, 2, segment_steps, device=self.device)
        self._chosen = torch.zeros(0, 1, 2, device=self.device)
        self._among = torch.zeros(0, 1, 2, device=self.device, dtype=torch.bool)
        self._ranks = torch.zeros(0, 2, device=self.device)
        self._margin = torch.zeros(0, 2, device=self.device)
        self._counts = torch.zeros(0, r_hat.members, device=self.device)
        self._true_returns = torch.zeros(0, 2, device=self.device)

    def __len__(self) -> int:
        """Answers kept, N."""
        return len(self._mask)

    @property
    def shown(self) -> int:
        """The most segments of an answer so far, n; 2 of pairs."""
        return self._mask.shape[1]

    def add(self, decided: Sequence[Preference], counts: NDArray[np.integer]) -> None:
        """Take in answers that are not skips, and how often each is in each bootstrap, (n, K)."""
        if not decided:
            return
        shown = max(len(p.query.segments) for p in decided)
        lengths = np.zeros((len(decided), shown), np.int64)
        true = np.zeros((len(decided), shown), np.float32)
        for row, p in enumerate(decided):
            lengths[row, : len(p.query.segments)] = [len(s) for s in p.query.segments]
            true[row, : len(p.query.segments)] = [s.rewards.sum() for s in p.query.segments]
        mask = (np.arange(self.segment_steps) < lengths[..., None]).astype(np.float32)
        if self.r_hat.is_image:
            self._images += [self._pack(p) for p in decided]
            self._images = self._images[-self.most if self.most else None :]
        else:
            segments = [s for p in decided for s in p.query.segments]
            steps = self.r_hat.inputs(
                np.concatenate([s.observations for s in segments]), np.concatenate([s.actions for s in segments])
            )
            padded = torch.zeros(*mask.shape, steps.shape[-1], device=self.device)
            padded[torch.from_numpy(mask).bool()] = steps
            self._steps = self._newest(padded, self._steps)
        self._mask = self._newest(mask, self._mask)
        ranks = [_ranks(p) for p in decided]
        choices = [self._choices(p, r) for p, r in zip(decided, ranks, strict=True)]
        self._chosen = self._newest(stacked([c.chosen for c in choices]).astype(np.float32), self._chosen)
        self._among = self._newest(stacked([c.among for c in choices]), self._among)
        margins = [self._margins(p, r) for p, r in zip(decided, ranks, strict=True)]
        self._margin = self._newest(stacked(margins).astype(np.float32), self._margin)
        self._ranks = self._newest(stacked(ranks).astype(np.float32), self._ranks)
        self._counts = self._newest(counts.astype(np.float32), self._counts)
        self._true_returns = self._newest(true, self._true_returns)

    def state(self) -> dict[str, Any]:
        """The answers kept, as arrays; of images the compressed frames."""
        return {
            "steps": self._steps,
            "images": [[images.frames, images.place] for images in self._images],
            "frame_shape": self._frame_shape,
            "mask": self._mask,
            "chosen": self._chosen,
            "among": self._among,
            "ranks": self._ranks,
            "margin": self._margin,
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
        self._mask, self._chosen, self._among = here(state["mask"]), here(state["chosen"]), here(state["among"])
        self._ranks, self._margin = here(state["ranks"]), here(state["margin"])
        self._counts, self._true_returns = here(state["counts"]), here(state["true_returns"])

    def keep(self, places: NDArray[np.bool_]) -> None:
        """Forget all answers but those at these places, (N,)."""
        chosen = torch.from_numpy(places).to(self.device)
        if self._steps is not None:
            self._steps = self._steps[chosen]
        self._images = [images for images, kept in zip(self._images, places, strict=False) if kept]
        self._mask, self._counts = self._mask[chosen], self._counts[chosen]
        self._chosen, self._among = self._chosen[chosen], self._among[chosen]
        self._ranks, self._margin = self._ranks[chosen], self._margin[chosen]
        self._true_returns = self._true_returns[chosen]

    def batch(self, index: NDArray[np.integer]) -> Minibatch:
        """The answers at these places."""
        place = torch.from_numpy(index).to(self.device)
        if self._steps is not None:
            inputs = self._steps[place]
        else:
            frames = [self._unpack(self._images[i]) for i in index]
            starts = np.cumsum([0, *map(len, frames[:-1])])
            places = stacked(
                [self._images[i].place + start for i, start in zip(index, starts, strict=True)], self.shown
            )
            chosen = torch.cat(frames).index_select(0, torch.from_numpy(places.ravel()).to(self.device))
            inputs = chosen.view(*places.shape, *self._frame_shape)  # indexed as a whole, it takes eight times as long
        deviation = self._true_returns[self._mask.amax(-1) > 0].std(correction=0).clamp_min(1e-8)
        return Minibatch(
            inputs,
            self._mask[place],
            self._chosen[place],
            self._among[place],
            self._ranks[place],
            self._margin[place],
            self._counts[place],
            self._true_returns[place] / deviation,
        )

    def _choices(self, preference: Preference, ranks: NDArray[np.integer]) -> Choices:
        """What was said, as the likelihood takes it."""
        mu = preference.mu
        if mu is not None:
            return Choices(np.array([[mu, 1 - mu]]), np.ones((1, 2), bool))
        return (best_of if preference.query.kind == "best" else LIKELIHOODS[self.likelihood])(ranks)

    def _margins(self, preference: Preference, ranks: NDArray[np.integer]) -> NDArray[np.float64]:
        """The margin of the best, if it is better than something, by how much better, and how surely, it was called."""
        sure = 1.0 if preference.mu is None else abs(2 * preference.mu - 1)
        better: NDArray[np.float64] = ((ranks == 0) & (ranks.max() > 0)).astype(np.float64)
        return self.margin * (preference.strength or 0.0) * sure * better

    def _newest(self, new: Tensor | NDArray[Any], old: Tensor | None) -> Tensor:
        added = torch.as_tensor(new, device=self.device)
        if old is not None:
            shape = [max(sizes) for sizes in zip(old.shape[1:], added.shape[1:], strict=True)]
            added = torch.cat([_grown(old, shape), _grown(added, shape)])
        return added[-self.most if self.most else None :]

    def _pack(self, preference: Preference) -> Images:
        seen = [
            each_once(self.r_hat.inputs(segment.observations, segment.actions).cpu().numpy())
            for segment in preference.query.segments
        ]
        self._frame_shape = seen[0][0].shape[1:]
        frames = np.concatenate([np.zeros((1, *self._frame_shape), np.uint8), *(frames for frames, _ in seen)])
        place = np.zeros((len(seen), self.segment_steps, seen[0][1].shape[1]), np.int64)  # padded with what is black
        before = 1
        for row, (own, of_own) in enumerate(seen):
            place[row, : len(of_own)] = before + of_own
            before += len(own)
        if self.device.type == "cpu":
            return Images(zlib.compress(frames.tobytes(), 1), place)
        return Images(torch.from_numpy(frames).to(self.device), place)

    def _unpack(self, images: Images) -> Tensor:
        if isinstance(images.frames, Tensor):
            return images.frames
        pixels = np.frombuffer(bytearray(zlib.decompress(images.frames)), np.uint8)  # which torch may write to
        return torch.from_numpy(pixels.reshape(-1, *self._frame_shape))


def _ranks(preference: Preference) -> NDArray[np.integer]:
    """Places in the stated order; of a pair as single precision can tell its weight from a half."""
    if preference.mu is None:
        return np.array(preference.ranks)
    mu = np.float32(preference.mu)
    return np.array([mu < 0.5, mu > 0.5], np.int64)


def stacked(arrays: Sequence[NDArray[Any]], least: int = 0) -> NDArray[Any]:
    """Arrays of one rank as one, each filled up with zeros to the largest, the first axis at least to `least`."""
    shape = np.max([array.shape for array in arrays], axis=0)
    shape[0] = max(shape[0], least)
    return np.stack(
        [np.pad(array, [(0, most - size) for most, size in zip(shape, array.shape, strict=True)]) for array in arrays]
    )


def _grown(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """The same answers with room for more about each, zeros at first."""
    if list(tensor.shape[1:]) == list(shape):
        return tensor
    grown = tensor.new_zeros(len(tensor), *shape)
    grown[(slice(None), *(slice(size) for size in tensor.shape[1:]))] = tensor
    return grown


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
