"""The loop: what was asked for is what was spent, the learner is blind, the same seed gives the same bytes."""

import csv
import json
import math
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from helpers import sentence

import prefrl
from prefrl.experience.backends import make_vec_env
from prefrl.experience.recorder import Recorder
from prefrl.queries.exchange import report
from prefrl.queries.store import Store
from prefrl.runs.resolve import resolve
from prefrl.runs.runlog import read_table
from prefrl.runs.saved import load_run
from prefrl.settings.config import BaselineConfig, TrainConfig, from_toml
from prefrl.studies.report import label_log, write_page
from prefrl.words.errors import UserError
from prefrl.words.preference import Preference, choice_of, word_of

SMALL = TrainConfig(
    env="Pendulum-v1",
    steps=8_000,
    labels=60,
    n_envs=8,
    phases=5,
    segment_steps=20,
    initial_epochs=10,
    set=("n_steps=50", "batch_size=100", "n_epochs=2"),
    tensorboard=False,
)


OF_TRUE_REWARD = {
    "true_return",
    "episode_correlation",
    "episode_rank_correlation",
    "accuracy",
    "cross_entropy",
    "cross_entropy_floor",
    "brier",
    "calibration_error",
    "correlation",
    "rank_correlation",
}


POISON = 1e17  # the largest sizes that a run takes: one that is looked at would drown everything else


class PoisonedPendulum(gym.Wrapper):
    """Pendulum whose true reward is huge noise."""

    def __init__(self, env):
        super().__init__(env)
        self.noise = np.random.default_rng(0)

    def step(self, action):
        observation, _, terminated, truncated, info = self.env.step(action)
        return observation, float(self.noise.choice([-POISON, POISON])), terminated, truncated, info


class UprightLabeler:
    """Prefers the clip with the pole higher; reads observations, never rewards."""

    def __init__(self, seed):
        self.seed = seed

    def __call__(self, queries):
        return [
            Preference(q, float(q.left.observations[:, 0].sum() > q.right.observations[:, 0].sum()), "upright", 1.0)
            for q in queries
        ]


def ranks_poles(seed):
    """A labeler of one's own that puts clips in order of the pole's height."""

    def label(queries):
        heights = [[-float(s.observations[:, 0].sum()) for s in q.segments] for q in queries]
        return [Preference(q, None, "poles", 1.0, choice=choice_of(h)) for q, h in zip(queries, heights, strict=True)]

    return label


def skip_every_third(seed):
    """A labeler that cannot tell every third pair apart."""

    def label(queries):
        return [Preference(q, None if i % 3 == 0 else 1.0, "fussy", 2.0) for i, q in enumerate(queries)]

    return label


def half_late(seed):
    """A labeler whose answers come back one phase late."""
    waiting = []

    def label(queries):
        back = list(waiting)
        waiting[:] = [Preference(q, 1.0, "late", 1.0) for q in queries]
        return back

    return label


def without_a_seed():
    return UprightLabeler(0)


def no_labeler(seed):
    """Makes nothing that could be asked."""


def says(what):
    """A labeler that returns this."""
    return lambda seed: lambda queries: what


says_nothing, says_ones, says_text = says(None), says([1, 1]), says("left")


def says_with(**wrong):
    """A labeler whose answers have this in them, as code without types may put it there."""

    def label(queries):
        answer = Preference(queries[0], 1.0, "somebody", 1.0)
        for name, value in wrong.items():
            object.__setattr__(answer, name, value)
        return [answer]

    return lambda seed: label


says_of_nothing, says_much, says_anonymously = says_with(query=None), says_with(mu="left"), says_with(labeler=None)
says_some_time = says_with(seconds="a few")


def rising_and_falling(t):
    return 4 * t * (1 - t) + t


def half(t):
    return t / 2


def not_a_number(r_hat, pairs):
    return np.full(len(pairs), np.nan)


