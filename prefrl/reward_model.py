"""r-hat: K reward networks as one batched network (Christiano et al. 2017, section 2.2.3 and appendix A.1).

Every tensor of weights has the member as its first dimension, so that all members are evaluated, and fitted, in one
call. Each member's output is unnormalised where it explains answers, and is normalised by itself, then averaged over
the members, where it rewards the learner.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from stable_baselines3.common.running_mean_std import RunningMeanStd
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from prefrl.preference import UserError

FORMAT = "1"


def encoded_size(space: spaces.Space[Any]) -> int:
    """Numbers in the encoding of a space's elements: a vector as it is, choices as one-hot."""
    return int(spaces.flatdim(space))


def encode(space: spaces.Space[Any], batch: NDArray[Any]) -> NDArray[np.float32]:
    """A batch (n, *shape) of a space's elements as float32 (n, d): vectors as they are, choices one-hot."""
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return batch.reshape(len(batch), -1).astype(np.float32, copy=False)
    if isinstance(space, spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[batch.reshape(-1).astype(np.int64) - int(space.start)]
    if isinstance(space, spaces.MultiDiscrete):
        choices = batch.reshape(len(batch), -1).astype(np.int64) - space.start.reshape(-1)
        ends = np.cumsum(space.nvec.reshape(-1))
        hot = np.zeros((len(batch), int(ends[-1])), np.float32)
        np.put_along_axis(hot, choices + ends - space.nvec.reshape(-1), 1.0, axis=1)
        return hot
    raise UserError(f"a reward cannot be learned on {space}: it takes Box, Discrete, MultiDiscrete and MultiBinary.")


class RewardEnsemble(nn.Module):
    """The paper's reward network for vectors, K times: two hidden layers of 64, leaky ReLU 0.01, on (o, a).

    Args:
        observation_space: of the environment, as the recorder sees it.
        action_space: of the environment.
        members: K.
        reward_std: standard deviation of the reward given to the learner (paper: 1 on MuJoCo, 0.05 on Atari).
        hidden: width of each hidden layer.
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
        self.observation_space, self.action_space = observation_space, action_space
        self.members, self.reward_std, self.hidden = members, reward_std, hidden
        sizes = [encoded_size(observation_space) + encoded_size(action_space), *hidden, 1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            bound = fan_in**-0.5  # torch.nn.Linear's first weights
            for parameters, shape in ((self.weights, (members, fan_in, fan_out)), (self.biases, (members, 1, fan_out))):
                uniform = torch.rand(shape, generator=generator)
                parameters.append(nn.Parameter((2 * uniform - 1) * bound))
        self.input_mean: Tensor
        self.input_std: Tensor
        self.output_mean: Tensor
        self.output_std: Tensor
        self.register_buffer("input_mean", torch.zeros(sizes[0]))
        self.register_buffer("input_std", torch.ones(sizes[0]))
        self.register_buffer("output_mean", torch.zeros(members))
        self.register_buffer("output_std", torch.ones(members))
        self._experience = RunningMeanStd(shape=(sizes[0],))

    def inputs(self, observations: NDArray[Any], actions: NDArray[Any]) -> Float[Tensor, "n d"]:
        """Steps as the networks take them, before normalisation: observation and action side by side."""
        both = [encode(self.observation_space, observations), encode(self.action_space, actions)]
        return torch.from_numpy(np.concatenate(both, axis=1)).to(self.input_mean.device)

    def normalised(self, inputs: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Inputs with zero mean and unit standard deviation over experience."""
        return (inputs - self.input_mean) / self.input_std

    def hidden_features(self, normalised: Float[Tensor, "n d"]) -> Float[Tensor, "k n h"]:
        """The last hidden layer of each member."""
        x = normalised.expand(self.members, *normalised.shape)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = leaky_relu(torch.baddbmm(bias, x, weight), 0.01)
        return x

    def forward(self, normalised: Float[Tensor, "n d"]) -> Float[Tensor, "k n"]:
        """Each member's unnormalised reward of each step; sums of these explain the answers."""
        hidden = self.hidden_features(normalised)
        return torch.baddbmm(self.biases[-1], hidden, self.weights[-1]).squeeze(-1)

    @torch.inference_mode()
    def member_rewards(self, observations: NDArray[Any], actions: NDArray[Any]) -> Float[Tensor, "k n"]:
        """Each member's unnormalised reward of each step, without gradients."""
        rewards: Tensor = self(self.normalised(self.inputs(observations, actions)))
        return rewards

    @torch.inference_mode()
    def reward(self, observations: NDArray[Any], actions: NDArray[Any]) -> NDArray[np.float32]:
        """r-hat of each step (n,): each member normalised by itself, then averaged (paper, section 2.2.3)."""
        members = self.member_rewards(observations, actions)
        normalised = (members - self.output_mean[:, None]) / self.output_std[:, None]
        reward: NDArray[np.float32] = (normalised.mean(0) * self.reward_std).cpu().numpy()
        return reward

    @torch.no_grad()
    def observe(self, observations: NDArray[Any], actions: NDArray[Any]) -> None:
        """Take new experience into the input normalisation; what the networks compute stays what it was.

        The first layer absorbs the change of scale (W' = W s'/s, b' = b + W (m' - m)/s), so a reward that explains
        the answers still explains them after the policy has moved on.
        """
        inputs = self.inputs(observations, actions)
        self._experience.update(inputs.double().cpu().numpy())
        mean = torch.as_tensor(self._experience.mean, dtype=torch.float32, device=inputs.device)
        std = torch.as_tensor(np.sqrt(self._experience.var), dtype=torch.float32, device=inputs.device)
        std = torch.where(std > 1e-4, std, torch.ones_like(std))  # a constant input carries nothing: leave its scale
        weight, bias = self.weights[0], self.biases[0]
        bias += (((mean - self.input_mean) / self.input_std).expand(self.members, 1, -1)) @ weight
        weight *= (std / self.input_std)[:, None]
        self.input_mean.copy_(mean)
        self.input_std.copy_(std)

    def normalise_outputs(self, observations: NDArray[Any], actions: NDArray[Any]) -> None:
        """Give each member zero mean and unit standard deviation over these steps (paper, section 2.2.3)."""
        rewards = self.member_rewards(observations, actions)
        self.output_mean.copy_(rewards.mean(1))
        self.output_std.copy_(rewards.std(1).clamp_min(1e-8))

    def save(self, path: Path, **about: str) -> None:
        """Write weights and normalisation as safetensors; what it is, and `about`, go into the file as JSON."""
        described = {
            "format": FORMAT,
            "members": self.members,
            "reward_std": self.reward_std,
            "hidden": self.hidden,
            "observation_space": _describe(self.observation_space),
            "action_space": _describe(self.action_space),
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
        r_hat = cls(
            _space(described["observation_space"]),
            _space(described["action_space"]),
            members=described["members"],
            reward_std=described["reward_std"],
            hidden=tuple(described["hidden"]),
        )
        r_hat.load_state_dict(state)
        return r_hat


def _describe(space: spaces.Space[Any]) -> dict[str, Any]:
    """A space as JSON: its kind, and the sizes and types that the networks depend on."""
    if isinstance(space, spaces.Box):
        return {"kind": "Box", "shape": list(space.shape), "dtype": np.dtype(space.dtype).str}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "shape": list(space.shape)}
    raise UserError(f"a reward cannot be learned on {space}: it takes Box, Discrete, MultiDiscrete and MultiBinary.")


def _space(description: dict[str, Any]) -> spaces.Space[Any]:
    """The space that `_describe` described; the bounds of a Box, which the networks do not use, are its type's."""
    kind, about = description["kind"], description
    if kind == "Box":
        dtype = np.dtype(about["dtype"])
        if dtype.kind == "f":
            return spaces.Box(-np.inf, np.inf, tuple(about["shape"]), dtype.type)
        return spaces.Box(np.iinfo(dtype).min, np.iinfo(dtype).max, tuple(about["shape"]), dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(about["n"], start=about["start"])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(np.array(about["nvec"]), start=np.array(about["start"]))
    return spaces.MultiBinary(about["shape"])
