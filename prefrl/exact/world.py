"""A finite world, written down: read from an environment that shows its tables, whoever made it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from prefrl.experience.task import Task
from prefrl.words.errors import UserError


@dataclass(frozen=True, eq=False)
class World:
    """S states in which something can be done, A actions, B ways a step may go on.

    Attributes:
        observations: (S, *observation_shape) what each state shows.
        start: (S,) the chance that an episode begins there.
        rewards: (S, A) what an action is paid.
        successors: (S, A, B) the states it may lead to; -1 is the end of the episode.
        chances: (S, A, B) how likely each of them is.
        reference: (S, A) the policy that the optimum is anchored to; ones count the entropy alone.
    """

    observations: NDArray[Any]
    start: Float[NDArray[np.float64], " s"]
    rewards: Float[NDArray[np.float64], "s a"]
    successors: Int[NDArray[np.int64], "s a b"]
    chances: Float[NDArray[np.float64], "s a b"]
    reference: Float[NDArray[np.float64], "s a"]

    @classmethod
    def of(cls, env: gym.Env[Any, Any]) -> World:
        """The world that an environment says it is: the tables are the attribute `tables` of the unwrapped one.

        Raises:
            UserError: it has none.
        """
        tables = getattr(env.unwrapped, "tables", None)
        names = [field.name for field in fields(cls)]
        if tables is None or any(not hasattr(tables, name) for name in names):
            raise UserError(
                f"{env.spec.id if env.spec else env.unwrapped} cannot be enumerated: an exact world has an attribute "
                f"`tables` with {', '.join(names)}, as prefrl/ContextualBandit-v0, prefrl/Dialogue-v0, "
                f"prefrl/TokenWriter-v0 and prefrl/WholeText-v0 have."
            )
        return cls(**{name: getattr(tables, name) for name in names})

    @classmethod
    def make(cls, env_id: str, **kwargs: Any) -> World:
        """The world of an id.

        Args:
            env_id: Gymnasium id, or "package:Id-v0".
            kwargs: arguments of the environment.

        Raises:
            UserError: it cannot be made, or not be enumerated.
        """
        env = Task(env_id, kwargs).make()
        world = cls.of(env)
        env.close()
        return world

    def anchored(self, reference: NDArray[np.floating]) -> World:
        """The same world with another reference (S, A), such as the policy that a run began with.

        Raises:
            ValueError: it is of another shape.
        """
        if reference.shape != self.rewards.shape:
            raise ValueError(f"a reference of this world is {self.rewards.shape}: got {reference.shape}")
        return replace(self, reference=np.asarray(reference, np.float64))

    def paying(self, rewards: NDArray[np.floating]) -> World:
        """The same world with other rewards (S, A), such as those of a reward model.

        Raises:
            ValueError: they are of another shape.
        """
        if rewards.shape != self.rewards.shape:
            raise ValueError(f"rewards of this world are {self.rewards.shape}: got {rewards.shape}")
        return replace(self, rewards=np.asarray(rewards, np.float64))

    @property
    def first(self) -> NDArray[np.int64]:
        """The states in which an episode may begin."""
        return np.flatnonzero(self.start)
