import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from prefrl.rewards import networks
from prefrl.rewards.answers import each_once
from prefrl.rewards.fit import Fit, adapted_l2
from prefrl.rewards.networks import MLPs
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.words.preference import Preference, Query, Segment

ACTION = spaces.Box(-1, 1, (1,), np.float32)


def segment(observations: ArrayLike, actions: ArrayLike | None = None) -> Segment:
    """A segment of these observations (T, d); the action is zero where none is given."""
    shown = np.asarray(observations)
    shown = shown if shown.dtype == np.uint8 else shown.astype(np.float32)
    done = np.zeros((len(shown), 1), np.float32) if actions is None else np.asarray(actions, np.float32)
    return Segment(shown, done, np.zeros(len(shown)), "Some-v0", 0, 0, 0, 0, 0)


def answer(left: ArrayLike, right: ArrayLike, mu: float | None = 1.0) -> Preference:
    return Preference(Query(segment(left), segment(right)), mu, "someone", 0.0)


def linear(features: int, members: int, weights: ArrayLike = 0.0, bias: float = 0.0) -> RewardEnsemble:
    """Rewards weights . o + bias, whatever the action."""
    r_hat = RewardEnsemble(spaces.Box(-9, 9, (features,), np.float32), ACTION, members, hidden=())
    assert isinstance(r_hat.network, MLPs)
    with torch.no_grad():
        r_hat.network.weights[0].zero_()
        r_hat.network.weights[0][:, :features, 0] = torch.as_tensor(np.asarray(weights, np.float32))
        r_hat.network.biases[0].fill_(bias)
    return r_hat


def weights(r_hat: RewardEnsemble) -> NDArray[np.float32]:
    """(K, d) of a linear ensemble, the action's weight last."""
    assert isinstance(r_hat.network, MLPs)
    return r_hat.network.weights[0].detach()[..., 0].numpy().copy()


def parameters(r_hat: RewardEnsemble) -> list[torch.Tensor]:
    return [p.detach().clone() for p in r_hat.parameters()]


def make_fit(r_hat: RewardEnsemble, seed: int = 0, segment_steps: int = 1, **settings: Any) -> Fit:
    return Fit(r_hat, np.random.default_rng(seed), segment_steps, **settings)


def unit(place: int, features: int) -> list[list[float]]:
    return np.eye(features)[[place]].tolist()


@pytest.mark.parametrize(("floor", "mu"), [(0.0, 1.0), (0.0, 0.0), (0.1, 1.0), (0.1, 0.0), (0.1, 0.5), (0.3, 0.5)])
@pytest.mark.parametrize("segment_steps", [2, 5])
def test_loss_by_hand(floor: float, mu: float, segment_steps: int) -> None:
    r_hat = linear(2, members=2, weights=[2.0, -1.0], bias=0.25)
    fit = make_fit(r_hat, segment_steps=segment_steps, noise_floor=floor, learning_rate=0.0, batch=8, l2=0.0)
    left, right = [[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5]]  # a segment that its episode's end cut to one step
    fit.add([answer(left, right, mu)] * 20)
    p = (1 - floor) / (1 + math.exp(-((2 + 0.25 - 1 + 0.25) - (0.5 + 0.25)))) + floor / 2
    loss = -(mu * math.log(p) + (1 - mu) * math.log(1 - p))
    report = fit.run(3)
    assert report.updates == 3
    assert report.train_loss == pytest.approx(loss, rel=1e-5)
    assert report.held_out_loss == pytest.approx(loss, rel=1e-5)
    if mu == 0.5:
        assert math.isnan(report.held_out_accuracy)
    else:
        assert report.held_out_accuracy == mu  # the network prefers left, always


