"""A reference policy: frozen weights, frozen observation statistics, and the divergence of another policy from it.

A rollout holds observations as today's statistics normalise them, and a frozen network that is fed those changes
although its weights do not. The reference reads what the environment showed, and normalises it by statistics of its
own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from stable_baselines3.common.distributions import Distribution, MultiCategoricalDistribution
from torch import Tensor
from torch.distributions import kl_divergence

from prefrl.policies.policy import Policy, read_policy
from prefrl.words.errors import UserError
from prefrl.words.tensors import save_tensors

FILE = "reference.safetensors"  # in a run's folder, beside its policy.safetensors
AT_ONCE = 1024  # steps whose hidden layers are in memory at one time


class Reference:
    """pi_ref: a policy as it was when it was frozen.

    Args:
        about: how it is made, as `Learner` writes it into a policy's file.
        tensors: its weights and observation statistics; they are copied.
        observation_space: of the environment.
        action_space: of the environment.
        device: where it computes.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: this is not what a policy for these spaces is made of.
    """

    def __init__(
        self,
        about: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        observation_space: Any,
        action_space: Any,
        device: torch.device | str = "cpu",
    ) -> None:
        self._about = dict(about)
        self._tensors = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        with torch.random.fork_rng(devices=[]):  # its first weights, thrown away, are none of the run's draws
            self.policy = Policy.made_of(about, self._tensors, observation_space, action_space)
        self.policy.policy.to(device)

    @classmethod
    def load(
        cls, path: Path, observation_space: Any, action_space: Any, device: torch.device | str = "cpu"
    ) -> Reference:
        """The policy that was saved in this file.

        Raises:
            UserError: no policy there, or one for other spaces.
        """
        with torch.random.fork_rng(devices=[]):
            Policy(path, observation_space, action_space)
        about, tensors = read_policy(path)
        return cls(about, tensors, observation_space, action_space, device)

    @property
    def squashes(self) -> bool:
        """Whether its actions are squashed to [-1, 1] before they are scaled, so that densities are over those."""
        return bool(self.policy.policy.squash_output)

    def distribution(self, observations: NDArray[Any]) -> Distribution:
        """Of the actions at each of these observations (n, *observation_shape), as the environment shows them."""
        return self.policy.distribution(observations)

    def save(self, path: Path) -> None:
        """Write it as a policy's file."""
        save_tensors(path, self._tensors, self._about)

    def state(self) -> dict[str, Any]:
        """All of it."""
        return {"about": self._about, "tensors": self._tensors}


def divergence(policy: Distribution, reference: Distribution) -> Float[Tensor, " n"]:
    """KL(pi || pi_ref) over the actions at each of n observations, in nats and in closed form.

    A squashed Gaussian's is that of the Gaussian before squashing, since both are squashed by one bijection.
    """
    if isinstance(policy, MultiCategoricalDistribution):
        pairs = zip(policy.distribution, reference.distribution, strict=True)  # type: ignore[arg-type]
        return torch.stack([kl_divergence(one, other) for one, other in pairs], dim=1).sum(1)
    apart = kl_divergence(policy.distribution, reference.distribution)  # type: ignore[arg-type]
    return apart.flatten(1).sum(1) if apart.ndim > 1 else apart


def find_reference(name: str) -> Path:
    """The file of a policy that is named by a run's folder, or by itself.

    Raises:
        UserError: there is none.
    """
    path = Path(name)
    path = path / "policy.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise UserError(
            f"there is no policy at {name!r}: give a finished run's folder, or the policy.safetensors in it."
        )
    return path
