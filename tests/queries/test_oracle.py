"""The simulated labelers: numbers worked by hand, rates within binomial bounds, and sentences for wrong settings."""

import json
import math
from collections import Counter
from collections.abc import Sequence

import gymnasium
import numpy as np
import pytest

from prefrl.queries.labelers import LABELERS, make_labeler
from prefrl.queries.oracle import POOL, TEACHERS, Oracle, Teacher, calibrated_beta, make_oracle, parse_teacher
from prefrl.words.errors import UserError
from prefrl.words.preference import Query, Segment


def segment(rewards: Sequence[float], **place: object) -> Segment:
    where = {"env_id": "Toy-v0", "step": 0, "seed": 0, "env_index": 0, "episode": 0, "offset": 0} | place
    steps = len(rewards)
    return Segment(np.zeros((steps, 2)), np.zeros((steps, 1)), np.asarray(rewards, np.float64), **where)


def query(left: Sequence[float], right: Sequence[float]) -> Query:
    return Query(segment(left), segment(right))


def answers(teacher: Teacher, queries: Sequence[Query], seed: int = 0) -> list[float | None]:
    return [preference.mu for preference in Oracle([teacher], seed)(queries)]


def rate_bound(probability: float, count: int) -> float:
    """Three standard deviations of an observed rate."""
    return 3 * math.sqrt(probability * (1 - probability) / count)


def pendulum_queries(count: int, scale: float, seed: int = 0) -> list[Query]:
    """Pairs of 25-step segments of a random policy on Pendulum, the rewards multiplied by `scale`."""
    env = gymnasium.make("Pendulum-v1")
    env.action_space.seed(seed)
    rewards = []
    for episode in range(30):
        env.reset(seed=seed + episode)
        rewards.append([float(env.step(env.action_space.sample())[1]) for _ in range(200)])
    env.close()
    rng = np.random.default_rng(seed)
    episodes, offsets = rng.integers(30, size=(count, 2)), rng.integers(176, size=(count, 2))
    cut = scale * np.asarray(rewards)[episodes[..., None], offsets[..., None] + np.arange(25)]
    return [query(left, right) for left, right in cut]


def share_right(teacher_answers: Sequence[float | None], queries: Sequence[Query]) -> float:
    decided = [
        (mu, np.sum(q.left.rewards) > np.sum(q.right.rewards))
        for mu, q in zip(teacher_answers, queries, strict=True)
        if mu in (0.0, 1.0)
    ]
    return float(np.mean([mu == better for mu, better in decided]))


# The paper's oracle


def test_the_higher_true_return_wins_and_exact_ties_are_equal() -> None:
    queries = [query([1, 2, 3], [3, 2, 0]), query([0, 0], [0, 1e-9]), query([4, 0, 0], [1, 1, 2]), query([-1], [-2])]
    assert answers(TEACHERS["oracle"], queries) == [1.0, 0.0, 0.5, 1.0]


def test_the_same_rewards_in_another_order_tie_despite_rounding() -> None:
    left, right = [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]
    assert sum(left) != sum(right)
    assert answers(TEACHERS["oracle"], [query(left, right), query(left, [0.3, 0.2, 0.1 + 1e-12])]) == [0.5, 0.0]


def test_segments_of_different_lengths_are_compared_by_their_sums() -> None:
    queries = [query([1, 1, 1], [2.5]), query([3], [1, 1]), query([2], [1, 1]), query([0] * 50, [1] * 3)]
    assert answers(TEACHERS["oracle"], queries) == [1.0, 1.0, 0.5, 0.0]


def test_only_the_raw_reward_is_read() -> None:
    # Clipped to +-1, or divided by its own standard deviation, the left segment would lose.
    rewards = np.array([100.0, 0, 0, 0]), np.array([1.0, 1, 1, 1.5])
    nothing = np.full((4, 3), np.nan)
    left, right = (Segment(nothing, nothing, r, "Toy-v0", 0, 0, 0, 0, 0) for r in rewards)
    assert answers(TEACHERS["oracle"], [Query(left, right), Query(right, left)]) == [1.0, 0.0]


