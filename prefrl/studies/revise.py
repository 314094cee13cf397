"""Critique and revise: behaviour begun anew from where it was, until it keeps the principles better, to be cloned.

The supervised phase of Constitutional AI (Bai et al. 2022, arXiv 2212.08073, section 3) has a model criticise its reply
and write a better one. Here a policy's stretch of behaviour is judged beside others that it might have acted from
the same moment, and the one that keeps the principles best is kept. The second phase, learning from the judge's
preferences, is `prefrl train --labeler judge --demonstrations` of what is kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from prefrl.experience.clips import Artist, find_display, has_joints, jpeg, without_screen
from prefrl.experience.guard import Guard
from prefrl.policies.demonstrations import FILE
from prefrl.queries.constitution import Constitution, read_constitution
from prefrl.queries.judge import Judge
from prefrl.runs.saved import SavedRun
from prefrl.words.errors import UserError, blamed_on
from prefrl.words.preference import Query, Segment
from prefrl.words.process import drawing_from
from prefrl.words.tensors import save_tensors

Act = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Revision:
    """One start.

    Attributes:
        seed: of the reset.
        offset: steps taken before the stretch begins, the same each time.
        kept: which of the n stretches was kept; 0 is the one that the policy acted first.
        critique: what the judge said when the kept one was last compared; "" where nothing was better than the first.
    """

    seed: int
    offset: int
    kept: int
    critique: str


def revise(
    run: SavedRun,
    constitution: Path,
    out: Path,
    starts: int = 100,
    n: int = 8,
    segment_steps: int = 50,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Have a run's policy act from many moments, n times from each, and keep what keeps the principles best.

    Args:
        run: whose policy acts.
        constitution: the principles' file.
        out: folder for what is kept, as `--demonstrations` reads it, and for what was said; made here.
        starts: moments.
        n: stretches from each.
        segment_steps: of a stretch; it is shorter where the episode ends.
        seed: of the first reset, and of what is drawn.

    Returns:
        For each principle with a predicate, the share of steps on which it holds: of the first stretches, and of those
        that were kept.

    Raises:
        UserError: the folder is there; a number is out of range; the environment does not come to the same place from
            the same seed and actions; or the judge fails.
    """
    if starts < 1 or n < 2 or segment_steps < 1 or seed < 0:
        raise UserError(
            f"starts={starts}, n={n}, segment_steps={segment_steps} and seed={seed}: at least one start and one step, "
            f"at least two stretches from each start, and a seed from 0 on."
        )
    if out.exists():
        raise UserError(f"{str(out)!r} exists already: give another folder with --out, or remove it.")
    principles = read_constitution(constitution)
    is_shown = principles.shows_frames
    if is_shown:
        find_display()
        without_screen()
    played = f"{run.config.env} with the policy of {str(run.folder)!r}"
    with (
        blamed_on(played, "`prefrl check` says what is wrong with it"),
        closing(run.make_env(**({"render_mode": "rgb_array"} if is_shown else {}))) as env,
        closing(Artist(run.task)) as artist,
        drawing_from(seed),
    ):
        judge = Judge(principles, out / "judge", artist.frames)
        stage = _Stage(Guard(env), run.policy.act, run.config.env, is_shown)
        rng = np.random.default_rng(seed)
        moments = [(seed + i, int(rng.integers(_longest(env, segment_steps)))) for i in range(starts)]
        first, kept, said = [], [], []
        for moment in moments:
            stretches, revision = _revised(stage, judge, *moment, n, segment_steps)
            first.append(stretches[0])
            kept.append(stretches[revision.kept])
            said.append(revision)
    _write(out, kept, said)
    return _shares(principles, first, kept)


def _longest(env: gym.Env[Any, Any], segment_steps: int) -> int:
    """So many offsets there are to begin a stretch at."""
    horizon = env.spec.max_episode_steps if env.spec is not None else None
    return max(1, (horizon or 10 * segment_steps) - segment_steps)


