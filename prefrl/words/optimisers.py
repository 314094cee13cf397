"""Optimisers whose state is read back as it lay in memory, and RMSprop in one pass over the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

WORN_OFF = 2.0**30  # steps, the next of which is, in single precision, the same number


def restore_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state, each moment with the strides of the weights that it belongs to.

    A saved tensor comes back in plain order. Fused optimisers walk weights and moments side by side through memory, so
    that weights in channels-last order would be moved by the moments of others.
    """
    optimiser.load_state_dict(dict(state))
    for weights, moments in optimiser.state.items():
        for name, moment in moments.items():
            if torch.is_tensor(moment) and moment.shape == weights.shape:
                moments[name] = torch.empty_like(weights, requires_grad=False).copy_(moment)


class RMSprop(torch.optim.Adam):
    """torch's RMSprop without momentum, as Adam that forgets the mean at once, long after its correction has worn off.

    The same numbers but for rounding, in one pass over weights, gradients and squares, where torch's RMSprop makes
    five: half of the time.

    Args:
        plain: whose weights and settings are taken; nothing of its state.
    """

    def __init__(self, plain: torch.optim.RMSprop) -> None:
        groups = [
            {name: group[name] for name in ("params", "lr", "eps", "weight_decay")} | {"betas": (0.0, group["alpha"])}
            for group in plain.param_groups
        ]
        super().__init__(groups, fused=True)
        for group in self.param_groups:
            for weights in group["params"]:
                self.state[weights] = self._after(torch.zeros_like(weights, requires_grad=False))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from such a state, or from one of torch's RMSprop, which earlier runs have kept."""
        groups, moments = state_dict["param_groups"], state_dict["state"]
        if "alpha" in groups[0]:
            own = self.state_dict()["param_groups"]
            groups = [mine | {"lr": theirs["lr"]} for mine, theirs in zip(own, groups, strict=True)]
            moments = {place: self._after(kept["square_avg"]) for place, kept in moments.items()}
        super().load_state_dict({"param_groups": groups, "state": moments})

    @staticmethod
    def _after(squares: torch.Tensor) -> dict[str, torch.Tensor]:
        step = torch.full((), WORN_OFF, device=squares.device)
        return {"step": step, "exp_avg": torch.zeros_like(squares), "exp_avg_sq": squares}


def quick(optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """An optimiser that does as this one, which has not moved anything yet, in less time where there is one."""
    if type(optimiser) is not torch.optim.RMSprop:
        return optimiser
    plain = all(not (g["momentum"] or g["centered"] or g["maximize"]) for g in optimiser.param_groups)
    return RMSprop(optimiser) if plain else optimiser
