"""The answers so far, stacked as arrays once when they come in, and given out by minibatch.

Steps of vectors stay one float32 tensor. Images stay compressed, each answer by itself: the frames that neighbouring
stacks share cost nothing twice, and an answer takes a few dozen kilobytes instead of more than a megabyte.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from prefrl.preference import Preference
from prefrl.reward_model import RewardEnsemble


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
        self._packed: list[bytes] = []  # of images, each (2, T, c, h, w) uint8
        self._image_shape: tuple[int, ...] = ()
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
            self._packed += [self._pack(p) for p in decided]
            self._packed = self._packed[-self.most if self.most else None :]
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

    def keep(self, places: NDArray[np.bool_]) -> None:
        """Forget all answers but those at these places, (N,)."""
        chosen = torch.from_numpy(places).to(self.device)
        if self._steps is not None:
            self._steps = self._steps[chosen]
        self._packed = [packed for packed, kept in zip(self._packed, places, strict=False) if kept]
        self._mask, self._mu, self._counts = self._mask[chosen], self._mu[chosen], self._counts[chosen]
        self._true_returns = self._true_returns[chosen]

    def batch(self, index: NDArray[np.integer]) -> Minibatch:
        """The answers at these places."""
        place = torch.from_numpy(index).to(self.device)
        if self._steps is not None:
            inputs = self._steps[place]
        else:
            pixels = b"".join(zlib.decompress(self._packed[i]) for i in index)
            images = np.frombuffer(pixels, np.uint8).reshape(len(index), 2, self.segment_steps, *self._image_shape)
            inputs = torch.from_numpy(images.copy()).to(self.device)
        true = self._true_returns[place] / self._true_returns.std(correction=0).clamp_min(1e-8)
        return Minibatch(inputs, self._mask[place], self._mu[place], self._counts[place], true)

    def _newest(self, new: Tensor | NDArray[np.float32], old: Tensor | None) -> Tensor:
        added = torch.as_tensor(new, device=self.device)
        both = added if old is None else torch.cat([old, added])
        return both[-self.most if self.most else None :]

    def _pack(self, preference: Preference) -> bytes:
        """Both segments' images, padded to T with black, as compressed bytes."""
        sides = []
        for segment in (preference.query.left, preference.query.right):
            images = self.r_hat.inputs(segment.observations, segment.actions).cpu().numpy()
            self._image_shape = images.shape[1:]
            sides.append(np.pad(images, [(0, self.segment_steps - len(images))] + [(0, 0)] * (images.ndim - 1)))
        return zlib.compress(np.stack(sides).tobytes(), 1)
