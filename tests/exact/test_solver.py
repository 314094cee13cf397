"""The solver: the derivation's identities, its own equations, and independent arithmetic beside it."""

import gymnasium as gym
import numpy as np
import prefrl_envs
import pytest
from helpers import sentence
from scipy.special import expit, logsumexp

from prefrl.exact.solver import (
    backed_up,
    episodes,
    evaluate,
    expected_kl,
    expected_return,
    solve,
    state_kl,
    total_variation,
    visits,
)
from prefrl.exact.world import World
from prefrl.words.errors import UserError

assert prefrl_envs  # registers the ids
SMALL = {
    "ContextualBandit": {},
    "Dialogue": {"turns": 4},
    "TokenWriter": {"prompts": 2, "tokens": 4, "length": 3},
    "WholeText": {"prompts": 2, "tokens": 4, "length": 3},
}
every_world = pytest.mark.parametrize("name", SMALL)


def world(name, **arguments):
    return World.make(f"prefrl/{name}-v0", **SMALL[name] | arguments)


def any_policy(of, seed=0):
    logits = np.random.default_rng(seed).normal(size=of.rewards.shape)
    return np.exp(logits - logsumexp(logits, axis=1, keepdims=True))


def of_states(of, seed=0):
    return np.random.default_rng(seed).normal(size=len(of.start))


def test_a_bandit_is_solved_by_the_formula():
    bandit = world("ContextualBandit")
    found = solve(bandit, 0.7)
    weights = bandit.reference * np.exp(bandit.rewards / 0.7)
    partition = weights.sum(1)
    np.testing.assert_allclose(found.policy, weights / partition[:, None], rtol=1e-12)
    np.testing.assert_allclose(found.value, 0.7 * np.log(partition), rtol=1e-12)


@every_world
@pytest.mark.parametrize("beta", [0.05, 0.5, 5.0])
def test_the_optimum_is_better_than_whatever_is_near_it(name, beta):
    """Its value is the regularised return of its own policy, and no other policy's is as high, in any state."""
    of = world(name)
    best = solve(of, beta)
    own = evaluate(of, best.policy, beta)
    np.testing.assert_allclose(own.value, best.value, atol=1e-12)
    for seed in range(3):
        other = 0.9 * best.policy + 0.1 * any_policy(of, seed)
        assert (evaluate(of, other, beta).value < best.value).all()
    there = of.start @ best.value
    assert there == pytest.approx(expected_return(of, best.policy) - beta * expected_kl(of, best.policy))


@every_world
def test_without_a_reference_it_is_value_iteration(name):
    of = world(name)
    best = solve(of, 0.0)
    np.testing.assert_allclose(best.value, best.q.max(1))
    np.testing.assert_allclose(solve(of, 1e-3).value, best.value, atol=0.03)  # the limit
    assert expected_return(of, best.policy) == pytest.approx(of.start @ best.value)
    np.testing.assert_allclose(solve(of, 1e6).policy, of.reference, atol=1e-5)


@every_world
def test_from_reward_to_policy_and_back(name):
    """r(s, a) = beta log(pi* / pi_ref) + V(s) - E V(s'): Z cancels over an episode, its start apart."""
    of, beta = world(name), 0.4
    best = solve(of, beta)
    ratio = beta * np.log(best.policy / of.reference)
    np.testing.assert_allclose(ratio, best.advantage, atol=1e-12)
    np.testing.assert_allclose(
        ratio + best.value[:, None] - (backed_up(of, best.value) - of.rewards), of.rewards, atol=1e-12
    )
    again = solve(of.paying(ratio), beta)  # the implicit reward has the same optimum, and Z = 1 everywhere
    np.testing.assert_allclose(again.policy, best.policy, atol=1e-12)
    np.testing.assert_allclose(again.value, 0, atol=1e-12)


