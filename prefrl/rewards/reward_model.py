"""r-hat: K reward networks as one batched network, and what normalises it (Christiano et al. 2017, section 2.2.3).

Each member's output is unnormalised where it explains answers, and is normalised by itself, then averaged over
the members, where it rewards the learner.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from stable_baselines3.common.running_mean_std import RunningMeanStd
from torch import Tensor, nn

from prefrl.rewards.networks import CNNs, Dropout, MLPs
from prefrl.words.errors import UserError
from prefrl.words.spaces import channels_first, describe, encode, encoded_size, is_image, space_of

FORMAT = "1"


AT_ONCE, AT_ONCE_IMAGES = 4096, 128  # steps whose hidden layers are in memory at one time


class RewardEnsemble(nn.Module):
    """K reward networks, each normalised by itself: on (o, a) for vectors, on the observation alone for images.

    Args:
        observation_space: of the environment, as the recorder sees it.
        action_space: of the environment.
        members: K.
        reward_std: standard deviation of the reward given to the learner (paper: 1 on MuJoCo, 0.05 on Atari).
        hidden: width of each hidden layer of the network for vectors.
        generator: source of the first weights.

    Raises:
        UserError: spaces that a reward cannot be learned on, or members below one.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        members: int = 3,
        reward_std: float = 1.0,
        hidden: tuple[int, ...] = (64, 64),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if members < 1:
            raise UserError(f"members={members}: a reward ensemble has at least one network.")
        for space in (observation_space, action_space):
            describe(space)
        self.observation_space, self.action_space = observation_space, action_space
        self.members, self.reward_std, self.hidden = members, reward_std, hidden
        self.is_image = is_image(observation_space)
        self.network: MLPs | CNNs
        size = encoded_size(observation_space) + encoded_size(action_space)
        if self.is_image:
            assert observation_space.shape is not None
            size = 1  # pixels are scaled to [0, 1], whatever has been seen
            self.network = CNNs(members, channels_first(observation_space.shape), generator=generator)
        else:
            self.network = MLPs(members, (size, *hidden, 1), generator)
        self.eval()  # dropout and batch norm learn only inside `prefrl.rewards.fit`
        self.input_mean: Tensor
        self.input_std: Tensor
        self.output_mean: Tensor
        self.average_std: Tensor
        self.output_std: Tensor
        self.register_buffer("input_mean", torch.zeros(size))
        self.register_buffer("input_std", torch.full((size,), 255.0 if self.is_image else 1.0))
        self.register_buffer("output_mean", torch.zeros(members))
        self.register_buffer("output_std", torch.ones(members))
        self.register_buffer("average_std", torch.ones(()))
        self._experience = RunningMeanStd(epsilon=0.0, shape=(size,))  # exact: no made-up first observation

    def inputs(self, observations: NDArray[Any], actions: NDArray[Any]) -> Shaped[Tensor, n * features]:
        """Steps as the networks take them, before normalisation.

        Returns:
            float32 (n, d), observation and action side by side; of images uint8 (n, c, h, w), without the action.
        """
        if self.is_image:
            shape = observations.shape[1:]
            first = observations if channels_first(shape) == shape else np.moveaxis(observations, -1, 1)
            return torch.from_numpy(np.require(first, requirements=("C", "W"))).to(self.input_mean.device)
        both = [encode(self.observation_space, observations), encode(self.action_space, actions)]
        return torch.from_numpy(np.concatenate(both, axis=1)).to(self.input_mean.device)

    def normalised(self, inputs: Shaped[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Inputs with zero mean and unit standard deviation over experience; pixels in [0, 1]."""
        return (inputs - self.input_mean) / self.input_std

    def hidden_features(self, normalised: Float[Tensor, n * features]) -> Float[Tensor, "k n h"]:
        """The last hidden layer of each member."""
        return self.network.features(normalised)

    def forward(self, normalised: Float[Tensor, n * features]) -> Float[Tensor, "k n"]:
        """Each member's unnormalised reward of each step; sums of these explain the answers."""
        return self.network.head(self.network.features(normalised))

    def returns(self, inputs: Shaped[Tensor, "s t *features"], mask: Float[Tensor, "s t"]) -> Float[Tensor, "k s"]:
        """Each member's unnormalised reward summed over the steps of each segment, undiscounted (paper, equation 1).

        Args:
            inputs: steps of segments as `inputs` gives them, not normalised.
            mask: 1 on the steps of a segment, 0 after its end.
        """
        flat = self.normalised(inputs.flatten(0, 1))
        real = mask.flatten().bool()  # what segments are padded with is no step, and no sample of batch norm
        if real.all():
            features = self.hidden_features(flat)
            summed = features.view(self.members, *mask.shape, -1).sum(2)
        else:
            features = self.hidden_features(flat[real])
            segment = torch.arange(len(mask), device=mask.device).repeat_interleave(mask.sum(1).long())
            summed = features.new_zeros(self.members, len(mask), features.shape[-1]).index_add(1, segment, features)
        return self.network.head(summed, mask.sum(1))

    @torch.inference_mode()
    def member_rewards(self, observations: NDArray[Any], actions: NDArray[Any]) -> Float[Tensor, "k n"]:
        """Each member's unnormalised reward of each step, without gradients."""
        parts = torch.split(self.inputs(observations, actions), AT_ONCE_IMAGES if self.is_image else AT_ONCE)
        return torch.cat([self(self.normalised(part)) for part in parts], dim=1)

    @torch.inference_mode()
    def reward(self, observations: NDArray[Any], actions: NDArray[Any]) -> NDArray[np.float32]:
        """r-hat of each step (n,): each member normalised by itself, then averaged (paper, section 2.2.3)."""
        average = self._average(self.member_rewards(observations, actions))
        reward: NDArray[np.float32] = (average / self.average_std * self.reward_std).cpu().numpy()
        return reward

    def _average(self, rewards: Float[Tensor, "k n"]) -> Float[Tensor, " n"]:
        return ((rewards - self.output_mean[:, None]) / self.output_std[:, None]).mean(0)

    @torch.no_grad()
    def observe(self, observations: NDArray[Any], actions: NDArray[Any]) -> None:
        """Take new experience into the input normalisation; what the networks compute stays what it was.

        The first layer absorbs the change of scale (W' = W s'/s, b' = b + W (m' - m)/s), so a reward that explains
        the answers still explains them after the policy has moved on. Images are left as they are.
        """
        if isinstance(self.network, CNNs) or not len(observations):
            return
        inputs = self.inputs(observations, actions)
        self._experience.update(inputs.double().cpu().numpy())
        mean = torch.as_tensor(self._experience.mean, dtype=torch.float32, device=inputs.device)
        std = torch.as_tensor(np.sqrt(self._experience.var), dtype=torch.float32, device=inputs.device)
        std = torch.where(std > 1e-4, std, torch.ones_like(std))  # a constant input carries nothing: leave its scale
        self.network.absorb(shift=(mean - self.input_mean) / self.input_std, scale=std / self.input_std)
        self.input_mean.copy_(mean)
        self.input_std.copy_(std)

    def normalise_outputs(self, observations: NDArray[Any], actions: NDArray[Any], centre: bool = True) -> None:
        """Give each member zero mean and unit standard deviation over these steps (paper, section 2.2.3).

        Args:
            observations: (n, *observation_shape).
            actions: (n, *action_shape).
            centre: False leaves the mean as it is. Where episodes can end early the mean is part of the task: taking
                it away would make living neither good nor bad.
        """
        if not len(observations):
            return
        rewards = self.member_rewards(observations, actions)
        self.output_mean.copy_(rewards.mean(1) if centre else torch.zeros_like(self.output_mean))
        self.output_std.copy_(_deviation(rewards))
        self.average_std.copy_(_deviation(self._average(rewards)))

    def state(self) -> dict[str, Any]:
        """Weights, normalisation, the running statistics that it goes on from, and the generators of dropout."""
        seen = self._experience
        return {
            "weights": dict(self.state_dict()),
            "experience": {"mean": seen.mean, "var": seen.var, "count": seen.count},
            "dropout": [layer.generator.get_state() for layer in self.modules() if isinstance(layer, Dropout)],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.load_state_dict(state["weights"])
        seen = state["experience"]
        self._experience.mean, self._experience.var, self._experience.count = seen["mean"], seen["var"], seen["count"]
        layers = (layer for layer in self.modules() if isinstance(layer, Dropout))
        for layer, drawn in zip(layers, state["dropout"], strict=True):
            layer.generator.set_state(drawn)

    def save(self, path: Path, **about: str) -> None:
        """Write weights and normalisation as safetensors; what it is, and `about`, go into the file as JSON."""
        described = {
            "format": FORMAT,
            "members": self.members,
            "reward_std": self.reward_std,
            "hidden": self.hidden,
            "observation_space": describe(self.observation_space),
            "action_space": describe(self.action_space),
            **about,
        }
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, path, {"prefrl": json.dumps(described)})  # one key: several come in no fixed order

    @classmethod
    def load(cls, path: Path | str) -> RewardEnsemble:
        """A saved ensemble, on the CPU.

        Raises:
            UserError: no such file, or not a reward model of this format.
        """
        if not Path(path).is_file():
            raise UserError(f"there is no reward model at {str(path)!r}: give the reward.safetensors of a run folder.")
        try:
            with safe_open(path, framework="pt") as file:
                described = json.loads((file.metadata() or {}).get("prefrl", "{}"))
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{str(path)!r} is not a safetensors file ({error}).") from error
        if described.get("format") != FORMAT:
            raise UserError(
                f"{str(path)!r} holds a reward model of format {described.get('format')!r}; this reads {FORMAT!r}."
            )
        try:
            r_hat = cls(
                space_of(described["observation_space"]),
                space_of(described["action_space"]),
                members=described["members"],
                reward_std=described["reward_std"],
                hidden=tuple(described["hidden"]),
            )
            r_hat.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            said = " ".join(str(error).split())
            raise UserError(f"{str(path)!r} is a damaged reward model: {said:.200}.") from error
        return r_hat


def _deviation(rewards: Float[Tensor, "*k n"]) -> Float[Tensor, "*k"]:
    """Standard deviations over the last axis; 1 where they are no more than rounding."""
    std = rewards.std(-1, correction=0)
    return torch.where(std > 1e-6 * (1 + rewards.mean(-1).abs()), std, torch.ones_like(std))
