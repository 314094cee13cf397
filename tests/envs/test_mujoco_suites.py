"""DeepMind's control suite and Meta-World: EnvPool's tasks beside the suites' own Python classes."""

import importlib.util
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from prefrl_envs import mujoco_suites
from prefrl_envs.mujoco_suites import keys, pool_id

TASKS = {env_id: (about["suite"], about["task"]) for env_id, about, _ in mujoco_suites.tasks()}
PUBLISHED = ("drawer-open", "sweep-into", "hammer", "door-open", "door-unlock", "button-press", "window-open")


def installed(package):
    return importlib.util.find_spec(package) is not None


pool = pytest.mark.skipif(not installed("envpool"), reason="EnvPool is not installed here")
deepmind = pytest.mark.skipif(not installed("dm_control"), reason="dm_control (the extra suites) is not installed here")
sawyer = pytest.mark.skipif(not installed("metaworld"), reason="metaworld (the extra suites) is not installed here")


def one(env_id, **kwargs):
    return gym.make(env_id, disable_env_checker=True, **kwargs)


def many(env_id, num_envs=1, **kwargs):
    return gym.make_vec(env_id, num_envs, vectorization_mode="vector_entry_point", **kwargs)


def test_the_ids_are_there_and_nothing_is_imported_for_them():
    assert len(TASKS) == 49 + 50
    assert TASKS.keys() <= gym.registry.keys()
    assert gym.spec("dmc/walker-walk-v1").max_episode_steps == 1000
    assert gym.spec("Meta-World/window-open-v3").max_episode_steps == 500
    code = "import sys, prefrl_envs; print(*({'envpool', 'dm_control', 'metaworld'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


@pool
def test_envpool_has_every_task():
    import envpool

    assert {pool_id(*task) for task in TASKS.values()} <= set(envpool.list_all_envs())


@deepmind
@pool
@pytest.mark.parametrize(
    "tasks",
    [
        ("walker-walk", "cheetah-run", "quadruped-walk", "fish-swim", "finger-turn_easy", "humanoid-stand"),
        pytest.param(tuple(task for suite, task in TASKS.values() if suite == "dmc"), marks=pytest.mark.long),
    ],
    ids=["six", "all"],
)
def test_an_observation_is_laid_out_as_the_suite_lays_it_out(tasks):
    import envpool
    from dm_control import suite

    ours = {tuple(task.split("-")) for kind, task in TASKS.values() if kind == "dmc"}
    assert ours == {each for each in suite.ALL_TASKS if each[0] != "lqr"}
    for task in tasks:
        theirs = suite.load(*task.split("-"))
        sizes = {name: int(np.prod(part.shape)) for name, part in theirs.observation_spec().items()}
        assert keys(task) == list(sizes), task
        env = many(f"dmc/{task}-v1")
        assert env.single_observation_space.shape == (sum(sizes.values()),), task
        acted = theirs.action_spec()
        np.testing.assert_allclose(env.single_action_space.low, acted.minimum, rtol=1e-6)
        np.testing.assert_allclose(env.single_action_space.high, acted.maximum, rtol=1e-6)
        assert theirs._step_limit == 1000, task
        assert theirs._n_sub_steps == envpool.make_spec(pool_id("dmc", task)).config.frame_skip, task  # none repeated
        env.close()


def walker(seen):
    """Joints from the directions of the bodies, (cosine, sine), each seen from the one that carries it."""
    torso, *legs = np.arctan2(seen[1:14:2], seen[0:14:2])
    bent = [before - after for leg in (legs[:3], legs[3:]) for before, after in zip([torso, *leg], leg, strict=False)]
    return np.array([seen[14] - 1.3, 0.0, torso, *((np.array(bent) + np.pi) % (2 * np.pi) - np.pi)]), seen[15:]


STATES = {  # of an observation: where the joints are, and how fast they move
    "cheetah-run": lambda seen: (np.r_[0, seen[:8]], seen[8:]),
    "hopper-stand": lambda seen: (np.r_[0, seen[:6]], seen[6:13]),
    "point_mass-easy": lambda seen: (seen[:2], seen[2:]),
    "cartpole-balance": lambda seen: (np.array([seen[0], np.arctan2(seen[2], seen[1])]), seen[3:]),
    "humanoid-run_pure_state": lambda seen: (seen[:28], seen[28:]),
    "walker-walk": walker,
    "walker-run": walker,
}


