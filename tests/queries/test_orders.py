"""What simulated labelers say of K segments: orders by hand, rates within binomial bounds, and K = 2 as pairs."""

import json
import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from helpers import sentence
from test_oracle import query, rate_bound, segment

from prefrl.queries.oracle import TEACHERS, Oracle, Teacher
from prefrl.queries.orders import effort
from prefrl.words.errors import UserError
from prefrl.words.preference import Preference, Query


def ask(*returns: float, kind: str = "ranking", place: int = 0) -> Query:
    return Query.of([segment([r], offset=place + i) for i, r in enumerate(returns)], kind)


def said(teacher: Teacher, queries: Sequence[Query], seed: int = 0) -> list[Preference]:
    return Oracle([teacher], seed)(queries)


def choices(teacher: Teacher, queries: Sequence[Query], seed: int = 0) -> list[str | None]:
    return [answer.choice for answer in said(teacher, queries, seed)]


def before(answers: Sequence[Preference], one: int, other: int) -> float:
    """Share of the answers in which the one comes before the other."""
    return float(np.mean([answer.ranks[one] < answer.ranks[other] for answer in answers]))


def test_the_plain_oracle_orders_by_true_return_and_calls_ties_equal() -> None:
    asked = [ask(1, 3, 2), ask(2, 1, 2, 0), ask(0, 0, 0), ask(0.1 + 0.2, 0.3, 1)]
    assert choices(TEACHERS["oracle"], asked) == ["1>2>0", "0=2>1>3", "0=1=2", "2>0=1"]
    best = [ask(1, 3, 2, kind="best"), ask(2, 1, 2, 0, kind="best"), ask(0, 0, kind="best")]
    assert choices(TEACHERS["oracle"], best) == ["1", "0=2", "0=1"]


def test_segments_of_other_lengths_are_compared_by_their_sums_and_kinds_may_be_mixed() -> None:
    mixed = [
        Query.of([segment([1, 1, 1]), segment([2.5]), segment([0.5] * 8)], "ranking"),
        query([1], [0]),
        ask(0, 1, kind="best"),
    ]
    assert [(answer.mu, answer.choice) for answer in said(TEACHERS["oracle"], mixed)] == [
        (None, "2>0>1"), (1.0, None), (None, "1"),
    ]  # fmt: skip


def test_a_teacher_of_probabilities_is_asked_about_pairs_alone() -> None:
    with pytest.raises(UserError) as caught:
        said(TEACHERS["soft"], [ask(1, 2, 3)])
    assert "ask pairs" in sentence(caught.value)


def test_two_take_what_a_pair_takes_and_more_take_more() -> None:
    assert effort("ranking", 2) == effort("best", 2) == (1, 1)
    assert effort("ranking", 4) == (2, 4)
    assert effort("best", 4) == (2, 3)
    steady = Teacher("steady", decision_s=2.0, decision_spread=0.0, steps_per_second=10.0)
    four = Query.of([segment([0.0] * 20, offset=i) for i in range(4)], "ranking")
    assert [answer.seconds for answer in said(steady, [query([0] * 20, [0] * 20), four])] == [4.0, 12.0]


@pytest.mark.parametrize("kind", ["ranking", "best"])
def test_two_are_told_apart_as_often_as_a_pair(kind: str) -> None:
    n, teacher = 4000, Teacher("boltzmann", beta=0.5)
    answers = said(teacher, [ask(1, 0, kind=kind)] * n)
    rate = 1 / (1 + math.exp(-0.5))
    assert before(answers, 0, 1) == pytest.approx(rate, abs=rate_bound(rate, n))


def test_any_two_of_a_boltzmann_order_come_as_bradley_and_terry_have_them() -> None:
    n, returns = 4000, (0.0, 1.0, 2.5)
    answers = said(Teacher("boltzmann", beta=1.0), [ask(*returns)] * n)
    for one, other in combinations(range(3), 2):
        rate = 1 / (1 + math.exp(returns[other] - returns[one]))
        assert before(answers, one, other) == pytest.approx(rate, abs=rate_bound(rate, n))


def test_accuracy_is_that_of_every_two() -> None:
    rng = np.random.default_rng(0)
    asked = [ask(*rng.normal(size=4)) for _ in range(1500)]
    answers = said(TEACHERS["right80"], asked)
    right = [
        (answer.ranks[i] < answer.ranks[j]) == (q.segments[i].rewards.sum() > q.segments[j].rewards.sum())
        for q, answer in zip(asked, answers, strict=True)
        for i, j in combinations(range(4), 2)
    ]
    assert np.mean(right) == pytest.approx(0.8, abs=0.02)  # the six of a ranking are not independent


def test_a_mistake_exchanges_two_and_never_leaves_the_best() -> None:
    always = Teacher("always", mistake=1.0)
    for choice in choices(always, [ask(3, 2, 1, 0)] * 50):
        assert choice is not None
        assert sum(int(place) != i for i, place in enumerate(choice.split(">"))) == 2
    assert set(choices(always, [ask(3, 2, 1, 0, kind="best")] * 50)) == {"1", "2", "3"}
    assert choices(always, [ask(0, 0, kind="best"), ask(1, 0)]) == ["0=1", "1>0"]


def test_myopia_weighs_late_steps() -> None:
    early, late, even = segment([3, 0, 0]), segment([0, 0, 2], offset=1), segment([0.8] * 3, offset=2)
    asked = [Query.of([early, late, even], "ranking")]
    assert choices(TEACHERS["oracle"], asked) == ["0>2>1"]
    assert choices(Teacher("myopic", gamma=0.5), asked) == ["1>2>0"]


def test_thresholds_follow_the_policys_return() -> None:
    asked = [ask(10, 9.5, 4, 0), ask(1, 0.5, 0, -1)]
    oracle = Oracle([Teacher("vague", skip=0.2, equal=0.1)], 0)
    oracle.observe_policy(100.0, 10.0)
    assert [answer.choice for answer in oracle(asked)] == ["0=1>2>3", None]


def test_what_is_drawn_goes_on_where_it_was_and_does_not_depend_on_the_batch() -> None:
    rng = np.random.default_rng(1)
    asked = [ask(*rng.normal(size=4)) for _ in range(20)]
    noisy = Teacher("noisy", beta=1.0, mistake=0.2)
    whole = choices(noisy, asked)
    oracle, other = Oracle([noisy], 0), Oracle([noisy], 1)
    first = [answer.choice for answer in oracle(asked[:7])]
    other.load_state_dict(json.loads(json.dumps(oracle.state_dict())))
    assert first + [answer.choice for answer in other(asked[7:])] == whole
