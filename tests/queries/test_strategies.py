import copy
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import counters, sentence
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.vec_env import DummyVecEnv

from prefrl.experience.recorder import Pairs, Recorder
from prefrl.queries.strategies import (
    STRATEGIES,
    best_first,
    coverage,
    coverage_disagreement,
    disagreement,
    entropy,
    find_strategy,
    information_gain,
    member_entropy,
    uniform,
)
from prefrl.rewards.networks import MLPs
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.rewards.watch import predicted_preferences
from prefrl.words.errors import UserError

ACTION = spaces.Box(-1, 1, (1,), np.float32)


class TableEnv(gym.Env[Any, Any]):
    """Shows the rows of a table in turn."""

    action_space = ACTION

    def __init__(self, table: NDArray[np.float32]) -> None:
        self.table, self.row = table, 0
        self.observation_space = spaces.Box(-np.inf, np.inf, table.shape[1:], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.row = 0
        return self.table[0], {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.row += 1
        return self.table[self.row % len(self.table)], 0.0, False, False, {}


def recorded(table: ArrayLike) -> Recorder:
    rows = np.asarray(table, np.float32)
    recorder = Recorder(DummyVecEnv([lambda: TableEnv(rows)]), "Table-v0", 0, len(rows))
    recorder.reset()
    for _ in rows:
        recorder.step(np.zeros((1, 1), np.float32))
    return recorder


def linear(features: int, weights: ArrayLike) -> RewardEnsemble:
    """Rewards weights[k] . o for member k."""
    given = torch.as_tensor(np.asarray(weights, np.float32))
    space = spaces.Box(-np.inf, np.inf, (features,), np.float32)
    r_hat = RewardEnsemble(space, ACTION, len(given), hidden=())
    assert isinstance(r_hat.network, MLPs)
    with torch.no_grad():
        r_hat.network.weights[0].zero_()
        r_hat.network.weights[0][:, :features, 0] = given
        r_hat.network.biases[0].zero_()
    return r_hat


def believing(p: ArrayLike) -> tuple[RewardEnsemble, Pairs]:
    """An ensemble and n pairs of single steps about which member k believes P[left > right] = p[k, n]."""
    belief = np.asarray(p, np.float64)
    n = belief.shape[1]
    recorder = recorded(np.concatenate([np.eye(n), np.zeros((1, n))]))
    row = np.stack([np.arange(n), np.full(n, n)], 1)
    return linear(n, np.log(belief) - np.log1p(-belief)), Pairs(recorder, 1, row, np.zeros_like(row), np.ones_like(row))


def at(values: ArrayLike) -> tuple[RewardEnsemble, Pairs]:
    """An ensemble whose features are the observations, and pairs of single steps: left these values, right zero."""
    points = np.atleast_2d(np.asarray(values, np.float32).T).T
    recorder = recorded(np.concatenate([points, np.zeros((1, points.shape[1]))]))
    row = np.stack([np.arange(len(points)), np.full(len(points), len(points))], 1)
    r_hat = linear(points.shape[1], np.zeros((1, points.shape[1])))
    return r_hat, Pairs(recorder, 1, row, np.zeros_like(row), np.ones_like(row))


def random_case(
    n: int, segment_steps: int = 5, seed: int = 0, terminates: bool = False
) -> tuple[RewardEnsemble, Pairs]:
    """Networks as they are first drawn, and n random pairs."""
    recorder = Recorder(counters(3, 7, 11, terminates=terminates), "Counter-v0", 0, 300)
    recorder.reset()
    rng = np.random.default_rng(seed)
    for _ in range(60):
        recorder.step(rng.normal(size=(3, 2)).astype(np.float32))
    space, action = recorder.observation_space, recorder.action_space
    r_hat = RewardEnsemble(space, action, 3, generator=torch.Generator().manual_seed(seed))
    r_hat.observe(*recorder.recent(300)[:2])
    return r_hat, recorder.pairs(n, segment_steps, rng)


#                 sure      torn     split    sure, some more so
BELIEF = np.array([[0.9, 0.5, 0.1, 0.99], [0.9, 0.5, 0.9, 0.9999], [0.9, 0.5, 0.5, 0.999999]])


def h(p: float) -> float:
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def test_predictions_by_hand() -> None:
    np.testing.assert_allclose(predicted_preferences(*believing(BELIEF))[..., 0], BELIEF, rtol=1e-5)


@pytest.mark.parametrize("terminates", [False, True], ids=["time limit", "ends by itself"])
def test_predictions_are_sums_over_each_segment(terminates: bool) -> None:
    r_hat, pairs = random_case(40, terminates=terminates)
    assert (len({len(q.left) for q in pairs.queries()}) > 1) is terminates
    predicted = predicted_preferences(r_hat, pairs)[..., 0]
    for n, query in enumerate(pairs.queries()):
        left, right = (
            r_hat.member_rewards(segment.observations, segment.actions).sum(1) for segment in (query.left, query.right)
        )
        torch.testing.assert_close(predicted[:, n], torch.sigmoid(left - right), rtol=1e-4, atol=1e-5)


def test_disagreement_is_about_probabilities_by_hand() -> None:
    # The last pair's returns differ most between members, by 9 nats, and yet they would all answer alike.
    variances = [0, 0, 0.32 / 3, np.var([0.99, 0.9999, 0.999999])]
    np.testing.assert_allclose(disagreement(*believing(BELIEF)), variances, atol=1e-6)


def test_member_entropy_is_the_mean_of_entropies() -> None:
    r_hat, pairs = believing(BELIEF)
    expected = [np.mean([h(p) for p in members]) for members in BELIEF.T]
    np.testing.assert_allclose(member_entropy(r_hat, pairs), expected, rtol=1e-4)
    gain = entropy(r_hat, pairs) - member_entropy(r_hat, pairs)
    np.testing.assert_allclose(information_gain(r_hat, pairs), gain, atol=1e-6)


def test_entropy_by_hand() -> None:
    expected = [h(0.9), math.log(2), math.log(2), h(BELIEF[:, 3].mean())]
    np.testing.assert_allclose(entropy(*believing(BELIEF)), expected, rtol=1e-4)


def test_information_gain_by_hand() -> None:
    expected = [0, 0, math.log(2) - (2 * h(0.1) + math.log(2)) / 3]
    expected.append(h(BELIEF[:, 3].mean()) - sum(map(h, BELIEF[:, 3])) / 3)
    np.testing.assert_allclose(information_gain(*believing(BELIEF)), expected, atol=1e-5)


def test_certainty_is_finite() -> None:
    r_hat, pairs = believing([[0.5], [0.5]])
    assert isinstance(r_hat.network, MLPs)
    with torch.no_grad():
        r_hat.network.weights[0][0, 0] = 1e6
        r_hat.network.weights[0][1, 0] = -1e6
    assert disagreement(r_hat, pairs).tolist() == [0.25]
    assert entropy(r_hat, pairs)[0] == pytest.approx(math.log(2))
    assert information_gain(r_hat, pairs)[0] == pytest.approx(math.log(2))


def keys(pairs: Pairs) -> list[str]:
    return [query.key for query in pairs.queries()]


def test_the_highest_comes_first_and_the_first_among_equals() -> None:
    r_hat, pairs = random_case(6)
    all_keys = keys(pairs)
    scores = np.array([0.5, 2.0, -np.inf, 2.0, 0.5, 1.0])
    for count, expected in ((0, []), (1, [1]), (3, [1, 3, 5]), (4, [1, 3, 5, 0]), (6, [1, 3, 5, 0, 4, 2])):
        chosen = pairs[best_first(lambda r, p: scores, r_hat, pairs)[:count]]
        assert keys(chosen) == [all_keys[i] for i in expected]


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (np.zeros(5), "ndarray of shape (5,)"),
        (np.zeros((6, 1)), "ndarray of shape (6, 1)"),
        (1.0, "float of shape ()"),
        (None, "NoneType of shape ()"),
        ([1.0, 2.0, math.nan, 0.0, math.nan, math.inf], "NaN for 2 of 6 pairs"),
        (["a"] * 6, "list (could not convert string to float"),
        ([[1.0], [1.0, 2.0]], "list ("),
        (torch.zeros(6, requires_grad=True), "Tensor ("),
    ],
    ids=str,
)
def test_scores_are_refused_that_are_not_one_for_each_pair(scores: Any, says: str) -> None:
    r_hat, pairs = random_case(6)

    def mine(r_hat: RewardEnsemble, pairs: Pairs) -> Any:
        return scores

    with pytest.raises(UserError, match="one score per pair, here an array of 6 numbers") as caught:
        best_first(mine, r_hat, pairs)
    assert f"strategy mine returned {says}" in sentence(caught.value)


