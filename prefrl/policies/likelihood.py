"""How likely a policy is to act as segments show: log pi(a|s) from raw observations, with gradients.

A segment holds what the environment received, and of a Gaussian's draw that is the draw clipped to the bounds. So the
likelihood is that of the clipped action: a density between the bounds, and at a bound the whole chance of what lies
beyond it (a censored normal, Tobin 1958; for policies Fujita and Maeda 2018, arXiv 1802.07564). It needs nothing that
was not recorded, whoever acted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecTransposeImage
from torch import Tensor, nn

from prefrl.policies.learners import POLICIES, as_json, with_classes
from prefrl.policies.policy import CLIP_OBSERVATIONS, rebuilt
from prefrl.words.spaces import channels_first, is_image

AT_ONCE, AT_ONCE_IMAGES = 4096, 128  # steps whose hidden layers are in memory at one time
FURTHEST = 1e4  # deviations: a bound further out counts as there, since torch's gradient of its tail is no number
LEAST_VARIANCE = 1e-8  # of an input that changes; one that never did carries nothing, and its scale is left


class RawPolicy(nn.Module):
    """A policy of stable-baselines3 that takes raw observations: what normalises them stays as `look_at` set it.

    Args:
        policy: acts on normalised vectors, or on images channels first.
        observation_space: of the environment, a vector or an image.
        action_space: of the environment.
        about: how the policy is made, as its file says it.
    """

    observation_mean: Tensor
    observation_var: Tensor
    action_low: Tensor
    action_high: Tensor

    def __init__(
        self,
        policy: ActorCriticPolicy,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        about: Mapping[str, Any],
    ) -> None:
        super().__init__()
        assert observation_space.shape is not None and action_space.shape is not None
        self.policy, self.about = policy, dict(about)
        self.is_image, self.is_discrete = is_image(observation_space), isinstance(action_space, spaces.Discrete)
        self.action_shape = action_space.shape
        if not self.is_image:
            self.register_buffer("observation_mean", torch.zeros(observation_space.shape))
            self.register_buffer("observation_var", torch.ones(observation_space.shape))
        if isinstance(action_space, spaces.Box):
            for name in ("low", "high"):
                bound = torch.tensor(getattr(action_space, name), dtype=torch.float32).flatten()
                self.register_buffer(f"action_{name}", bound)
        self.eval()

    @classmethod
    def fresh(
        cls,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        policy_kwargs: Mapping[str, Any] | None = None,
    ) -> RawPolicy:
        """A policy that has learned nothing; its first weights come from torch's own generator.

        Raises:
            Exception: whatever stable-baselines3 raises at arguments that a policy cannot be made with.
        """
        name, given = "CnnPolicy" if is_image(observation_space) else "MlpPolicy", with_classes(policy_kwargs)
        seen: Any = observation_space
        if is_image(seen) and channels_first(seen.shape) != seen.shape:
            seen = VecTransposeImage.transpose_space(seen)
        policy = POLICIES[name](seen, action_space, lambda _: 0.0, **given)
        about = {"policy": name, "policy_kwargs": as_json({"use_sde": False} | given)}
        return cls(policy, observation_space, action_space, about)

    @classmethod
    def remade(
        cls,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        about: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
    ) -> RawPolicy:
        """The policy of which these were saved, as `content` gives them; a file of another learner has no bounds.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: this is not what a policy for these spaces is made of.
        """
        policy = rebuilt(about, tensors, observation_space, action_space)
        if not isinstance(policy, ActorCriticPolicy):
            raise ValueError(f"it is a {type(policy).__name__}, of a learner that replays")
        made = cls(policy, observation_space, action_space, about)
        for name, buffer in made.named_buffers(recurse=False):
            saved = tensors.get(name, buffer) if name in ("action_low", "action_high") else tensors[name]
            if saved.shape != buffer.shape or saved.isnan().any():
                raise ValueError(f"its {name} is of shape {tuple(saved.shape)}, or no number")
            buffer.copy_(saved)
        return made

    def content(self) -> dict[str, Tensor]:
        """Its tensors by name; of layers that actor and critic share, which have several names, each once."""
        kept: dict[int, str] = {}
        tensors = self.state_dict()
        return {name: t for name, t in tensors.items() if kept.setdefault(t.data_ptr() or id(t), name) == name}

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.policy.device

    def look_at(self, observations: NDArray[Any]) -> None:
        """Normalise vectors by mean and variance of these (n, d), from now on; images are left as they are."""
        if not self.is_image and len(observations):
            variance = observations.var(0, dtype=np.float64)
            self.observation_mean.copy_(torch.as_tensor(observations.mean(0, dtype=np.float64)))
            self.observation_var.copy_(torch.as_tensor(np.where(variance > LEAST_VARIANCE, variance, 1.0)))

    def shown(self, observations: NDArray[Any]) -> Shaped[Tensor, "n ..."]:
        """Raw observations (n, *observation_shape) as a tensor; images channels first."""
        if self.is_image and channels_first(observations.shape[1:]) != observations.shape[1:]:
            observations = np.moveaxis(observations, -1, 1)
        kind = np.uint8 if self.is_image else np.float32
        return torch.from_numpy(np.require(observations, kind, ("C", "W"))).to(self.device)

    def done(self, actions: NDArray[Any]) -> Float[Tensor, "n a"]:
        """Actions (n, *action_shape), as the environment received them, as a tensor; a choice is its number."""
        return torch.from_numpy(np.array(actions, np.float32).reshape(len(actions), -1)).to(self.device)

    def distribution(self, observations: Shaped[Tensor, "n ..."]) -> Distribution:
        """Of the actions before any clipping, at observations as `shown` gives them."""
        if not self.is_image:
            scaled = (observations - self.observation_mean) / (self.observation_var + 1e-8).sqrt()
            observations = scaled.clamp(-CLIP_OBSERVATIONS, CLIP_OBSERVATIONS)
        return self.policy.get_distribution(observations)

    def forward(self, observations: Shaped[Tensor, "n ..."], actions: Float[Tensor, "n a"]) -> Float[Tensor, " n"]:
        """Log pi(a|s), of observations and actions as `shown` and `done` give them."""
        distribution = self.distribution(observations)
        if isinstance(distribution, DiagGaussianDistribution):
            normal = distribution.distribution
            return censored_normal(actions, normal.mean, normal.stddev, self.action_low, self.action_high)
        log_prob: Tensor = distribution.log_prob(actions.long().flatten() if self.is_discrete else actions)
        return log_prob

    @torch.no_grad()
    def log_prob(self, observations: Shaped[Tensor, "n ..."], actions: Float[Tensor, "n a"]) -> Float[Tensor, " n"]:
        """The same without gradients, of any number of steps."""
        at_once = AT_ONCE_IMAGES if self.is_image else AT_ONCE
        parts = zip(torch.split(observations, at_once), torch.split(actions, at_once), strict=True)
        return torch.cat([self(*part) for part in parts])

    @torch.no_grad()
    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions (n, *action_shape) drawn at raw observations, clipped to their bounds; from torch's own generator."""
        distribution = self.distribution(self.shown(observations))
        actions = distribution.get_actions()
        if isinstance(distribution, DiagGaussianDistribution):
            actions = torch.maximum(torch.minimum(actions, self.action_high), self.action_low)
        drawn: NDArray[Any] = actions.cpu().numpy().reshape(-1, *self.action_shape)
        return drawn


def censored_normal(
    actions: Float[Tensor, "n a"],
    mean: Float[Tensor, "n a"],
    std: Float[Tensor, "n a"],
    low: Float[Tensor, " a"],
    high: Float[Tensor, " a"],
) -> Float[Tensor, " n"]:
    """log-likelihood of normal draws that were clipped to [low, high], one for each of the a numbers, summed.

    Between the bounds the normal density; at a bound the log of the chance of a draw beyond it, Phi((low - mean) / std)
    or Phi((mean - high) / std).
    """
    between = -((actions - mean) / std).square() / 2 - std.log() - math.log(2 * math.pi) / 2
    ends = ((low - mean) / std, (mean - high) / std)
    below, above = (torch.special.log_ndtr(end.clamp(min=-FURTHEST)) for end in ends)
    each = torch.where(actions >= high, above, torch.where(actions <= low, below, between))
    return each.sum(1)