def test_every_answer_comes_back_in_order_with_its_query() -> None:
    queries = [query([i], [3]) for i in range(7)]
    given = make_oracle(["oracle"], seed=0)(queries)
    assert [preference.query for preference in given] == queries
    assert {preference.labeler for preference in given} == {"oracle"}
    assert [preference.mu for preference in given] == [0, 0, 0, 0.5, 1, 1, 1]


def test_no_questions_no_answers() -> None:
    oracle = make_oracle(["right90"], seed=0)
    before = oracle.state_dict()
    assert oracle([]) == []
    assert oracle.state_dict() == before


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize(("step", "place"), [(0, 40), (2, 42)])
def test_a_reward_that_is_not_finite_is_named_by_place(poison: float, step: int, place: int) -> None:
    rewards = [0.0, 1.0, 2.0]
    rewards[step] = poison
    bad = segment(rewards, env_id="Bad-v1", offset=40, episode=3, env_index=2)
    with pytest.raises(UserError, match=rf"'Bad-v1' gave .* (nan|inf) at step {place} of episode 3 .* environment 2"):
        make_oracle(["oracle"], seed=0)([query([1, 2], [1]), Query(segment([1]), bad)])


# Rationality


@pytest.mark.parametrize(("beta", "left", "right"), [(1.0, [1, 0], [0, 0]), (0.5, [-3], [0, 1]), (0.01, [20], [-80])])
def test_a_boltzmann_teacher_samples_at_its_rate(beta: float, left: list[float], right: list[float]) -> None:
    n = 4000
    given = answers(Teacher("boltzmann", beta=beta), [query(left, right)] * n)
    expected = 1 / (1 + math.exp(-beta * (sum(left) - sum(right))))  # 0.731, 0.119, 0.731
    assert set(given) == {0.0, 1.0}
    assert abs(float(np.mean(given)) - expected) < rate_bound(expected, n)


def test_a_soft_teacher_says_what_a_drawn_answer_is_on_average() -> None:
    asked = [query([0.3, 0.2], [0.1, -0.4]), query([0.0], [1.5]), query([1.0], [1.0])]
    chances = [1 / (1 + math.exp(-2 * gap)) for gap in (0.8, -1.5, 0.0)]
    assert answers(Teacher("soft", beta=2.0, soft=1.0), asked) == pytest.approx(chances)
    assert answers(parse_teacher("soft:beta=2,mistake=0.1"), asked) == pytest.approx([0.1 + 0.8 * p for p in chances])
    assert answers(Teacher("certain", soft=1.0), asked) == answers(TEACHERS["oracle"], asked) == [1.0, 0.0, 0.5]
    drawn = answers(Teacher("drawn", beta=2.0), 4000 * asked[:1])
    assert abs(np.mean(drawn) - chances[0]) < rate_bound(chances[0], 4000)


def test_beta_zero_and_ties_are_coin_flips() -> None:
    n = 4000
    for teacher, pair in ((Teacher("coin", beta=0), query([9], [0])), (TEACHERS["stochastic"], query([2], [1, 1]))):
        given = answers(teacher, [pair] * n)
        assert set(given) == {0.0, 1.0}
        assert abs(float(np.mean(given)) - 0.5) < rate_bound(0.5, n)


def test_the_same_questions_asked_again_get_other_answers() -> None:
    oracle, queries = Oracle([Teacher("boltzmann", beta=1)], seed=0), [query([1], [0])] * 50
    first, second = ([p.mu for p in oracle(queries)] for _ in range(2))
    assert first != second


def test_a_large_beta_is_the_exact_oracle_on_decisive_pairs() -> None:
    queries = pendulum_queries(200, scale=1.0)
    assert answers(Teacher("sharp", beta=1e12), queries) == answers(TEACHERS["oracle"], queries)


# Myopia