@pytest.fixture(autouse=True, scope="module")
def _environments():
    gym.register(
        "PoisonedPendulum-v0", lambda: PoisonedPendulum(gym.make("Pendulum-v1").unwrapped), max_episode_steps=200
    )
    yield
    del gym.registry["PoisonedPendulum-v0"]


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_fit_beside_the_policys_learning_is_repeatable_and_one_phase_late(tmp_path):
    tables = []
    for name in ("run", "again"):
        config = replace(SMALL, overlap=True, out=tmp_path / name)
        tables.append((prefrl.train(config, quiet=True) / "metrics.csv").read_bytes())
    assert tables[0] == tables[1]
    late, in_turn = rows(tmp_path / "run"), rows(prefrl.train(replace(SMALL, out=tmp_path / "in_turn"), quiet=True))
    # The first fit comes before any learning; the second, done while the policy learns, is what pays the third phase.
    assert late[0] == in_turn[0]
    assert late[1]["train_loss"] == in_turn[1]["train_loss"]
    assert late[1]["learner_loss"] != in_turn[1]["learner_loss"]
    assert int(late[-1]["labels_answered"]) == SMALL.labels


def test_same_seed_gives_the_same_metrics_byte_for_byte_and_another_seed_does_not(tmp_path):
    one, two, other = (
        prefrl.train(replace(SMALL, out=tmp_path / name, seed=seed), quiet=True)
        for name, seed in (("one", 3), ("two", 3), ("other", 4))
    )
    assert (one / "metrics.csv").read_bytes() == (two / "metrics.csv").read_bytes()
    assert (one / "reward.safetensors").read_bytes() == (two / "reward.safetensors").read_bytes()
    assert (one / "metrics.csv").read_bytes() != (other / "metrics.csv").read_bytes()


def test_mujoco_runs_repeat_too(tmp_path):
    config = replace(SMALL, env="HalfCheetah-v5", segment_steps=None, explore_steps=800)
    one, two = (prefrl.train(replace(config, out=tmp_path / name), quiet=True) for name in ("one", "two"))
    assert (one / "metrics.csv").read_bytes() == (two / "metrics.csv").read_bytes()


def test_the_learner_is_blind_to_the_true_reward(tmp_path):
    """With rewards that are huge noise, everything but the measures of the true reward is as it was."""
    shared = {"labeler": f"{__name__}:UprightLabeler", "preset": "classic"}
    seeing, blind = (
        prefrl.train(replace(SMALL, **shared, env=env, out=tmp_path / env), quiet=True)
        for env in ("Pendulum-v1", "PoisonedPendulum-v0")
    )
    for a, b in zip(rows(seeing), rows(blind), strict=True):
        assert not a["true_return"] or abs(float(b["true_return"])) > POISON / 100  # so the poison was there
        for name in set(a) - OF_TRUE_REWARD:
            assert a[name] == b[name], name
    assert any(row["true_return"] for row in rows(seeing))
    policies = [prefrl.load_run(folder).policy.policy.state_dict() for folder in (seeing, blind)]
    assert all((policies[0][name] == policies[1][name]).all() for name in policies[0])


@pytest.mark.parametrize("labels", [1, 2, 60, 199])
def test_labels_and_steps_are_spent_to_the_last_one(tmp_path, labels):
    folder = prefrl.train(replace(SMALL, labels=labels, out=tmp_path / "run"), quiet=True)
    last = rows(folder)[-1]
    assert (int(last["labels_asked"]), int(last["labels_answered"]), int(last["step"])) == (labels, labels, 8_000)
    with Store(folder / "labels.sqlite") as store:
        counts = store.counts()
        assert (counts.asked, counts.answered, counts.skipped) == (labels, labels, 0)
        assert max(answer.query.left.step for answer in store.answers()[0]) < 8_000


