"""The environment as a run had it: the one value that training, clips, page, report, video and export make it from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from prefrl.experience.backends import make_vec_env
from prefrl.experience.environments import make_env
from prefrl.experience.guard import Guard
from prefrl.settings.config import BaselineConfig
from prefrl.settings.values import name_value


@dataclass(frozen=True)
class Task:
    """An environment, and all that decides how it behaves.

    Attributes:
        env_id: Gymnasium id, or "package:Id-v0".
        kwargs: arguments it is made with.
        fixed_horizon: whether every episode lasts to its time limit.
        backend: what steps it where there are several, as `make_vec_env` takes it.
        wrappers: around it, as `prefrl.experience.wrappers` reads them.
        workers: processes that step it where there are several; 0 for none, or as its backend has them.
    """

    env_id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    fixed_horizon: bool = False
    backend: str = "auto"
    wrappers: tuple[str, ...] = ()
    workers: int = 0

    @classmethod
    def of(cls, config: BaselineConfig) -> Task:
        """The task of a run; a configuration that leaves `env_kwargs` open has no arguments.

        Raises:
            UserError: an argument is not of the form name=value.
        """
        kwargs = name_value(config.env_kwargs or (), "environment argument")
        wrappers, workers = tuple(config.wrapper or ()), config.workers or 0
        backend = "subprocess" if workers and config.backend == "auto" else config.backend
        return cls(config.env, kwargs, config.fixed_horizon, backend, wrappers, workers)

    def make(self, **render: Any) -> Guard:
        """One environment, shown as a reward can be learned on.

        Args:
            render: how it is drawn, such as render_mode; wins over an argument of the same name.

        Raises:
            UserError: it cannot be made, or a reward cannot be learned on its spaces.
        """
        return make_env(self.env_id, {**self.kwargs, **render}, self.fixed_horizon, self.wrappers)

    def make_vec(self, n_envs: int, seed: int, **render: Any) -> VecEnv:
        """Several of them, stepped as one by the task's backend; arguments and errors as of `make_vec_env`."""
        about = (self.kwargs, self.fixed_horizon, self.wrappers, self.workers)
        return make_vec_env(self.env_id, n_envs, seed, self.backend, *about, **render)
