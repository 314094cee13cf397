"""A policy that has been saved: what it is made of, and how it acts again by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.preprocessing import is_image_space_channels_first
from stable_baselines3.common.vec_env import VecTransposeImage

from prefrl.policies.learners import ACTORS, POLICIES, with_classes
from prefrl.words.errors import UserError
from prefrl.words.tensors import load_tensors, size_of

CLIP_OBSERVATIONS = 10.0
MOST_LAYERS = 1_000  # that a saved policy may describe
MOST_SHARED = 8  # names at most that one weight goes by, where actor and critic share layers


class Policy:
    """A saved policy: observations as the environment gives them in, actions out.

    Args:
        path: the `policy.safetensors` of a run.
        observation_space: of the environment.
        action_space: of the environment.

    Raises:
        UserError: no policy there, or one for other spaces.
    """

    def __init__(self, path: Path | str, observation_space: Any, action_space: Any) -> None:
        about, tensors = read_policy(path)
        try:
            self._take(about, tensors, observation_space, action_space)
            shapes = {tensors[name].shape for name in ("observation_mean", "observation_var") if name in tensors}
            if shapes - {torch.Size(observation_space.shape)}:
                raise ValueError(f"its observations are of shape {[*map(tuple, shapes)]}")
            if not all(tensor.isfinite().all() for tensor in tensors.values()):
                raise ValueError("it holds numbers that are not finite")
            if "observation_var" in tensors and (tensors["observation_var"] < 0).any():
                raise ValueError("it holds variances below zero")
        except Exception as error:  # whatever is made of what somebody else wrote
            said = " ".join(str(error).split())
            raise UserError(f"{str(path)!r} is not a policy for this environment: {said:.200}.") from error

    @classmethod
    def made_of(
        cls, about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], observation_space: Any, action_space: Any
    ) -> Policy:
        """A policy of this run's own, of what would be saved of it.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: this is not what a policy for these spaces is made of.
        """
        policy = cls.__new__(cls)
        policy._take(about, tensors, observation_space, action_space)
        return policy

    def _take(
        self, about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], observation_space: Any, action_space: Any
    ) -> None:
        self.policy = rebuilt(about, tensors, observation_space, action_space)
        self.mean = tensors["observation_mean"].numpy() if "observation_mean" in tensors else None
        self.std = np.sqrt(tensors["observation_var"].numpy() + 1e-8) if "observation_var" in tensors else None

    def act(self, observations: NDArray[Any], deterministic: bool = False) -> NDArray[Any]:
        """Actions for a batch of observations (n, *observation_shape), or for one.

        A policy that learned with `use_sde` explores by a noise that is a function of what it sees, and was drawn anew
        now and then; here it is drawn anew for each observation, so that actions have the same distribution.
        """
        observations = self._normalised(observations)
        if isinstance(self.policy, ActorCriticPolicy) and self.policy.use_sde and not deterministic:
            with torch.no_grad():
                self.policy.reset_noise(len(observations))
        return self.policy.predict(observations, deterministic=deterministic)[0]

    @torch.no_grad()
    def probabilities(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """The chance (n, A) of each of the A actions, at observations (n, *observation_shape).

        Raises:
            UserError: there is not a number of actions to choose from.
        """
        if not isinstance(self.policy.action_space, spaces.Discrete):
            raise UserError(
                f"only Discrete actions have a chance each, and this policy has {self.policy.action_space}."
            )
        chosen = self.distribution(observations).distribution
        assert isinstance(chosen, torch.distributions.Categorical)
        logits: torch.Tensor = chosen.logits
        return np.asarray(logits.double().softmax(dim=-1).cpu())

    @torch.no_grad()
    def distribution(self, observations: NDArray[Any]) -> Distribution:
        """Of the actions, before any clipping, at each of these observations (n, *observation_shape).

        Raises:
            UserError: it is a policy of a learner that replays, whose density is not told.
        """
        if not isinstance(self.policy, ActorCriticPolicy):
            raise UserError(
                f"this policy is a {type(self.policy).__name__}, of a learner that replays, and says nothing of how "
                f"likely an action is: take one that ppo, a2c or trpo has learned."
            )
        return self.policy.get_distribution(self.policy.obs_to_tensor(self._normalised(observations))[0])

    def _normalised(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Observations as the network takes them."""
        if self.mean is None or self.std is None:
            return observations
        scaled: NDArray[Any] = (observations - self.mean) / self.std
        return scaled.clip(-CLIP_OBSERVATIONS, CLIP_OBSERVATIONS).astype(np.float32)