@pytest.mark.parametrize(("steps", "n_envs", "n_steps"), [(8_000, 8, 64), (5_005, 5, 37), (4_004, 4, 1_000)])
def test_steps_are_exact_where_rollouts_do_not_divide_them(tmp_path, steps, n_envs, n_steps):
    shared = {"steps": steps, "n_envs": n_envs, "set": (f"n_steps={n_steps}", f"batch_size={n_envs}", "n_epochs=1")}
    for run, name in ((prefrl.train, "learned"), (prefrl.run_baseline, "true")):
        kind = SMALL if name == "learned" else BaselineConfig(env="Pendulum-v1", tensorboard=False)
        folder = run(replace(kind, **shared, out=tmp_path / name), quiet=True)
        assert read_table(folder / "metrics.csv")["step"][-1] == steps


def test_a_skipped_question_spends_the_budget_and_both_counts_are_kept(tmp_path):
    folder = prefrl.train(replace(SMALL, labeler=f"{__name__}:skip_every_third", out=tmp_path / "run"), quiet=True)
    last = rows(folder)[-1]
    assert int(last["labels_asked"]) == 60
    assert 30 < int(last["labels_answered"]) < 42
    with Store(folder / "labels.sqlite") as store:
        assert store.counts().skipped == 60 - int(last["labels_answered"])


def test_answers_may_come_back_later(tmp_path):
    folder = prefrl.train(replace(SMALL, labeler=f"{__name__}:half_late", out=tmp_path / "run"), quiet=True)
    table = rows(folder)
    assert table[0]["labels_answered"] == "0"
    assert table[0]["train_loss"] == ""
    for before, after in pairwise(table):
        assert after["labels_answered"] == before["labels_asked"]


def test_the_run_folder_has_every_part_and_can_be_run_again(tmp_path):
    folder = prefrl.train(replace(SMALL, tensorboard=True, out=tmp_path / "run"), quiet=True)
    assert {path.name for path in folder.iterdir()} == {
        ".lock",
        "config.toml",
        "labels.sqlite",
        "metrics.csv",
        "policy.safetensors",
        "result.json",
        "reward.safetensors",
        "tensorboard",
        "timing.csv",
        "versions.json",
    }
    assert list((folder / "tensorboard").iterdir())
    assert {"commit", "torch", "gymnasium", "stable-baselines3"} <= set(
        json.loads((folder / "versions.json").read_text())
    )
    again = replace(from_toml(TrainConfig, folder / "config.toml"), out=tmp_path / "again", tensorboard=False)
    prefrl.train(again, quiet=True)
    assert (tmp_path / "again" / "metrics.csv").read_bytes() == (folder / "metrics.csv").read_bytes()
    timing = read_table(folder / "timing.csv")
    assert timing["seconds"][-1] >= sum(sum(timing[part]) for part in ("learn", "ask", "answer", "fit")) * 0.99


def test_a_saved_run_gives_back_policy_reward_and_answers(tmp_path):
    run = prefrl.load_run(prefrl.train(replace(SMALL, out=tmp_path / "run"), quiet=True))
    env = prefrl.LearnedRewardEnv(run.make_env(), run.folder / "reward.safetensors", expose_true_reward=True)
    observation, _ = env.reset(seed=0)
    action = run.policy.act(observation[None])[0]
    _, reward, _, _, info = env.step(action)
    assert reward == pytest.approx(float(run.r_hat.reward(observation[None], action[None])[0]))
    assert info["true_reward"] <= 0
    assert len(run.answers) == 60
    assert run.metrics["labels_asked"][-1] == 60


