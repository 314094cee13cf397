"""A run's parts, made from its configuration: everything that changes between two phases, and nothing else does.

A checkpoint is the state of these parts, and resuming is reading it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.experience.clips import watcher
from prefrl.experience.recorder import Episode, Recorder, mean_true_return
from prefrl.experience.vector import make_vec_env
from prefrl.policies.on_policy import make_policy, plan
from prefrl.queries.questions import make_questions
from prefrl.rewards.models import make_model
from prefrl.runs import checkpoint
from prefrl.runs.runlog import Progress, RunLog
from prefrl.runs.stopping import Stopping
from prefrl.settings.resolved import Resolved
from prefrl.words.preference import Preference, Query
from prefrl.words.process import for_small_networks, generators, restore_generators


@dataclass(frozen=True)
class Phase:
    """A stretch of training between two fits of the reward.

    Attributes:
        number: from 0.
        rollouts: vector steps of each rollout.
        labels: questions asked as it begins.
        live: whether the reward still learns.
        ends_at: environment steps, over all environments, that will have been taken when it ends.
        is_checkpoint: whether the run's state is kept then.
    """

    number: int
    rollouts: tuple[int, ...]
    labels: int
    live: bool
    ends_at: int
    is_checkpoint: bool


class Run:
    """One experiment, between two phases.

    Attributes:
        config: resolved.
        env: what happened, and the environments where it goes on.
        model: what pays the policy.
        policy: what acts and learns.
        questions: asked of whom, answered how; None where nobody is asked.
        done: phases that have ended.
        episodes: that finished in the last of them.
        births: times that the environments have been made.
    """

    def __init__(self, config: Resolved, log: RunLog, progress: Progress, births: int = 0, quiet: bool = False) -> None:
        self.config, self.log, self.progress, self.births = config, log, progress, births
        self.done, self.episodes = 0, list[Episode]()
        ask_rng, fit_rng, watch_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(config.seed).spawn(3))
        venv = self._born()
        self.env = Recorder(venv, config.env, config.seed, config.keep_steps, watcher(venv))
        self.model = make_model(config, self.env, fit_rng, watch_rng)
        self.policy = make_policy(config, self.model.paid, self.model.due)
        self.questions = make_questions(config, log.folder, ask_rng, quiet)
        self.plan = _plan(config, self.policy.rollout_steps)
