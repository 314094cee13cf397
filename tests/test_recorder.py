from collections import Counter
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import AnyEnv, counters, sentence
from numpy.typing import NDArray
from scipy.stats import chisquare
from stable_baselines3.common.vec_env import DummyVecEnv

from prefrl.preference import UserError
from prefrl.recorder import Episode, Pairs, Recorder

LEVEL = 1e-3  # of the chi-square tests, whose seeds are fixed


def recorded(n_envs: int, vector_steps: int, keep_steps: int, *lengths: int) -> Recorder:
    """A recorder that has seen so many steps; action number t of environment i is (t, i)."""
    recorder = Recorder(counters(n_envs, *lengths), "Counter-v0", seed=11, keep_steps=keep_steps)
    recorder.reset()
    walk(recorder, vector_steps)
    return recorder


def walk(recorder: Recorder, vector_steps: int) -> None:
    begin = recorder.steps // recorder.num_envs
    for t in range(begin, begin + vector_steps):
        recorder.step(np.stack([np.full(recorder.num_envs, t), np.arange(recorder.num_envs)], 1).astype(np.float32))


def windows(pairs: Pairs) -> NDArray[np.int64]:
    """(n, 2, T, 3): index, episode and step of every step of every window, as the environment wrote them."""
    observations, _actions, index = pairs.steps()
    return observations[index].astype(np.int64)


def every_window(recorder: Recorder, n_envs: int, vector_steps: int, keep: int, steps: int, *lengths: int) -> set[Any]:
    """(environment, episode, first step) of all windows of the newest `keep` vector steps, counted by hand."""
    found = set()
    for env in range(n_envs):
        mine, seen = np.roll(lengths, -env), []
        episode = 0
        while len(seen) < vector_steps:
            seen += [(episode, step) for step in range(mine[episode % len(mine)])]
            episode += 1
        kept = seen[:vector_steps][-keep:]
        for begin, end in zip(kept, kept[steps - 1 :], strict=False):
            if begin[0] == end[0]:
                found.add((env, *begin))
    return found


CASES = {
    "nothing overwritten": (2, 23, 100),
    "the ring is just full": (3, 20, 60),
    "overwritten once": (3, 31, 60),
    "overwritten many times, capacity not a multiple": (4, 157, 71),
    "one environment": (1, 97, 40),
}


