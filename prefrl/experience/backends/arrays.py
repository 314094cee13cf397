"""What environments that are stepped as arrays share."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from prefrl.experience.backends.wanted import Wanted, first_limits
from prefrl.words.errors import UserError


class ArrayVecEnv(VecEnv):
    """Environments stepped as arrays: first episodes are cut short, and there are no Python environments to ask.

    Args:
        n_envs: environments.
        observation_space: of one.
        action_space: of one.
        horizon: steps of an episode, over which the first ends are spread; None leaves them together.

    Attributes:
        stepped_by: what steps them, in words; a class of its own says so.
    """

    stepped_by: ClassVar[str]

    def __init__(
        self, n_envs: int, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], horizon: int | None
    ) -> None:
        super().__init__(n_envs, observation_space, action_space)
        self._limits = first_limits(horizon, n_envs)
        self._clock = 0
        self._no_infos: list[dict[str, Any]] = [{} for _ in range(n_envs)]

    def _cut_short(self, dones: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which environments' first episodes are cut at this step, the next of all; (n_envs,)."""
        self._clock += 1
        self._limits[dones] = 0  # the first episode is over
        cut: NDArray[np.bool_] = self._limits == self._clock
        return cut

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The render mode, which is None; no other attribute can be read.

        Raises:
            AttributeError: for any other attribute.
        """
        if attr_name != "render_mode":
            raise AttributeError(f"environments stepped as arrays have no attribute {attr_name!r} of their own.")
        return [None for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not possible.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(f"environments stepped as arrays have no attribute {attr_name!r} that can be set.")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Not possible.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(f"environments stepped as arrays have no method {method_name!r} of their own.")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        """No Gymnasium wrapper is ever around these."""
        return [False for _ in self._get_indices(indices)]


def check_ends(wanted: Wanted) -> None:
    """See that episodes may end where the environment ends them, and that nothing is to be around it.

    Raises:
        UserError: they are to last to the time limit, and arrays of environments reset what ends by themselves; or
            there are wrappers, which are of single environments.
    """
    if wanted.wrappers:
        raise UserError("wrappers need backend gymnasium: arrays of environments have none.")
    if wanted.fixed_horizon:
        raise UserError("a fixed horizon needs backend gymnasium: arrays of environments reset what ends.")
