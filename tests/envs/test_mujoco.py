"""Every `prefrl/` MuJoCo task: the contract of a paper's task, and both backends against MuJoCo and each other."""

import importlib.metadata
import importlib.util
import pickle
import subprocess
import sys
import warnings

import gymnasium as gym
import mujoco as engine
import numpy as np
import prefrl_envs
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from prefrl_envs import geometry, mujoco

TASKS = list(mujoco.HORIZONS)
SEGMENT_STEPS = {"Reacher": 15, "InvertedPendulum": 15, "InvertedDoublePendulum": 15} | {
    "HalfCheetah": 30,
    "Ant": 30,
    "HalfCheetahOneLeg": 30,
    "Walker2d": 45,
    "Hopper": 60,
    "Swimmer": 60,
    "HopperBackflip": 60,
}
fast = pytest.mark.skipif(importlib.util.find_spec("envpool") is None, reason="EnvPool is not installed here")
every_task = pytest.mark.parametrize("name", TASKS)


def make(name, **kwargs):
    return gym.make(f"prefrl/{name}-v0", **kwargs)


def make_fast(name, num_envs=4, **kwargs):
    return gym.make_vec(f"prefrl/{name}-v0", num_envs, vectorization_mode="vector_entry_point", **kwargs)


def noise(space, seed, *shape):
    return np.random.default_rng(seed).uniform(space.low, space.high, (*shape, *space.shape)).astype(np.float32)


def test_table_of_ids_is_the_registry():
    ours = {k for k, spec in gym.registry.items() if str(spec.entry_point).startswith("prefrl_envs.mujoco:")}
    assert ours == {f"prefrl/{name}-v0" for name in TASKS}
    assert set(SEGMENT_STEPS) == set(TASKS)


def test_plugin_is_found_by_its_entry_point_and_loads_twice_without_a_word():
    (plugin,) = (p for p in importlib.metadata.entry_points(group="gymnasium.envs") if p.name == "prefrl")
    assert plugin.load() is prefrl_envs.register_envs
    plugin.load()()


def test_module_id_needs_no_import():
    code = 'import gymnasium; print(gymnasium.make("prefrl_envs:prefrl/Hopper-v0").spec.id)'
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "prefrl/Hopper-v0"


@every_task
def test_checker_says_only_what_it_says_of_gymnasiums_own_spaces(name):
    env = make(name).unwrapped
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_env(env, skip_render_check=True)
    about_spaces = ("minimum value is -infinity", "maximum value is infinity", "symmetric and normalized space")
    assert [w for w in said if not any(known in str(w.message) for known in about_spaces)] == []


@every_task
def test_runs_to_the_horizon_and_never_terminates(name):
    env = make(name)
    env.reset(seed=0)
    horizon = env.spec.max_episode_steps
    assert horizon == {"Reacher": 50, "InvertedPendulum": 50}.get(name, 1000)
    low, high = env.action_space.low, env.action_space.high
    rng = np.random.default_rng(0)
    for step in range(1, horizon + 1):
        observation, reward, terminated, truncated, info = env.step(rng.choice([low, high], axis=0))
        assert terminated is False
        assert truncated is (step == horizon)
        assert type(reward) is float
        assert np.isfinite(reward)
        assert observation in env.observation_space
        assert set(info) == (set() if name == "Reacher" or "Pendulum" in name else {"x_velocity"})


@every_task
def test_metadata_says_what_the_preference_loop_needs(name):
    for metadata in (getattr(mujoco, name).metadata, make(name).metadata):
        assert metadata["segment_steps"] == SEGMENT_STEPS[name]
        assert metadata["clip_fps"] * 1.5 == SEGMENT_STEPS[name]
        assert len(metadata["reward"]) > 10
        assert "rgb_array" in metadata["render_modes"]
    assert metadata["render_fps"] == round(1 / make(name).unwrapped.dt)
    text = getattr(mujoco, name).__doc__
    assert all(word in text for word in ("Observation", "Action", "Reward", "Horizon", "Changed against", "Versions"))
    assert f"{make(name).spec.max_episode_steps} steps; {SEGMENT_STEPS[name]} steps" in text
    assert f"Box({make(name).observation_space.shape[0]})" in text