@every_world
def test_the_preference_of_two_episodes_of_one_start_needs_no_partition_function(name):
    of, beta = world(name, **({"certainty": 1.0} if name == "Dialogue" else {})), 0.4
    ratio = beta * np.log(solve(of, beta).policy / of.reference)
    rng = np.random.default_rng(0)
    for start in of.first:
        sums = []
        for _ in range(2):
            state, sum_of = start, np.zeros(2)
            while state >= 0:
                action = rng.integers(of.rewards.shape[1])
                sum_of += of.rewards[state, action], ratio[state, action]
                state = of.successors[state, action, 0]
            sums.append(sum_of)
        by_reward, by_policy = expit(sums[0] - sums[1])
        assert by_reward == pytest.approx(by_policy, abs=1e-12)


@every_world
def test_what_depends_on_the_state_alone_changes_nothing(name):
    """Adding c(s0) where an episode begins, or shaping by any potential, leaves the optimum as it is."""
    of, beta = world(name), 0.4
    best = solve(of, beta)
    where = (of.start > 0)[:, None] * np.ones_like(of.rewards)
    moved = solve(of.paying(of.rewards + 3.7 * where), beta)
    np.testing.assert_allclose(moved.policy, best.policy, atol=1e-12)
    potential = of_states(of)
    shaped = backed_up(of, potential) - potential[:, None]  # r + E phi(s') - phi(s)
    again = solve(of.paying(shaped), beta)
    np.testing.assert_allclose(again.policy, best.policy, atol=1e-10)
    np.testing.assert_allclose(again.value, best.value - potential, atol=1e-10)
    np.testing.assert_allclose(again.advantage, best.advantage, atol=1e-10)
    scaled = solve(of.paying(10 * of.rewards), 10 * beta)  # whatever scales the reward scales the KL term
    np.testing.assert_allclose(scaled.policy, best.policy, atol=1e-12)


@every_world
def test_divergences_are_what_they_are_by_episode(name):
    of = world(name)
    one, other = any_policy(of, 1), any_policy(of, 2)
    begun, chance = episodes(of, one, other)
    weight = of.start[begun]
    for p in chance:
        np.testing.assert_allclose(np.bincount(begun, p, len(of.start))[of.first], 1)
    by_episode = (weight * chance[0] * np.log(chance[0] / chance[1])).sum()
    assert expected_kl(of, one, other) == pytest.approx(by_episode)
    assert expected_kl(of, one, other) > 0
    assert (state_kl(one, other) > 0).all()
    assert expected_kl(of, one, one) == total_variation(of, one, one) == 0
    distance = total_variation(of, one, other)
    assert distance == pytest.approx(total_variation(of, other, one))
    assert 0 < distance <= np.sqrt(by_episode / 2)  # Pinsker


@every_world
def test_visits_and_returns_are_those_that_happen(name):
    of = world(name)
    policy = any_policy(of)
    env = gym.make_vec(f"prefrl/{name}-v0", 4000, vectorization_mode="vector_entry_point", **SMALL[name])
    place = {row.tobytes(): n for n, row in enumerate(of.observations)}
    rng = np.random.default_rng(0)
    observations, _ = env.reset(seed=99)
    left, returns, seen = np.ones(4000, bool), np.zeros(4000), np.zeros(len(of.start))
    while left.any():
        states = np.array([place[row.tobytes()] for row in observations])
        seen += np.bincount(states[left], minlength=len(of.start))
        actions = (policy[states].cumsum(1) < rng.random((4000, 1))).sum(1)
        observations, rewards, ended, _, _ = env.step(actions)
        returns[left] += rewards[left]
        left &= ~ended
    assert np.abs(seen / 4000 - visits(of, policy)).max() < 5 * np.sqrt(0.25 / 4000)
    assert abs(returns.mean() - expected_return(of, policy)) < 4 * returns.std() / np.sqrt(4000)
    discounted = evaluate(of, policy, gamma=0.5)
    assert of.start @ discounted.value == pytest.approx(expected_return(of, policy, 0.5))


