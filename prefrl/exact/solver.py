"""Exact answers in a finite world: the policy that is best in view of a reference, what it is worth, and how far off.

The problem is to maximise the expected sum of rewards less beta times the KL divergence from a reference policy. Its
optimum is pi*(a|s) = pi_ref(a|s) exp(Q(s, a) / beta) / Z(s) with Q(s, a) = r + gamma E V(s') and
V(s) = beta log Z(s) (Ziebart 2010; for texts as a bandit Rafailov et al. 2023, arXiv 2305.18290, equation 4; for tokens
Rafailov et al. 2024, arXiv 2404.12358). A reference of ones makes it the maximum-entropy problem, and beta 0 the
plain one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import logsumexp, rel_entr

from prefrl.exact.world import World

MOST_SWEEPS = 100_000
MOST_EPISODES = 3_000_000  # different ones, that are looked at one by one

Policy = Float[NDArray[np.floating], "s a"]
PerState = Float[NDArray[np.float64], " s"]


class Solution(NamedTuple):
    """A policy and its values, of the return less beta times the KL divergence that is still to come.

    Attributes:
        policy: (S, A).
        q: (S, A) of an action taken, its own KL left out.
        value: (S,) of a state; of the optimum beta log Z.
    """

    policy: NDArray[np.float64]
    q: NDArray[np.float64]
    value: NDArray[np.float64]

    @property
    def advantage(self) -> NDArray[np.float64]:
        """Q - V (S, A); of the optimum beta log(pi* / pi_ref)."""
        return self.q - self.value[:, None]


def backed_up(world: World, value: PerState, gamma: float = 1.0) -> NDArray[np.float64]:
    """Q (S, A) of acting once, if what follows is worth `value`: r + gamma E V(s'), and the end is worth nothing."""
    after = np.append(value, 0.0)[world.successors]
    return np.asarray(world.rewards + gamma * (world.chances * after).sum(-1))


def solve(world: World, beta: float, gamma: float = 1.0) -> Solution:
    """The optimum, by soft value iteration; where every episode ends, it is the backward recursion and exact.

    Args:
        world: what is to be solved, with its reference.
        beta: weight of the KL divergence, in the reward's unit; 0 leaves it out, and breaks ties as the reference does.
        gamma: discount a step.

    Raises:
        ValueError: beta is below 0, or the values do not settle.
    """
    if not beta >= 0:
        raise ValueError(f"beta={beta}, the weight of the reference beside the reward, is zero or more")
    with np.errstate(divide="ignore"):
        log_reference = np.log(world.reference)
    possible = np.where(world.reference > 0, 0.0, -np.inf)
    value = np.zeros(len(world.start))
    for _ in range(MOST_SWEEPS):
        q = backed_up(world, value, gamma)
        found = beta * logsumexp(q / beta + log_reference, axis=1) if beta else (q + possible).max(axis=1)
        if np.abs(found - value).max() <= 1e-14 * np.abs(found).max():
            break
        value = found
    else:
        raise ValueError(f"the values of this world do not settle in {MOST_SWEEPS} sweeps: give gamma below 1")
    best = np.exp((q - found[:, None]) / beta + log_reference) if beta else (q == found[:, None]) * world.reference
    return Solution(best / best.sum(axis=1, keepdims=True), q, found)


def evaluate(world: World, policy: Policy, beta: float = 0.0, gamma: float = 1.0) -> Solution:
    """The values of any policy, by the Bellman equations; exact where every episode ends.

    Args:
        world: with its reference.
        policy: (S, A).
        beta: weight of the KL divergence from the reference.
        gamma: discount a step.

    Raises:
        ValueError: the values do not settle.
    """
    penalty = beta * state_kl(policy, world.reference) if beta else np.zeros(len(world.start))
    value = np.zeros(len(world.start))
    for _ in range(MOST_SWEEPS):
        q = backed_up(world, value, gamma)
        found = (policy * q).sum(axis=1) - penalty
        if np.abs(found - value).max() <= 1e-14 * np.abs(found).max():
            return Solution(np.asarray(policy, np.float64), q, found)
        value = found
    raise ValueError(f"the values of this policy do not settle in {MOST_SWEEPS} sweeps: give gamma below 1")


def visits(world: World, policy: Policy, gamma: float = 1.0) -> PerState:
    """How often an episode is expected to come to each state, a visit after t steps counted gamma^t, (S,)."""
    total = now = world.start
    for _ in range(MOST_SWEEPS):
        flow = gamma * now[:, None, None] * policy[:, :, None] * world.chances
        on = world.successors >= 0
        now = np.bincount(world.successors[on], flow[on], len(world.start)).astype(np.float64)
        total = total + now
        if now.sum() <= 1e-16:
            return np.asarray(total)
    raise ValueError(f"an episode of this policy has not ended after {MOST_SWEEPS} steps: give gamma below 1")


def expected_return(world: World, policy: Policy, gamma: float = 1.0) -> float:
    """Mean return of an episode."""
    return float((visits(world, policy, gamma)[:, None] * policy * world.rewards).sum())


def expected_kl(world: World, policy: Policy, reference: Policy | None = None) -> float:
    """KL(policy || reference) of whole episodes, in nats an episode: the sum over the steps it is expected to take.

    Args:
        world: what both act in.
        policy: (S, A).
        reference: (S, A); None for the world's own.
    """
    return float(visits(world, policy) @ state_kl(policy, world.reference if reference is None else reference))


def state_kl(policy: Policy, reference: Policy) -> PerState:
    """KL(policy || reference) in each state, nats, (S,); inf where the reference never does what the policy does."""
    return np.asarray(rel_entr(policy, reference).sum(axis=1))


def episodes(world: World, *policies: Policy) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Every episode there can be, and how likely each policy makes it.

    Args:
        world: in which every episode ends.
        policies: P of them, each (S, A).

    Returns:
        The state that each episode begins in, (n,), and its chance if it begins there, (P, n).

    Raises:
        ValueError: there are more than `MOST_EPISODES`.
    """
    acts = np.stack(policies)
    at = first = world.first
    chance = np.ones((len(acts), len(at)))
    begun, ended = [], []
    actions, ways = world.successors.shape[1:]
    while len(at):
        if len(at) * actions * ways > MOST_EPISODES:
            raise ValueError(f"this world has more than {MOST_EPISODES} different episodes, too many to look at each")
        led_to = world.successors[at].reshape(-1)
        by_way = chance[:, :, None, None] * acts[:, at, :, None] * world.chances[at]
        chance = by_way.reshape(len(acts), -1)
        first = np.repeat(first, actions * ways)
        possible = chance.any(axis=0)
        over = (led_to < 0) & possible
        begun.append(first[over])
        ended.append(chance[:, over])
        goes_on = (led_to >= 0) & possible
        at, first, chance = led_to[goes_on], first[goes_on], chance[:, goes_on]
    return np.concatenate(begun), np.concatenate(ended, axis=1)


def total_variation(world: World, one: Policy, other: Policy) -> float:
    """Total variation between the episodes of two policies that begin in one state, the mean over where they begin.

    sum_s start(s) 1/2 sum_tau |P_one(tau | s) - P_other(tau | s)|: in [0, 1], and of a world of texts the distance
    between two distributions over texts, the mean over prompts.

    Raises:
        ValueError: as `episodes`.
    """
    begun, chance = episodes(world, one, other)
    return float((world.start[begun] * np.abs(chance[0] - chance[1])).sum() / 2)