def test_baseline_pays_the_true_reward_on_the_scale_of_a_learned_one(tmp_path):
    config = BaselineConfig(
        env="Pendulum-v1", steps=8_000, n_envs=8, phases=5, set=SMALL.set, tensorboard=False, out=tmp_path / "run"
    )
    table = read_table(prefrl.run_baseline(config, quiet=True) / "metrics.csv")
    assert np.nanmin(table["true_return"]) < -500  # logged raw, while what is paid has unit deviation
    # Pendulum pays about -6 a step: values of its raw returns would be in the hundreds, those of scaled ones are not.
    assert max(table["learner_value_loss"]) < 1_000


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("env", ["CartPole-v1", "FrozenLake-v1"])
def test_a_reward_that_hardly_varies_or_hardly_comes_does_not_run_away(tmp_path, env, learned):
    """One a step until the pole falls, and one in some six hundred steps of random walks on ice."""
    both = {"env": env, "steps": 6_400, "n_envs": 8, "phases": 8, "set": SMALL.set, "tensorboard": False}
    if learned:
        asked = TrainConfig(**both, labels=30, segment_steps=10, initial_epochs=10, out=tmp_path / "run")
        folder = prefrl.train(asked, quiet=True)
    else:
        folder = prefrl.run_baseline(BaselineConfig(**both, out=tmp_path / "run"), quiet=True)
    table = read_table(folder / "metrics.csv")
    assert max(table["learner_value_loss"]) < 1_000
    assert max(table["episodes"]) > 10


def test_both_arms_take_their_scale_from_the_very_same_steps(tmp_path):
    """A ring of frames keeps a few observations less than rewards."""
    pong = {"env": "prefrl/Pong-v0", "steps": 400_000, "n_envs": 4, "out": tmp_path / "run"}
    assert {resolve(kind(**pong)).reward_window for kind in (BaselineConfig, TrainConfig)} == {20_000 - 3 * 4}
    few = resolve(TrainConfig(**pong, keep_steps=120)).reward_window
    windows = []
    for keep in (120, few):
        recorder = Recorder(make_vec_env("prefrl/Pong-v0", 4, 0), "prefrl/Pong-v0", 0, keep)
        recorder.reset()
        for step in range(60):
            recorder.step(np.full(4, step % 3))
        windows.append(recorder.recent(few)[2] if keep == 120 else recorder.recent_rewards(few))
        recorder.close()
    assert windows[0].size == windows[1].size == few
    pendulum = TrainConfig(env="Pendulum-v1", steps=40_000, labels=20, keep_steps=3_000, out=tmp_path / "run")
    assert resolve(pendulum).reward_window == 3_000
    assert resolve(BaselineConfig(env="Pendulum-v1", steps=40_000, out=tmp_path / "run")).reward_window == 50_000


def test_random_first_steps_count(tmp_path):
    folder = prefrl.train(replace(SMALL, explore_steps=4_000, out=tmp_path / "run"), quiet=True)
    with Store(folder / "labels.sqlite") as store:
        steps = [answer.query.left.step for answer in store.answers()[0]]
    assert min(steps) == 4_000
    assert steps.count(4_000) == 15  # a quarter of the labels, asked about the untrained policy
    assert read_table(folder / "metrics.csv")["step"][-1] == 8_000


@pytest.mark.parametrize("strategy", ["disagreement", "uniform", "entropy", "information_gain", "coverage"])
def test_every_strategy_runs_in_the_loop(tmp_path, strategy):
    folder = prefrl.train(replace(SMALL, strategy=strategy, steps=4_000, out=tmp_path / "run"), quiet=True)
    assert int(rows(folder)[-1]["labels_answered"]) == 60


def test_a_frozen_reward_stays_as_it_is_and_its_labels_are_asked_before(tmp_path):
    folder = prefrl.train(replace(SMALL, freeze_reward_at=0.4, out=tmp_path / "run"), quiet=True)
    table = rows(folder)
    assert [int(row["labels_asked"]) for row in table] == [15, 60, 60, 60, 60]
    assert [bool(row["train_loss"]) for row in table] == [True, True, False, False, False]
    live = prefrl.train(replace(SMALL, out=tmp_path / "live"), quiet=True)
    assert rows(live)[0] | {"labels_asked": ""} == table[0] | {"labels_asked": ""}  # alike until then
    assert [int(row["labels_asked"]) for row in rows(live)] != [15, 60, 60, 60, 60]