@deepmind
@pool
@pytest.mark.parametrize("task", STATES)
def test_the_suites_class_makes_the_same_of_the_same_state_and_action(task):
    fast, own = many(f"dmc/{task}-v1"), one(f"dmc/{task}-v1").unwrapped
    seen = fast.reset(seed=3)[0][0]
    own.reset(seed=0)
    rng = np.random.default_rng(0)
    rewards = []
    for _ in range(40):
        own.set_state(*STATES[task](seen))
        action = rng.uniform(own.action_space.low, own.action_space.high).astype(np.float32)
        after, reward, *_ = own.step(action)
        observations, paid, *_ = fast.step(action[None])
        seen = observations[0]
        np.testing.assert_allclose(after, seen, atol=2e-4)
        np.testing.assert_allclose(reward, paid[0], atol=1e-5)
        rewards.append(paid[0])
    assert np.ptp(rewards) > 1e-4 or task not in ("walker-walk", "walker-run", "cartpole-balance")
    fast.close()


@deepmind
@pool
def test_a_cheetah_is_paid_alike_as_it_runs():
    fast, own = many("dmc/cheetah-run-v1"), one("dmc/cheetah-run-v1").unwrapped
    seen = fast.reset(seed=3)[0][0]
    own.reset(seed=0)
    own.set_state(*STATES["cheetah-run"](seen))
    rng, paid = np.random.default_rng(0), []
    for step in range(300):
        if step % 3 == 0:
            action = rng.uniform(-1, 1, 6).astype(np.float32)
        after, reward, *_ = own.step(action)
        observations, rewards, *_ = fast.step(action[None])
        np.testing.assert_allclose(after, observations[0], atol=1e-4)
        np.testing.assert_allclose(reward, rewards[0], atol=1e-5)
        paid.append(reward)
    assert max(paid) > 0.02


def placed_as(own, shown):
    """Begin an episode of Meta-World's class with objects and goal where another one shows them."""
    inner = own._env
    low, high = inner._random_reset_space.low, inner._random_reset_space.high
    inner._freeze_rand_vec = True

    def begin(places):
        inner._last_rand_vec = np.array(places)
        return own.reset(seed=0)[0]

    places = (low + high) / 2 if len(low) == 3 else np.r_[low[:3], high[3:]]  # an object away from its goal
    first = begin(places)
    moved = np.stack([(begin(places + 1e-2 * unit) - first) / 1e-2 for unit in np.eye(len(low))], axis=1)
    return begin(np.clip(places + np.linalg.lstsq(moved, shown - first, rcond=None)[0], low, high))


def touches(own):
    """Whether the gripper touches something."""
    model = own.model
    met = {model.body(model.geom_bodyid[geom]).name for contact in own.data.contact for geom in contact.geom}
    return bool(met & {"hand", "leftclaw", "rightclaw", "leftpad", "rightpad"})


@sawyer
@pool
@pytest.mark.parametrize("task", PUBLISHED)
def test_meta_worlds_class_makes_the_same_of_the_same_episode(task):
    env_id = f"Meta-World/{task}-v3"
    fast, own = (
        many(env_id, partially_observable=False),
        one(env_id, partially_observable=False).unwrapped,
    )
    assert own._env.reward_function_version == "v2"
    shown = fast.reset(seed=3)[0][0]
    np.testing.assert_allclose(placed_as(own, shown), shown, atol=1e-3)
    paid = []
    for step in range(25):
        action = np.array([0.3 * np.sin(step / 5), 0.2, 0.2, 0.3], np.float32)
        after, reward, _, _, about = own.step(action)
        observations, rewards, _, _, told = fast.step(action[None])
        if touches(own):  # contacts part what two versions of MuJoCo do
            assert step >= 8
            break
        np.testing.assert_allclose(after, observations[0], atol=2e-3)  # metres, and a share of open
        np.testing.assert_allclose(reward, rewards[0], atol=1e-2)  # of 10
        assert about["success"] == told["success"][0]
        paid.append(reward)
    assert np.ptp(paid) > 1e-3
    fast.close()


