"""r-hat fitted to answers about K segments: losses by hand, bootstraps and held-out measures by answer."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from test_fit import ACTION, answer, linear, make_fit, parameters, segment, unit

from prefrl.rewards.answers import Minibatch
from prefrl.rewards.fit import Fit, rightly_ordered
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.words.preference import Preference, Query


def ranked(*values, choice, kind="ranking", strength=None):
    """An answer about segments of one step that shows a number each."""
    segments = [replace(segment([[value]]), offset=place) for place, value in enumerate(values)]
    return Preference(Query.of(segments, kind), None, "someone", 0.0, choice=choice, strength=strength)


def loss_of(preference, weight=1.0, copies=20, **settings):
    """What it costs a network that pays the number shown, and how much of it that orders rightly."""
    fit = make_fit(linear(1, members=2, weights=weight), learning_rate=0.0, batch=8, l2=0.0, **settings)
    fit.add([preference] * copies)
    report = fit.run(3)
    assert report.train_loss == pytest.approx(report.held_out_loss, rel=1e-5)
    return report.train_loss, report.held_out_accuracy


def softmax(worth, *others, floor=0.0):
    return (1 - floor) * math.exp(worth) / sum(map(math.exp, (worth, *others))) + floor / (1 + len(others))


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_losses_by_hand(floor):
    given = ranked(1.0, -0.5, 2.0, choice="2>0>1")
    first, second = softmax(2, 1, -0.5, floor=floor), softmax(1, -0.5, floor=floor)
    pairs = [softmax(2, 1, floor=floor), softmax(2, -0.5, floor=floor), second]
    assert loss_of(given, noise_floor=floor) == pytest.approx((-math.log(first) - math.log(second), 1.0), rel=1e-5)
    taken = loss_of(given, noise_floor=floor, likelihood="all-pairs")
    assert taken == pytest.approx((-sum(map(math.log, pairs)) / 3, 1.0), rel=1e-5)
    best = ranked(1.0, -0.5, 2.0, choice="2", kind="best")
    assert loss_of(best, noise_floor=floor) == pytest.approx((-math.log(first), 1.0), rel=1e-5)


def test_the_share_of_comparisons_that_are_right():
    assert loss_of(ranked(1.0, 2.0, 3.0, 4.0, choice="3>2>0>1"))[1] == pytest.approx(5 / 6)
    assert loss_of(ranked(1.0, 2.0, 3.0, 4.0, choice="2", kind="best"))[1] == pytest.approx(2 / 3)
    assert math.isnan(loss_of(ranked(1.0, 2.0, 3.0, choice="0=1=2"))[1])
    assert loss_of(ranked(1.0, 2.0, 3.0, choice="2=1>0"))[1] == 1.0


@pytest.mark.parametrize("kind", ["ranking", "best"])
@pytest.mark.parametrize("likelihood", ["plackett-luce", "all-pairs"])
def test_two_in_order_teach_what_a_pair_does_to_the_byte(kind, likelihood):
    said = {"ranking": ("0>1", "1>0", "0=1"), "best": ("0", "1", "0=1")}[kind]

    def fitted(as_pairs):
        r_hat = RewardEnsemble(spaces.Box(-9, 9, (1,), np.float32), ACTION, generator=torch.Generator().manual_seed(1))
        fit = make_fit(r_hat, batch=8, likelihood=likelihood)
        values = np.random.default_rng(0).normal(size=(30, 2))
        for i, (one, other) in enumerate(values):
            pair = answer([[one]], [[other]], (1.0, 0.0, 0.5)[i % 3])
            fit.add([pair if as_pairs else ranked(one, other, choice=said[i % 3], kind=kind)])
        report = fit.run(20)
        return parameters(r_hat), report

    (pairs, of_pairs), (orders, of_orders) = fitted(True), fitted(False)
    assert all(map(torch.equal, pairs, orders))
    assert of_pairs == of_orders


def test_answers_of_every_kind_and_size_are_fitted_together_each_with_its_own_loss():
    given = [
        ranked(1.0, -0.5, 2.0, choice="2>0>1"),
        answer([[0.3]], [[-0.4]], 0.75),
        ranked(0.5, 0.1, 0.2, 0.3, 0.0, choice="0", kind="best"),
    ]
    alone = [loss_of(each)[0] for each in given]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        fit = make_fit(linear(1, members=1, weights=1.0), learning_rate=0.0, batch=8, l2=0.0)
        for place in order:
            fit.add([given[place]])
        counts = fit.answers.batch(np.arange(3)).counts[:, 0].numpy()
        wanted = np.average([alone[place] for place in order], weights=counts) if counts.sum() else math.nan
        assert fit.run(1).train_loss == pytest.approx(wanted, rel=1e-5, nan_ok=True)
        assert fit.answers.shown == 5


def test_a_segment_that_is_not_there_is_no_input_of_the_network():
    batch_of = [ranked(1.0, -0.5, 2.0, choice="2>0>1"), answer(unit(0, 1) * 2, [[5.0]])]
    fit = make_fit(
        linear(1, members=1, weights=1.0, bias=0.25), segment_steps=2, noise_floor=0.0, learning_rate=0.0, l2=0
    )
    fit.add(batch_of)
    batch = fit.answers.batch(np.arange(2))
    assert batch.there.tolist() == [[1, 1, 1], [1, 1, 0]]
    returns = fit.r_hat.returns(batch.inputs.flatten(0, 1), batch.mask.flatten(0, 1)).view(2, 3)
    torch.testing.assert_close(returns, torch.tensor([[1.25, -0.25, 2.25], [2.5, 5.25, 0.0]]))


def test_true_returns_can_be_fitted_instead():
    paid = [
        replace(segment([[0.0]]), rewards=np.array([r]), offset=place)
        for place, r in enumerate((0.0, 2.0, 4.0, 1.0, 3.0))
    ]
    given = [
        Preference(Query.of(paid[:3], "ranking"), None, "x", 0.0, choice="0>1>2"),
        Preference(Query.of(paid[3:]), 0.0, "x", 0.0),
    ]
    true = np.array([0.0, 2, 4, 1, 3])
    fit = make_fit(linear(1, members=1, weights=1.0), learning_rate=0.0, l2=0.0, objective="target")
    fit.add(given)
    batch = fit.answers.batch(np.arange(2))
    torch.testing.assert_close(batch.true_returns[0], torch.tensor([0.0, 2, 4]) / true.std().astype(np.float32).item())
    returns = torch.tensor([[[0.0, 1, 2], [0, 1, 9]]])
    off = (returns[0].numpy() - batch.true_returns.numpy()) ** 2
    wanted = torch.tensor([[off[0].mean(), off[1, :2].mean()]])
    torch.testing.assert_close(fit._losses_of(returns, batch), wanted)


def test_much_better_must_be_told_apart_by_the_margin():
    def cost(gap):
        return -math.log(0.9 / (1 + math.exp(-gap)) + 0.05)

    pair = Preference(answer([[1.0]], [[0.5]]).query, 1.0, "someone", 0.0, strength=1.0)
    assert loss_of(pair)[0] == pytest.approx(cost(0.5), rel=1e-5)
    assert loss_of(pair, margin=3.0)[0] == pytest.approx(cost(0.5 - 3.0), rel=1e-5)
    other = Preference(pair.query, 0.0, "someone", 0.0, strength=0.5)
    assert loss_of(other, margin=1.0)[0] == pytest.approx(cost(-0.5 - 0.5), rel=1e-5)
    equal = Preference(pair.query, 0.5, "someone", 0.0, strength=1.0)
    assert loss_of(equal, margin=3.0)[0] == loss_of(equal)[0]
    best = ranked(1.0, -0.5, 2.0, choice="2", kind="best", strength=1.0)
    wanted = -math.log(softmax(2.0 - 1.0, 1.0, -0.5, floor=0.1))
    assert loss_of(best, margin=1.0) == pytest.approx((wanted, 1.0), rel=1e-5)  # what is right is right without it


def test_what_is_kept_of_images_is_given_out_again():
    rng = np.random.default_rng(0)
    space = spaces.Box(0, 255, (48, 46, 3), np.uint8)
    r_hat = RewardEnsemble(space, ACTION, members=2)
    fit = make_fit(r_hat, segment_steps=3)
    shown = [segment(rng.integers(256, size=(n, *space.shape), dtype=np.uint8)) for n in (3, 1, 2)]
    fit.add([Preference(Query(shown[0], shown[1]), 1.0, "x", 0.0)])
    fit.add([Preference(Query.of(shown, "ranking"), None, "x", 0.0, choice="0>1>2")])
    batch = fit.answers.batch(np.array([1, 0]))
    for place, one in enumerate(shown):
        inputs = r_hat.inputs(one.observations, one.actions)
        torch.testing.assert_close(batch.inputs[0, place, : len(one)], inputs, rtol=0, atol=0)
    assert batch.mask.sum(-1).tolist() == [[3, 1, 2], [3, 1, 0]]
    other = Fit(RewardEnsemble(space, ACTION, members=2), np.random.default_rng(1), 3)
    other.restore(fit.state())
    again: Minibatch = other.answers.batch(np.array([1, 0]))
    assert all(
        torch.equal(getattr(batch, name), getattr(again, name)) for name in ("inputs", "chosen", "among", "ranks")
    )


def test_a_ranking_is_held_out_whole():
    fit = make_fit(linear(1, members=3, weights=1.0))
    fit.add([ranked(0.0, 1.0, 2.0, choice="2>1>0")] * 400)
    counts = fit.answers.batch(np.arange(400)).counts
    assert counts.shape == (400, 3)
    assert (counts == 0).float().mean().item() == pytest.approx(math.exp(-1), abs=0.05)


def test_a_member_that_takes_no_side_is_half_right():
    fit = make_fit(linear(1, members=1))
    fit.add([ranked(0.0, 1.0, 2.0, choice="2>1>0")])
    share, says = rightly_ordered(torch.tensor([[[1.0, 1.0, 0.0]]]), fit.answers.batch(np.arange(1)))
    assert (share.item(), says.item()) == (pytest.approx(0.5 / 3), True)
