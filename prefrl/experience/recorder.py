"""Remembers what really happened, and cuts segments from it (Christiano et al. 2017, sections 2.1 and 2.2.4).

The recorder sits directly on the environment, below every wrapper: what it holds are the raw observations, the actions
as the environment received them, and the true reward before any scaling. It is the only place where that reward exists;
oracle and evaluation read it here, and nothing above the recorder does.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from prefrl.experience.backends import CUT_SHORT, GAME, SUCCESS, TELLS_SUCCESS
from prefrl.experience.guard import CHECK, LARGEST, SOUND, are_sound, said, short
from prefrl.experience.memory import check_room
from prefrl.experience.ring import ArrayRing, FrameRing, is_shifted
from prefrl.words.errors import UserError
from prefrl.words.preference import Occasion, Query, Segment

KEEP_FEWER = "keep fewer (--keep-steps, --reward-window, or --set buffer_size=STEPS of a learner that replays them)"
SAMPLE = 4096  # steps that means and deviations over recent experience are taken from


class Episode(NamedTuple):
    """A finished episode, or a finished game where an episode runs on over several (`prefrl.experience.backends.GAME`).

    Attributes:
        step: environment steps taken, over all environments, when it ended.
        true_return: sum of its raw rewards; of a game its score.
        steps: its length.
        success: whether it reached its goal at any of its steps; None where the environment does not tell.
    """

    step: int
    true_return: float
    steps: int
    success: bool | None = None


def mean_true_return(episodes: Sequence[Episode]) -> float:
    """Mean true return of finished episodes; NaN when there is none."""
    return float(np.mean([episode.true_return for episode in episodes])) if episodes else float("nan")


def mean_steps(episodes: Sequence[Episode]) -> float:
    """Mean length in steps of finished episodes; NaN when there is none."""
    return float(np.mean([episode.steps for episode in episodes])) if episodes else float("nan")


def success_rate(episodes: Sequence[Episode]) -> float:
    """Share of the finished episodes that reached their goal, of those that tell; NaN when there is none."""
    told = [episode.success for episode in episodes if episode.success is not None]
    return float(np.mean(told)) if told else float("nan")


class Recorder(VecEnvWrapper):
    """A VecEnv that keeps the newest steps in a ring, and cuts fixed-length segments from the newest of them.

    Args:
        venv: the environments.
        env_id: what they are called.
        seed: of the run.
        keep_steps: newest steps, over all environments, that segments are cut from.
        read_scenes: as the attribute.
        same_start: as the attribute.
        replay_steps: newest steps that are kept besides, where a learner replays more than people are asked about.

    Attributes:
        steps: environment steps taken since the start, over all environments.
        episodes: episodes finished since `pop_episodes` was last called.
        ends_early_since: steps after which an episode first ended by itself, not by a time limit; None if none has.
        tells_success: whether the environments say of each episode if it reached its goal.
        read_scenes: reads what each environment's current step can be drawn from, (E, ...), kept for people to be
            shown; None keeps nothing.
        same_start: whether two windows are a pair only where both begin their episodes, and these began alike.

    Raises:
        UserError: observations that are no arrays, or more steps to keep than there is memory for.
    """

    def __init__(
        self,
        venv: VecEnv,
        env_id: str,
        seed: int,
        keep_steps: int,
        read_scenes: Callable[[], NDArray[Any]] | None = None,
        same_start: bool = False,
        replay_steps: int = 0,
    ) -> None:
        super().__init__(venv)
        self.read_scenes, self.same_start = read_scenes, same_start
        self.tells_success = bool(venv.metadata.get(TELLS_SUCCESS))
        self._scenes: NDArray[Any] | None = None
        self.env_id, self.run_seed = env_id, seed
        self.window = max(1, keep_steps // venv.num_envs)  # vector steps that segments are cut from
        self.capacity = max(self.window, replay_steps // venv.num_envs)
        obs, act = venv.observation_space, venv.action_space
        if obs.shape is None or act.shape is None or obs.dtype is None or act.dtype is None:
            raise UserError(f"{env_id} has spaces {obs} and {act}: the recorder needs arrays, so flatten them first.")
        grid = (self.capacity, venv.num_envs)
        self._beside = 25 + np.dtype(act.dtype).itemsize * math.prod(act.shape)  # bytes a step, observations left out
        shown = np.dtype(obs.dtype).itemsize * math.prod(obs.shape)
        may_be_stack = len(obs.shape) == 3 and obs.dtype == np.uint8
        self._check_room(shown // obs.shape[0] if may_be_stack else shown)
        self._observations: ArrayRing | FrameRing | None = None  # which of them, the first step tells
        self._actions: NDArray[Any] = np.zeros(grid + act.shape, act.dtype)
        self._rewards = np.zeros(grid, np.float64)
        self._episode = np.zeros(grid, np.int64)
        self._offset = np.zeros(grid, np.int64)
        self._beginning = np.zeros(grid if same_start else (0, venv.num_envs), np.int64)  # hash of an episode's first o
        self._terminated = np.zeros(grid, bool)  # the episode ended here by itself, not by a time limit
        self._rows = 0  # vector steps taken
        self._now_episode = np.full(venv.num_envs, -1, np.int64)
        self._now_offset = np.zeros(venv.num_envs, np.int64)
        self._now_beginning = np.zeros(venv.num_envs, np.int64)
        self._now_return = np.zeros(venv.num_envs, np.float64)
        self._game_began = np.zeros(venv.num_envs, np.int64)  # at so many steps, over all environments
        self._last_observations: NDArray[Any] = np.zeros((venv.num_envs, *obs.shape), obs.dtype)
        self._last_actions: NDArray[Any] = np.zeros((venv.num_envs, *act.shape), act.dtype)
        self.episodes: list[Episode] = []
        self.ends_early_since: int | None = None

    @property
    def steps(self) -> int:
        """Environment steps taken since the start, over all environments."""
        return self._rows * self.num_envs

    def reborn(self, venv: VecEnv, read_scenes: Callable[[], NDArray[Any]] | None = None) -> None:
        """Go on in these environments, the same made anew; episodes that run end here, as a time limit would end them.

        The next call is `reset`.
        """
        self.venv.close()
        self.venv, self.read_scenes = venv, read_scenes

    def state(self) -> dict[str, Any]:
        """What was experienced: the ring, and how far each environment's episodes have come."""
        return {
            "ring": None if self._observations is None else self._observations.state(),
            "is_stacks": isinstance(self._observations, FrameRing),
            "actions": self._actions,
            "rewards": self._rewards,
            "episode": self._episode,
            "offset": self._offset,
            "beginning": self._beginning,
            "terminated": self._terminated,
            "scenes": _as_bytes(self._scenes),
            "rows": self._rows,
            "now_episode": self._now_episode,
            "ends_early_since": self.ends_early_since,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Hold what `state` returned; the next call is `reset`."""
        shape = self._last_observations.shape[1:]
        if state["ring"] is not None:
            kind = FrameRing if state["is_stacks"] else ArrayRing
            self._observations = kind(self.capacity, self.num_envs, shape, self._last_observations.dtype)
            self._observations.restore(state["ring"])
        self._actions[:], self._rewards[:] = state["actions"], state["rewards"]
        self._episode[:], self._offset[:] = state["episode"], state["offset"]
        self._beginning[:] = state["beginning"]
        self._terminated[:], self._now_episode[:] = state["terminated"], state["now_episode"]
        self._scenes, self._rows = _as_objects(state["scenes"]), state["rows"]
        self.ends_early_since = state["ends_early_since"]
        self._game_began[:] = self.steps

    def reset(self) -> NDArray[Any]:
        """Begin a new episode everywhere.

        Raises:
            UserError: the environment failed, or showed what nothing can be learned from.
        """
        try:
            observations = self.venv.reset()
        except (KeyboardInterrupt, UserError):
            raise
        except BaseException as error:
            raise UserError(f"{self.env_id} failed {self._when()} with {said(error)}; {CHECK}.") from error
        self._check(observations, None)
        assert isinstance(observations, np.ndarray)
        self._begin_episodes(np.ones(self.num_envs, bool))
        self._last_observations = observations.copy()
        self._note_beginnings(np.ones(self.num_envs, bool))
        self._game_began[:] = self.steps
        if self.read_scenes is not None:
            self._last_scene = self.read_scenes()
        return observations

    def step_async(self, actions: NDArray[Any]) -> None:
        """Send the actions on, and keep them."""
        self._last_actions[:] = actions
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step and remember it: the observation acted on, the action, the true reward.

        Raises:
            UserError: the environment failed, or showed or paid what nothing can be learned from.
        """
        try:
            observations, rewards, dones, infos = self.venv.step_wait()
        except (KeyboardInterrupt, UserError):
            raise
        except BaseException as error:
            raise UserError(f"{self.env_id} failed {self._when()} with {said(error)}; {CHECK}.") from error
        self._check(observations, rewards)
        assert isinstance(observations, np.ndarray)
        row = self._rows % self.capacity
        if self._observations is None:
            self._observations = self._make_ring(observations)
        self._observations.put(row, self._last_observations)
        self._actions[row] = self._last_actions
        self._rewards[row] = rewards
        self._episode[row] = self._now_episode
        self._offset[row] = self._now_offset
        if self.same_start:
            self._beginning[row] = self._now_beginning
        self._terminated[row] = False
        self._rows += 1
        self._now_offset += 1
        self._now_return += rewards
        if dones.any():
            for env in np.flatnonzero(dones):
                if "terminal_observation" in infos[env]:
                    self._check_one(infos[env]["terminal_observation"], int(env))
                if not infos[env].keys() & {GAME, CUT_SHORT}:
                    length, success = int(self._now_offset[env]), infos[env].get(SUCCESS)
                    self.episodes.append(Episode(self.steps, float(self._now_return[env]), length, success))
                self._terminated[row, env] = not infos[env].get("TimeLimit.truncated", False)
            if self.ends_early_since is None and self._terminated[row].any():
                self.ends_early_since = self.steps
            self._begin_episodes(dones)
        for index, info in enumerate(infos):
            if info.get(GAME) is not None:  # one of several games in an episode: its score is what is compared
                played = self.steps - int(self._game_began[index])
                self.episodes.append(Episode(self.steps, float(info[GAME]), played // self.num_envs))
                self._game_began[index] = self.steps
        self._game_began[dones] = self.steps  # with an episode, the game that it broke off is over
        np.copyto(self._last_observations, observations)
        self._note_beginnings(dones)
        if self.read_scenes is not None:
            if self._scenes is None:
                self._scenes = np.zeros((self.window, *self._last_scene.shape), self._last_scene.dtype)
            self._scenes[(self._rows - 1) % self.window], self._last_scene = self._last_scene, self.read_scenes()
        return observations, rewards, dones, infos

    def _make_ring(self, observations: NDArray[Any]) -> ArrayRing | FrameRing:
        """A ring of frames if the first step's observations are the reset's, moved on by a frame; else of arrays."""
        before = self._last_observations
        is_stack = before.ndim == 4 and before.shape[1] > 1 and before.dtype == np.uint8
        stacked = is_stack and bool(is_shifted(before, observations).all())
        kind = FrameRing if stacked else ArrayRing
        if not stacked:
            self._check_room(before[0].nbytes)
        return kind(self.capacity, self.num_envs, before.shape[1:], before.dtype)

    def _check_room(self, observation_bytes: int) -> None:
        """Refuse to keep more than there is memory for, before any of it is taken."""
        kept = self.capacity * self.num_envs
        needed = kept * (observation_bytes + self._beside)
        check_room(needed, f"{kept} steps of {self.env_id}", KEEP_FEWER)

    def _check(self, observations: Any, rewards: NDArray[Any] | None) -> None:
        """Refuse numbers that would spoil every mean they are taken into."""
        if not isinstance(observations, np.ndarray) or observations.shape != self._last_observations.shape:
            raise UserError(
                f"{self.env_id} showed {short(observations)} {self._when()}, and its observation_space is "
                f"{short(self.observation_space)}: {CHECK}."
            )
        if not are_sound(observations):
            for env, observation in enumerate(observations):
                self._check_one(observation, env)
        if rewards is not None and not are_sound(rewards):
            env = int(np.argmin(np.abs(rewards) < LARGEST))
            raise UserError(
                f"{self.env_id} paid {rewards[env]} {self._when()}, in copy {env + 1}, and {SOUND}: {CHECK}."
            )

    def _check_one(self, observation: NDArray[Any], env: int) -> None:
        if not are_sound(observation):
            raise UserError(
                f"{self.env_id} showed {short(observation)} {self._when()}, in copy {env + 1}, and {SOUND}: {CHECK}."
            )

    def _when(self) -> str:
        if not self._rows:
            return "in its first steps" if self._now_episode[0] >= 0 else "in its first reset"
        return f"after {self.steps} steps, counted over its {self.num_envs} copies"

    def _begin_episodes(self, begun: NDArray[np.bool_]) -> None:
        self._now_episode[begun] += 1
        self._now_offset[begun] = 0
        self._now_return[begun] = 0.0

    def _note_beginnings(self, begun: NDArray[np.bool_]) -> None:
        """Remember what the episodes that have just begun show first."""
        if self.same_start:
            for env in np.flatnonzero(begun):
                digest = hashlib.blake2b(self._last_observations[env].tobytes(), digest_size=8).digest()
                self._now_beginning[env] = int.from_bytes(digest, "little", signed=True)

    def pop_episodes(self) -> list[Episode]:
        """The episodes finished since the last call."""
        episodes, self.episodes = self.episodes, []
        return episodes

    def recent(self, steps: int, at_most: int | None = None) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
        """The newest `steps` steps (or all that are kept), oldest first.

        Args:
            steps: how far back.
            at_most: return no more than this many of them, evenly spaced, where it is a multiple of the environments.

        Returns:
            Observations (n, *observation_shape), actions (n, *action_shape) and true rewards (n,).
        """
        rows = self._newest_rows(-(-steps // self.num_envs))
        if at_most is not None:
            rows = rows[:: max(1, -(-len(rows) * self.num_envs // at_most))]
        cells = (rows[:, None] * self.num_envs + np.arange(self.num_envs)).ravel()
        return (*self.at(cells), self._rewards[rows].reshape(-1))

    def stretches(self, vector_steps: int, at_once: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Observations and actions of the newest vector steps, oldest first, in stretches of so many steps or fewer."""
        rows = self._newest_rows(vector_steps)
        for part in np.array_split(rows, max(1, -(-len(rows) * self.num_envs // at_once))) if len(rows) else []:
            yield self.at((part[:, None] * self.num_envs + np.arange(self.num_envs)).ravel())

    def recent_rewards(self, steps: int) -> NDArray[np.float64]:
        """True rewards of the newest `steps` steps (or all that are kept), oldest first, (vector steps, n_envs)."""
        kept = min(self._rows, self.capacity, -(-steps // self.num_envs))
        rewards: NDArray[np.float64] = self._rewards[np.arange(self._rows - kept, self._rows) % self.capacity]
        return rewards

    def at(self, cells: NDArray[np.integer]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Observations and actions of these steps, each ring position * n_envs + environment, (m,).

        Raises:
            UserError: no step has been taken yet.
        """
        if self._observations is None:
            raise UserError(f"no step of {self.env_id} has been recorded yet: take some first.")
        row, env = np.divmod(cells, self.num_envs)
        return self._observations.get(row, env), self._actions[row, env]

    def _newest_rows(self, count: int) -> NDArray[np.int64]:
        """Ring positions of the newest `count` vector steps kept, oldest first."""
        older = self._observations.older if self._observations is not None else 0
        kept = min(self._rows, self.capacity - older, count)
        return np.arange(self._rows - kept, self._rows) % self.capacity

    def pairs(
        self, count: int, segment_steps: int, rng: np.random.Generator, newest: int | None = None, k: int = 2
    ) -> Pairs:
        """Draw pairs, or `k` at a time, of distinct windows, uniformly over those of finished and running episodes.

        With `same_start` the first is uniform over the windows that begin an episode, and the rest over the others
        among them that begin alike.

        A window lies in one episode of one environment; the first and the last of an episode are windows like any
        other. Where an episode ended by itself, the windows that it cut short are windows too, so that its last steps
        are seen as often as those before them: after the end nothing is paid, and a sum over fewer steps says so.
        Nothing is copied until a pair is asked about.

        Args:
            count: pairs.
            segment_steps: steps in each window, at most.
            rng: source of randomness.
            newest: draw windows of the newest steps alone, this many, over all environments, if there are `k` in them.
            k: windows in each.

        Raises:
            UserError: fewer than `k` windows of this length have been recorded.
        """
        starts, lengths = self._windows(segment_steps, self.window if newest is None else newest // self.num_envs, k)
        if newest is not None and len(starts) < k:
            starts, lengths = self._windows(segment_steps, self.window, k)
        if count and len(starts) < k:
            raise UserError(
                f"no {'two' if k == 2 else k} segments of {segment_steps} steps in the "
                f"{min(self.steps, self.window * self.num_envs)} steps kept of {self.env_id}"
                f"{' begin an episode and begin alike' if self.same_start else ''}: its episodes are shorter, or "
                f"explore_steps is; ask for shorter segments or more steps"
                f"{', or compare any (--pairs any)' if self.same_start else ''}."
            )
        if not count:
            return self._pairs(np.zeros((0, k), np.int64), segment_steps, starts, lengths)
        order, first, among = self._alike(starts)
        chosen = rng.integers(len(starts), size=(count, 1))
        first, among = first[chosen[:, 0]], among[chosen[:, 0]]
        places = np.argsort(order)[chosen] - first[:, None]  # among those that begin alike
        for place in range(1, k):
            drawn = rng.integers(among - place if self.same_start else len(starts) - place, size=count)
            for earlier in np.sort(places, axis=1).T:
                drawn += drawn >= earlier  # uniform over the other windows: no segment is compared with itself
            places = np.column_stack([places, drawn])
        return self._pairs(order[first[:, None] + places], segment_steps, starts, lengths)

    def every_pair(self, segment_steps: int, at_most: int, k: int = 2) -> Pairs | None:
        """Every `k` windows that `pairs` draws from, each once; None where that makes more than `at_most`."""
        starts, lengths = self._windows(segment_steps, self.window, k)
        order, first, among = self._alike(starts)
        counts = among[order][np.unique(first[order], return_index=True)[1]].tolist() if len(starts) else []
        if sum(math.comb(count, k) for count in counts) > at_most:
            return None
        groups = np.split(order, np.cumsum(counts)[:-1])
        every = [np.array(list(combinations(group, k)), np.int64).reshape(-1, k) for group in groups]
        return self._pairs(np.concatenate(every), segment_steps, starts, lengths)

    def _alike(self, starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Windows that start here, (n,), in groups within which they may be compared.

        Returns:
            An order (n,) in which each group's windows follow one another; and of each window where its group begins
            in that order, and how many it has. Without `same_start` all are one group, in the order they have.
        """
        if not self.same_start:
            everyone = np.full(len(starts), len(starts), np.int64)
            return np.arange(len(starts)), np.zeros_like(everyone), everyone
        beginnings = self._beginnings(starts)
        order = np.argsort(beginnings, kind="stable")
        first = np.searchsorted(beginnings[order], beginnings)
        return order, first, np.searchsorted(beginnings[order], beginnings, side="right") - first

    def _beginnings(self, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """What the episodes of windows that start here, (n,), showed first: equal where they began alike."""
        row, env = np.divmod(starts, self.num_envs)
        beginnings: NDArray[np.int64] = self._beginning[row % self.capacity, env]
        return beginnings

    def _pairs(
        self,
        chosen: NDArray[np.int64],
        segment_steps: int,
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> Pairs:
        """The windows at these places, (n, K)."""
        row, env = np.divmod(starts[chosen], self.num_envs)
        return Pairs(self, segment_steps, row, env, lengths[chosen])

    def _windows(self, segment_steps: int, newest: int, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Every window in the newest vector steps: its start, (vector step) * n_envs + environment, and its length.

        With `same_start` those that begin an episode, where `k` of them begin alike.
        """
        rows = self._newest_rows(newest)
        episode = self._episode[rows]
        length = np.zeros(episode.shape, np.int64)
        if len(rows) >= segment_steps:
            # Consecutive rows of one environment with the same episode at both ends have it all the way between.
            whole = episode[segment_steps - 1 :] == episode[: len(rows) - segment_steps + 1]
            length[: len(whole)][whole] = segment_steps
        if self.ends_early_since is not None:
            terminated = self._terminated[rows]
            for short in range(1, min(segment_steps, len(rows) + 1)):
                ends = terminated[short - 1 :] & (episode[short - 1 :] == episode[: len(rows) - short + 1])
                length[: len(ends)][ends & (length[: len(ends)] == 0)] = short
        if self.same_start:
            length[self._offset[rows] > 0] = 0
        found = np.flatnonzero(length)
        starts, lengths = found + (self._rows - len(rows)) * self.num_envs, length.reshape(-1)[found]
        if self.same_start:
            _, kind, alike = np.unique(self._beginnings(starts), return_inverse=True, return_counts=True)
            starts, lengths = starts[alike[kind] >= k], lengths[alike[kind] >= k]
        return starts, lengths


def _as_bytes(scenes: NDArray[Any] | None) -> Any:
    """Scenes as a checkpoint can hold them: pictures, which are JPEG files of any length, as a list of them."""
    if scenes is None or scenes.dtype != object:
        return scenes
    return {"shape": scenes.shape, "files": [file or b"" for file in scenes.ravel().tolist()]}


def _as_objects(kept: Any) -> NDArray[Any] | None:
    """What `_as_bytes` was given."""
    if not isinstance(kept, Mapping):
        return kept  # type: ignore[no-any-return]
    scenes = np.zeros(len(kept["files"]), object)
    scenes[:] = [file or 0 for file in kept["files"]]
    return scenes.reshape(kept["shape"])


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of windows, or K at a time, into a recorder's ring: questions that could be asked, before one is.

    A view that is valid until the recorder's next step; `queries` cuts the segments that own their data.

    Attributes:
        recorder: what the windows are in.
        segment_steps: steps T in a window.
        row: (n, K) vector step, counted from the start of the run, at which each window begins; of pairs K is 2.
        env: (n, K) environment of each window.
        length: (n, K) steps of each window, T unless its episode ended by itself.
    """

    recorder: Recorder
    segment_steps: int
    row: NDArray[np.int64]
    env: NDArray[np.int64]
    length: NDArray[np.int64]

    def __len__(self) -> int:
        """Pairs, or sets of K, n."""
        return len(self.row)

    def __getitem__(self, chosen: NDArray[np.int64]) -> Pairs:
        """The chosen pairs, in the order given."""
        return Pairs(self.recorder, self.segment_steps, self.row[chosen], self.env[chosen], self.length[chosen])

    def steps(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """The steps the windows cover, each once however many windows share it.

        Returns:
            Steps (m,) as `Recorder.at` takes them, index (n, K, T) into them, and mask (n, K, T), which is 1 on the
            steps of a window and 0 after its end.
        """
        within = np.arange(self.segment_steps) < self.length[..., None]
        ring = (self.row[..., None] + np.where(within, np.arange(self.segment_steps), 0)) % self.recorder.capacity
        cells = ring * self.recorder.num_envs + self.env[..., None]
        seen = np.zeros(self.recorder.capacity * self.recorder.num_envs, bool)
        seen[cells] = True
        used = np.flatnonzero(seen)
        place = np.cumsum(seen) - 1
        return used, place[cells], within.astype(np.float32)

    def true_returns(self) -> NDArray[np.float64]:
        """True return of each window, (n, K): for evaluation only."""
        within = np.arange(self.segment_steps) < self.length[..., None]
        ring = (self.row[..., None] + np.arange(self.segment_steps)) % self.recorder.capacity
        rewards = np.where(within, self.recorder._rewards[ring, self.env[..., None]], 0.0)
        returns: NDArray[np.float64] = rewards.sum(-1)
        return returns

    def occasions(self) -> list[tuple[Occasion, ...]]:
        """When the windows of each begin, of a pair left and right."""
        recorder, ring = self.recorder, self.row % self.recorder.capacity
        seed = np.full(self.row.shape, recorder.run_seed)
        at = np.stack([seed, self.env, recorder._episode[ring, self.env], recorder._offset[ring, self.env]], axis=-1)
        return [tuple(Occasion(*one) for one in each) for each in at.tolist()]

    def queries(self, kind: str = "pair") -> list[Query]:
        """Each as a query of this kind, whose segments own copies of their data."""
        return [
            Query.of([self._segment(*map(int, where)) for where in zip(rows, envs, lengths, strict=True)], kind)
            for rows, envs, lengths in zip(self.row, self.env, self.length, strict=True)
        ]

    def _segment(self, row: int, env: int, length: int) -> Segment:
        recorder = self.recorder
        ring = np.arange(row, row + length) % recorder.capacity
        observations, actions = recorder.at(ring * recorder.num_envs + env)
        shown = np.arange(row, row + length) % recorder.window
        scene = None if recorder._scenes is None else recorder._scenes[shown, env]
        return Segment(
            observations=observations,
            actions=actions,
            rewards=recorder._rewards[ring, env],
            env_id=recorder.env_id,
            step=recorder.steps,
            seed=recorder.run_seed,
            env_index=env,
            episode=int(recorder._episode[ring[0], env]),
            offset=int(recorder._offset[ring[0], env]),
            scene=scene.astype("S") if scene is not None and scene.dtype == object else scene,
        )
