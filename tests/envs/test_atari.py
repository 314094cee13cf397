"""Every `prefrl/` Atari game: the paper's changes, the score's pixels, and both doors against ALE and each other."""

import pickle
import time
from functools import cache
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from prefrl_envs import atari

atari.register()

every_game = pytest.mark.parametrize("name", atari.GAMES)
PENALTY = {"BeamRider": 440, "Breakout": 10, "Enduro": 10, "Qbert": 250, "Seaquest": 200, "SpaceInvaders": 150}

# How many environments, a seed with which random play ends a game early, and a horizon just after that end.
PLAY = {
    "BeamRider": (2, 3, 940),
    "Breakout": (2, 0, 125),
    "Enduro": (1, 0, 3330),
    "EnduroLevel": (2, 0, 300),  # the end of its game has a test of its own
    "Pong": (2, 2, 770),
    "Qbert": (2, 7, 296),
    "Seaquest": (2, 10, 385),
    "SpaceInvaders": (2, 6, 460),
}

PAIRS = [16 * tens + ones for tens in range(10) for ones in range(10)]  # two digits in a byte
SHIPS_LEFT, SPEED, CARS_LEFT = 84, 22, 43  # addresses in BeamRider; in Enduro

# Where the emulator's memory holds what the screen must not show: address -> all values it may take.
SHOWN = {
    "BeamRider": {9: PAIRS, 10: PAIRS, 11: PAIRS, SHIPS_LEFT: range(16)},  # score; enemy ships left
    "Breakout": {76: PAIRS, 77: PAIRS},
    "Enduro": {39: PAIRS, 40: PAIRS, 41: PAIRS, 42: PAIRS, 43: PAIRS, 44: range(1, 3), 45: range(1, 10)},
    "Pong": {13: range(21), 14: range(21)},  # 21 ends the game, and the next one's first frame is shown
    "Qbert": {89: PAIRS, 90: PAIRS, 91: PAIRS},
    "Seaquest": {56: PAIRS, 57: PAIRS, 58: PAIRS},
    "SpaceInvaders": {102: PAIRS, 104: PAIRS},
}
SHOWN["EnduroLevel"] = SHOWN["Enduro"]  # odometer, cars left to pass, day
NOTHING_BLANK = np.zeros((84, 84), bool)


def make(name, **kwargs):
    return gym.make(f"prefrl/{name}-v0", **kwargs)


def make_fast(name, num_envs=2, **kwargs):
    return gym.make_vec(f"prefrl/{name}-v0", num_envs, vectorization_mode="vector_entry_point", **kwargs)


@cache
def play(name):
    """Random play, step by step through both doors and, environment 0, through ALE's own; what they gave."""
    envs, seed, horizon = PLAY[name]
    fast = make_fast(name, envs, max_episode_steps=horizon)
    sync = gym.make_vec(
        f"prefrl/{name}-v0",
        envs,
        vectorization_mode="sync",
        max_episode_steps=horizon,
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
    )
    ale = AtariVectorEnv(atari.GAMES[name].rom, 1, reward_clipping=False, autoreset_mode=AutoresetMode.SAME_STEP)
    rng = np.random.default_rng(seed)
    seen, infos = fast.reset(seed=seed)
    other, _ = sync.reset(seed=seed)
    lives = ale.reset(seed=seed)[1]["lives"][0]
    lost = False
    differ = int(not np.array_equal(seen, other))
    hidden = atari.pixels_kept(atari.GAMES[name], None) == 0
    blank = not seen[..., hidden].any()
    keys, broken, steps, points = set(), 0, [], []
    for t in range(horizon + 3):
        actions = rng.integers(fast.single_action_space.n, size=envs)
        last = seen
        seen, *signals, infos = fast.step(actions)
        other, *expected, about = sync.step(actions)
        differ += not np.array_equal(seen, other)
        differ += any(a.dtype != b.dtype or not np.array_equal(a, b) for a, b in zip(signals, expected, strict=True))
        differ += any(not np.array_equal(infos[k], about[k]) for k in ("score", "game_over", "lives"))
        if t == horizon - 1:
            final = (infos["final_obs"], np.stack(about["final_obs"]), infos["final_info"], about["final_info"])
            infos["game_over"] = infos["final_info"]["game_over"]
            infos["score"] = infos["final_info"]["score"]
        else:
            broken += not np.array_equal(seen[:, :3], last[:, 1:])
        keys |= infos.keys() ^ about.keys()
        blank &= not seen[..., hidden].any()
        steps.append((*signals, infos["score"], infos["game_over"]))
        if t < horizon:
            served = 1 if lost and name == "Breakout" else actions[0]
            _, score, over, _, ale_infos = ale.step(np.array([served]))
            lost = ale_infos["lives"][0] < lives and not over[0]
            lives = ale_infos["lives"][0]
            points.append((score[0], over[0]))
    reward, terminated, truncated, score, over = (np.array(x) for x in zip(*steps, strict=True))
    return SimpleNamespace(
        fast=fast,
        sync=sync,
        horizon=horizon,
        differ=differ,
        keys=keys,
        broken=broken,
        blank=blank,
        final=final,
        points=np.array(points),
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        score=score,
        over=over,
    )