def test_a_myopic_teacher_weighs_the_last_step_most() -> None:
    # Sums 10 and 9; with weights 0.81, 0.9, 1: 8.1 and 9. The second pair: 0.81 * 10 + 0.9 = 9 against 9, a tie.
    queries = [query([10, 0, 0], [0, 0, 9]), query([10, 1, 0], [0, 0, 9]), query([0, 0, 9], [0, 9.9, 0])]
    assert answers(TEACHERS["oracle"], queries) == [1.0, 1.0, 0.0]
    assert answers(TEACHERS["myopic"], queries) == [0.0, 0.5, 1.0]


def test_a_teacher_with_gamma_zero_sees_the_last_step_only() -> None:
    assert answers(Teacher("last", gamma=0), [query([9, 9, 1], [0, 2]), query([9, 1], [1])]) == [0.0, 0.5]


# Mistakes


def test_mistakes_come_at_their_rate_and_never_turn_a_tie() -> None:
    n = 4000
    given = answers(TEACHERS["mistake"], [query([1], [0]), query([1], [1])] * n)
    assert set(given[0::2]) == {0.0, 1.0}
    assert abs(given[0::2].count(0.0) / n - 0.1) < rate_bound(0.1, n)
    assert set(given[1::2]) == {0.5}


def test_mistakes_follow_the_draw_of_a_boltzmann_teacher() -> None:
    n = 6000
    given = answers(Teacher("both", beta=1, mistake=0.2), [query([2], [0])] * n)
    expected = 0.8 * 0.880797 + 0.2 * 0.119203
    assert abs(float(np.mean(given)) - expected) < rate_bound(expected, n)


# Thresholds: average return 500 over 1000 steps is 5 over a segment of 10, a tenth of which is 0.5


def ten_steps(total: float) -> list[float]:
    return [0.0] * 9 + [total]


def test_skip_and_equal_thresholds_are_scaled_once_at_every_phase() -> None:
    queries = [query(ten_steps(left), ten_steps(right)) for left, right in ((0.25, 0.5), (0.25, 0.75), (1.25, 0.75))]
    skip, equal = Oracle([TEACHERS["skip"]], seed=0), Oracle([TEACHERS["equal"]], seed=0)
    # A threshold scaled again each phase would be 0.05 at the second phase and 0.005 at the third.
    for _ in range(3):
        for oracle in (skip, equal):
            oracle.observe_policy(500.0, 1000.0)
        assert [p.mu for p in skip(queries)] == [None, 0.0, 1.0]  # 0.5 does not exceed 0.5
        assert [p.mu for p in equal(queries)] == [0.5, 0.0, 1.0]  # 0.25 is below 0.5; 0.5 is not
    for oracle in (skip, equal):
        oracle.observe_policy(1000.0, 1000.0)  # the policy is twice as good: thresholds of 1
    assert [p.mu for p in skip(queries)] == [None, None, 1.0]
    assert [p.mu for p in equal(queries)] == [0.5, 0.5, 0.5]


def test_thresholds_grow_with_the_segment_not_with_the_episode() -> None:
    for scale in (1, 10):
        oracle = Oracle([TEACHERS["skip"]], seed=0)
        oracle.observe_policy(500.0 * scale, 1000.0 * scale)
        queries = [query([0.0] * 9 + [0.75], [0.0] * 10), query([0.0] * 19 + [0.75], [0.0] * 20)]
        assert [p.mu for p in oracle(queries)] == [1.0, None]  # thresholds 0.5 and 1


def test_under_negative_returns_clearly_worse_than_average_is_skipped() -> None:
    # Average -60 over a segment of 10, so 54 worse than that is skipped (from -114), and a gap below 6 is equal.
    queries = [query(ten_steps(left), ten_steps(-150)) for left in (-50.0, -113.0, -115.0, -149.0)]
    skip, equal = Oracle([TEACHERS["skip"]], seed=0), Oracle([TEACHERS["equal"]], seed=0)
    for oracle in (skip, equal):
        oracle.observe_policy(-1200.0, 200.0)
    assert [p.mu for p in skip(queries)] == [1.0, 1.0, None, None]
    assert [p.mu for p in equal(queries)] == [1.0, 1.0, 1.0, 0.5]


