"""r-hat: K reward networks as one batched network, and what normalises it (Christiano et al. 2017, section 2.2.3).

Each member's output is unnormalised where it explains answers, and is normalised by itself, then averaged over
the members, where it rewards the learner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from stable_baselines3.common.running_mean_std import RunningMeanStd
from torch import Tensor, nn

from prefrl.rewards.networks import CNNs, Dropout, MLPs
from prefrl.words.errors import UserError
from prefrl.words.lookup import lookup
from prefrl.words.process import flush_subnormals
from prefrl.words.scale import offset_and_scale
from prefrl.words.spaces import channels_first, describe, described_size, encode, encoded_size, is_image, space_of
from prefrl.words.tensors import load_tensors, save_tensors, size_of

FORMAT = "1"
MOST_PIXELS = 1 << 24  # of an image; a vector is never larger than the file of what was learned on it

KINDS = {"implicit": "prefrl.policies.implicit:implicit_reward"}
"""Reward models that are no ensemble of networks, by what their files call them: what makes one of its file."""
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

    def seen(self, inputs: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
        """Inputs as the networks see them; pixels as the bytes they are, which the first layer takes for 255ths."""
        return inputs if self.is_image else self.normalised(inputs)

    def hidden_features(self, seen: Shaped[Tensor, n * features]) -> Float[Tensor, "k n h"]:
        """The last hidden layer of each member."""
        return self.network.features(seen)

    def forward(self, seen: Shaped[Tensor, n * features]) -> Float[Tensor, "k n"]:
        """Each member's unnormalised reward of each step; sums of these explain the answers."""
        return self.network.head(self.network.features(seen))

    def returns(self, inputs: Shaped[Tensor, "s t *features"], mask: Float[Tensor, "s t"]) -> Float[Tensor, "k s"]:
        """Each member's unnormalised reward summed over the steps of each segment, undiscounted (paper, equation 1).

        Args:
            inputs: steps of segments as `inputs` gives them, not normalised.
            mask: 1 on the steps of a segment, 0 after its end.
        """
        flat = self.seen(inputs.flatten(0, 1))
        real = mask.flatten().bool()  # what segments are padded with is no step, and no sample of batch norm
        if real.all():
            features = self.hidden_features(flat)
            summed = features.view(self.members, *mask.shape, -1).sum(2)
        else:
            features = self.hidden_features(flat[real])
            segment = torch.arange(len(mask), device=mask.device).repeat_interleave(mask.sum(1).long())
            summed = features.new_zeros(self.members, len(mask), features.shape[-1]).index_add(1, segment, features)
        return self.network.head(summed, mask.sum(1))

    @flush_subnormals
    @torch.inference_mode()
    def member_rewards(self, observations: NDArray[Any], actions: NDArray[Any]) -> Float[Tensor, "k n"]:
        """Each member's unnormalised reward of each step, without gradients."""
        parts = torch.split(self.inputs(observations, actions), AT_ONCE_IMAGES if self.is_image else AT_ONCE)
        return torch.cat([self(self.seen(part)) for part in parts], dim=1)

    @flush_subnormals
    @torch.inference_mode()
    def reward(self, observations: NDArray[Any], actions: NDArray[Any]) -> NDArray[np.float32]:
        """r-hat of each step (n,): each member normalised by itself, then averaged (paper, section 2.2.3)."""
        average = self._average(self.member_rewards(observations, actions))
        reward: NDArray[np.float32] = (average / self.average_std * self.reward_std).cpu().numpy()
        return reward

    @property
    def unit(self) -> float:
        """What one log-odds is paid as: r-hat is this times the members' mean reward, weighted by 1 / deviation."""
        return float((1 / self.output_std).mean() / self.average_std) * self.reward_std

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

    def normalise_outputs(self, observations: NDArray[Any], actions: NDArray[Any], kept: float = 0.0) -> None:
        """Give each member's reward, and their average, one scale over these steps (paper, section 2.2.3).

        Args:
            observations: (n, *observation_shape).
            actions: (n, *action_shape).
            kept: share of each member's mean that is paid (`prefrl.words.scale.kept_mean`); 0 gives it zero mean.
        """
        if not len(observations):
            return
        rewards = self.member_rewards(observations, actions)
        offset, scale = _offset_and_scale(rewards, kept, self.output_std)
        self.output_mean.copy_(offset)
        self.output_std.copy_(scale)
        # What the members leave of their means is meant: the average is divided by its root mean square.
        self.average_std.copy_(_offset_and_scale(self._average(rewards), 1.0, self.average_std)[1])

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
        save_tensors(path, self.state_dict(), described)

    @classmethod
    def load(cls, path: Path | str) -> RewardEnsemble:
        """A saved ensemble, on the CPU.

        Raises:
            UserError: no such file, or not a reward model of this format.
        """
        if not Path(path).is_file():
            raise UserError(f"there is no reward model at {str(path)!r}: give the reward.safetensors of a run folder.")
        state, described = load_tensors(path)
        if described.get("format") != FORMAT:
            raise UserError(
                f"{str(path)!r} holds a reward model of format {described.get('format')!r:.40}; this reads {FORMAT!r}."
            )
        try:
            if (kind := described.get("kind")) is not None:
                made_of: Callable[..., RewardEnsemble] = lookup("kind of reward model", KINDS[kind], {})
                return made_of(described, state)
            about = _fitting(described, size_of(state))
            r_hat = cls(**about)
            r_hat.load_state_dict(state)
        except Exception as error:  # whatever is made of what somebody else wrote
            said = " ".join(str(error).split())
            raise UserError(f"{str(path)!r} is a damaged reward model: {said:.200}.") from error
        return r_hat