def of_pairs_alone(pairs: Pairs) -> NDArray[np.floating]:
    return np.zeros(len(pairs))


def test_strategies_by_name_and_by_import_path() -> None:
    assert find_strategy("uniform") is uniform
    assert find_strategy("prefrl.queries:uniform") is uniform
    for path, says in ((f"{__name__}:of_pairs_alone", "too many positional"), ("math:pi", "not a callable object")):
        with pytest.raises(UserError, match=says) as caught:
            find_strategy(path)
        assert f"strategy {path!r} cannot be called as strategy(r_hat, pairs)" in sentence(caught.value)


def test_uniform_keeps_the_order_drawn() -> None:
    r_hat, pairs = random_case(20)
    assert best_first(uniform, r_hat, pairs).tolist() == list(range(20))


def farthest_first(points: NDArray[np.floating]) -> list[int]:
    """By brute force: first the point farthest from the mean, then always the one farthest from those visited."""
    visited = [int(np.argmax([np.sum((p - points.mean(0)) ** 2) for p in points]))]
    while len(visited) < len(points):
        rest = [i for i in range(len(points)) if i not in visited]
        visited.append(max(rest, key=lambda i: min(np.sum((points[i] - points[j]) ** 2) for j in visited)))
    return visited


def order(scores: NDArray[np.floating]) -> list[int]:
    return np.argsort(-scores, kind="stable").tolist()


