"""Which learners there are, which settings they take, and which policies of theirs can be saved."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.common import torch_layers
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy, BasePolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from prefrl.policies import pixels
from prefrl.policies.pixels import PixelPolicy
from prefrl.words.errors import UserError
from prefrl.words.lookup import did_you_mean, lookup
from prefrl.words.spaces import is_image

LEARNERS: dict[str, str] = {
    "ppo": "stable_baselines3:PPO",
    "a2c": "stable_baselines3:A2C",
    "trpo": "sb3_contrib:TRPO",
}
REPLAYERS: dict[str, str] = {
    "sac": "stable_baselines3:SAC",
    "td3": "stable_baselines3:TD3",
    "tqc": "sb3_contrib:TQC",
    "pebble": "stable_baselines3:SAC",
}
"""Those that replay what they have seen; `prefrl.settings.presets` has what each of them starts from."""
POLICIES: dict[str, type[ActorCriticPolicy]] = {"MlpPolicy": ActorCriticPolicy, "CnnPolicy": PixelPolicy}
"""What acts, by stable-baselines3's names."""
ACTORS: dict[str, type[BasePolicy]] = {kind.__name__: kind for kind in (SACPolicy, TD3Policy, TQCPolicy)}
"""What acts of learners that replay; their critics act on nothing."""
SAVED: tuple[type[BasePolicy], ...] = (ActorCriticPolicy, ActorCriticCnnPolicy, *ACTORS.values())
"""Those that can be saved: they need an observation to act, and no memory, no masks, no code of anybody's own."""
NAMED: dict[str, tuple[tuple[ModuleType, ...], type]] = {
    "activation_fn": ((torch.nn,), torch.nn.Module),
    "features_extractor_class": ((pixels, torch_layers), torch_layers.BaseFeaturesExtractor),
    "optimizer_class": ((torch.optim,), torch.optim.Optimizer),
}
"""Keys of `policy_kwargs` whose value is a class: where it is found by name, the first first, and what it must be."""


NOT_HERE = {
    "use_sde": "what it explores by is not saved with its policy, so leave it out",
    "optimize_memory_usage": "it forgets which episodes a time limit cut off, so leave it out",
    "replay_buffer_class": "the rewards of any other buffer could not be made anew, so leave it out",
    "replay_buffer_kwargs": "the rewards of any other buffer could not be made anew, so leave it out",
}
"""Settings of stable-baselines3's that learners that replay do without."""


def learner_class(name: str) -> type[OnPolicyAlgorithm] | type[OffPolicyAlgorithm]:
    """The algorithm a name or import path stands for.

    Raises:
        UserError: unknown, no algorithm of stable-baselines3's two kinds, or one whose policy cannot be saved.
    """
    path = lookup("learner", name, LEARNERS | REPLAYERS) if ":" not in name else name
    found: Any = lookup("learner", path, {})
    if not (isinstance(found, type) and issubclass(found, OnPolicyAlgorithm | OffPolicyAlgorithm)):
        raise UserError(
            f"learner {name!r} is {found!r}: it must be a subclass of stable-baselines3's OnPolicyAlgorithm or "
            f"OffPolicyAlgorithm."
        )
    aliases = found.policy_aliases
    taken = ["MlpPolicy"] if issubclass(found, OffPolicyAlgorithm) else POLICIES  # what replays learns from vectors
    for policy in [aliases[alias] for alias in taken if alias in aliases] or list(aliases.values())[:1]:
        check_policy(name, policy)
    return found


def replays(name: str) -> bool:
    """Whether a learner learns again and again from what it has seen.

    Raises:
        UserError: as `learner_class`.
    """
    return issubclass(learner_class(name), OffPolicyAlgorithm)


