"""Which options a direct method takes, what they are unless told, and which it has no use for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from prefrl.policies.learners import as_json, with_classes
from prefrl.settings.config import TrainConfig
from prefrl.settings.presets import Preset
from prefrl.settings.resolved import DirectOptions
from prefrl.settings.values import as_toml, name_value
from prefrl.words.errors import UserError
from prefrl.words.lookup import did_you_mean

OWN: dict[str, dict[str, float]] = {
    "dpo": {"beta": 0.1, "label_smoothing": 0.0},
    "ipo": {"beta": 0.1},
    "cpl": {"beta": 0.1, "conservative": 0.5, "segment_discount": 1.0},
    "cpl_kl": {"beta": 0.2, "conservative": 0.75, "segment_discount": 1.0},
}
"""Numbers of each loss; those of CPL are its authors' on Meta-World (Hejna et al. 2024)."""
UNREAD = {"label_smoothing": 0.0, "conservative": 1.0, "segment_discount": 1.0}
"""What a loss that does not read them comes to."""
SHARED: dict[str, Any] = {"clone_segments": None, "clone_epochs": 20, "held_out": 0.1}
OPTIONS = {name for own in OWN.values() for name in own} | set(SHARED)
"""All that only a direct method reads."""
OF_A_REWARD = (
    "members", "noise_floor", "reward_learning_rate", "objective", "overlap", "freeze_reward_at", "l2",
    "entropy_bonus", "reward_from", "reward_at", "kl_beta", "kl_target", "learner",
)  # fmt: skip
"""What says how a reward is learned, paid, or learned from."""
BLIND = ("disagreement", "information_gain", "coverage", "coverage_disagreement")
"""Strategies that ask several members what they disagree about, or a network's hidden layer."""
SETTINGS: dict[str, Any] = {"n_steps": 64, "learning_rate": 3e-4, "learn_std": True, "policy_kwargs": {}}
"""What `--set` takes; the family's come first."""


def direct_fields(config: TrainConfig, preset: Preset) -> dict[str, Any]:
    """What a direct method makes of the fields that are its own, and of those that it does without.

    Args:
        config: as asked for; its method is one of `OWN`.
        preset: of the environment's family.

    Raises:
        UserError: an option that the method has no use for, or a number out of its range.
    """
    _check_idle(config, preset)
    settings = SETTINGS | dict(preset.learners.get("direct", {})) | name_value(config.set, "setting")
    _check_settings(config.method, settings)
    own = OWN[config.method]
    told = {name: getattr(config, name) for name in (*own, *SHARED)}
    found = {name: (own | SHARED)[name] if value is None else value for name, value in told.items()}
    if found["clone_segments"] is None:
        found["clone_segments"] = "all" if config.labels_from or "conservative" in own else "none"
    options = DirectOptions(**(UNREAD | found))
    _check_numbers(options)
    return found | {
        "direct": options,
        "settings": settings,
        "set": tuple(f"{name}={as_toml(value)}" for name, value in settings.items()),
        "strategy": config.strategy or "uniform",
        "noise_floor": 0.0,
    }


def refuse_direct_options(config: TrainConfig) -> None:
    """Refuse what a method that is not direct would not read.

    Raises:
        UserError: some of it was given.
    """
    for name in sorted(OPTIONS):
        if (value := getattr(config, name)) is not None:
            raise UserError(
                f"{name}={value} is an option of {_methods_with(name)}, and method {config.method!r} does not read it: "
                f"leave it out, or choose one of them with --method."
            )


def _methods_with(name: str) -> str:
    """The methods that read an option, in words."""
    return ", ".join(method for method, own in OWN.items() if name in own or name in SHARED)


