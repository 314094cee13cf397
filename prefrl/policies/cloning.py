"""Behaviour cloning: a policy that does what demonstrations show, by its own log-likelihood of their actions.

The supervised start of the three-step pipeline (Ouyang et al. 2022, section 3.1; Ibarz et al. 2018, section 2.1).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor
from torch.distributions import Normal

from prefrl.policies.likelihood import censored_normal
from prefrl.policies.policy import rebuilt
from prefrl.words.errors import UserError

LEARNING_RATE = 1e-3
BATCH = 32
HELD_OUT = 0.1  # share of the steps that the epoch is chosen by
LEAST_LOG_STD = -3.0  # of a Gaussian: one that never varied could not explore, and no other could be held near it


def log_likelihood(
    policy: ActorCriticPolicy, observations: Shaped[Tensor, "n ..."], actions: NDArray[Any]
) -> Float[Tensor, " n"]:
    """Of actions as an environment received them, by a policy whose actions are clipped on the way there.

    A Gaussian's is that of the action as it arrives (`prefrl.policies.likelihood.censored_normal`), and a squashed
    Gaussian's, which no bound clips, its density.

    Args:
        policy: as it is.
        observations: as its networks take them.
        actions: (n, *action_shape).
    """
    space, distribution = policy.action_space, policy.get_distribution(observations)
    if isinstance(space, spaces.Discrete):
        chosen = torch.as_tensor(actions.reshape(-1), device=policy.device).long()
        log_prob: Tensor = distribution.log_prob(chosen)
        return log_prob
    flat = torch.as_tensor(actions.reshape(len(actions), -1), device=policy.device).float()
    if not isinstance(space, spaces.Box):
        log_prob = distribution.log_prob(flat)
        return log_prob
    low, high = (torch.as_tensor(b.reshape(-1), device=policy.device).float() for b in (space.low, space.high))
    if policy.squash_output:
        log_prob = distribution.log_prob(2 * (flat - low) / (high - low) - 1)
        return log_prob
    gaussian = distribution.distribution
    assert isinstance(gaussian, Normal)
    return censored_normal(flat, gaussian.mean, gaussian.stddev, low, high)


def clone(
    policy: ActorCriticPolicy,
    observations: NDArray[Any],
    actions: NDArray[Any],
    epochs: int,
    rng: np.random.Generator,
) -> float:
    """Fit a policy's actor to demonstrations by maximum likelihood; its critic stays as it is.

    Adam of its own takes minibatches in turn; of all epochs the one is kept that makes the steps held out most likely,
    since more epochs on few demonstrations would learn them by heart.

    Args:
        policy: that is fitted.
        observations: (n, *observation_shape), as its networks take them.
        actions: (n, *action_shape), as the environment received them.
        epochs: passes over the steps.
        rng: draws what is held out, and the minibatches.

    Returns:
        Mean log-likelihood of a step held out, in nats.
    """
    order = rng.permutation(len(actions))
    held, kept = np.split(order, [max(1, round(HELD_OUT * len(order)))])
    # A deviation's logarithm has far to go at Adam's pace: from 1 to a careful expert's 0.1 by 2.3.
    deviations = [weight for name, weight in policy.named_parameters() if name == "log_std"]
    networks = [weight for name, weight in policy.named_parameters() if name != "log_std"]
    groups: list[dict[str, Any]] = [{"params": networks}, {"params": deviations, "lr": 10 * LEARNING_RATE}]
    optimiser = torch.optim.Adam(groups, LEARNING_RATE)
    best, weights = _mean(policy, observations, actions, held), copy.deepcopy(policy.state_dict())
    policy.set_training_mode(True)
    for _ in range(epochs):
        for batch in np.array_split(rng.permutation(kept), max(1, len(kept) // BATCH)):
            loss = -log_likelihood(policy, _shown(policy, observations[batch]), actions[batch]).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            _keep_varying(policy)
        likelihood = _mean(policy, observations, actions, held)
        if likelihood > best:
            best, weights = likelihood, copy.deepcopy(policy.state_dict())
    policy.load_state_dict(weights)
    policy.set_training_mode(False)
    return best


@torch.no_grad()
def _mean(policy: ActorCriticPolicy, observations: NDArray[Any], actions: NDArray[Any], held: NDArray[Any]) -> float:
    parts = np.array_split(held, -(-len(held) // 1024))
    each = [log_likelihood(policy, _shown(policy, observations[part]), actions[part]) for part in parts]
    return float(torch.cat(each).mean())


def _shown(policy: ActorCriticPolicy, observations: NDArray[Any]) -> Tensor:
    shown = policy.obs_to_tensor(observations)[0]
    assert isinstance(shown, Tensor)
    return shown


@torch.no_grad()
def _keep_varying(policy: ActorCriticPolicy) -> None:
    log_std = getattr(policy, "log_std", None)
    if isinstance(log_std, Tensor) and log_std.ndim == 1:
        log_std.clamp_(min=LEAST_LOG_STD)


def take_weights(policy: ActorCriticPolicy, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Give a policy the weights of a saved one, its critic's too.

    Raises:
        UserError: the two have other networks.
    """
    with torch.random.fork_rng(devices=[]):
        saved = rebuilt(about, tensors, policy.observation_space, policy.action_space).to(policy.device)
    try:
        policy.load_state_dict(saved.state_dict())
        policy.set_training_mode(False)  # networks that keep their weights in another form make it anew
        same = isinstance(saved, ActorCriticPolicy) and _acts_alike(policy, saved)
    except RuntimeError:  # weights of other names or shapes
        same = False
    if not same:
        raise UserError(
            "the policy that start_from names has other networks than this run's: give both the same policy_kwargs and "
            "use_sde, or have its behaviour cloned, with --demonstrations in place of --start-from."
        )


@torch.no_grad()
def _acts_alike(one: ActorCriticPolicy, other: ActorCriticPolicy) -> bool:
    """Whether two policies of the same weights compute the same from them: activations are no weights."""
    shape = one.observation_space.shape or ()
    probe = torch.linspace(0, 1, 4 * int(np.prod(shape))).reshape(4, *shape).to(one.device)
    shown = probe if one.observation_space.dtype != np.uint8 else (255 * probe).to(torch.uint8)
    each = [policy.predict_values(shown) for policy in (one, other)]
    acted = [policy.get_distribution(shown).mode().float() for policy in (one, other)]
    return one.squash_output == other.squash_output and all(
        torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in (each, acted)
    )
