"""Episodes of a tabular policy, sampled from a world's tables, and what learners make of them.

Everything is in arrays of n episodes by T steps; after an episode's end its state is -1 and nothing is counted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from prefrl.exact.solver import Policy
from prefrl.exact.world import World

MOST_STEPS = 10_000

Steps = Float[NDArray[np.floating], "n t"]


class Batch(NamedTuple):
    """Episodes, side by side.

    Attributes:
        states: (n, T); -1 after the end.
        actions: (n, T).
        rewards: (n, T); 0 after the end.
        following: (n, T) the states that came next; -1 is the end.
    """

    states: Int[NDArray[np.int64], "n t"]
    actions: Int[NDArray[np.int64], "n t"]
    rewards: Float[NDArray[np.float64], "n t"]
    following: Int[NDArray[np.int64], "n t"]

    @property
    def taken(self) -> NDArray[np.bool_]:
        """Which steps were taken, (n, T)."""
        return self.states >= 0


def rollouts(world: World, policy: Policy, count: int, rng: np.random.Generator) -> Batch:
    """So many episodes from their start to their end.

    Raises:
        ValueError: one has not ended after `MOST_STEPS` steps.
    """
    states = rng.choice(len(world.start), size=count, p=world.start)
    columns: list[tuple[NDArray[Any], ...]] = []
    while (states >= 0).any():
        if len(columns) == MOST_STEPS:
            raise ValueError(f"an episode of this policy has not ended after {MOST_STEPS} steps")
        on = states >= 0
        actions = np.where(on, _drawn(policy[states], rng), 0)
        ways = _drawn(world.chances[states, actions], rng)
        following = np.where(on, world.successors[states, actions, ways], -1)
        columns.append((states, actions, np.where(on, world.rewards[states, actions], 0.0), following))
        states = following
    return Batch(*(np.stack(part, axis=1) for part in zip(*columns, strict=True)))


def _drawn(chances: Float[NDArray[np.floating], "n m"], rng: np.random.Generator) -> NDArray[np.int64]:
    """A place for each row."""
    return np.asarray((np.cumsum(chances, axis=1)[:, :-1] <= rng.random((len(chances), 1))).sum(axis=1))


def returns_to_go(batch: Batch, gamma: float = 1.0) -> Steps:
    """G_t = sum_k gamma^k r_{t+k}: what REINFORCE weighs a step by (Williams 1992; Sutton and Barto, section 13.3)."""
    return _summed_back(batch.rewards, gamma)


def td_errors(batch: Batch, value: Float[NDArray[np.floating], " s"], gamma: float = 1.0) -> Steps:
    """delta_t = r + gamma V(s') - V(s), by which a one-step actor-critic weighs a step (Sutton and Barto, 13.5)."""
    known = np.append(value, 0.0)  # the end, -1, is worth nothing
    return np.where(batch.taken, batch.rewards + gamma * known[batch.following] - known[batch.states], 0.0)


def gae(batch: Batch, value: Float[NDArray[np.floating], " s"], lam: float, gamma: float = 1.0) -> Steps:
    """Generalised advantages sum_k (gamma lambda)^k delta_{t+k} (Schulman et al. 2016, arXiv 1506.02438, equation 16).

    lambda 0 is the one-step actor-critic, and lambda 1 REINFORCE with the baseline V.
    """
    return _summed_back(td_errors(batch, value, gamma), gamma * lam)


def _summed_back(steps: Steps, factor: float) -> Steps:
    total = np.zeros(len(steps))
    result = np.empty(steps.shape)
    for t in reversed(range(steps.shape[1])):
        total = steps[:, t] + factor * total
        result[:, t] = total
    return result


def episode_gradients(batch: Batch, policy: Policy, weights: Steps, gamma: float = 1.0) -> NDArray[np.float64]:
    """What each episode says the gradient in the logits is, (n, S, A): sum_t gamma^t weight_t d log pi(a_t | s_t).

    Args:
        batch: of this policy.
        policy: (S, A), softmax of logits.
        weights: (n, T) of the steps, such as `returns_to_go`.
        gamma: discount a step.
    """
    gradients = np.zeros((len(batch.states), *policy.shape))
    episode, step = np.nonzero(batch.taken)
    state, action = batch.states[episode, step], batch.actions[episode, step]
    weight = weights[episode, step] * gamma**step
    np.add.at(gradients, (episode, state), -weight[:, None] * policy[state])
    np.add.at(gradients, (episode, state, action), weight)
    return gradients


def importance_estimates(
    batch: Batch, behaviour: Policy, target: Policy, per_decision: bool = False, weighted: bool = False
) -> Float[NDArray[np.floating], " n"]:
    """What each episode of one policy says another's expected return is; the estimate is their mean.

    Args:
        batch: of `behaviour`.
        behaviour: (S, A) that acted.
        target: (S, A) that is asked about.
        per_decision: weigh each reward by the ratios up to its own step alone (Precup et al. 2000).
        weighted: divide by the mean weight: biased, and consistent; of whole episodes alone.

    Raises:
        ValueError: weights by decision, and divided by their mean.
    """
    if weighted and per_decision:
        raise ValueError("weighted importance sampling is of whole episodes here: leave out per_decision")
    ratio = np.where(batch.taken, target[batch.states, batch.actions] / behaviour[batch.states, batch.actions], 1.0)
    so_far = np.cumprod(ratio, axis=1)
    if per_decision:
        return np.asarray((so_far * batch.rewards).sum(axis=1))
    whole = so_far[:, -1]
    return np.asarray(whole / (whole.mean() if weighted else 1.0) * batch.rewards.sum(axis=1))


class Moments(NamedTuple):
    """How far an estimate is from what it estimates.

    Attributes:
        bias: length of the mean's distance from the truth.
        bias_error: what that length would be by chance were there no bias: the standard error of the mean.
        variance: of one episode's estimate, summed over its components.
    """

    bias: float
    bias_error: float
    variance: float


def moments(estimates: Float[NDArray[np.floating], n * shape], truth: NDArray[np.floating] | float) -> Moments:
    """Bias and variance of estimates, one an episode, of a number or an array."""
    flat = estimates.reshape(len(estimates), -1)
    bias = np.linalg.norm(flat.mean(axis=0) - np.ravel(truth))
    variance = flat.var(axis=0, ddof=1).sum()
    return Moments(float(bias), float(np.sqrt(variance / len(flat))), float(variance))
