"""A finished run, read back from its folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym

from prefrl.config import BaselineConfig, TrainConfig, from_toml
from prefrl.learners import Policy
from prefrl.preference import Preference
from prefrl.presets import name_value
from prefrl.reward_model import RewardEnsemble
from prefrl.runlog import read_table
from prefrl.store import Store
from prefrl.vector import make_env


@dataclass(frozen=True)
class SavedRun:
    """What a run left behind; each part is read when first asked for.

    Attributes:
        folder: of the run.
        config: its configuration, every default filled in.
    """

    folder: Path
    config: BaselineConfig

    @cached_property
    def metrics(self) -> dict[str, list[float]]:
        """Columns of metrics.csv; an empty cell is NaN."""
        return read_table(self.folder / "metrics.csv")

    @cached_property
    def r_hat(self) -> RewardEnsemble:
        """The reward ensemble, frozen; a baseline has none.

        Raises:
            UserError: the run has no reward model.
        """
        return RewardEnsemble.load(self.folder / "reward.safetensors")

    @cached_property
    def policy(self) -> Policy:
        """The policy as it was at the end.

        Raises:
            UserError: the run has not finished.
        """
        env = self.make_env()
        policy = Policy(self.folder / "policy.safetensors", env.observation_space, env.action_space)
        env.close()
        return policy

    @cached_property
    def answers(self) -> list[Preference]:
        """Every answer, in order of arrival."""
        with Store(self.folder / "labels.sqlite") as store:
            return store.answers()[0]

    def make_env(self, **render: Any) -> gym.Env[Any, Any]:
        """One environment as the run had it, with its own reward."""
        env_kwargs = name_value(self.config.env_kwargs or (), "environment argument")
        return make_env(self.config.env, env_kwargs, self.config.fixed_horizon, **render)


def load_run(folder: Path | str) -> SavedRun:
    """The run in this folder.

    Raises:
        UserError: there is none.
    """
    folder = Path(folder)
    is_train = (folder / "labels.sqlite").exists()
    return SavedRun(folder, from_toml(TrainConfig if is_train else BaselineConfig, folder / "config.toml"))
