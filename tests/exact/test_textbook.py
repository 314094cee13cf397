"""The textbook's estimators beside exact arithmetic: gradients, advantages, importance sampling, what each learns."""

from itertools import islice

import numpy as np
import prefrl_envs
import pytest
from scipy.special import softmax

from prefrl.exact.sampling import (
    episode_gradients,
    gae,
    importance_estimates,
    moments,
    returns_to_go,
    rollouts,
    td_errors,
)
from prefrl.exact.solver import episodes, evaluate, expected_return, solve, state_kl, visits
from prefrl.exact.textbook import (
    LEARNERS,
    Objective,
    criticised,
    exact_gradient,
    learn,
    natural_gradient,
    policy_gradient,
    sampled_gradient,
    trust_region_step,
)
from prefrl.exact.world import World

assert prefrl_envs  # registers the ids
COUNT = 8_000  # episodes, of the sampled estimates
TALK = World.make("prefrl/Dialogue-v0", turns=4)
SURPRISE = 2.0  # times what a bias would be by chance


def logits(seed=0, scale=1.0, world=TALK):
    return scale * np.random.default_rng(seed).normal(size=world.rewards.shape)


POLICY = softmax(logits(), axis=1)
EXACT = evaluate(TALK, POLICY)
BATCH = rollouts(TALK, POLICY, COUNT, np.random.default_rng(1))
TRUTH = policy_gradient(TALK, POLICY)


def numerical(of, at, size=1e-6):
    """Gradient (S, A) of a function of logits by central differences."""
    found = np.zeros_like(at)
    for place in np.ndindex(*at.shape):
        step = np.zeros_like(at)
        step[place] = size
        found[place] = (of(at + step) - of(at - step)) / (2 * size)
    return found


def test_values_solve_the_bellman_equations():
    """(I - gamma P) V = r, as a linear system."""
    states = len(TALK.start)
    moves = np.zeros((states, states + 1))
    flow = POLICY[:, :, None] * TALK.chances
    np.add.at(moves, (np.arange(states)[:, None, None], TALK.successors), flow)
    for gamma in (1.0, 0.7):
        solved = np.linalg.solve(np.eye(states) - gamma * moves[:, :-1], (POLICY * TALK.rewards).sum(1))
        np.testing.assert_allclose(evaluate(TALK, POLICY, gamma=gamma).value, solved, rtol=1e-12)
    advantage = evaluate(TALK, POLICY).advantage
    np.testing.assert_allclose((POLICY * advantage).sum(1), 0, atol=1e-12)
    better = np.eye(3)[advantage.argmax(1)]  # policy improvement
    assert (evaluate(TALK, better).value >= EXACT.value - 1e-12).all()


@pytest.mark.parametrize("gamma", [1.0, 0.7])
def test_the_policy_gradient_is_the_derivative_of_the_return(gamma):
    by_hand = numerical(lambda at: expected_return(TALK, softmax(at, axis=1), gamma), logits())
    np.testing.assert_allclose(policy_gradient(TALK, POLICY, gamma), by_hand, atol=1e-8)


WEIGHTS = {
    "REINFORCE": lambda gamma, value: returns_to_go(BATCH, gamma),
    "with the true value as baseline": lambda gamma, value: gae(BATCH, value, 1.0, gamma),
    "with a wrong baseline": lambda gamma, value: gae(BATCH, value + 1 + np.arange(len(value)) % 3, 1.0, gamma),
    "actor-critic with the true value": lambda gamma, value: td_errors(BATCH, value, gamma),
    "generalised advantages of the true value": lambda gamma, value: gae(BATCH, value, 0.5, gamma),
}


@pytest.mark.parametrize("gamma", [1.0, 0.7])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_sampled_gradients_are_the_exact_one_on_average(weights, gamma):
    value = evaluate(TALK, POLICY, gamma=gamma).value
    estimates = episode_gradients(BATCH, POLICY, WEIGHTS[weights](gamma, value), gamma)
    found = moments(estimates, policy_gradient(TALK, POLICY, gamma))
    assert found.bias < SURPRISE * found.bias_error
    assert found.bias_error < 0.5 * np.linalg.norm(policy_gradient(TALK, POLICY, gamma))  # so that it says something