@every_task
def test_same_seed_same_trajectory_and_a_pickled_copy_is_the_same_task(name):
    envs = [make(name), make(name), pickle.loads(pickle.dumps(make(name).unwrapped))]
    starts = [env.reset(seed=5)[0] for env in envs]
    assert not np.array_equal(starts[0], make(name).reset(seed=6)[0])
    for action in noise(envs[0].action_space, 0, 30):
        (first, paid, *_), *others = [env.step(action) for env in envs]
        for observation, reward, *_ in others:
            np.testing.assert_array_equal(observation, first)
            assert reward == paid


@pytest.mark.parametrize(
    ("name", "observation", "x_velocity", "reward"),
    [
        ("Reacher", [0] * 8 + [0.3, -0.4], None, -0.5),
        ("HalfCheetah", [0] * 17, 3.5, 3.5),
        ("Ant", [0.75, *[0] * 104], 1.0, 0.55),
        ("Walker2d", [1.25, *[0] * 16], 2.0, 2.25),
        ("Hopper", [1.25, *[0] * 10], 2.0, 3.25),
        ("Swimmer", [0] * 8, -0.5, -0.5),
        ("InvertedPendulum", [0.3, 0.5, 0, 0], None, 0.75),
        ("InvertedPendulum", [0.3, -1.51, 0, 0], None, 1 - np.pi**2 / 4),  # lying, and at rest:
        ("InvertedPendulum", [0.3, 1.573, 0, 0], None, 1 - np.pi**2 / 4),
        ("InvertedDoublePendulum", [0, 0, 0, 1, 1, 0, 0, 0, 0], None, 11.36),  # upright: tip at 0, 1.2
        ("InvertedDoublePendulum", [0, 0, 0, -1, 1, 0, 0, 0, 0], None, -22.24),  # hanging: tip at 0, -1.2
        ("InvertedDoublePendulum", [0.4, 1, 0, 0, 1, 0, 3, 2, 0], None, -4.0546),  # flat: tip at 1.6, 0
        ("HopperBackflip", [3.0, 0, 1, 0, 0, 0, 0, 0, -4.0, 0, 0, 0], 0.0, 4.0),  # in the air, turning backwards
        ("HopperBackflip", [3.0, 0, 1, 0, 0, 0, 0, 0, 4.0, 0, 0, 0], 0.0, -4.0),
        ("HopperBackflip", [1.165, 0, 1, 0, 0, 0, 0, 0, -4.0, 0, 0, 0], 0.0, 0.0),  # the shin's end is in the floor
        ("HopperBackflip", [1.215, 0, 1, 0, 0, 0, 0, 0, -4.0, 0, 0, 0], 0.0, 2.0),  # and here 2.5 cm above it
        ("HopperBackflip", [0.04, 1, 0, 0, 0, 0, 0, 0, -4.0, 0, 0, 0], 0.0, 0.0),  # rolling on its front
        ("HalfCheetahOneLeg", [5.0, *[0] * 16], 1.0, 0.0),  # in the air
        ("HalfCheetahOneLeg", [-0.65, np.pi, *[0] * 15], 1.0, 0.0),  # sliding on its back
        ("HalfCheetahOneLeg", [-0.12, *[0] * 16], 1.0, 0.0),  # on all its feet
    ],
)
def test_reward_worked_by_hand_one_step_or_many(name, observation, x_velocity, reward):
    task = getattr(mujoco, name)
    observation, info = np.array(observation, float), {"x_velocity": x_velocity}
    assert task.reward(observation, info) == pytest.approx(reward, abs=1e-9)
    stacked = {"x_velocity": None if x_velocity is None else np.full((2, 3), x_velocity)}
    assert task.reward(np.tile(observation, (2, 3, 1)), stacked) == pytest.approx(np.full((2, 3), reward), abs=1e-9)


def teachers_form(name, env, action, reward, info):
    """rl-teacher's reward, from Gymnasium's own terms and MuJoCo's own positions."""
    qpos, qvel, effort = env.data.qpos, env.data.qvel, 1e-3 * np.square(action).sum()
    match name:
        case "Reacher":
            return info["reward_dist"]
        case "HalfCheetah" | "Swimmer":
            return info["reward_forward"]
        case "Ant":
            return info["reward_forward"] + qpos[2] - 1.2
        case "Walker2d":
            return reward - info["reward_survive"] + 1 + (qpos[1] - 2) + effort
        case "Hopper":
            return reward - info["reward_survive"] + 1 + (qpos[1] - 1) + effort
        case "InvertedPendulum":
            return 1 - qpos[1] ** 2 if abs(qpos[1]) <= 1.5 else 1 - (np.pi / 2) ** 2
        case "InvertedDoublePendulum":
            now = engine.MjData(env.model)
            now.qpos[:] = qpos
            engine.mj_forward(env.model, now)
            x, _, y = now.site_xpos[0]
            v1, v2 = np.clip(qvel[1:], -10, 10)
            return 10 - 0.01 * x**2 - (y - 2) ** 2 - 1e-3 * v1**2 - 5e-3 * v2**2 + 10 * (y - 1)


