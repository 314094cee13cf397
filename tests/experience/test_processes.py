"""Environments in several processes: the same bytes as in turn, and one sentence for whatever happens to them."""

import os
import signal
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from helpers import AnyEnv, sentence

import prefrl
from prefrl.experience.backends import make_vec_env
from prefrl.experience.backends.processes import ProcessesVecEnv
from prefrl.settings.config import BaselineConfig
from prefrl.words.errors import UserError

gym.register("processes/Here-v0", lambda **kwargs: AnyEnv(**kwargs))


def test_environments_in_processes_do_as_in_turn() -> None:
    made = [
        make_vec_env("Pendulum-v1", 5, 3, backend, {"max_episode_steps": 12}, workers=2)
        for backend in ("gymnasium", "subprocess")
    ]
    assert isinstance(made[1], ProcessesVecEnv)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(*(env.reset() for env in made))
    for _ in range(30):
        actions = rng.uniform(-2, 2, (5, 1)).astype(np.float32)
        (*left, infos), (*right, told) = (env.step(actions) for env in made)
        for one, other in zip(left, right, strict=True):
            np.testing.assert_array_equal(one, other)
        assert [info.keys() for info in infos] == [info.keys() for info in told]
    for env in made:
        env.close()


def test_a_run_has_the_same_bytes_whatever_steps_it(tmp_path: Path) -> None:
    folders = []
    for workers in (None, 2):
        config = BaselineConfig(
            env="prefrl-tests/Target-v0",
            steps=960,
            n_envs=4,
            phases=3,
            workers=workers,
            set=("n_steps=60", "batch_size=60", "n_epochs=1"),
            tensorboard=False,
            out=tmp_path / str(workers),
        )
        folders.append(prefrl.run_baseline(config, quiet=True))
    for name in ("metrics.csv", "policy.safetensors"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert prefrl.load_run(folders[1]).config.workers == 2


def test_what_happens_to_a_process_is_one_sentence() -> None:
    with pytest.raises(UserError) as error:
        make_vec_env("Pendulum-v1", 2, 0, "subprocess", {"no_such": 1}, workers=2)
    assert "no_such" in sentence(error.value)
    with pytest.raises(UserError) as error:
        make_vec_env("processes/Here-v0", 2, 0, "subprocess", workers=1)
    assert "name it 'package:Id-v0'" in sentence(error.value)
    env = make_vec_env("Pendulum-v1", 2, 0, "subprocess", workers=1)
    assert isinstance(env, ProcessesVecEnv)
    env.reset()
    os.kill(env._processes[0].pid, signal.SIGKILL)
    env._processes[0].join()
    with pytest.raises(UserError) as error:
        env.step(np.zeros((2, 1), np.float32))
    assert "take fewer --workers" in sentence(error.value)


@pytest.mark.parametrize(("workers", "backend"), [(0, "auto"), (2, "envpool")])
def test_workers_are_processes(workers: int, backend: str) -> None:
    from prefrl.runs.resolve import resolve

    with pytest.raises(UserError) as error:
        resolve(BaselineConfig(env="Pendulum-v1", workers=workers, backend=backend))
    assert "a number of processes, 1 or more" in sentence(error.value)