def test_tokens_and_whole_texts_have_one_optimum():
    writer, chooser, beta = world("TokenWriter"), world("WholeText"), 0.3
    by_token, whole = solve(writer, beta), solve(chooser, beta)
    np.testing.assert_allclose(by_token.value[writer.first], whole.value, rtol=1e-12)
    begun, (chance,) = episodes(writer, by_token.policy)
    for start, row in zip(writer.first, whole.policy, strict=True):  # the same chances, in another order
        np.testing.assert_allclose(np.sort(chance[begun == start]), np.sort(row), rtol=1e-10)
    rewarded_by_token = solve(world("TokenWriter", rewarded="token"), beta)
    np.testing.assert_allclose(rewarded_by_token.policy, by_token.policy, atol=1e-12)


@every_world
@pytest.mark.parametrize("pays", ["advantage", "entropy-advantage"])
def test_an_environment_pays_the_advantage_that_the_solver_finds(name, pays):
    plain, beta = world(name), 0.6
    reference = plain if pays == "advantage" else plain.anchored(np.ones_like(plain.rewards))
    best = solve(reference, beta)
    paid = world(name, pays=pays, beta=beta)
    np.testing.assert_allclose(paid.rewards, best.advantage, atol=1e-12)
    if pays == "entropy-advantage":  # A* = alpha log pi*: what contrastive preference learning supposes
        np.testing.assert_allclose(paid.rewards, beta * np.log(best.policy), atol=1e-12)


def test_the_bandits_view_of_a_dialogue_loses_what_arithmetic_says():
    talk = World.make("prefrl/Dialogue-v0")
    returns = [expected_return(talk, solve(talk, 0.0, gamma).policy) for gamma in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert (np.diff(returns) >= -1e-12).all()
    assert returns[-1] - returns[0] > 0.5
    flatters = solve(talk, 0.0, 0.0).policy.argmax(1)
    assert (flatters == 2).all()
    assert set(solve(talk, 0.0).policy.argmax(1)) == {0, 1, 2}


def test_what_pays_by_the_letter_is_overoptimised():
    """A reward that adds up letter values, right about every text of one letter: its best policies get worse."""
    writer = World.make("prefrl/TokenWriter-v0", rewarded="token")
    alone = np.stack([writer.rewards[first] for first in writer.first])  # the first letter's worth, by prompt
    by_letter = writer.paying(alone[writer.observations[:, :4].argmax(1)])
    betas = np.geomspace(10, 0.02, 12)
    policies = [solve(by_letter, beta).policy for beta in betas]
    divergence = [expected_kl(writer, policy) for policy in policies]
    learned = [expected_return(by_letter, policy) for policy in policies]
    true = [expected_return(writer, policy) for policy in policies]
    assert (np.diff(divergence) > 0).all()
    assert (np.diff(learned) > 0).all()
    peak = int(np.argmax(true))
    assert 0 < peak < 11
    assert true[0] < 0.5 < true[peak]
    assert true[-1] < 0.1


def test_discounted_worlds_without_an_end_settle():
    """Two states that lead to each other for ever."""
    ring = World(
        np.eye(2, dtype=np.float32),
        np.array([1.0, 0.0]),
        np.array([[0.0, 1.0], [1.0, 0.0]]),
        np.array([[[0], [1]], [[1], [0]]]),
        np.ones((2, 2, 1)),
        np.full((2, 2), 0.5),
    )
    best = solve(ring, 0.5, gamma=0.9)
    np.testing.assert_allclose(best.value, 0.5 * np.log(best.policy.sum(1) * 0 + np.exp(best.q / 0.5).mean(1)))
    assert visits(ring, ring.reference, 0.9).sum() == pytest.approx(10)
    with pytest.raises(ValueError, match="more than 3000000 different episodes"):
        episodes(ring, ring.reference)


def test_wrong_input_is_a_sentence():
    with pytest.raises(UserError, match="cannot be enumerated") as refused:
        World.make("CartPole-v1")
    sentence(refused.value)
    bandit = world("ContextualBandit")
    with pytest.raises(ValueError, match="beta=-1"):
        solve(bandit, -1.0)
    with pytest.raises(ValueError, match=r"is \(4, 6\): got \(2, 2\)"):
        bandit.anchored(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"are \(4, 6\): got \(2, 2\)"):
        bandit.paying(np.ones((2, 2)))
