"""The answers so far as a policy reads them: raw observations and actions of both segments, by minibatch."""

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

from prefrl.policies.likelihood import RawPolicy
from prefrl.rewards.answers import each_once
from prefrl.words.preference import Preference, Segment


@dataclass(frozen=True)
class Shown:
    """Some answers.

    Attributes:
        observations: (b 2 T, *features) of every step of left and right segments, as `RawPolicy.shown` gives them.
        actions: (b 2 T, a) taken there.
        mask: (b, 2, T) 1 on the steps of a segment, 0 after its end.
        mu: (b,) weight on the left segment.
        reference: (b, 2, T) log pi_ref(a|s); zero where there is no reference.
    """

    observations: Shaped[Tensor, "s ..."]
    actions: Float[Tensor, "s a"]
    mask: Float[Tensor, "b 2 t"]
    mu: Float[Tensor, " b"]
    reference: Float[Tensor, "b 2 t"]


class DirectAnswers:
    """Decided answers in order of arrival, the newest `most` of them; pictures are kept compressed.

    Args:
        policy: says how steps are encoded, and on which device.
        segment_steps: T, the most steps in a segment.
        most: answers kept; None for all.

    Attributes:
        held: (N,) whether an answer is held out.
        given: query key and labeler of each answer.
    """

    def __init__(self, policy: RawPolicy, segment_steps: int, most: int | None = None) -> None:
        self.policy, self.segment_steps, self.most = policy, segment_steps, most
        self.held: NDArray[np.bool_] = np.zeros(0, bool)
        self.given: list[tuple[str, str]] = []
        self._pictures: list[Any] = []  # of each answer, its two segments
        self._steps: dict[str, Tensor] = {}  # of all answers: (N, 2, T, ...), and mu (N,)

    def __len__(self) -> int:
        """Answers kept, N."""
        return len(self.given)

    def add(self, decided: Sequence[Preference], held: NDArray[np.bool_]) -> None:
        """Take in answers that are not skips, and whether each is held out."""
        if not decided:
            return
        device, pairs = self.policy.device, [(p.query.left, p.query.right) for p in decided]
        lengths = torch.tensor([[len(s) for s in pair] for pair in pairs])
        mask = (torch.arange(self.segment_steps) < lengths[..., None]).float()
        new = {
            "mask": mask.to(device),
            "mu": torch.tensor([float(p.mu or 0) for p in decided], device=device),
            "actions": self._padded([self.policy.done(s.actions) for pair in pairs for s in pair]),
            "reference": torch.zeros_like(mask, device=device),
        }
        if self.policy.is_image:
            self._pictures = self._newest(self._pictures + [[self._pack(s) for s in pair] for pair in pairs])
        else:
            new["observations"] = self._padded([self.policy.shown(s.observations) for pair in pairs for s in pair])
        self._steps = {
            name: self._newest(torch.cat([self._steps[name], steps]) if self._steps else steps)
            for name, steps in new.items()
        }
        self.given = self._newest(self.given + [(p.query.key, p.labeler) for p in decided])
        self.held = self._newest(np.concatenate([self.held, held]))

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Forget all answers but those at these places, (N,)."""
        chosen = torch.from_numpy(kept).to(self.policy.device)
        self._steps = {name: steps[chosen] for name, steps in self._steps.items()}
        self._pictures = [pair for pair, keep in zip(self._pictures, kept, strict=False) if keep]
        self.given = [pair for pair, keep in zip(self.given, kept, strict=True) if keep]
        self.held = self.held[kept]

    def observations(self, others: NDArray[Any]) -> NDArray[Any]:
        """Every observation in the answers, (n, d), after these others; of pictures the others alone."""
        if self.policy.is_image or not len(self):
            return others
        shown = self._steps["observations"][self._steps["mask"].bool()]
        return np.concatenate([others, shown.cpu().numpy()])

    def refer_to(self, reference: RawPolicy, newest: int, at_once: int) -> None:
        """Look up once what the reference, which stays what it is, says of the steps of so many newest answers.

        Args:
            reference: pi_ref.
            newest: answers.
            at_once: answers whose steps are in memory at one time.
        """
        places = np.arange(max(0, len(self) - newest), len(self))
        for part in np.array_split(places, -(-len(places) // at_once)) if len(places) else []:
            shown = self.batch(part)
            log_prob = reference.log_prob(shown.observations, shown.actions).view(shown.mask.shape)
            self._steps["reference"][torch.from_numpy(part)] = log_prob

    def batch(self, index: NDArray[np.integer]) -> Shown:
        """The answers at these places."""
        place = torch.from_numpy(index).to(self.policy.device)
        of = {name: steps[place] for name, steps in self._steps.items()}
        if self.policy.is_image:
            pictures = [self._unpack(side) for i in index for side in self._pictures[i]]
            observations = torch.cat(pictures).to(self.policy.device)
        else:
            observations = of["observations"].flatten(0, 2)
        return Shown(observations, of["actions"].flatten(0, 2), of["mask"], of["mu"], of["reference"])

    def state(self) -> dict[str, Any]:
        """The answers kept, as arrays; of pictures the compressed frames."""
        return {"steps": self._steps, "pictures": self._pictures, "held": self.held, "given": self.given}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Hold what `state` returned."""
        self._steps = {name: steps.to(self.policy.device) for name, steps in state["steps"].items()}
        self._pictures, self.held = [[tuple(side) for side in pair] for pair in state["pictures"]], state["held"]
        self.given = [(key, labeler) for key, labeler in state["given"]]

    def _newest(self, values: Any) -> Any:
        return values[-self.most :] if self.most else values

    def _padded(self, segments: Sequence[Tensor]) -> Tensor:
        """Steps (t, d) of each segment, left and right in turn, as one tensor (n, 2, T, d) with zeros after the end."""
        padded = segments[0].new_zeros(len(segments), self.segment_steps, segments[0].shape[1])
        for place, steps in zip(padded, segments, strict=True):
            place[: len(steps)] = steps
        return padded.view(-1, 2, *padded.shape[1:])

    def _pack(self, segment: Segment) -> tuple[bytes, list[int], NDArray[np.int64]]:
        """A segment's frames, each once and compressed, their shape, and the place (T, c) of each among them."""
        frames, place = each_once(self.policy.shown(segment.observations).cpu().numpy())
        after = np.zeros((self.segment_steps - len(place), place.shape[1]), np.int64)
        return zlib.compress(frames.tobytes(), 1), list(frames.shape), np.concatenate([place, after])

    @staticmethod
    def _unpack(packed: tuple[bytes, list[int], NDArray[np.int64]]) -> Tensor:
        """Observations (T, c, h, w) of a segment; after its end the first frame."""
        data, shape, place = packed
        frames = np.frombuffer(bytearray(zlib.decompress(data)), np.uint8).reshape(shape)
        return torch.from_numpy(frames[place])
