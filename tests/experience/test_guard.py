"""Whatever an environment gives or raises is one sentence at every door, and spoils nothing that is saved."""

from contextlib import closing
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import CounterEnv, sentence
from safetensors.numpy import load_file
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

import prefrl
from prefrl.baseline import run_baseline
from prefrl.cli import main
from prefrl.experience import memory
from prefrl.experience.backends import make_vec_env
from prefrl.experience.environments import make_env
from prefrl.experience.guard import LARGEST, Guard, are_sound
from prefrl.experience.recorder import Recorder
from prefrl.run import train
from prefrl.runs.saved import film_policy
from prefrl.settings.config import BaselineConfig, TrainConfig, VideoConfig
from prefrl.studies.evaluate import evaluate_run, policy_return
from prefrl.studies.report import write_page
from prefrl.words.errors import UserError

ID = "prefrl-tests/Boiler-v0"


class Boiler(gym.Env):
    """Heats water, and has the fault that it is told to have, from a step on that is counted over its whole life."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = spaces.Box(-10, 10, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)
    fault_of_all = None  # one that begins while it lives

    def __init__(self, fault="none", since=0, render_mode=None):
        self.fault, self.since, self.render_mode, self.steps, self.heat = fault, since, render_mode, 0, 0.0

    def now(self, fault):
        return fault == (self.fault_of_all or self.fault) and (self.fault_of_all or self.steps >= self.since)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.heat = self.np_random.uniform(-1, 1)
        if self.now("reset gives the observation alone"):
            return self.observe()
        if self.now("reset raises"):
            raise RuntimeError("the pilot light\n is out")
        return self.observe(), {}

    def observe(self):
        return np.array([self.heat, self.heat**2], np.float32)

    def step(self, action):
        self.steps += 1
        self.heat = float(np.clip(0.9 * self.heat + 0.3 * action[0], -3, 3))
        observation, reward = self.observe(), -abs(self.heat - 1)
        if self.now("NaN shown"):
            observation[1] = np.nan
        if self.now("too large a number shown"):
            observation = np.array([0.5, 1e300])
        if self.now("another shape shown"):
            observation = observation[:1]
        if self.now("words shown"):
            observation = np.array(["warm", "wet"])
        if self.now("nothing paid"):
            reward = None
        if self.now("infinity paid"):
            reward = np.float64(np.inf)
        if self.now("two numbers paid"):
            reward = np.array([1.0, 2.0])
        if self.now("too much paid"):
            reward = 1e30
        if self.now("exit"):
            raise SystemExit(0)
        if self.now("step gives four things"):
            return observation, reward, False, {}
        return observation, reward, False, False, {}

    def render(self):
        if self.now("render raises"):
            raise OSError("no colour left")
        return (
            None if self.now("nothing drawn") else np.full((40, 48, 3), int(40 + 60 * abs(self.heat)) % 256, np.uint8)
        )

    def close(self):
        if self.now("close raises"):
            raise RuntimeError("the valve is stuck")


FAULTS = {
    "reset gives the observation alone": ("returned an array (2,) in its first reset", "(observation, info)"),
    "reset raises": ("failed in its first reset", "RuntimeError: the pilot light is out"),
    "step gives four things": ("failed at step 1 of its episode 1", "truncated, info)"),
    "NaN shown": ("at step 1 of its episode 1", "nan]"),
    "too large a number shown": ("at step 1 of its episode 1", "1.e+300]"),
    "another shape shown": ("at step 1 of its episode 1", "(2,) of float32"),
    "words shown": ("at step 1 of its episode 1", "'warm' 'wet'"),
    "nothing paid": ("paid None at step 1 of its episode 1", "one number"),
    "infinity paid": ("paid inf at step 1 of its episode 1", "finite"),
    "two numbers paid": ("paid [1. 2.] at step 1", "one number"),
    "too much paid": ("paid 1e+30 at step 1", "below 1e+18"),
    "exit": ("failed at step 1 of its episode 1", "SystemExit: 0"),
    "close raises": ("failed as it was closed", "the valve is stuck"),
}
SMALL = TrainConfig(
    env=ID, steps=1_200, labels=8, n_envs=2, phases=3, members=1, segment_steps=8, tensorboard=False
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _boiler():
    gym.register(ID, Boiler, max_episode_steps=30)
    yield
    del gym.registry[ID]


@pytest.fixture(scope="module")
def run(_boiler, tmp_path_factory):
    return prefrl.load_run(train(replace(SMALL, out=tmp_path_factory.mktemp("runs") / "run"), quiet=True))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_sentence_and_leaves_no_folder(fault, tmp_path, capsys):
    says = FAULTS[fault]
    config = replace(SMALL, env_kwargs=(f"fault={fault}",), out=tmp_path / "run")
    true = BaselineConfig(**{name: getattr(config, name) for name in vars(BaselineConfig())})
    for door in (lambda: train(config, quiet=True), lambda: run_baseline(true, quiet=True)):
        with pytest.raises(UserError) as error:
            door()
        assert f"{ID} " in sentence(error.value)
        for part in says:
            assert part in str(error.value)
        assert not config.out.exists()
    given = ["train", "--env", ID, "--steps", "1200", "--labels", "8", "--segment-steps", "8", "--out", str(config.out)]
    assert main([*given, "--env-kwargs", f"fault={fault}", "--no-tensorboard"]) == 2
    told = capsys.readouterr().err
    assert says[0] in told
    assert "Traceback" not in told
    assert not config.out.exists()


@pytest.mark.parametrize("fault", ["NaN shown", "infinity paid", "too large a number shown"])
def test_nothing_that_is_saved_is_spoiled(fault, tmp_path):
    config = replace(SMALL, env_kwargs=(f"fault={fault}", "since=450"), checkpoint_every=0, out=tmp_path / "run")
    with pytest.raises(UserError, match=r"at step \d+ of its episode \d+"):
        train(config, quiet=True)
    for name in ("policy", "reward"):
        for array in load_file(config.out / f"{name}.safetensors").values():
            assert are_sound(array)
    for answer in prefrl.load_run(config.out).answers:
        assert np.isfinite(answer.query.left.rewards).all()


@pytest.mark.parametrize("fault", ["NaN shown", "infinity paid", "reset raises"])
def test_whoever_looks_at_a_run_is_told_the_same(fault, run, tmp_path, monkeypatch):
    page, film = tmp_path / "report.html", tmp_path / "policy.gif"
    doors = [
        lambda: evaluate_run(run, steps=100),
        lambda: write_page([run.folder], page, steps=100),
        lambda: film_policy(VideoConfig(run.folder, film)),
        lambda: policy_return(run.policy.act, Boiler(), episodes=1, seed=0),
        lambda: [env := prefrl.LearnedRewardEnv(Boiler(), run.r_hat), env.reset(seed=0), env.step(np.zeros(1))],
    ]
    monkeypatch.setattr(Boiler, "fault_of_all", fault)
    for door in doors:
        with pytest.raises(UserError) as error:
            door()
        assert "mend it there" in sentence(error.value)
        assert any(part in str(error.value) for part in ("its first reset", "at step 1 of its episode "))
    assert not page.exists()
    assert not film.exists()


@pytest.mark.parametrize("fault", ["render raises", "nothing drawn"])
def test_what_cannot_be_drawn_is_refused_before_training_and_by_the_film(fault, run, tmp_path, monkeypatch):
    monkeypatch.setattr(Boiler, "fault_of_all", fault)
    config = replace(SMALL, labeler="human", out=tmp_path / "run")
    for door in (lambda: train(config, quiet=True), lambda: film_policy(VideoConfig(run.folder, tmp_path / "it.gif"))):
        with pytest.raises(UserError, match="cannot be drawn here") as error:
            door()
        assert {"render raises": "no colour left", "nothing drawn": "drew None"}[fault] in sentence(error.value)
    assert not config.out.exists()


class Spoiled(VecEnvWrapper):
    """Environments stepped as arrays, one of which shows or pays nonsense from a step on."""

    def __init__(self, venv, what):
        super().__init__(venv)
        self.what, self.taken = what, 0

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        observations, rewards, dones, infos = self.venv.step_wait()
        self.taken += 1
        if self.taken == 5:
            if self.what == "shown":
                observations[1, 3] = np.nan
            if self.what == "paid":
                rewards[2] = -np.inf
            if self.what == "last shown":
                dones[1], infos = True, [{"terminal_observation": np.full(11, np.inf, np.float32)}] * 3
            if self.what == "raised":
                raise RuntimeError("no such robot")
        return observations, rewards, dones, infos


@pytest.mark.parametrize("what", ["shown", "paid", "last shown", "raised"])
def test_environments_stepped_as_arrays_are_checked_too(what):
    recorder = Recorder(Spoiled(make_vec_env("Hopper-v5", 3, 0), what), "Hopper-v5", 0, 300)
    recorder.reset()
    for _ in range(4):
        recorder.step(np.zeros((3, 3), np.float32))
    with pytest.raises(UserError) as error:
        recorder.step(np.zeros((3, 3), np.float32))
    assert "Hopper-v5" in sentence(error.value)
    assert "after 1" in str(error.value)
    copy = {"shown": "in copy 2", "paid": "paid -inf", "last shown": "in copy 2", "raised": "RuntimeError"}
    assert copy[what] in str(error.value)
    recorder.close()


def test_numbers_are_sound_where_each_of_them_is():
    assert are_sound(np.zeros((3, 4, 4), np.uint8))
    assert are_sound(np.full((30, 400), 0.9 * LARGEST, np.float32))  # the sum of squares alone would say no
    assert are_sound(np.full((30, 400), 0.9 * LARGEST))
    for spoiled in (np.nan, np.inf, -np.inf, 1.1 * LARGEST, -2 * LARGEST):
        for dtype in (np.float32, np.float64):
            numbers = np.zeros((30, 400), dtype)
            numbers[3, 5] = spoiled
            assert not are_sound(numbers)


class SameArray(gym.Env):
    """Gives one array at every step, and changes it in place; or new ones."""

    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, fresh=False, nested=False):
        self.fresh, self.numbers = fresh, np.zeros(3)
        box = spaces.Box(-9, 9, (3,), np.float64)
        self.observation_space = spaces.Dict(a=box, b=spaces.Tuple([box])) if nested else box
        if not nested:
            self.observation_space, self.numbers = spaces.Box(-9, 9, (3,), np.float32), np.zeros(3, np.float32)

    def show(self):
        given = self.numbers.copy() if self.fresh else self.numbers
        return {"a": given, "b": (given,)} if isinstance(self.observation_space, spaces.Dict) else given

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.numbers[:] = self.np_random.uniform(-1, 1, 3)
        return self.show(), {}

    def step(self, action):
        reward = float(self.numbers.sum())
        self.numbers[:] = 0.7 * self.numbers[::-1] + 0.5 * action + self.np_random.normal(0, 0.2, 3)
        return self.show(), reward, False, False, {}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("fixed", [False, True])
def test_an_array_that_is_used_again_changes_nothing(nested, fixed, tmp_path):
    gym.register("prefrl-tests/SameArray-v0", SameArray, max_episode_steps=15)
    try:
        told = []
        for fresh in ("true", "false"):
            config = replace(
                SMALL, env="prefrl-tests/SameArray-v0", env_kwargs=(f"fresh={fresh}", f"nested={nested}"),
                fixed_horizon=fixed, out=tmp_path / fresh,
            )  # fmt: skip
            run = prefrl.load_run(train(config, quiet=True))
            files = [(config.out / name).read_bytes() for name in ("metrics.csv", "reward.safetensors")]
            files.append(load_file(config.out / "policy.safetensors")["observation_mean"].tobytes())
            told.append((files, repr(evaluate_run(run, steps=300, moments=16).measures)))
        assert told[0] == told[1]
    finally:
        del gym.registry["prefrl-tests/SameArray-v0"]


def test_what_an_environment_shows_is_ours_to_keep():
    env = Guard(SameArray())
    first, _ = env.reset(seed=0)
    kept = first.copy()
    env.step(np.zeros(1, np.float32))
    assert (first == kept).all()


def test_rewards_of_every_kind_of_number_are_taken():
    class Payer(CounterEnv):
        kinds = (np.float32(2), np.array(2.0), np.array([2]), 2, True, np.int64(2))

        def step(self, action):
            observation, _, *ends = super().step(action)
            return observation, self.kinds[self.step_number - 1], *ends

    env = Guard(Payer(lengths=(9,)))
    env.reset()
    paid = [env.step(np.zeros(2))[1] for _ in Payer.kinds]
    assert paid == [2.0, 2.0, 2.0, 2.0, 1.0, 2.0]
    assert {type(reward) for reward in paid} == {float}


class Library(gym.Env):
    """Has a name in `info` for everything, as many hand-written games do; and what cannot be copied."""

    observation_space = spaces.Box(-9, 9, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, talks=True):
        self.talks = talks

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = self.np_random.normal(size=2).astype(np.float32)
        return self.at.copy(), {"game_over": True}

    def step(self, action):
        self.at = np.clip(self.at + (2 * action - 1) * 0.2 + self.np_random.normal(0, 0.1, 2), -9, 9).astype(np.float32)
        over = bool(abs(self.at[0]) > 2)
        info = {
            "game_over": over, "score": "two books", "cut_short": True, "TimeLimit.truncated": "no",
            "terminal_observation": None, "episode": 3, "cursor": (page for page in "ab"),
        }  # fmt: skip
        return self.at.copy(), float(self.at[0]), over, False, info if self.talks else {}


def test_what_nobody_promised_in_info_changes_nothing(tmp_path):
    gym.register("prefrl-tests/Library-v0", Library, max_episode_steps=40)
    try:
        written = []
        for talks in ("true", "false"):
            config = replace(SMALL, env="prefrl-tests/Library-v0", env_kwargs=(f"talks={talks}",), out=tmp_path / talks)
            metrics = prefrl.load_run(train(config, quiet=True)).metrics
            assert np.isfinite(metrics["true_return"][-1])
            written.append((config.out / "metrics.csv").read_bytes())
        assert written[0] == written[1]
    finally:
        del gym.registry["prefrl-tests/Library-v0"]


def test_more_than_the_memory_holds_is_refused_before_it_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 10**9)
    with pytest.raises(UserError) as error:
        Recorder(make_vec_env("CartPole-v1", 2, 0), "CartPole-v1", 0, 10**9)
    assert "1000000000 steps of CartPole-v1 take 49 GB, and 1 GB of memory are free" in sentence(error.value)
    config = replace(SMALL, keep_steps=10**9, out=tmp_path / "run")
    with pytest.raises(UserError, match="--keep-steps"):
        train(config, quiet=True)
    assert not config.out.exists()
    pixels = gym.make("prefrl_envs:prefrl/Pong-v0").spec
    Recorder(make_vec_env(pixels.id, 1, 0), pixels.id, 0, 100_000).close()  # 0.7 GB of frames, 2.8 GB of whole stacks
    with pytest.raises(UserError, match="take 1"):
        Recorder(make_vec_env(pixels.id, 1, 0), pixels.id, 0, 150_000)


def test_free_memory_is_what_the_system_says():
    free = memory.free_memory()
    assert free is not None
    assert 10**7 < free < 10**14


def test_a_module_that_fails_as_it_is_imported_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "half_written.py").write_text("nothing = undefined_name\n", encoding="utf-8")
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name, says in (("half_written", "undefined_name"), ("leaves", "SystemExit")):
        with pytest.raises(UserError, match=says) as error:
            make_env(f"{name}:Any-v0")
        assert "cannot be imported" in sentence(error.value)


def test_spaces_of_another_library_are_one_sentence():
    class Strange(CounterEnv):
        def __init__(self):
            super().__init__()
            self.observation_space = "four numbers"

    gym.register("prefrl-tests/Strange-v0", Strange)
    try:
        with pytest.raises(UserError, match="no space of Gymnasium's") as error:
            make_env("prefrl-tests/Strange-v0")
        assert "four numbers" in sentence(error.value)
    finally:
        del gym.registry["prefrl-tests/Strange-v0"]


def test_a_failure_is_told_though_closing_fails_as_well():
    env = DummyVecEnv([lambda: Guard(Boiler("NaN shown"), ID)])
    env.reset()
    with pytest.raises(UserError, match="nan"):
        env.step(np.zeros((1, 1)))
    Boiler.fault_of_all = "close raises"
    try:
        env.close()
        with closing(Guard(Boiler("none"), ID)) as other, pytest.raises(UserError, match="the valve is stuck"):
            other.close()
    finally:
        Boiler.fault_of_all = None
