import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils import EzPickle
from helpers import AnyEnv, CounterEnv, counters
from numpy.typing import NDArray

import prefrl
from prefrl.experience.environments import make_env
from prefrl.experience.recorder import Episode, Pairs, Recorder, mean_steps, mean_true_return
from prefrl.rewards.networks import MLPs
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.rewards.watch import Watch, agreement, learned_gain
from prefrl.settings.config import TrainConfig
from prefrl.studies.evaluate import _restored, _state, evaluate_run, policy_return, probe
from prefrl.words.measures import epic


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


def test_a_saved_policys_returns_are_the_seeds_and_the_callers_generators_go_on(pendulum: prefrl.SavedRun) -> None:
    act, found = pendulum.policy.act, []
    for seed in (0, 0, 1):
        before = torch.get_rng_state()
        found.append(policy_return(act, pendulum.make_env(), 2, seed).tolist())
        assert torch.equal(before, torch.get_rng_state())
        torch.rand(3)  # whatever is drawn between the calls
    assert found[0] == found[1] != found[2]


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
def test_agreement_with_the_true_reward_and_with_its_opposite(terminates: bool) -> None:
    pairs = some_pairs(terminates)
    for sign, right in ((1.0, 1.0), (-0.5, 0.0)):
        r_hat = ensemble(pairs.recorder, [sign * 1000.0, sign * 100.0, sign])
        measures, curve = agreement(r_hat, pairs, 0.1)
        assert measures["correlation"] == pytest.approx(np.sign(sign), abs=1e-6)
        assert measures["rank_correlation"] == pytest.approx(np.sign(sign), abs=1e-6)
        assert measures["accuracy"] == right
        # Returns are so far apart that every prediction is 0.95 or 0.05, right or wrong.
        assert measures["cross_entropy"] == pytest.approx(-math.log(0.95 if right else 0.05), abs=0.1)
        assert measures["cross_entropy_floor"] == pytest.approx(-math.log(0.95))
        assert measures["brier"] == pytest.approx(0.05**2 if right else 0.95**2, abs=0.02)
        assert curve.error == pytest.approx(0.05 if right else 0.95, abs=0.02)


def test_agreement_of_an_ensemble_that_reads_one_number_only() -> None:
    pairs = some_pairs()
    steps = ensemble(pairs.recorder, [0.0, 0.0, 1.0])
    learned = [s.observations[:, 2].sum() for q in pairs.queries() for s in (q.left, q.right)]
    true = [s.rewards.sum() for q in pairs.queries() for s in (q.left, q.right)]
    measures, _ = agreement(steps, pairs, 0.1)
    assert measures["correlation"] == pytest.approx(np.corrcoef(learned, true)[0, 1], abs=1e-5)
    flat, _ = agreement(ensemble(pairs.recorder, [0.0, 0.0, 0.0]), pairs, 0.1)
    assert math.isnan(flat["correlation"])
    assert flat["accuracy"] == 0.5  # a reward that tells nothing apart takes no side
    assert flat["cross_entropy"] == pytest.approx(math.log(2))


def test_a_reward_that_is_nan_has_no_measures() -> None:
    pairs = some_pairs()
    measures, curve = agreement(ensemble(pairs.recorder, [math.nan, 0.0, 0.0]), pairs, 0.1)
    floor = measures.pop("cross_entropy_floor")
    assert floor == pytest.approx(-math.log(0.95))
    assert all(math.isnan(value) for value in measures.values()), measures
    assert not len(curve.count)


def test_the_learned_returns_are_those_that_are_paid() -> None:
    pairs = some_pairs(terminates=True)
    recorder = pairs.recorder
    r_hat = RewardEnsemble(recorder.observation_space, recorder.action_space, 3)
    r_hat.observe(*recorder.recent(100)[:2])
    r_hat.normalise_outputs(*recorder.recent(100)[:2])
    paid = [r_hat.reward(s.observations, s.actions).sum() for q in pairs.queries() for s in (q.left, q.right)]
    found, _ = agreement(r_hat, pairs, 0.1)
    true = pairs.true_returns().ravel()
    assert found["correlation"] == pytest.approx(np.corrcoef(paid, true)[0, 1], abs=1e-5)
    sides = np.sign(np.diff(np.reshape(paid, (-1, 2))))[:, 0] == np.sign(np.diff(true.reshape(-1, 2)))[:, 0]
    assert found["accuracy"] == pytest.approx(sides[np.diff(true.reshape(-1, 2))[:, 0] != 0].mean(), abs=1e-9)