def test_a_fresh_policy_is_paid_a_finished_reward(tmp_path):
    before = prefrl.train(replace(SMALL, out=tmp_path / "Pendulum-v1" / "first-seed0"), quiet=True)
    reward = (before / "reward.safetensors").read_bytes()
    config = replace(SMALL, labels=0, reward_from=tmp_path / "{env}" / "first-seed{seed}", out=tmp_path / "transfer")
    after = prefrl.train(config, quiet=True)
    assert (after / "reward.safetensors").read_bytes() == reward
    assert {row["labels_asked"] for row in rows(after)} == {"0"}
    assert from_toml(TrainConfig, after / "config.toml").reward_from == before
    assert rows(after)[-1]["learned_return"] != rows(before)[-1]["learned_return"]
    assert (after / "policy.safetensors").read_bytes() != (before / "policy.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": 0}, "reward_from"),
        ({"reward_from": Path("somewhere")}, "labels to 0"),
        ({"labels": 0, "reward_from": Path("nowhere")}, "no reward model"),
        ({"freeze_reward_at": 0.0}, "more than zero"),
        ({"freeze_reward_at": 1.5}, "between 0 and 1"),
        ({"labels": -1}, "more than zero"),
    ],
)
def test_rewards_that_cannot_be_are_refused(tmp_path, change, said):
    with pytest.raises(UserError, match=said) as caught:
        prefrl.train(replace(SMALL, out=tmp_path / "run", **change), quiet=True)
    sentence(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_objective_that_is_none_is_refused(tmp_path):
    config = replace(SMALL, out=tmp_path / "run")
    object.__setattr__(config, "objective", "regret")  # as a caller without types may
    with pytest.raises(UserError, match="preference or target") as caught:
        prefrl.train(config, quiet=True)
    sentence(caught.value)


def test_a_reward_for_other_spaces_is_refused(tmp_path):
    before = prefrl.train(replace(SMALL, out=tmp_path / "first"), quiet=True)
    wrong = replace(SMALL, env="CartPole-v1", labels=0, reward_from=before, out=tmp_path / "run")
    with pytest.raises(UserError, match="same environment") as caught:
        prefrl.train(wrong, quiet=True)
    sentence(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "ablation",
    [
        {"strategy": "uniform"},
        {"members": 1, "strategy": "uniform"},
        {"initial_labels": 1.0},
        {"l2": 0.0},
        {"segment_steps": 1},
        {"objective": "target"},
    ],
    ids=["random queries", "no ensemble", "no online queries", "no regularisation", "no segments", "target"],
)
def test_every_ablation_of_the_paper_is_a_switch_of_the_loop(tmp_path, ablation):
    table = rows(prefrl.train(replace(SMALL, **ablation, out=tmp_path / "run"), quiet=True))
    assert table[-1]["labels_answered"] == "60"
    assert table[0]["labels_asked"] == ("60" if ablation.get("initial_labels") else "15")
    assert float(table[-1]["l2"]) == 0 or "l2" not in ablation
    assert math.isfinite(float(table[-1]["held_out_loss"]))


def test_learns_pendulum_from_answers_in_under_a_minute(tmp_path):
    """From 200 answers the policy gets well past a random one, whose return is about -1,250."""
    config = TrainConfig(env="Pendulum-v1", steps=80_000, labels=200, seed=100, tensorboard=False, out=tmp_path / "run")
    run = prefrl.load_run(prefrl.train(config, quiet=True))
    true_returns = np.array(run.metrics["true_return"])
    assert np.nanmean(true_returns[-5:]) > -700
    assert np.mean(run.metrics["correlation"][-5:]) > 0.95
    assert run.metrics["held_out_accuracy"][-1] > 0.65  # of some 70 answers, chosen because the members disagreed


def test_an_environment_that_does_not_end_in_time_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="longer than an episode"):
        prefrl.train(replace(SMALL, segment_steps=201, out=tmp_path / "run"), quiet=True)
    assert not list(Path(tmp_path).iterdir())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schedule": f"{__name__}:rising_and_falling"}, "must never fall"),
        ({"schedule": f"{__name__}:half"}, "goes from 0 to 0.5"),
        ({"labeler": f"{__name__}:without_a_seed"}, "takes a seed"),
        ({"labeler": f"{__name__}:no_labeler"}, "made None, which is not callable"),
        ({"labeler": f"{__name__}:UprightLabeler", "teachers": ("mistake",)}, "it never does"),
        ({"strategy": f"{__name__}:half"}, "cannot be called as strategy"),
        ({"noise_floor": 1.0}, "must be below 1"),
        ({"keep_steps": 159}, "take at least 160"),
        ({"n_envs": 1, "explore_steps": 20}, "take at least 21"),
        ({"seed": 2**31}, "2147483647 at most"),
        ({"set": ("learning_rate=fast",)}, "learning_rate='fast'"),
        ({"set": ("batch_size=1",)}, "batch_size=1"),
        ({"wandb": "project"}, "needs its package"),
    ],
    ids=str,
)
def test_a_mistake_leaves_no_folder_in_the_way(tmp_path, monkeypatch, change, said):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as where it is not installed
    with pytest.raises(UserError, match=said) as caught:
        prefrl.train(replace(SMALL, out=tmp_path / "run", **change), quiet=True)
    sentence(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_baselines_mistake_leaves_no_folder_either(tmp_path):
    config = BaselineConfig(env="Pendulum-v1", steps=800, n_envs=8, tensorboard=False, out=tmp_path / "run")
    with pytest.raises(UserError, match="`batch_size` must be greater than 1"):
        prefrl.run_baseline(replace(config, set=("n_steps=50", "batch_size=1")), quiet=True)
    assert not list(tmp_path.iterdir())
    prefrl.run_baseline(replace(config, set=("n_steps=50", "batch_size=100")), quiet=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("says_nothing", "returned None"),
        ("says_ones", "returned a list with 1 in it"),
        ("says_text", "returned a str with 'l' in it"),
        ("says_of_nothing", "returned a list with Preference(query=None, mu=1.0"),
        ("says_much", "returned a list with Preference("),
        ("says_anonymously", "returned a list with Preference("),
        ("says_some_time", "returned a list with Preference("),
    ],
)
def test_answers_that_are_none_are_one_sentence_and_the_questions_stay(tmp_path, name, said):
    with pytest.raises(UserError) as caught:
        prefrl.train(replace(SMALL, labeler=f"{__name__}:{name}", out=tmp_path / "run"), quiet=True)
    assert f"labeler '{__name__}:{name}' {said}" in sentence(caught.value)
    assert "it must return a list of prefrl.Preference" in str(caught.value)
    with Store(tmp_path / "run" / "labels.sqlite") as store:
        assert (store.counts().asked, store.counts().answered) == (15, 0)


