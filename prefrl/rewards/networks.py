"""The paper's two reward networks, K at a time (Christiano et al. 2017, appendices A.1 and A.2).

Each is one module whose weights have the member as a dimension of their own, so that K networks cost one call. Members
share nothing but the call: no weight, no statistic and no gradient of one depends on another.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import dropout, leaky_relu_

SLOPE = 0.01  # of the leaky ReLU (paper, A.1 and A.2)


class MLPs(nn.Module):
    """K fully connected networks on one input: two hidden layers of 64 (paper, A.1).

    Args:
        members: K.
        sizes: inputs, hidden layers, outputs.
        generator: source of the first weights.
    """

    def __init__(self, members: int, sizes: tuple[int, ...], generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.members = members
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            self.weights.append(uniform((members, fan_in, fan_out), fan_in, generator))
            self.biases.append(uniform((members, 1, fan_out), fan_in, generator))

    def features(self, inputs: Float[Tensor, "n d"] | Float[Tensor, "k n d"]) -> Float[Tensor, "k n h"]:
        """The last hidden layer of each member, on an input that they share or one for each."""
        x = inputs.expand(self.members, *inputs.shape[-2:])
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = leaky_relu_(torch.baddbmm(bias, x, weight), SLOPE)
        return x

    def head(self, features: Float[Tensor, "k n h"], steps: Float[Tensor, " n"] | float = 1.0) -> Float[Tensor, "k n"]:
        """The reward that the last layer makes of the features, or their sum of the features summed over `steps`.

        The last layer is linear, so a segment's reward is that of its summed features: one row instead of T.
        """
        weight, bias = self.weights[-1][..., 0], self.biases[-1][..., 0]
        # A product of elements: of a matrix with a single column, matrix libraries make a poor job.
        reward: Tensor = (features * weight[:, None]).sum(-1) + bias * steps
        return reward

    @torch.no_grad()
    def decay(self, l2: Float[Tensor, " k"]) -> None:
        """Add to the weights' gradients that of each member's `l2` times its sum of squared weights, biases left out.

        One call a layer, where autograd takes ten.
        """
        for weight in self.weights:
            assert weight.grad is not None
            weight.grad.addcmul_(weight, l2.view(-1, 1, 1), value=2)

    @torch.no_grad()
    def absorb(self, shift: Float[Tensor, " d"], scale: Float[Tensor, " d"]) -> None:
        """Change the first layer so that inputs z' with z = scale z' + shift give the outputs that z gave."""
        self.biases[0] += shift.expand(self.members, 1, -1) @ self.weights[0]
        self.weights[0] *= scale[:, None]


class CNNs(nn.Module):
    """K convolutional networks on one image (paper, A.2).

    Convolutions 7x7/3, 5x5/2, 3x3/1 and 3x3/1 of 16 filters, each with batch norm, leaky ReLU and dropout, then a layer
    of 64 and a scalar. Members are groups of channels.

    Args:
        members: K.
        shape: channels, height, width.
        dropout: share of activations dropped while fitting (paper: 0.5).
        generator: source of the first weights.
    """

    LAYERS = ((16, 7, 3), (16, 5, 2), (16, 3, 1), (16, 3, 1))  # filters, size, stride

    def __init__(
        self, members: int, shape: tuple[int, int, int], dropout: float = 0.5, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.members = members
        channels, height, width = shape
        seeds = torch.randint(2**31, (len(self.LAYERS),), generator=generator).tolist()
        layers: list[nn.Module] = []
        for layer, (filters, size, stride) in enumerate(self.LAYERS):
            # The image is shared, so the first layer is one convolution; from then on each member sees its own group.
            convolution = nn.Conv2d(
                channels if layer == 0 else members * channels,
                members * filters,
                size,
                stride,
                groups=1 if layer == 0 else members,
            )
            for parameter in (convolution.weight, convolution.bias):
                assert parameter is not None
                parameter.data = uniform(tuple(parameter.shape), channels * size * size, generator).data
            layers += [
                convolution,
                nn.BatchNorm2d(members * filters),
                nn.LeakyReLU(SLOPE, inplace=True),
                Dropout(dropout, seeds[layer]),
            ]
            channels, height, width = filters, (height - size) // stride + 1, (width - size) // stride + 1
        # Channels last and half precision where the machine computes with it: a third of the time on a CPU.
        self.convolutions = nn.Sequential(*layers)
        self.convolutions.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out
        self.top = MLPs(members, (channels * height * width, 64, 1), generator)

    def features(self, inputs: Float[Tensor, "n c h w"]) -> Float[Tensor, "k n f"]:
        """The last hidden layer of each member."""
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=computes_with_bfloat16(inputs.device.type)):
            maps = self.convolutions(inputs.contiguous(memory_format=torch.channels_last))
        maps = maps.to(self.top.weights[0].dtype)
        return self.top.features(maps.reshape(len(inputs), self.members, -1).transpose(0, 1))

    def head(self, features: Float[Tensor, "k n f"], steps: Float[Tensor, " n"] | float = 1.0) -> Float[Tensor, "k n"]:
        """The reward that the last layer makes of the features, or their sum of the features summed over `steps`."""
        return self.top.head(features, steps)

    @torch.no_grad()
    def decay(self, l2: Float[Tensor, " k"]) -> None:
        """Add that of each member's `l2` times its sum of squared weights, biases and batch norm left out."""
        for layer in self.convolutions:
            if isinstance(layer, nn.Conv2d):
                assert layer.weight.grad is not None
                of_filters = l2.repeat_interleave(layer.out_channels // self.members)
                layer.weight.grad.addcmul_(layer.weight, of_filters.view(-1, 1, 1, 1), value=2)
        self.top.decay(l2)


class Dropout(nn.Module):
    """Dropout whose random bits cost little on a CPU, where torch's own takes half of a fit's time.

    Eight elements share a draw of 64 bits, so that the share dropped is a multiple of 1/256. There it has a generator
    of its own, so that a fit beside the policy's learning takes nothing from the policy's random numbers.
    """

    def __init__(self, p: float, seed: int = 0) -> None:
        super().__init__()
        self.p, self.generator = p, torch.Generator().manual_seed(seed)

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements, and scale the others so that the mean stays; in evaluation, change nothing."""
        if not self.training or not self.p:
            return x
        if x.device.type != "cpu":
            return dropout(x, self.p)
        draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None, generator=self.generator)
        keep = torch.empty_like(x, dtype=torch.bool)  # in the order of x's memory
        torch.ge(draws.view(torch.uint8)[: x.numel()], round(256 * self.p), out=keep.as_strided((x.numel(),), (1,)))
        return x * keep.to(x.dtype).mul_(1 / (1 - self.p))


@cache
def computes_with_bfloat16(device: str) -> bool:
    """Whether a device multiplies bfloat16 natively; elsewhere it would be slower than float32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def uniform(shape: tuple[int, ...], fan_in: int, generator: torch.Generator | None) -> nn.Parameter:
    """First weights as torch's own layers draw them: uniform within 1 / sqrt(fan_in)."""
    return nn.Parameter((2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(fan_in))