def test_the_learned_gain_is_in_deviations_of_what_is_paid() -> None:
    recorder = some_pairs().recorder
    r_hat = ensemble(recorder, [0.0, 0.0, 1.0])
    r_hat.reward_std = 0.05
    first, newest = (np.array([[0, 0, x]], np.float32) for x in (1.0, 4.0))
    action = np.zeros((1, 2), np.float32)
    assert learned_gain(r_hat, (first, action), (newest, action)) == pytest.approx(3.0)


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> prefrl.SavedRun:
    config = TrainConfig(
        env="Pendulum-v1",
        steps=8_000,
        labels=60,
        phases=5,
        tensorboard=False,
        out=tmp_path_factory.mktemp("runs") / "pendulum",
    )
    return prefrl.load_run(prefrl.train(config, quiet=True))


def test_a_saved_run_is_evaluated_and_the_seed_repeats_it(pendulum: prefrl.SavedRun) -> None:
    one, again = (evaluate_run(pendulum, steps=800, pairs=200, moments=20, seed=3) for _ in range(2))
    assert one.measures == again.measures
    assert one.ends.tolist() == [200, 400, 600, 800]
    assert one.measures["true_return"] == pytest.approx(one.true.sum() / 4)
    assert all(math.isfinite(value) for value in one.measures.values()), one.measures
    assert one.measures["accuracy"] > 0.6
    for name in ("epic", "dard"):
        low, value, high = (one.measures[f"{name}{end}"] for end in ("_low", "", "_high"))
        assert 0 <= low < value < high <= 1
    assert one.reliability.count.sum() == 200
    # What is paid is r-hat of what was seen: neighbours in time, so never far from each other.
    assert one.learned.shape == one.true.shape == (800,)


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "HalfCheetah-v5", "prefrl/Hopper-v0", "prefrl/Reacher-v0"])
def test_a_restored_state_is_where_the_same_actions_lead(env_id: str) -> None:
    env, spare, again = (make_env(env_id) for _ in range(3))
    rng = np.random.default_rng(0)
    low, high = env.action_space.low, env.action_space.high  # type: ignore[attr-defined]
    actions = rng.uniform(low, high, (12, *low.shape)).astype(np.float32)
    for one in (env, again):
        one.reset(seed=5)
        for action in actions[:10]:
            one.step(action)
    spare.reset(seed=9)
    state = _state(env)
    env.step(actions[0])  # what the original does later does not matter
    for _ in range(2):  # and it can be gone back to
        copy = _restored(state, spare)
        _, reward, *_ = copy.step(actions[10])
        observation, _, *_ = copy.step(actions[11])
    _, expected, *_ = again.step(actions[10])
    assert reward == pytest.approx(expected, rel=1e-4, abs=1e-5)
    np.testing.assert_allclose(observation, again.step(actions[11])[0], rtol=1e-3, atol=1e-4)


class PendulumsReward:
    """The formula of Pendulum's reward, in place of a learned one."""

    is_image = False

    def reward(self, observations: NDArray[Any], actions: NDArray[Any]) -> NDArray[np.float64]:
        angle = np.arctan2(observations[:, 1], observations[:, 0])
        return -(angle**2 + 0.1 * observations[:, 2] ** 2 + 0.001 * actions[:, 0].clip(-2, 2) ** 2)


def test_a_probe_asks_both_rewards_about_the_same_steps(pendulum: prefrl.SavedRun) -> None:
    exact = dataclasses.replace(pendulum)
    exact.__dict__["r_hat"] = PendulumsReward()
    asked = probe(exact, 30, np.random.default_rng(0), actions=4)
    assert asked is not None
    true, formula = asked
    assert (true.step.shape, true.after.shape) == ((30,), (30, 4))
    for part in ("step", "at_state", "at_next", "after"):
        np.testing.assert_allclose(getattr(true, part), getattr(formula, part), atol=1e-4)
        assert np.ptp(getattr(true, part)) > 0.1
    assert epic(true, formula, 0.99) == pytest.approx(0, abs=0.02)
    assert 0 < evaluate_run(pendulum, 400, 50, 30).measures["dard"] < 1


