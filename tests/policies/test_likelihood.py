"""log pi(a|s) of what was recorded: by hand, by counting, by what acts again, for every kind of action and picture."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.utils import set_random_seed

from prefrl.policies.likelihood import RawPolicy, censored_normal
from prefrl.policies.policy import Policy
from prefrl.words.tensors import save_tensors

VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)
ACTIONS = {
    "box": spaces.Box(-1, 1, (2,), np.float32),
    "table": spaces.Box(np.float32([[-1, -2]]), np.float32([[1, 2]]), (1, 2), np.float32),
    "discrete": spaces.Discrete(4),
    "multidiscrete": spaces.MultiDiscrete([2, 3]),
    "multibinary": spaces.MultiBinary(3),
}
PICTURES = {"first": spaces.Box(0, 255, (4, 44, 44), np.uint8), "last": spaces.Box(0, 255, (44, 44, 3), np.uint8)}


def made(observation_space, action_space, **policy_kwargs):
    set_random_seed(3)
    policy = RawPolicy.fresh(observation_space, action_space, policy_kwargs)
    with torch.no_grad():
        for weight in policy.policy.action_net.parameters():  # the first ones are near zero
            weight.copy_(torch.randn_like(weight))
    return policy


def samples(space, count):
    space.seed(5)
    return np.stack([space.sample() for _ in range(count)])


def test_a_clipped_action_has_the_chance_of_all_that_is_clipped_to_it():
    one = [torch.tensor([[value]]) for value in (0.3, 0.6)]
    low, high = torch.tensor([-1.0]), torch.tensor([1.0])

    def at(action):
        return censored_normal(torch.tensor([[action]]), *one, low, high).item()

    normal = torch.distributions.Normal(0.3, 0.6)
    assert at(0.5) == pytest.approx(normal.log_prob(torch.tensor(0.5)).item())
    assert math.exp(at(1.0)) == pytest.approx(1 - normal.cdf(torch.tensor(1.0)).item(), abs=1e-6)
    assert math.exp(at(-1.0)) == pytest.approx(normal.cdf(torch.tensor(-1.0)).item(), abs=1e-6)
    grid = torch.linspace(-0.9999, 0.9999, 20001)[:, None]
    inside = censored_normal(grid, *(part.expand_as(grid) for part in one), low, high).exp().mean().item() * 1.9998
    assert inside + math.exp(at(1.0)) + math.exp(at(-1.0)) == pytest.approx(1, abs=1e-3)


def test_a_bound_far_away_is_finite_with_its_gradient():
    mean = torch.tensor([[60.0]], requires_grad=True)
    std = torch.tensor([[0.1]], requires_grad=True)
    bounds = torch.tensor([-1.0]), torch.tensor([1.0])
    for action in (-1.0, 1.0, 0.0):
        log_prob = censored_normal(torch.tensor([[action]]), mean, std, *bounds).sum()
        grads = torch.autograd.grad(log_prob, [mean, std])
        assert log_prob.isfinite() and all(grad.isfinite().all() for grad in grads)


def test_the_mean_log_ratio_of_clipped_actions_is_a_divergence():
    set_random_seed(0)
    low, high = torch.tensor([-1.0]), torch.tensor([1.0])
    mean, std = torch.full((200_000, 1), 2.5), torch.full((200_000, 1), 1.0)
    actions = torch.normal(mean, std).clamp(-1, 1)
    wide, there = torch.full_like(std, 1.5), torch.full_like(mean, 3.4)
    right = censored_normal(actions, mean, std, low, high) - censored_normal(actions, there, wide, low, high)
    assert right.mean() > 0
    assert right.mean().item() == pytest.approx(clipped_divergence(2.5, 1.0, 3.4, 1.5), abs=0.01)
    normal, other = torch.distributions.Normal(mean, std), torch.distributions.Normal(there, wide)
    wrong = normal.log_prob(actions) - other.log_prob(actions)  # a density, where there is a chance
    assert abs(wrong.mean() - right.mean()) > 0.2


def clipped_divergence(mean, std, other_mean, other_std):
    """KL between two normals clipped to [-1, 1], by summing over a grid."""
    one, other = torch.distributions.Normal(mean, std), torch.distributions.Normal(other_mean, other_std)
    edges = torch.linspace(-1, 1, 20_001).double()
    chances = []
    for normal in (one, other):
        below = normal.cdf(edges)
        chances.append(torch.cat([below[:1], below.diff(), 1 - below[-1:]]))
    return (chances[0] * (chances[0] / chances[1]).log()).sum().item()


@pytest.mark.parametrize("name", ACTIONS)
def test_each_kind_of_action_is_as_likely_as_it_is_drawn(name):
    policy = made(VECTOR, ACTIONS[name])
    seen = samples(VECTOR, 6)
    policy.look_at(samples(VECTOR, 50))
    actions = policy.act(seen)
    assert actions.shape == (6, *ACTIONS[name].shape)
    assert all(ACTIONS[name].contains(action.astype(ACTIONS[name].dtype)) for action in actions)
    log_prob = policy(policy.shown(seen), policy.done(actions))
    torch.testing.assert_close(log_prob, policy.log_prob(policy.shown(seen), policy.done(actions)))
    (grad,) = torch.autograd.grad(log_prob.sum(), [policy.policy.action_net.weight])
    assert grad.abs().sum() > 0
    if not isinstance(ACTIONS[name], spaces.Box):
        drawn = policy.act(np.repeat(seen[:1], 40_000, 0)).reshape(40_000, -1)
        kinds, counts = np.unique(drawn, axis=0, return_counts=True)
        chance = policy.log_prob(policy.shown(np.repeat(seen[:1], len(kinds), 0)), policy.done(kinds)).exp()
        np.testing.assert_allclose(chance.numpy(), counts / 40_000, atol=0.01)
        assert chance.sum().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_read_as_the_saved_policy_reads_them(name, tmp_path):
    policy = made(PICTURES[name], ACTIONS["discrete"])
    again = saved(policy, PICTURES[name], ACTIONS["discrete"], tmp_path)
    seen = samples(PICTURES[name], 3)
    logits = again.policy.get_distribution(again.policy.obs_to_tensor(seen)[0]).distribution.logits
    for choice in range(4):
        here = policy.log_prob(policy.shown(seen), policy.done(np.full(3, choice)))
        torch.testing.assert_close(here, logits[:, choice].detach(), rtol=1e-4, atol=1e-5)


def saved(policy, observation_space, action_space, folder):
    save_tensors(folder / "policy.safetensors", policy.content(), policy.about)
    return Policy(folder / "policy.safetensors", observation_space, action_space)


def test_what_is_saved_acts_alike_and_is_made_again(tmp_path):
    policy = made(VECTOR, ACTIONS["box"], log_std_init=-3.0, net_arch=[16])
    policy.look_at(100 * samples(VECTOR, 50) + 7)
    again = saved(policy, VECTOR, ACTIONS["box"], tmp_path)
    seen = 100 * samples(VECTOR, 4)
    set_random_seed(1)
    drawn = policy.act(seen)
    set_random_seed(1)
    np.testing.assert_allclose(again.act(seen), drawn, rtol=1e-4, atol=1e-5)
    remade = RawPolicy.remade(VECTOR, ACTIONS["box"], policy.about, policy.content())
    steps = policy.shown(seen), policy.done(drawn)
    assert torch.equal(remade.log_prob(*steps), policy.log_prob(*steps))


def test_a_policy_of_other_bounds_is_not_remade_by_halves():
    policy = made(VECTOR, ACTIONS["box"])
    tensors = policy.content() | {"action_low": torch.zeros(3)}
    with pytest.raises(ValueError, match="action_low"):
        RawPolicy.remade(VECTOR, ACTIONS["box"], policy.about, tensors)


def test_the_bounds_are_its_own():
    space = spaces.Box(-1, 1, (2,), np.float32)
    policy = made(VECTOR, space)
    policy.action_low.fill_(-3)
    assert (space.low == -1).all()


def test_inputs_that_never_changed_keep_their_scale():
    policy = made(VECTOR, ACTIONS["box"])
    seen = samples(VECTOR, 50)
    seen[:, 1] = 4
    policy.look_at(seen)
    assert policy.observation_mean[1] == 4 and policy.observation_var[1] == 1
    assert policy.observation_var[0].item() == pytest.approx(seen[:, 0].var(), rel=1e-4)


def test_an_environment_receives_what_is_recorded():
    env = gym.make("Pendulum-v1")
    policy = made(env.observation_space, env.action_space, log_std_init=2.0)
    actions = policy.act(np.repeat(env.reset(seed=0)[0][None], 500, 0))
    assert actions.dtype == np.float32 and (actions == 2).any() and (actions == -2).any() and np.abs(actions).max() == 2