@sawyer
@pool
@pytest.mark.filterwarnings("ignore:Constant")
def test_a_scripted_policy_opens_the_window():
    from metaworld.policies import SawyerWindowOpenV3Policy

    policy, env = SawyerWindowOpenV3Policy(), many("Meta-World/window-open-v3", 3)
    seen, _ = env.reset(seed=0)
    done, rewards = np.zeros(3), np.zeros(3)
    for _ in range(200):
        actions = np.stack([np.clip(policy.get_action(row), -1, 1) for row in seen]).astype(np.float32)
        seen, paid, terminated, truncated, about = env.step(actions)
        assert not terminated.any()
        assert not truncated.any()
        done, rewards = np.maximum(done, about["success"]), np.maximum(rewards, paid)
    assert done.tolist() == [1, 1, 1]
    assert 5 < rewards.min() <= rewards.max() <= 10


@pool
@pytest.mark.parametrize(("env_id", "horizon"), [("dmc/walker-walk-v1", 1000), ("Meta-World/window-open-v3", 500)])
def test_an_episode_ends_at_the_time_limit_alone_and_the_next_begins_within_the_step(env_id, horizon):
    env = many(env_id, 2)
    first, _ = env.reset(seed=0)
    still = np.zeros(env.action_space.shape, np.float32)
    for step in range(1, horizon + 1):
        seen, rewards, terminated, truncated, about = env.step(still)
        assert not terminated.any()
        assert truncated.all() == truncated.any() == (step == horizon)
        assert ((rewards >= 0) & (rewards <= (1 if env_id.startswith("dmc") else 10))).all()
    assert about["final_obs"].shape == seen.shape
    assert np.abs(about["final_obs"] - seen).max() > 1e-3
    assert np.abs(first - seen).max() > 1e-3  # begun anew, elsewhere
    env.close()


@pool
@pytest.mark.parametrize("env_id", ["dmc/quadruped-walk-v1", "Meta-World/door-open-v3"])
def test_a_seed_is_a_trajectory(env_id):
    def trajectory(seed):
        env = many(env_id, 2, max_episode_steps=6)
        seen = [env.reset(seed=seed)[0]]
        rng = np.random.default_rng(0)
        for _ in range(15):
            actions = rng.uniform(-0.5, 0.5, env.action_space.shape).astype(np.float32)
            seen += env.step(actions)[:2]
        env.close()
        return seen

    for left, right in zip(trajectory(5), trajectory(5), strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(trajectory(5)[0], trajectory(6)[0])


@sawyer
def test_one_alone_places_its_objects_anew_by_the_seed():
    env = one("Meta-World/door-open-v3")
    starts = [env.reset(seed=seed)[0] for seed in (1, 2, 1)] + [env.reset()[0] for _ in range(2)]
    np.testing.assert_array_equal(starts[0], starts[2])
    assert len({start.tobytes() for start in starts}) == 4
    assert not starts[0][-3:].any()  # the goal is hidden
    assert one("Meta-World/door-open-v3", partially_observable=False).reset(seed=1)[0][-3:].all()


@deepmind
def test_one_alone_begins_anew_by_the_seed_and_never_ends():
    env = one("dmc/walker-walk-v1", max_episode_steps=1200)
    starts = [env.reset(seed=seed)[0] for seed in (1, 2, 1)]
    np.testing.assert_array_equal(starts[0], starts[2])
    assert not np.array_equal(starts[0], starts[1])
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(1200)]
    assert ends == [(False, False)] * 1199 + [(False, True)]  # the suite's own limit is not in the way


@pool
@pytest.mark.parametrize("env_id", ["dmc/walker-walk-v1", "Meta-World/window-open-v3"])
def test_without_the_suites_package_envpool_steps_one_alone_and_nothing_draws(env_id, monkeypatch):
    monkeypatch.setitem(sys.modules, mujoco_suites.PACKAGES[env_id.split("/")[0]][0], None)
    env = one(env_id)
    assert env.metadata["render_modes"] == []
    assert env.metadata["segment_steps"] == 50
    seen, _ = env.reset(seed=0)
    assert env.observation_space.contains(seen.astype(np.float32))
    _, _, terminated, truncated, about = env.step(env.action_space.sample())
    assert (terminated, truncated) == (False, False)
    assert ("success" in about) == env_id.startswith("Meta")
    env.close()
    with pytest.raises(gym.error.DependencyNotInstalled, match="pip install"):
        one(env_id, render_mode="rgb_array")


def test_arguments_that_do_not_fit_are_said():
    with pytest.raises((TypeError, ValueError), match="gravity"):
        one("dmc/walker-walk-v1", gravity=1.0)
    with pytest.raises(ValueError, match="does not take 'gravity'"):
        many("dmc/walker-walk-v1", gravity=1.0)