class Forgetful(AnyEnv, EzPickle):
    """A copy of it begins anew."""

    def __init__(self) -> None:
        EzPickle.__init__(self)
        AnyEnv.__init__(self, gym.spaces.Box(-1, 1, (2,), np.float32), gym.spaces.Box(-1, 1, (1,), np.float32))

    def reset(self, **kwargs: Any) -> Any:
        self.count = 0
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        self.count += 1
        observation, _, *rest = super().step(action)
        return observation, float(self.count), *rest


def test_a_simulator_whose_copies_do_something_else_is_not_believed(pendulum: prefrl.SavedRun) -> None:
    gym.register("prefrl-tests/Forgetful-v0", Forgetful, max_episode_steps=50)
    run = dataclasses.replace(pendulum, config=dataclasses.replace(pendulum.config, env="prefrl-tests/Forgetful-v0"))
    run.__dict__["policy"] = type("Still", (), {"act": lambda self, seen: np.zeros((1, 1), np.float32)})()
    run.__dict__["r_hat"] = PendulumsReward()
    assert probe(run, 4, np.random.default_rng(0)) is None


def alarms(true: Sequence[float], behaviour: Sequence[float], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The alarm of each phase in which every step's first number is this, of an r-hat that pays that number.

    What it pays is spread ten times less from phase to phase, as if behaviour were growing narrow.
    """
    recorder = some_pairs().recorder
    r_hat = ensemble(recorder, [1.0, 0.0, 0.0])
    watch = Watch(r_hat, recorder, 4, 0.1, np.random.default_rng(0))
    rang = []
    for phase, (of_true, seen) in enumerate(zip(true, behaviour, strict=True)):
        newest = (np.full((4, 3), seen, np.float32), np.zeros((4, 2), np.float32), np.zeros(4))
        monkeypatch.setattr(recorder, "recent", lambda steps, at_most, newest=newest: newest)
        r_hat.reward_std = 10.0**-phase
        row = watch.measure(10, [Episode(phase, of_true, 5)] * 2, np.array([1.0, 2.0]))
        np.testing.assert_equal(row["true_return"], of_true)
        assert row["learned_return"] == 1.5
        rang.append(int(row["alarm"]))
    return rang


def test_the_alarm_goes_off_where_learned_and_true_reward_part(monkeypatch: pytest.MonkeyPatch) -> None:
    rising, falling = np.arange(20.0).tolist(), [*np.arange(12.0), *(11 - 2 * np.arange(8.0))]
    assert sum(alarms(rising, rising, monkeypatch)) == 0
    assert sum(alarms(falling, falling, monkeypatch)) == 0  # the learned reward says so too, whatever its scale
    hacked = alarms(falling, rising, monkeypatch)
    assert hacked[:14] == [0] * 14
    assert hacked[-3:] == [1] * 3
    assert sum(alarms([math.nan] * 20, rising, monkeypatch)) == 0


def test_a_run_is_measured_on_its_newest_phase() -> None:
    recorder = some_pairs().recorder  # 50 vector steps
    drawn = recorder.pairs(200, 4, np.random.default_rng(0), newest=20)
    assert drawn.row.min() == 40
    assert drawn.row.max() == 46
    everywhere = recorder.pairs(200, 4, np.random.default_rng(0), newest=4)  # no two windows lie in two vector steps
    assert everywhere.row.min() == 0


class OneStep(AnyEnv):
    """Every episode ends at its first step."""

    def __init__(self) -> None:
        super().__init__(gym.spaces.Box(-1, 1, (3,), np.float32), gym.spaces.Box(-1, 1, (1,), np.float32))

    def step(self, action: Any) -> Any:
        observation, reward, _, _, info = super().step(action)
        return observation, reward, True, False, info


def test_where_episodes_end_at_once_there_are_no_moments_to_probe(pendulum: prefrl.SavedRun) -> None:
    gym.register("prefrl-tests/OneStep-v0", OneStep)
    run = dataclasses.replace(pendulum, config=dataclasses.replace(pendulum.config, env="prefrl-tests/OneStep-v0"))
    run.__dict__["policy"] = type("Still", (), {"act": lambda self, seen: np.zeros((1, 1), np.float32)})()
    run.__dict__["r_hat"] = PendulumsReward()
    assert probe(run, 4, np.random.default_rng(0)) is None
