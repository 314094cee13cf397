"""The same learner on the true reward: the curve that every learned reward is compared with.

Everything but the reward is shared with `prefrl.run`: learner, seeds, untrained first steps, observation
normalisation, steps, checkpoints, log.
"""

from __future__ import annotations

from pathlib import Path

from prefrl.experiment import opened
from prefrl.runs.resolve import resolve
from prefrl.settings.config import BaselineConfig


def run_baseline(config: BaselineConfig, quiet: bool = False, resume: bool = False) -> Path:
    """Learn a policy from the true reward.

    Args:
        config: what to run; gaps are filled by `prefrl.runs.resolve`.
        quiet: show no progress.
        resume: go on from the newest checkpoint in the run's folder.

    Returns:
        The run's folder (see `prefrl.runs.runlog`).

    Raises:
        UserError: the configuration cannot be run, or the environment fails as it runs. Unless a phase had come to its
            end by then, no folder is left.
    """
    with opened(resolve(config, resume), quiet, resume) as run:
        for phase in run.phases:
            run.fit(phase)  # the true reward is brought to the scale of a learned one
            measures = run.learn(phase)  # the policy improves on it
            run.record(phase, measures)
            run.checkpoint(phase)
    return run.log.folder
