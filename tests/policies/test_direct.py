"""A direct method through `prefrl train`: online, offline, from another run's policy; PPO paid by what it implies."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import sentence

from prefrl.policies.likelihood import RawPolicy
from prefrl.policies.policy import read_policy
from prefrl.run import train
from prefrl.runs.saved import load_run
from prefrl.settings.config import TrainConfig
from prefrl.studies.evaluate import evaluate_run
from prefrl.words.errors import UserError

ONLINE = TrainConfig(
    env="prefrl-tests/Target-v0", method="dpo", labels=120, steps=4000, n_envs=4, explore_steps=800, segment_steps=2,
    phases=8, set=("learning_rate=0.003", "n_steps=50"), initial_labels=0.5, initial_epochs=20, fit_updates=30,
    batch=64, tensorboard=False,
)  # fmt: skip


def rows(folder):
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    return train(replace(ONLINE, out=tmp_path_factory.mktemp("direct") / "dpo"), quiet=True)


def test_the_policy_gets_better_by_the_answers_alone(online):
    table = rows(online)
    assert float(table[-1]["true_return"]) > float(table[0]["true_return"]) + 3
    assert float(table[-1]["held_out_accuracy"]) > 0.6
    assert float(table[0]["kl"]) > 0 and float(table[-1]["kl"]) > 0
    assert table[-1]["labels_answered"] == "120"


def test_what_it_leaves_is_what_any_run_leaves(online):
    run = load_run(online)
    found = evaluate_run(run, steps=400, pairs=100, moments=10).measures
    assert found["accuracy"] > 0.6
    seen = np.full((500, 1), 10, np.float32)
    assert np.abs(run.policy.act(seen)).max() <= 2
    answered = run.answers[0].query.left
    log_ratio = run.r_hat.member_rewards(answered.observations, answered.actions)
    assert log_ratio.shape == (1, 2)
    about, tensors = read_policy(online / "reference.safetensors")
    env = run.make_env()
    reference = RawPolicy.remade(env.observation_space, env.action_space, about, tensors)
    policy = RawPolicy.remade(env.observation_space, env.action_space, *read_policy(online / "policy.safetensors"))
    steps = policy.shown(answered.observations), policy.done(answered.actions)
    expected = 0.1 * (policy.log_prob(*steps) - reference.log_prob(*steps))
    torch.testing.assert_close(log_ratio[0], expected)


def test_answers_that_are_there_are_enough(online, tmp_path):
    """Offline: nobody is asked, the policy is cloned from what was shown, and the reference is what comes of it."""
    for method in ("cpl", "ipo"):
        offline = replace(
            ONLINE, method=method, labels=0, labels_from=(str(online),), out=tmp_path / method, clone_epochs=10,
            fit_updates=60, steps=3000,
        )  # fmt: skip
        table = rows(train(offline, quiet=True))
        assert table[-1]["labels_asked"] == "0"
        assert float(table[-1]["true_return"]) > float(rows(online)[0]["true_return"])
        assert float(table[-1]["held_out_accuracy"]) > 0.5
        assert ("kl" in table[0]) == (method == "ipo")


def test_it_begins_as_the_policy_that_it_is_given_and_is_anchored_there(online, tmp_path):
    again = train(
        replace(ONLINE, reference=str(online), fit_updates=1, initial_epochs=1, out=tmp_path / "again"), quiet=True
    )
    (_, given), (_, anchor) = (read_policy(online / "policy.safetensors"), read_policy(again / "reference.safetensors"))
    assert given.keys() == anchor.keys()
    assert all(torch.equal(given[name], anchor[name]) for name in given)
    assert float(rows(again)[0]["true_return"]) > float(rows(online)[0]["true_return"]) + 3


def test_ppo_can_be_paid_with_it(online, tmp_path):
    """The frozen implicit reward of the DPO run has PPO go the same way, from nothing."""
    paid = TrainConfig(
        env=ONLINE.env, labels=0, reward_from=online, steps=12_000, n_envs=4, explore_steps=400, segment_steps=2,
        phases=6, set=("n_steps=100", "learning_rate=0.003", "gamma=0.0"), tensorboard=False, out=tmp_path / "ppo",
    )  # fmt: skip
    folder = train(paid, quiet=True)
    table = rows(folder)
    assert float(table[-1]["true_return"]) > float(table[0]["true_return"]) + 3
    assert float(table[-1]["learned_return"]) > float(table[0]["learned_return"])
    assert load_run(folder).r_hat.scale == 0.1


def test_a_given_policy_that_explores_by_state_is_a_sentence(tmp_path):
    sde = TrainConfig(
        env=ONLINE.env, labels=4, steps=1200, n_envs=4, segment_steps=2, phases=2, tensorboard=False,
        set=("n_steps=50", "use_sde=true"), initial_epochs=1, fit_updates=1, out=tmp_path / "sde",
    )  # fmt: skip
    folder = train(sde, quiet=True)
    with pytest.raises(UserError, match="depends on the state") as refused:
        train(replace(ONLINE, reference=str(folder), out=tmp_path / "refused"), quiet=True)
    sentence(refused.value)
    assert not (tmp_path / "refused").exists()
