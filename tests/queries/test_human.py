"""People in the loop: what the labeler hands over and when, and training that goes on around them."""

import csv
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import sentence
from made import make_preference, make_query

import prefrl
from prefrl.queries import patient_store
from prefrl.queries.answering import Answering
from prefrl.queries.human import Human
from prefrl.queries.labelers import make_labeler
from prefrl.queries.store import Store
from prefrl.rewards.fit import Fit
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.runs.resolve import resolve
from prefrl.settings.config import TrainConfig
from prefrl.studies.batch import is_done
from prefrl.words.errors import UserError
from prefrl.words.preference import Preference


class Clock:
    """Time that passes only by waiting; what happens at which second is said beforehand."""

    def __init__(self):
        self.now, self.plans = 0.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        for when, act in [plan for plan in self.plans if plan[0] <= self.now]:
            self.plans.remove((when, act))
            act()


@pytest.fixture
def store():
    with Store(":memory:") as opened:
        yield opened


def ask(people, *numbers):
    queries = [make_query(number) for number in numbers]
    people.store.ask(queries)
    return people.answer(queries).given


def people_of(store, **settings):
    return Answering("human", Human(store, **settings), store)


def given(preferences):
    return [(p.query.key, p.mu, p.labeler) for p in preferences]


def test_answers_come_when_they_come(store):
    clock = Clock()
    people = people_of(store, keep_up=0, clock=clock, sleep=clock.sleep)
    assert ask(people, 0, 1) == []
    assert clock.now == 0  # no patience, no waiting
    store.add([make_preference(1, "ann")])
    assert given(ask(people, 2)) == given([make_preference(1, "ann")])
    replies = people.answer([])
    assert (replies.given, replies.taken_back, replies.open) == ([], [], 2)


def test_what_was_there_before_is_no_news(store):
    store.add([make_preference(0)])
    assert people_of(store, keep_up=0).answer([]).given == []


def test_patience_waits_for_all_that_is_open_and_no_longer(store):
    clock = Clock()
    people = people_of(store, patience_s=10, keep_up=0, clock=clock, sleep=clock.sleep)
    clock.plans = [
        (3, lambda: store.add([make_preference(0, "ann")])),
        (5, lambda: store.add([make_preference(1, "ann")])),
    ]
    assert len(ask(people, 0, 1)) == 2
    assert clock.now == 5
    assert ask(people, 2) == []
    assert clock.now == 15


def test_endless_patience_waits_for_everyone(store):
    clock = Clock()
    people = people_of(store, patience_s=np.inf, clock=clock, sleep=clock.sleep)
    clock.plans = [(60, lambda: store.add([make_preference(0, "ann")]))]
    assert len(ask(people, 0)) == 1
    assert clock.now == 60


def test_training_slows_down_by_the_stated_ratio_while_people_are_behind(store):
    clock = Clock()
    people = people_of(store, keep_up=0.5, slowdown=4, clock=clock, sleep=clock.sleep)
    clock.now = 2.0  # a phase took two seconds
    assert ask(people, 0, 1) == []
    assert clock.now == 2.0 + 3 * 2.0
    clock.now += 2.0
    clock.plans = [(clock.now + 1, lambda: store.add([make_preference(0, "ann")]))]
    began = clock.now
    assert len(people.answer([]).given) == 1  # half are answered now: on
    assert clock.now == began + 1
    clock.now += 100.0
    began = clock.now
    assert people.answer([]).given == []
    assert clock.now == began


def test_an_answer_taken_back_is_told_once_and_never_handed_over_if_it_was_quick(store):
    people = people_of(store, keep_up=0)
    ask(people, 0, 1)
    first, second = store.lease("ann", 2, 60)
    store.answer(first.key, "ann", first.ticket, 1.0, 1.0)
    assert len(people.answer([]).given) == 1
    again = store.withdraw("ann", 60)
    store.answer(again.key, "ann", again.ticket, 0.0, 1.0)
    store.answer(second.key, "ann", second.ticket, 1.0, 1.0)
    store.withdraw("ann", 60)
    replies = people.answer([])
    assert [(p.query.key, p.mu) for p in replies.given] == [(first.key, 0.0)]
    assert replies.taken_back == [(first.key, "ann")]
    assert people.answer([]).taken_back == []


