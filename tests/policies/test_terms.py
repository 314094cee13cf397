import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import sentence
from numpy.typing import NDArray

from prefrl.baseline import run_baseline
from prefrl.experience.backends import make_vec_env
from prefrl.experience.recorder import Recorder
from prefrl.policies.on_policy import Learner
from prefrl.policies.policy import Policy
from prefrl.policies.reference import FILE, Reference, divergence
from prefrl.policies.terms import Anchor
from prefrl.run import train
from prefrl.runs.resolve import resolve
from prefrl.settings.config import BaselineConfig, TrainConfig
from prefrl.words.errors import UserError

LEARNERS = {
    "ppo": {"n_steps": 16, "batch_size": 32, "n_epochs": 4, "learning_rate": 3e-3},
    "a2c": {"n_steps": 16, "learning_rate": 7e-3},
    "trpo": {"n_steps": 16, "batch_size": 32, "target_kl": 0.05},
}
every_learner = pytest.mark.parametrize("name", LEARNERS)

IMAGE = spaces.Box(0, 255, (44, 44, 3), np.uint8)
VECTOR = spaces.Box(-1, 1, (3,), np.float32)
KINDS: dict[str, tuple[Any, Any]] = {
    "vector": (VECTOR, spaces.Box(-1, 1, (2,), np.float32)),
    "choice": (VECTOR, spaces.Discrete(3)),
    "choices": (VECTOR, spaces.MultiDiscrete([2, 3])),
    "switches": (VECTOR, spaces.MultiBinary(3)),
    "pixels": (IMAGE, spaces.Discrete(3)),
}


def env_of(kind: str) -> Recorder:
    seen, acted = KINDS[kind]
    env = make_vec_env("prefrl-tests/Any-v0", 2, 0, env_kwargs={"observation_space": seen, "action_space": acted})
    return Recorder(env, "Any-v0", 0, 1000)


def target(n_envs: int = 4) -> Recorder:
    """`TargetEnv`s: what is shown says which action pays best; episodes of 20 steps."""
    return Recorder(make_vec_env("prefrl-tests/Target-v0", n_envs, 0), "Target-v0", 0, 100_000)


def anchored(
    name: str, env: Recorder, beta: float, kl_target: float | None = None, unit: float = 1.0, **more: Any
) -> tuple[Learner, Anchor]:
    anchor = Anchor(beta, kl_target, lambda: unit)
    return Learner(name, env, LEARNERS[name] | more, seed=0, anchor=anchor), anchor


def weights(learner: Learner) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in learner.model.policy.state_dict().values()]


def learn(learner: Learner, times: int, steps: int = 16) -> list[dict[str, float]]:
    return [learner.learn([steps], lambda: 0.0) for _ in range(times)]


@every_learner
@pytest.mark.parametrize("kind", KINDS)
def test_contract_the_divergence_begins_at_zero_and_the_reference_never_changes(name: str, kind: str) -> None:
    env = env_of(kind)
    learner, anchor = anchored(name, env, 0.1)
    learner.explore(8)
    assert anchor.reference is not None
    observations = env.recent(16)[0]
    acted = anchor.reference.distribution(observations)
    chosen = acted.sample()
    before = acted.log_prob(chosen).numpy().tobytes()
    first, *_, last = learn(learner, 4)
    assert first["kl"] == 0
    assert last["kl"] > 0
    assert first["kl_beta"] == last["kl_beta"] == 0.1
    assert anchor.reference.distribution(observations).log_prob(chosen).numpy().tobytes() == before


def test_with_a_reference_observations_mean_the_same_to_the_policy_from_the_start_on() -> None:
    learner, _ = anchored("ppo", target(), 0.0)
    learner.explore(30)
    assert learner.normaliser is not None
    before = learner.normaliser.obs_rms.mean.copy()  # type: ignore[union-attr]
    learn(learner, 2)
    np.testing.assert_array_equal(learner.normaliser.obs_rms.mean, before)  # type: ignore[union-attr]