def test_scores_that_are_none_are_one_sentence_and_the_rows_stay(tmp_path):
    with pytest.raises(UserError, match="strategy not_a_number returned NaN for 240 of 240 pairs") as caught:
        prefrl.train(replace(SMALL, strategy=f"{__name__}:not_a_number", out=tmp_path / "run"), quiet=True)
    sentence(caught.value)
    assert len(rows(tmp_path / "run")) == 1  # the first questions, of a reward that knows nothing, need no strategy


def test_answers_taken_over_from_another_run_are_never_deleted(tmp_path):
    before = prefrl.train(replace(SMALL, steps=2_400, out=tmp_path / "before"), quiet=True)
    config = replace(SMALL, labels_from=(str(before),), labeler=f"{__name__}:no_labeler", out=tmp_path / "run")
    with pytest.raises(UserError, match="made None"):
        prefrl.train(config, quiet=True)
    with Store(tmp_path / "run" / "labels.sqlite") as store:
        assert store.counts().answered == 60


def test_questions_in_a_store_elsewhere_keep_their_run(tmp_path):
    config = replace(SMALL, labeler=f"{__name__}:says_nothing", out=tmp_path / "run")
    with pytest.raises(UserError, match="returned None"):
        prefrl.train(replace(config, store=f"sqlite:///{tmp_path / 'answers.db'}"), quiet=True)
    assert (tmp_path / "run" / "config.toml").exists()
    wrong = replace(config, labeler=f"{__name__}:no_labeler", out=tmp_path / "other")
    with pytest.raises(UserError, match="made None"):
        prefrl.train(replace(wrong, store=f"sqlite:///{tmp_path / 'others.db'}"), quiet=True)
    assert not (tmp_path / "other").exists()


