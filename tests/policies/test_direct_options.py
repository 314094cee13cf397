"""What a direct method takes, what it refuses, and that each refusal is one sentence."""

from dataclasses import fields, replace

import pytest
from helpers import sentence

from prefrl.policies.direct import DIRECT
from prefrl.policies.direct_options import OF_A_REWARD, OPTIONS, OWN
from prefrl.policies.methods import METHODS, find_method
from prefrl.run import train
from prefrl.runs.resolve import resolve
from prefrl.settings.config import TrainConfig, arm_name, folder_name, from_values, to_toml
from prefrl.words.errors import UserError

DPO = TrainConfig(env="Pendulum-v1", labels=20, steps=4000, method="dpo")


def refused(**changes):
    with pytest.raises(UserError) as caught:
        resolve(replace(DPO, **changes))
    return sentence(caught.value)


def test_each_method_has_its_numbers_and_every_option_is_a_field():
    assert set(OWN) == set(DIRECT) == set(METHODS) - {"reward"}
    names = {field.name for field in fields(TrainConfig)}
    assert set(OF_A_REWARD) | OPTIONS <= names


@pytest.mark.parametrize("method", DIRECT)
def test_what_is_left_open_is_filled_in_and_asked_for_again_the_same(method, tmp_path):
    found = resolve(replace(DPO, method=method, out=tmp_path / "a"))
    assert found.direct is not None
    assert (found.noise_floor, found.strategy, found.beta) == (0.0, "uniform", OWN[method]["beta"])
    assert found.clone_segments == ("all" if "cpl" in method else "none")
    assert set(found.settings) == {"n_steps", "learning_rate", "learn_std", "policy_kwargs"}
    told = from_values(TrainConfig, to_toml(found), "the same")
    assert resolve(replace(told, out=tmp_path / "b")).direct == found.direct


def test_a_reward_runs_configuration_is_what_it_was():
    found = resolve(replace(DPO, method="reward"))
    assert found.direct is None and found.strategy == "disagreement"
    assert not OPTIONS & set(to_toml(found))


def test_an_arm_says_its_method():
    assert arm_name(DPO) == "20 labels, dpo"
    assert folder_name(DPO) == "labels20-dpo-seed0"
    assert folder_name(replace(DPO, method="reward")) == "labels20-seed0"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"freeze_reward_at": 0.5}, "freeze_reward_at=0.5"),
        ({"noise_floor": 0.2}, "noise_floor=0.2"),
        ({"members": 5}, "members=5"),
        ({"learner": "trpo"}, "learner=trpo"),
        ({"kl_beta": 0.1}, "kl_beta=0.1"),
        ({"overlap": True}, "overlap=True"),
        ({"objective": "target"}, "objective=target"),
        ({"l2": 0.5}, "l2=0.5"),
        ({"conservative": 0.5}, "cpl, cpl_kl"),
        ({"method": "cpl", "label_smoothing": 0.1}, "option of dpo"),
        ({"method": "reward", "beta": 0.1}, "dpo, ipo, cpl, cpl_kl"),
        ({"strategy": "disagreement"}, "use uniform, or entropy"),
        ({"question": "ranking"}, "which of two"),
        ({"beta": 0.0}, "above zero"),
        ({"beta": -1.0}, "above zero"),
        ({"label_smoothing": 0.5}, "below one half"),
        ({"method": "cpl", "conservative": 1.5}, "at most 1"),
        ({"method": "cpl", "segment_discount": 0.0}, "at most 1"),
        ({"held_out": 1.0}, "below 1"),
        ({"clone_epochs": -1}, "0 or more"),
        ({"set": ("gamma=0.9",)}, "no setting 'gamma'"),
        ({"set": ("learning_rates=1e-3",)}, "Did you mean 'learning_rate'?"),
        ({"set": ("learning_rate=fast",)}, "a number above zero"),
        ({"set": ("learning_rate=-1",)}, "a number above zero"),
        ({"set": ("n_steps=1.5",)}, "a whole number"),
        ({"set": ("learn_std=1",)}, "true or false"),
        ({"set": ("policy_kwargs={use_sde=true}",)}, "use_sde"),
        ({"set": ("policy_kwargs={activation_fn='Rlu'}",)}, "must be the name of a class"),
        ({"method": "ddpo"}, "Did you mean 'dpo'?"),
        ({"method": "json:loads.__name__"}, "no 'loads.__name__'"),
        ({"method": "json:__name__"}, "cannot be called"),
        ({"labels": 0}, "labels_from has answers"),
        ({"reference": "nowhere"}, "no policy at 'nowhere'"),
    ],
)
def test_what_it_cannot_use_is_one_sentence(changes, said):
    assert said in refused(**changes)


def test_a_method_of_ones_own_is_called_and_checked(tmp_path):
    with pytest.raises(UserError, match="return a model and an agent") as caught:
        train(replace(DPO, method="test_direct_options:nothing", out=tmp_path / "run"), quiet=True)
    sentence(caught.value)
    assert not (tmp_path / "run").exists()
    assert find_method("test_direct_options:nothing") is nothing


def nothing(config, env, fit_rng, watch_rng):
    return "nothing"
