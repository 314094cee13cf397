"""A run's questions: which are asked, who answers them, where both are kept, and how many there were of each."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.experience.recorder import Episode, Recorder, mean_steps, mean_true_return
from prefrl.experience.task import Task
from prefrl.queries.answering import Answering, Replies
from prefrl.queries.asker import Asker
from prefrl.queries.exchange import inherit
from prefrl.queries.labelers import make_labeler
from prefrl.queries.patient_store import PatientStore
from prefrl.queries.rows import MOST_ITEMS
from prefrl.queries.strategies import find_strategy
from prefrl.rewards.models import LearnedModel, Model
from prefrl.settings.config import USUAL_K, TrainConfig
from prefrl.settings.resolved import Resolved, ResolvedTrain
from prefrl.words.errors import UserError
from prefrl.words.lookup import lookup
from prefrl.words.preference import Occasion, Preference, Query, Segment, comparisons
from prefrl.words.schedules import SCHEDULES, constant, in_sessions, label_counts

MOST_KEYS = 9  # of a keyboard
DEMONSTRATION = "demonstration"  # who answered, where a demonstration is better by its being one


class Questions:
    """Asks the questions of each phase, hands over what came back, and counts.

    Args:
        config: of the run.
        model: fitted to the answers; its doubts choose the questions.
        folder: of the run, where its store is unless the configuration names another.
        rng: draws candidates.
        quiet: tell nobody where to answer.
    """

    def __init__(
        self, config: ResolvedTrain, model: LearnedModel, folder: Path, rng: np.random.Generator, quiet: bool
    ) -> None:
        self.config, self.model = config, model
        self.store = PatientStore(config.store or folder / "labels.sqlite", folder)
        if not self.store.counts().asked:  # a run that goes on has them already
            inherit(self.store, config.labels_from, config.env, config.segment_steps)
        self.inherited = self.store.answers()[0]
        self.are_watched = config.labeler == "human"  # people like to see the policy that they teach
        if self.are_watched and not quiet:
            print(f"people answer at `prefrl label {folder}`", file=sys.stderr)
        labeler = make_labeler(
            config.labeler,
            config.teachers,
            config.seed,
            store=self.store,
            patience_s=config.patience,
            keep_up=config.keep_up,
            slowdown=config.slowdown,
            stand_in_after_s=config.oracle_after,
            constitution=config.constitution,
            cache=folder / "judge",
            task=Task.of(config),
        )
        self.answering = Answering(config.labeler, labeler, self.store)
        strategy = find_strategy(config.strategy)
        self.asker = Asker(strategy, config.candidates, config.segment_steps, rng, config.question, config.k)
        self.asker.leave_out(self.store.occasions())  # of other runs
        self.asked, self.answered, self.open, self.seconds = 0, 0, 0, 0.0

    def prefer(self, better: Sequence[Segment], env: Recorder) -> None:
        """Take each of these to be better than a segment of what the policy has done: nobody is asked.

        The first answers of a run that has demonstrations (Ibarz et al. 2018, arXiv 1811.06521: automatic annotations).
        They are recorded as others are, and are none of the labels that are asked for.

        Raises:
            UserError: so little has happened that there are not so many different questions.
        """
        if not better:
            return
        rng = np.random.default_rng((self.config.seed, len(better)))
        drawn = env.pairs(self.config.candidates * len(better), self.config.segment_steps, rng)
        kept: dict[tuple[Occasion, Occasion], int] = {}  # no two are the same question
        for place, (usual, _) in enumerate(drawn.occasions()):
            if len(kept) < len(better):
                kept.setdefault((better[len(kept)].occasion, usual), place)
        if len(kept) < len(better):
            raise UserError(
                f"demonstration_labels={len(better)} are more pairs than the {env.steps:,} steps of {env.env_id} taken "
                f"before training have: ask for fewer, or take more steps before (explore_steps)."
            )
        own = [pair.left for pair in drawn[np.array([*kept.values()])].queries()]
        is_left = rng.random(len(better)) < 0.5
        self.store.add(
            [
                Preference(Query(good, usual) if left else Query(usual, good), float(left), DEMONSTRATION, 0.0)
                for good, usual, left in zip(better, own, is_left, strict=True)
            ]
        )
        self.inherited = self.store.answers()[0]

    def ask(self, env: Recorder, count: int) -> list[Query]:
        """So many pairs, or sets of K, those most worth asking of all candidates; of an unfitted r-hat, any."""
        queries = self.asker.ask(env, self.model.r_hat, count, self.model.fitted)
        self.store.ask(queries, self.config.second_opinions)
        self.asked += len(queries)
        return queries

    def answer(self, queries: Sequence[Query], episodes: Sequence[Episode]) -> Replies:
        """What has come back, to these and to earlier questions; who answers is told how the policy does."""
        replies = self.answering.answer(queries, mean_true_return(episodes), mean_steps(episodes))
        self.answered += sum(answer.is_decided for answer in replies.given) - len(replies.taken_back)
        self.seconds += sum(answer.seconds for answer in replies.given)
        self.open = replies.open
        return replies

    def measures(self) -> dict[str, float]:
        """Columns of metrics.csv: questions asked, answered and open so far, and what answering took.

        Where an answer compares more than two segments, comparisons say how many pairs were compared.
        """
        counts = {
            "labels_asked": self.asked,
            "labels_answered": self.answered,
            "labels_open": self.open,
            "labelling_seconds": self.seconds,
        }
        kind, k = self.config.question, self.config.k
        more = {} if kind == "pair" else {"comparisons": self.answered * comparisons(kind, k)}
        return counts | more | self.answering.measures()

    def state(self) -> dict[str, Any]:
        """What was asked, of whom and how they answer, and the counts."""
        return {
            "asker": self.asker.state(),
            "answering": self.answering.state(),
            "asked": self.asked,
            "answered": self.answered,
            "seconds": self.seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.asker.restore(state["asker"])
        self.answering.restore(state["answering"])
        self.asked, self.answered, self.seconds = state["asked"], state["answered"], state["seconds"]

    def settle(self) -> None:
        """See that every answer is recorded, before the run may say that it has finished.

        Raises:
            UserError: the store did not come back; what could not be recorded is in the run's folder.
        """
        self.store.settle()

    def close(self) -> None:
        """Close the store."""
        self.store.close()


def make_questions(
    config: Resolved, model: Model, folder: Path, rng: np.random.Generator, quiet: bool
) -> Questions | None:
    """The questions that a run's configuration asks for; None where the reward is not learned."""
    if isinstance(config, ResolvedTrain) and isinstance(model, LearnedModel):
        return Questions(config, model, folder, rng, quiet)
    return None