@pytest.mark.parametrize("name", TASKS[:8])
def test_reward_is_rl_teachers_on_gymnasiums_own_environment(name):
    env, original = make(name), gym.make(f"{name}-v5").unwrapped
    np.testing.assert_array_equal(env.reset(seed=3)[0], original.reset(seed=3)[0])
    for action in noise(env.action_space, 1, 40):
        observation, reward, *_ = env.step(action)
        seen, paid, _, _, info = original.step(action)
        np.testing.assert_array_equal(observation, seen)
        assert reward == pytest.approx(teachers_form(name, original, action, paid, info), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "links", "signs", "joints", "bodies"),
    [
        ("Hopper", geometry.HOPPER_ABOVE_FOOT, [1, -1, -1], [2, 3, 4], ["torso", "thigh", "leg"]),
        (
            "HalfCheetah",
            geometry.CHEETAH_WITHOUT_BACK_LEG,
            [1, 1, 1, 1],
            [2, 6, 7, 8],
            ["torso", "fthigh", "fshin", "ffoot"],
        ),
        ("HalfCheetah", geometry.CHEETAH_BACK_LEG, [1, 1, 1, 1], [2, 3, 4, 5], ["bthigh", "bshin", "bfoot"]),
    ],
)
def test_clearance_is_that_of_mujocos_geometry(name, links, signs, joints, bodies):
    env = make(name).unwrapped
    env.reset(seed=0)
    model, data, rng = env.model, env.data, np.random.default_rng(0)
    geoms = [g for g in range(model.ngeom) if model.body(model.geom_bodyid[g]).name in bodies]
    assert len(geoms) == sum(len(ends) for _, ends, _ in links) / 2
    poses = rng.uniform(-3, 3, (50, model.nq))
    lowest = []
    for pose in poses:
        env.set_state(pose, np.zeros(model.nv))
        radius, half = model.geom_size[geoms, 0], model.geom_size[geoms, 1]
        lowest.append((data.geom_xpos[geoms, 2] - half * abs(data.geom_xmat[geoms, 8]) - radius).min())
    root = poses[:, 1] + (0.7 if name == "HalfCheetah" else 0.0)
    pitches = np.cumsum(poses[:, joints] * signs, axis=1).T
    np.testing.assert_allclose(geometry.clearance(root, pitches, links), lowest, atol=1e-9)


@pytest.mark.parametrize(
    ("above_floor", "x_velocity", "reward"),
    [(0.0, 0.0, 1.0), (0.0, 0.5, 1.5), (0.0, 7.0, 2.0), (0.0, -7.0, 0.0), (0.0125, 1.0, 1.5), (0.1, 1.0, 0.0)],
)
def test_a_cheetah_is_paid_for_standing_on_its_back_leg_not_for_flying_over_the_floor(above_floor, x_velocity, reward):
    env = make("HalfCheetahOneLeg").unwrapped
    env.reset(seed=0)
    pose = np.zeros(9)
    pose[2] = -0.8  # nose up

    def lowest_of_back_leg(pose):
        env.set_state(pose, np.zeros(9))
        geoms = [env.model.geom(name).id for name in ("bthigh", "bshin", "bfoot")]
        radius, half = env.model.geom_size[geoms, 0], env.model.geom_size[geoms, 1]
        return (env.data.geom_xpos[geoms, 2] - half * abs(env.data.geom_xmat[geoms, 8]) - radius).min()

    pose[1] = above_floor - lowest_of_back_leg(pose)
    assert lowest_of_back_leg(pose) == pytest.approx(above_floor)
    observation = np.concatenate([pose[1:], np.zeros(9)])
    assert env.reward(observation, {"x_velocity": x_velocity}) == pytest.approx(reward)