def test_rankings_are_asked_answered_learned_from_and_counted_as_questions(tmp_path):
    config = replace(SMALL, question="ranking", k=3, labels=16, teachers=("skip", "equal"), out=tmp_path / "ranked")
    folder = prefrl.train(config, quiet=True)
    assert from_toml(TrainConfig, folder / "config.toml").k == 3
    metrics = read_table(folder / "metrics.csv")
    assert metrics["labels_asked"][-1] == 16
    assert metrics["comparisons"][-1] == 3 * metrics["labels_answered"][-1] > 0
    assert metrics["held_out_accuracy"][-1] > 0.6
    with Store(folder / "labels.sqlite") as store:
        answers, counts = store.answers()[0], store.counts()
        said = report(store)
    assert (counts.asked, counts.answered) == (16, metrics["labels_answered"][-1])
    assert counts.seconds == pytest.approx(metrics["labelling_seconds"][-1], rel=1e-4)
    assert "choice" in said
    for answer in answers:
        assert len({segment.occasion for segment in answer.query.segments}) == 3
        if answer.is_decided and "=" not in answer.choice:
            returns = [segment.rewards.sum() for segment in answer.query.segments]
            assert answer.ranks == tuple(np.argsort(np.argsort([-r for r in returns])))
    log = label_log(load_run(folder), clips=2)
    assert [entry.answer for entry in log] == [word_of(None, answer.choice) for answer in answers]
    assert {len(entry.sides) for entry in log} == {0, 3}
    write_page([folder], tmp_path / "page.html", clips=1, steps=800)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "100 % of it so" in page
    assert "% for left" not in page
    # Its answers begin a run that asks for the best of four, and one that asks about pairs.
    later = replace(SMALL, labels=8, labels_from=(str(folder),), steps=2000)
    for more in ({"question": "best", "out": tmp_path / "best"}, {"out": tmp_path / "pairs"}):
        metrics = read_table(prefrl.train(replace(later, **more), quiet=True) / "metrics.csv")
        assert metrics["labels_answered"][-1] == 8
        assert metrics.get("comparisons", [None])[-1] == (24 if "question" in more else None)


def test_a_labeler_of_ones_own_may_rank(tmp_path):
    config = replace(SMALL, steps=2000, question="ranking", labels=8, labeler=f"{__name__}:ranks_poles")
    folder = prefrl.train(replace(config, out=tmp_path / "run"), quiet=True)
    with Store(folder / "labels.sqlite") as store:
        assert {answer.labeler for answer in store.answers()[0]} == {"poles"}
        assert store.counts().answered == 8


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"question": "ranking", "k": 1}, "k=1 segments cannot be put in order"),
        ({"question": "best", "k": 65}, "from 2 to 64"),
        ({"question": "ranking", "k": 10, "labeler": "human"}, "from 2 to 9"),
        ({"k": 4}, "--question ranking"),
        ({"likelihood": "all-pairs"}, "asks for none"),
        ({"margin": 1.0}, "the oracle never says"),
        ({"question": "ranking", "method": "dpo", "set": ()}, "method 'dpo' learns from those alone"),
        ({"question": "best", "labeler": "judge"}, "a judge knows pairs alone"),
        ({"margin": -1.0}, "must be zero"),
        ({"question": "ranking", "k": 9, "labels": 60}, "(9 segments of 20 each)"),
    ],
)
def test_what_is_no_ranking_is_one_sentence(tmp_path, given, said):
    with pytest.raises(UserError) as caught:
        resolve(replace(SMALL, out=tmp_path / "never", **given))
    assert said in sentence(caught.value)
    assert not (tmp_path / "never").exists()