def test_before_an_episode_has_finished_the_questions_own_rewards_set_the_scale() -> None:
    # 100 reward over the 40 steps asked about is 25 over a segment of 10: thresholds of 2.5.
    queries = [query(ten_steps(1), ten_steps(2)), query(ten_steps(50), ten_steps(47))]
    oracle = Oracle([Teacher("both", skip=0.1, equal=0.1)], seed=0)
    oracle.observe_policy(math.nan, math.nan)
    assert [p.mu for p in oracle(queries)] == [None, 1.0]
    oracle.observe_policy(40.0, 100.0)  # 4 over a segment: thresholds of 0.4
    assert [p.mu for p in oracle(queries)] == [0.0, 1.0]
    oracle.observe_policy(math.nan, math.nan)  # nothing new: the last report stands
    assert [p.mu for p in oracle(queries)] == [0.0, 1.0]


def test_thresholds_use_plain_sums_even_of_a_myopic_teacher() -> None:
    # Thresholds of 1 for three steps. Plain sums differ by 0.5 and by 1.8, weighted ones by 1.4 and by 0.1.
    queries = [query([10, 0, 0], [0, 0, 9.5]), query([10, 0, 0], [0, 0, 8.2])]
    oracle = Oracle([Teacher("myopic and equal", gamma=0.9, equal=0.1)], seed=0)
    oracle.observe_policy(100.0, 30.0)
    assert [p.mu for p in oracle(queries)] == [0.5, 0.0]
    # Plain sums of 1.5 exceed the threshold, weighted ones of 0.81 * 1.5 = 1.2 do too, of 0.9 ** 9 * 1.5 = 0.6 do not.
    oracle = Oracle([Teacher("myopic and skipping", gamma=0.9, skip=0.1)], seed=0)
    oracle.observe_policy(10.0, 10.0)
    assert [p.mu for p in oracle([query([1.5] + [0] * 9, [0] * 10), query([0.9] + [0] * 9, [0] * 10)])] == [1.0, None]


def test_equal_overrides_draws_and_mistakes_and_skip_overrides_equal() -> None:
    oracle = Oracle([Teacher("all", beta=0.1, mistake=0.5, skip=0.1, equal=0.1)], seed=0)
    oracle.observe_policy(10.0, 1.0)  # thresholds of 1 for a segment of one step
    given = oracle([query([5], [5.5])] * 200 + [query([0.5], [0.75])] * 200)
    assert {p.mu for p in given[:200]} == {0.5}
    assert {p.mu for p in given[200:]} == {None}


@pytest.mark.parametrize(("mean_return", "steps"), [(math.inf, 10.0), (1.0, 0.0), (1.0, math.nan)])
def test_a_report_that_no_policy_can_earn_is_refused(mean_return: float, steps: float) -> None:
    with pytest.raises(ValueError, match="no policy returns"):
        make_oracle(["skip"], seed=0).observe_policy(mean_return, steps)


# Target accuracy


def test_calibrated_beta_by_hand() -> None:
    assert calibrated_beta(np.array([2.0, -2.0]), 0.9) == pytest.approx(math.log(9) / 2)
    # sigma(ln 2) = 2/3 and sigma(2 ln 2) = 4/5 average to 11/15; ties are left out.
    assert calibrated_beta(np.array([1.0, 0.0, -2.0]), 11 / 15) == pytest.approx(math.log(2))
    assert calibrated_beta(np.array([1.0, 5.0]), 1.0) == math.inf
    assert calibrated_beta(np.array([1.0, 5.0]), 0.5) == 0.0
    assert calibrated_beta(np.zeros(3), 0.8) == math.inf


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("name", ["right95", "right90", "right70"])
def test_target_accuracy_is_reached_at_any_scale_of_reward(name: str, scale: float) -> None:
    queries, oracle = pendulum_queries(6000, scale), make_oracle([name], seed=1)
    given: list[float | None] = []
    for start in [0, *range(500, 6000, 50)]:
        given += [p.mu for p in oracle(queries[start : 500 if start == 0 else start + 50])]
    assert len(given) == 6000
    assert abs(share_right(given, queries) - int(name[-2:]) / 100) < 0.02


