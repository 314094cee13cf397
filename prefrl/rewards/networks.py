"""The paper's two reward networks, K at a time (Christiano et al. 2017, appendices A.1 and A.2).

Each is one module whose weights have the member as a dimension of their own, so that K networks cost one call. Members
share nothing but the call: no weight, no statistic and no gradient of one depends on another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d, leaky_relu_

SLOPE = 0.01  # of the leaky ReLU (paper, A.1 and A.2)
BYTE = 255


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
    of 64 and a scalar. Members are groups of channels. Channels are last in memory, and activations are bfloat16 where
    the machine computes with it.

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
        self.convolutions = nn.Sequential(*layers)
        self.convolutions.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out
        self.top = MLPs(members, (channels * height * width, 64, 1), generator)

    def features(self, inputs: Shaped[Tensor, "n c h w"]) -> Float[Tensor, "k n f"]:
        """The last hidden layer of each member, on numbers, or on bytes, which are taken for 255ths."""
        exact = self.top.weights[0].dtype
        dtype = torch.bfloat16 if computes_with_bfloat16(inputs.device.type) else exact
        maps = channels_last(inputs, dtype)
        unit = 1 / BYTE if inputs.dtype is torch.uint8 else 1.0
        if self.training:
            flat = torch.stack([self._fitting(member, maps, unit) for member in range(self.members)])
        else:
            flat = self._judging(maps, unit).reshape(len(inputs), self.members, -1).transpose(0, 1)
        return self.top.features(flat.to(exact))

    def head(self, features: Float[Tensor, "k n f"], steps: Float[Tensor, " n"] | float = 1.0) -> Float[Tensor, "k n"]:
        """The reward that the last layer makes of the features, or their sum of the features summed over `steps`."""
        return self.top.head(features, steps)

    def _layers(self) -> Iterator[tuple[Any, Any, Any]]:
        """Convolution, batch norm and dropout, layer by layer."""
        layers = list(self.convolutions)
        yield from zip(layers[::4], layers[1::4], layers[3::4], strict=True)

    def _judging(self, maps: Float[Tensor, "n c h w"], unit: float) -> Float[Tensor, "n maps rows columns"]:
        """The convolutions of all members, with what batch norm has seen as part of their weights."""
        for convolution, norm, _ in self._layers():
            gain = norm.weight / (norm.running_var + norm.eps).sqrt()
            weight = convolution.weight * (gain * unit)[:, None, None, None]
            bias = (convolution.bias - norm.running_mean) * gain + norm.bias
            weight, bias = weight.to(maps.dtype, memory_format=torch.channels_last), bias.to(maps.dtype)
            maps = leaky_relu_(conv2d(maps, weight, bias, convolution.stride, groups=convolution.groups), SLOPE)
            unit = 1.0
        return maps

    def _fitting(self, member: int, maps: Float[Tensor, "n c h w"], unit: float) -> Float[Tensor, "n f"]:
        """The convolutions of one member, with batch norm and dropout as they are while it learns.

        What a layer gives to all members is larger than memory that is kept from one update to the next
        (`prefrl.words.process`); what it gives to one is not.
        """
        for convolution, norm, drop in self._layers():
            size = convolution.out_channels // self.members
            own = slice(member * size, (member + 1) * size)
            norm.num_batches_tracked += member == 0
            weight = (convolution.weight[own] * unit).to(maps.dtype, memory_format=torch.channels_last)
            maps = conv2d(maps, weight, convolution.bias[own].to(maps.dtype), convolution.stride)
            # A leaky ReLU of so many times a number is so many times that of the number: batch norm scales for dropout.
            weight, bias = norm.weight[own] * drop.gain, norm.bias[own] * drop.gain
            seen = norm.running_mean[own], norm.running_var[own]
            maps = batch_norm(maps, *seen, weight, bias, training=True, momentum=norm.momentum, eps=norm.eps)
            maps = maps * leaky(drop.kept(maps), maps.detach())
            unit = 1.0
        return maps.flatten(1)

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
        return x * self.kept(x).mul_(self.gain)

    @property
    def gain(self) -> float:
        """What elements that are kept are multiplied with, so that the mean stays."""
        return 1 / (1 - self.p)

    @torch.no_grad()
    def kept(self, x: Tensor) -> Tensor:
        """One where an element of x is kept, zero where it is dropped."""
        kept = torch.empty_like(x)  # in the order of x's memory
        if not self.p:
            return kept.fill_(1)
        if x.device.type != "cpu":
            return kept.bernoulli_(1 - self.p)
        draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None, generator=self.generator)
        torch.ge(draws.view(torch.uint8)[: x.numel()], round(256 * self.p), out=kept.as_strided((x.numel(),), (1,)))
        return kept


@torch.no_grad()
def leaky(gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient below a leaky ReLU of x, by that above it: with ones above, what the leaky ReLU multiplies x by."""
    below: Tensor = torch.ops.aten.leaky_relu_backward(gradient, x, SLOPE, False)
    return below


def channels_last(images: Shaped[Tensor, "n c h w"], dtype: torch.dtype) -> Float[Tensor, "n c h w"]:
    """Images as numbers of this type, channels last in memory; bytes change their places before their type."""
    if images.dtype is not torch.uint8:
        return images.to(dtype, memory_format=torch.channels_last)
    return torch.stack(images.unbind(1), -1).to(dtype).permute(0, 3, 1, 2)


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
