"""A configuration with nothing left open: what `prefrl.runs.resolve` makes, and what the parts of a run are made from.

It is another type than the configuration people write, so that no part has to ask whether a field was filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from prefrl.settings.config import BaselineConfig, TrainConfig


@dataclass(frozen=True)
class Resolved(BaselineConfig):
    """A run of either arm.

    Attributes:
        settings: of the learner, `set` read once.
        keep_steps: newest steps of experience, over all environments, that questions are drawn from.
        replay_steps: newest steps, over all environments, that the learner replays; 0 for one that replays none.
        entropy_bonus: of the policy, on top of the learner's own.
        is_drawn: whether people are shown clips that are drawn from what the environments show as they step.
        ten_episodes: environment steps in which ten of the longest episodes pass in every environment.
        checkpoint_every: environment steps between two checkpoints, at least; 0 for none.
        taken: what the run begins from, and why, in a sentence.
    """

    env_kwargs: tuple[str, ...] = ()
    n_envs: int = 0
    explore_steps: int = 0
    reward_std: float = 1.0
    clip_reward: bool = False
    out: Path = Path()
    settings: Mapping[str, Any] = field(default_factory=dict)
    keep_steps: int = 0
    entropy_bonus: float = 0.0
    is_drawn: bool = False
    reward_window: int = 0
    replay_steps: int = 0
    ten_episodes: int = 0
    checkpoint_every: int = 0
    taken: str = ""

    @property
    def same_start(self) -> bool:
        """Whether segments are compared only where they begin an episode alike."""
        return getattr(self, "pairs", None) == "same-start"


@dataclass(frozen=True)
class DirectOptions:
    """What a direct method reads: the fields of `TrainConfig` of these names, with nothing left open."""

    beta: float
    label_smoothing: float
    conservative: float
    segment_discount: float
    clone_segments: Literal["none", "all", "preferred"]
    clone_epochs: int
    held_out: float


@dataclass(frozen=True)
class ResolvedTrain(Resolved, TrainConfig):
    """A run that learns its reward, or by a direct method its policy.

    Attributes:
        direct: the options of a direct method; None of any other.
    """

    direct: DirectOptions | None = None
    strategy: str = "disagreement"
    k: int = 2
    initial_labels: float = 0.0
    segment_steps: int = 0
    keep_steps: int = 0
    entropy_bonus: float = 0.0
    reward_learning_rate: float = 0.0
    batch: int = 0
    initial_epochs: int = 0
    fit_updates: int = 0
    l2: float = 0.0
