"""Gymnasium's single class in several processes, for simulators so slow that stepping them takes most of a run.

The same environments, seeds and steps as in turn, so that a run has the same bytes whatever the number of processes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from prefrl.experience.backends.arrays import ArrayVecEnv
from prefrl.experience.backends.singly import make_one
from prefrl.experience.backends.wanted import Wanted, first_limits
from prefrl.experience.environments import arrive, as_sent, find_spec
from prefrl.words.errors import UserError


def step_in_processes(wanted: Wanted) -> ProcessesVecEnv:
    """Gymnasium's class, stepped in `wanted.workers` processes, or in as many as there are cores.

    Raises:
        UserError: it cannot be made, or not in another process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ProcessesVecEnv(wanted, max(1, min(wanted.workers or cores, wanted.n_envs)))


class ProcessesVecEnv(ArrayVecEnv):
    """Environments of one kind, a share of them in each of several processes.

    Args:
        wanted: the environments.
        workers: processes, no more than environments.

    Raises:
        UserError: one of them cannot make its environments.
    """

    stepped_by: ClassVar[str] = "Gymnasium's class, in processes of their own"

    def __init__(self, wanted: Wanted, workers: int) -> None:
        self.name = wanted.env_id
        horizon = wanted.kwargs.get("max_episode_steps", wanted.spec.max_episode_steps)
        limits = first_limits(horizon, wanted.n_envs).tolist()
        self._shares = np.array_split(np.arange(wanted.n_envs), workers)
        known = [method for method in ("forkserver", "spawn") if method in multiprocessing.get_all_start_methods()]
        context: Any = multiprocessing.get_context(known[0])
        if known[0] == "forkserver":
            context.set_forkserver_preload([__name__])  # imported once, for all of them
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        sent = as_sent(wanted.env_id, wanted.spec)
        told = {name: getattr(wanted, name) for name in ("kwargs", "fixed_horizon", "render", "wrappers")}
        for share in self._shares:
            here, there = context.Pipe()
            mine = [limits[env] for env in share]
            given = (there, sent, told, mine, wanted.seed + int(share[0]))
            process = context.Process(target=_work, args=given, daemon=True)
            try:
                process.start()
            except Exception as error:  # an argument that only this process has
                self.close()
                raise UserError(
                    f"the arguments of {self.name} cannot be sent to another process ({error!r:.150}): give plain "
                    f"values, or leave --workers out."
                ) from error
            there.close()
            self._pipes.append(here)
            self._processes.append(process)
        spaces = [self._heard(pipe) for pipe in self._pipes]  # of each, so that a mistake is told now
        shown, taken = spaces[0]
        super().__init__(wanted.n_envs, shown, taken, None)

    def reset(self) -> NDArray[Any]:
        """Begin a new episode everywhere."""
        return np.concatenate(self._all([("reset", None)] * len(self._pipes)))

    def step_async(self, actions: NDArray[Any]) -> None:
        """Send each process its share of the actions."""
        for pipe, share in zip(self._pipes, self._shares, strict=True):
            self._send(pipe, ("step", actions[share]))

    def step_wait(self) -> VecEnvStepReturn:
        """One step of every environment, in their order."""
        parts = [self._heard(pipe) for pipe in self._pipes]
        observations, rewards, dones = (np.concatenate([part[i] for part in parts]) for i in range(3))
        return observations, rewards, dones, [info for part in parts for info in part[3]]

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send(("close", None))
                pipe.close()
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.terminate()
        self._pipes, self._processes = [], []

    def _all(self, asked: Sequence[tuple[str, Any]]) -> list[Any]:
        for pipe, message in zip(self._pipes, asked, strict=True):
            self._send(pipe, message)
        return [self._heard(pipe) for pipe in self._pipes]

    def _send(self, pipe: Connection, message: tuple[str, Any]) -> None:
        with suppress(OSError):  # of one that has ended, which is told when its answer is awaited
            pipe.send(message)

    def _heard(self, pipe: Connection) -> Any:
        """What a process answers.

        Raises:
            UserError: what its environment raised, or that it has ended.
        """
        try:
            is_well, answer = pipe.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise UserError(
                f"a process that stepped {self.name} has ended: something in it crashed, or it was killed, perhaps for "
                f"want of memory; take fewer --workers."
            ) from error
        if not is_well:
            self.close()
            raise UserError(answer)
        return answer


def _work(pipe: Connection, sent: dict[str, Any], told: dict[str, Any], limits: list[int], seed: int) -> None:
    """A process: make a share of the environments, and step them as asked.

    Args:
        pipe: to whoever asks.
        sent: the environment's id, and how it is registered.
        told: the rest of what is wanted.
        limits: of the first episodes, as `first_limits` has them.
        seed: of the first of these environments.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks hears Ctrl-C, and says when to end
    try:
        env_id = arrive(sent)
        wanted = replace(Wanted(env_id, find_spec(env_id), len(limits), seed), **told)
        env = DummyVecEnv([partial(make_one, wanted, limit) for limit in limits])
        env.seed(seed)
        pipe.send((True, (env.observation_space, env.action_space)))
        while True:
            asked, given = pipe.recv()
            if asked == "close":
                env.close()
                return
            pipe.send((True, env.reset() if asked == "reset" else env.step(given)))
    except (EOFError, OSError):
        return
    except Exception as error:  # a UserError says all there is to say
        with suppress(OSError):
            pipe.send((False, str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}."))