def test_losses_are_weighted_by_the_bootstrap() -> None:
    gaps, mus = np.linspace(-2, 2, 30), np.tile([1.0, 0.0, 0.5], 10)
    r_hat = linear(1, members=3, weights=[[1.0], [-2.0], [0.5]])
    fit = make_fit(r_hat, noise_floor=0.1, learning_rate=0.0, batch=7, l2=0.0)
    fit.add([answer([[gap]], [[0.0]], mu) for gap, mu in zip(gaps, mus, strict=True)])
    counts = fit.answers.batch(np.arange(30)).counts.numpy().T  # (K, N)
    report = fit.run(fit.epochs(2))
    p = 0.9 / (1 + np.exp(-np.array([[1.0], [-2.0], [0.5]]) * gaps)) + 0.05
    losses = -(mus * np.log(p) + (1 - mus) * np.log(1 - p))
    train = (losses * counts).sum(1) / counts.sum(1)
    held = counts == 0
    right = ((p > 0.5) == (mus > 0.5)) & held & (mus != 0.5)
    assert report.train_loss == pytest.approx(train.mean(), rel=1e-5)
    assert report.held_out_loss == pytest.approx(((losses * held).sum(1) / held.sum(1)).mean(), rel=1e-5)
    accuracy = (right.sum(1) / (held & (mus != 0.5)).sum(1)).mean()
    assert report.held_out_accuracy == pytest.approx(accuracy, rel=1e-5)


@pytest.mark.parametrize(("weight", "right"), [(0.0, 0.5), (1.0, 1.0), (-1.0, 0.0), (math.nan, math.nan)])
def test_what_takes_no_side_is_half_right_and_what_is_nan_is_neither(weight: float, right: float) -> None:
    fit = make_fit(linear(1, members=3, weights=weight), learning_rate=0.0, batch=40, l2=0.0)
    fit.add([answer([[1.0]], [[0.0]], 1.0), answer([[0.0]], [[1.0]], 0.0)] * 20)
    np.testing.assert_equal(fit.run(1).held_out_accuracy, right)


def test_the_training_loss_is_that_before_each_update() -> None:
    """Which is higher than that of all answers at one moment, as the docstring says."""
    fit = make_fit(
        RewardEnsemble(spaces.Box(-9, 9, (6,), np.float32), ACTION, generator=torch.Generator().manual_seed(0)),
        segment_steps=10,
        learning_rate=6e-3,
        batch=32,
    )
    fit.add(experience(reward_of("linear"), 200, 0))
    fit.run(fit.epochs(20))
    before = fit.run(fit.epochs(1)).train_loss
    for group in fit.adam.param_groups:
        group["lr"] = 0.0
    assert fit.run(fit.epochs(1)).train_loss < before


def test_a_bootstrap_is_poisson_and_leaves_out_one_in_e() -> None:
    fit = make_fit(linear(1, members=2000))
    for _ in range(4):
        fit.add([answer([[1.0]], [[0.0]])] * 5)
    counts = fit.answers.batch(np.arange(20)).counts.numpy()
    assert counts.shape == (20, 2000)
    assert counts.mean() == pytest.approx(1, abs=0.02)  # 4 standard errors
    assert counts.var() == pytest.approx(1, abs=0.04)
    assert (counts == 0).mean() == pytest.approx(1 / math.e, abs=0.01)
    assert np.abs(np.corrcoef(counts.T[:, :6].T)[np.triu_indices(6, 1)]).max() < 0.1  # answers fall independently


def test_what_is_held_out_from_a_member_stays_so_through_every_phase() -> None:
    r_hat = linear(2, members=3000)
    fit = make_fit(r_hat, l2=0.0)
    fit.add([answer(unit(0, 2), [[0.0, 0.0]]), answer(unit(1, 2), [[0.0, 0.0]])])
    fit.run(1)
    moved = weights(r_hat)[:, 0] != 0  # only the first answer can have moved this weight
    assert moved.mean() == pytest.approx(1 - 1 / math.e, abs=0.035)
    both = moved & (weights(r_hat)[:, 1] != 0)
    assert both.mean() == pytest.approx((1 - 1 / math.e) ** 2, abs=0.035)
    for _ in range(3):
        fit.add([answer(unit(1, 2), [[0.0, 0.0]])] * 10)
        fit.run(4)
        np.testing.assert_array_equal(weights(r_hat)[:, 0] != 0, moved)
    assert (weights(r_hat)[:, 1] != 0).mean() > 0.99