@every_learner
def test_a_beta_of_zero_is_byte_equal_to_the_same_start_without_the_term(name: str) -> None:
    def learned(with_anchor: bool) -> list[torch.Tensor]:
        env = target()
        learner = anchored(name, env, 0.0)[0] if with_anchor else Learner(name, env, LEARNERS[name], seed=0)
        learner.explore(10)
        if not with_anchor and learner.normaliser is not None:
            learner.normaliser.training = False
        learn(learner, 4)
        return weights(learner)

    assert all(map(torch.equal, learned(True), learned(False)))


@every_learner
def test_a_large_beta_stays_at_the_reference(name: str) -> None:
    def ends_at(beta: float) -> float:
        learner, _ = anchored(name, target(8), beta, gamma=0.0)
        learner.explore(10)
        return learn(learner, 10, steps=20)[-1]["kl"]

    free, held = ends_at(0.0), ends_at(100.0)
    assert free > 1
    assert held < 0.1 * free


def test_each_reward_is_paid_less_by_the_log_ratio_of_the_action_as_it_was_drawn() -> None:
    env = target(3)  # actions are clipped at 2, and a new policy's deviation is 1
    learner, anchor = anchored("ppo", env, 0.5, unit=4.0, policy_kwargs={"log_std_init": 1.0})
    learner.explore(10)
    learn(learner, 2)
    policy, drawn = learner.model.policy, []
    assert learner.normaliser is not None
    ongoing = learner._ongoing
    ongoing.pop()
    learner.model.n_steps = learner.model.rollout_buffer.buffer_size = 10
    pop = ongoing.pop
    ongoing.pop = lambda: drawn.extend(taken := pop()) or taken  # type: ignore[method-assign, func-returns-value]
    learner.model.collect_rollouts(learner.model.env, _Nothing(), learner.model.rollout_buffer, 10)  # type: ignore[arg-type]
    buffer = learner.model.rollout_buffer
    assert np.abs(buffer.actions).max() > 2
    raw = np.concatenate([step.observations for step in drawn])
    actions = torch.from_numpy(buffer.actions.reshape(30, 1))
    mine = policy.get_distribution(torch.from_numpy(buffer.observations.reshape(30, 1))).log_prob(actions)
    assert anchor.reference is not None
    ratio = (mine - anchor.reference.distribution(raw).log_prob(actions)).detach().numpy().reshape(10, 3)
    np.testing.assert_allclose(mine.detach().numpy().reshape(10, 3), buffer.log_probs, rtol=1e-4, atol=1e-5)
    true = env.recent(30)[2].reshape(10, 3)
    goes_on = ~np.stack([step.dones for step in drawn])  # where time is up, the value of what is cut off is paid too
    np.testing.assert_allclose(buffer.rewards[goes_on], (true - 4.0 * 0.5 * ratio)[goes_on], rtol=1e-4, atol=1e-4)


class _Nothing:
    """A callback that lets everything go on."""

    def on_rollout_start(self) -> None: ...
    def on_rollout_end(self) -> None: ...
    def on_step(self) -> bool:
        return True

    def update_locals(self, _: Any) -> None: ...


def test_the_divergence_is_that_of_whole_episodes() -> None:
    env = target(2)
    learner, anchor = anchored("ppo", env, 0.0)
    learner.explore(4)
    learn(learner, 3)
    learner.begin_anew()
    anchor._episodes.clear()
    per_step: list[NDArray[Any]] = []
    count = anchor._count
    anchor._count = lambda apart, steps: per_step.append(apart) or count(apart, steps)  # type: ignore[method-assign, func-returns-value]
    assert math.isnan(learner.learn([19], lambda: 0.0)["kl"])
    measured = learner.learn([11], lambda: 0.0)["kl"]  # the episode of 20 steps ended in it
    by_hand = np.concatenate(per_step)[:20].sum(0).mean()
    assert measured == pytest.approx(by_hand, rel=1e-5)
    assert measured > 0


