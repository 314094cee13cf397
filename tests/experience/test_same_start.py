"""Pairs of one start: windows that begin an episode, beside others that begin alike."""

from collections import Counter

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import counters, sentence
from scipy.stats import chisquare
from stable_baselines3.common.vec_env import DummyVecEnv

from prefrl.experience.recorder import Recorder
from prefrl.words.errors import UserError

STARTS, STEPS = 3, 4


class Forks(gym.Env):
    """Shows (start, step), and ends by itself after 2, 4 or 6 steps; the start is drawn, the last one rarely."""

    observation_space = spaces.Box(0, 10, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.start = self.np_random.choice(STARTS, p=[0.5, 0.4, 0.1])
        self.length, self.at = 2 * self.np_random.integers(1, 4), 0
        return self._shown(), {}

    def step(self, action):
        self.at += 1
        return self._shown(), float(self.start), self.at == self.length, False, {}

    def _shown(self):
        return np.array([self.start, self.at], np.float32)


def recorded(vector_steps, keep_steps=400, same_start=True):
    recorder = Recorder(DummyVecEnv([Forks] * 2), "Forks-v0", 3, keep_steps, same_start=same_start)
    recorder.venv.seed(5)
    recorder.reset()
    for _ in range(vector_steps):
        recorder.step(np.zeros(2, np.int64))
    return recorder


def windows(recorder):
    """Occasion and start of every window that may be in a pair, by hand from all pairs of any two."""
    every = Recorder.every_pair(recorder, STEPS, 10**9).queries()
    return {s.occasion: int(s.observations[0, 0]) for query in every for s in (query.left, query.right)}


def test_both_begin_an_episode_and_show_the_same_there():
    recorder = recorded(300)  # the ring is overwritten once and more
    queries = recorder.pairs(500, STEPS, np.random.default_rng(0)).queries()
    lengths = set()
    for query in queries:
        for segment in (query.left, query.right):
            assert segment.offset == 0
            assert segment.observations[0, 1] == 0
            lengths.add(len(segment))
        assert query.left.observations[0, 0] == query.right.observations[0, 0]
        assert query.left.occasion != query.right.occasion
    assert lengths == {2, STEPS}  # an episode that ended before is whole; of a longer one, the beginning


def test_left_is_uniform_and_right_is_uniform_over_what_begins_alike():
    recorder = recorded(60, 120)
    known = windows(recorder)
    drawn = 40_000
    pairs = Counter(recorder.pairs(drawn, STEPS, np.random.default_rng(1)).occasions())
    alike = Counter(known.values())
    expected = {
        (one, other): drawn / len(known) / (alike[start] - 1)
        for one, start in known.items()
        for other in known
        if one != other and known[other] == start
    }
    assert pairs.keys() <= expected.keys()
    assert chisquare([pairs[two] for two in expected], list(expected.values())).pvalue > 1e-3


def test_every_pair_is_each_two_that_begin_alike_once():
    recorder = recorded(60, 120)
    known = windows(recorder)
    every = recorder.every_pair(STEPS, 10**6)
    two = [frozenset(pair) for pair in every.occasions()]
    alike = Counter(known.values())
    assert len(two) == len(set(two)) == sum(n * (n - 1) // 2 for n in alike.values())
    assert recorder.every_pair(STEPS, len(two) - 1) is None


def test_any_two_are_drawn_as_before_where_it_is_not_asked_for():
    plain, asked = recorded(100, same_start=False), recorded(100)
    offsets = {s.offset for query in plain.pairs(200, STEPS, np.random.default_rng(0)).queries() for s in (query.left,)}
    assert len(offsets) > 2
    assert plain.state()["beginning"].size == 0
    assert asked.state()["beginning"].size > 0


def test_a_resumed_recorder_knows_how_its_episodes_began():
    first, again = recorded(100), Recorder(DummyVecEnv([Forks] * 2), "Forks-v0", 3, 400, same_start=True)
    again.restore(first.state())
    drawn = [r.pairs(50, STEPS, np.random.default_rng(2)).occasions() for r in (first, again)]
    assert drawn[0] == drawn[1]


def test_where_no_two_begin_alike_it_is_one_sentence():
    recorder = Recorder(counters(2, 5), "Counter-v0", 0, 100, same_start=True)  # each shows its index and episode
    recorder.reset()
    for _ in range(40):
        recorder.step(np.zeros((2, 2), np.float32))
    with pytest.raises(UserError, match=r"begin an episode and begin alike.*--pairs any") as refused:
        recorder.pairs(1, STEPS, np.random.default_rng(0))
    sentence(refused.value)
    assert len(recorder.every_pair(STEPS, 10)) == 0
