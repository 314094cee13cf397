"""A store in any order of events: asked, leased, answered, taken back, left, reopened as after a crash, copied."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from made import make_query

from prefrl.queries.store import RefusedError, Store
from prefrl.words.preference import Preference

PEOPLE = ("ann", "bob", "cy")
MUS = (0.0, 0.5, 1.0, None)


class StoreMachine(RuleBasedStateMachine):
    """The store beside a list of what must be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "labels.sqlite"
        self.store = Store(self.path)
        self.asked = {}  # query by key, in order
        self.wanted = {}  # people who are still to answer it
        self.given = []  # (key, labeler, mu), in order
        self.taken_back = 0
        self.leases = {}  # (key, person): ticket, as it was last given

    def teardown(self):
        self.store.close()
        self.folder.cleanup()

    @rule(count=st.integers(1, 3), again=st.booleans(), twice=st.booleans())
    def ask(self, count, again, twice):
        queries = [make_query(len(self.asked) + i) for i in range(count)] + list(self.asked.values())[: int(again)]
        self.store.ask(queries, second_opinions=float(twice))
        for query in queries:
            if query.key not in self.asked:
                self.asked[query.key], self.wanted[query.key] = query, 1 + twice

    @precondition(lambda self: self.asked)
    @rule(place=st.integers(0, 50), mu=st.sampled_from(MUS))
    def the_oracle_answers(self, place, mu):
        query = list(self.asked.values())[place % len(self.asked)]
        taken = self.store.add([Preference(query, mu, "oracle", 1.0)])
        is_new = (query.key, "oracle") not in [answer[:2] for answer in self.given]
        assert len(taken) == is_new
        if is_new:
            self._note(query.key, "oracle", mu)

    @rule(person=st.sampled_from(PEOPLE), count=st.integers(1, 2), seconds=st.sampled_from([0.0, 60.0]))
    def lease(self, person, count, seconds):
        answered = {key for key, labeler, _ in self.given if labeler == person}
        for lease in self.store.lease(person, count, seconds):
            assert lease.key in self.asked
            assert lease.key not in answered
            self.leases[lease.key, person] = lease.ticket

    @precondition(lambda self: self.leases)
    @rule(place=st.integers(0, 50), mu=st.sampled_from(MUS))
    def answer(self, place, mu):
        (key, person), ticket = list(self.leases.items())[place % len(self.leases)]
        before = [answer[2] for answer in self.given if answer[:2] == (key, person)]
        if before and before != [mu]:
            with pytest.raises(RefusedError):
                self.store.answer(key, person, ticket, mu, 2.0)
            return
        self.store.answer(key, person, ticket, mu, 2.0)
        if not before:
            self._note(key, person, mu)

    @rule(person=st.sampled_from(PEOPLE))
    def take_back(self, person):
        mine = [answer for answer in self.given if answer[1] == person]
        lease = self.store.withdraw(person, 60.0)
        assert (lease is None) == (not mine)
        if lease is not None:
            assert lease.key == mine[-1][0]
            self.given.remove(mine[-1])
            self.wanted[lease.key] += 1
            self.taken_back += 1
            self.leases[lease.key, person] = lease.ticket

    @rule()
    def crash(self):
        self.store = Store(self.path)  # the other is never closed

    @rule()
    def copy(self):
        with Store(":memory:") as other:
            other.restore(self.store.dump())
            assert [(p.query.key, p.labeler, p.mu) for p in other.answers()[0]] == self.given

    @invariant()
    def holds_what_was_recorded(self):
        counts = self.store.counts()
        assert counts.asked == len(self.asked)
        assert counts.answered == sum(mu is not None for _, _, mu in self.given)
        assert counts.skipped == sum(mu is None for _, _, mu in self.given)
        assert counts.withdrawn == self.taken_back
        assert counts.open == sum(wanted > 0 for wanted in self.wanted.values())
        assert [(p.query.key, p.labeler, p.mu) for p in self.store.answers()[0]] == self.given

    def _note(self, key, labeler, mu):
        self.given.append((key, labeler, mu))
        self.wanted[key] = max(0, self.wanted[key] - 1)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