@every_game
def test_checker_finds_nothing_to_warn_of(name):
    check_env(make(name, render_mode="rgb_array").unwrapped)


@every_game
def test_metadata_says_how_to_use_it(name):
    single, fast = make(name), make_fast(name)
    for metadata in (single.metadata, fast.metadata):
        assert (metadata["segment_steps"], metadata["render_fps"], metadata["clip_fps"]) == (25, 15, 15)
        assert metadata["clip_reward"] == (name != "EnduroLevel")
        assert metadata["game_end_penalty"] == PENALTY.get(name, 0)
        assert isinstance(metadata["reward"], str)
    assert fast.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert single.spec.max_episode_steps == fast.spec.max_episode_steps == 27_000
    assert single.observation_space == fast.single_observation_space == gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    assert single.action_space == fast.single_action_space


@every_game
def test_both_doors_give_the_same_bits(name):
    made = play(name)
    assert made.differ == 0
    assert not made.keys
    assert np.array_equal(made.final[0], made.final[1])
    for key in ("score", "game_over", "lives"):
        assert np.array_equal(made.final[2][key], made.final[3][key])
    assert made.fast.observation_space == made.sync.observation_space
    assert made.fast.action_space == made.sync.action_space


@every_game
def test_episodes_end_at_the_horizon_alone(name):
    made = play(name)
    assert made.over.any() == (name != "EnduroLevel")  # games did end
    assert not made.terminated.any()
    assert np.flatnonzero(made.truncated.any(axis=1)).tolist() == [made.horizon - 1]
    assert made.truncated[made.horizon - 1].all()


@every_game
def test_frames_run_on_where_a_game_ends(name):
    assert play(name).broken == 0


@every_game
def test_score_is_blank_in_every_frame(name):
    assert play(name).blank


@every_game
def test_reward_is_the_score_less_a_penalty_where_a_game_ends(name):
    made = play(name)
    before = np.vstack([np.zeros_like(made.score[:1]), made.score[:-1] * ~made.over[:-1]])
    before[made.horizon] = 0  # a new episode
    penalty = PENALTY.get(name, 0)
    np.testing.assert_allclose(made.reward, made.score - before - penalty * made.over, rtol=0, atol=1e-9)
    if name != "EnduroLevel":
        points, over = made.points.T
        assert np.array_equal(made.reward[: made.horizon, 0], points - penalty * over)
        assert np.array_equal(made.over[: made.horizon, 0], over)


def test_end_of_the_day_costs_nothing_when_driving_level():
    """The quota is never met, so every game ends; both doors start the next one and pay 0 for that step."""
    env = make("EnduroLevel").unwrapped
    env.reset(seed=0)
    for _ in range(13_000):
        env.ale.act(0, 1.0)
    info = {"game_over": False}
    while not info["game_over"]:
        env.ale.setRAM(SPEED, 26)
        _, reward, terminated, _, info = env.step(0)
    assert (reward, terminated) == (0, False)
    assert info["score"] > 1
    assert env.step(0)[4]["score"] <= 1  # the next game's
    fast = make_fast("EnduroLevel", 1)
    fast.reset(seed=0)
    info = {"game_over": [False]}
    while not info["game_over"][0]:
        _, reward, terminated, _, info = fast.step(np.zeros(1, int))
    assert (reward[0], terminated[0]) == (0, False)


@every_game
def test_seed_decides_the_episode(name):
    env = make(name)

    def episode(seed):
        start = env.reset(seed=seed)[0]
        actions = np.random.default_rng(1).integers(env.action_space.n, size=40)
        return np.array([start, *(env.step(a)[0] for a in actions)])

    assert np.array_equal(episode(8), episode(8))
    assert not np.array_equal(episode(8), episode(9))  # they wait for 20 and for 0 frames before the game