def test_the_divergence_is_the_closed_form_and_the_log_ratio_has_its_mean() -> None:
    rng = np.random.default_rng(0)
    env = env_of("vector")
    here, there = (Learner("ppo", env, {"n_steps": 16, "batch_size": 32}, seed=s).model.policy for s in (0, 1))
    with torch.no_grad():
        here.log_std += torch.tensor([-0.5, 0.3])
        here.action_net.bias += torch.tensor([0.4, -0.8])
        observation = torch.from_numpy(rng.normal(size=(1, 3)).astype(np.float32))
        p, q = here.get_distribution(observation), there.get_distribution(observation)
        (m, s), (n, t) = ((d.distribution.mean[0], d.distribution.stddev[0]) for d in (p, q))  # type: ignore[union-attr]
        closed = float((torch.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5).sum())
        assert float(divergence(p, q)) == pytest.approx(closed, rel=1e-5)
        drawn = p.distribution.sample((100_000,))[:, 0]  # type: ignore[union-attr]
        ratios = (p.distribution.log_prob(drawn) - q.distribution.log_prob(drawn)).sum(-1).numpy()  # type: ignore[union-attr]
    assert float(ratios.mean()) == pytest.approx(closed, abs=5 * float(ratios.std()) / math.sqrt(len(ratios)))


@pytest.mark.parametrize("kind", ["choice", "choices", "switches"])
def test_of_choices_too(kind: str) -> None:
    env = env_of(kind)
    here, there = (Learner("ppo", env, {"n_steps": 16, "batch_size": 32}, seed=s).model.policy for s in (0, 1))
    with torch.no_grad():
        for policy in (here, there):
            policy.action_net.bias += torch.randn(policy.action_net.bias.shape)
        observation = torch.randn(1, 3)
        p, q = here.get_distribution(observation), there.get_distribution(observation)
        every = {
            "choice": torch.arange(3),
            "choices": torch.cartesian_prod(torch.arange(2), torch.arange(3)),
            "switches": torch.cartesian_prod(*[torch.arange(2.0)] * 3),
        }[kind]
        logs = torch.tensor([[float(d.log_prob(a[None])) for a in every] for d in (p, q)])
    by_hand = float((logs[0].exp() * (logs[0] - logs[1])).sum())
    assert float(divergence(p, q)) == pytest.approx(by_hand, rel=1e-4)


def test_an_adaptive_beta_comes_to_its_target() -> None:
    learner, anchor = anchored("ppo", target(8), 1.0, kl_target=2.0, gamma=0.0)
    learner.explore(10)
    measured = [row["kl"] for row in learn(learner, 50, steps=20)]
    assert np.mean(measured[-20:]) == pytest.approx(2.0, rel=0.25)
    assert anchor.beta != 1.0


def test_an_adaptive_beta_changes_by_a_fifth_at_most_and_not_where_nothing_is_known() -> None:
    anchor = Anchor(1.0, 2.0, lambda: 1.0)
    for episodes, expected in (([4.0], 1.2), ([], 1.2), ([2.2], 1.2 * 1.1), ([0.1, 0.1], 1.2 * 1.1 * 0.8)):
        anchor._episodes = list(episodes)
        before = anchor.beta
        row = anchor.measures()
        assert row["kl_beta"] == before
        assert anchor.beta == pytest.approx(expected)
    assert math.isnan(Anchor(1.0, 2.0, lambda: 1.0).measures()["kl"])


