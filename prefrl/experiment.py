"""A run's parts, made from its configuration: everything that changes between two phases, and nothing else does.

A checkpoint is the state of these parts, and to resume is to read it back.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from prefrl.experience.clips import scene_reader
from prefrl.experience.recorder import Episode, Recorder, mean_true_return, success_rate
from prefrl.experience.task import Task
from prefrl.policies.methods import better_segments, make_method
from prefrl.queries.answering import Replies
from prefrl.queries.questions import Questions, make_questions
from prefrl.runs import checkpoint as checkpoints
from prefrl.runs.awaited import Awaited
from prefrl.runs.phases import Phase, schedule, warn_of_few, warn_of_often
from prefrl.runs.runlog import Progress, RunLog
from prefrl.runs.stopping import StoppedError, Stopping, in_words
from prefrl.settings.resolved import Resolved
from prefrl.words.preference import Query
from prefrl.words.process import for_small_networks, generators, restore_generators


class Run:
    """One experiment, between two phases.

    Args:
        config: of the run.
        log: of its folder.
        progress: shown to whoever looks on.
        stopping: whether it has been told to stop.
        births: times that the environments have been made before.

    Attributes:
        env: what happened so far, and the environments where it goes on.
        model: what pays the policy.
        policy: what acts and learns.
        questions: what is asked of whom; None where nobody is.
        done: phases that have ended.
        episodes: that finished in the last of them.
    """

    def __init__(self, config: Resolved, log: RunLog, progress: Progress, stopping: Stopping, births: int = 0) -> None:
        self.config, self.log, self.progress, self.stopping = config, log, progress, stopping
        self.done, self.births, self.episodes = 0, births, list[Episode]()
        ask_rng, fit_rng, watch_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(config.seed).spawn(3))
        venv = self._born()
        self.env = Recorder(
            venv,
            config.env,
            config.seed,
            config.keep_steps,
            self._scenes(venv),
            config.same_start,
            config.replay_steps,
        )
        self.model, self.policy = make_method(config, self.env, fit_rng, watch_rng)
        self.questions = make_questions(config, self.model, log.folder, ask_rng, progress.quiet)
        self.schedule = schedule(config, self.policy.rollout_steps)

    @property
    def phases(self) -> Iterator[Phase]:
        """The phases that are left.

        Raises:
            StoppedError: the run was told to stop.
        """
        while self.done < len(self.schedule):
            if self.stopping.asked:
                raise StoppedError(self._stopped())
            yield self.schedule[self.done]

    def begin(self) -> None:
        """Let the untrained policy act, and take in the answers that were there before."""
        with self.log.part("learn"):
            self.policy.explore(self.config.explore_steps // self.config.n_envs)
        if self.questions:
            self.questions.prefer(better_segments(self.config), self.env)
        self.model.begin(self.questions.inherited if self.questions else [])

    def ask(self, phase: Phase) -> list[Query]:
        """Choose the pairs worth asking, and ask them."""
        with self.log.part("ask"):
            return self._questions.ask(self.env, phase.labels)

    def answer(self, queries: list[Query]) -> Replies:
        """What has come back, to these and to earlier questions."""
        with self.log.part("answer"):
            return self._questions.answer(queries, self.episodes)

    def fit(self, phase: Phase, replies: Replies | None = None) -> None:
        """Have the model explain every answer so far."""
        with self.log.part("fit"):
            if replies is not None:
                self.model.take(replies.given, replies.taken_back)
            self.model.fit(phase.live)

    def learn(self, phase: Phase) -> dict[str, float]:
        """Have the policy act and learn; the learner's own measures of it."""
        with self.log.part("learn"):
            measures = self.policy.learn(phase.rollouts, progress=lambda: self.env.steps / self.config.steps)
        with self.log.part("fit"):
            self.model.settle()
        return measures

    def record(self, phase: Phase, measures: dict[str, float]) -> None:
        """Write the phase's row, and show how far the run is."""
        with self.log.part("log"):
            self.episodes = self.env.pop_episodes()
            asked = self.questions.measures() if self.questions else {}
            row = (
                asked
                | {"episodes": len(self.episodes)}
                | ({"success_rate": success_rate(self.episodes)} if self.env.tells_success else {})
                | self.model.measures(sum(phase.rollouts) * self.config.n_envs, self.episodes)
            )
            self.log.write(self.env.steps, row | measures)
            self.progress.update(
                self.env.steps,
                int(row.get("labels_answered", 0)),
                mean_true_return(self.episodes),
                bool(row.get("alarm", 0)),
                (int(row.get("labels_asked", 0)), sum(each.labels for each in self.schedule)),
            )
            if self.questions and self.questions.are_watched:
                self.policy.save(self.log.folder / "policy.safetensors")
        self.done = phase.number + 1

    def checkpoint(self, phase: Phase) -> None:
        """Keep the run's state, and make the environments anew, where the schedule says so."""
        if phase.is_checkpoint:
            drawn = generators()
            checkpoints.write(self.log.folder, self.env.steps, self.state() | {"generators": drawn})
            self.births += 1
            venv = self._born()
            self.env.reborn(venv, self._scenes(venv))
            self.policy.begin_anew()
            restore_generators(drawn)  # making environments may have drawn from them; a resumed run has none to make

    def state(self) -> dict[str, Any]:
        """Everything that a later phase depends on."""
        return {
            "done": self.done,
            "births": self.births + 1,
            "episodes": self.episodes,
            "env": self.env.state(),
            "model": self.model.state(),
            "policy": self.policy.state(),
            "questions": self.questions.state() if self.questions else None,
        }

    def restore(self, state: checkpoints.State) -> None:
        """Go on from what `state` returned."""
        with checkpoints.of_this_version(self.log.folder):
            self.done, self.episodes = state["done"], [Episode(*episode) for episode in state["episodes"]]
            self.env.restore(state["env"])
            self.model.restore(state["model"])
            self.policy.restore(state["policy"])
            if self.questions:
                self.questions.restore(state["questions"])
            restore_generators(state["generators"])

    def finish(self) -> None:
        """Say that the run has come to its end, once every answer is recorded."""
        if self.questions:
            self.questions.settle()
        self.log.finish()

    def save(self) -> None:
        """Keep what was learned, whatever has stopped the run."""
        self.model.save(self.log.folder)
        self.policy.save(self.log.folder / "policy.safetensors")

    def close(self) -> None:
        """Free the environments, the store, and what runs beside."""
        self.env.close()
        self.model.close()
        if self.questions:
            self.questions.close()

    @property
    def _questions(self) -> Questions:
        assert self.questions is not None, "nobody is asked in this run"
        return self.questions

    def _born(self) -> VecEnv:
        """The environments, made anew: their seeds have nothing in common with those of another birth or run."""
        drawn = {"render_mode": "rgb_array"} if self.config.is_drawn else {}
        seed = int(np.random.SeedSequence((self.config.seed, self.births)).generate_state(1)[0]) >> 1
        return Task.of(self.config).make_vec(self.config.n_envs, seed, **drawn)

    def _scenes(self, venv: VecEnv) -> Any:
        return scene_reader(venv) if self.config.is_drawn else None

    def _stopped(self) -> str:
        kept = [phase.number for phase in self.schedule[: self.done] if phase.is_checkpoint][-1:]
        again = self.schedule[kept[0] + 1 if kept else 0 : self.done]
        redone = sum(sum(p.rollouts) for p in again) * self.config.n_envs + (0 if kept else self.config.explore_steps)
        how = f"`prefrl train --resume {self.log.folder}` goes on" if kept else "it has no checkpoint to go on from"
        return (
            f"{str(self.log.folder)!r} was stopped after {self.env.steps:,} of {self.config.steps:,} steps; labels, "
            f"reward and policy are kept: {how}, and {redone:,} steps since the last checkpoint will be taken again."
        )


