"""prefrl: learn a reward, and a policy that maximises it, from preferences between short clips of behaviour.

    import prefrl

    run = prefrl.load_run(prefrl.train(prefrl.TrainConfig(env="Pendulum-v1", labels=200, steps=100_000)))
    env = prefrl.LearnedRewardEnv(gymnasium.make("Pendulum-v1"), run.r_hat)

Names are imported when first used, so that `import prefrl` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefrl.baseline import run_baseline
    from prefrl.compare import read_outcome, run_comparison
    from prefrl.config import BaselineConfig, CompareConfig, TrainConfig
    from prefrl.evaluate import policy_return
    from prefrl.fixed_horizon import FixedHorizon
    from prefrl.learners import Policy
    from prefrl.plots import learning_curves
    from prefrl.preference import Preference, Query, Segment, UserError
    from prefrl.recorder import Recorder
    from prefrl.reward_env import LearnedReward, LearnedRewardEnv
    from prefrl.reward_model import RewardEnsemble
    from prefrl.run import train
    from prefrl.saved import SavedRun, load_run
    from prefrl.vector import make_vec_env

_HOME = {
    "run_baseline": "baseline",
    "run_comparison": "compare",
    "read_outcome": "compare",
    "BaselineConfig": "config",
    "CompareConfig": "config",
    "TrainConfig": "config",
    "policy_return": "evaluate",
    "FixedHorizon": "fixed_horizon",
    "Policy": "learners",
    "learning_curves": "plots",
    "Preference": "preference",
    "Query": "preference",
    "Segment": "preference",
    "UserError": "preference",
    "Recorder": "recorder",
    "LearnedReward": "reward_env",
    "LearnedRewardEnv": "reward_env",
    "RewardEnsemble": "reward_model",
    "train": "run",
    "SavedRun": "saved",
    "load_run": "saved",
    "make_vec_env": "vector",
}

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