def _check_idle(config: TrainConfig, preset: Preset) -> None:
    usual = {field.name: field.default for field in fields(TrainConfig)}
    resolved = {**usual, **vars(preset), "noise_floor": 0.0, "kl_beta": 0.0}  # as a run's own config.toml has them
    for name in OF_A_REWARD:
        if (value := getattr(config, name)) not in (usual[name], resolved[name]):
            raise UserError(
                f"{name}={value} says how a reward is learned or learned from, and method {config.method!r} has none: "
                f"leave it out, or use --method reward."
            )
    for name in ("question", "likelihood", "margin"):
        if (value := getattr(config, name)) != usual[name]:
            raise UserError(
                f"{name}={value} is about questions other than which of two is better, and method {config.method!r} "
                f"learns from those alone: leave it out, or use --method reward."
            )
    for name in ("start_from", "demonstrations"):
        if value := getattr(config, name):
            raise UserError(
                f"{name}={value} is what PPO and the like begin with, and method {config.method!r} begins as its "
                f"reference: give --reference RUN."
            )
    for name in sorted(OPTIONS - set(OWN[config.method]) - set(SHARED)):
        if (value := getattr(config, name)) is not None:
            raise UserError(
                f"{name}={value} is an option of {_methods_with(name)}, and method {config.method!r} does not read it: "
                f"leave it out."
            )
    if config.strategy in BLIND:
        raise UserError(
            f"strategy {config.strategy!r} asks an ensemble's members, and method {config.method!r} has one policy: "
            f"use uniform, or entropy (pairs that its implicit reward is unsure about)."
        )


def _check_numbers(found: DirectOptions) -> None:
    ranges = {
        "beta": (0 < found.beta < math.inf, "what a nat is worth in log-odds: it must be above zero"),
        "label_smoothing": (
            0 <= found.label_smoothing < 0.5,
            "a share of answers the wrong way round: it must be at least 0 and below one half",
        ),
        "conservative": (0 < found.conservative <= 1, "a weight: it must be above 0 and at most 1"),
        "segment_discount": (0 < found.segment_discount <= 1, "a discount: it must be above 0 and at most 1"),
        "clone_epochs": (found.clone_epochs >= 0, "a number of passes: it must be 0 or more"),
        "held_out": (0 <= found.held_out < 1, "a share of the answers: it must be at least 0 and below 1"),
        "clone_segments": (
            found.clone_segments in ("none", "all", "preferred"),
            "which segments are cloned: it must be none, all or preferred",
        ),
    }
    for name, (is_in, said) in ranges.items():
        if not is_in:
            raise UserError(f"{name}={getattr(found, name)} is {said}.")


def _check_settings(method: str, settings: Mapping[str, Any]) -> None:
    """Whether these are settings of a direct method.

    Raises:
        UserError: one is not.
    """
    for name, value in settings.items():
        if name not in SETTINGS:
            hint = did_you_mean(name, SETTINGS) or f" It has {', '.join(sorted(SETTINGS))}."
            raise UserError(f"method {method!r} has no setting {name!r}.{hint}")
        number = value.removeprefix("lin_") if isinstance(value, str) and value.startswith("lin_") else value
        try:
            is_above = not isinstance(number, bool | dict) and 0 < float(number) < math.inf
        except (TypeError, ValueError):
            is_above = False
        fits = {
            "n_steps": (is_above and type(value) is int, "a whole number above zero"),
            "learning_rate": (
                is_above and not (isinstance(value, str) and number == value),
                "a number above zero, or lin_ and the number that it falls from, such as lin_3e-4",
            ),
            "learn_std": (isinstance(value, bool), "true or false"),
            "policy_kwargs": (isinstance(value, Mapping), "a table, such as {net_arch = [64, 64]}"),
        }
        is_fit, wanted = fits[name]
        if not is_fit:
            raise UserError(f"{name}={value!r:.60} is no setting of method {method!r}: it must be {wanted}.")
    kwargs = settings["policy_kwargs"]
    if kwargs.get("use_sde") or kwargs.get("squash_output"):
        raise UserError(
            f"method {method!r} asks how likely an action was, which a policy with use_sde or squash_output does not "
            f"say of what the environment received: leave them out of policy_kwargs."
        )
    as_json(with_classes(kwargs))