@pytest.mark.parametrize("batch", [1, 7])
def test_target_accuracy_holds_from_the_first_small_batches_on(batch: int) -> None:
    # Many short histories rather than one long one: the first 21 answers of each of 150 oracles.
    queries = pendulum_queries(150 * 21, scale=1.0, seed=3)
    given: list[float | None] = []
    for run in range(150):
        oracle = make_oracle(["right80"], seed=run)
        for start in range(21 * run, 21 * (run + 1), batch):
            given += [p.mu for p in oracle(queries[start : start + batch])]
    assert abs(share_right(given, queries) - 0.8) < rate_bound(0.8, len(queries))


def test_target_accuracy_follows_gaps_that_grow_a_hundredfold() -> None:
    queries = pendulum_queries(6000, scale=1.0)
    grown = [
        query(scale * q.left.rewards, scale * q.right.rewards)
        for scale, q in zip(np.geomspace(1, 100, 6000), queries, strict=True)
    ]
    oracle = make_oracle(["right90"], seed=0)
    given = [p.mu for start in range(0, 6000, 50) for p in oracle(grown[start : start + 50])]
    assert abs(share_right(given[:3000], grown[:3000]) - 0.9) < 0.02
    assert abs(share_right(given[3000:], grown[3000:]) - 0.9) < 0.02


def test_errors_gather_on_the_hard_pairs_and_ties_are_equal() -> None:
    n = 2000
    given = answers(TEACHERS["right80"], [query([1], [0]), query([9], [0]), query([3], [3])] * n)
    # sigma(beta) + sigma(9 beta) = 2 * 0.8 at beta = 0.467: right 61.5 % and 98.5 % of the time.
    hard, easy = float(np.mean(given[0::3])), float(np.mean(given[1::3]))
    assert abs(hard - 0.615) < rate_bound(0.615, n)
    assert abs(easy - 0.985) < rate_bound(0.985, n)
    assert set(given[2::3]) == {0.5}


def test_accuracy_counts_only_the_pairs_that_the_teacher_decides() -> None:
    # A third of the pairs fall under the threshold of equal; they say nothing about being right.
    rng = np.random.default_rng(0)
    queries = [query([10 + rng.uniform(0, 3)], [10.0]) for _ in range(6000)]
    oracle = Oracle([Teacher("picky", accuracy=0.75, equal=0.1)], seed=0)
    oracle.observe_policy(10.0, 1.0)
    given = [p.mu for p in oracle(queries)]
    assert abs(given.count(0.5) / 6000 - 1 / 3) < rate_bound(1 / 3, 6000)
    assert abs(share_right(given, queries) - 0.75) < 0.02


def test_right_always_is_the_oracle_and_half_the_time_a_coin() -> None:
    queries = [*pendulum_queries(1000, scale=1.0), query([1], [1])]
    assert answers(Teacher("sure", accuracy=1), queries) == answers(TEACHERS["oracle"], queries)
    assert abs(share_right(answers(Teacher("coin", accuracy=0.5), queries), queries) - 0.5) < rate_bound(0.5, 1000)


def test_the_pool_keeps_the_newest_queries_or_the_whole_batch() -> None:
    oracle = make_oracle(["right90"], seed=0)
    sizes = []
    for count in (POOL + 50, 10, 10):
        oracle([query([i], [0]) for i in range(1, count + 1)])
        sizes.append(len(oracle.state_dict()["pool"]))
    assert sizes == [POOL + 50, POOL, POOL]
    assert [best for best, _, _ in oracle.state_dict()["pool"]][-11:] == [10.0, *range(1, 11)]


