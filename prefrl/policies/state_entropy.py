"""Reward for reaching states unlike those seen before: the entropy of the states visited, by their nearest neighbours.

PEBBLE's unsupervised exploration (Lee et al. 2021, arXiv 2106.05091, section 4.1), in which nobody is asked anything.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from prefrl.words.spaces import encode

NEIGHBOUR = 5  # how many states away; PEBBLE's
COMPARED = 4096  # states that others are compared with, which PEBBLE does with all: here many more are rewarded
AT_ONCE = 1024  # states that are compared at one time: 16 MB of distances


class StateEntropy:
    """Pays log(1 + distance to the fifth neighbour), brought to one deviation over the states seen.

    A coordinate counts in its deviations, since its unit is no one's choice. The 1 keeps the reward above zero, so that
    no episode is worth ending (Liu and Abbeel 2021, arXiv 2103.04551, equation 5); PEBBLE's tasks never end early.

    Args:
        space: of the observations.
        reward_std: deviation of what is paid.
    """

    def __init__(self, space: spaces.Space[Any], reward_std: float) -> None:
        self.space, self.reward_std, self._scale = space, reward_std, 1.0

    def fit(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """Compare with these states (n, *observation_shape) from now on; what they are paid themselves, (n,)."""
        seen = encode(self.space, observations)
        deviation = seen.std(0)
        self._units = np.where(deviation > 0, deviation, 1.0).astype(np.float32)
        self._seen = torch.from_numpy(seen[:: -(-len(seen) // COMPARED)] / self._units)
        distances = self._reward(observations)
        self._scale = float(distances.std()) or 1.0
        return distances * np.float32(self.reward_std / self._scale)

    def reward(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """What states (n, *observation_shape) are paid, (n,)."""
        return self._reward(observations) * np.float32(self.reward_std / self._scale)

    @torch.inference_mode()
    def _reward(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        states = torch.from_numpy(encode(self.space, observations) / self._units)
        place = min(NEIGHBOUR, len(self._seen))
        distances = (torch.cdist(part, self._seen) for part in torch.split(states, AT_ONCE))
        furthest = [nearest.topk(place, largest=False).values[:, -1] for nearest in distances]
        reward: NDArray[np.float32] = torch.cat(furthest).log1p().numpy()
        return reward
