import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import CounterEnv, counters
from numpy.typing import NDArray

from prefrl.evaluate import correlation, mean_steps, mean_true_return, policy_return, segment_correlation
from prefrl.networks import MLPs
from prefrl.recorder import Episode, Pairs, Recorder
from prefrl.reward_model import RewardEnsemble


def test_means_by_hand() -> None:
    episodes = [Episode(10, 3.0, 5), Episode(12, -1.0, 2)]
    assert (mean_true_return(episodes), mean_steps(episodes)) == (1.0, 3.5)
    assert math.isnan(mean_true_return([]))
    assert math.isnan(mean_steps([]))


def test_a_policys_returns_are_those_of_whole_episodes() -> None:
    seen = []

    def act(observations: NDArray[Any]) -> NDArray[np.float32]:
        seen.append(observations.copy())
        return np.zeros((1, 2), np.float32)

    returns = policy_return(act, CounterEnv(2, (3, 1), terminates=True), 3, seed=0)
    assert returns.tolist() == [3 * 2000 + 3, 2100, 3 * 2200 + 3]
    assert [o.tolist() for o in seen] == [[[2, e, s]] for e, length in ((0, 3), (1, 1), (2, 3)) for s in range(length)]
    assert policy_return(act, CounterEnv(2, (3, 1)), 3, seed=0).tolist() == returns.tolist()  # a time limit ends it too
    assert policy_return(act, CounterEnv(), 0, seed=0).shape == (0,)


def test_a_policys_returns_are_the_seeds() -> None:
    def act(observations: NDArray[Any]) -> NDArray[np.float32]:
        return -observations[:, 2:]

    first, again, other = (policy_return(act, gym.make("Pendulum-v1"), 3, seed).tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 3  # one start each


def ensemble(recorder: Recorder, weights: list[float]) -> RewardEnsemble:
    """r_hat = weights . o."""
    r_hat = RewardEnsemble(recorder.observation_space, recorder.action_space, 1, hidden=())
    assert isinstance(r_hat.network, MLPs)
    with torch.no_grad():
        r_hat.network.weights[0].zero_()
        r_hat.network.biases[0].zero_()
        r_hat.network.weights[0][0, :3, 0] = torch.tensor(weights)
    return r_hat


def some_pairs(terminates: bool = False) -> Pairs:
    recorder = Recorder(counters(2, 6, 9, terminates=terminates), "Counter-v0", 0, 200)
    recorder.reset()
    for _ in range(50):
        recorder.step(np.zeros((2, 2), np.float32))
    return recorder.pairs(40, 4, np.random.default_rng(0))


@pytest.mark.parametrize("terminates", [False, True], ids=["time limit", "ends by itself"])
def test_correlation_of_segments(terminates: bool) -> None:
    pairs = some_pairs(terminates)
    for weights, expected in (([1000.0, 100.0, 1.0], 1.0), ([-500.0, -50.0, -0.5], -1.0)):
        assert segment_correlation(ensemble(pairs.recorder, weights), pairs) == pytest.approx(expected, abs=1e-6)
    steps = ensemble(pairs.recorder, [0.0, 0.0, 1.0])
    learned = [s.observations[:, 2].sum() for q in pairs.queries() for s in (q.left, q.right)]
    true = [s.rewards.sum() for q in pairs.queries() for s in (q.left, q.right)]
    assert segment_correlation(steps, pairs) == pytest.approx(np.corrcoef(learned, true)[0, 1], abs=1e-5)
    assert math.isnan(segment_correlation(ensemble(pairs.recorder, [0.0, 0.0, 0.0]), pairs))


def test_correlation_by_hand() -> None:
    assert correlation(np.array([1.0, 2, 3]), np.array([2.0, 4, 9])) == pytest.approx(7 / math.sqrt(2 * 26))
    assert correlation(np.array([1.0, 2]), np.array([5.0, 3])) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("a", "b"),
    [([1, 1], [1, 2]), ([1, 2], [3, 3]), ([1, math.nan], [1, 2]), ([1, 2], [1, math.inf]), ([1], [2]), ([], [])],
)
def test_no_correlation_where_there_is_nothing_to_correlate(a: list[float], b: list[float]) -> None:
    assert math.isnan(correlation(np.array(a, float), np.array(b, float)))
