import json
import math
import struct
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import sentence
from numpy.typing import NDArray
from torch import nn

from prefrl.rewards import networks
from prefrl.rewards.networks import CNNs, MLPs
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.words.errors import UserError
from prefrl.words.spaces import SMALLEST_IMAGE, encode, encoded_size, is_image
from prefrl.words.tensors import load_tensors, save_tensors

OBSERVATIONS = spaces.Box(-np.inf, np.inf, (5,), np.float32)
IMAGES = spaces.Box(0, 255, (50, 46, 3), np.uint8)
ACTIONS: dict[str, gym.Space[Any]] = {
    "Box": spaces.Box(-1, 1, (2,), np.float32),
    "Discrete": spaces.Discrete(4, start=-1),
    "MultiDiscrete": spaces.MultiDiscrete([2, 3], start=[0, 5]),
    "MultiBinary": spaces.MultiBinary(3),
}


def ensemble(
    observation_space: gym.Space[Any] = OBSERVATIONS, actions: str = "Box", seed: int = 0, **settings: Any
) -> RewardEnsemble:
    return RewardEnsemble(
        observation_space, ACTIONS[actions], generator=torch.Generator().manual_seed(seed), **settings
    )


def steps(
    n: int,
    seed: int = 0,
    observation_space: gym.Space[Any] = OBSERVATIONS,
    actions: str = "Box",
    mean: float = 0.0,
    std: float = 1.0,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Random observations and actions (n, ...)."""
    rng = np.random.default_rng(seed)
    observation_space.seed(seed)
    ACTIONS[actions].seed(seed)
    if observation_space is OBSERVATIONS:
        observations = (mean + std * rng.standard_normal((n, 5))).astype(np.float32)
    else:
        observations = np.stack([observation_space.sample() for _ in range(n)])
    return observations, np.stack([ACTIONS[actions].sample() for _ in range(n)])


def separate(mlps: MLPs) -> list[nn.Sequential]:
    """The same networks, one by one, out of torch's own layers."""
    networks = []
    for member in range(mlps.members):
        layers: list[nn.Module] = []
        for weight, bias in zip(mlps.weights, mlps.biases, strict=True):
            linear = nn.Linear(*weight.shape[1:])
            linear.weight.data = weight[member].T.detach().clone()
            linear.bias.data = bias[member, 0].detach().clone()
            layers += [linear, nn.LeakyReLU(0.01)]
        networks.append(nn.Sequential(*layers[:-1]))
    return networks


def test_members_are_separate_networks_in_output_and_gradient() -> None:
    r_hat = ensemble(members=4)
    mlps = r_hat.network
    assert isinstance(mlps, MLPs)
    assert [tuple(w.shape[1:]) for w in mlps.weights] == [(7, 64), (64, 64), (64, 1)]
    x = torch.randn(50, 7, generator=torch.Generator().manual_seed(1))
    coefficients = torch.randn(4, 50, generator=torch.Generator().manual_seed(2))
    penalty = torch.tensor([0.0, 0.1, 0.2, 0.3])
    (r_hat(x) * coefficients).sum().backward()
    mlps.decay(penalty)
    for member, network in enumerate(separate(mlps)):
        output = network(x).squeeze(-1)
        torch.testing.assert_close(r_hat(x)[member], output)
        hidden = network[:-1](x)
        torch.testing.assert_close(r_hat.hidden_features(x)[member], hidden)
        linears = [layer for layer in network if isinstance(layer, nn.Linear)]
        squares = sum(linear.weight.square().sum() for linear in linears)
        ((output * coefficients[member]).sum() + penalty[member] * squares).backward()
        for weight, bias, linear in zip(mlps.weights, mlps.biases, linears, strict=True):
            assert linear.weight.grad is not None
            torch.testing.assert_close(weight.grad[member].T, linear.weight.grad)
            torch.testing.assert_close(bias.grad[member, 0], linear.bias.grad)


@pytest.mark.parametrize("training", [False, True], ids=["frozen", "fitting"])
def test_convolutional_members_are_separate_networks_in_output_and_gradient(
    training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "computes_with_bfloat16", lambda device: False)  # exact enough to compare
    members = 3
    cnns = CNNs(members, (2, 46, 50), dropout=0.0, generator=torch.Generator().manual_seed(0)).train(training)
    rng = torch.Generator().manual_seed(1)
    for layer in cnns.convolutions:
        if isinstance(layer, nn.BatchNorm2d):  # as if it had seen something
            layer.weight.data = 1 + 0.1 * torch.randn(layer.weight.shape, generator=rng)
            layer.bias.data = 0.1 * torch.randn(layer.bias.shape, generator=rng)
            layer.running_mean = torch.randn(layer.bias.shape, generator=rng)
            layer.running_var = 0.5 + torch.rand(layer.bias.shape, generator=rng)
    x = torch.rand(6, 2, 46, 50, generator=rng)
    coefficients = torch.randn(members, 6, generator=rng)
    copies = []
    for member in range(members):
        layers: list[nn.Module] = []
        for layer in cnns.convolutions:
            if isinstance(layer, nn.Conv2d):
                own = slice(16 * member, 16 * member + 16)
                filters, channels, size, _ = layer.weight[own].shape
                convolution = nn.Conv2d(channels, filters, size, layer.stride[0])
                convolution.weight.data = layer.weight[own].detach().clone()
                convolution.bias.data = layer.bias[own].detach().clone()
                layers.append(convolution)
            elif isinstance(layer, nn.BatchNorm2d):
                norm = nn.BatchNorm2d(16)
                norm.load_state_dict({n: t[own].clone() if t.ndim else t for n, t in layer.state_dict().items()})
                layers.append(norm)
            elif isinstance(layer, nn.LeakyReLU):
                assert layer.negative_slope == 0.01
                layers.append(nn.LeakyReLU(0.01))
        assert [x.kernel_size[0] for x in layers if isinstance(x, nn.Conv2d)] == [7, 5, 3, 3]
        assert [x.stride[0] for x in layers if isinstance(x, nn.Conv2d)] == [3, 2, 1, 1]
        copies.append(nn.Sequential(*layers, nn.Flatten(), separate(cnns.top)[member]).train(training))
    together = cnns.head(cnns.features(x))
    penalty = torch.tensor([0.0, 0.1, 0.2])
    (together * coefficients).sum().backward()
    cnns.decay(penalty)
    convolutions = [layer for layer in cnns.convolutions if isinstance(layer, nn.Conv2d)]
    for member, network in enumerate(copies):
        output = network(x).squeeze(-1)
        torch.testing.assert_close(together[member], output, rtol=1e-4, atol=1e-5)
        copied = [layer for layer in network if isinstance(layer, nn.Conv2d)]
        linears = [layer for layer in network[-1] if isinstance(layer, nn.Linear)]
        squares = sum(layer.weight.square().sum() for layer in copied + linears)
        ((output * coefficients[member]).sum() + penalty[member] * squares).backward()
        for layer, copy in zip(convolutions, copied, strict=True):
            gradient = layer.weight.grad[16 * member : 16 * member + 16]
            torch.testing.assert_close(gradient, copy.weight.grad, rtol=1e-3, atol=1e-4)
        for weight, linear in zip(cnns.top.weights, linears, strict=True):
            torch.testing.assert_close(weight.grad[member].T, linear.weight.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("training", [False, True], ids=["frozen", "fitting"])
def test_bytes_are_255ths(training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "computes_with_bfloat16", lambda device: False)
    given = torch.randint(256, (5, 4, 46, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    rewards = []
    for images in (given, given / 255):
        cnns = CNNs(3, (4, 46, 50), dropout=0.0, generator=torch.Generator().manual_seed(0)).train(training)
        rewards.append(cnns.head(cnns.features(images)))
    torch.testing.assert_close(*rewards, rtol=1e-4, atol=1e-5)


def test_fitting_is_layer_after_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "computes_with_bfloat16", lambda device: False)
    cnns = CNNs(1, (4, 46, 50), dropout=0.25, generator=torch.Generator().manual_seed(0)).train()
    for layer in cnns.convolutions:
        if isinstance(layer, nn.BatchNorm2d):
            layer.bias.data.uniform_(-0.3, 0.3, generator=torch.Generator().manual_seed(1))
    plain = deepcopy(cnns)
    x = torch.rand(6, 4, 46, 50, generator=torch.Generator().manual_seed(1))
    maps = plain.convolutions(x.contiguous(memory_format=torch.channels_last))
    expected = plain.top.features(maps.flatten(1)[None])
    torch.testing.assert_close(cnns.features(x), expected, rtol=1e-3, atol=1e-4)
    for (name, found), wanted in zip(cnns.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(found, wanted, msg=name)


def test_half_precision_hardly_changes_a_convolutional_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    cnns = CNNs(2, (4, 84, 84), generator=torch.Generator().manual_seed(0)).eval()
    frames = (
        torch.rand(200, 4, 84, 84, generator=torch.Generator().manual_seed(1))
        * torch.linspace(0, 1, 200)[:, None, None, None]
    )
    rewards = []
    for half in (False, True):
        monkeypatch.setattr(networks, "computes_with_bfloat16", lambda device, half=half: half)
        with torch.inference_mode():
            rewards.append(cnns.head(cnns.features(frames)))
    assert not torch.equal(*rewards)
    error = (rewards[0] - rewards[1]).std(1) / rewards[0].std(1)
    assert error.max() < 0.03, error


@pytest.mark.parametrize("p", [0.5, 0.25, 0.0])
def test_dropout_drops_its_share_keeps_the_mean_and_rests_in_evaluation(p: float) -> None:
    torch.manual_seed(0)
    dropout = networks.Dropout(p)
    for shape in ((1000, 1001), (13, 6, 50, 51)):
        ones = torch.ones(shape, requires_grad=True)
        if len(shape) == 4:
            ones = ones.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        dropped = dropout(ones)
        n = ones.numel()
        assert (dropped == 0).sum().item() == pytest.approx(p * n, abs=5 * math.sqrt(n))
        torch.testing.assert_close(dropped[dropped != 0].detach().unique(), torch.tensor([1 / (1 - p)]))
        dropped.sum().backward()
        torch.testing.assert_close(ones.grad, dropped.detach())
        assert p == 0 or not torch.equal(dropped, dropout(ones))
        assert torch.equal(dropout.eval()(ones), ones)
        dropout.train()
        if len(shape) == 4:  # neighbours fall independently, in memory and in space
            kept = (dropped > 0).float() - (1 - p)
            for axis in (1, 2, 3):
                together = (kept.narrow(axis, 0, shape[axis] - 1) * kept.narrow(axis, 1, shape[axis] - 1)).mean()
                assert abs(together.item()) < 5 / math.sqrt(n)


def test_members_begin_apart_and_by_the_generator_alone() -> None:
    first, again, other = ensemble(seed=0), ensemble(seed=0), ensemble(seed=1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    elsewhere = ensemble(seed=0)
    assert torch.equal(before, torch.get_rng_state())
    x = torch.ones(1, 7)
    assert torch.equal(first(x), again(x))
    assert torch.equal(first(x), elsewhere(x))
    assert not torch.equal(first(x), other(x))
    assert len(set(first(x).flatten().tolist())) == 3


def test_encodings_by_hand() -> None:
    def encoded(space: gym.Space[Any], batch: Any) -> list[list[float]]:
        result = encode(space, np.array(batch))
        assert result.dtype == np.float32
        assert result.shape == (len(batch), encoded_size(space))
        return result.tolist()

    assert encoded(spaces.Box(-9, 9, (2,)), [[1.5, -2], [3, 4]]) == [[1.5, -2], [3, 4]]
    assert encoded(spaces.Box(-9, 9, (2, 2)), [[[1, 2], [3, 4]]]) == [[1, 2, 3, 4]]
    assert encoded(spaces.Discrete(3), [2, 0]) == [[0, 0, 1], [1, 0, 0]]
    assert encoded(spaces.Discrete(3, start=-1), [-1, 0, 1]) == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert encoded(spaces.MultiDiscrete([2, 3]), [[1, 0], [0, 2]]) == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    assert encoded(spaces.MultiDiscrete([2, 3], start=[4, -1]), [[5, 1]]) == [[0, 1, 0, 0, 1]]
    assert encoded(spaces.MultiDiscrete([[2, 2], [3, 1]]), [[[1, 0], [2, 0]]]) == [[0, 1, 1, 0, 0, 0, 1, 1]]
    assert encoded(spaces.MultiBinary(3), [[1, 0, 1]]) == [[1, 0, 1]]
    assert encoded(spaces.MultiBinary([2, 2]), [[[1, 0], [0, 1]]]) == [[1, 0, 0, 1]]
    for space in ACTIONS.values():
        sample = space.sample()
        np.testing.assert_array_equal(encode(space, np.array(sample)[None])[0], spaces.flatten(space, sample))


def test_the_action_matters_to_vectors() -> None:
    r_hat = ensemble()
    observations, actions = steps(2)
    assert r_hat.inputs(observations, actions).tolist() == np.concatenate([observations, actions], 1).tolist()
    assert not np.array_equal(r_hat.reward(observations, actions), r_hat.reward(observations, -actions))


def test_images_are_scaled_and_turned_channels_first() -> None:
    pixels, _ = steps(3, observation_space=IMAGES)
    r_hat = ensemble(IMAGES)
    seen = r_hat.normalised(r_hat.inputs(pixels, np.zeros((3, 2), np.float32)))
    assert seen.shape == (3, 3, 50, 46)
    np.testing.assert_allclose(seen.numpy(), pixels.transpose(0, 3, 1, 2) / 255, rtol=1e-6)
    first = ensemble(spaces.Box(0, 255, (3, 50, 46), np.uint8))
    turned = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(
        r_hat.reward(pixels, np.zeros((3, 2), np.float32)), first.reward(turned, np.zeros((3, 2), np.float32))
    )


def test_observing_keeps_what_the_networks_compute() -> None:
    r_hat = ensemble(members=3)
    probe = steps(200, seed=9, mean=1.0, std=3.0)
    before = r_hat.member_rewards(*probe)
    for seed, (mean, std) in enumerate([(0.0, 1.0), (50.0, 20.0), (-3.0, 0.01), (0.0, 100.0)]):
        observations, actions = steps(500, seed, mean=mean, std=std)
        observations[:, 0] = 7.0  # never varies
        r_hat.observe(observations, actions)
        torch.testing.assert_close(r_hat.member_rewards(*probe), before, rtol=1e-3, atol=1e-3)


def test_inputs_have_zero_mean_and_unit_deviation_over_all_experience() -> None:
    r_hat = ensemble()
    batches = [steps(n, n, mean=mean, std=std) for n, mean, std in ((300, 5, 2), (500, -1, 0.1), (100, 0, 9))]
    for observations, actions in batches:
        observations[:, 0] = 7.0  # carries nothing: its scale is left alone
        r_hat.observe(observations, actions)
    inputs = np.concatenate([np.concatenate(batch, 1) for batch in batches])
    seen = r_hat.normalised(torch.from_numpy(inputs))
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(seen[:, 1:].std(0), 1, atol=1e-2)
    np.testing.assert_allclose(r_hat.normalised(torch.full((1, 7), 8.0))[0, 0], 1.0, atol=1e-2)


def test_what_never_varied_comes_into_play_without_a_jump() -> None:
    r_hat = ensemble()
    observations, actions = steps(500)
    observations[:, 0] = 0.0
    r_hat.observe(observations, actions)
    before = r_hat.member_rewards(observations, actions)
    r_hat.observe(*steps(500, 1))
    torch.testing.assert_close(r_hat.member_rewards(observations, actions), before, rtol=1e-4, atol=1e-5)


def test_observing_nothing_changes_nothing() -> None:
    r_hat = ensemble()
    probe = steps(20)
    before = r_hat.reward(*probe)
    r_hat.observe(probe[0][:0], probe[1][:0])
    np.testing.assert_array_equal(r_hat.reward(*probe), before)


@pytest.mark.parametrize("space", [OBSERVATIONS, IMAGES], ids=["vectors", "images"])
def test_each_member_is_normalised_by_itself(space: gym.Space[Any]) -> None:
    r_hat = ensemble(space, members=3)
    window = steps(60, observation_space=space)
    r_hat.normalise_outputs(*window)
    paid = r_hat.reward(*window)
    members = r_hat.member_rewards(*window)
    expected = ((members - members.mean(1, keepdim=True)) / members.std(1, keepdim=True)).mean(0)
    assert np.corrcoef(paid, expected)[0, 1] > 0.9999
    # A member whose rewards are large says no more than the others.
    top = r_hat.network.top if isinstance(r_hat.network, CNNs) else r_hat.network
    with torch.no_grad():
        top.weights[-1][1] *= 1000
        top.biases[-1][2] += 0.5
    r_hat.normalise_outputs(*window)
    np.testing.assert_allclose(r_hat.reward(*window), paid, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("reward_std", [1.0, 0.05])
@pytest.mark.parametrize("members", [1, 3, 7])
def test_the_reward_paid_has_zero_mean_and_the_deviation_asked_for(reward_std: float, members: int) -> None:
    r_hat = ensemble(members=members, reward_std=reward_std)
    window = steps(3000)
    r_hat.normalise_outputs(*window)
    paid = r_hat.reward(*window)
    assert paid.dtype == np.float32
    assert paid.shape == (3000,)
    assert abs(paid.mean()) < 1e-4 * reward_std
    assert paid.std() == pytest.approx(reward_std, rel=1e-3)


def test_with_its_mean_kept_only_the_scale_changes() -> None:
    r_hat = ensemble(members=1, reward_std=0.5)
    window = steps(3000)
    raw = r_hat.member_rewards(*window)[0].numpy()
    r_hat.normalise_outputs(*window, kept=1.0)
    paid = r_hat.reward(*window)
    np.testing.assert_allclose(paid, raw * 0.5 / np.sqrt(np.mean(raw**2)), rtol=1e-3)
    assert abs(paid.mean()) > 0.01  # so the case tells the two apart


def test_members_that_hardly_vary_do_not_run_away_where_the_mean_is_kept() -> None:
    """As where every step is worth about one: the deviation says nothing of the size."""
    r_hat = ensemble(members=3, reward_std=1.0)
    assert isinstance(r_hat.network, MLPs)
    with torch.no_grad():
        r_hat.network.weights[-1] *= 1e-4
        r_hat.network.biases[-1].fill_(2.0)
    window = steps(3000)
    r_hat.normalise_outputs(*window, kept=1.0)
    np.testing.assert_allclose(r_hat.reward(*window), 1.0, rtol=1e-3)


@pytest.mark.parametrize("n", [0, 1])
def test_a_window_too_small_for_a_deviation_pays_finite_rewards(n: int) -> None:
    r_hat = ensemble()
    observations, actions = steps(20)
    r_hat.normalise_outputs(observations[:n], actions[:n])
    assert np.isfinite(r_hat.reward(observations, actions)).all()


@pytest.mark.parametrize("kept", [0.0, 1.0])
def test_a_constant_reward_is_paid_as_one_and_its_rounding_is_not(kept: float) -> None:
    r_hat = ensemble()
    assert isinstance(r_hat.network, MLPs)
    with torch.no_grad():
        r_hat.network.weights[-1].zero_()
        r_hat.network.biases[-1].fill_(-0.3712345)
    window = steps(3000)
    r_hat.normalise_outputs(*window, kept)
    np.testing.assert_allclose(r_hat.reward(*window), -1.0, rtol=1e-3)
    with torch.no_grad():
        r_hat.network.biases[-1].zero_()
    r_hat.normalise_outputs(*window, kept)  # a reward of nothing says nothing of a scale
    assert not r_hat.reward(*window).any()


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("space", [OBSERVATIONS, spaces.Box(0, 255, (6,), np.uint8), IMAGES], ids=["f", "u1", "image"])
def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path, space: gym.Space[Any], actions: str) -> None:
    r_hat = ensemble(space, actions, members=2, reward_std=0.05, hidden=(8, 4, 3))
    window = steps(30, 1, space, actions)
    r_hat.observe(*window)
    r_hat.normalise_outputs(*window)
    r_hat.save(tmp_path / "reward.safetensors", env="Some-v0")
    loaded = RewardEnsemble.load(tmp_path / "reward.safetensors")
    probe = steps(20, 2, space, actions)
    np.testing.assert_array_equal(loaded.reward(*probe), r_hat.reward(*probe))
    assert torch.equal(loaded.member_rewards(*probe), r_hat.member_rewards(*probe))
    assert (loaded.members, loaded.reward_std, tuple(loaded.hidden)) == (2, 0.05, (8, 4, 3))
    for mine, theirs in ((loaded.observation_space, space), (loaded.action_space, ACTIONS[actions])):
        assert (type(mine), mine.shape, mine.dtype) == (type(theirs), theirs.shape, theirs.dtype)
    assert not loaded.training


def test_the_file_is_tensors_and_json(tmp_path: Path) -> None:
    path = tmp_path / "reward.safetensors"
    ensemble(actions="MultiDiscrete").save(path, env="Some-v0")
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    about = json.loads(header.pop("__metadata__")["prefrl"])
    assert about["env"] == "Some-v0"
    assert about["action_space"] == {"kind": "MultiDiscrete", "nvec": [2, 3], "start": [0, 5]}
    assert len(content) == 8 + length + max(tensor["data_offsets"][1] for tensor in header.values())


def test_the_same_reward_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        ensemble(actions="Discrete").save(tmp_path / name, env="Some-v0")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_files_that_are_no_reward_model_are_one_sentence(tmp_path: Path) -> None:
    good = tmp_path / "good"
    ensemble().save(good)
    content = good.read_bytes()
    broken = {
        "missing": None,
        "text": b"hello",
        "empty": b"",
        "cut": content[:-100],
        "future": content.replace(rb"\"format\": \"1\"", rb"\"format\": \"9\""),
        "incomplete": content.replace(b"output_mean", b"output_meen"),
        "no members": content.replace(rb"\"members\"", rb"\"numbers\""),
    }
    for name, data in broken.items():
        path = tmp_path / name
        if data is not None:
            assert data != content
            path.write_bytes(data)
        with pytest.raises(UserError) as error:
            RewardEnsemble.load(path)
        assert repr(str(path)) in sentence(error.value), name
    with pytest.raises(UserError) as error:
        RewardEnsemble.load(tmp_path)
    sentence(error.value)


@pytest.mark.parametrize(
    ("observation_space", "action_space"),
    [
        (OBSERVATIONS, spaces.Dict(a=spaces.Discrete(2))),
        (OBSERVATIONS, spaces.Tuple([spaces.Discrete(2)])),
        (spaces.Dict(a=OBSERVATIONS), ACTIONS["Box"]),
        (spaces.Sequence(OBSERVATIONS), ACTIONS["Box"]),
    ],
)
def test_spaces_that_cannot_be_encoded_are_one_sentence(
    observation_space: gym.Space[Any], action_space: gym.Space[Any]
) -> None:
    with pytest.raises(UserError) as error:
        RewardEnsemble(observation_space, action_space)
    assert "MultiBinary" in sentence(error.value)


def test_an_ensemble_has_a_member() -> None:
    with pytest.raises(UserError) as error:
        ensemble(members=0)
    assert "members=0" in sentence(error.value)


S = SMALLEST_IMAGE


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Box(0, 255, (84, 84, 3), np.uint8), True),
        (spaces.Box(0, 255, (4, 84, 84), np.uint8), True),
        (spaces.Box(0, 255, (S, S, 3), np.uint8), True),
        (spaces.Box(0, 255, (S - 1, 84, 3), np.uint8), False),
        (spaces.Box(0, 255, (84, 84), np.uint8), False),
        (spaces.Box(0, 1, (84, 84, 3), np.float32), False),
        (spaces.Discrete(3), False),
    ],
)
def test_is_image(space: gym.Space[Any], expected: bool) -> None:
    assert is_image(space) is expected


@pytest.mark.parametrize("shape", [(S, S, 1), (S, S + 40, 3), (3, S + 1, S), (4, S, S)])
def test_the_smallest_images_are_large_enough(shape: tuple[int, ...]) -> None:
    space = spaces.Box(0, 255, shape, np.uint8)
    assert ensemble(space).reward(*steps(2, observation_space=space)).shape == (2,)


def about_shape(*shape: Any) -> dict[str, Any]:
    return {"observation_space": {"kind": "Box", "shape": list(shape), "dtype": "<f4"}}


CRAFTED = {
    "a shape of 10^9": about_shape(10**9),
    "a square of 10^5": about_shape(10**5, 10**5),
    "a shape below zero": about_shape(-3),
    "a shape of words": about_shape("wide"),
    "an image of 10^8 pixels": {"observation_space": {"kind": "Box", "shape": [10**4, 10**4, 1], "dtype": "|u1"}},
    "a choice of 10^12": {"action_space": {"kind": "Discrete", "n": 10**12, "start": 0}},
    "choices of 10^9": {"action_space": {"kind": "MultiDiscrete", "nvec": [10**9, 10**9], "start": [0, 0]}},
    "switches": {"action_space": {"kind": "MultiBinary", "shape": [10**9]}},
    "objects": {"observation_space": {"kind": "Box", "shape": [3], "dtype": "O"}},
    "another space": {"observation_space": {"kind": "Graph", "shape": [3]}},
    "a list for a space": {"observation_space": [3]},
    "10^9 members": {"members": 10**9},
    "no members": {"members": 0},
    "a member of truth": {"members": True},
    "a layer of 10^9": {"hidden": [10**9]},
    "layers of 10^4": {"hidden": [10**4, 10**4]},
    "10^5 layers": {"hidden": [1] * 10**5},
    "a layer for layers": {"hidden": 64},
    "a word for a deviation": {"reward_std": "one"},
    "a deviation that is none": {"reward_std": float("nan")},
}


@pytest.mark.parametrize("changes", CRAFTED.values(), ids=CRAFTED)
def test_a_reward_takes_no_more_memory_than_its_file_holds(changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "reward.safetensors"
    RewardEnsemble(spaces.Box(-1, 1, (3,)), spaces.Discrete(2)).save(path)
    tensors, about = load_tensors(path)
    save_tensors(path, tensors, {**about, **changes})
    began = time.process_time()
    with pytest.raises(UserError, match="is a damaged reward model"):
        RewardEnsemble.load(path)
    assert time.process_time() - began < 1


def test_rewards_of_every_size_are_read_back(tmp_path: Path) -> None:
    for shape, members in (((43, 43, 1), 1), ((210, 160, 3), 2), ((44, 44, 40), 1)):
        saved = RewardEnsemble(spaces.Box(0, 255, shape, np.uint8), spaces.Discrete(2), members)
        saved.save(tmp_path / "reward.safetensors")
        assert RewardEnsemble.load(tmp_path / "reward.safetensors").members == members
    saved = RewardEnsemble(spaces.Box(-1, 1, (1,)), spaces.MultiDiscrete([2, 9]), 1, hidden=(1,))
    saved.save(tmp_path / "reward.safetensors")
    assert RewardEnsemble.load(tmp_path / "reward.safetensors").hidden == (1,)
