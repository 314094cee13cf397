"""Policies that see frames: stable-baselines3's networks, weight by weight, computed in the order a machine likes best.

A first convolution of 8 x 8 pixels at every fourth one is, of blocks of 4 x 4 pixels taken as channels, one of 2 x 2
blocks at every one: the same sums, in the shape of a matrix product. Frames come as bytes, and become numbers once, on
their way into the blocks. On a processor with matrix units activations are bfloat16, which has eight bits of precision
and holds every byte exactly; weights, their gradients' sums and what is made of the features stay float32.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from gymnasium import spaces
from jaxtyping import Float, UInt8
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticCnnPolicy, BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from prefrl.words.process import has_matrix_units

BLOCK = 4  # pixels: the stride of the first layer, whose filters are two blocks wide
BYTE = 255


class FrameCNN(BaseFeaturesExtractor):
    """Convolutions 8x8/4 and further ones, each with a ReLU, then a layer of `features_dim`.

    Args:
        observation_space: images (c, h, w) of bytes.
        features_dim: width of the last layer.
        bfloat16: whether activations are bfloat16; None where the processor has matrix units for it.
    """

    LAYERS: tuple[tuple[int, int, int], ...]  # filters, size, stride

    def __init__(self, observation_space: spaces.Box, features_dim: int, bfloat16: bool | None = None) -> None:
        super().__init__(observation_space, features_dim)
        self.in_bfloat16 = bfloat16
        channels, height, width = observation_space.shape
        layers: list[nn.Module] = []
        for filters, size, stride in self.LAYERS:
            layers += [nn.Conv2d(channels, filters, size, stride), nn.ReLU()]
            channels, height, width = filters, (height - size) // stride + 1, (width - size) // stride + 1
        self.cnn = nn.Sequential(*layers, nn.Flatten())
        self.linear = nn.Sequential(nn.Linear(channels * height * width, features_dim), nn.ReLU())
        self._held: list[tuple[Tensor, Tensor]] | None = None

    @torch.no_grad()
    def hold(self) -> None:
        """Make the weights ready once for all acting until `release`: nobody changes them before."""
        self._held = self._ready()

    def release(self) -> None:
        """Take the weights as they are again."""
        self._held = None

    def forward(self, frames: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """Features of each observation."""
        *convolutions, last = self._ready() if self._held is None else self._held
        maps = in_blocks(frames).to(last[0].dtype)
        strides = [1, *(stride for _, _, stride in self.LAYERS[1:])]
        for (weight, bias), stride in zip(convolutions, strides, strict=True):
            maps = conv2d(maps, weight, bias, stride).relu_()
        return linear(maps.flatten(1), *last).relu_().float()

    def _ready(self) -> list[tuple[Tensor, Tensor]]:
        """Each layer's weights and biases as it takes them: the first filters in blocks and for bytes."""
        layers = [layer for layer in (*self.cnn, *self.linear) if isinstance(layer, nn.Conv2d | nn.Linear)]
        weights = [layer.weight for layer in layers]
        low = has_matrix_units(weights[0].device.type) if self.in_bfloat16 is None else self.in_bfloat16
        dtype = torch.bfloat16 if low else torch.float32
        first = weights[0].unflatten(3, (2, BLOCK)).unflatten(2, (2, BLOCK))  # type: ignore[no-untyped-call]
        weights[0] = first.permute(0, 1, 3, 5, 2, 4).flatten(1, 3) / BYTE
        biases = [cast(Tensor, layer.bias).to(dtype) for layer in layers]
        last = {4: torch.channels_last, 2: torch.preserve_format}
        shaped = [weight.to(dtype, memory_format=last[weight.ndim]) for weight in weights]
        return list(zip(shaped, biases, strict=True))


class NatureCNN(FrameCNN):
    """The network of Mnih et al. 2015, which the paper's A3C has too: 32, 64 and 64 filters, a layer of 512."""

    LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))

    def __init__(self, observation_space: spaces.Box, features_dim: int = 512, bfloat16: bool | None = None) -> None:
        super().__init__(observation_space, features_dim, bfloat16)


class SmallCNN(FrameCNN):
    """The network of Mnih et al. 2013 and of A3C's own paper: 16 and 32 filters, 256 units, a third of the work."""

    LAYERS = ((16, 8, 4), (32, 4, 2))

    def __init__(self, observation_space: spaces.Box, features_dim: int = 256, bfloat16: bool | None = None) -> None:
        super().__init__(observation_space, features_dim, bfloat16)


def in_blocks(frames: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "n channels rows columns"]:
    """Blocks of 4 x 4 pixels as the 16 channels of one, (n, 16 c, h // 4, w // 4), channels last in memory.

    Four bytes of a row move as one number, which makes this ten times as fast as moving bytes. What is left over at the
    right and the bottom is left out, as the convolution leaves it out.
    """
    n, channels, height, width = frames.shape
    rows, columns = height // BLOCK, width // BLOCK
    whole = frames[..., : BLOCK * rows, : BLOCK * columns].contiguous().view(torch.int32)
    lines = whole.view(n, channels, rows, BLOCK * columns).transpose(1, 2).reshape(n * rows, -1, columns)
    blocks = lines.transpose(1, 2).contiguous().view(torch.uint8)
    return blocks.view(n, rows, columns, -1).permute(0, 3, 1, 2)


class Held(BaseCallback):
    """Has a policy's weights made ready once for all steps of a rollout."""

    def _on_rollout_start(self) -> None:
        for extractor in self._extractors():
            extractor.hold()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        for extractor in self._extractors():
            extractor.release()

    def _extractors(self) -> list[FrameCNN]:
        return [module for module in self.model.policy.modules() if isinstance(module, FrameCNN)]


class _GivesFrames(BasePolicy):
    """What comes before a features extractor that takes bytes: nothing."""

    def extract_features(self, obs: Any, features_extractor: Any = None) -> Any:
        """Features of observations."""
        if isinstance(features_extractor, FrameCNN):
            return features_extractor(obs)
        return super().extract_features(obs, features_extractor)


class PixelPolicy(ActorCriticCnnPolicy, _GivesFrames):
    """stable-baselines3's policy for images with the same weights, by default of the Nature network.

    A `_GivesFrames` comes after its own class, where that looks for what extracts features.
    """

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], *args: Any, **kwargs: Any
    ):
        kwargs = {"features_extractor_class": NatureCNN} | kwargs
        if issubclass(kwargs["features_extractor_class"], FrameCNN):
            kwargs = {"net_arch": []} | kwargs  # as stable-baselines3 has it after its own Nature network
        super().__init__(observation_space, action_space, *args, **kwargs)