def test_a_skip_taken_back_takes_no_answer_away(store):
    people = people_of(store, keep_up=0)
    ask(people, 0)
    (lease,) = store.lease("ann", 1, 60)
    store.answer(lease.key, "ann", lease.ticket, None, 1.0)
    assert [p.mu for p in people.answer([]).given] == [None]
    again = store.withdraw("ann", 60)
    store.answer(again.key, "ann", again.ticket, 0.0, 1.0)
    replies = people.answer([])
    assert ([p.mu for p in replies.given], replies.taken_back) == ([0.0], [])


def test_an_answer_taken_back_while_waiting_is_not_handed_over(store):
    clock = Clock()
    people = people_of(store, patience_s=5, keep_up=0, clock=clock, sleep=clock.sleep)
    leases = []

    def answer():
        leases.extend(store.lease("ann", 1, 60))
        store.answer(leases[0].key, "ann", leases[0].ticket, 1.0, 1.0)

    clock.plans = [(1, answer), (2, lambda: store.withdraw("ann", 60))]
    assert ask(people, 0, 1) == []
    assert people.answer([]).taken_back == []


def test_the_oracle_answers_what_people_leave_under_its_own_name(store):
    human = make_labeler("human", ["oracle"], 0, store=store, keep_up=0, stand_in_after_s=3600)
    people = Answering("human", human, store)
    assert ask(people, 0, 1, 2) == []
    store.add([make_preference(1, "ann")])
    store.lease("bob", 1, 60)  # question 0 is on somebody's screen
    human.stand_in_after_s = 0
    replies = people.answer([])
    assert {(p.query.key, p.labeler) for p in replies.given} == {
        (make_query(1).key, "ann"),
        (make_query(2).key, "oracle"),
    }
    assert replies.open == 1


def test_what_is_forgotten_teaches_no_longer():
    """A fit to answers of which some are taken back is the fit to the others."""
    import torch
    from gymnasium import spaces

    queries = [make_query(number) for number in range(12)]
    kept = [Preference(q, float(i % 2), "ann", 1.0) for i, q in enumerate(queries)]
    mistaken = [Preference(q, 1 - float(i % 2), "bob", 1.0) for i, q in enumerate(queries)]

    def fitted(forgets):
        torch.manual_seed(0)
        box = spaces.Box(-1e3, 1e3, (2,)), spaces.Box(-1, 1, (1,))
        r_hat = RewardEnsemble(*box, 3, 1.0, generator=torch.Generator().manual_seed(0))
        fit = Fit(r_hat, np.random.default_rng(0), segment_steps=3)
        fit.add(kept)
        if forgets:
            before = fit.rng.bit_generator.state
            fit.add(mistaken)
            assert fit.forget([(p.query.key, p.labeler) for p in mistaken]) == 12
            assert fit.forget([(queries[0].key, "eve")]) == 0
            fit.rng.bit_generator.state = before
        fit.run(20)
        return [p.detach().clone() for p in r_hat.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(fitted(True), fitted(False), strict=True))


SMALL = TrainConfig(
    env="CartPole-v1",
    labeler="human",
    labels=20,
    steps=1_600,
    segment_steps=25,
    n_envs=4,
    phases=4,
    set=("n_steps=50", "batch_size=100", "n_epochs=1"),
    tensorboard=False,
)


def rows(folder: Path):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_training_survives_nobody_answering(tmp_path):
    folder = prefrl.train(replace(SMALL, slowdown=1.5, out=tmp_path / "run"), quiet=True)
    last = rows(folder)[-1]
    assert (last["labels_asked"], last["labels_answered"], last["labels_open"], last["step"]) == (
        "20",
        "0",
        "20",
        "1600",
    )
    with Store(folder / "labels.sqlite") as store:
        (query,) = store.unanswered(1)
        assert query.left.scene.dtype.kind == "S"  # pictures, to be shown


