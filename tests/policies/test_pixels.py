"""Policies that see frames: stable-baselines3's network to the weight, whatever the order of computing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from prefrl.experience.vector import make_vec_env
from stable_baselines3.common.policies import ActorCriticCnnPolicy

from prefrl.policies.on_policy import Learner
from prefrl.policies.pixels import FrameCNN, PixelPolicy, SmallCNN, in_blocks
from prefrl.policies.policy import Policy, rebuilt
from prefrl.words.tensors import load_tensors

ACTIONS = spaces.Discrete(6)
SHAPES = [(4, 84, 84), (1, 50, 67)]  # of the paper, and one that blocks of four do not fill


def made(kind: type[ActorCriticCnnPolicy], shape: tuple[int, ...], **kwargs: Any) -> ActorCriticCnnPolicy:
    torch.manual_seed(0)
    return kind(spaces.Box(0, 255, shape, np.uint8), ACTIONS, lambda _: 1e-3, **kwargs)


def learned(policy: ActorCriticCnnPolicy, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and log-probabilities of some frames, and the gradient of a loss on them."""
    draw = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (12, *shape), dtype=torch.uint8, generator=draw)
    values, log_probs, _ = policy.evaluate_actions(frames, torch.arange(12) % 6)
    (values.square().mean() + 50 * log_probs.mean()).backward()
    parameters = [parameter.grad.flatten() for parameter in policy.parameters() if parameter.grad is not None]
    return torch.cat([values.flatten(), log_probs]).detach(), torch.cat(parameters)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("bfloat16", "near"), [(False, 1e-3), (True, 3e-2)])
def test_it_is_the_network_of_stable_baselines3(shape: tuple[int, ...], bfloat16: bool, near: float) -> None:
    theirs = made(ActorCriticCnnPolicy, shape)
    ours = made(PixelPolicy, shape, features_extractor_kwargs={"bfloat16": bfloat16})
    weights = theirs.state_dict()
    assert list(weights) == list(ours.state_dict())
    assert all(torch.equal(weights[name], weight) for name, weight in ours.state_dict().items())
    for expected, found in zip(learned(theirs, shape), learned(ours, shape), strict=True):
        assert (found - expected).norm() < near * expected.norm()


def test_a_block_is_a_pixel_of_sixteen_channels() -> None:
    frames = torch.arange(2 * 8 * 12, dtype=torch.uint8).view(1, 2, 8, 12)
    blocks = in_blocks(frames)
    assert blocks.shape == (1, 32, 2, 3)
    assert blocks.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(blocks[0, 16:, 1, 2], frames[0, 1, 4:, 8:].flatten())


def test_weights_are_held_for_a_rollout_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_vec_env("prefrl/Pong-v0", 2, 0)
    learner = Learner("a2c", env, {"n_steps": 4}, seed=0)
    extractor = learner.model.policy.features_extractor
    assert isinstance(extractor, FrameCNN)
    made_ready: list[bool] = []
    ready = FrameCNN._ready
    monkeypatch.setattr(FrameCNN, "_ready", lambda self: made_ready.append(torch.is_grad_enabled()) or ready(self))
    learner.learn([4, 4], lambda: 0.0)
    assert made_ready == [False, True] * 2  # to act, and to learn
    assert extractor._held is None
    env.close()


def test_a_smaller_network_is_a_setting(tmp_path: Path) -> None:
    env = make_vec_env("prefrl/Pong-v0", 2, 0)
    settings = {"n_steps": 4, "policy_kwargs": {"features_extractor_class": "SmallCNN"}}
    learner = Learner("a2c", env, settings, seed=0)
    assert type(learner.model.policy.features_extractor) is SmallCNN
    learner.learn([4], lambda: 0.0)
    learner.save(tmp_path / "policy.safetensors")
    again = Policy(tmp_path / "policy.safetensors", env.observation_space, env.action_space)
    assert type(again.policy.features_extractor) is SmallCNN
    frames = np.random.default_rng(0).integers(256, size=(30, *SHAPES[0]), dtype=np.uint8)
    live = learner.model.predict(frames, deterministic=True)[0]
    np.testing.assert_array_equal(again.act(frames, deterministic=True), live)
    env.close()


def test_what_was_saved_before_is_read(tmp_path: Path) -> None:
    theirs = made(ActorCriticCnnPolicy, SHAPES[0])
    tensors = {f"policy.{n}": t for n, t in theirs.state_dict().items() if not n.startswith(("pi_", "vf_"))}
    space = spaces.Box(0, 255, SHAPES[0], np.uint8)
    ours = rebuilt({"policy": "CnnPolicy", "policy_kwargs": {"use_sde": False}}, tensors, space, ACTIONS)
    frames = torch.randint(256, (8, *SHAPES[0]), dtype=torch.uint8)
    torch.testing.assert_close(ours.predict_values(frames), theirs.predict_values(frames), rtol=0.05, atol=0.02)


def test_a_file_is_what_it_was(tmp_path: Path) -> None:
    env = make_vec_env("prefrl/Pong-v0", 2, 0)
    learner = Learner("a2c", env, {}, seed=0)
    learner.save(tmp_path / "policy.safetensors")
    tensors, about = load_tensors(tmp_path / "policy.safetensors")
    assert about["policy"] == "CnnPolicy"
    assert "features_extractor_class" not in about["policy_kwargs"]
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    env.close()
