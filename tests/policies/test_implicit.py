"""The reward that a policy implies: its number, its file, and that whatever takes a reward model takes it."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import sentence
from stable_baselines3.common.utils import set_random_seed

from prefrl.policies.implicit import ImplicitReward
from prefrl.policies.likelihood import RawPolicy
from prefrl.rewards.paid import LearnedRewardEnv
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.words.errors import UserError
from prefrl.words.tensors import load_tensors, save_tensors

SEEN, DONE = spaces.Box(-8, 8, (3,), np.float32), spaces.Box(-2, 2, (1,), np.float32)


def made(is_anchored=True, observation_space=SEEN, action_space=DONE):
    set_random_seed(1)
    policy = RawPolicy.fresh(observation_space, action_space)
    reward = ImplicitReward(policy, is_anchored, 0.3, observation_space, action_space, 0.1)
    with torch.no_grad():
        policy.policy.action_net.weight.normal_()
    return reward


def steps(count, observation_space=SEEN, action_space=DONE):
    for seed, space in enumerate((observation_space, action_space)):
        space.seed(seed)
    return tuple(np.stack([space.sample() for _ in range(count)]) for space in (observation_space, action_space))


def log_prob(policy, seen, done):
    return policy.log_prob(policy.shown(seen), policy.done(done))


@pytest.mark.parametrize("is_anchored", [True, False])
def test_it_is_the_log_ratio_and_is_paid_at_one_scale(is_anchored):
    reward, taken = made(is_anchored), steps(200)
    expected = log_prob(reward.policy, *taken)
    if is_anchored:
        expected = expected - log_prob(reward.reference, *taken)
    torch.testing.assert_close(reward.member_rewards(*taken), 0.3 * expected[None])
    reward.normalise_outputs(*taken)
    paid = reward.reward(*taken)
    assert paid.std() == pytest.approx(0.1, rel=1e-3) and paid.mean() == pytest.approx(0, abs=1e-4)


def test_it_is_zero_where_the_policy_has_just_been_anchored():
    reward, taken = made(), steps(20)
    assert reward.member_rewards(*taken).abs().max() > 0
    reward.anchor()
    assert reward.member_rewards(*taken).abs().max() == 0


@pytest.mark.parametrize("is_anchored", [True, False])
@pytest.mark.parametrize(
    "places",
    [(SEEN, DONE), (SEEN, spaces.Discrete(3)), (spaces.Box(0, 255, (44, 44, 3), np.uint8), spaces.Discrete(2))],
)
def test_its_file_says_all_of_it(tmp_path, is_anchored, places):
    reward, taken = made(is_anchored, *places), steps(6, *places)
    reward.normalise_outputs(*taken)
    reward.save(tmp_path / "reward.safetensors", env="Some-v0")
    again = RewardEnsemble.load(tmp_path / "reward.safetensors")
    assert isinstance(again, ImplicitReward)
    np.testing.assert_array_equal(again.reward(*taken), reward.reward(*taken))
    assert again.observation_space.shape == places[0].shape


def test_an_environment_is_paid_by_it(tmp_path):
    env = gym.make("Pendulum-v1")
    reward = made(True, env.observation_space, env.action_space)
    reward.save(tmp_path / "reward.safetensors")
    paid = LearnedRewardEnv(env, tmp_path / "reward.safetensors")
    seen, _ = paid.reset(seed=0)
    done = np.array([2.0], np.float32)  # at its bound, where there is a chance and no density
    assert paid.step(done)[1] == pytest.approx(reward.reward(seen[None], done[None]).item())


@pytest.mark.parametrize(
    "change",
    [
        {"scale": -1.0},
        {"scale": "much"},
        {"reward_std": 0},
        {"kind": "other"},
        {"kind": ["implicit"]},
        {"made": {"policy": "MlpPolicy", "policy_kwargs": {"net_arch": [10**9]}}},
        {"made": {"policy": "os:system", "policy_kwargs": {}}},
        {"observation_space": {"kind": "Box", "shape": [10**12], "dtype": "<f4"}},
    ],
)
def test_a_damaged_file_is_a_sentence(tmp_path, change):
    path = tmp_path / "reward.safetensors"
    made().save(path)
    tensors, about = load_tensors(path)
    save_tensors(path, tensors, about | change)
    with pytest.raises(UserError, match="damaged reward model") as refused:
        RewardEnsemble.load(path)
    sentence(refused.value)
