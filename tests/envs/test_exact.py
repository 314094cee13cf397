"""The exact worlds: Gymnasium's contract, and that single and vector environment are what their tables say."""

import re

import gymnasium as gym
import numpy as np
import prefrl_envs  # registers the ids
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from helpers import sentence
from prefrl_envs import exact
from prefrl_envs.texts import finished_texts

from prefrl.check import CheckConfig, examine
from prefrl.experience.backends import GymnasiumVecEnv, make_vec_env
from prefrl.experience.environments import list_environments
from prefrl.words.errors import UserError

WORLDS = list(exact.HORIZONS)
every_world = pytest.mark.parametrize("name", WORLDS)
ARGUMENTS = {
    "ContextualBandit": {"contexts": 3, "actions": 5, "pays": "advantage", "beta": 0.3},
    "Dialogue": {"contexts": 2, "turns": 3, "certainty": 0.5},
    "TokenWriter": {"prompts": 2, "tokens": 3, "length": 3, "rewarded": "token", "fixed_length": True},
    "WholeText": {"prompts": 2, "tokens": 4, "length": 2, "repetition": 1.0},
}


def make(name, **arguments):
    return gym.make(f"prefrl/{name}-v0", **arguments)


@every_world
def test_gymnasiums_checker_and_ours_find_nothing(name):
    check_env(make(name).unwrapped, skip_render_check=True)
    assert {finding.name for finding in examine(CheckConfig(f"prefrl/{name}-v0")) if finding.level == "fail"} == set()
    assert f"prefrl/{name}-v0" in list_environments("prefrl/")


@every_world
@pytest.mark.parametrize("arguments", [{}, "small"], ids=["default", "small"])
def test_tables_are_those_of_a_world_that_ends(name, arguments):
    tables = make(name, **(ARGUMENTS[name] if arguments else {})).unwrapped.tables
    states, actions, _ = tables.successors.shape
    assert tables.observations.shape[0] == len(tables.start) == states
    assert tables.rewards.shape == tables.reference.shape == (states, actions)
    assert len(np.unique(tables.observations, axis=0)) == states  # a policy can tell them apart
    for chances in (tables.start, tables.reference, tables.chances):
        np.testing.assert_allclose(chances.sum(-1), 1)
        assert (chances >= 0).all()
    assert ((tables.successors >= -1) & (tables.successors < states)).all()
    alive = tables.start > 0
    for _ in range(exact.HORIZONS[name]):
        led_to = tables.successors[alive][tables.chances[alive] > 0]
        alive = np.isin(np.arange(states), led_to)
    assert not alive.any()


@every_world
def test_a_step_does_what_the_tables_say(name):
    env = make(name)
    tables = env.unwrapped.tables
    env.action_space.seed(0)
    rng = np.random.default_rng(0)
    for seed in range(30):
        observation, _ = env.reset(seed=seed)
        ended = False
        while not ended:
            (state,) = np.flatnonzero((tables.observations == observation).all(1))
            action = rng.integers(env.action_space.n)
            observation, reward, ended, truncated, info = env.step(action)
            assert reward == tables.rewards[state, action]
            assert info == {}
            ways = tables.successors[state, action][tables.chances[state, action] > 0]
            shown = [np.zeros_like(observation) if way < 0 else tables.observations[way] for way in ways]
            assert any(np.array_equal(observation, way) for way in shown)
        assert not truncated or exact.HORIZONS[name] == 1


@every_world
def test_copies_meet_what_the_single_environment_meets(name):
    tables = make(name, **ARGUMENTS[name]).unwrapped.tables
    venv = gym.make_vec(f"prefrl/{name}-v0", 500, vectorization_mode="vector_entry_point", **ARGUMENTS[name])
    assert venv.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observations, _ = venv.reset(seed=3)
    states = np.array([np.flatnonzero((tables.observations == o).all(1))[0] for o in observations])
    assert np.abs(np.bincount(states, minlength=len(tables.start)) / 500 - tables.start).max() < 0.08
    rng = np.random.default_rng(0)
    for _ in range(20):
        actions = rng.integers(venv.single_action_space.n, size=500)
        observations, rewards, ended, truncated, infos = venv.step(actions)
        np.testing.assert_array_equal(rewards, tables.rewards[states, actions])
        assert not truncated.any()
        np.testing.assert_array_equal(ended, (tables.successors[states, actions] < 0).all(-1))
        after = np.array([np.flatnonzero((tables.observations == o).all(1))[0] for o in observations])
        assert (tables.start[after[ended]] > 0).all()
        if ended.any():
            np.testing.assert_array_equal(infos["_final_obs"], ended)
            assert not infos["final_obs"][ended].any()
        states = after


