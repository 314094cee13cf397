"""Which questions are asked: exactly as many as were asked for, no two windows twice, the same draws as ever."""

import csv
import json
from dataclasses import replace
from itertools import combinations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import counters, sentence

import prefrl
from prefrl.experience.recorder import Pairs, Recorder
from prefrl.queries.asker import Asker
from prefrl.queries.store import Store
from prefrl.queries.strategies import (
    best_first,
    coverage,
    disagreement,
    entropy,
    information_gain,
    member_entropy,
    uniform,
)
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.settings.config import TrainConfig
from prefrl.words.errors import UserError
from prefrl.words.preference import Preference


class BanditEnv(gym.Env):
    """Shows one of 4 contexts, takes one of 10 arms, and is over: there are 40 different things to compare."""

    observation_space = spaces.Box(0, 1, (4,), np.float32)
    action_space = spaces.Discrete(10)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.context = int(self.np_random.integers(4))
        return np.eye(4, dtype=np.float32)[self.context], {}

    def step(self, action):
        worth = np.cos(self.context + 0.7 * action)
        return np.eye(4, dtype=np.float32)[self.context], float(worth), True, False, {}


class Torn:
    """Says left or right by how much better it is, or how sure it is of that; never the same of the same for long."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def __call__(self, queries):
        gaps = np.array([q.left.rewards.sum() - q.right.rewards.sum() for q in queries])
        sure = 1 / (1 + np.exp(-gaps))
        draws = zip(self.rng.random(len(sure)), sure, strict=True)
        mus = [None if x < 0.02 else p if x < 0.3 else float(x < p) for x, p in draws]
        return [Preference(q, mu, "torn", 1.0) for q, mu in zip(queries, mus, strict=True)]


@pytest.fixture(autouse=True, scope="module")
def _bandit():
    gym.register("BanditOfFour-v0", BanditEnv)
    yield
    del gym.registry["BanditOfFour-v0"]


def case(steps=60, envs=3, *lengths):
    recorder = Recorder(counters(envs, *(lengths or (7, 11))), "Counter-v0", 0, 3_000)
    recorder.reset()
    rng = np.random.default_rng(0)
    for _ in range(steps):
        recorder.step(rng.normal(size=(envs, 2)).astype(np.float32))
    space, action = recorder.observation_space, recorder.action_space
    r_hat = RewardEnsemble(space, action, 3, generator=torch.Generator().manual_seed(0))
    r_hat.observe(*recorder.recent(300)[:2])
    return recorder, r_hat


def windows(queries):
    return [frozenset((q.left.occasion, q.right.occasion)) for q in queries]


def test_a_bandit_takes_5000_noisy_labels_and_stores_5000(tmp_path):
    config = TrainConfig(
        env="BanditOfFour-v0",
        labels=5_000,
        steps=12_000,
        n_envs=8,
        phases=6,
        segment_steps=1,
        labeler=f"{__name__}:Torn",
        candidates=2,
        initial_epochs=1,
        fit_updates=5,
        set=("n_steps=50", "batch_size=100", "n_epochs=1"),
        tensorboard=False,
        out=tmp_path / "run",
    )
    folder = prefrl.train(config, quiet=True)
    with (folder / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    with Store.reading(folder / "labels.sqlite") as store:
        counts, answers = store.counts(), store.answers()[0]
        segments = store.dump()["segments"]
    assert (counts.asked, counts.answered + counts.skipped, counts.open) == (5_000, 5_000, 0)
    assert counts.skipped > 30
    assert (int(last["labels_asked"]), int(last["labels_answered"])) == (5_000, counts.answered)
    assert len(set(windows([p.query for p in answers]))) == 5_000
    assert len(segments) == 40
    alike = {}
    for p in answers:
        alike.setdefault((p.query.left.key, p.query.right.key), set()).add(p.mu)
    assert max(len(said) for said in alike.values()) > 3  # the same, asked again, was answered otherwise
    assert len({p.mu for p in answers}) > 10


@pytest.mark.parametrize("fitted", [False, True])
def test_where_no_pair_is_drawn_twice_the_draws_are_those_of_old(fitted):
    recorder, r_hat = case(steps=900)
    asker = Asker(disagreement, 10, 4, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    for count in (1, 7, 0, 12):
        strategy = disagreement if fitted else uniform
        pairs = recorder.pairs(count * 10, 4, rng)
        old = pairs[best_first(strategy, r_hat, pairs)[:count]].queries() if count else []
        assert len(set(windows(old))) == count  # there is no duplicate here
        assert [q.key for q in asker.ask(recorder, r_hat, count, fitted)] == [q.key for q in old]
        assert asker.rng.bit_generator.state == rng.bit_generator.state


@pytest.mark.parametrize("fitted", [False, True])
def test_all_that_can_be_asked_is_asked_once_and_then_no_more(fitted):
    recorder, r_hat = case(11, 2, 11)
    every = recorder.every_pair(4, at_most=10_000)
    assert every is not None
    assert len(every) == 16 * 15 // 2
    asker = Asker(disagreement, 3, 4, np.random.default_rng(1))
    asked = [query for count in (60, 1, 59) for query in asker.ask(recorder, r_hat, count, fitted)]
    assert set(windows(asked)) == set(windows(every.queries()))
    assert len(asked) == 120
    with pytest.raises(UserError, match="has shown only 120 different pairs of segments of 4 steps") as caught:
        asker.ask(recorder, r_hat, 1, fitted)
    assert "120 of them have been asked already" in sentence(caught.value)


def test_every_pair_is_each_two_windows_once():
    recorder, _ = case(30, 2, 5, 8)
    pairs = recorder.every_pair(3, at_most=10_000)
    assert pairs is not None
    starts = {occasion for pair in pairs.occasions() for occasion in pair}
    assert {frozenset(pair) for pair in pairs.occasions()} == set(map(frozenset, combinations(starts, 2)))
    assert [tuple(s.occasion for s in (q.left, q.right)) for q in pairs.queries()] == pairs.occasions()
    assert recorder.every_pair(3, at_most=len(pairs) - 1) is None


def test_what_was_asked_before_is_left_out_and_a_restored_asker_goes_on_alike():
    recorder, r_hat = case(11, 2, 11)
    asker = Asker(disagreement, 2, 4, np.random.default_rng(3))
    with Store(":memory:") as store:
        store.ask(asker.ask(recorder, r_hat, 50, True))
        others = Asker(uniform, 2, 4, np.random.default_rng(4))
        others.leave_out(store.occasions())
    state = asker.state()
    kept = {"rng": json.loads(json.dumps(state["rng"])), "asked": state["asked"].tolist()}
    again = Asker(disagreement, 2, 4, np.random.default_rng(99))
    again.restore(kept)
    rest = asker.ask(recorder, r_hat, 70, True)
    assert [q.key for q in again.ask(recorder, r_hat, 70, True)] == [q.key for q in rest]
    assert set(windows(others.ask(recorder, r_hat, 70, False))) == set(windows(rest))


def test_labels_of_the_same_seed_are_not_asked_again(tmp_path):
    """Two runs of one seed begin alike, and the second would ask what it has inherited."""
    small = TrainConfig(
        env="Pendulum-v1",
        labels=30,
        steps=3_200,
        n_envs=8,
        phases=3,
        segment_steps=20,
        initial_epochs=2,
        set=("n_steps=50", "batch_size=100", "n_epochs=1"),
        tensorboard=False,
    )
    one = prefrl.train(replace(small, out=tmp_path / "one"), quiet=True)
    two = prefrl.train(replace(small, labels_from=(str(one),), out=tmp_path / "two"), quiet=True)
    with Store.reading(two / "labels.sqlite") as store:
        assert (store.counts().asked, store.counts().answered) == (60, 60)
    with (two / "metrics.csv").open() as file:
        assert list(csv.DictReader(file))[-1]["labels_answered"] == "30"


def test_a_strategy_that_fails_is_one_sentence():
    recorder, r_hat = case()

    def careless(r_hat, pairs):
        return pairs.rows

    with pytest.raises(UserError, match="strategy careless failed with AttributeError") as caught:
        Asker(careless, 2, 4, np.random.default_rng(0)).ask(recorder, r_hat, 3, True)
    sentence(caught.value)


def test_sets_of_k_are_distinct_windows_and_no_set_comes_twice():
    recorder, ensemble = case(6, 2, 11)
    asker, total = Asker(uniform, 2, 4, np.random.default_rng(0), "ranking", 3), 20  # three of six windows
    pair = recorder.pairs(1, 4, np.random.default_rng(1)).occasions()
    asker.leave_out(pair)  # a run may begin with answers about pairs
    queries = asker.ask(recorder, ensemble, total - 3, fitted=False)
    assert {query.kind for query in queries} == {"ranking"}
    assert {len({segment.occasion for segment in query.segments}) for query in queries} == {3}
    other = Asker(uniform, 2, 4, np.random.default_rng(9), "ranking", 3)
    other.restore(asker.state())
    rest = [some.ask(recorder, ensemble, 3, fitted=False) for some in (asker, other)]
    assert [query.key for query in rest[0]] == [query.key for query in rest[1]]
    assert len({frozenset(s.occasion for s in q.segments) for q in queries + rest[0]}) == total
    with pytest.raises(UserError) as caught:
        asker.ask(recorder, ensemble, 1, fitted=False)
    assert "different sets of 3 of segments" in sentence(caught.value)


def test_strategies_average_what_they_say_of_every_two():
    recorder, ensemble = case()
    sets = recorder.pairs(20, 5, np.random.default_rng(0), k=3)
    for strategy in (disagreement, entropy, member_entropy, information_gain):
        of_two = [
            strategy(ensemble, Pairs(recorder, 5, *(part[:, [i, j]] for part in (sets.row, sets.env, sets.length))))
            for i, j in combinations(range(3), 2)
        ]
        np.testing.assert_allclose(strategy(ensemble, sets), np.mean(of_two, axis=0), rtol=1e-4, atol=1e-7)
    assert sorted(coverage(ensemble, sets)) == sorted(-np.arange(20.0))