def test_answers_reach_the_reward_while_training_goes_on(tmp_path):
    """Somebody answers from another connection, takes one back, and skips one."""
    stop = threading.Event()
    said = []

    def label():
        path = tmp_path / "run" / "labels.sqlite"
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.1)
        with Store(path) as store:
            while not stop.is_set():
                for lease in store.lease("ann", 2, 60):
                    mu = None if len(said) == 3 else 1.0
                    store.answer(lease.key, "ann", lease.ticket, mu, 0.1)
                    said.append(lease.key)
                    if len(said) == 5:
                        again = store.withdraw("ann", 60)
                        store.answer(again.key, "ann", again.ticket, 0.0, 0.1)
                time.sleep(0.02)

    thread = threading.Thread(target=label)
    thread.start()
    try:
        folder = prefrl.train(replace(SMALL, patience=30.0, out=tmp_path / "run"), quiet=True)
    finally:
        stop.set()
        thread.join()
    table = rows(folder)
    assert (table[-1]["labels_answered"], table[-1]["labels_open"]) == ("19", "0")
    assert table[0]["train_loss"] != ""
    with Store(folder / "labels.sqlite") as store:
        counts = store.counts()
    assert (counts.asked, counts.answered, counts.skipped, counts.withdrawn) == (20, 19, 1, 1)


def test_answers_taken_back_are_subtracted_even_where_the_fit_has_dropped_them(tmp_path):
    """The fit keeps the newest two; the person takes back three that the run has counted, and answers them anew."""
    stop = threading.Event()
    said = []

    def label():
        path = tmp_path / "run" / "labels.sqlite"
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.1)
        with Store(path) as store:
            while not stop.is_set():
                for lease in store.lease("ann", 1, 60):
                    again = [store.withdraw("ann", 60) for _ in range(3)] if len(said) == 5 else []
                    for one in [*again, lease]:  # the sixth question is there, so five answers have been counted
                        store.answer(one.key, "ann", one.ticket, 0.8, 0.1)
                        said.append(one.key)
                time.sleep(0.02)

    thread = threading.Thread(target=label)
    thread.start()
    try:
        folder = prefrl.train(replace(SMALL, patience=30.0, max_answers=2, out=tmp_path / "run"), quiet=True)
    finally:
        stop.set()
        thread.join()
    with Store.reading(folder / "labels.sqlite") as store:
        counts = store.counts()
    assert (counts.asked, counts.answered, counts.withdrawn, counts.open) == (20, 20, 3, 0)
    assert [rows(folder)[-1][f"labels_{name}"] for name in ("asked", "answered", "open")] == ["20", "20", "0"]


