import tracemalloc
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

from prefrl.experience.backends import make_vec_env
from prefrl.experience.recorder import Episode, Pairs, Recorder
from prefrl.words.errors import UserError

LEVEL = 1e-3  # of the chi-square tests, whose seeds are fixed


def recorded(n_envs: int, vector_steps: int, keep_steps: int, *lengths: int, terminates: bool = False) -> Recorder:
    """A recorder that has seen so many steps; action number t of environment i is (t, i)."""
    venv = counters(n_envs, *lengths, terminates=terminates)
    recorder = Recorder(venv, "Counter-v0", seed=11, keep_steps=keep_steps)
    recorder.reset()
    walk(recorder, vector_steps)
    return recorder


def walk(recorder: Recorder, vector_steps: int) -> None:
    begin = recorder.steps // recorder.num_envs
    for t in range(begin, begin + vector_steps):
        recorder.step(np.stack([np.full(recorder.num_envs, t), np.arange(recorder.num_envs)], 1).astype(np.float32))


def first_steps(pairs: Pairs) -> NDArray[np.int64]:
    """(n, 2, 3): index, episode and step at which each window begins, as the environment wrote them."""
    cells, index, _mask = pairs.steps()
    return pairs.recorder.at(cells)[0][index[:, :, 0]].astype(np.int64)


def every_window(
    n_envs: int, vector_steps: int, keep: int, steps: int, lengths: tuple[int, ...], terminates: bool
) -> dict[tuple[int, int, int], int]:
    """Length of every window by (environment, episode, first step) in the newest `keep` vector steps, by hand."""
    found = {}
    for env in range(n_envs):
        mine, seen, episode = np.roll(lengths, -env), [], 0
        while len(seen) < vector_steps:
            seen += [(episode, step) for step in range(mine[episode % len(mine)])]
            episode += 1
        kept = set(seen[:vector_steps][-keep:])
        for episode, step in kept:
            end = int(mine[episode % len(mine)])
            if (episode, step + steps - 1) in kept:
                found[env, episode, step] = steps
            elif terminates and step + steps > end and (episode, end - 1) in kept:
                found[env, episode, step] = end - step
    return found


LENGTHS = (5, 9, 3, 4, 12)  # an episode of 3 steps has no whole window of 4, an episode of 4 has one
CASES = {
    "nothing overwritten": (2, 23, 100),
    "the ring is just full": (3, 20, 60),
    "overwritten once": (3, 31, 60),
    "overwritten many times, capacity not a multiple": (4, 157, 71),
    "one environment": (1, 97, 40),
}
cases = pytest.mark.parametrize(("n_envs", "vector_steps", "keep_steps"), CASES.values(), ids=CASES)
endings = pytest.mark.parametrize("terminates", [False, True], ids=["time limit", "ends by itself"])