@pytest.mark.parametrize(("n_envs", "vector_steps", "keep_steps"), CASES.values(), ids=CASES)
def test_every_window_of_finished_and_running_episodes_is_drawn_alike(
    n_envs: int, vector_steps: int, keep_steps: int
) -> None:
    lengths = (5, 9, 3, 4, 12)  # episodes of 3 have no window of 4 steps; episodes of 4 have one
    recorder = recorded(n_envs, vector_steps, keep_steps, *lengths)
    expected = every_window(recorder, n_envs, vector_steps, keep_steps // n_envs, 4, *lengths)
    drawn = windows(recorder.pairs(100 * len(expected), 4, np.random.default_rng(0)))
    for side in (0, 1):
        counts = Counter(map(tuple, drawn[:, side, 0].tolist()))
        assert set(counts) == expected
        assert chisquare(list(counts.values())).pvalue > LEVEL


@pytest.mark.parametrize(("n_envs", "vector_steps", "keep_steps"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_window_is_consecutive_steps_of_one_episode_with_its_own_actions_and_rewards(
    n_envs: int, vector_steps: int, keep_steps: int, steps: int
) -> None:
    recorder = recorded(n_envs, vector_steps, keep_steps, 5, 9, 3, 4, 12)
    pairs = recorder.pairs(300, steps, np.random.default_rng(1))
    seen = windows(pairs)
    np.testing.assert_array_equal(seen[..., :2], np.broadcast_to(seen[:, :, :1, :2], seen[..., :2].shape))
    np.testing.assert_array_equal(seen[..., 2] - seen[:, :, :1, 2], np.broadcast_to(np.arange(steps), seen.shape[:3]))
    actions = pairs.steps()[1][pairs.steps()[2]]
    np.testing.assert_array_equal(actions[..., 1], seen[..., 0])  # an environment's own actions
    np.testing.assert_array_equal(actions[..., 0] - actions[:, :, :1, 0], seen[..., 2] - seen[:, :, :1, 2])
    rewards = seen @ [1000, 100, 1]
    np.testing.assert_array_equal(pairs.true_returns(), rewards.sum(-1))
    for query, rows, paid in zip(pairs.queries(), seen, rewards, strict=True):
        for segment, mine, true in zip((query.left, query.right), rows, paid, strict=True):
            np.testing.assert_array_equal(segment.observations, mine)
            np.testing.assert_array_equal(segment.rewards, true)


def test_first_and_last_window_of_an_episode_and_no_other_by_hand() -> None:
    recorder = recorded(1, 12, 100, 5)  # episodes of 5, 5, and 2 steps so far
    drawn = {tuple(w) for w in windows(recorder.pairs(500, 4, np.random.default_rng(2)))[:, :, 0].reshape(-1, 3).tolist()}
    assert drawn == {(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)}
    drawn = {tuple(w) for w in windows(recorder.pairs(500, 2, np.random.default_rng(2)))[:, :, 0].reshape(-1, 3).tolist()}
    assert drawn == {(0, e, s) for e in (0, 1) for s in range(4)} | {(0, 2, 0)}


def test_the_observation_kept_is_the_one_acted_on() -> None:
    recorder = recorded(2, 11, 100, 5)
    observations, actions, rewards = recorder.recent(6)
    np.testing.assert_array_equal(observations, [[e, t // 5, t % 5] for t in (8, 9, 10) for e in (0, 1)])
    np.testing.assert_array_equal(actions, [[t, e] for t in (8, 9, 10) for e in (0, 1)])
    np.testing.assert_array_equal(rewards, [1000 * e + 100 * (t // 5) + t % 5 for t in (8, 9, 10) for e in (0, 1)])


def test_ordered_pairs_of_distinct_windows_are_drawn_alike() -> None:
    recorder = recorded(1, 10, 100, 5)  # 6 windows of 3 steps: 30 ordered pairs
    drawn = windows(recorder.pairs(6000, 3, np.random.default_rng(3)))[:, :, 0, 1:].reshape(-1, 4)
    counts = Counter(map(tuple, drawn.tolist()))
    assert len(counts) == 30
    assert all(pair[:2] != pair[2:] for pair in counts)
    assert chisquare(list(counts.values())).pvalue > LEVEL


def test_two_windows_are_always_compared_with_each_other() -> None:
    drawn = windows(recorded(1, 5, 100, 5).pairs(50, 4, np.random.default_rng(4)))[:, :, 0, 2]
    assert {tuple(pair) for pair in drawn.tolist()} == {(0, 1), (1, 0)}


def test_a_segment_is_about_the_same_data_long_after_its_steps_were_overwritten() -> None:
    recorder = recorded(2, 30, 40, 7)
    queries = recorder.pairs(20, 3, np.random.default_rng(5)).queries()
    segments = [segment for query in queries for segment in (query.left, query.right)]
    before = [(s.observations.tolist(), s.actions.tolist(), s.rewards.tolist(), s.key) for s in segments]
    walk(recorder, 10_000)
    ring = {int(x) for x in recorder.recent(40)[1][:, 0]}
    for segment, (observations, actions, rewards, key) in zip(segments, before, strict=True):
        assert not ring & {int(x) for x in segment.actions[:, 0]}  # its steps are gone from the ring
        assert (segment.observations.tolist(), segment.actions.tolist()) == (observations, actions)
        assert (segment.rewards.tolist(), segment.key) == (rewards, key)
        copy = type(segment)(**{name: getattr(segment, name) for name in segment.__dataclass_fields__})
        assert copy.key == key  # the hash of what it holds now
        with pytest.raises(ValueError, match="read-only"):
            segment.observations[0] = 0


def test_provenance() -> None:
    recorder = recorded(3, 41, 60, 9)
    for query in recorder.pairs(200, 4, np.random.default_rng(6)).queries():
        for segment in (query.left, query.right):
            assert [segment.env_index, segment.episode, segment.offset] == segment.observations[0].tolist()
            assert (segment.env_id, segment.seed, segment.step) == ("Counter-v0", 11, 123)


def test_steps_are_counted_exactly_and_resets_are_free() -> None:
    recorder = recorded(3, 0, 100, 5)
    assert recorder.steps == 0
    walk(recorder, 1)
    assert recorder.steps == 3
    walk(recorder, 16)
    recorder.reset()
    assert recorder.steps == 51


def test_a_reset_in_mid_episode_begins_another() -> None:
    recorder = recorded(1, 3, 100, 5)
    recorder.reset()
    walk(recorder, 7)
    drawn = windows(recorder.pairs(500, 3, np.random.default_rng(7)))[:, :, 0].reshape(-1, 3)
    assert {tuple(w) for w in drawn.tolist()} == {(0, 0, 0), (0, 1, 0), (0, 1, 1), (0, 1, 2)}
    segment = recorder.pairs(1, 3, np.random.default_rng(8)).queries()[0].left
    assert [segment.episode, segment.offset] == segment.observations[0, 1:].tolist()
    # The abandoned episode never ended, and its rewards (0 + 1 + 2) are nobody else's.
    assert recorder.pop_episodes() == [Episode(step=8, true_return=500.0 + 10.0, steps=5)]


def test_true_returns_of_episodes_are_exact() -> None:
    recorder = recorded(2, 8, 6, 5, 3)  # environment 0: 5, 3; environment 1: 3, 5. The ring keeps three rows
    expected = [(6, 1000 * 3 + 3, 3), (10, 10, 5), (16, 100 * 3 + 3, 3), (16, 1100 * 5 + 10, 5)]
    assert recorder.pop_episodes() == [Episode(*episode) for episode in expected]
    assert recorder.pop_episodes() == []
    walk(recorder, 4)
    assert recorder.pop_episodes() == [Episode(22, 1200 * 3 + 3, 3)]


def test_each_step_is_evaluated_once_and_the_index_leads_back() -> None:
    recorder = recorded(2, 40, 50, 12)
    pairs = recorder.pairs(200, 6, np.random.default_rng(9))
    observations, actions, index = pairs.steps()
    assert index.shape == (200, 2, 6)
    assert len(observations) == len(actions) == len({tuple(o) for o in observations.tolist()}) == len(np.unique(index))
    for query, places in zip(pairs.queries(), index, strict=True):
        np.testing.assert_array_equal(observations[places[0]], query.left.observations)
        np.testing.assert_array_equal(actions[places[1]], query.right.actions)


def test_chosen_pairs_keep_the_order_given() -> None:
    pairs = recorded(2, 40, 50, 12).pairs(9, 3, np.random.default_rng(10))
    chosen = pairs[np.array([7, 0, 7])]
    assert len(chosen) == 3
    assert [q.key for q in chosen.queries()] == [pairs.queries()[i].key for i in (7, 0, 7)]


def test_no_pairs_is_an_ordinary_number() -> None:
    for recorder in (recorded(2, 40, 50, 12), recorded(2, 0, 50, 12)):
        pairs = recorder.pairs(0, 3, np.random.default_rng(11))
        assert len(pairs) == 0
        assert pairs.queries() == []
        assert pairs.true_returns().shape == (0, 2)
        assert pairs.steps()[2].shape == (0, 2, 3)


@pytest.mark.parametrize(("vector_steps", "segment_steps"), [(0, 1), (4, 5), (20, 6), (5, 5)])
def test_too_little_experience_is_one_sentence(vector_steps: int, segment_steps: int) -> None:
    recorder = recorded(1, vector_steps, 100, 5)  # (5, 5): a single window, nothing to compare it with
    with pytest.raises(UserError) as error:
        recorder.pairs(1, segment_steps, np.random.default_rng(12))
    assert f"{segment_steps} steps" in sentence(error.value)


def test_the_same_seed_draws_the_same_pairs() -> None:
    recorder = recorded(2, 40, 50, 12)
    keys = [[q.key for q in recorder.pairs(20, 3, np.random.default_rng(s)).queries()] for s in (1, 1, 2)]
    assert keys[0] == keys[1] != keys[2]


def test_recent_is_the_newest_and_oldest_first() -> None:
    recorder = recorded(2, 30, 20, 100)
    for asked, kept in ((6, 3), (7, 4), (20, 10), (10_000, 10), (0, 0)):  # 7 steps need 4 rows of 2
        observations, actions, rewards = recorder.recent(asked)
        times = [t for t in range(30 - kept, 30) for _ in range(2)]
        assert actions[:, 0].tolist() == observations[:, 2].tolist() == times
        assert rewards.tolist() == [1000 * e + t for t, e in zip(times, [0, 1] * kept, strict=True)]


@pytest.mark.parametrize("at_most", [2, 10, 18, 20, 38, 40, 50])
def test_recent_at_most_thins_evenly(at_most: int) -> None:
    recorder = recorded(2, 30, 40, 100)
    times = recorder.recent(40, at_most)[1][::2, 0]
    assert at_most / 2 <= 2 * len(times) <= at_most or (at_most >= 40 and len(times) == 20)
    assert len(set(np.diff(times))) <= 1


def test_what_is_sent_and_returned_is_the_environments_own() -> None:
    recorder, alone = Recorder(counters(2, 5), "Counter-v0", 0, 30), counters(2, 5)
    np.testing.assert_array_equal(recorder.reset(), alone.reset())
    for t in range(12):
        action = np.full((2, 2), t, np.float32)
        mine, theirs = recorder.step(action), alone.step(action)
        for left, right in zip(mine[:3], theirs[:3], strict=True):
            np.testing.assert_array_equal(left, right)
        assert [sorted(info) for info in mine[3]] == [sorted(info) for info in theirs[3]]


def test_arrays_that_the_caller_reuses_are_copied() -> None:
    recorder = Recorder(counters(1, 9), "Counter-v0", 0, 30)
    observation = recorder.reset()
    action = np.zeros((1, 2), np.float32)
    for t in range(4):
        action[:] = t
        observation[:] = -1.0  # the caller's to spoil
        observation = recorder.step(action)[0]
        action[:] = -1.0
    assert recorder.recent(4)[0][:, 2].tolist() == recorder.recent(4)[1][:, 0].tolist() == [0, 1, 2, 3]


SPACES = {
    "vector, choice": (spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(4)),
    "image, choices": (spaces.Box(0, 255, (6, 5, 3), np.uint8), spaces.MultiDiscrete([2, 3])),
    "vector, switches": (spaces.Box(-1, 1, (3,), np.float32), spaces.MultiBinary(4)),
}


@pytest.mark.parametrize(("observation_space", "action_space"), SPACES.values(), ids=SPACES)
def test_shapes_and_types_are_the_spaces(observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
    recorder = Recorder(DummyVecEnv([lambda: AnyEnv(observation_space, action_space)] * 2), "Any-v0", 0, 40)
    shown = [recorder.reset()]
    taken = [np.stack([action_space.sample(), action_space.sample()]) for _ in range(6)]
    for actions in taken:
        shown.append(recorder.step(actions)[0].copy())
    observations, actions, _rewards = recorder.recent(12)
    assert (observations.dtype, actions.dtype) == (observation_space.dtype, action_space.dtype)
    np.testing.assert_array_equal(observations, np.concatenate(shown[:-1]))
    np.testing.assert_array_equal(actions, np.concatenate(taken))
    segment = recorder.pairs(1, 3, np.random.default_rng(0)).queries()[0].left
    assert segment.observations.shape == (3, *(observation_space.shape or ()))
    assert segment.actions.shape == (3, *(action_space.shape or ()))


def test_spaces_that_are_no_arrays_are_one_sentence() -> None:
    space = spaces.Dict({"a": spaces.Box(-1, 1, (2,))})
    venv = DummyVecEnv([lambda: AnyEnv(space, spaces.Discrete(2))])
    with pytest.raises(UserError) as error:
        Recorder(venv, "Any-v0", 0, 10)
    assert "Any-v0" in sentence(error.value)
