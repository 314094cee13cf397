"""The reward that a policy implies, for whatever asks a reward model: questions, watch, evaluation, report, PPO.

A policy pi that maximises a return less beta KL(pi || pi_ref) says what it maximises: beta log(pi / pi_ref) is the soft
advantage, which as a reward has the same optimum (Rafailov et al. 2023, arXiv 2305.18290, equation 5; token by token
Rafailov et al. 2024, arXiv 2404.12358). Without a reference, alpha log pi is that of the maximum-entropy problem
(Hejna et al. 2024, arXiv 2310.13639, equation 3).

The reward of a whole episode follows from it, up to what its first state is worth. That of a segment does not: the sum
of advantages from s_0 to s_T is sum r + V(s_T) - V(s_0).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from prefrl.policies.likelihood import RawPolicy
from prefrl.rewards.reward_model import FORMAT, MOST_PIXELS, RewardEnsemble
from prefrl.words.process import flush_subnormals
from prefrl.words.spaces import describe, described_size, space_of
from prefrl.words.tensors import save_tensors, size_of


class ImplicitReward(RewardEnsemble):
    """scale (log pi(a|s) - log pi_ref(a|s)), or scale log pi(a|s), as an ensemble of one.

    Args:
        policy: pi, which may go on learning.
        is_anchored: whether there is a reference; until `anchor` is called, it is the policy as it is now.
        scale: beta or alpha, in log-odds of an answer for a nat.
        observation_space: of the environment.
        action_space: of the environment.
        reward_std: standard deviation of the reward given to a learner.
    """

    def __init__(
        self,
        policy: RawPolicy,
        is_anchored: bool,
        scale: float,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        reward_std: float = 1.0,
    ) -> None:
        nn.Module.__init__(self)  # there is no network beside the policy's
        self.policy, self.scale = policy, scale
        self.reference = copy.deepcopy(policy).requires_grad_(False) if is_anchored else None
        self.observation_space, self.action_space = observation_space, action_space
        self.members, self.reward_std, self.hidden, self.is_image = 1, reward_std, (), policy.is_image
        for name, value in {"input_mean": 0.0, "output_mean": 0.0, "output_std": 1.0}.items():
            self.register_buffer(name, torch.full((1,), value))
        self.register_buffer("average_std", torch.ones(()))
        self.eval()

    def anchor(self) -> None:
        """Take the policy as it is now for the reference."""
        if self.reference is not None:
            self.reference.load_state_dict(self.policy.state_dict())

    @flush_subnormals
    @torch.no_grad()
    def member_rewards(self, observations: NDArray[Any], actions: NDArray[Any]) -> Float[Tensor, "k n"]:
        """The policy's reward of each step (1, n), not normalised: what sums explain the answers by."""
        steps = self.policy.shown(observations), self.policy.done(actions)
        log_ratio = self.policy.log_prob(*steps)
        if self.reference is not None:
            log_ratio = log_ratio - self.reference.log_prob(*steps)
        return self.scale * log_ratio[None]

    def observe(self, observations: NDArray[Any], actions: NDArray[Any]) -> None:
        """Nothing: the policy's statistics stay what its reference's are."""

    def state(self) -> dict[str, Any]:
        """Both policies and the scale of what is paid."""
        return {"weights": dict(self.state_dict())}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.load_state_dict(state["weights"])

    def save(self, path: Path, **about: str) -> None:
        """Write both policies and the scale as safetensors; what it is, and `about`, go into the file as JSON."""
        policies = {"policy": self.policy, "reference": self.reference}
        tensors = {
            f"{name}.{part}": tensor
            for name, policy in policies.items()
            if policy is not None
            for part, tensor in policy.content().items()
        }
        described = {
            "format": FORMAT,
            "kind": "implicit",
            "scale": self.scale,
            "is_anchored": self.reference is not None,
            "made": self.policy.about,
            "reward_std": self.reward_std,
            "observation_space": describe(self.observation_space),
            "action_space": describe(self.action_space),
            **about,
        }
        save_tensors(path, tensors | dict(self.named_buffers(recurse=False)), described)


def implicit_reward(described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ImplicitReward:
    """The reward of which a file says and holds this, which may be somebody else's.

    Raises:
        Exception: whatever comes of a file that is none of an implicit reward's; no more memory is taken than it holds.
    """
    numbers = [described[name] for name in ("scale", "reward_std")]
    if not all(type(number) in (int, float) and 0 < number < math.inf for number in numbers):
        raise ValueError(f"its scale and reward_std are {numbers!r:.60}")
    sizes = [described_size(described[name]) for name in ("observation_space", "action_space")]
    if not 0 < min(sizes) <= max(sizes) <= max(size_of(dict(tensors)), MOST_PIXELS):
        raise ValueError(f"its spaces, of {sizes[0]} and {sizes[1]} numbers, do not fit into the file")
    places = space_of(described["observation_space"]), space_of(described["action_space"])
    names = ("policy", "reference") if described["is_anchored"] else ("policy",)
    policies = [RawPolicy.remade(*places, described["made"], _below(name, tensors)) for name in names]
    scale, reward_std = map(float, numbers)
    reward = ImplicitReward(policies[0], described["is_anchored"] is True, scale, *places, reward_std)
    if reward.reference is not None:
        reward.reference = policies[1].requires_grad_(False)
    for name, buffer in reward.named_buffers(recurse=False):
        if tensors[name].shape != buffer.shape:
            raise ValueError(f"its {name} is of shape {tuple(tensors[name].shape)}")
        buffer.copy_(tensors[name])
    return reward


def _below(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, without it."""
    return {full.removeprefix(f"{name}."): t for full, t in tensors.items() if full.startswith(f"{name}.")}