@cases
@endings
def test_every_window_of_finished_and_running_episodes_is_drawn_alike(
    n_envs: int, vector_steps: int, keep_steps: int, terminates: bool
) -> None:
    recorder = recorded(n_envs, vector_steps, keep_steps, *LENGTHS, terminates=terminates)
    expected = every_window(n_envs, vector_steps, keep_steps // n_envs, 4, LENGTHS, terminates)
    assert (set(expected.values()) == {4}) is not terminates
    pairs = recorder.pairs(100 * len(expected), 4, np.random.default_rng(0))
    drawn, mask = first_steps(pairs), pairs.steps()[2]
    for side in (0, 1):
        starts = list(map(tuple, drawn[:, side].tolist()))
        assert dict(zip(starts, mask[:, side].sum(-1).tolist(), strict=True)) == expected
        assert chisquare(list(Counter(starts).values())).pvalue > LEVEL


@cases
@endings
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_window_is_consecutive_steps_of_one_episode_with_its_own_actions_and_rewards(
    n_envs: int, vector_steps: int, keep_steps: int, steps: int, terminates: bool
) -> None:
    recorder = recorded(n_envs, vector_steps, keep_steps, *LENGTHS, terminates=terminates)
    pairs = recorder.pairs(200, steps, np.random.default_rng(1))
    cells, index, mask = pairs.steps()
    observations, actions = recorder.at(cells)
    returns = pairs.true_returns()
    assert mask.shape == index.shape == (200, 2, steps)
    for n, query in enumerate(pairs.queries()):
        for side, segment in enumerate((query.left, query.right)):
            length = len(segment)
            np.testing.assert_array_equal(mask[n, side], np.arange(steps) < length)
            index_, episode, begin = segment.observations[0]
            np.testing.assert_array_equal(
                segment.observations, [(index_, episode, begin + step) for step in range(length)]
            )
            time = segment.actions[0, 0]
            np.testing.assert_array_equal(segment.actions, [(time + step, index_) for step in range(length)])
            np.testing.assert_array_equal(segment.rewards, segment.observations @ [1000, 100, 1])
            np.testing.assert_array_equal(observations[index[n, side, :length]], segment.observations)
            np.testing.assert_array_equal(actions[index[n, side, :length]], segment.actions)
            assert returns[n, side] == segment.rewards.sum()


@pytest.mark.parametrize(
    ("steps", "terminates", "expected"),
    [
        (4, False, [(0, 0), (0, 1), (1, 0), (1, 1)]),
        (2, False, [(e, s) for e in (0, 1) for s in range(4)] + [(2, 0)]),
        (4, True, [(e, s) for e in (0, 1) for s in range(5)]),  # those from 2, 3 and 4 are cut short by the end
        (2, True, [(e, s) for e in (0, 1) for s in range(5)] + [(2, 0)]),  # the running episode has no end to see
    ],
)
def test_first_and_last_window_of_an_episode_by_hand(
    steps: int, terminates: bool, expected: list[tuple[int, int]]
) -> None:
    recorder = recorded(1, 12, 100, 5, terminates=terminates)  # episodes of 5, 5, and 2 steps so far
    drawn = first_steps(recorder.pairs(500, steps, np.random.default_rng(2)))[:, :, 1:].reshape(-1, 2)
    assert {tuple(start) for start in drawn.tolist()} == set(expected)


def test_the_observation_kept_is_the_one_acted_on() -> None:
    recorder = recorded(2, 11, 100, 5)
    observations, actions, rewards = recorder.recent(6)
    np.testing.assert_array_equal(observations, [[e, t // 5, t % 5] for t in (8, 9, 10) for e in (0, 1)])
    np.testing.assert_array_equal(actions, [[t, e] for t in (8, 9, 10) for e in (0, 1)])
    np.testing.assert_array_equal(rewards, [1000 * e + 100 * (t // 5) + t % 5 for t in (8, 9, 10) for e in (0, 1)])


def test_ordered_pairs_of_distinct_windows_are_drawn_alike() -> None:
    recorder = recorded(1, 10, 100, 5)  # 6 windows of 3 steps: 30 ordered pairs
    drawn = first_steps(recorder.pairs(6000, 3, np.random.default_rng(3)))[:, :, 1:].reshape(-1, 4)
    counts = Counter(map(tuple, drawn.tolist()))
    assert len(counts) == 30
    assert all(pair[:2] != pair[2:] for pair in counts)
    assert chisquare(list(counts.values())).pvalue > LEVEL


def test_two_windows_are_always_compared_with_each_other() -> None:
    drawn = first_steps(recorded(1, 5, 100, 5).pairs(50, 4, np.random.default_rng(4)))[:, :, 2]
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
    drawn = first_steps(recorder.pairs(500, 3, np.random.default_rng(7))).reshape(-1, 3)
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


def test_an_episode_cut_short_on_purpose_has_no_true_return() -> None:
    recorder = Recorder(make_vec_env("prefrl-tests/Target-v0", 4, 0), "Target-v0", 0, 200)
    recorder.reset()
    for _ in range(40):
        recorder.step(np.zeros((4, 1), np.float32))
    # First ends after 5, 10, 15 and 20 steps: the last of them is a whole episode.
    assert [(e.step, e.steps) for e in recorder.pop_episodes()] == [(4 * t, 20) for t in (20, 25, 30, 35, 40)]
    assert recorder.ends_early_since is None
    offsets = {q.left.offset for q in recorder.pairs(2000, 3, np.random.default_rng(0)).queries()}
    assert offsets == set(range(18))


def test_when_an_episode_first_ended_by_itself_is_remembered() -> None:
    recorder = Recorder(counters(2, 6, 5, terminates=True), "Counter-v0", 0, 40)
    recorder.reset()
    walk(recorder, 4)
    assert recorder.ends_early_since is None
    walk(recorder, 20)
    assert recorder.ends_early_since == 10  # the second environment's first episode, five steps of two


def test_recent_rewards_are_the_newest_whatever_ring_keeps_the_observations() -> None:
    recorder = recorded(2, 30, 50, 12)
    np.testing.assert_array_equal(recorder.recent_rewards(14).ravel(), recorder.recent(14)[2])
    assert recorder.recent_rewards(10_000).shape == (recorder.capacity, 2) or recorder.steps < 2 * recorder.capacity


def test_an_environment_that_fails_is_one_sentence() -> None:
    class FailingEnv(AnyEnv):
        def step(self, action: Any) -> Any:
            raise ZeroDivisionError("line one\nline two")

    venv = DummyVecEnv([lambda: FailingEnv(spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2))])
    recorder = Recorder(venv, "Failing-v0", 0, 10)
    recorder.reset()
    with pytest.raises(UserError) as error:
        recorder.step(np.zeros(1, np.int64))
    message = sentence(error.value)
    assert all(part in message for part in ("Failing-v0", "ZeroDivisionError", "line one line two"))
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_each_step_is_evaluated_once_and_the_index_leads_back() -> None:
    recorder = recorded(2, 40, 50, 12)
    pairs = recorder.pairs(200, 6, np.random.default_rng(9))
    cells, index, _mask = pairs.steps()
    observations, actions = recorder.at(cells)
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
        assert pairs.steps()[1].shape == pairs.steps()[2].shape == (0, 2, 3)


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
        recorder.step_async(action)
        action[:] = -1.0
        observation = recorder.step_wait()[0]
    assert recorder.recent(4)[0][:, 2].tolist() == recorder.recent(4)[1][:, 0].tolist() == [0, 1, 2, 3]


SPACES = {
    "vector, choice": (spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(4)),
    "image, choices": (spaces.Box(0, 255, (6, 5, 3), np.uint8), spaces.MultiDiscrete([2, 3])),
    "vector, switches": (spaces.Box(-1, 1, (3,), np.float32), spaces.MultiBinary(4)),
}


@pytest.mark.parametrize(("observation_space", "action_space"), SPACES.values(), ids=SPACES)
def test_shapes_and_types_are_the_spaces(observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
    recorder = Recorder(DummyVecEnv([lambda: AnyEnv(observation_space, action_space)] * 2), "Any-v0", 0, 40)
    shown: list[NDArray[Any]] = [recorder.reset()]
    taken = [np.stack([action_space.sample(), action_space.sample()]) for _ in range(6)]
    shown += [recorder.step(actions)[0].copy() for actions in taken]
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


class StackEnv(gym.Env[Any, Any]):
    """Shows its newest frames, channels first; an episode begins with copies of one frame, or with different ones."""

    observation_space = spaces.Box(0, 255, (3, 4, 5), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self, length: int, copies: bool) -> None:
        self.length, self.copies = length, copies

    def _noise(self, frames: int) -> NDArray[np.uint8]:
        return self.np_random.integers(256, size=(frames, *self.observation_space.shape[1:]), dtype=np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        size = self.observation_space.shape[0]
        self.stack = np.repeat(self._noise(1), size, axis=0) if self.copies else self._noise(size)
        return self.stack, {}

    def step(self, action: Any) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.stack = np.concatenate([self.stack[1:], self._noise(1)])
        return self.stack, 0.0, False, self.steps == self.length, {}


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("vector_steps", [1, 2, 9, 20, 21, 22, 23, 57])
def test_stacks_of_frames_come_back_whole(copies: bool, vector_steps: int) -> None:
    venv = DummyVecEnv([lambda n=n: StackEnv(n, copies) for n in (4, 7, 2, 50)])  # type: ignore[misc]
    venv.seed(0)
    recorder = Recorder(venv, "Stack-v0", 0, keep_steps=4 * 20)
    shown = [recorder.reset().copy()]
    for step in range(vector_steps):
        if step == 12:
            shown[-1] = recorder.reset().copy()
        shown.append(recorder.step(np.zeros(4, np.int64))[0].copy())
    observations, _actions, _rewards = recorder.recent(10_000)
    kept = len(observations) // 4
    assert kept == min(vector_steps, 18)  # the oldest stacks are made of two older frames
    np.testing.assert_array_equal(observations, np.concatenate(shown[vector_steps - kept : vector_steps]))


def test_a_frame_that_stacks_share_is_kept_once() -> None:
    class LargeStackEnv(StackEnv):
        observation_space = spaces.Box(0, 255, (4, 60, 60), np.uint8)

    recorder = Recorder(DummyVecEnv([lambda: LargeStackEnv(100, copies=True)]), "Stack-v0", 0, keep_steps=2000)
    recorder.reset()
    tracemalloc.start()
    for _ in range(2000):
        recorder.step(np.zeros(1, np.int64))
    kept, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1.3 * 2000 * 60 * 60
    assert recorder.recent(1500)[0].shape == (1500, 4, 60, 60)


def test_more_may_be_replayed_than_is_asked_about() -> None:
    """Segments, and what they are drawn from, are of the newest `keep_steps`; the ring goes back further."""
    scenes = iter(np.arange(100).repeat(2).reshape(100, 2, 1))
    recorder = Recorder(counters(2, 5), "Counter", 0, keep_steps=16, read_scenes=lambda: next(scenes), replay_steps=60)
    recorder.reset()
    walk(recorder, 40)
    pairs = recorder.pairs(200, 3, np.random.default_rng(0))
    assert pairs.row.min() == 32
    assert recorder.every_pair(3, at_most=200).row.min() == 32  # type: ignore[union-attr]
    for query in pairs[np.arange(20)].queries():
        for side in (query.left, query.right):
            begins = (side.episode * 5) + side.offset
            assert side.scene is not None
            assert side.scene.ravel().tolist() == [begins, begins + 1, begins + 2]  # in step with what was seen
    stretches = list(recorder.stretches(25, at_once=16))
    assert [len(observations) for observations, _ in stretches] == [14, 12, 12, 12]
    for place, part in enumerate(recorder.recent(50)[:2]):
        np.testing.assert_array_equal(np.concatenate([stretch[place] for stretch in stretches]), part)
