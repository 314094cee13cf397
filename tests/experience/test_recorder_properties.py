"""What holds of every window that is drawn, whatever the episodes, the ring and the segments."""

import numpy as np
from helpers import counters
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrl.experience.recorder import Recorder


@settings(deadline=None, max_examples=60)
@given(
    n_envs=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    terminates=st.booleans(),
    keep=st.integers(4, 60),
    taken=st.integers(12, 90),
    segment_steps=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_a_window_is_of_one_episode_and_holds_what_was_recorded(
    n_envs, lengths, terminates, keep, taken, segment_steps, seed
):
    lengths = [*lengths, 12]  # long enough that there are windows
    recorder = Recorder(counters(n_envs, *lengths, terminates=terminates), "Counter-v0", 0, keep * n_envs)
    recorder.reset()
    for step in range(taken):
        recorder.step(np.full((n_envs, 2), step, np.float32))
    if len(recorder._windows(segment_steps, recorder.capacity, 2)[0]) < 2:
        return
    for query in recorder.pairs(20, segment_steps, np.random.default_rng(seed)).queries():
        left, right = query.left, query.right
        assert (left.env_index, left.episode, left.offset) != (right.env_index, right.episode, right.offset)
        for segment in (left, right):
            index, episode, offset = segment.observations.T
            assert (index == segment.env_index).all()
            assert (episode == segment.episode).all()
            assert offset.tolist() == list(range(segment.offset, segment.offset + len(segment)))
            np.testing.assert_array_equal(segment.rewards, 1000 * index + 100 * episode + offset)
            at = segment.actions[:, 0]  # the vector step at which each was taken
            assert (np.diff(at) == 1).all()
            assert at[0] >= taken - keep
            length = np.roll(lengths, -segment.env_index)[segment.episode % len(lengths)]
            is_end = segment.offset + len(segment) == length
            assert len(segment) == segment_steps or (terminates and is_end)