def segments_in(config: TrainConfig, direct: bool = False) -> int:
    """How many segments a question of this run shows, K; 2 of a pair.

    Args:
        config: of the run.
        direct: whether its method is one of those that take answers about pairs alone.

    Raises:
        UserError: too few segments or too many, or options that the question leaves without a use.
    """
    k = config.k or (2 if config.question == "pair" else USUAL_K)
    most = MOST_KEYS if config.labeler == "human" else MOST_ITEMS
    if config.k is not None and not 2 <= config.k <= most:
        raise UserError(f"k={config.k} segments cannot be put in order: a ranking shows from 2 to {most}.")
    if config.question == "pair" and k != 2:
        raise UserError(f"k={k} segments are no pair: ask with --question ranking, or --question best.")
    if (direct or config.labeler == "judge") and (config.question != "pair" or config.margin):
        raise UserError(
            f"{f'method {config.method}' if direct else 'a judge'} knows pairs alone, and nothing of how much better "
            f"one is: leave out --question {config.question} and margin, or take another."
        )
    if config.question != "ranking" and config.likelihood != TrainConfig.likelihood:
        raise UserError(
            f"likelihood={config.likelihood} says what a ranking tells, and --question {config.question} asks for "
            f"none: leave it out, or ask with --question ranking."
        )
    if not 0 <= config.margin < math.inf:
        raise UserError(f"margin={config.margin} must be zero (nobody is asked how much better) or more.")
    if config.margin and (config.question == "ranking" or (config.labeler == "oracle" and not config.labels_from)):
        who = "a ranking says by its order" if config.question == "ranking" else "the oracle never says"
        raise UserError(
            f"margin={config.margin} is of what is called much better, and {who} how much better one is: leave it out, "
            f"or ask people, with --labeler human, for pairs or the best."
        )
    return k


def labels_of(config: Resolved, phases: int) -> tuple[list[int], list[bool]]:
    """How many labels are asked as each phase begins, and whether the reward learns in it."""
    if not isinstance(config, ResolvedTrain):
        return [0] * phases, [True] * phases
    live = 0 if config.reward_from else max(1, round(config.freeze_reward_at * phases))
    if config.rounds and live:
        begins = np.linspace(0, live, min(config.rounds, live), endpoint=False).astype(int)
        labels = np.zeros(phases, np.int64)
        labels[begins] = label_counts(config.labels, len(begins), 1 / len(begins), constant)
        return labels.tolist(), np.isin(np.arange(phases), begins).tolist()
    schedule = lookup("schedule", config.schedule, SCHEDULES)
    if config.session_labels is not None:
        asked = in_sessions(config.labels, live, config.session_labels)
    else:
        asked = label_counts(config.labels, live, config.initial_labels, schedule) if live else []
    return asked + [0] * (phases - live), [number < live for number in range(phases)]
