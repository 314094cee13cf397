"""Many games of `AtariTask` at once, emulated and shrunk by ALE's own threads."""

from typing import Any

import ale_py
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from .atari import HORIZON, SEEDS, SIZE, STACK, STARTS, Frames, describe, find_game, pixels_kept, rom_path

_NEVER = 2**30  # emulator frames; the horizon ends an episode, nothing below it does


class AtariVectorTask(VectorEnv[Frames, NDArray[np.int64], NDArray[Any]]):
    """A vector of one game: what `AtariTask` specifies, for E environments at the speed of the emulator.

    Observations are (E, 4, 84, 84), and each step returns a new array; `infos` holds arrays (E,). All environments are
    reset together, so all are truncated together. A step that truncates also resets (`AutoresetMode.SAME_STEP`): it
    returns the first observations of the next episodes, and the last ones are `infos["final_obs"]`, with
    `infos["final_info"]`. Nothing is rendered.

    Args:
        game: A name of `prefrl_envs.atari.GAMES`.
        num_envs: E.
        max_episode_steps: Agent steps before truncation.
        mask: (84, 84), true where the screen is blanked, in place of the game's boxes.
        num_threads: Emulator threads; 0 for one on each core, E at most.
        unknown: Whatever else was asked for.

    Raises:
        ValueError: Unknown game or argument, wrong size of mask, or a number that is not positive.
        gymnasium.error.DependencyNotInstalled: The game's ROM is missing.
    """

    def __init__(
        self,
        game: str,
        num_envs: int = 1,
        max_episode_steps: int = HORIZON,
        mask: ArrayLike | None = None,
        num_threads: int = 0,
        **unknown: Any,
    ) -> None:
        for name in unknown:
            raise ValueError(
                f"The vector of prefrl/{game}-v0 does not take {name!r}: it takes num_envs, max_episode_steps, mask "
                "and num_threads; for pictures use gymnasium.make."
            )
        for name, number in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1: got {number}.")
        self._game = find_game(game)
        self._kept = pixels_kept(self._game, mask)
        rom_path(self._game)
        # Frames come unstacked: ALE would empty the stack at the end of a game, which the learner must not see.
        self._ale = AtariVectorEnv(
            self._game.rom,
            num_envs,
            stack_num=1,
            noop_max=STARTS,
            reward_clipping=False,
            max_num_frames_per_episode=_NEVER,
            num_threads=num_threads,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
        buttons = self._ale.ale.get_action_set()
        self._fire = buttons.index(ale_py.Action.FIRE)
        self._buttons = len(buttons)
        self._max_episode_steps = max_episode_steps
        self._every = np.ones(num_envs, bool)
        self._stack: Frames | None = None
        self.num_envs = num_envs
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP, **describe(self._game)}
        self.single_observation_space = Box(0, 255, (STACK, SIZE, SIZE), np.uint8)
        self.single_action_space = Discrete(self._buttons)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frames, dict[str, Any]]:
        """Start a new game everywhere; environment i is seeded with `seed` + i.

        Raises:
            ValueError: Options were given; there are none.
        """
        if options:
            raise ValueError(f"reset takes no options here, all environments reset together: got {options}.")
        frames, info = self._ale.reset(seed=None if seed is None else int(seed) % SEEDS)
        self._stack = np.repeat(frames * self._kept, STACK, axis=1)
        self._steps = 0
        self._score = np.zeros(self.num_envs)
        self._over = np.zeros(self.num_envs, bool)
        self._serve = np.zeros(self.num_envs, bool)
        self._lives = info["lives"]
        return self._stack, self._infos()

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Frames, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Hold each environment's button, (E,), for four emulator frames.

        Raises:
            ResetNeeded: `reset` was not called before.
            ValueError: The actions are not E numbers of buttons that the game has.
        """
        if self._stack is None:
            raise ResetNeeded("Call reset() before the first step().")
        actions = np.asarray(actions, np.int64)
        if actions.shape != (self.num_envs,) or actions.min() < 0 or actions.max() >= self._buttons:
            # Checked here because ALE's threads would wait for ever after an unknown one.
            raise ValueError(
                f"Actions {actions} are unknown: give {self.num_envs} whole numbers from 0 to {self._buttons - 1}."
            )
        frames, points, over, _, info = self._ale.step(np.where(self._serve, self._fire, actions))
        newest = frames[:, 0]
        stack = np.empty_like(self._stack)
        stack[:, :-1] = self._stack[:, 1:]
        np.multiply(newest, self._kept, out=stack[:, -1])
        earned = points if self._game.proxy is None else np.where(over, 0.0, self._game.proxy(newest))
        self._score = np.where(self._over, 0.0, self._score) + earned
        self._serve = (info["lives"] < self._lives) & ~over & self._game.serve
        self._stack, self._over, self._lives = stack, over, info["lives"]
        self._steps += 1
        rewards = earned - self._game.penalty * over
        truncated = np.full(self.num_envs, self._steps >= self._max_episode_steps)
        infos = self._infos()
        if truncated[0]:  # the horizon is the same for all, and so is the step they are at
            final = {"final_obs": stack, "final_info": infos}
            stack, infos = self.reset()
            infos |= final | {f"_{name}": truncated.copy() for name in final}
        return stack, rewards, np.zeros(self.num_envs, bool), truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the emulator's threads."""
        self._stack = None
        del self._ale

    def _infos(self) -> dict[str, Any]:
        """Arrays (E,) in Gymnasium's form, each beside a mask that tells which environments have it."""
        infos: dict[str, Any] = {"score": self._score, "game_over": self._over, "lives": self._lives}
        return infos | {f"_{name}": self._every.copy() for name in infos}