# Answering time


def test_answering_takes_watching_and_a_lognormal_decision() -> None:
    n = 4000
    teacher = Teacher("slow", skip=1.0, decision_s=2.5, decision_spread=0.4, steps_per_second=20)
    oracle = Oracle([teacher], seed=0)
    oracle.observe_policy(1.0, 1.0)
    given = oracle([query([0] * 30, [0] * 10)] * n)
    assert {p.mu for p in given} == {None}  # skipping takes as long
    deciding = np.log(np.array([p.seconds for p in given]) - 30 / 20)  # the longer of the two, side by side
    assert abs(np.median(deciding) - math.log(2.5)) < 3 * 1.2533 * 0.4 / math.sqrt(n)
    assert abs(np.std(deciding) - 0.4) < 3 * 0.4 / math.sqrt(2 * n)


def test_a_default_answer_about_the_papers_clips_takes_three_to_five_seconds() -> None:
    seconds = [p.seconds for p in make_oracle(["oracle"], seed=0)([query([0] * 30, [1] * 30)] * 2000)]
    assert 3 < float(np.median(seconds)) < 5


def test_without_spread_the_time_is_exact() -> None:
    oracle = make_oracle(["decision_s=2,decision_spread=0,steps_per_second=10"], seed=0)
    assert [p.seconds for p in oracle([query([0] * 5, [1] * 5), query([0] * 5, [1] * 8)])] == [2.5, 2.8]


# Several annotators, seeds, resuming


def test_annotators_share_the_questions_and_answer_each_in_their_own_way() -> None:
    n = 3000
    crowd = make_oracle(["oracle", "myopic", "name=backwards,mistake=1"], seed=0)
    given = crowd([query([10, 0, 0], [0, 0, 9])] * n)
    counts = Counter(p.labeler for p in given)
    assert {p.labeler: p.mu for p in given} == {"oracle": 1.0, "myopic": 0.0, "backwards": 0.0}
    assert len({(p.labeler, p.mu) for p in given}) == 3
    assert all(abs(counts[name] / n - 1 / 3) < rate_bound(1 / 3, n) for name in ("oracle", "myopic", "backwards"))


def test_each_annotator_keeps_its_own_accuracy() -> None:
    queries = pendulum_queries(8000, scale=1e3)
    given = make_oracle(["right95", "right70"], seed=0)(queries)
    for name, accuracy in (("right95", 0.95), ("right70", 0.7)):
        mine = [p for p in given if p.labeler == name]
        assert abs(share_right([p.mu for p in mine], [p.query for p in mine]) - accuracy) < 0.02


def plain(oracle: Oracle, queries: Sequence[Query]) -> list[tuple[float | None, str, float]]:
    return [(p.mu, p.labeler, p.seconds) for p in oracle(queries)]


def test_the_seed_decides_and_the_batch_does_not() -> None:
    names, queries = ["stochastic", "mistake"], pendulum_queries(60, scale=0.01)
    whole = plain(make_oracle(names, seed=5), queries)
    assert plain(make_oracle(names, seed=5), queries) == whole
    assert plain(make_oracle(names, seed=6), queries) != whole
    halves = make_oracle(names, seed=5)
    assert plain(halves, queries[:23]) + plain(halves, queries[23:]) == whole


def test_a_resumed_oracle_answers_as_if_it_had_never_stopped() -> None:
    # Each part of the state matters: draws, what the policy earns (threshold 0.5), and the gaps seen (all of 1,
    # beside which a gap of 100 is beyond doubt; alone it would be mistaken one time in five).
    names = ["right80", "name=skips,skip=0.5", "stochastic"]
    oracle = make_oracle(names, seed=0)
    oracle.observe_policy(1000.0, 1000.0)
    oracle([query([i % 2], [1 - i % 2]) for i in range(60)])
    saved = json.dumps(oracle.state_dict())
    later = [query([100], [0]), query([0.4], [0])] * 30
    rest = [plain(oracle, [one]) for one in later]
    for part in (None, "rng", "reward_per_step", "pool"):
        resumed = make_oracle(names, seed=99)
        fresh = resumed.state_dict()
        resumed.load_state_dict(json.loads(saved) | ({part: fresh[part]} if part else {}))
        assert ([plain(resumed, [one]) for one in later] == rest) is (part is None), part


