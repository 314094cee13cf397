"""Deep reinforcement learning from human preferences, as one loop (Christiano et al. 2017, section 2.2).

Three things take turns: a policy acts and learns from r-hat; pairs of its segments are chosen, and someone says which
is better; r-hat is fitted to the answers.
"""

from __future__ import annotations

from pathlib import Path

from prefrl.experiment import opened
from prefrl.runs.resolve import resolve
from prefrl.settings.config import TrainConfig


def train(config: TrainConfig, quiet: bool = False, resume: bool = False) -> Path:
    """Learn a policy, and the reward it should maximise, from `config.labels` answers.

    Args:
        config: what to run; gaps are filled by `prefrl.runs.resolve`.
        quiet: show no progress.
        resume: go on from the newest checkpoint in the run's folder.

    Returns:
        The run's folder (see `prefrl.runs.runlog`).

    Raises:
        UserError: the configuration cannot be run, or what it names, such as an environment or a labeler, fails as it
            runs. Unless a question had been asked by then, no folder is left.
    """
    with opened(resolve(config, resume), quiet, resume) as run:
        for phase in run.phases:
            queries = run.ask(phase)  # keep the pairs worth asking (section 2.2.4)
            replies = run.answer(queries)  # someone answers (section 2.2.2)
            run.fit(phase, replies)  # r-hat explains every answer so far (section 2.2.3)
            measures = run.learn(phase)  # the policy improves on r-hat (section 2.2.1)
            run.record(phase, measures)
            run.checkpoint(phase)
    return run.log.folder