def test_a_member_learns_as_if_it_were_alone_with_its_bootstrap() -> None:
    rng = np.random.default_rng(0)
    answers = [answer(rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), float(rng.integers(2))) for _ in range(60)]
    space = spaces.Box(-9, 9, (4,), np.float32)
    first, other = (RewardEnsemble(space, ACTION, 3, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter[1:] = torch.randn(parameter[1:].shape, generator=torch.Generator().manual_seed(7))
    for r_hat in (first, other):
        fit = make_fit(r_hat, segment_steps=3, batch=16)
        fit.add(answers)
        fit.run(fit.epochs(5))
    for mine, theirs in zip(first.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine[0], theirs[0], rtol=1e-4, atol=1e-6)
        assert not torch.allclose(mine[1], theirs[1])


def test_skipped_answers_teach_nothing() -> None:
    r_hat = linear(2, members=5)
    fit = make_fit(r_hat)
    fit.add([answer(unit(0, 2), [[0.0, 0.0]], None)] * 10)
    assert len(fit.answers) == fit.epochs(3) == 0
    assert math.isnan(fit.run(10).train_loss)
    fit.add([answer(unit(0, 2), [[0.0, 0.0]], None), answer(unit(1, 2), [[0.0, 0.0]])])
    assert len(fit.answers) == 1
    fit.run(5)
    assert (weights(r_hat)[:, 0] == 0).all()
    assert (weights(r_hat)[:, 1] > 0).any()


def test_no_answers_and_no_updates_are_ordinary_numbers() -> None:
    r_hat = linear(2, members=2, weights=[1.0, 2.0])
    fit = make_fit(r_hat)
    before = parameters(r_hat)
    fit.add([])
    for report in (fit.run(5), fit.run(0)):
        assert report.updates == 0
        assert math.isnan(report.held_out_loss)
    fit.add([answer(unit(0, 2), [[0.0, 0.0]])])
    assert fit.run(0).updates == 0
    assert all(map(torch.equal, before, parameters(r_hat)))


def test_ties_pull_returns_together() -> None:
    r_hat = linear(1, members=4, weights=[3.0])
    fit = make_fit(r_hat, learning_rate=0.05, l2=0.0, noise_floor=0.0)
    fit.add([answer([[1.0]], [[0.0]], 0.5)] * 20)
    report = fit.run(400)
    np.testing.assert_allclose(weights(r_hat)[:, 0], 0, atol=0.02)
    assert report.train_loss == pytest.approx(math.log(2), abs=1e-3)


def test_only_the_newest_answers_are_fitted() -> None:
    r_hat = linear(4, members=50)
    fit = make_fit(r_hat, max_answers=2, l2=0.0)
    for place in range(4):
        fit.add([answer(unit(place, 4), [[0.0] * 4])])
        assert len(fit.answers) == min(place + 1, 2)
    fit.run(5)
    assert (weights(r_hat)[:, :2] == 0).all()
    assert (weights(r_hat)[:, 2:4] != 0).any(0).all()


def test_the_only_answer_may_be_taken_back() -> None:
    fit = make_fit(linear(4, members=2))
    given = answer(unit(0, 4), [[0.0] * 4])
    fit.add([given])
    assert fit.forget([(given.query.key, given.labeler)]) == 1
    assert fit.run(5).updates == 0


def test_the_penalty_shrinks_weights_and_spares_biases() -> None:
    nothing_to_learn = [answer([[1.0, 1.0]], [[1.0, 1.0]], 0.5)] * 4
    for l2, shrinks in ((0.1, True), (0.0, False)):
        r_hat = linear(2, members=2, weights=[2.0, -3.0], bias=0.5)
        fit = make_fit(r_hat, l2=l2, learning_rate=0.01)
        fit.add(nothing_to_learn)
        fit.run(20)
        np.testing.assert_allclose(weights(r_hat)[:, :2], [[1.8, -2.8] if shrinks else [2, -3]] * 2, atol=0.01)
        assert isinstance(r_hat.network, MLPs)
        assert (r_hat.network.biases[0] == 0.5).all()


@pytest.mark.parametrize(
    ("train_loss", "held_out_loss", "factor"),
    [(0.2, 0.31, 1.02), (0.2, 0.299, 1), (0.2, 0.221, 1), (0.2, 0.219, 1 / 1.02), (0.2, 0.1, 1 / 1.02)],
)
def test_the_penalty_rises_above_one_and_a_half_and_falls_below_one_point_one(
    train_loss: float, held_out_loss: float, factor: float
) -> None:
    before = torch.tensor([1e-3, 5e-3])
    after = adapted_l2(before, torch.full((2,), train_loss), torch.full((2,), held_out_loss))
    torch.testing.assert_close(after, before * factor)
    assert adapted_l2(torch.zeros(1), torch.tensor([train_loss]), torch.tensor([held_out_loss])).item() == 0


def test_the_penalty_stays_in_its_range_and_is_a_members_own() -> None:
    train, held = torch.tensor([0.1, 0.1, 0.1, math.nan]), torch.tensor([0.2, 0.1, 0.13, 0.1])
    weight = 5e-3
    moved = adapted_l2(torch.full((4,), weight), train, held).tolist()
    assert moved == pytest.approx([weight * 1.02, weight / 1.02, weight, weight])
    assert adapted_l2(torch.tensor([0.1]), train[:1], held[:1]).item() == pytest.approx(0.1)
    assert adapted_l2(torch.tensor([0.5]), train[:1], held[:1]).item() == 0.5
    assert adapted_l2(torch.tensor([0.5]), train[1:2], held[1:2]).item() == pytest.approx(0.5 / 1.02)
    assert adapted_l2(torch.tensor([1e-7]), train[1:2], held[1:2]).item() == pytest.approx(1e-7)


def test_the_penalty_rises_where_a_fit_memorises_and_falls_where_it_generalises() -> None:
    rng = np.random.default_rng(0)
    space = spaces.Box(-9, 9, (20,), np.float32)

    def fitted(answers: list[Preference], epochs: int) -> torch.Tensor:
        fit = make_fit(RewardEnsemble(space, ACTION, generator=torch.Generator().manual_seed(0)), segment_steps=5)
        fit.add(answers)
        fit.run(fit.epochs(epochs))
        return fit.l2

    random = [answer(rng.normal(size=(5, 20)), rng.normal(size=(5, 20)), float(rng.integers(2))) for _ in range(60)]
    assert (fitted(random, 150) > 1.5e-4).all()
    plain = []
    for _ in range(600):
        left, right = rng.normal(size=(5, 20)), rng.normal(size=(5, 20))
        plain.append(answer(left, right, float(left[:, 0].sum() > right[:, 0].sum())))
    assert (fitted(plain, 4) < 0.8e-4).all()


def test_a_minibatch_that_leaves_nothing_out_says_nothing_about_overfitting() -> None:
    # With one answer a minibatch, each member sees it either in its bootstrap or held out. All answers cost the same
    # here, so that held-out and training loss are equal whichever comes first, and no penalty may rise.
    fit = make_fit(linear(1, members=20), learning_rate=0.0, batch=1)
    fit.add([answer([[1.0]], [[0.0]])] * 30)
    fit.run(60)
    assert (fit.l2 < 1e-4).all()


def reward_of(name: str) -> Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]:
    """A reward of six observed numbers, with mean 3 and deviation 2, and one action."""
    one, other = np.random.default_rng(1).normal(size=(2, 7)) / math.sqrt(7)

    def reward(observations: NDArray[Any], actions: NDArray[Any]) -> NDArray[Any]:
        inputs = np.concatenate([(observations - 3) / 2, actions], 1)
        return inputs @ one if name == "linear" else inputs @ one + (inputs @ other) ** 2 / 2

    return reward


def experience(reward: Callable[..., NDArray[Any]], n: int, seed: int) -> list[Preference]:
    """Noiseless answers about pairs of random segments of ten steps."""
    rng, answers = np.random.default_rng(seed), []
    for _ in range(n):
        sides = [(3 + 2 * rng.normal(size=(10, 6)), rng.uniform(-1, 1, (10, 1))) for _ in range(2)]
        left, right = (reward(o, a).sum() for o, a in sides)
        query = Query(*(segment(o, a) for o, a in sides))
        answers.append(Preference(query, float(left > right), "truth", 0.0))
    return answers


def returns(r_hat: RewardEnsemble, segments: Sequence[Segment]) -> NDArray[np.float64]:
    shown, done = np.stack([s.observations for s in segments]), np.stack([s.actions for s in segments])
    return r_hat.reward(shown.reshape(-1, 6), done.reshape(-1, 1)).reshape(len(segments), -1).sum(1)


@pytest.mark.parametrize("name", ["linear", "smooth"])
def test_a_known_reward_is_recovered_from_noiseless_answers(name: str) -> None:
    reward = reward_of(name)
    known, unseen = experience(reward, 800, 0), experience(reward, 1000, 1)
    space = spaces.Box(-np.inf, np.inf, (6,), np.float32)
    r_hat = RewardEnsemble(space, ACTION, generator=torch.Generator().manual_seed(0))
    segments = [s for p in known for s in (p.query.left, p.query.right)]
    r_hat.observe(np.concatenate([s.observations for s in segments]), np.concatenate([s.actions for s in segments]))
    fit = make_fit(r_hat, segment_steps=10)
    fit.add(known)
    report = fit.run(fit.epochs(30))
    r_hat.normalise_outputs(segments[0].observations, segments[0].actions)
    left, right = (returns(r_hat, [getattr(p.query, side) for p in unseen]) for side in ("left", "right"))
    right_answers = np.mean((left > right) == [p.mu == 1 for p in unseen])
    assert right_answers > 0.95, report
    assert abs(report.held_out_accuracy - right_answers) < 0.05  # what the fit says of itself is true


def test_targets_by_hand() -> None:
    """Half the squared distances of both returns from the true ones, which are brought to unit deviation."""
    r_hat = linear(2, members=2, weights=[2.0, -1.0], bias=0.25)
    fit = make_fit(r_hat, segment_steps=2, learning_rate=0.0, batch=8, l2=0.0, objective="target")
    left, right = segment([[1.0, 0.0], [0.0, 1.0]]), segment([[0.5, 0.5]])
    left, right = (dataclasses.replace(s, rewards=np.full(len(s), 3.0)) for s in (left, right))
    fit.add([Preference(Query(left, right), 0.0, "someone", 0.0)] * 20)
    deviation = 1.5  # of 6 and 3
    loss = ((1.5 - 6 / deviation) ** 2 + (0.75 - 3 / deviation) ** 2) / 2
    report = fit.run(3)
    assert report.train_loss == pytest.approx(loss, rel=1e-5)
    assert report.held_out_loss == pytest.approx(loss, rel=1e-5)


def test_a_known_reward_is_recovered_from_its_values() -> None:
    reward = reward_of("linear")

    def valued(n: int, seed: int) -> list[Preference]:
        """Every answer is wrong, and every value right."""
        answers = []
        for old in experience(reward, n, seed):
            sides = [
                dataclasses.replace(s, rewards=reward(s.observations, s.actions).astype(np.float64))
                for s in (old.query.left, old.query.right)
            ]
            assert old.mu is not None
            answers.append(Preference(Query(*sides), 1 - old.mu, "opposite", 0.0))
        return answers

    space = spaces.Box(-np.inf, np.inf, (6,), np.float32)
    r_hat = RewardEnsemble(space, ACTION, generator=torch.Generator().manual_seed(0))
    fit = make_fit(r_hat, segment_steps=10, objective="target")
    fit.add(valued(400, 0))
    fit.run(fit.epochs(60))
    fresh = [side for a in valued(200, 1) for side in (a.query.left, a.query.right)]
    assert np.corrcoef(returns(r_hat, fresh), [s.rewards.sum() for s in fresh])[0, 1] > 0.9


def test_two_fits_in_a_row_are_one_long_fit() -> None:
    answers = experience(reward_of("linear"), 50, 0)
    ensembles = []
    for parts in ((8,), (4, 4), (2, 4, 2)):
        r_hat = RewardEnsemble(spaces.Box(-9, 9, (6,)), ACTION, generator=torch.Generator().manual_seed(0))
        fit = make_fit(r_hat, segment_steps=10, batch=25)
        fit.add(answers)
        for updates in parts:
            fit.run(updates)
        ensembles.append((parameters(r_hat), fit.l2))
    for weights_, l2 in ensembles[1:]:
        assert all(map(torch.equal, weights_, ensembles[0][0]))
        assert torch.equal(l2, ensembles[0][1])


def test_a_fit_is_its_seeds() -> None:
    answers = experience(reward_of("linear"), 40, 0)

    def fitted(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(int(torch.randint(1000, ()).item()))  # whatever the global state is
        r_hat = RewardEnsemble(spaces.Box(-9, 9, (6,)), ACTION, generator=torch.Generator().manual_seed(0))
        fit = make_fit(r_hat, seed, segment_steps=10)
        fit.add(answers)
        fit.run(10)
        return parameters(r_hat)

    first, again, other = fitted(1), fitted(1), fitted(2)
    assert all(map(torch.equal, first, again))
    # The last bias cancels between segments of one length: nothing teaches it.
    assert [torch.equal(*both) for both in zip(first, other, strict=True)].count(True) == 1


@pytest.mark.parametrize("updates", [1, 2, 3, 7])
def test_each_pass_shows_every_answer_once(updates: int) -> None:
    r_hat = linear(5, members=200)
    fit = make_fit(r_hat, batch=2, l2=0.0)
    fit.add([answer(unit(place, 5), [[0.0] * 5]) for place in range(5)])
    assert fit.epochs(1) == 3
    assert fit.run(updates).updates == updates
    shown = (weights(r_hat)[:, :5] != 0).any(0).sum()
    assert shown == {1: 2, 2: 4}.get(updates, 5) or (updates == 2 and shown == 3)


def test_answers_are_given_out_as_they_came_in() -> None:
    rng = np.random.default_rng(0)
    image = spaces.Box(0, 255, (48, 46, 3), np.uint8)
    for space, draw in (
        (spaces.Box(-9, 9, (4,), np.float32), lambda n: rng.normal(size=(n, 4)).astype(np.float32)),
        (image, lambda n: rng.integers(256, size=(n, *image.shape), dtype=np.uint8)),
    ):
        r_hat = RewardEnsemble(space, ACTION, members=2)
        fit = make_fit(r_hat, segment_steps=3, max_answers=4)
        given = [answer(draw(rng.integers(1, 4)), draw(3), mu) for mu in (1.0, 0.0, 0.5, 1.0, 0.0, 0.5)]
        for part in (given[:1], given[1:5], given[5:]):
            fit.add(part)
        batch = fit.answers.batch(np.array([3, 0, 2]))
        kept = [given[2:][i] for i in (3, 0, 2)]
        assert batch.mu.tolist() == [p.mu for p in kept]
        for n, preference in enumerate(kept):
            for side, mine in enumerate((preference.query.left, preference.query.right)):
                inputs = r_hat.inputs(mine.observations, mine.actions)
                torch.testing.assert_close(batch.inputs[n, side, : len(mine)], inputs, rtol=0, atol=0)
                assert batch.mask[n, side].tolist() == [float(t < len(mine)) for t in range(3)]


def test_frames_that_stacks_share_are_kept_once() -> None:
    rng = np.random.default_rng(0)
    film = rng.integers(256, size=(9, 5, 6), dtype=np.uint8)
    cut = np.stack([film[i : i + 4] for i in (0, 1, 2, 5, 4, 5)])  # the fourth and fifth do not follow on
    for images, count in ((cut, 4 + 1 + 1 + 4 + 4 + 1), (cut[:1], 4), (cut[:, :1], 6), (np.zeros_like(cut), 4 + 5)):
        frames, place = each_once(images)
        assert len(frames) == count
        np.testing.assert_array_equal(frames[place], images)


@pytest.mark.parametrize("kind", ["vectors", "images"])
def test_room_that_no_segment_fills_changes_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "computes_with_bfloat16", lambda device: False)  # exact enough to tell
    rng = np.random.default_rng(0)
    shape: tuple[int, ...] = (4,) if kind == "vectors" else (46, 46, 1)
    space = spaces.Box(0, 255, shape, np.float32 if kind == "vectors" else np.uint8)
    answers = [
        answer(*(rng.integers(256, size=(2, *shape)).astype(space.dtype) for _ in range(2)), float(rng.integers(2)))
        for _ in range(10)
    ]
    fitted = []
    for segment_steps in (2, 4):
        r_hat = RewardEnsemble(space, ACTION, 2, generator=torch.Generator().manual_seed(0))
        for module in r_hat.modules():
            if isinstance(module, networks.Dropout):
                module.p = 0.0
        fit = make_fit(r_hat, segment_steps=segment_steps)
        fit.add(answers)
        fit.run(3)
        fitted.append(r_hat.member_rewards(answers[0].query.left.observations, answers[0].query.left.actions))
    torch.testing.assert_close(fitted[0], fitted[1], rtol=1e-4, atol=1e-5)


def test_a_reward_is_learned_on_images() -> None:
    rng = np.random.default_rng(0)
    space = spaces.Box(0, 255, (46, 46, 1), np.uint8)

    def seen(bright: bool) -> NDArray[np.uint8]:
        return rng.integers(100 if bright else 0, 256 if bright else 156, size=(2, 46, 46, 1), dtype=np.uint8)

    answers = [answer(seen(left), seen(not left), float(left)) for left in rng.integers(2, size=40).astype(bool)]
    r_hat = RewardEnsemble(space, ACTION, generator=torch.Generator().manual_seed(0))
    fit = make_fit(r_hat, segment_steps=2, batch=20)
    torch.manual_seed(0)
    fit.add(answers)
    fit.run(fit.epochs(10))
    assert not r_hat.training  # dropout and batch norm are at rest where rewards are paid
    bright, dark = (np.concatenate([seen(kind) for _ in range(20)]) for kind in (True, False))
    nothing = np.zeros((40, 1), np.float32)
    assert r_hat.reward(bright, nothing).min() > r_hat.reward(dark, nothing).max()


def test_the_last_updates_of_a_long_fit_cost_what_the_first_did():
    """The penalty drives weights that explain nothing below 1e-38, where a processor takes 20 times as long."""
    rng, steps = np.random.default_rng(0), 20
    first_weights = torch.Generator().manual_seed(0)
    r_hat = RewardEnsemble(spaces.Box(-9, 9, (3,), np.float32), ACTION, generator=first_weights)
    fit = make_fit(r_hat, segment_steps=steps, learning_rate=2e-2, batch=16, l2=0.1)
    shown = rng.normal(size=(32, 2, steps, 3))
    fit.add([answer(left, right, float(left[:, 0].sum() > right[:, 0].sum())) for left, right in shown])
    torch.set_flush_denormal(False)
    seconds = []
    for _ in range(18):
        began = time.thread_time()
        fit.run(100)
        seconds.append(time.thread_time() - began)
    smallest = min(float(weights.abs().min()) for weights in parameters(r_hat))
    assert smallest < 1e-36  # it has gone as far as that
    assert min(seconds[-3:]) <= 1.5 * min(seconds[:3])


def test_a_fit_that_diverges_is_taken_back_whole() -> None:
    space = spaces.Box(-9, 9, (2,), np.float32)
    r_hat = RewardEnsemble(space, ACTION, 3, generator=torch.Generator().manual_seed(0))
    fit, rng = make_fit(r_hat, batch=8), np.random.default_rng(1)
    steps = rng.normal(size=(50, 2)).astype(np.float32), np.zeros((50, 1), np.float32)
    fit.add([answer(rng.normal(size=(1, 2)), rng.normal(size=(1, 2))) for _ in range(30)])
    fit.refit(steps, steps, 10, 0.0)
    weights_before, paid_before = parameters(r_hat), r_hat.reward(*steps)
    l2, rate = fit.l2.clone(), fit.adam.param_groups[0]["lr"]
    fit.adam.param_groups[0]["lr"] = math.inf
    report = fit.refit((steps[0][:0], steps[1][:0]), steps, 10, 0.0)
    assert report.diverged
    assert all(map(torch.equal, parameters(r_hat), weights_before))
    assert torch.equal(fit.l2, l2)
    np.testing.assert_allclose(r_hat.reward(*steps), paid_before, rtol=1e-5)
    fit.adam.param_groups[0]["lr"] = rate
    assert not fit.refit((steps[0][:0], steps[1][:0]), steps, 10, 0.0).diverged
    assert not all(map(torch.equal, parameters(r_hat), weights_before))