def _fitting(described: dict[str, Any], numbers: int) -> dict[str, Any]:
    """What a file says of its reward model, as the class takes it, before memory is taken for any of it.

    Args:
        described: as `save` wrote it.
        numbers: in the file.

    Raises:
        ValueError: it is of another kind, or larger than the file.
    """
    members, hidden, reward_std = described["members"], tuple(described["hidden"]), described["reward_std"]
    if any(type(size) is not int or not 0 < size <= numbers for size in (members, *hidden)):
        raise ValueError(f"its members and layers, {members} and {hidden!s:.40}, do not fit into {numbers} numbers")
    if type(reward_std) not in (int, float) or not 0 < reward_std < math.inf:
        raise ValueError(f"its reward_std is {reward_std!r:.40}")
    sizes = [described_size(described[name]) for name in ("observation_space", "action_space")]
    if not 0 < min(sizes) <= max(sizes) <= max(numbers, MOST_PIXELS):
        raise ValueError(f"its spaces, of {sizes[0]} and {sizes[1]} numbers, do not fit into {numbers}")
    observation_space, action_space = space_of(described["observation_space"]), space_of(described["action_space"])
    if is_image(observation_space):
        assert observation_space.shape is not None
        channels, height, width = channels_first(observation_space.shape)
        least = members * max(height * width, CNNs.LAYERS[0][0] * CNNs.LAYERS[0][1] ** 2 * channels)
    else:
        least = members * sum(math.prod(pair) for pair in pairwise((sum(sizes), *hidden, 1)))
    if least > numbers:
        raise ValueError(f"its networks have {least} weights or more, and the file holds {numbers}")
    return {
        "observation_space": observation_space,
        "action_space": action_space,
        "members": members,
        "reward_std": float(reward_std),
        "hidden": hidden,
    }


def _offset_and_scale(
    rewards: Float[Tensor, "*k n"], kept: float, last: Float[Tensor, "*k"]
) -> tuple[Float[Tensor, "*k"], Float[Tensor, "*k"]]:
    """`prefrl.words.scale.offset_and_scale` of these rewards, over the last axis."""
    mean = rewards.mean(-1)
    furthest = (rewards - mean[..., None]).abs().amax(-1)
    std = rewards.std(-1, correction=0)
    mean_, std_, furthest_, last_ = (part.cpu().numpy() for part in (mean, std, furthest, last))
    offset, scale = offset_and_scale(mean_, std_, furthest_, kept, last_)
    return torch.as_tensor(offset), torch.as_tensor(scale)