class _Stage:
    """Acts from a reset on, and comes back to where it was by the same seed and the same actions."""

    def __init__(self, env: gym.Env[Any, Any], act: Act, env_id: str, is_shown: bool) -> None:
        self.env, self.act, self.env_id, self.is_shown = env, act, env_id, is_shown

    def begin(self, seed: int, offset: int) -> tuple[list[NDArray[Any]], NDArray[Any]]:
        """The policy's actions until `offset`, and what it sees there; half as far where the episode ends before."""
        observation, _ = self.env.reset(seed=seed)
        taken: list[NDArray[Any]] = []
        for _ in range(offset):
            action = self.act(np.asarray(observation)[None])[0]
            then, _, terminated, truncated, _ = self.env.step(action)
            if terminated or truncated:
                return self.begin(seed, len(taken) // 2)
            taken, observation = [*taken, action], then
        return taken, np.array(observation)

    def come_back(self, seed: int, taken: Sequence[NDArray[Any]], there: NDArray[Any]) -> NDArray[Any]:
        """Where the environment was, once more.

        Raises:
            UserError: it is somewhere else.
        """
        observation, _ = self.env.reset(seed=seed)
        for action in taken:
            observation, *_ = self.env.step(action)
        if not np.array_equal(np.asarray(observation), there, equal_nan=True):
            raise UserError(
                f"{self.env_id} does not come to the same place from the same seed ({seed}) and the same {len(taken)} "
                f"actions, and behaviour can be revised only from where it was: take an environment whose reset(seed=) "
                f"decides all that it draws."
            )
        return np.array(observation)

    def stretch(self, observation: NDArray[Any], steps: int, seed: int, offset: int, number: int) -> Segment:
        """What the policy does from here."""
        seen, taken, paid, scenes = [], [], [], []
        for _ in range(steps):
            action = self.act(observation[None])[0]
            seen.append(observation)
            taken.append(action)
            if self.is_shown:
                scenes.append(self._scene())
            then, reward, terminated, truncated, _ = self.env.step(action)
            paid.append(float(reward))
            observation = np.array(then)
            if terminated or truncated:
                break
        origin = {"step": 0, "seed": seed, "env_index": number, "episode": 0, "offset": offset}
        rewards = np.array(paid)
        return Segment(np.stack(seen), np.stack(taken), rewards, self.env_id, scene=_as_scene(scenes), **origin)

    def _scene(self) -> Any:
        if has_joints(self.env):
            return np.array(self.env.unwrapped.data.qpos)  # type: ignore[attr-defined]
        return jpeg(self.env.render())  # type: ignore[arg-type]


def _as_scene(scenes: Sequence[Any]) -> NDArray[Any] | None:
    if not scenes:
        return None
    return np.array(scenes) if isinstance(scenes[0], bytes) else np.stack(scenes)


def _revised(stage: _Stage, judge: Judge, seed: int, offset: int, n: int, steps: int) -> tuple[list[Segment], Revision]:
    """The stretches of one start, and which was kept: each in turn is held against the best so far."""
    taken, there = stage.begin(seed, offset)
    stretches = [stage.stretch(stage.come_back(seed, taken, there), steps, seed, len(taken), i) for i in range(n)]
    best, critique = 0, ""
    for number in range(1, n):
        (answer,) = judge([Query(stretches[best], stretches[number])])
        if answer.mu is not None and answer.mu < 0.5:
            best, critique = number, answer.critique or ""
    return stretches, Revision(seed, len(taken), best, critique)


def _shares(
    principles: Constitution, first: Sequence[Segment], kept: Sequence[Segment]
) -> dict[str, tuple[float, float]]:
    before, after = principles.shares(first), principles.shares(kept)
    return {name: (before[name], after[name]) for name in before}


def _write(out: Path, kept: Sequence[Segment], said: Sequence[Revision]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)  # a model's replies may lie there by now
        arrays = {name: np.concatenate([getattr(s, name) for s in kept]) for name in ("observations", "actions")}
        save_tensors(out / FILE, {name: torch.as_tensor(array) for name, array in arrays.items()}, {})
        lines = [json.dumps(asdict(revision), ensure_ascii=False) for revision in said]
        (out / "revisions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {str(out)!r}: {error.strerror}; give another folder with --out.") from error
