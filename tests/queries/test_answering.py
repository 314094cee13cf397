"""What comes back: what the store took, from whomever, and what no longer holds."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import sentence
from made import content, make_preference, make_query

from prefrl.queries.answering import Answering
from prefrl.queries.human import Human
from prefrl.queries.labelers import make_labeler
from prefrl.queries.oracle import make_oracle
from prefrl.queries.store import Store
from prefrl.words.errors import UserError
from prefrl.words.preference import Preference, Query


@pytest.fixture
def store():
    with Store(":memory:") as opened:
        yield opened


def ask(answering, *numbers):
    queries = [make_query(number) for number in numbers]
    answering.store.ask(queries)
    return answering.answer(queries)


def test_an_answer_given_twice_is_handed_over_once_as_it_was_first_given(store):
    def twice(queries):
        return [Preference(q, mu, "echo", 1.0) for q in queries for mu in (0.7, 0.0)]

    answering = Answering("twice", twice, store)
    assert [p.mu for p in ask(answering, 0, 1).given] == [0.7, 0.7]
    assert ask(answering, 0).given == []
    assert store.counts().answered == 2


def test_open_questions_are_counted_for_every_labeler(store):
    waiting = []

    def late(queries):
        back, waiting[:] = list(waiting), [Preference(q, 1.0, "late", 1.0) for q in queries]
        return back

    answering = Answering("late", late, store)
    assert ask(answering, 0, 1, 2).open == 3
    replies = ask(answering, 3)
    assert (len(replies.given), replies.open) == (3, 1)


def test_a_persons_second_opinion_of_what_the_oracle_answered_is_handed_over_too(store):
    answering = Answering("oracle", make_oracle(["oracle"], 0), store)
    queries = [make_query(number) for number in range(3)]
    store.ask(queries, second_opinions=1.0)
    assert len(answering.answer(queries).given) == 3
    lease = store.lease("ann", 1, 60)[0]
    store.answer(lease.key, "ann", lease.ticket, 0.0, 1.0)
    assert [(p.labeler, p.mu) for p in answering.answer([]).given] == [("ann", 0.0)]
    store.withdraw("ann", 60)
    assert answering.answer([]).taken_back == [(lease.key, "ann")]


def test_a_resumed_run_hands_over_an_answer_when_its_question_is_asked_again(store):
    """The store is never cut: it may hold answers to questions that the run, as it was saved, has not asked yet."""
    oracle = make_labeler("oracle", ["right80"], 3)
    answering = Answering("oracle", oracle, store)
    ask(answering, 0, 1)
    state = json.loads(json.dumps(answering.state()))
    unbroken = [content(ask(answering, *numbers).given) for numbers in ((2, 3), (4,))]
    ask(answering, 5)
    again = Answering("oracle", make_labeler("oracle", ["right80"], 99), store)
    again.restore(state)
    first = content(ask(again, 2, 3).given)
    state = json.loads(json.dumps(again.state()))
    assert len(state["held"]) == 2
    once_more = Answering("oracle", make_labeler("oracle", ["right80"], 98), store)
    once_more.restore(state)
    assert [first, content(ask(once_more, 4).given)] == unbroken
    assert once_more.answer([]).given == []


def test_what_is_taken_back_while_it_is_held_is_never_handed_over(store):
    store.ask([make_query(0)])
    answering = Answering("human", Human(store, keep_up=0), store)
    answering.restore({"after": [0, 0], "asked": [], "held": [], "labeler": None})
    lease = store.lease("ann", 1, 60)[0]
    store.answer(lease.key, "ann", lease.ticket, 1.0, 1.0)
    assert answering.answer([]).given == []
    store.withdraw("ann", 60)
    replies = ask(answering, 0)
    assert (replies.given, replies.taken_back) == ([], [])


def test_people_and_their_stand_in_say_their_state(store):
    human = make_labeler("human", ["right80"], 0, store=store, keep_up=0, stand_in_after_s=0)
    answering = Answering("human", human, store)
    ask(answering, 0, 1)
    state = json.loads(json.dumps(answering.state()))
    assert state["labeler"]["asked"] == 2
    other = make_labeler("human", ["right80"], 7, store=store, keep_up=0, stand_in_after_s=0)
    again = Answering("human", other, store)
    again.restore(state)
    assert again.state() == state
    queries = [make_query(number) for number in range(9)]
    assert content(other.stand_in(queries)) == content(human.stand_in(queries))


def test_a_labeler_without_a_state_says_none(store):
    answering = Answering("mine", lambda queries: [], store)
    assert answering.state()["labeler"] is None
    answering.restore(answering.state())


def test_the_policy_is_told_of_where_a_labeler_wants_to_know(store):
    class Curious:
        def observe_policy(self, mean_return, episode_steps):
            self.told = (mean_return, episode_steps)

        def __call__(self, queries):
            return []

    curious = Curious()
    Answering("curious", curious, store).answer([], -3.5, 20.0)
    assert curious.told == (-3.5, 20.0)


def broken(queries):
    raise RuntimeError("the battery is empty")


def turned_round(queries):
    return [Preference(Query(q.right, q.left), 1.0, "mirror", 1.0) for q in queries]


def of_endless_time(queries):
    return [Preference(q, 1.0, "slow", float("inf")) for q in queries]


def nameless(queries):
    return [Preference(q, 1.0, " ", 1.0) for q in queries]


def changed_later(queries):
    answers = [Preference(q, 1.0, "odd", 1.0) for q in queries]
    object.__setattr__(answers[-1], "mu", np.nan)
    return answers


@pytest.mark.parametrize(
    ("labeler", "says"),
    [
        (broken, "failed with RuntimeError: the battery is empty"),
        (turned_round, "a question that it was not asked"),
        (of_endless_time, "must return a list of prefrl.Preference"),
        (nameless, "must return a list of prefrl.Preference"),
        (changed_later, "must return a list of prefrl.Preference"),
        (lambda queries: {1: 2}, "returned {1: 2}"),
    ],
)
def test_a_labeler_that_fails_is_one_sentence_and_what_was_answered_before_is_safe(store, labeler, says):
    state = {"now": lambda queries: [make_preference(0)]}
    answering = Answering("mine", lambda queries: state["now"](queries), store)
    ask(answering, 0)
    state["now"] = labeler
    with pytest.raises(UserError) as caught:
        ask(answering, 1, 2)
    assert says in sentence(caught.value)
    assert store.counts().answered == 1


def test_a_factory_that_fails_is_one_sentence():
    with pytest.raises(UserError, match="failed with ZeroDivisionError") as caught:
        make_labeler(f"{__name__}:hasty", [], 0)
    sentence(caught.value)


def hasty(seed):
    return 1 / 0 + replace(seed)
