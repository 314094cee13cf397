"""The paper's seven Atari games and Enduro driven level with traffic, as Gymnasium environments.

What both doors share is here: the table of games, the pixels that are blanked, the written reward of EnduroLevel.
So is the door for one game, `AtariTask`; `prefrl_envs.atari_vector` is the fast door for many.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import ale_py
import gymnasium
import numpy as np
from ale_py import roms
from gymnasium.spaces import Box, Discrete
from gymnasium.utils import EzPickle
from numpy.typing import ArrayLike, NDArray

Frames = NDArray[np.uint8]

SIZE = 84  # pixels on each side of a frame, as the network sees it
STACK = 4  # frames in an observation
SKIP = 4  # emulator frames for each agent step, so 15 agent steps a second
HORIZON = 27_000  # agent steps: 30 minutes of play, the length at which published scores stop a game
STARTS = 30  # a game begins after 0 to 29 emulator frames without an action
SEEDS = 2**30  # the emulator's seeds are signed 32-bit numbers, and a vector counts on from its own

# EnduroLevel reads the speed off the screen: the faster the player's car, the higher it is drawn.
_CAR_ROWS = np.arange(53, 62)  # the rows between which the car moves
_CAR_GREY = 192  # its colour by day, in snow, fog and at night
_LEVEL_ROW = 58.0  # where it stands at the speed of traffic
_ROWS_TO_ZERO = 1.5  # half a row is one step of the speed shown


def level_with_traffic(frames: Frames) -> NDArray[np.float64]:
    """Read how near Enduro's player drives to the speed of the other cars.

    The player's car has a vertical line of full pixels down its middle. Its mean row is 59.5 at the slowest speed,
    58 at the speed at which the player neither passes nor is passed, and 56.5 and less at high speed. With row y the
    reward is max(0, 1 - |y - 58| / 1.5), and 0 where no such line is seen.

    Args:
        frames: (n, 84, 84), grey, not blanked.

    Returns:
        (n,), each within [0, 1].
    """
    is_car = frames[:, _CAR_ROWS[0] : _CAR_ROWS[-1] + 1, 4:] == _CAR_GREY  # 4: the black border is left out
    middle = is_car.sum(axis=1).argmax(axis=1)
    line = is_car[np.arange(len(frames)), :, middle]
    height = line.sum(axis=1)
    row = line @ _CAR_ROWS / np.maximum(height, 1)
    return np.where(height >= 3, np.maximum(0.0, 1.0 - np.abs(row - _LEVEL_ROW) / _ROWS_TO_ZERO), 0.0)


@dataclass(frozen=True)
class Game:
    """What is particular to one game.

    Attributes:
        rom: The name under which ale-py holds the game.
        reward: The true reward in words.
        penalty: Points taken from the true reward where a game ends.
        blank: Boxes (first row, end row, first column, end column) in pixels of the 84 x 84 frame.
        proxy: A written reward read from the newest frames, (n, 84, 84) -> (n,); None is the game's own score.
        serve: Whether a lost life needs FIRE before play goes on.
    """

    rom: str
    reward: str
    penalty: float
    blank: tuple[tuple[int, int, int, int], ...]
    proxy: Callable[[Frames], NDArray[np.float64]] | None = None
    serve: bool = False


_PANEL = ((64, 76, 25, 58),)  # Enduro's odometer, day and cars left to pass

GAMES = {
    "BeamRider": Game(
        "beam_rider", "points scored, less 440 where a game ends", 440.0, ((4, 8, 32, 57), (12, 16, 10, 17))
    ),
    "Breakout": Game("breakout", "points scored, less 10 where a game ends", 10.0, ((2, 6, 18, 42),), serve=True),
    "Enduro": Game("enduro", "cars passed less cars passed by, less 10 where a game ends", 10.0, _PANEL),
    "EnduroLevel": Game(
        "enduro",
        "nearness to the speed of the other cars, from 0 to 1",
        0.0,
        _PANEL,
        proxy=level_with_traffic,
    ),
    "Pong": Game("pong", "points won less points lost", 0.0, ((0, 9, 10, 26), (0, 9, 52, 68))),
    "Qbert": Game("qbert", "points scored, less 250 where a game ends", 250.0, ((2, 6, 17, 38),)),
    "Seaquest": Game("seaquest", "points scored, less 200 where a game ends", 200.0, ((3, 7, 30, 56),)),
    "SpaceInvaders": Game("space_invaders", "points scored, less 150 where a game ends", 150.0, ((4, 8, 2, 34),)),
}


def find_game(name: str) -> Game:
    """Look a game up by its name in the paper.

    Raises:
        ValueError: There is no such game.
    """
    if name not in GAMES:
        raise ValueError(f"Unknown game {name!r}: choose one of {', '.join(GAMES)}.")
    return GAMES[name]


def rom_path(game: Game) -> str:
    """Find a game's ROM among those that ale-py holds.

    Raises:
        gymnasium.error.DependencyNotInstalled: It is not there, or it is not the file that ale-py expects.
    """
    try:
        path = roms.get_rom_path(game.rom)
    except OSError as error:
        raise gymnasium.error.DependencyNotInstalled(
            f"The ROM {game.rom}.bin was not found ({error}): unset ALE_ROMS_DIR to use the ROMs inside ale-py, "
            "or put the file there."
        ) from error
    return str(path)


def pixels_kept(game: Game, mask: ArrayLike | None) -> Frames:
    """Return (84, 84) of 1 where the learner sees the screen and 0 where it is blanked.

    Args:
        game: Whose boxes are blanked when no mask is given.
        mask: (84, 84), true where the screen is blanked; None for the game's own boxes.

    Raises:
        ValueError: The mask has another size.
    """
    if mask is None:
        kept = np.ones((SIZE, SIZE), np.uint8)
        for top, bottom, left, right in game.blank:
            kept[top:bottom, left:right] = 0
        return kept
    blank = np.asarray(mask, dtype=bool)
    if blank.shape != (SIZE, SIZE):
        raise ValueError(
            f"The mask has shape {blank.shape}, but frames are {SIZE} x {SIZE}: give a boolean array of shape "
            f"({SIZE}, {SIZE}) that is true where the screen is to be blanked."
        )
    return (~blank).astype(np.uint8)


def describe(game: Game) -> dict[str, Any]:
    """Return the metadata that tells a testbed how to use the game."""
    return {
        "render_fps": 60 // SKIP,
        "segment_steps": 25,
        "clip_fps": 60 // SKIP,
        "reward": game.reward,
        "clip_reward": game.proxy is None,
        "game_end_penalty": game.penalty,
        "several_games": True,  # in an episode; `info` says "game_over" and "score" at every step
    }


def _area_weights(source: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return which source pixels each target pixel covers and their shares, both (3, target)."""
    start = np.arange(target) * source / target
    index = np.floor(start).astype(np.intp) + np.arange(3)[:, None]
    overlap = np.minimum(start + source / target, index + 1) - np.maximum(start, index)
    return np.minimum(index, source - 1), (np.maximum(overlap, 0.0) * target / source).astype(np.float32)