@every_game
def test_pixels_that_change_with_the_score_are_gone(name):
    """Write every other score into the emulator's memory: the screen must change, and only where it is blanked.

    Qbert leaves its score undrawn in every fifth step, so each address waits for steps in which it is drawn.
    """
    env, kept = make(name, mask=NOTHING_BLANK).unwrapped, atari.pixels_kept(atari.GAMES[name], None).astype(bool)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    changes, drawn = np.zeros((84, 84), int), dict.fromkeys(SHOWN[name], 0)

    def changed_by(address, value):
        env.ale.restoreState(state)
        env.ale.setRAM(address, value)
        changed = env.step(action)[0][-1] != plain
        if address == SHIPS_LEFT:
            changed[17:] = False  # the field below follows: the game sends the next ship by this count
        return changed

    for t in range(240):
        action = rng.integers(env.action_space.n)
        if t >= 30 and t % 7 == 0:
            state, score, lives = env.ale.cloneState(), env._score, env.ale.lives()
            plain, *_, info = env.step(action)
            plain = plain[-1]
            for address, values in SHOWN[name].items() if info["lives"] == lives else ():
                some = [values[0], values[len(values) // 2], values[-1]] if drawn[address] < 2 else []
                if any(changed_by(address, value).any() for value in some):
                    drawn[address] += 1
                    for value in values:
                        changed = changed_by(address, value)
                        assert not changed[kept].any(), (address, value, np.argwhere(changed & kept))
                        changes += changed
            env.ale.restoreState(state)
            env._score = score
        env.step(action)
    assert set(drawn.values()) == {2}
    for top, bottom, left, right in atari.GAMES[name].blank:
        inside = np.argwhere(changes[top:bottom, left:right])
        spare = (np.array([bottom - top, right - left]) - 1 - inside.max(axis=0), inside.min(axis=0))
        assert np.max(spare) <= (4 if "Enduro" in name else 3)  # no box is much wider than what changes in it


@every_game
def test_both_doors_blank_the_same_pixels(name):
    assert np.array_equal(make(name).unwrapped._kept, make_fast(name).unwrapped._kept)


def test_mask_takes_the_place_of_the_boxes():
    mask = NOTHING_BLANK.copy()
    mask[:, :42] = True
    for seen in (make("Pong", mask=mask).reset(seed=0)[0], make_fast("Pong", mask=mask).reset(seed=0)[0][0]):
        assert not seen[..., mask].any()
        assert seen[:, :9, 52:68].any()  # the score, no longer blanked


def test_breakout_serves_the_ball_after_each_that_was_lost():
    env = make_fast("Breakout", max_episode_steps=200)
    env.reset(seed=0)
    over = [env.step(np.zeros(2, int))[4]["game_over"] for _ in range(199)]
    assert np.any(over, axis=0).all()  # never pressing FIRE still ends the game


def test_frame_is_the_average_of_the_screen():
    screen = np.random.default_rng(0).integers(256, size=(210, 160), dtype=np.uint8)
    # 840 x 3360 has a whole number of cells under each pixel of both sizes.
    cells = screen.repeat(4, axis=0).repeat(21, axis=1).reshape(84, 10, 84, 40).mean(axis=(1, 3))
    assert np.abs(atari.shrink(screen) - cells).max() <= 0.5 + 1e-4


def drive(env, speed, steps):
    """Hold Enduro's speed by writing it into the emulator's memory; the rewards, and the speed found at each step."""
    rewards, speeds = [], []
    for _ in range(steps):
        env.ale.setRAM(SPEED, speed)
        rewards.append(env.step(0)[1])
        speeds.append(int(env.ale.getRAM()[SPEED]))
    return np.array(rewards), np.array(speeds)


def test_level_speed_is_the_speed_of_traffic():
    net = {}
    for speed in (16, 24, 28):
        env = make("Enduro").unwrapped
        env.reset(seed=0)
        drive(env, 40, 60)
        env.ale.setRAM(CARS_LEFT, 0x50)  # room to be passed: the count stops at 200 left
        env.step(0)
        net[speed] = drive(env, speed, 800)[0].sum()
    assert net[16] <= -5
    assert abs(net[24]) <= 2
    assert net[28] >= 5


@pytest.mark.parametrize(
    ("speed", "reward"), [(6, 0), (10, 1 / 3), (18, 2 / 3), (26, 1), (36, 2 / 3), (50, 1 / 3), (60, 0), (80, 0)]
)
def test_level_reward_falls_with_the_distance_from_that_speed(speed, reward):
    env = make("EnduroLevel").unwrapped
    env.reset(seed=0)
    rewards, speeds = drive(env, speed, 40)
    rewards = rewards[10:][speeds[10:] == speed]  # steps without a collision
    assert len(rewards) > 15
    assert np.median(rewards) == pytest.approx(reward)


def test_level_reward_agrees_with_the_emulators_memory_by_day_and_night():
    env = make("EnduroLevel").unwrapped
    env.reset(seed=1)
    rng = np.random.default_rng(1)
    action, rewards, speeds = 1, [], []
    for _ in range(3200):  # nearly a whole day: sun, snow, dusk, night, fog
        if rng.random() < 0.1:
            action = rng.choice([0, 1, 1, 4, 7, 8])
        rewards.append(env.step(action)[1])
        speeds.append(int(env.ale.getRAM()[SPEED]))
    rewards, speeds = np.array(rewards), np.array(speeds)
    steady = speeds[1:] == speeds[:-1]  # the car takes a step to move to its new row
    rewards, speeds = rewards[1:][steady], speeds[1:][steady]
    level, far = (speeds >= 24) & (speeds <= 30), (speeds == 6) | (speeds >= 56)
    assert level.sum() > 50
    assert far.sum() > 500
    assert (rewards[level] == 1).mean() > 0.9
    assert (rewards[far] == 0).mean() > 0.95


def test_picture_is_the_emulators_own():
    env = make("Seaquest", render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (210, 160, 3)
    for _ in range(10):
        env.step(3)
    assert not np.array_equal(picture, env.render())
    assert make("Seaquest").unwrapped.render() is None


def test_copy_plays_the_same_game():
    env = make("Qbert", mask=NOTHING_BLANK).unwrapped
    copy = pickle.loads(pickle.dumps(env))
    assert np.array_equal(env.reset(seed=3)[0], copy.reset(seed=3)[0])


def test_large_seed_is_the_same_in_both():
    seed = 2**32 - 1
    assert np.array_equal(make("Pong").reset(seed=seed)[0], make_fast("Pong").reset(seed=seed)[0][0])


def test_unknown_game_is_answered_in_one_sentence():
    with pytest.raises(ValueError, match=r"Unknown game 'Asteroids': choose one of BeamRider, .*SpaceInvaders\.$"):
        atari.AtariTask("Asteroids")
    with pytest.raises(ValueError, match="Unknown game 'pong'"):
        make_fast("Pong", game="pong")


def test_missing_rom_is_answered_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(gym.error.DependencyNotInstalled, match=r"The ROM pong\.bin was not found .*ALE_ROMS_DIR"):
        make("Pong")
    with pytest.raises(gym.error.DependencyNotInstalled, match=r"The ROM breakout\.bin"):
        make_fast("Breakout")


@pytest.mark.parametrize("door", [make, make_fast])
def test_mask_of_another_size_is_answered_in_one_sentence(door):
    with pytest.raises(ValueError, match=r"shape \(210, 160\), but frames are 84 x 84: give a boolean array"):
        door("Pong", mask=np.zeros((210, 160), bool))


def test_unknown_actions_are_refused():
    single, fast = make("Breakout").unwrapped, make_fast("Breakout")
    single.reset(seed=0)
    fast.reset(seed=0)
    for action in (-1, 4):
        with pytest.raises(ValueError, match="whole number from 0 to 3"):
            single.step(action)
        with pytest.raises(ValueError, match="2 whole numbers from 0 to 3"):
            fast.step(np.array([0, action]))
    with pytest.raises(ValueError, match="2 whole numbers"):
        fast.step(np.zeros(3, int))


def test_other_arguments_are_refused():
    with pytest.raises(ValueError, match="render mode 'human'"):
        atari.AtariTask("Pong", render_mode="human")
    with pytest.raises(ValueError, match=r"does not take 'render_mode': it takes num_envs"):
        make_fast("Pong", render_mode="rgb_array")
    with pytest.raises(ValueError, match="num_envs must be at least 1: got 0"):
        make_fast("Pong", 0)
    env = make_fast("Pong")
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(2, int))
    with pytest.raises(ValueError, match="takes no options"):
        env.reset(options={"reset_mask": np.array([True, False])})
    env.close()


def test_vector_costs_little_more_than_ale(record_property, capsys):
    """Processor time, which other programs on the machine hardly change; wall clock is reported."""
    fast = make_fast("Pong", 4)
    ale = AtariVectorEnv("pong", 4, reward_clipping=False)
    actions = np.random.default_rng(0).integers(6, size=(60, 4))
    cost, wall = ({fast: [], ale: []} for _ in range(2))
    for env in (fast, ale):
        env.reset(seed=0)
    for _ in range(4):
        for env in (fast, ale):
            start, clock = time.process_time(), time.perf_counter()
            for a in actions:
                env.step(a)
            cost[env].append(time.process_time() - start)
            wall[env].append(time.perf_counter() - clock)
    ratio = min(cost[fast]) / min(cost[ale])
    speed = {env: round(actions.size / min(seconds)) for env, seconds in wall.items()}
    record_property("steps_per_second", speed[fast])
    with capsys.disabled():
        print(f"\n4 x Pong: {speed[fast]} steps/s, ALE's own {speed[ale]}; processor time {ratio:.2f} of ALE's")
    assert ratio < 1.25
