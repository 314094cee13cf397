"""prefrl: learn a reward, and a policy that maximises it, from preferences between short clips of behaviour.

    import prefrl

    run = prefrl.load_run(prefrl.train(prefrl.TrainConfig(env="Pendulum-v1", labels=200, steps=100_000)))
    env = prefrl.LearnedRewardEnv(gymnasium.make("Pendulum-v1"), run.r_hat)

Names are imported when first used, so that `import prefrl` costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from prefrl.words.moved import Moved

if TYPE_CHECKING:
    from prefrl.baseline import run_baseline
    from prefrl.experience.backends import make_vec_env
    from prefrl.experience.fixed_horizon import FixedHorizon
    from prefrl.experience.recorder import Recorder
    from prefrl.policies.policy import Policy
    from prefrl.rewards.paid import LearnedReward, LearnedRewardEnv
    from prefrl.rewards.reward_model import RewardEnsemble
    from prefrl.run import train
    from prefrl.runs.saved import SavedRun, load_run
    from prefrl.settings.config import BaselineConfig, CompareConfig, TrainConfig
    from prefrl.studies.compare import read_outcome, run_comparison
    from prefrl.studies.evaluate import policy_return
    from prefrl.studies.plots import learning_curves
    from prefrl.words.errors import UserError
    from prefrl.words.preference import Preference, Query, Segment

_HOME = {
    "run_baseline": "baseline",
    "run_comparison": "studies.compare",
    "read_outcome": "studies.compare",
    "BaselineConfig": "settings.config",
    "CompareConfig": "settings.config",
    "TrainConfig": "settings.config",
    "policy_return": "studies.evaluate",
    "FixedHorizon": "experience.fixed_horizon",
    "Policy": "policies.policy",
    "learning_curves": "studies.plots",
    "Preference": "words.preference",
    "Query": "words.preference",
    "Segment": "words.preference",
    "UserError": "words.errors",
    "Recorder": "experience.recorder",
    "LearnedReward": "rewards.paid",
    "LearnedRewardEnv": "rewards.paid",
    "RewardEnsemble": "rewards.reward_model",
    "train": "run",
    "SavedRun": "runs.saved",
    "load_run": "runs.saved",
    "make_vec_env": "experience.backends",
}

sys.meta_path.append(Moved())

__all__ = [
    "BaselineConfig",
    "CompareConfig",
    "FixedHorizon",
    "LearnedReward",
    "LearnedRewardEnv",
    "Policy",
    "Preference",
    "Query",
    "Recorder",
    "RewardEnsemble",
    "SavedRun",
    "Segment",
    "TrainConfig",
    "UserError",
    "learning_curves",
    "load_run",
    "make_vec_env",
    "policy_return",
    "read_outcome",
    "run_baseline",
    "run_comparison",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'prefrl' has no attribute {name!r}")
    return getattr(importlib.import_module(f"prefrl.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