@contextmanager
def opened(config: Resolved, quiet: bool = False, resume: bool = False) -> Iterator[Run]:
    """A run that is ready for its next phase; whatever stops it, what it has learned is kept.

    Args:
        config: of the run.
        quiet: show no progress.
        resume: go on from the newest checkpoint in the run's folder.

    Raises:
        UserError: the run cannot begin, or there is nothing to go on from.
    """
    for_small_networks()
    if not quiet:
        print("" if resume else f"{config.taken}\n", end="", file=sys.stderr)
        warn_of_often(config)
    steps, state, damaged = checkpoints.newest(config.out) if resume else (0, None, [])
    for path in damaged:
        print(f"{str(path)!r} is damaged: going on from the checkpoint before it.", file=sys.stderr)
    with ExitStack() as stack:
        log = stack.enter_context(RunLog(config, steps if resume else None))
        progress = stack.enter_context(Progress(log.folder.name, config.steps, quiet, steps))
        stopping = stack.enter_context(Stopping(quiet))
        run = Run(config, log, progress, stopping, state["births"] if state else 0)
        if not quiet:
            warn_of_few(config, len(run.schedule), run.policy.rollout_steps)
        stack.callback(run.close)
        stack.callback(run.save)
        stack.enter_context(in_words(config))
        stack.enter_context(Awaited(log, lambda: run.env.steps, quiet, config.steps))
        if state:
            run.restore(state)
        else:
            run.begin()
        yield run
        run.finish()