def test_one_turn_backwards_in_the_air_pays_what_the_docstring_says():
    env = make("HopperBackflip").unwrapped
    env.reset(seed=0)
    turn = np.zeros((100, 12))
    pitch = -np.arange(100) * 2 * np.pi / 100
    turn[:, 0], turn[:, 1], turn[:, 2], turn[:, 8] = 3.0, np.sin(pitch), np.cos(pitch), -2 * np.pi / 100 / env.dt
    paid = env.reward(turn, {}).sum()
    assert paid == pytest.approx(2 * np.pi / env.dt)
    assert round(paid) == 785


@every_task
def test_poses_redraw_a_segment(name):
    env = make(name).unwrapped
    observations, truth = [env.reset(seed=2)[0]], [env.data.qpos.copy()]
    for action in noise(env.action_space, 3, 20):
        observations.append(env.step(action)[0])
        truth.append(env.data.qpos.copy())
    poses, truth = env.poses(np.array(observations)), np.array(truth)
    root = 0 if name == "Reacher" or "Pendulum" in name else 2 if name in ("Ant", "Swimmer") else 1
    off = (poses - truth)[:, root:]
    np.testing.assert_allclose((off + np.pi) % (2 * np.pi) - np.pi, 0.0, atol=1e-9)  # angles are the same, turns apart
    np.testing.assert_allclose(poses[:, :root], truth[:, :root] - truth[0, :root], atol=0.05)


