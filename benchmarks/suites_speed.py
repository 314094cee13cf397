"""How fast one core steps DeepMind's control suite and Meta-World, through the recorder that every run has.

    python -m benchmarks.suites_speed

Random actions, one core, 32 environments by EnvPool and 4 by the suites' own classes (where they are installed);
steps a CPU second. No learner: this is the most that a run could reach.
"""

from __future__ import annotations

import importlib.util
import os
import time

import numpy as np

from prefrl.experience.backends import make_vec_env
from prefrl.experience.recorder import Recorder

TASKS = (
    "dmc/walker-walk-v1",
    "dmc/cheetah-run-v1",
    "dmc/quadruped-walk-v1",
    "Meta-World/window-open-v3",
    "Meta-World/door-open-v3",
)
PACKAGES = {"dmc": "dm_control", "Meta-World": "metaworld"}
SECONDS = 3.0  # of a CPU, each


def steps_a_second(env_id: str, backend: str, n_envs: int) -> float:
    """Environment steps a CPU second, over all environments."""
    env = Recorder(make_vec_env(env_id, n_envs, 0, backend), env_id, 0, 20_000)
    env.reset()
    space, rng = env.action_space, np.random.default_rng(0)
    actions = rng.uniform(space.low, space.high, (100, n_envs, *space.shape)).astype(np.float32)
    began, steps = time.process_time(), 0
    while time.process_time() - began < SECONDS:
        for action in actions:
            env.step(action)
        steps += len(actions) * n_envs
    rate = steps / (time.process_time() - began)
    env.close()
    return rate


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print("| task | EnvPool | the suite's class |\n| :--- | ---: | ---: |")
    for env_id in TASKS:
        own = importlib.util.find_spec(PACKAGES[env_id.split("/")[0]]) is not None
        slow = f"{steps_a_second(env_id, 'gymnasium', 4):,.0f}" if own else "not installed"
        print(f"| {env_id} | {steps_a_second(env_id, 'vector', 32):,.0f} | {slow} |", flush=True)


if __name__ == "__main__":
    main()