def test_a_run_whose_answers_could_not_be_recorded_is_not_finished_and_says_where_they_are(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(patient_store, "SETTLE_S", 0.2)
    monkeypatch.setattr(Loses, "folder", tmp_path / "run")
    config = replace(SMALL, labeler=f"{__name__}:Loses", slowdown=10.0, out=tmp_path / "run")
    with pytest.raises(UserError) as caught:
        prefrl.train(config, quiet=True)
    assert "answers and " in sentence(caught.value)
    assert "labels import" in str(caught.value)
    assert not is_done(config)
    assert (tmp_path / "run" / "reward.safetensors").exists()
    assert rows(tmp_path / "run")[-1]["labels_asked"] == "20"
    with Store.reading(tmp_path / "run" / patient_store.SPILLED) as spilled, Store.reading(Loses.kept) as kept:
        both = spilled.counts().answered + kept.counts().answered
    assert both == 20


class Loses:
    """After its first answers the store's file goes away."""

    folder = Path()
    kept = Path()

    def __init__(self, seed):
        self.calls = 0

    def __call__(self, queries):
        self.calls += 1
        if self.calls == 2:
            Loses.kept = self.folder.with_name("kept.sqlite")
            for ending in ("", "-wal", "-shm"):
                (self.folder / f"labels.sqlite{ending}").rename(f"{Loses.kept}{ending}")
        return [Preference(q, 1.0, "loses", 1.0) for q in queries]


def test_labels_of_one_run_start_another(tmp_path):
    one = prefrl.train(replace(SMALL, labeler="oracle", out=tmp_path / "one"), quiet=True)
    two = prefrl.train(replace(SMALL, labels_from=(str(one),), seed=1, slowdown=1.0, out=tmp_path / "two"), quiet=True)
    assert rows(two)[0]["train_loss"] != ""  # nobody has answered, and yet there is something to fit
    with Store(two / "labels.sqlite") as store:
        assert (store.counts().asked, store.counts().answered, store.counts().open) == (40, 20, 20)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"env": "prefrl-tests/Counter-v0", "fixed_horizon": False}, "--labeler oracle"),
        ({"env": "HalfCheetah-v5", "backend": "envpool", "steps": 6400}, "keeps nothing"),
        ({"patience": -1.0}, "patience=-1.0"),
        ({"slowdown": 0.5}, "slowdown=0.5"),
        ({"keep_up": 2.0}, "between 0 and 1"),
        ({"oracle_after": -3.0}, "oracle_after=-3.0"),
        ({"teachers": ("mistake",)}, "say how the oracle answers, and with labeler 'human' it never does"),
        ({"store": "postgresql+psycopg://ann:secret@localhost/x"}, "PGPASSWORD"),
        ({"store": "postgresql+psycopg://ann@localhost:1/x"}, "cannot use"),
        ({"labels_from": ("nowhere",)}, "no answers at 'nowhere'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_people_cannot_be_asked_is_one_sentence_and_writes_nothing(tmp_path, changes, says):
    with pytest.raises(UserError) as caught:
        prefrl.train(replace(SMALL, out=tmp_path / "run", **changes), quiet=True)
    assert says in sentence(caught.value)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_store_in_use_is_refused(tmp_path):
    with Store(tmp_path / "old.sqlite") as store:
        store.ask([make_query(0)])
    with pytest.raises(UserError, match="1 questions of another run"):
        prefrl.train(replace(SMALL, store=f"sqlite:///{tmp_path / 'old.sqlite'}", out=tmp_path / "run"), quiet=True)
    wrong = tmp_path / "wrong.sqlite"
    with Store(wrong) as store:
        store.add([make_preference(0)])
    with pytest.raises(UserError, match="start from answers about the same"):
        prefrl.train(replace(SMALL, labels_from=(str(wrong),), out=tmp_path / "run"), quiet=True)


@pytest.mark.parametrize("labeler", ["oracle", "test_run:UprightLabeler"])
@pytest.mark.parametrize(
    "idle", [{"patience": 1.0}, {"keep_up": 0.6}, {"slowdown": 1.0}, {"oracle_after": 0.0}], ids=str
)
def test_where_nobody_is_asked_nobody_is_waited_for(tmp_path, labeler, idle):
    with pytest.raises(UserError, match="says how training waits for people") as caught:
        prefrl.train(replace(SMALL, labeler=labeler, out=tmp_path / "run", **idle), quiet=True)
    assert f"labeler {labeler!r} asks none" in sentence(caught.value)
    assert not (tmp_path / "run").exists()


def test_what_people_and_their_stand_in_are_told_is_no_mistake(tmp_path):
    told = replace(SMALL, patience=1.0, keep_up=0.6, slowdown=2.0, oracle_after=60.0, teachers=("mistake",))
    assert resolve(replace(told, out=tmp_path / "run")).teachers == ("mistake",)


def test_a_second_opinion_of_what_the_oracle_answered_is_a_persons_to_give(tmp_path):
    folder = prefrl.train(replace(SMALL, labeler="oracle", second_opinions=1.0, out=tmp_path / "run"), quiet=True)
    with Store(folder / "labels.sqlite") as store:
        assert (store.counts().answered, store.counts().open) == (20, 20)
        assert len(store.lease("ann", 5, 60)) == 5
