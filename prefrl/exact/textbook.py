"""The textbook's policy-gradient learners on a finite world, small enough to read, and the exact gradient of each.

The policy is a softmax of one logit for each state and action, and the critic one number for each state. In this form
the gradient of every objective can be written down: `exact_gradient` says what an endless batch would say, and
`sampled_gradient` what a batch says. At the policy that acted, all of them are the policy gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import softmax

from prefrl.exact.sampling import Batch, Steps, gae, returns_to_go, rollouts, td_errors
from prefrl.exact.solver import PerState, Policy, evaluate, expected_return, state_kl, visits
from prefrl.exact.world import World

Gradient = Float[NDArray[np.floating], "s a"]


def policy_gradient(world: World, policy: Policy, gamma: float = 1.0) -> Gradient:
    """The gradient of the expected return in the logits, (S, A): d(s) pi(a|s) A(s, a) (Sutton et al. 2000)."""
    return np.asarray(visits(world, policy, gamma)[:, None] * policy * evaluate(world, policy, gamma=gamma).advantage)


@dataclass(frozen=True)
class Objective:
    """What is climbed with the episodes of an older policy: the mean of rho A over its steps, rho = pi / pi_old.

    Attributes:
        clip: PPO's: nothing is gained where rho has left [1 - clip, 1 + clip] in the direction of the advantage
            (Schulman et al. 2017, arXiv 1707.06347, equation 7); None for none.
        penalty: PPO's other form: this many times KL(pi_old || pi) is taken off (equation 8).
    """

    clip: float | None = None
    penalty: float = 0.0

    def counts(self, ratio: NDArray[np.floating], advantage: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Where there is still something to be gained."""
        if self.clip is None:
            return np.ones(np.broadcast(ratio, advantage).shape, bool)
        return ~(((advantage > 0) & (ratio > 1 + self.clip)) | ((advantage < 0) & (ratio < 1 - self.clip)))


def exact_gradient(world: World, old: Policy, policy: Policy, objective: Objective) -> Gradient:
    """The objective's gradient in the logits of `policy`, over all that `old` could do, (S, A)."""
    visited, advantage = visits(world, old)[:, None], evaluate(world, old).advantage
    gain = policy * advantage * objective.counts(policy / old, advantage)
    climb = gain - policy * gain.sum(axis=1, keepdims=True)
    return np.asarray(visited * (climb - objective.penalty * (policy - old)))


def sampled_gradient(batch: Batch, advantage: Steps, old: Policy, policy: Policy, objective: Objective) -> Gradient:
    """The objective's gradient in the logits of `policy`, as episodes of `old` say it, (S, A).

    Args:
        batch: episodes of `old`.
        advantage: (n, T) as estimated of each step.
        old: (S, A) that acted.
        policy: (S, A) that is to be improved.
        objective: to climb.
    """
    on = batch.taken
    state, action, gained = batch.states[on], batch.actions[on], advantage[on]
    ratio = policy[state, action] / old[state, action]
    weight = ratio * gained * objective.counts(ratio, gained)
    gradient = np.zeros(policy.shape)
    np.add.at(gradient, (state, action), weight)
    gradient -= policy * np.bincount(state, weight, len(policy))[:, None]
    visited = np.bincount(state, minlength=len(policy))
    return np.asarray((gradient - objective.penalty * visited[:, None] * (policy - old)) / len(batch.states))


def natural_gradient(gradient: Gradient, visited: PerState, policy: Policy) -> Gradient:
    """F^-1 g, F the Fisher information of an episode's actions; for these policies g / (d pi), and exactly A.

    Args:
        gradient: (S, A) in the logits.
        visited: (S,) how often an episode comes to each state; where it never does, nothing is known.
        policy: (S, A).
    """
    weight = visited[:, None] * policy
    return np.divide(gradient, weight, out=np.zeros_like(policy), where=weight > 0)


def trust_region_step(
    logits: Gradient, gradient: Gradient, visited: PerState, gain: Callable[[Policy], float], max_kl: float
) -> Gradient:
    """TRPO's step (Schulman et al. 2015, arXiv 1502.05477, appendix C): natural, as far as allowed, halved till good.

    Args:
        logits: (S, A) of the policy that acted.
        gradient: (S, A) of its return.
        visited: (S,) how often an episode comes to each state.
        gain: what the objective is at a policy, above its value at the one that acted.
        max_kl: nats in an episode, that the new policy may diverge.
    """
    old = softmax(logits, axis=1)
    direction = natural_gradient(gradient, visited, old)
    slope = float((gradient * direction).sum())
    if slope <= 0:
        return logits
    step = np.sqrt(2 * max_kl / slope) * direction
    for halved in range(10):
        moved = logits + 0.5**halved * step
        new = softmax(moved, axis=1)
        if visited @ state_kl(old, new) <= max_kl and gain(new) > 0:
            return np.asarray(moved)
    return logits