def check_spaces(name: str, env_id: str, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
    """Refuse an environment that a learner cannot act in.

    Raises:
        UserError: it shows pictures, or actions are no bounded vectors, and the learner replays.
    """
    if not replays(name):
        return
    if is_image(observation_space):
        raise UserError(
            f"learner {name!r} keeps every observation to learn from it again, and {env_id} shows pictures, which are "
            f"too large for that: take ppo or a2c."
        )
    if not (isinstance(action_space, spaces.Box) and np.issubdtype(action_space.dtype, np.floating)):
        raise UserError(
            f"learner {name!r} chooses actions between two bounds, and {env_id} takes {action_space}: take ppo, a2c or "
            f"trpo."
        )


def check_policy(learner: str, policy: type) -> None:
    """Refuse a policy that would be trained, and could not be saved or could not act again by itself.

    Raises:
        UserError: it is another than those that can.
    """
    if policy not in (*SAVED, *POLICIES.values()):
        *known, last = (kind.__name__ for kind in SAVED)
        raise UserError(
            f"learner {learner!r} acts with {policy.__name__}, which a run cannot save and use again: it knows "
            f"stable-baselines3's {', '.join(known)} and {last}, which act on an observation alone, without masks or "
            f"memory; take ppo, a2c, trpo, sac, or a learner that acts with these."
        )


def _class_named(key: str, name: str) -> type:
    """The class that a key of `policy_kwargs` names: "ReLU", or with its module, "torch.nn.ReLU".

    Raises:
        UserError: there is none of that name, or it is of another kind.
    """
    modules, kind = NAMED[key]
    for module in modules:
        found = getattr(module, name.replace(":", ".").removeprefix(f"{module.__name__}."), None)
        if isinstance(found, type) and issubclass(found, kind):
            return found
    known = [n for m in modules for n, c in vars(m).items() if isinstance(c, type) and issubclass(c, kind)]
    places = " or ".join(module.__name__ for module in modules)
    raise UserError(
        f"policy_kwargs has {key}={name!r}: it must be the name of a class of {places}, which a saved policy "
        f"can be made with again.{did_you_mean(name, known)}"
    )


def as_json(policy_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a policy is made with, for its file: classes by name, and nothing of the optimizer, which acts on nothing.

    Raises:
        UserError: something that JSON cannot say.
    """
    said: dict[str, Any] = {}
    for key, value in policy_kwargs.items():
        if key.startswith("optimizer_"):
            continue
        said[key] = value.__name__ if key in NAMED and isinstance(value, type) else value
        if said[key] is not value and all(getattr(m, value.__name__, None) is not value for m in NAMED[key][0]):
            raise UserError(
                f"policy_kwargs has {key}={value.__qualname__} of {value.__module__}, and a policy's file can only "
                f"name classes of {' or '.join(module.__name__ for module in NAMED[key][0])}: take one of those."
            )
        try:
            json.dumps(said[key])
        except (TypeError, ValueError) as error:
            raise UserError(
                f"policy_kwargs has {key}={value!r:.100}, which cannot be written into the policy's file: give "
                f"numbers, words, lists and tables of them."
            ) from error
    return said


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Whether a learner takes these settings, as far as its signature says.

    Raises:
        UserError: it does not.
    """
    parameters = inspect.signature(learner_class(name)).parameters
    takes = {n for n in parameters if not n.startswith("_")} - {"policy", "env", "seed", "device", "self"}
    for setting, value in settings.items():
        if setting not in takes:
            hint = did_you_mean(setting, takes) or f" It has {', '.join(sorted(takes))}."
            raise UserError(f"learner {name!r} has no setting {setting!r}.{hint}")
        if isinstance(value, str) and value.startswith("lin_"):
            try:
                float(value.removeprefix("lin_"))
            except ValueError as error:
                raise UserError(
                    f"{setting}={value} is no schedule: write lin_ and a number, such as lin_3e-4."
                ) from error
        if setting in NOT_HERE and replays(name) and value is not False:
            raise UserError(f"{setting}={value!r:.60} is no setting of learner {name!r} here: {NOT_HERE[setting]}.")
        if setting == "train_freq" and not (type(value) is int and value > 0):
            raise UserError(
                f"train_freq={value!r:.60} must be a whole number of steps of each environment, above zero."
            )
        if setting == "action_noise" and not (type(value) in (int, float) and 0 <= value < math.inf):
            raise UserError(
                f"action_noise={value!r:.60} must be a number: the deviation of the noise, where actions span -1 to 1."
            )
        if wanted := _wanted(parameters[setting], value):
            raise UserError(f"{setting}={value!r} is no setting of learner {name!r}: it must be {wanted}.")
    if isinstance(given := settings.get("policy_kwargs"), Mapping):
        as_json(with_classes(given))


def with_classes(policy_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """`policy_kwargs` with the classes that it names."""
    return {
        key: _class_named(key, value) if key in NAMED and isinstance(value, str) else value
        for key, value in (policy_kwargs or {}).items()
    }


def _wanted(parameter: inspect.Parameter, value: Any) -> str | None:
    """What a setting must be and this value is not, by the parameter's default and annotation; None if it will do."""
    default = parameter.default
    kind = parameter.annotation
    kind = kind if isinstance(kind, str) else inspect.formatannotation(kind)
    is_number = type(value) in (int, float) and not math.isnan(value)
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if kind == "int":
        counts = isinstance(default, int) and default > 0  # n_steps and the like; -1 and 0 mean something else
        fits = type(value) is int and (value > 0 or not counts)
        return None if fits else f"a whole number{' above zero' if counts else ''}"
    if kind in ("float", "float | None", "Optional[float]"):
        return None if is_number else "a number"
    if type(default) in (int, float) and "str" not in kind and "Any" not in kind:
        falls = isinstance(value, str) and value.startswith("lin_")
        return None if is_number or falls else "a number, or lin_ and the number that it falls from, such as lin_3e-4"
    if kind.lower().startswith(("dict", "optional[dict")):
        return None if isinstance(value, dict) else "a table, such as {net_arch = [64, 64]}"
    return None