_ROW, _ROW_SHARE = _area_weights(210, SIZE)
_COLUMN, _COLUMN_SHARE = _area_weights(160, SIZE)


def shrink(screen: Frames) -> Frames:
    """Average a (210, 160) screen down to (84, 84).

    The sums run in the order of OpenCV's area interpolation, in single precision, so that the pixels are those of
    ALE's vector environment to the last bit, ties included.
    """
    wide = screen.astype(np.float32)
    tall = sum(wide[:, _COLUMN[k]] * _COLUMN_SHARE[k] for k in range(3))
    small = sum(tall[_ROW[k]] * _ROW_SHARE[k][:, None] for k in range(3))
    return cast(Frames, np.rint(small).astype(np.uint8))


class AtariTask(gymnasium.Env[Frames, np.int64], EzPickle):
    """One of the paper's Atari games, as its learner meets it: `prefrl/{BeamRider, Breakout, ...}-v0`.

    ## Observation
    `Box(0, 255, (4, 84, 84), uint8)`: the four newest frames, oldest first. The paper's 84 x 84 x 4 with the frames in
    front, as torch and ALE's vector environment have it. A frame is the grey maximum of the last two of four emulator
    frames, averaged down. At a reset the first frame is there four times. When a game ends within an episode the
    stack runs on, so that consecutive observations always share three frames.

    ## Action
    `Discrete(n)`: the game's own buttons (4 in Breakout, 18 in Seaquest), held for four emulator frames. None sticks.

    ## Reward
    The true reward, for oracles and evaluation; a learner of preferences never sees it. It is not clipped.

    | game | points | less, where a game ends |
    |---|---|--:|
    | BeamRider | as scored; 44 for a ship in the first sector | 440 |
    | Breakout | as scored; 1 to 7 for a brick | 10 |
    | Enduro | cars passed less cars passed by | 10 |
    | Pong | 1 for a point won, -1 for a point lost | 0 |
    | Qbert | as scored; 25 for a cube | 250 |
    | Seaquest | as scored; 20 for a fish | 200 |
    | SpaceInvaders | as scored; 5 to 30 for an invader | 150 |
    | EnduroLevel | `level_with_traffic`, from 0 to 1; 0 where a game ends | 0 |

    ## What changed against the games, and why
    - *One continuous episode* (appendix A): a lost life and the end of a game are not signalled, because that signal
      would tell the learner something about the task. `terminated` is never true. The next game starts underneath, in
      the step that ended the last one.
    - *A penalty in its place* (appendix A), in every game but Pong, for the oracle to judge and the reward model to
      learn. The paper gives no size; here it is ten ordinary hits, more than one segment usually earns. It falls at
      the end of a game, not at each lost life. EnduroLevel has none: driving level always fails the day's quota.
    - *No score on the screen* (appendix A.2), or the reward could be read there: black boxes over the score, the
      enemy ships left in BeamRider, and Enduro's whole panel, speedometer included. They are set at 84 x 84, over all
      that the averaging smears. Lives and BeamRider's sector stay visible, as in the paper.
    - *Preprocessing* (appendix A.2): up to 29 frames without action before a game (the paper has 30), FIRE pressed
      where a game waits for it, the maximum of adjacent frames, four frames stacked, four skipped. In Breakout a lost
      ball waits for FIRE, so the step after it presses FIRE whatever the action.
    - *Clipping* to [-1, 1] belongs to the learner of the true reward: `metadata["clip_reward"]` says where it is due.
    - *EnduroLevel* (section 3.2) had no reward at all, only a person's answers. The written one makes it measurable.

    ## Info
    `score`: points of the game that the step belongs to, penalty left out. `game_over`: whether the step ended that
    game, so that `score` is final. `lives`: lives left (in the next game, where one ended). They are for evaluation,
    and for curves comparable with published scores; no learner may be given them.

    ## Episode
    Truncated after 27,000 agent steps (`max_episode_steps`): 30 minutes of play, where published scores stop counting
    too. A reset starts a new game. Segments have 25 steps (1.7 s, appendix A.2).

    ## Seeds
    The same seed gives the same frames and rewards. Environment i of a vector seeded with s plays as this one does
    when seeded with s + i, bit for bit, where ale-py was built with the GNU library (its Linux wheels).

    ## Rendering
    `render_mode="rgb_array"`: the emulator's own screen, (210, 160, 3), in colour and with the score.

    ## Versions
    - v0: first version, checked with ale-py 0.12.1. Since then Pong's boxes cover a score of 20 too, two columns wider.

    Args:
        game: A name of the table above.
        render_mode: None or "rgb_array".
        mask: (84, 84), true where the screen is blanked, in place of the game's boxes.

    Raises:
        ValueError: Unknown game, render mode or size of mask.
        gymnasium.error.DependencyNotInstalled: The game's ROM is missing.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 60 // SKIP}  # noqa: RUF012  (Gymnasium's own form)

    @staticmethod
    def metadata_of(game: str, **_: Any) -> dict[str, Any]:
        """Return the metadata of a game's environment, for who lists environments and makes none."""
        return {"render_modes": ["rgb_array"], **describe(find_game(game))}

    def __init__(self, game: str, render_mode: str | None = None, mask: ArrayLike | None = None) -> None:
        EzPickle.__init__(self, game, render_mode, mask)
        self._game = find_game(game)
        self._kept = pixels_kept(self._game, mask)
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"Unknown render mode {render_mode!r}: give None or 'rgb_array'.")
        self.render_mode = render_mode
        self.metadata = self.metadata_of(game)
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", 0.0)
        self._rom = rom_path(self._game)
        self.ale.loadROM(self._rom)
        self._buttons = self.ale.getMinimalActionSet()
        self._start_rng = np.random.RandomState()
        self._seeded = False
        self._stack = np.zeros((STACK, SIZE, SIZE), np.uint8)
        self._score = 0.0
        self._over = False
        self._serve = False
        self.observation_space = Box(0, 255, (STACK, SIZE, SIZE), np.uint8)
        self.action_space = Discrete(len(self._buttons))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frames, dict[str, Any]]:
        """Start a new game; with a seed, from a freshly loaded emulator."""
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            emulator_seed = int(self.np_random.integers(SEEDS)) if seed is None else int(seed) % SEEDS
            self.ale.setInt("random_seed", emulator_seed)
            self.ale.loadROM(self._rom)
            self._start_rng = np.random.RandomState(emulator_seed)  # ALE's vector environment seeds the same generator
            self._seeded = True
        self._stack = np.repeat(self._new_game()[None] * self._kept, STACK, axis=0)
        self._score, self._over, self._serve = 0.0, False, False
        return self._stack, self._info()

    def step(self, action: np.int64) -> tuple[Frames, float, bool, bool, dict[str, Any]]:
        """Hold a button for four emulator frames.

        Raises:
            ValueError: The game has no such button.
        """
        if not 0 <= action < len(self._buttons):
            raise ValueError(f"Action {action} is unknown: give a whole number from 0 to {len(self._buttons) - 1}.")
        button = ale_py.Action.FIRE if self._serve else self._buttons[int(action)]
        lives = self.ale.lives()
        earned, screens = 0.0, []
        for _ in range(SKIP):
            earned += self.ale.act(button, 1.0)
            screens.append(self.ale.getScreenGrayscale())
            if self.ale.game_over():
                break
        if self._over:
            self._score = 0.0
        self._over = self.ale.game_over()
        frame = self._new_game() if self._over else shrink(np.maximum(screens[-2], screens[-1]))
        self._serve = self._game.serve and not self._over and self.ale.lives() < lives
        if self._game.proxy is not None:
            earned = 0.0 if self._over else float(self._game.proxy(frame[None])[0])
        self._score += earned
        self._stack = np.concatenate([self._stack[1:], (frame * self._kept)[None]])
        return self._stack, earned - self._game.penalty * self._over, False, False, self._info()

    def render(self) -> Frames | None:
        """Return the emulator's screen, (210, 160, 3), or None without a render mode."""
        return self.ale.getScreenRGB() if self.render_mode == "rgb_array" else None

    def _new_game(self) -> Frames:
        """Start a game as ALE's vector environment does, and return its first frame, (84, 84)."""
        # The high half of 32 random bits times 30: how the GNU library draws a whole number below 30.
        waits = int(self._start_rng.randint(2**32, dtype=np.uint32)) * STARTS >> 32
        self.ale.reset_game()
        if ale_py.Action.FIRE in self._buttons:
            self.ale.act(ale_py.Action.FIRE, 1.0)
            waits -= 1
        for _ in range(waits):
            self.ale.act(ale_py.Action.NOOP, 1.0)
        return shrink(self.ale.getScreenGrayscale())

    def _info(self) -> dict[str, Any]:
        return {"score": self._score, "game_over": self._over, "lives": self.ale.lives()}


def register() -> None:
    """Tell Gymnasium's registry of every game: one environment, and a vector of many."""
    for name in GAMES:
        if (env_id := f"prefrl/{name}-v0") not in gymnasium.registry:
            gymnasium.register(
                env_id,
                entry_point="prefrl_envs.atari:AtariTask",
                vector_entry_point="prefrl_envs.atari_vector:AtariVectorTask",
                max_episode_steps=HORIZON,
                kwargs={"game": name},
            )