def test_a_baseline_takes_variance_away_and_a_critic_that_errs_adds_bias():
    by_lambda = {
        name: [moments(episode_gradients(BATCH, POLICY, gae(BATCH, value, lam)), TRUTH) for lam in (0.0, 0.5, 0.9, 1.0)]
        for name, value in (("true", EXACT.value), ("wrong", np.zeros(len(EXACT.value))))
    }
    plain = moments(episode_gradients(BATCH, POLICY, returns_to_go(BATCH)), TRUTH)
    assert by_lambda["true"][3].variance < 0.1 * plain.variance
    assert by_lambda["wrong"][3].variance == pytest.approx(plain.variance)  # zero is no baseline
    biases = [found.bias for found in by_lambda["wrong"]]
    assert biases == sorted(biases, reverse=True)
    assert biases[0] > 5 * by_lambda["wrong"][0].bias_error
    for found in by_lambda["true"]:
        assert found.bias < SURPRISE * found.bias_error
    for name in by_lambda:
        variances = [found.variance for found in by_lambda[name]]
        assert variances == sorted(variances)


OBJECTIVES = {"plain": Objective(), "penalty": Objective(penalty=0.7), "clip": Objective(clip=0.2)}


def objective_at(old, policy, objective):
    """The objective of a policy, term by term."""
    advantage = evaluate(TALK, old).advantage
    ratio = policy / old
    gain = ratio * advantage
    if objective.clip is not None:
        gain = np.minimum(gain, ratio.clip(1 - objective.clip, 1 + objective.clip) * advantage)
    return visits(TALK, old) @ ((old * gain).sum(1) - objective.penalty * state_kl(old, policy))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_exact_gradients_of_objectives_are_their_derivatives(name):
    objective, at = OBJECTIVES[name], logits() + logits(5, 0.3)
    by_hand = numerical(lambda at: objective_at(POLICY, softmax(at, axis=1), objective), at)
    np.testing.assert_allclose(exact_gradient(TALK, POLICY, softmax(at, axis=1), objective), by_hand, atol=1e-7)
    np.testing.assert_allclose(exact_gradient(TALK, POLICY, POLICY, objective), TRUTH, atol=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_sampled_gradients_of_objectives_are_the_exact_ones_on_average(name):
    objective, policy = OBJECTIVES[name], softmax(logits() + logits(5, 0.3), axis=1)
    parts = []
    for seed in range(40):
        batch = rollouts(TALK, POLICY, 100, np.random.default_rng(100 + seed))
        advantage = np.where(batch.taken, EXACT.advantage[batch.states, batch.actions], 0.0)
        parts.append(sampled_gradient(batch, advantage, POLICY, policy, objective))
    truth = exact_gradient(TALK, POLICY, policy, objective)
    found = moments(np.stack(parts), truth)
    assert found.bias < SURPRISE * found.bias_error < np.linalg.norm(truth)
    if name == "clip":  # the clip decides something here
        unclipped = exact_gradient(TALK, POLICY, policy, Objective())
        assert np.linalg.norm(truth - unclipped) > 3 * found.bias_error


def test_at_the_policy_that_acted_a_sampled_objective_is_the_policy_gradient():
    weights = gae(BATCH, EXACT.value, 0.5)
    mean = episode_gradients(BATCH, POLICY, weights).mean(0)
    for objective in OBJECTIVES.values():
        np.testing.assert_allclose(sampled_gradient(BATCH, weights, POLICY, POLICY, objective), mean, atol=1e-12)


def test_the_natural_gradient_solves_the_fisher_system_and_is_the_advantage():
    visited = visits(TALK, POLICY)
    natural = natural_gradient(TRUTH, visited, POLICY)
    np.testing.assert_allclose(natural, EXACT.advantage, atol=1e-12)
    for weight, p, g, x in zip(visited, POLICY, TRUTH, natural, strict=True):
        np.testing.assert_allclose(weight * (np.diag(p) - np.outer(p, p)) @ x, g, atol=1e-12)


@pytest.mark.parametrize("max_kl", [0.001, 0.1])
def test_a_trust_region_step_improves_and_stays_inside(max_kl):
    visited = visits(TALK, POLICY)

    def gain(policy):
        return objective_at(POLICY, policy, Objective())

    moved = softmax(trust_region_step(logits(), TRUTH, visited, gain, max_kl), axis=1)
    divergence = visited @ state_kl(POLICY, moved)
    assert 0.2 * max_kl < divergence <= max_kl
    assert expected_return(TALK, moved) > expected_return(TALK, POLICY)
    nowhere = np.zeros_like(TRUTH)
    np.testing.assert_array_equal(trust_region_step(logits(), nowhere, visited, gain, max_kl), logits())


def test_importance_sampling_by_episode_and_by_decision_is_unbiased_and_its_variance_known():
    target = softmax(logits() + logits(7, 0.5), axis=1)
    truth = expected_return(TALK, target)
    whole = moments(importance_estimates(BATCH, POLICY, target), truth)
    by_decision = moments(importance_estimates(BATCH, POLICY, target, per_decision=True), truth)
    for found in (whole, by_decision):
        assert found.bias < 3 * found.bias_error
    assert by_decision.variance < whole.variance
    weighted = importance_estimates(BATCH, POLICY, target, weighted=True)
    assert abs(weighted.mean() - truth) < 0.1
    bandit = World.make("prefrl/ContextualBandit-v0")
    acts, asked = (softmax(logits(seed, world=bandit), axis=1) for seed in (1, 2))
    batch = rollouts(bandit, acts, COUNT, np.random.default_rng(3))
    estimates = importance_estimates(batch, acts, asked)
    second = bandit.start @ (asked**2 / acts * bandit.rewards**2).sum(1)
    variance = second - expected_return(bandit, asked) ** 2
    assert estimates.var() == pytest.approx(variance, rel=0.15)


def test_weighted_importance_sampling_is_biased_towards_the_policy_that_acted_and_steadier():
    target = softmax(logits() + logits(7, 0.8), axis=1)
    batches = [rollouts(TALK, POLICY, 4, np.random.default_rng(seed)) for seed in range(200)]
    plain, weighted = (
        np.array([importance_estimates(b, POLICY, target, weighted=weigh).mean() for b in batches])
        for weigh in (False, True)
    )
    assert weighted.std() < 0.5 * plain.std()
    alone = rollouts(TALK, POLICY, 1, np.random.default_rng(0))  # one episode says what it was worth, and no more
    assert importance_estimates(alone, POLICY, target, weighted=True) == pytest.approx(alone.rewards.sum(1))
    with pytest.raises(ValueError, match="leave out per_decision"):
        importance_estimates(alone, POLICY, target, per_decision=True, weighted=True)


def test_the_farther_the_target_the_larger_the_variance():
    """The second moment of the weights is exp of a divergence, exactly: sum over episodes of P_target^2 / P."""
    measured, exact = [], []
    for scale in (0.2, 0.5, 0.8):
        target = softmax(logits() + logits(7, scale), axis=1)
        begun, (p, q) = episodes(TALK, POLICY, target)
        exact.append((TALK.start[begun] * q**2 / p).sum())
        ratio = np.where(BATCH.taken, (target / POLICY)[BATCH.states, BATCH.actions], 1.0).prod(1)
        measured.append((ratio**2).mean())
    assert exact == sorted(exact)
    assert measured[:2] == pytest.approx(exact[:2], rel=0.2)


@pytest.mark.parametrize("bootstraps", [True, False])
def test_the_critic_finds_the_value(bootstraps):
    value = np.zeros(len(TALK.start))
    for _ in range(60):
        value = criticised(value, BATCH, 0.5, bootstraps)
    assert np.abs(value - EXACT.value)[visits(TALK, POLICY) > 0.05].max() < 0.1


RATES = {"TRPO": 0.01} | dict.fromkeys(("PPO, penalty", "PPO, clip"), 1.0)


@pytest.mark.parametrize("name", LEARNERS)
def test_each_learner_learns(name):
    best, first = expected_return(TALK, solve(TALK, 0.0).policy), expected_return(TALK, TALK.reference)
    rate = RATES.get(name, 2.0)
    returns = [r for r, _ in islice(learn(TALK, LEARNERS[name], rate, 64, np.random.default_rng(0)), 121)]
    assert returns[0] == pytest.approx(first)
    share = (returns[-1] - first) / (best - first)
    assert share > (0.75 if name == "REINFORCE" else 0.95)