def test_a_model_is_loaded_without_a_word_or_a_file(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    engine.set_mju_user_warning(None)  # dm_control, which another test may have imported, sets its own
    make("HalfCheetah").close()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert engine.get_mju_user_warning() is None


@fast
@every_task
def test_backends_agree_on_spaces_and_metadata(name):
    env, pool = make(name), make_fast(name)
    assert pool.single_observation_space == env.observation_space
    assert pool.single_action_space == env.action_space
    assert pool.observation_space.shape == (4, *env.observation_space.shape)
    assert pool.spec.max_episode_steps == env.spec.max_episode_steps
    assert pool.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    for key in ("segment_steps", "clip_fps", "reward"):
        assert pool.metadata[key] == env.metadata[key]
    observations, _ = pool.reset(seed=0)
    assert observations.dtype == env.reset(seed=0)[0].dtype == np.float64
    assert pool.step(noise(pool.single_action_space, 0, 4))[1].dtype == np.float64


def velocities(name, observation):
    match name:
        case "Reacher":
            return np.append(observation[6:8], [0, 0])
        case "InvertedDoublePendulum":
            return observation[5:8]
        case "HopperBackflip":
            return observation[6:]
        case "Ant":
            return observation[13:27]
        case "InvertedPendulum":
            return observation[2:]
        case "Swimmer":
            return observation[3:]
        case _:
            return observation[len(observation) // 2 :]


@fast
@every_task
def test_backends_agree_on_whole_episodes_from_the_same_states(name):
    steps, n = 25, 3
    pool = make_fast(name, n, max_episode_steps=steps)
    singles = [make(name, max_episode_steps=steps) for _ in range(n)]
    observations, infos = pool.reset(seed=0)
    assert infos == singles[0].reset(seed=0)[1] == {}
    for _episode in range(2):
        for i, single in enumerate(singles):
            single.reset(seed=0)
            qpos = single.unwrapped.poses(observations[i : i + 1])[0]  # at x = 0, which is as good as anywhere
            single.unwrapped.set_state(qpos, velocities(name, observations[i]))
        for step, actions in enumerate(noise(pool.single_action_space, 4, steps, n), 1):
            observations, rewards, terminated, truncated, infos = pool.step(actions)
            ended = step == steps
            assert not terminated.any()
            assert (truncated == ended).all()
            assert ("final_obs" in infos) == ended
            last, about = (infos["final_obs"], infos["final_info"]) if ended else (observations, infos)
            for i, single in enumerate(singles):
                observation, reward, terminated_one, truncated_one, info = single.step(actions[i])
                np.testing.assert_allclose(last[i], observation, atol=1e-5)  # contacts multiply rounding
                assert rewards[i] == pytest.approx(reward, abs=1e-5)
                assert (terminated_one, truncated_one) == (False, ended)
                assert {k for k in about if k[0] != "_"} == set(info)
                for key, value in info.items():
                    assert about[f"_{key}"][i]
                    assert about[key][i] == pytest.approx(value, abs=1e-5)
        assert infos["_final_obs"].all()
        assert not np.allclose(observations, last, atol=1e-3)  # the next episode has begun


@fast
@every_task
def test_fast_reward_is_the_single_environments_on_the_same_transitions(name):
    pool = make_fast(name, 2)
    pool.reset(seed=1)
    for actions in noise(pool.single_action_space, 5, 40, 2):
        observations, rewards, _, _, infos = pool.step(actions)
        for i in range(2):
            info = {key: value[i] for key, value in infos.items()}
            assert rewards[i] == pytest.approx(float(getattr(mujoco, name).reward(observations[i], info)), abs=1e-12)


@fast
@every_task
def test_backends_agree_in_distribution(name):
    n, steps = 96, 20
    pool, single = make_fast(name, n, max_episode_steps=steps), make(name, max_episode_steps=steps)
    actions = noise(single.action_space, 6, 2, steps, n)
    starts, returns = [np.empty((n, *single.observation_space.shape)) for _ in range(2)], np.zeros((2, n))
    starts[0] = pool.reset(seed=7)[0]
    for step in range(steps):
        returns[0] += pool.step(actions[0, step])[1]
    single.reset(seed=8)
    for i in range(n):
        starts[1][i] = single.reset()[0]
        for step in range(steps):
            returns[1, i] += single.step(actions[1, step, i])[1]
    error = np.sqrt(returns.var(axis=1, ddof=1).sum() / n)
    assert abs(returns[0].mean() - returns[1].mean()) < 4 * error
    spread = np.array([start.std(axis=0) for start in starts])
    error = np.sqrt(np.square(spread).sum(axis=0) / n)
    assert (abs(starts[0].mean(axis=0) - starts[1].mean(axis=0)) <= 5 * error + 1e-4).all()
    moving = spread.max(axis=0) > 1e-3
    assert (spread[0, moving] / spread[1, moving] < 1.6).all()
    assert (spread[1, moving] / spread[0, moving] < 1.6).all()


@fast
def test_fast_seed_alone_decides_and_old_arrays_stay_as_they_were():
    pools = [make_fast("Hopper", 3) for _ in range(3)]
    first, same, other = (pool.reset(seed=seed)[0] for pool, seed in zip(pools, (1, 1, 2), strict=True))
    np.testing.assert_array_equal(first, same)
    assert not np.isclose(first, other).all(axis=1).any()
    assert len(np.unique(first[:, 0])) == 3
    kept = first.copy()
    for actions in noise(pools[0].single_action_space, 0, 30, 3):
        (a, paid, *_), (b, paid_too, *_) = pools[0].step(actions), pools[1].step(actions)
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(paid, paid_too)
    np.testing.assert_array_equal(first, kept)
    again = pools[0].reset()[0]
    assert not np.isclose(again, first).all(axis=1).any()
    np.testing.assert_array_equal(pools[0].reset(seed=1)[0], first)
    unseeded = [make_fast("Hopper", 3).reset()[0] for _ in range(2)]
    assert not np.isclose(*unseeded).all(axis=1).any()


@fast
@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: make("Hopper", ctrl_cost_weight=1.0), "prefrl/Hopper-v0 does not take 'ctrl_cost_weight'"),
        (lambda: make_fast("Hopper", render_mode="rgb_array"), "does not take 'render_mode': it takes num_envs"),
        (lambda: make_fast("Hopper", 0), "num_envs must be at least 1: got 0"),
        (lambda: make_fast("Hopper", max_episode_steps=-1), "max_episode_steps must be at least 1: got -1"),
        (lambda: make_fast("Hopper").reset(options={"reset_mask": 1}), "reset takes a reset_mask of"),
        (lambda: make_fast("Hopper").step(np.zeros((4, 3))), r"call reset\(\) before the first step"),
    ],
)
def test_mistakes_get_one_sentence(call, sentence):
    with pytest.raises((ValueError, gym.error.ResetNeeded), match=sentence):
        call()


@fast
def test_wrong_action_shape_gets_one_sentence():
    pool = make_fast("Hopper")
    pool.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions must have shape \(4, 3\): got \(4, 2\)"):
        pool.step(np.zeros((4, 2), np.float32))
    pool.close()
    pool.close()


def test_missing_envpool_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    for module in ("mujoco_vector", "pool_vector"):
        monkeypatch.delitem(sys.modules, f"prefrl_envs.{module}", raising=False)
    with pytest.raises(gym.error.DependencyNotInstalled, match=r"pip install envpool"):
        make_fast("Hopper")
    vector = gym.make_vec("prefrl/Hopper-v0", 2, vectorization_mode="sync")
    assert vector.reset(seed=0)[0].shape == (2, 11)