class Textbook(NamedTuple):
    """A learner: how it weighs a step, and how it moves.

    Attributes:
        advantage: of a batch and a critic, (n, T).
        move: new logits, of logits, batch, advantage and step size.
        bootstraps: whether the critic learns from its own value of the next state.
    """

    advantage: Callable[[Batch, PerState], Steps]
    move: Callable[[Gradient, Batch, Steps, float], Gradient]
    bootstraps: bool = False


def climb(logits: Gradient, batch: Batch, advantage: Steps, rate: float) -> Gradient:
    """One step along the policy gradient."""
    policy = softmax(logits, axis=1)
    return np.asarray(logits + rate * sampled_gradient(batch, advantage, policy, policy, Objective()))


def within_trust_region(logits: Gradient, batch: Batch, advantage: Steps, rate: float) -> Gradient:
    """TRPO; the rate is how many nats the episodes may diverge."""
    old = softmax(logits, axis=1)
    on = batch.taken
    state, action, gained = batch.states[on], batch.actions[on], advantage[on]
    visited = np.bincount(state, minlength=len(old)) / len(batch.states)

    def gain(policy: Policy) -> float:
        return float(((policy[state, action] / old[state, action] - 1) * gained).sum())

    gradient = sampled_gradient(batch, advantage, old, old, Objective())
    return trust_region_step(logits, gradient, visited, gain, rate)


def ppo(objective: Objective, epochs: int = 10) -> Callable[[Gradient, Batch, Steps, float], Gradient]:
    """PPO: several steps up one objective with one batch."""

    def move(logits: Gradient, batch: Batch, advantage: Steps, rate: float) -> Gradient:
        old = softmax(logits, axis=1)
        for _ in range(epochs):
            gradient = sampled_gradient(batch, advantage, old, softmax(logits, axis=1), objective)
            logits = logits + rate * gradient
        return logits

    return move


def _gae(batch: Batch, value: PerState) -> Steps:
    return gae(batch, value, 0.95)


LEARNERS: dict[str, Textbook] = {
    "REINFORCE": Textbook(lambda batch, value: returns_to_go(batch), climb),
    "REINFORCE with baseline": Textbook(lambda batch, value: gae(batch, value, 1.0), climb),
    "actor-critic": Textbook(td_errors, climb, bootstraps=True),
    "TRPO": Textbook(_gae, within_trust_region),
    "PPO, penalty": Textbook(_gae, ppo(Objective(penalty=1.0))),
    "PPO, clip": Textbook(_gae, ppo(Objective(clip=0.2))),
}
"""Undiscounted, as the worlds end by themselves."""


def learn(
    world: World, learner: Textbook, rate: float, episodes: int, rng: np.random.Generator, critic_rate: float = 0.5
) -> Iterator[tuple[float, Policy]]:
    """Learn from the reference on, for ever: expected return and policy (S, A) before each batch of episodes.

    Args:
        world: whose reference is the first policy.
        learner: of `LEARNERS`, or another.
        rate: step size; of TRPO nats in an episode.
        episodes: in a batch.
        rng: draws them.
        critic_rate: how far the critic goes to what the batch says of each state.
    """
    logits, value = np.log(world.reference), np.zeros(len(world.start))
    while True:
        policy = softmax(logits, axis=1)
        yield expected_return(world, policy), policy
        batch = rollouts(world, policy, episodes, rng)
        logits = learner.move(logits, batch, learner.advantage(batch, value), rate)
        value = criticised(value, batch, critic_rate, learner.bootstraps)


def criticised(value: PerState, batch: Batch, rate: float, bootstraps: bool) -> PerState:
    """The critic, moved towards the mean of what the batch says of each state: TD(0)'s targets, or returns."""
    errors = td_errors(batch, value) if bootstraps else gae(batch, value, 1.0)
    state = batch.states[batch.taken]
    seen = np.bincount(state, minlength=len(value))
    return np.asarray(value + rate * np.bincount(state, errors[batch.taken], len(value)) / np.maximum(seen, 1))