def read_policy(path: Path | str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """How a saved policy is made, and its tensors, as they are in its file.

    Raises:
        UserError: there is no such file, or it is none of ours.
    """
    if not Path(path).is_file():
        raise UserError(f"there is no policy at {str(path)!r}: give the policy.safetensors of a finished run.")
    tensors, about = load_tensors(path)
    return about, tensors


def acting(kind: type[BasePolicy]) -> type[BasePolicy]:
    """A policy of a learner that replays, without its critics: they act on nothing, and are most of its weights."""

    def build(policy: Any, lr_schedule: Any) -> None:
        policy.actor = policy.make_actor()

    def set_training_mode(policy: Any, mode: bool) -> None:
        policy.actor.set_training_mode(mode)
        policy.training = mode

    return type(kind.__name__, (kind,), {"_build": build, "set_training_mode": set_training_mode})


READ: dict[str, type[BasePolicy]] = {**POLICIES, **{name: acting(kind) for name, kind in ACTORS.items()}}
"""Policies by the name that their files give them."""


def rebuilt(
    about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], observation_space: Any, action_space: Any
) -> BasePolicy:
    """The policy that was saved as a learner's content says; files before `use_sde` was told show it by their shapes.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: this is not what a policy for these spaces is made of.
    """
    kind = READ[about["policy"]]
    if about["policy"] == "CnnPolicy" and not is_image_space_channels_first(observation_space):
        observation_space = VecTransposeImage.transpose_space(observation_space)
    weights = {n.removeprefix("policy."): t for n, t in tensors.items() if n.startswith("policy.")}
    made_with = with_classes(about["policy_kwargs"])
    if issubclass(kind, ActorCriticPolicy):
        explores_by_state = "log_std" in weights and weights["log_std"].ndim == 2
        made_with = {"use_sde": explores_by_state} | made_with | {"ortho_init": False}
    _check_sizes(kind, (observation_space, action_space, lambda _: 0.0), made_with, weights)
    policy = kind(observation_space, action_space, lambda _: 0.0, **made_with)
    missing, unexpected = policy.load_state_dict(weights, strict=False)
    if unexpected:
        raise KeyError(unexpected[0])
    here = policy.state_dict()
    loaded = {here[name].data_ptr() for name in weights}
    if any(here[name].data_ptr() not in loaded for name in missing):
        raise KeyError(missing[0])
    policy.set_training_mode(False)
    return policy


def _check_sizes(
    kind: type[BasePolicy],
    made_of: tuple[Any, ...],
    policy_kwargs: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
) -> None:
    """See that a policy has the weights that its file holds, before memory is taken for them.

    Args:
        kind: of policy.
        made_of: its first arguments.
        policy_kwargs: the others, as the file has them.
        weights: in the file, by name.

    Raises:
        ValueError: it has others, or more layers.
    """
    if str(policy_kwargs).count(",") > MOST_LAYERS:
        raise ValueError(f"its policy_kwargs have more than {MOST_LAYERS} parts")
    # Noise that depends on the state is drawn as it is made, which needs contents; it is as wide as the last layer.
    plain = {name: value for name, value in policy_kwargs.items() if "sde" not in name and name != "squash_output"}
    nowhere = torch.device("meta")  # where tensors have shapes and no contents
    outline = type("Outline", (kind,), {"device": nowhere})
    with nowhere:
        shapes = {name: tensor.shape for name, tensor in outline(*made_of, **plain).state_dict().items()}
    for name, tensor in weights.items():
        if shapes.get(name) != tensor.shape and name != "log_std":
            raise ValueError(f"its {name} is of shape {tuple(tensor.shape)}, and is to be {shapes.get(name)}")
    if sum(math.prod(shape) for shape in shapes.values()) > MOST_SHARED * size_of(dict(weights)):
        raise ValueError("it describes more weights than it holds")
