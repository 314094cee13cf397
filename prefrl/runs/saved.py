"""A finished run, read back from its folder."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym

from prefrl.experience.clips import FILMS, Artist, film, find_display, policy_frames
from prefrl.experience.task import Task
from prefrl.policies.policy import Policy
from prefrl.queries.exchange import looking_at
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.runs.runlog import read_table
from prefrl.settings.config import BaselineConfig, VideoConfig, read_run
from prefrl.settings.objects import named_environment
from prefrl.settings.trust import check_trust
from prefrl.words.errors import UserError, blamed_on
from prefrl.words.files import write_whole
from prefrl.words.preference import Preference
from prefrl.words.process import drawing_from


@dataclass(frozen=True)
class SavedRun:
    """What a run left behind; each part is read when first asked for.

    Attributes:
        folder: of the run.
        config: its configuration, every default filled in.
        trusted: whether its store may be asked of the host that the configuration names (`prefrl.settings.trust`).
    """

    folder: Path
    config: BaselineConfig
    trusted: bool = False

    @property
    def task(self) -> Task:
        """The environment as the run had it."""
        return Task.of(self.config)

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
        with looking_at(self.folder, self.trusted) as store:
            return store.answers()[0]

    def export_policy(self, path: Path | str) -> Path:
        """Write the policy as stable-baselines3's own .zip (`prefrl.policies.exported`).

        Raises:
            UserError: it is of a kind that has none, or the file cannot be written.
        """
        from prefrl.policies.exported import export_policy

        return export_policy(self.policy, self.config.learner, self.make_env(), Path(path))

    def make_env(self, **render: Any) -> gym.Env[Any, Any]:
        """One environment as the run had it, with its own reward."""
        return self.task.make(**render)


def film_policy(config: VideoConfig) -> Path:
    """Film what a run's policy does, and say where the film is.

    Raises:
        UserError: no such run or policy, nothing to draw with, or a place that cannot be written to.
    """
    find_display()
    run = load_run(config.run, config.trust)
    out = config.out or config.run / "policy.mp4"
    if out.suffix not in FILMS:
        raise UserError(f"a film ends in {', '.join(FILMS)}, and {str(out)!r} does not: choose one of them.")
    if not 0 < config.seconds <= 600:
        raise UserError(f"seconds={config.seconds} must be more than zero, and 600 at most.")
    with closing(Artist(run.task, config.camera)) as artist, drawing_from(config.seed):
        played = f"{run.config.env} with the policy of {str(run.folder)!r}"
        with blamed_on(played, "`prefrl check` says what is wrong with it"):
            frames, fps = policy_frames(run.policy.act, artist, config.seconds, config.seed)
        made = film(frames, fps, out.suffix)
    try:
        if config.out is None:  # a link of that name in somebody else's folder is replaced, not followed
            write_whole(out, made)
        else:
            out.write_bytes(made)
    except OSError as error:
        raise UserError(f"cannot write {str(out)!r}: {error.strerror}; give another file with --out.") from error
    return out


def load_run(folder: Path | str, trust: bool = False, env: Any = None) -> SavedRun:
    """The run in this folder, which may be somebody else's.

    Args:
        folder: of the run.
        trust: import, and connect to, what the folder names; otherwise only what is installed here, and files.
        env: its environment, where the run was given one as an object.

    Raises:
        UserError: there is no run, or it would have a package imported that is not installed here.
    """
    config = read_run(Path(folder))
    config = config if env is None else replace(config, env=named_environment(env))
    if not trust:
        check_trust(config, Path(folder), "package")
    return SavedRun(Path(folder), config, trust)
