"""RMSprop in one pass is torch's."""

import copy

import pytest
import torch
from torch import nn

from prefrl.words.optimisers import RMSprop, quick, restore_optimiser


def step(optimiser: torch.optim.Optimizer, network: nn.Module, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for weights in network.parameters():
        weights.grad = torch.randn(weights.shape, generator=draw) * 10.0 ** torch.randint(-6, 3, (), generator=draw)
    optimiser.step()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_rmsprop_is_that_of_torch(decay: float) -> None:
    theirs = nn.Linear(7, 5)
    ours = copy.deepcopy(theirs)
    settings = {"lr": 1e-2, "alpha": 0.9, "eps": 1e-5, "weight_decay": decay}
    plain = torch.optim.RMSprop(theirs.parameters(), **settings)
    fused = quick(torch.optim.RMSprop(ours.parameters(), **settings))
    assert type(fused) is RMSprop
    for seed in range(50):
        step(plain, theirs, seed)
        step(fused, ours, seed)
        torch.testing.assert_close(ours.weight, theirs.weight)
        torch.testing.assert_close(ours.bias, theirs.bias)


@pytest.mark.parametrize("before", [False, True], ids=["its own", "of torch"])
def test_rmsprop_goes_on_from_a_state(before: bool) -> None:
    network = nn.Linear(7, 5)
    plain = torch.optim.RMSprop(network.parameters(), lr=1e-2, alpha=0.9)
    first = plain if before else quick(plain)
    step(first, network, 0)
    again = copy.deepcopy(network)
    second = quick(torch.optim.RMSprop(again.parameters(), lr=1.0, alpha=0.9))
    restore_optimiser(second, copy.deepcopy(first.state_dict()))
    for seed in range(1, 10):
        step(first, network, seed)
        step(second, again, seed)
        torch.testing.assert_close(again.weight, network.weight)


def test_what_is_no_plain_rmsprop_stays() -> None:
    network = nn.Linear(2, 2)
    for other in (torch.optim.Adam(network.parameters()), torch.optim.RMSprop(network.parameters(), momentum=0.9)):
        assert quick(other) is other
