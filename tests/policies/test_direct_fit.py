"""A policy fitted to answers: what it learns, what is held out, taken back or forgotten, and where it starts from."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import sentence
from made import make_preference, make_segment
from stable_baselines3.common.utils import set_random_seed

from prefrl.policies.direct_answers import DirectAnswers
from prefrl.policies.direct_fit import DirectFit, Start
from prefrl.policies.implicit import ImplicitReward
from prefrl.policies.likelihood import RawPolicy
from prefrl.words.direct_losses import dpo
from prefrl.words.errors import UserError
from prefrl.words.preference import Preference, Query

SEEN, DONE = spaces.Box(-np.inf, np.inf, (2,), np.float32), spaces.Box(-1, 1, (1,), np.float32)
SCREEN = spaces.Box(0, 255, (4, 44, 44), np.uint8)


def answers(count, seed=0, steps=3):
    """Whoever does more on average is better; some segments are shorter than others."""
    rng = np.random.default_rng(seed)

    def segment(number):
        length = steps - number % 2
        done = rng.uniform(-1, 1, (length, 1)).astype(np.float32)
        seen = rng.normal(3, 5, (length, 2)).astype(np.float32)
        return make_segment(number, observations=seen, actions=done, rewards=done[:, 0].astype(float))

    made = []
    for number in range(count):
        left, right = segment(2 * number + 1000 * seed), segment(2 * number + 1000 * seed + 1)
        mu = float(left.rewards.mean() > right.rewards.mean())
        made.append(Preference(Query(left, right), mu, "oracle", 1.0))
    return made


def fit_of(start=None, most=None, held_out=0.0, observation_space=SEEN, is_anchored=True, batch=16, rate=1e-2):
    set_random_seed(0)
    policy = RawPolicy.fresh(observation_space, DONE)
    reward = ImplicitReward(policy, is_anchored, 1.0, observation_space, DONE)
    return DirectFit(
        reward, lambda left, right, mu: dpo(left, right, mu, 1.0), np.random.default_rng(0), 3, start or Start(),
        lambda: rate, batch, held_out, 1.0, most,
    )  # fmt: skip


def window(count=40):
    rng = np.random.default_rng(1)
    return rng.normal(3, 5, (count, 2)).astype(np.float32), rng.uniform(-1, 1, (count, 1)).astype(np.float32)


def test_it_learns_what_the_answers_say_and_what_is_held_out_says_so():
    fit = fit_of(held_out=0.3)
    fit.add(answers(200))
    assert 30 < fit.answers.held.sum() < 90
    report = fit.refit(window(), window(), 150, 0.0)
    assert report.updates == 150 and report.train_loss < 0.45
    assert report.held_out_accuracy > 0.85 and report.held_out_loss < 0.6
    ordered = fit.r_hat.member_rewards(np.full((3, 2), 3, np.float32), np.float32([[-0.8], [0], [0.8]]))[0]
    assert (ordered.diff() > 0).all()


def test_the_reference_stays_what_it_is_and_later_answers_are_referred_to_it():
    fit = fit_of()
    fit.add(answers(20))
    fit.refit(window(), window(), 5, 0.0)
    before = {name: tensor.clone() for name, tensor in fit.r_hat.reference.state_dict().items()}
    fit.add(answers(10, seed=1))
    fit.refit(window(), window(), 20, 0.0)
    assert all(torch.equal(before[name], tensor) for name, tensor in fit.r_hat.reference.state_dict().items())
    shown = fit.answers.batch(np.arange(30))
    log_prob = fit.r_hat.reference.log_prob(shown.observations, shown.actions).view(shown.mask.shape)
    torch.testing.assert_close(shown.reference, log_prob)
    assert (fit.r_hat.policy.observation_mean == fit.r_hat.reference.observation_mean).all()


def test_minibatches_leave_the_held_out_ones_out():
    fit = fit_of(held_out=0.5, batch=8)
    fit.add(answers(40))
    taken = np.concatenate(fit._minibatches(fit.epochs(2)))
    assert sorted(taken) == sorted(2 * np.flatnonzero(~fit.answers.held).tolist())


def test_what_is_taken_back_skipped_or_too_old_teaches_nothing():
    fit = fit_of(most=6)
    given = answers(10)
    fit.add([*given, Preference(answers(1, seed=2)[0].query, None, "oracle", 1.0)])
    assert [key for key, _ in fit.answers.given] == [p.query.key for p in given[-6:]]
    assert fit.forget([(given[-1].query.key, "oracle"), (given[0].query.key, "oracle")]) == 1
    assert len(fit.answers) == 5 and fit.forget([]) == 0
    assert fit.answers.batch(np.array([4])).mu.tolist() == [given[-2].mu]


def test_without_answers_nothing_is_learned():
    fit = fit_of(Start("all", 3))
    report = fit.refit(window(), window(), 0, 0.0)
    assert report.updates == 0
    assert fit.r_hat.member_rewards(*window()).abs().max() == 0


@pytest.mark.parametrize("which", ["all", "preferred"])
def test_the_start_does_what_was_shown(which):
    given = [
        Preference(
            Query(
                make_segment(2 * n, observations=np.zeros((3, 2)), actions=np.full((3, 1), 0.5, np.float32)),
                make_segment(2 * n + 1, observations=np.zeros((3, 2)), actions=np.full((3, 1), -0.5, np.float32)),
            ), 1.0, "oracle", 1.0,
        )
        for n in range(10)
    ]  # fmt: skip
    fit = fit_of(Start(which, 150), batch=10)
    fit.add(given)
    fit.refit((np.zeros((5, 2), np.float32), np.zeros((5, 1), np.float32)), window(), 0, 0.0)
    for policy in (fit.r_hat.policy, fit.r_hat.reference):
        mean = policy.distribution(torch.zeros(1, 2)).distribution.mean.item()
        assert mean == pytest.approx(0.5 if which == "preferred" else 0.0, abs=0.1)


def test_a_given_start_keeps_its_statistics():
    fit = fit_of(Start(is_given=True))
    fit.add(answers(5))
    fit.refit(window(), window(), 1, 0.0)
    assert fit.r_hat.policy.observation_mean.tolist() == [0, 0]


def test_steps_that_lead_astray_are_taken_back():
    fit = fit_of(rate=1e-3)
    fit.add(answers(20))
    fit.refit(window(), window(), 3, 0.0)
    before = fit.r_hat.member_rewards(*window()).clone()
    fit.loss = lambda left, right, mu: (left - right) * torch.inf
    assert fit.refit(window(), window(), 2, 0.0).diverged
    torch.testing.assert_close(fit.r_hat.member_rewards(*window()), before)


def test_a_start_that_leads_astray_is_taken_back_and_tried_again():
    fit = fit_of(Start("all", 2), rate=1e-3)
    fit.add(answers(20))
    clone, fit._cloning_loss = fit._cloning_loss, lambda shown: clone(shown) * torch.nan
    assert fit.refit(window(), window(), 2, 0.0).diverged
    assert fit.r_hat.member_rewards(*window()).abs().max() == 0
    fit._cloning_loss = clone
    assert fit.refit(window(), window(), 2, 0.0).updates == 2


def test_a_ranking_is_refused():
    left, right = make_preference(1).query.left, make_preference(2).query.left
    ranking = Preference(Query(left, right, kind="ranking"), None, "oracle", 1.0, choice="0>1")
    with pytest.raises(UserError, match="two segments") as refused:
        fit_of().add([ranking])
    sentence(refused.value)


def test_its_state_goes_on():
    first = fit_of(held_out=0.2)
    first.add(answers(20))
    first.refit(window(), window(), 7, 0.0)
    second = fit_of(held_out=0.2)
    second.restore(copy.deepcopy(first.state()))
    for fit in (first, second):
        fit.add(answers(5, seed=3))
        fit.refit(window(), window(), 9, 0.0)
    assert torch.equal(first.r_hat.member_rewards(*window()), second.r_hat.member_rewards(*window()))
    assert (first.answers.held == second.answers.held).all()


def test_pictures_come_back_as_they_were():
    set_random_seed(0)
    kept = DirectAnswers(RawPolicy.fresh(SCREEN, spaces.Discrete(3)), 5)
    rng = np.random.default_rng(0)
    frames = rng.integers(256, size=(9, 44, 44), dtype=np.uint8)
    shown = [np.stack([frames[i + t : i + t + 4] for t in range(n)]) for i, n in ((0, 5), (2, 3))]
    done = [np.array([0, 1, 2, 0, 1][:n]) for n in (5, 3)]
    segments = [
        make_segment(i, observations=shown[i], actions=done[i], rewards=np.zeros(len(done[i]))) for i in range(2)
    ]
    kept.add([Preference(Query(*segments), 0.25, "oracle", 1.0)], np.array([False]))
    batch = kept.batch(np.array([0]))
    observations = batch.observations.view(2, 5, 4, 44, 44).numpy()
    for side in range(2):
        np.testing.assert_array_equal(observations[side, : len(done[side])], shown[side])
        assert batch.actions.view(2, 5)[side, : len(done[side])].tolist() == done[side].tolist()
    assert batch.mask.sum(-1).tolist() == [[5, 3]] and batch.mu.tolist() == [0.25]
