"""A run cut into phases: how long each is, what is asked as it begins, and after which the run's state is kept."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from prefrl.policies.on_policy import plan
from prefrl.queries.questions import labels_of
from prefrl.settings.resolved import Resolved


@dataclass(frozen=True)
class Phase:
    """A stretch of training between two fits of the reward.

    Attributes:
        number: from 0.
        rollouts: vector steps of each rollout.
        labels: questions asked as it begins.
        live: whether the reward still learns.
        is_checkpoint: whether the run's state is kept when it ends.
    """

    number: int
    rollouts: list[int]
    labels: int
    live: bool
    is_checkpoint: bool


def schedule(config: Resolved, rollout_steps: int) -> list[Phase]:
    """The phases of a run, and after which of them its state is kept: never after the last."""
    rollouts = plan((config.steps - config.explore_steps) // config.n_envs, rollout_steps, config.phases)
    labels, live = labels_of(config, len(rollouts))
    phases, steps, kept = [], config.explore_steps, 0
    for number, (lengths, count, learns) in enumerate(zip(rollouts, labels, live, strict=True)):
        steps += sum(lengths) * config.n_envs
        is_checkpoint = 0 < config.checkpoint_every <= steps - kept and number + 1 < len(rollouts)
        kept = steps if is_checkpoint else kept
        phases.append(Phase(number, lengths, count, learns, is_checkpoint))
    return phases


def warn_of_few(config: Resolved, phases: int, rollout_steps: int) -> None:
    """Say so where rollouts are so long that few phases remain: the reward is refreshed once in each."""
    if phases >= config.phases / 2:
        return
    vector_steps = (config.steps - config.explore_steps) // config.n_envs
    print(
        f"{phases} of {config.phases} phases remain, in which the reward is refreshed and questions are asked: learner "
        f"{config.learner} takes n_steps={rollout_steps:,} in each of {config.n_envs} environments before it learns. "
        f"Take more steps, or --set n_steps={max(1, vector_steps // config.phases)}.",
        file=sys.stderr,
    )


def warn_of_often(config: Resolved) -> None:
    """Say so where checkpoints lie so near one another that few episodes come to their end between two."""
    if 0 < config.checkpoint_every < config.ten_episodes:
        print(
            f"a checkpoint every {config.checkpoint_every:,} steps makes the environments anew before ten of their "
            f"longest episodes have passed ({config.ten_episodes:,} steps): fewer episodes come to their end.",
            file=sys.stderr,
        )
