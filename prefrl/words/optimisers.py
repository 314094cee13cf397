"""An optimiser's state, read back as it lay in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


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