SMALL = TrainConfig(
    env="prefrl-tests/Target-v0", steps=640, labels=20, n_envs=4, segment_steps=5, set=("n_steps=40", "batch_size=80"),
    initial_epochs=4, fit_updates=4, phases=4, tensorboard=False,
)  # fmt: skip
TRUE = BaselineConfig(env=SMALL.env, steps=1280, n_envs=4, set=SMALL.set, phases=8, tensorboard=False)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("config", [SMALL, TRUE], ids=["learned", "true"])
def test_a_run_writes_its_divergence_and_its_reference(tmp_path: Path, config: BaselineConfig) -> None:
    run = train if isinstance(config, TrainConfig) else run_baseline
    folder = run(replace(config, kl_beta=0.1, out=tmp_path / "run"), quiet=True)  # type: ignore[arg-type]
    written = rows(folder)
    assert float(written[0]["kl"]) == 0
    assert float(written[-1]["kl"]) > 0
    assert {row["kl_beta"] for row in written} == {"0.1"}
    env = gym.make(config.env)
    policy = Policy(folder / FILE, env.observation_space, env.action_space)
    assert policy.mean is not None
    last = Policy(folder / "policy.safetensors", env.observation_space, env.action_space)
    np.testing.assert_array_equal(last.mean, policy.mean)


def test_measuring_the_divergence_of_a_run_from_another_changes_no_byte_of_it(tmp_path: Path) -> None:
    first = train(replace(SMALL, kl_beta=0.0, reference="start", out=tmp_path / "first"), quiet=True)
    again = train(replace(SMALL, reference=str(first), out=tmp_path / "again"), quiet=True)
    for name in ("policy.safetensors", "reward.safetensors"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
    one, other = rows(first), rows(again)
    assert [{**row, "kl": ""} for row in one] == [{**row, "kl": ""} for row in other]
    assert float(other[-1]["kl"]) != float(one[-1]["kl"]) > 0
    assert not rows(train(replace(SMALL, kl_beta=0.0, out=tmp_path / "none"), quiet=True))[0].keys() & {"kl", "kl_beta"}


def test_the_term_is_in_the_unit_of_the_likelihood(tmp_path: Path) -> None:
    """A true reward that is paid on another scale is left at the same optimum: the term is scaled with it."""
    ends = [
        rows(run_baseline(replace(TRUE, kl_beta=0.2, reward_std=std, out=tmp_path / str(std)), quiet=True))[-1]["kl"]
        for std in (0.5, 1.0)
    ]
    assert float(ends[0]) == pytest.approx(float(ends[1]), rel=0.5)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kl_beta": -0.1}, "kl_beta=-0.1"),
        ({"kl_beta": math.nan}, "kl_beta=nan"),
        ({"kl_beta": 0.0, "kl_target": 1.0}, "above 0"),
        ({"kl_target": -1.0}, "kl_target=-1.0"),
        ({"kl_beta": 0.1, "reference": "nowhere"}, "'nowhere'"),
    ],
)
def test_what_cannot_be_held_to_is_one_sentence(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as error:
        resolve(replace(TRUE, **change))
    assert expected in sentence(error.value)


def test_a_reference_for_other_spaces_is_one_sentence(tmp_path: Path) -> None:
    folder = run_baseline(replace(TRUE, steps=800, out=tmp_path / "run"), quiet=True)
    with pytest.raises(UserError) as error:
        resolve(replace(TRUE, env="CartPole-v1", kl_beta=0.1, reference=str(folder)))
    assert "not a policy for this environment" in sentence(error.value)


def test_densities_that_cannot_be_compared_are_one_sentence() -> None:
    env = target()
    squashed = {"use_sde": True, "policy_kwargs": {"squash_output": True}}
    learner = Learner("ppo", env, LEARNERS["ppo"] | squashed, seed=0)
    spaces_ = env.observation_space, env.action_space
    reference = Reference(*learner._content(), *spaces_)
    held = Learner("ppo", env, LEARNERS["ppo"], seed=0, anchor=Anchor(0.1, None, lambda: 1.0, reference))
    with pytest.raises(UserError) as error:
        held.explore(4)
    assert "squash" in sentence(error.value)