# Settings


@pytest.mark.parametrize(
    ("text", "teacher"),
    [
        ("oracle", Teacher("oracle")),
        ("right90", Teacher("right90", accuracy=0.9)),
        ("beta=1,gamma=0.9", Teacher("beta=1,gamma=0.9", beta=1.0, gamma=0.9)),
        ("accuracy=0.9", Teacher("accuracy=0.9", accuracy=0.9)),
        ("mistake:mistake=0.2", Teacher("mistake:mistake=0.2", mistake=0.2)),
        ("skip: equal = 0.3", Teacher("skip:equal=0.3", skip=0.1, equal=0.3)),
        ("name=ann,beta=inf", Teacher("ann")),
    ],
)
def test_teachers_as_written_on_the_command_line(text: str, teacher: Teacher) -> None:
    assert parse_teacher(text) == teacher


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rigth90", "unknown teacher 'rigth90'.*Did you mean 'right90'"),
        ("mistakes:mistake=0.2", "unknown teacher 'mistakes:mistake=0.2'.*Did you mean 'mistake'"),
        ("", "unknown teacher ''"),
        ("betta=1", "no setting 'betta'.*Did you mean 'beta'"),
        ("mistake:", "no setting ''"),
        ("mistake:0.2", "no setting '0.2'"),
        ("beta=warm", "sets beta to 'warm'"),
        ("name=", "sets name to ''.*name=ann"),
        ("beta=1,beta=2", "sets beta twice"),
        ("beta=-1", "beta=-1, but beta is from 0"),
        ("beta=nan", "beta=nan"),
        ("gamma=1.5", "gamma is between 0 and 1"),
        ("mistake=1.1", "mistake is a probability"),
        ("skip=-0.1", "skip is a share"),
        ("equal=2", "equal is a share"),
        ("accuracy=90", "accuracy is between 0.5"),
        ("accuracy=0.4", "accuracy is between 0.5"),
        ("decision_s=inf", "decision_s is a finite number"),
        ("decision_spread=-1", "decision_spread is between 0 and 5"),
        ("steps_per_second=0", "steps_per_second is finite and above 0"),
        ("accuracy=0.9,beta=1", "both accuracy=0.9 and beta=1"),
        ("mistake:accuracy=0.9", "both accuracy=0.9 and mistake=0.1"),
        ("myopic:accuracy=0.9", "both accuracy=0.9 and gamma=0.9"),
    ],
)
def test_wrong_settings_get_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        parse_teacher(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [[], ["mistake", "mistake"]])
def test_teachers_need_names_of_their_own(names: list[str]) -> None:
    with pytest.raises(UserError, match="name of its own"):
        make_oracle(names, seed=0)


# The table of labelers


def left_always(seed: int) -> object:
    return lambda queries: [seed] * len(queries)


def not_a_labeler(seed: int) -> int:
    return seed


def test_labelers_by_name_and_by_import_path() -> None:
    assert set(LABELERS) == {"oracle", "human", "judge"}
    assert [p.labeler for p in make_labeler("oracle", ["mistake"], seed=0)([query([1], [0])])] == ["mistake"]
    assert make_labeler(f"{__name__}:left_always", ["oracle"], seed=4)([query([1], [0])]) == [4]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("oracel", "unknown labeler 'oracel'.*Did you mean 'oracle'"),
        (f"{__name__}:query", "cannot be called as factory"),
        (f"{__name__}:not_a_labeler", "made 0, which is not callable"),
        ("nowhere:factory", "cannot be imported"),
    ],
)
def test_wrong_labelers_get_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make_labeler(name, ["oracle"], seed=0)
