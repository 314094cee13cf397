"""Simulated labelers: perfect, or irrational in stated ways, reading the environment's true reward.

The family of irrational teachers is that of B-Pref (Lee et al. 2021, arXiv 2111.03026): rationality, myopia,
mistakes, skipping and indifference. The plain oracle is the paper's (section 3.1): the higher true return over the
clip wins, and equal returns are called equal. Noise can also be given as the accuracy it should lead to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from prefrl.queries.orders import choices, drawn_orders, effort, with_mistakes
from prefrl.words.errors import UserError
from prefrl.words.lookup import did_you_mean
from prefrl.words.preference import Preference, Query, Segment

Array = NDArray[Any]

POOL = 100
"""Newest queries whose return gaps calibrate a target accuracy; a larger batch counts whole."""


@dataclass(frozen=True)
class Teacher:
    """How one simulated annotator answers.

    Attributes:
        name: written into every answer.
        beta: rationality: left wins with probability sigma(beta * (return left - return right)). inf always picks
            the better segment and calls exact ties equal; a finite beta draws, so an exact tie is a coin flip and
            never "equal", as in B-Pref; 0 is coin flips throughout.
        gamma: myopia: the reward of step t of T weighs gamma^(T-1-t) in the returns that are compared.
        mistake: probability that a decided answer is turned round; "equal" cannot be. In an order of K two segments,
            drawn at random, change places; of the best, it and another.
        soft: 1 has the answer that would be drawn said as what it is on average: mu is the probability that left wins,
            mistakes included, so that nothing is noise and the answers are the likelihood's own.
        skip: share of the policy's average return, over the length of a segment, that the better of the two must
            exceed for the question to be answered at all. See `undecided` for negative returns.
        equal: share of the policy's average return below which a difference is called equal; in an order of K, a
            difference between neighbours.
        accuracy: None, or the probability of being right, averaged over the pairs that get a decided answer. Held by
            calibrating beta to the gaps actually asked about, so that it means the same on every environment and hard
            pairs are mistaken more often than easy ones. An exact tie is called equal at any accuracy.
        decision_s: median seconds of deciding, after both segments have played, side by side. With a clip of 1.5
            seconds the default gives the 3 to 5 seconds an answer took the paper's contractors (section 2.2.2). Of K
            segments see `prefrl.queries.orders.effort`.
        decision_spread: standard deviation of the logarithm of the deciding time, which is lognormal.
        steps_per_second: rate at which segments are played.
    """

    name: str
    beta: float = math.inf
    gamma: float = 1.0
    mistake: float = 0.0
    soft: float = 0.0
    skip: float = 0.0
    equal: float = 0.0
    accuracy: float | None = None
    decision_s: float = 2.5
    decision_spread: float = 0.4
    steps_per_second: float = 20.0

    def __post_init__(self) -> None:
        largest = np.finfo(np.float64).max
        allowed = {
            "beta": (0.0, math.inf, "from 0 (coin flips) to inf (always the better)"),
            "gamma": (0.0, 1.0, "between 0 and 1"),
            "mistake": (0.0, 1.0, "a probability between 0 and 1"),
            "soft": (0.0, 1.0, "1 (says how likely left is to win) or 0 (draws an answer)"),
            "skip": (0.0, 1.0, "a share between 0 and 1"),
            "equal": (0.0, 1.0, "a share between 0 and 1"),
            "accuracy": (0.5, 1.0, "between 0.5 (coin flips) and 1 (always right)"),
            "decision_s": (0.0, largest, "a finite number of seconds, 0 or more"),
            "decision_spread": (0.0, 5.0, "between 0 and 5"),
            "steps_per_second": (np.finfo(np.float64).tiny, largest, "finite and above 0"),
        }
        for setting, (low, high, words) in allowed.items():
            value = getattr(self, setting)
            if value is not None and not low <= value <= high:
                raise UserError(f"teacher {self.name!r} sets {setting}={value:g}, but {setting} is {words}.")
        if self.soft not in (0, 1):
            raise UserError(f"teacher {self.name!r} sets soft={self.soft:g}, but soft is {allowed['soft'][2]}.")
        if self.accuracy is not None:
            for setting, neutral in (("beta", math.inf), ("gamma", 1.0), ("mistake", 0.0)):
                if getattr(self, setting) != neutral:
                    raise UserError(
                        f"teacher {self.name!r} sets both accuracy={self.accuracy:g} and "
                        f"{setting}={getattr(self, setting):g}, and each would decide how often it is right: "
                        "give one of the two."
                    )


TEACHERS: dict[str, Teacher] = {
    teacher.name: teacher
    for teacher in (
        Teacher("oracle"),
        Teacher("stochastic", beta=1.0),
        Teacher("soft", beta=1.0, soft=1.0),
        Teacher("mistake", mistake=0.1),
        Teacher("skip", skip=0.1),
        Teacher("equal", equal=0.1),
        Teacher("myopic", gamma=0.9),
        Teacher("right95", accuracy=0.95),
        Teacher("right90", accuracy=0.9),
        Teacher("right80", accuracy=0.8),
        Teacher("right70", accuracy=0.7),
    )
}
"""Teachers by name: B-Pref's six at B-Pref's settings, one that says chances, and four by how often they are right."""


def parse_teacher(text: str) -> Teacher:
    """A teacher as written on the command line.

    Args:
        text: a name ("mistake"), settings ("beta=1,gamma=0.9"), or a name and settings that replace its own
            ("mistake:mistake=0.2"). The teacher is named by this text, or by a setting name=... .

    Raises:
        UserError: an unknown name or setting, a value that is not a number, or one that is out of range.
    """
    text = "".join(text.split())
    has_settings = ":" in text or "=" in text
    preset, _, rest = text.rpartition(":") if has_settings else (text, "", "")
    if preset not in TEACHERS and (preset or not has_settings):
        raise UserError(
            f"unknown teacher {text!r}: it is one of {', '.join(TEACHERS)}, or settings such as beta=1,gamma=0.9."
            f"{did_you_mean(preset, TEACHERS)}"
        )
    known = [field.name for field in fields(Teacher)]
    start = TEACHERS.get(preset, Teacher(text))
    settings: dict[str, Any] = {name: getattr(start, name) for name in known} | {"name": text}
    given: set[str] = set()
    for part in rest.split(",") if has_settings else ():
        key, _, value = part.partition("=")
        if key not in known:
            raise UserError(
                f"teacher {text!r} has no setting {key!r}: settings are {', '.join(known)}.{did_you_mean(key, known)}"
            )
        if key in given:
            raise UserError(f"teacher {text!r} sets {key} twice: give it once.")
        given.add(key)
        try:
            settings[key] = value if key == "name" and value else float(value)
        except ValueError:
            wanted = "name=ann" if key == "name" else f"{key}=0.9"
            raise UserError(f"teacher {text!r} sets {key} to {value!r}: write it as in {wanted}.") from None
    return Teacher(**settings)


def undecided(
    skip: Array | float, equal: Array | float, best: Array, gap: Array, average: Array
) -> tuple[Array, Array]:
    """Which pairs are skipped, and which are called equal, by B-Pref's adaptive thresholds, each scaled once.

        average = (mean true return of an episode) * (steps of a segment) / (steps of an episode)
        skip  when  max(R_left, R_right) <= skip * average
        equal when  |R_left - R_right|    < equal * |average|

    B-Pref assumes positive returns, where the first line says "neither segment is better than (1 - skip) * average
    short of the average". The same allowance, |average| * (1 - skip), below a negative average is
    (2 - skip) * average, which is the threshold then: neither multiple that ignores the sign would do, since every
    segment's return is negative in an environment such as Pendulum, and all would be skipped.

    Args:
        skip: the teacher's share; 0 skips nothing. One number, or one for each pair.
        equal: the teacher's share; 0 equates nothing.
        best: (n,) larger of the two undiscounted returns.
        gap: (n,) their difference; its sign does not matter.
        average: (n,) the policy's average return over as many steps as the segments have.

    Returns:
        Two masks, (n,).
    """
    least = np.where(average >= 0, skip, 2 - np.asarray(skip)) * average
    skipped = (np.asarray(skip) > 0) & (best <= least)
    alike = (np.asarray(equal) > 0) & (np.abs(gap) < equal * np.abs(average))
    return skipped, alike


def calibrated_beta(gaps: Array, accuracy: float) -> float:
    """The rationality at which a Boltzmann teacher is right with probability `accuracy`, averaged over pairs.

    Solves mean_i sigma(beta * |gap_i|) = accuracy; the left side rises from 1/2 to 1 with beta.

    Args:
        gaps: (n,) differences in return; zeros, which nobody can be right about, are left out.
        accuracy: between 0.5 (beta 0) and 1 (beta inf).
    """
    log_gaps = np.log(np.abs(gaps[gaps != 0]))
    if accuracy == 1 or len(log_gaps) == 0:
        return math.inf
    if accuracy == 0.5:
        return 0.0

    def excess(log_beta: float) -> float:
        return float(scipy.special.expit(np.exp(np.minimum(log_beta + log_gaps, 50.0))).mean()) - accuracy

    # Were every gap as wide as the widest, log(logit / gap) would be the answer; likewise for the narrowest.
    if_all_alike = math.log(scipy.special.logit(accuracy)) - log_gaps
    return math.exp(scipy.optimize.brentq(excess, if_all_alike.min() - 1, if_all_alike.max() + 1))


class Oracle:
    """Annotators who share the questions: each query goes to one of them, drawn at random, and is answered at once.

    Thresholds of skip and equal follow the policy's true return as last reported to `observe_policy`. Before the
    first report the average reward of the segments asked about stands in for it.

    A target accuracy is calibrated afresh at every call, on the newest `POOL` queries including the ones being
    answered. Any number is enough: the calibration does not depend on the order of its pairs, so that if they are
    alike in distribution each is answered rightly with the probability asked for, on average, from the first query
    on. With few pairs all are about equally hard; with more, errors gather on the hard ones.

    Args:
        teachers: one or more, with different names.
        seed: of the generator that everything is drawn from.

    Raises:
        UserError: no teacher, or two of the same name.
    """

    def __init__(self, teachers: Sequence[Teacher], seed: int) -> None:
        names = [teacher.name for teacher in teachers]
        if not names or len(set(names)) < len(names):
            raise UserError(
                f"the oracle was given the teachers {names}: give at least one, each with a name of its own, as in "
                "name=ann,accuracy=0.9 name=bob,accuracy=0.9."
            )
        self.teachers = tuple(teachers)
        self._rng = np.random.default_rng(seed)
        self._reward_per_step: float | None = None
        self._pool = np.empty((0, 3))  # best return, gap, steps; undiscounted
        columns = (
            "beta",
            "gamma",
            "mistake",
            "soft",
            "skip",
            "equal",
            "decision_s",
            "decision_spread",
            "steps_per_second",
        )
        self._settings = np.array([[getattr(teacher, name) for name in columns] for teacher in self.teachers])

    def observe_policy(self, mean_return: float, episode_steps: float) -> None:
        """Note how the current policy does, to scale the thresholds of skip and equal by.

        Args:
            mean_return: mean true return of its latest finished episodes; nan, a mean over none, changes nothing.
            episode_steps: mean length of those episodes in steps.

        Raises:
            ValueError: an infinite return, or episodes without steps.
        """
        if math.isnan(mean_return):
            return
        if math.isinf(mean_return) or not 0 < episode_steps < math.inf:
            raise ValueError(f"no policy returns {mean_return} over {episode_steps} steps: give finite means")
        self._reward_per_step = float(mean_return / episode_steps)

    def __call__(self, queries: Sequence[Query]) -> list[Preference]:
        """Answers to all queries, in order: skipping, comparing (with myopia and beta), mistakes, then indifference.

        Raises:
            UserError: a true reward is not finite.
        """
        answers: list[Preference] = []
        for (kind, _), alike in groupby(queries, lambda query: (query.kind, len(query.segments))):
            answers += (self._about_pairs if kind == "pair" else self._about_sets)(list(alike))
        return answers

    def _about_pairs(self, queries: Sequence[Query]) -> list[Preference]:
        segments = [query.left for query in queries] + [query.right for query in queries]
        rewards = _true_rewards(segments)
        lengths = np.array([len(segment) for segment in segments])
        draws = self._rng.random((len(queries), 4))  # a row a query, so that asking in two batches draws the same
        annotator = (draws[:, 0] * len(self.teachers)).astype(np.intp)
        beta, gamma, mistake, soft, skip, equal, decision_s, spread, steps_per_second = self._settings[annotator].T

        returns, true_gap = _compare(rewards, lengths)
        steps_to_go = np.repeat(np.cumsum(lengths), lengths) - 1 - np.arange(len(rewards))
        _, gap = _compare(rewards * np.repeat(np.tile(gamma, 2), lengths) ** steps_to_go, lengths)
        best, steps = returns.max(axis=0), lengths.reshape(2, -1)
        reward_per_step = rewards.mean() if self._reward_per_step is None else self._reward_per_step
        skipped, alike = undecided(skip, equal, best, true_gap, reward_per_step * steps.mean(axis=0))

        pool = np.concatenate([self._pool, np.stack([best, true_gap, steps.mean(axis=0)], axis=1)])
        self._pool = pool[-max(POOL, len(queries)) :]
        ties_are_equal = np.isinf(beta)
        for index, teacher in enumerate(self.teachers):
            if teacher.accuracy is not None:
                beta[annotator == index] = self._beta(teacher, teacher.accuracy, reward_per_step)

        scaled_gap = np.multiply(beta, gap, out=np.zeros_like(gap), where=gap != 0)  # inf * 0 is a tie, not nan
        chance = scipy.special.expit(scaled_gap)
        mu = (draws[:, 1] < chance).astype(np.float64)
        mu[ties_are_equal & (gap == 0)] = 0.5
        mu = np.where(draws[:, 2] < mistake, 1 - mu, mu)
        mu = np.where(soft == 1, (1 - mistake) * chance + mistake * (1 - chance), mu)
        mu[alike] = 0.5
        seconds = steps.max(axis=0) / steps_per_second + decision_s * np.exp(spread * scipy.special.ndtri(draws[:, 3]))
        return [
            Preference(query, None if skip_it else answer, self.teachers[who].name, time)
            for query, skip_it, answer, who, time in zip(
                queries, skipped.tolist(), mu.tolist(), annotator.tolist(), seconds.tolist(), strict=True
            )
        ]

    def _about_sets(self, queries: Sequence[Query]) -> list[Preference]:
        """Of one kind, each about K segments; every two of them count where a target accuracy is calibrated."""
        kind, n, k = queries[0].kind, len(queries), len(queries[0].segments)
        rewards = _true_rewards([segment for query in queries for segment in query.segments])
        lengths = np.array([len(segment) for query in queries for segment in query.segments])
        draws = self._rng.random((n, k + 4))
        annotator = (draws[:, 0] * len(self.teachers)).astype(np.intp)
        beta, gamma, mistake, soft, skip, equal, decision_s, spread, steps_per_second = self._settings[annotator].T
        if soft.any():
            raise UserError(
                f"teacher {next(t.name for t in self.teachers if t.soft)!r} says how likely the left of two is to win, "
                f"and was asked about {k} at a time: ask pairs, or take another teacher."
            )
        steps_to_go = np.repeat(np.cumsum(lengths), lengths) - 1 - np.arange(len(rewards))
        weights = np.repeat(np.repeat(gamma, k), lengths) ** steps_to_go
        returns, error = (part.reshape(n, k) for part in _returns(rewards, lengths))
        felt, felt_error = (part.reshape(n, k) for part in _returns(rewards * weights, lengths))

        best, steps = returns.max(axis=1), lengths.reshape(n, k)
        reward_per_step = rewards.mean() if self._reward_per_step is None else self._reward_per_step
        average = reward_per_step * steps.mean(axis=1)
        one, other = np.triu_indices(k, 1)
        gaps = _gap(returns[:, one], returns[:, other], error[:, one] + error[:, other])
        new = np.stack([np.repeat(part, len(one)) for part in (best, best, steps.mean(axis=1))], axis=1)
        new[:, 1] = gaps.ravel()
        self._pool = np.concatenate([self._pool, new])[-max(POOL, len(new)) :]
        ties_are_equal = np.isinf(beta)
        for index, teacher in enumerate(self.teachers):
            if teacher.accuracy is not None:
                beta[annotator == index] = self._beta(teacher, teacher.accuracy, reward_per_step)

        order = with_mistakes(drawn_orders(felt, beta, draws[:, 4:]), kind, draws[:, 1] < mistake, draws[:, 2])
        true_gap, felt_gap = (
            _gap(left[:, :-1], left[:, 1:], wrong[:, :-1] + wrong[:, 1:])
            for left, wrong in (
                (np.take_along_axis(values, order, 1), np.take_along_axis(errors, order, 1))
                for values, errors in ((returns, error), (felt, felt_error))
            )
        )
        skipped, alike = undecided(skip[:, None], equal[:, None], best[:, None], true_gap, average[:, None])
        are_equal = alike | (ties_are_equal[:, None] & (felt_gap == 0))
        watching, decisions = effort(kind, k)
        deciding = decisions * decision_s * np.exp(spread * scipy.special.ndtri(draws[:, 3]))
        seconds = watching * steps.max(axis=1) / steps_per_second + deciding
        return [
            Preference(query, None, self.teachers[who].name, time, choice=None if skip_it else choice)
            for query, skip_it, choice, who, time in zip(
                queries,
                skipped[:, 0].tolist(),
                choices(order, are_equal, kind),
                annotator.tolist(),
                seconds.tolist(),
                strict=True,
            )
        ]

    def _beta(self, teacher: Teacher, accuracy: float, reward_per_step: float) -> float:
        best, gap, steps = self._pool.T
        skipped, alike = undecided(teacher.skip, teacher.equal, best, gap, reward_per_step * steps)
        return calibrated_beta(gap[~skipped & ~alike], accuracy)

    def state_dict(self) -> dict[str, Any]:
        """What later answers depend on, as JSON values."""
        return {
            "rng": self._rng.bit_generator.state,
            "reward_per_step": self._reward_per_step,
            "pool": self._pool.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._rng.bit_generator.state = state["rng"]
        self._reward_per_step = state["reward_per_step"]
        self._pool = np.array(state["pool"], dtype=np.float64).reshape(-1, 3)


def make_oracle(teachers: Sequence[str], seed: int) -> Oracle:
    """An oracle of the teachers that these texts describe, as `parse_teacher` reads them."""
    return Oracle([parse_teacher(text) for text in teachers], seed)


def _true_rewards(segments: Sequence[Segment]) -> Array:
    """The raw rewards of all segments, end to end, or a sentence about the first that is not finite."""
    rewards = np.concatenate([segment.rewards for segment in segments], dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(rewards))
    if len(bad):
        ends = np.cumsum([len(segment) for segment in segments])
        index = int(np.searchsorted(ends, bad[0], side="right"))
        segment, step = segments[index], int(bad[0] - ends[index] + len(segments[index]))
        raise UserError(
            f"environment {segment.env_id!r} gave the true reward {rewards[bad[0]]} at step {segment.offset + step} of "
            f"episode {segment.episode} in parallel environment {segment.env_index}, and the oracle compares finite "
            "rewards only: make the environment's reward finite."
        )
    return rewards


def _compare(rewards: Array, lengths: Array) -> tuple[Array, Array]:
    """Returns (2, n) of the left and the right segments, and their gaps (n,), exactly 0 where rounding hides the sign.

    The same rewards in another order may add up differently in the last digits; T additions of rounded numbers are
    off by at most T * eps / 2 * sum |r|, and a gap within both segments' error is a tie.
    """
    returns, error = (part.reshape(2, -1) for part in _returns(rewards, lengths))
    return returns, _gap(returns[0], returns[1], error.sum(axis=0))


def _returns(rewards: Array, lengths: Array) -> tuple[Array, Array]:
    """Sums over segments that lie end to end, and how far off each may be."""
    starts = np.cumsum(lengths) - lengths
    returns = np.add.reduceat(rewards, starts)
    return returns, lengths * np.add.reduceat(np.abs(rewards), starts) * np.finfo(np.float64).eps / 2


def _gap(one: Array, other: Array, error: Array) -> Array:
    gap = one - other
    return np.where(np.abs(gap) <= error, 0.0, gap)