def test_coverage_by_hand() -> None:
    # Mean 3.2: 10 is farthest from it, 0 is farthest from 10, then 4 (4 from 0), 1 (1 from 0) and 1 again.
    scores = coverage(*at([1.0, 10.0, 0.0, 1.0, 4.0]))
    assert order(scores) == [1, 2, 4, 0, 3]
    assert len(set(scores)) == 5


@pytest.mark.parametrize("terminates", [False, True], ids=["time limit", "ends by itself"])
def test_coverage_is_farthest_first_in_hidden_features(terminates: bool) -> None:
    r_hat, pairs = random_case(60, terminates=terminates)
    points = []
    for query in pairs.queries():
        sides = [
            r_hat.hidden_features(r_hat.normalised(r_hat.inputs(s.observations, s.actions))).mean(1).flatten()
            for s in (query.left, query.right)
        ]
        points.append(torch.cat(sides).detach().numpy().astype(np.float64))
    assert order(coverage(r_hat, pairs)) == farthest_first(np.array(points))


def test_coverage_asks_every_pair_once_though_all_are_alike() -> None:
    scores = coverage(*at(np.ones(7)))
    assert sorted(scores) == list(range(-6, 1))


def test_coverage_disagreement_covers_the_doubtful_half_first() -> None:
    points = np.array([0.0, 1.0, 5.0, 9.0, 100.0, -100.0, 50.0])
    r_hat, pairs = at(points)
    doubt = disagreement(r_hat, pairs)
    assert (doubt == 0).all()  # a single member agrees with itself: the first half is the first four
    scores = coverage_disagreement(r_hat, pairs)
    assert order(scores)[:4] == farthest_first(points[:4, None])
    assert set(order(scores)[4:]) == {4, 5, 6}


@pytest.mark.parametrize("n", [1, 2, 3, 20, 51])
def test_coverage_disagreement_then_asks_the_others_by_doubt(n: int) -> None:
    r_hat, pairs = random_case(n, seed=n)
    doubt = disagreement(r_hat, pairs)
    scores = coverage_disagreement(r_hat, pairs)
    half = (n + 1) // 2
    by_doubt = order(doubt)
    assert set(order(scores)[:half]) == set(by_doubt[:half])
    assert order(scores)[half:] == by_doubt[half:]
    inside = np.sort(by_doubt[:half])
    again = coverage(r_hat, pairs[np.array(by_doubt[:half])])
    assert [by_doubt[i] for i in order(again)] == order(scores)[:half]
    assert len(inside) == half


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("n", [0, 1, 2, 300])
@pytest.mark.parametrize("terminates", [False, True], ids=["time limit", "ends by itself"])
def test_contract_of_a_strategy(name: str, n: int, terminates: bool) -> None:
    r_hat, pairs = random_case(n, terminates=terminates)
    before = copy.deepcopy(r_hat.state_dict())
    state = torch.get_rng_state()
    scores = np.asarray(STRATEGIES[name](r_hat, pairs))
    assert scores.shape == (n,)
    assert np.issubdtype(scores.dtype, np.floating)
    assert not np.isnan(scores).any()
    np.testing.assert_array_equal(scores, STRATEGIES[name](r_hat, pairs))
    assert all(torch.equal(before[key], value) for key, value in r_hat.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    chosen = pairs[best_first(STRATEGIES[name], r_hat, pairs)[: n // 3]]
    assert len(chosen) == n // 3
    assert set(keys(chosen)) <= set(keys(pairs))


@pytest.mark.parametrize("name", ["disagreement", "entropy", "member_entropy", "information_gain"])
def test_which_side_is_left_does_not_matter(name: str) -> None:
    r_hat, pairs = random_case(50)
    turned = Pairs(pairs.recorder, pairs.segment_steps, pairs.row[:, ::-1], pairs.env[:, ::-1], pairs.length[:, ::-1])
    scores = STRATEGIES[name](r_hat, pairs)
    assert np.ptp(scores) > 1e-4
    np.testing.assert_allclose(STRATEGIES[name](r_hat, turned), scores, atol=1e-5)


def test_images_can_be_asked_about() -> None:
    space = spaces.Box(0, 255, (60, 60, 1), np.uint8)
    table = np.random.default_rng(0).integers(256, size=(30, 60, 60, 1), dtype=np.uint8)
    recorder = Recorder(DummyVecEnv([lambda: ImageTableEnv(table)]), "Table-v0", 0, 30)
    recorder.reset()
    for _ in table:
        recorder.step(np.zeros((1, 1), np.float32))
    r_hat = RewardEnsemble(space, ACTION, 2, generator=torch.Generator().manual_seed(0))
    pairs = recorder.pairs(9, 4, np.random.default_rng(0))
    for score in STRATEGIES.values():
        assert score(r_hat, pairs).shape == (9,)
    assert np.ptp(disagreement(r_hat, pairs)) > 0


class ImageTableEnv(TableEnv):
    """Shows images in turn."""

    def __init__(self, table: NDArray[np.uint8]) -> None:
        self.table, self.row = table, 0  # type: ignore[assignment]
        self.observation_space = spaces.Box(0, 255, table.shape[1:], np.uint8)