def test_an_answer_has_its_effect_as_often_as_it_says():
    venv = gym.make_vec("prefrl/Dialogue-v0", 20_000, vectorization_mode="vector_entry_point", certainty=0.7)
    context = venv.reset(seed=0)[0][:, :4].argmax(1)
    after = venv.step(np.zeros(20_000, int))[0][:, :4].argmax(1)  # explain
    assert abs((after > context)[context < 3].mean() - 0.7) < 0.02
    assert (after >= context).all()
    assert (after <= context + 1).all()


def test_training_steps_the_array():
    venv = make_vec_env("prefrl/TokenWriter-v0", 8, 0)
    assert isinstance(venv, GymnasiumVecEnv)
    venv.reset()
    _, _, dones, infos = venv.step(np.zeros(8, int))  # all of them end their texts
    assert dones.all()
    assert not any(info["TimeLimit.truncated"] for info in infos)


def test_token_writer_pays_the_text_whole_or_by_the_token():
    whole, by_token = make("TokenWriter"), make("TokenWriter", rewarded="token")
    rng = np.random.default_rng(1)
    seen = set()
    for seed in range(60):
        sums = []
        tokens = rng.integers(6, size=5)
        for env in (whole, by_token):
            env.reset(seed=seed)
            total, ended, n = 0.0, False, 0
            while not ended:
                _, reward, ended, _, _ = env.step(tokens[n])
                total, n = total + reward, n + 1
            sums.append(total)
        assert sums[0] == pytest.approx(sums[1], abs=1e-12)
        seen.add(n)
    assert seen == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("fixed_length", [False, True])
def test_a_whole_text_is_worth_what_its_tokens_are(fixed_length):
    arguments = {"tokens": 4, "length": 3, "fixed_length": fixed_length}
    writer, chooser = make("TokenWriter", **arguments), make("WholeText", **arguments)
    texts = finished_texts(**arguments)
    assert len(texts) == chooser.action_space.n == (64 if fixed_length else 1 + 3 + 9 + 27)
    for seed in range(4):
        for choice, text in enumerate(texts):
            shown, _ = writer.reset(seed=seed)
            chosen_for, _ = chooser.reset(seed=seed)
            assert np.array_equal(shown[:4], chosen_for)
            tokens = list(text) if fixed_length else [letter + 1 for letter in text] + [0] * (len(text) < 3)
            steps = [writer.step(token) for token in tokens]
            _, reward, ended, _, _ = chooser.step(choice)
            assert steps[-1][2] and ended
            assert sum(step[1] for step in steps) == pytest.approx(reward, abs=1e-12)


def test_what_the_writer_is_there_for_holds():
    """Longer texts of the reference are better, up to four letters; the best letter over and over is not."""
    tables, texts = make("WholeText").unwrapped.tables, finished_texts(6, 5, False)
    lengths = np.array([len(text) for text in texts])
    by_length = [tables.rewards[:, lengths == n].mean() for n in range(6)]
    assert by_length[0] == 0 < by_length[1] < by_length[2] < by_length[3]
    place = {text: n for n, text in enumerate(texts)}
    assert tables.rewards[0].max() == tables.rewards[0, place[(0, 1, 2)]] == 1.875
    assert tables.rewards[0, place[(0,) * 5]] == 0.0
    assert tables.rewards[1, place[(1, 2, 3)]] == 1.875  # another prompt wants other letters


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("ContextualBandit", {"contexts": 0}, "contexts=0 must lie between 1 and 1000"),
        ("ContextualBandit", {"pays": "regret"}, "pays='regret'"),
        ("ContextualBandit", {"beta": 0.0}, "beta=0.0"),
        ("Dialogue", {"turns": 11}, "turns=11 must lie between 1 and 10"),
        ("Dialogue", {"certainty": 1.5}, "certainty=1.5 is a chance"),
        ("TokenWriter", {"tokens": 40}, "at most 300000 are written down"),
        ("TokenWriter", {"rewarded": "word"}, "rewarded='word'"),
        ("TokenWriter", {"tokens": 2}, "tokens=2 must lie between 3 and 1000"),
        ("WholeText", {"repetition": -1.0}, "repetition=-1.0"),
        ("WholeText", {"rewarded": "token"}, "rewarded"),
    ],
)
def test_wrong_arguments_are_a_sentence(name, arguments, says):
    with pytest.raises(UserError, match=re.escape(says)) as refused:
        make_vec_env(f"prefrl/{name}-v0", 2, 0, "gymnasium", arguments)
    sentence(refused.value)


def test_the_package_registers_them():
    assert {f"prefrl/{name}-v0" for name in WORLDS} <= set(gym.registry)
    assert prefrl_envs.exact is exact
