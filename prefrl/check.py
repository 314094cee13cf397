"""`prefrl check ID`: is this environment fit for learning from preferences? Each line that is not ok carries its fix.

The environment is played as a run would play it, and what is said is measured: the API and the seeding, what can be
read off an observation, where episodes end, what the oracle could tell apart, whether a person could watch.

Neither torch nor Gymnasium is imported before a check begins, so that `--help` stays quick.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from prefrl.preference import UserError

FEWEST_STEPS = 400
LINEAR = 0.999  # correlation from which one number is another one, scaled and shifted
CELLS = 20  # a picture is looked at in this many bands of rows, and as many of columns
PAIRS = 300  # questions that the oracle is asked
ENVS = 8  # environments in parallel, where a run would have several

# Gymnasium's advice about bounds. Inputs are normalised here, and `spaces_findings` has its own word on actions.
NOT_OURS = ("infinity", "symmetric and normalized")

ENVPOOL = 'pip install "prefrl[fast]", which brings EnvPool.'
DISPLAY = "osmesa|egl|opengl|glfw|display"
PACKAGES = {
    "pygame": "pip install pygame-ce.",
    "box2d": 'pip install swig "gymnasium[box2d]".',
    "cv2|opencv": "pip install opencv-python-headless.",
    "envpool": ENVPOOL,
    "rom": "pip install --upgrade ale-py, whose wheels carry the ROMs, and unset ALE_ROMS_DIR.",
    "ale_py": "pip install ale-py.",
    DISPLAY: "install OSMesa (Debian: apt install libosmesa6) and set MUJOCO_GL=osmesa.",
    "mujoco": "pip install mujoco.",
}
"""A word in a message about something that is not installed, and what brings it."""


@dataclass(frozen=True)
class CheckConfig:
    """Say whether an environment is fit for learning from preferences: a line for each question, and how to fix it."""

    env: tyro.conf.Positional[str]
    """Gymnasium id, or "package:Id-v0" to import a package first."""
    env_kwargs: tuple[str, ...] | None = None
    """Arguments of the environment, as name=value. Default: as for a run, by family."""
    seed: int = 0
    """Seeds the episodes and the actions."""
    steps: int = 6000
    """Steps to judge by: half with random actions, a quarter standing still, a quarter holding random actions. A
    quarter as many again are taken as a run takes them, several environments at a time."""
    json: bool = False
    """Print one JSON object in place of lines."""


@dataclass(frozen=True)
class Finding:
    """One question about the environment, and its answer.

    Attributes:
        name: a word for the question.
        level: "ok"; "warning", worth knowing; "fail", learning from preferences would go wrong.
        says: what was found, one sentence.
        fix: what to do about it; empty where all is well.
    """

    name: str
    level: Literal["ok", "warning", "fail"]
    says: str
    fix: str = ""


@dataclass(frozen=True, eq=False)
class Rollout:
    """What happened, step by step.

    Attributes:
        shown: (m, d) each observation in order, those of resets included: a vector, or the sums over a picture's cells.
        at: (n,) row of `shown` that each step acted on; the next row is what it led to.
        content: (n, d) of a picture, a number that tells what each cell holds after the step; (n, 0) of a vector.
        rewards: (n,) raw.
        episode: (n,) count of episodes before this one.
        offset: (n,) steps since the reset.
        ended: (n,) 0 where the episode goes on, 1 where a time limit cut it off, 2 where it ended by itself.
        info: the numbers in `info` by key, each (n,), NaN where there is none.
        raised: what the environment raised and where, as a clause; empty if it did not.
    """

    shown: NDArray[np.float32]
    at: NDArray[np.int64]
    content: NDArray[np.uint32]
    rewards: NDArray[np.float64]
    episode: NDArray[np.int64]
    offset: NDArray[np.int64]
    ended: NDArray[np.int64]
    info: dict[str, NDArray[np.float64]]
    raised: str

    @property
    def scores(self) -> NDArray[np.float64]:
        """Sum of the episode's rewards before each step, (n,)."""
        before = np.cumsum(self.rewards) - self.rewards
        starts = np.flatnonzero(self.offset == 0)
        return before - np.repeat(before[starts], np.diff(starts, append=len(before)))


def run_check(config: CheckConfig) -> int:
    """Print what `examine` finds; 0 when no line fails, else 1.

    Raises:
        UserError: unknown id, malformed arguments, or too few steps.
    """
    with contextlib.redirect_stdout(sys.stderr):  # an environment may print
        findings = examine(config)
    levels = [finding.level for finding in findings]
    failed, warned = levels.count("fail"), levels.count("warning")
    verdict = "not fit" if failed else "fit"
    if config.json:
        about = {"env": config.env, "seed": config.seed, "steps": config.steps, "verdict": verdict}
        print(json.dumps({**about, "findings": [asdict(finding) for finding in findings]}, indent=2))
        return int(failed > 0)
    marks = {"ok": "ok", "warning": "warn", "fail": "FAIL"}
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{marks[finding.level]:<4}  {finding.name:<{width}}  {finding.says}")
        if finding.level != "ok":
            print(f"      {'':<{width}}  fix: {finding.fix}")
    print(f"{config.env} is {verdict} for learning from preferences: {failed} failed, {warned} warned.")
    return int(failed > 0)


def examine(config: CheckConfig) -> list[Finding]:
    """Play the environment and say what was found, most basic first.

    Raises:
        UserError: unknown id, malformed arguments, or too few steps.
    """
    from prefrl import presets, resolve
    from prefrl.config import BaselineConfig
    from prefrl.vector import find_spec, make_env

    if config.steps < FEWEST_STEPS or config.seed < 0:
        raise UserError(
            f"steps={config.steps} with seed={config.seed}: a check takes {FEWEST_STEPS} steps or more, and a seed of "
            f"zero or more."
        )
    spec = find_spec(config.env)
    presets.name_value(config.env_kwargs or (), "environment argument")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            about = resolve.look_at(BaselineConfig(env=config.env, env_kwargs=config.env_kwargs))
            kwargs = presets.name_value(about.kwargs, "environment argument")
            env, base = make_env(config.env, kwargs), make_env(config.env, kwargs).unwrapped
        except Exception as error:  # whatever an environment raises while it is made is the finding
            fix = _package(error, "change the environment, or its arguments (--env-kwargs), as the line says.")
            return [Finding("made", "fail", _sentence(_one_line(error)), fix)]
        findings = [
            Finding("made", "ok", f"made with {', '.join(about.kwargs) or 'no arguments'}."),
            api_finding(base, config.seed, [str(warning.message) for warning in told]),
        ]
    with warnings.catch_warnings(), ThreadPoolExecutor(1) as beside:
        warnings.simplefilter("ignore")  # said once, above
        drawn = beside.submit(rendering_finding, base)
        findings.append(seeding_finding(env, config.seed, bool(spec.nondeterministic)))
        plan = (("random", config.steps // 2), ("still", config.steps // 4), ("held", config.steps // 4))
        rollout = roll(env, plan, config.seed)
        findings += [*spaces_findings(env, base), *sound_findings(rollout)]
        rollout = sound_part(rollout)
        horizon = env.spec.max_episode_steps if env.spec else None
        findings += episode_findings(rollout, horizon, about.segment_steps)
        if len(rollout.rewards):
            findings += [reward_finding(rollout, config.steps // 2), score_finding(rollout, config.steps // 2, env)]
            findings += [readable_finding(rollout, env), info_finding(rollout)]
        if not {"steps", "finite", "segment"} & {finding.name for finding in findings if finding.level == "fail"}:
            findings += oracle_findings(config, kwargs, about.segment_steps)
        findings.append(drawn.result())
        env.close()
        base.close()
    return findings


# --- playing it ------------------------------------------------------------------------------------------------------


def roll(env: Any, plan: Sequence[tuple[str, int]], seed: int, action_seed: int | None = None) -> Rollout:
    """Play an environment for a number of steps in each of several ways, and keep what the findings need.

    Args:
        env: a single environment as `prefrl.vector.make_env` gives it.
        plan: ways and their steps. "random": an action drawn each step. "still": zero, or the first choice. "held": an
            action drawn each 100 steps.
        seed: of the first reset of the first way; the second way begins from seed + 1, and so on.
        action_seed: of the actions; `seed` if None.
    """
    from prefrl.reward_model import channels_first, is_image

    space = env.action_space
    space.seed(seed if action_seed is None else action_seed)
    channels = None
    if is_image(env.observation_space):
        depth, height, width = channels_first(env.observation_space.shape)
        channels = 0 if env.observation_space.shape == (depth, height, width) else -1
        marks = (np.arange(1, height * width + 1) ** 2 % 8191).reshape(height, width, 1)
    shown: list[NDArray[np.float32]] = []
    content: list[NDArray[Any]] = []
    steps: list[tuple[int, float, int, int, int]] = []
    infos: list[dict[str, float]] = []
    raised, episode, doing, action = "", -1, "", None
    try:
        for number, (way, count) in enumerate(plan):
            offset = -1
            for step in range(count):
                if offset < 0:
                    episode, offset = episode + 1, 0
                    doing, action = f"in the reset of episode {episode}", None
                    observation, _ = env.reset(seed=seed + number if step == 0 else None)
                    shown.append(_summary(_picture(env, observation, channels), channels))
                if way == "random" or (way == "held" and offset % 100 == 0):
                    action = space.sample()
                elif way == "still" and offset == 0:
                    action = still(space)
                doing = f"at step {offset} of episode {episode}, with {way} actions"
                observation, reward, terminated, truncated, info = env.step(action)
                picture = _picture(env, observation, channels)
                ended = 2 if terminated else int(bool(truncated))
                steps.append((len(shown) - 1, float(reward), episode, offset, ended))
                infos.append({key: float(value) for key, value in info.items() if _is_number(value)})
                content.append(_cells(picture * marks) if channels is not None else np.zeros(0))
                shown.append(_summary(picture, channels))
                offset = -1 if ended else offset + 1
    except Exception as error:  # whatever an environment raises is the finding
        on = f", on action {_short(action)}" if action is not None else ""
        raised = f"{type(error).__name__} {doing}{on}: {_one_line(error)}"
    at, rewards, episodes, offsets, ends = np.array(steps, np.float64).reshape(-1, 5).T
    keys = sorted({key for info in infos for key in info})
    return Rollout(
        shown=np.array(shown, np.float32).reshape(len(shown), -1 if shown else 0),
        at=at.astype(np.int64),
        content=np.array(content, np.uint32).reshape(len(steps), -1 if steps else 0),
        rewards=rewards.copy(),
        episode=episodes.astype(np.int64),
        offset=offsets.astype(np.int64),
        ended=ends.astype(np.int64),
        info={key: np.array([info.get(key, np.nan) for info in infos], np.float64) for key in keys},
        raised=raised,
    )


def still(space: Any) -> Any:
    """The action of doing nothing, as far as the space says what that is: zero, or the first choice."""
    from gymnasium import spaces

    if isinstance(space, spaces.Box):
        return np.clip(np.zeros(space.shape), space.low, space.high).astype(space.dtype)
    return np.zeros(space.shape, space.dtype) if isinstance(space, spaces.MultiBinary) else space.start


def _picture(env: Any, observation: Any, channels: int | None) -> NDArray[Any]:
    """The observation as an array, a picture's channels last."""
    array = np.array(observation)
    if array.shape != env.observation_space.shape:
        raise ValueError(f"an observation of shape {array.shape} where {env.observation_space.shape} was declared")
    return array if channels is None else np.moveaxis(array, channels, -1)


def _summary(array: NDArray[Any], channels: int | None) -> NDArray[np.float32]:
    return array.astype(np.float32) if channels is None else _cells(array.astype(np.float32))


def _cells(picture: NDArray[Any]) -> NDArray[Any]:
    """Sums over the cells of a picture (h, w, c), (CELLS * CELLS * c)."""
    rows, columns = (np.arange(CELLS) * side // CELLS for side in picture.shape[:2])
    sums: NDArray[Any] = np.add.reduceat(np.add.reduceat(picture, rows, axis=0), columns, axis=1).reshape(-1)
    return sums


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.bool_)


def sound_part(rollout: Rollout) -> Rollout:
    """The steps before the first that shows or pays something not finite; NaN would drown every other finding."""
    bad = ~np.isfinite(rollout.rewards) | ~np.isfinite(rollout.shown[rollout.at + 1]).all(axis=1)
    bad |= ~np.isfinite(rollout.shown[rollout.at]).all(axis=1)
    n = int(np.argmax(bad)) if bad.any() else len(bad)
    return Rollout(
        **{name: getattr(rollout, name)[:n] for name in ("at", "content", "rewards", "episode", "offset", "ended")},
        shown=rollout.shown,
        info={key: values[:n] for key, values in rollout.info.items()},
        raised=rollout.raised,
    )


# --- what is found ---------------------------------------------------------------------------------------------------


def api_finding(base: Any, seed: int, told: list[str]) -> Finding:
    """Gymnasium's own checker on the unwrapped environment, and what Gymnasium warned of while it was made."""
    from gymnasium.utils.env_checker import check_env

    base.action_space.seed(seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            check_env(base, skip_render_check=True)
        except Exception as error:  # the checker asserts, and lets through what the environment raises
            fix = "change the environment until gymnasium.utils.env_checker.check_env passes."
            return Finding("api", "fail", _sentence(f"Gymnasium's checker says: {_one_line(error)}"), fix)
    heard = [re.sub(r"\x1b\[\d*m", "", text) for text in [*told, *(str(warning.message) for warning in caught)]]
    ours = [text.removeprefix("WARN: ") for text in heard if text.startswith("WARN: ")]
    ours = list(dict.fromkeys(text for text in ours if not any(phrase in text for phrase in NOT_OURS)))
    if ours:
        fix = "change the environment until gymnasium.utils.env_checker.check_env is silent."
        says = _sentence(f"Gymnasium's checker says: {' '.join(' '.join(ours).split())}")
        return Finding("api", "warning", says, fix)
    return Finding("api", "ok", "Gymnasium's checker finds nothing wrong.")


def seeding_finding(env: Any, seed: int, nondeterministic: bool, steps: int = 200) -> Finding:
    """Whether a seed and the actions decide the episode, and whether another seed gives another."""
    first, again, *others = (roll(env, [("random", steps)], s, seed) for s in (seed, seed, seed + 1, seed + 2))
    if (step := first_difference(first, again)) is not None:
        says = f"the same seed and the same actions give different episodes, from step {step} on."
        fix = "draw everything random from self.np_random, after super().reset(seed=seed) in reset()."
        return Finding("seeding", "warning" if nondeterministic else "fail", says, fix)
    if all(first_difference(first, other) is None for other in others):
        says = f"three seeds give the same {len(first.rewards)} steps under the same actions."
        fix = "none if that is meant; else draw the start from self.np_random, so that clips differ."
        return Finding("seeding", "warning", says, fix)
    return Finding("seeding", "ok", f"the same seed gives the same {len(first.rewards)} steps, another seed others.")


def first_difference(left: Rollout, right: Rollout) -> int | None:
    """The first step from, in, or after which two rollouts are not the same to the last bit; None if there is none."""
    n = min(len(left.rewards), len(right.rewards))
    differ = np.zeros(n + 1, bool)
    differ[n] = len(left.rewards) != len(right.rewards)
    for one, other in zip(_stepwise(left), _stepwise(right), strict=True):
        same = (one[:n] == other[:n]) | (np.isnan(one[:n]) & np.isnan(other[:n]))
        differ[:n] |= ~same.all(axis=1)
    return int(np.argmax(differ)) if differ.any() else None


def _stepwise(rollout: Rollout) -> tuple[NDArray[Any], ...]:
    """What each step began with, led to, paid and ended, (n, ...) each."""
    at, paid = rollout.at, np.stack([rollout.rewards, rollout.ended], axis=1)
    return rollout.shown[at], rollout.shown[at + 1], paid


def spaces_findings(env: Any, base: Any) -> list[Finding]:
    """What the learner sees and does, and how a picture is laid out."""
    from gymnasium import spaces

    from prefrl.reward_model import SMALLEST_IMAGE, channels_first, is_image

    seen, raw, act = env.observation_space, base.observation_space, env.action_space
    acts = f"{type(act).__name__}{tuple(act.shape)}" if isinstance(act, spaces.Box) else str(act)
    kind = f"{np.dtype(seen.dtype)} {seen.shape}"
    came = "" if raw.shape == seen.shape else f", flattened from {_short(raw)}"
    found = [Finding("spaces", "ok", f"a learner sees {kind}{came}, and acts in {acts}.")]
    if isinstance(act, spaces.Box) and np.isfinite([act.low, act.high]).all():
        reach = (act.high.astype(np.float64) - act.low) / 2
        if reach.max() > 10 or reach.min() < 0.1:
            says = f"actions span {act.low.min():g} to {act.high.max():g}, and a policy begins with noise of size 1."
            fix = "wrap it in gymnasium.wrappers.RescaleAction(env, -1, 1)."
            found.append(Finding("actions", "warning", says, fix))
    if is_image(seen):
        depth, height, width = channels_first(seen.shape)
        place = "first" if channels_first(seen.shape) == seen.shape else "last"
        found.append(Finding("image", "ok", f"{height} x {width} pixels, {depth} channels, {place}; uint8."))
    elif isinstance(raw, spaces.Box) and len(raw.shape) in (2, 3) and sorted(raw.shape)[-2] >= 16:
        says = f"observations {raw.shape} {raw.dtype} look like a picture and are taken as {seen.shape[0]} numbers."
        fix = (
            f"show uint8 from 0 to 255, height x width x channels or channels first, {SMALLEST_IMAGE} x "
            f"{SMALLEST_IMAGE} or more, to have a convolution; else nothing."
        )
        found.append(Finding("image", "warning", says, fix))
    return found


def sound_findings(rollout: Rollout) -> list[Finding]:
    """Whether every step could be taken, and everything shown and paid is finite."""
    steps, found = len(rollout.rewards), []
    if rollout.raised:
        fix = "let step() take every action of the action space, and end the episode where it cannot go on."
        found.append(Finding("steps", "fail", _sentence(f"the environment raised {rollout.raised}"), fix))
    else:
        episodes = int(rollout.episode[-1]) + 1
        found.append(Finding("steps", "ok", f"{steps} steps in {episodes} episodes, and none raised an error."))
    bad_reward = np.flatnonzero(~np.isfinite(rollout.rewards))
    bad_row, bad_column = np.nonzero(~np.isfinite(rollout.shown))
    bad = []
    if len(bad_reward):
        at = bad_reward[0]
        where = f"at step {rollout.offset[at]} of episode {rollout.episode[at]}"
        bad.append(f"the reward is {rollout.rewards[at]} {where} ({len(bad_reward)} of {steps} steps)")
    if len(bad_row):
        led = np.flatnonzero(rollout.at + 1 == bad_row[0])
        when = [f"after step {rollout.offset[at]} of episode {rollout.episode[at]}" for at in led] or ["at a reset"]
        bad.append(f"observation {bad_column[0]} is {rollout.shown[bad_row[0], bad_column[0]]} {when[0]}")
    if bad:
        fix = "find the division or overflow that makes it, and guard it."
        found.append(Finding("finite", "fail", f"{', and '.join(bad)}.", fix))
    elif steps:
        found.append(Finding("finite", "ok", "all observations and rewards are finite."))
    return found


def episode_findings(rollout: Rollout, horizon: int | None, segment_steps: int) -> list[Finding]:
    """Where episodes end, whether that tells the task, and whether a segment fits in."""
    last = np.flatnonzero(rollout.ended)
    lengths = rollout.offset[last] + 1
    returns = (rollout.scores + rollout.rewards)[last] if len(last) else np.zeros(0)
    by_itself = rollout.ended[last] == 2
    found = []
    if by_itself.any():
        low, high = lengths[by_itself].min(), lengths[by_itself].max()
        says = (
            f"{by_itself.sum()} of {len(last)} episodes ended by themselves, after {low} to {high} steps: where an "
            f"episode ends says something of the task that no person was asked about."
        )
        fix = "train with --fixed-horizon, which wraps it in prefrl.FixedHorizon, or take the end out of it."
        found.append(Finding("ending", "warning", says, fix))
    else:
        ran = f"{len(last)} ran into a time limit" if len(last) else "none was over"
        says = f"no episode ended by itself ({rollout.episode.max(initial=-1) + 1} begun, {ran})."
        found.append(Finding("ending", "ok", says))
    if len(last) and np.ptp(lengths) == 0:
        found.append(Finding("length", "ok", f"{len(last)} episodes, {lengths[0]} steps each: length tells nothing."))
    elif len(last) > 1:
        r = _correlation(lengths, returns)
        says = f"episodes have {lengths.min()} to {lengths.max()} steps, correlation with their true return {r:+.2f}"
        if abs(r) > 0.3 and abs(r) * np.sqrt(len(last)) > 3:
            fix = "train with --fixed-horizon; answers alone should say what is better."
            found.append(Finding("length", "warning", f"{says}: the length gives the task away.", fix))
        else:
            found.append(Finding("length", "ok", f"{says} over {len(last)} episodes."))
    if horizon is None and not (rollout.ended == 1).any():
        fix = "register it with max_episode_steps, or pass --env-kwargs max_episode_steps=1000."
        found.append(Finding("horizon", "warning", "there is no time limit, so an episode may never end.", fix))
    else:
        limit = f"{horizon} steps" if horizon else "its own"
        found.append(Finding("horizon", "ok", f"the time limit is {limit}."))
    middle = float(np.median(lengths)) if len(last) else np.inf
    says = f"a segment has {segment_steps} steps"
    if horizon is not None and segment_steps > horizon:
        fix = f"give --segment-steps {max(1, horizon // 2)} or fewer, or another metadata['segment_steps']."
        found.append(Finding("segment", "fail", f"{says} and an episode at most {horizon}.", fix))
    elif segment_steps > middle:
        fix = f"give --segment-steps {max(1, int(middle) // 2)} or so, or train with --fixed-horizon."
        found.append(Finding("segment", "warning", f"{says} and half of the episodes at most {middle:g}.", fix))
    else:
        found.append(Finding("segment", "ok", f"{says}, and fits in an episode."))
    return found


def reward_finding(rollout: Rollout, random_steps: int) -> Finding:
    """How the true reward is scaled and how often it is paid, under random actions."""
    rewards = rollout.rewards[:random_steps]
    says = (
        f"per random step mean {rewards.mean():.4g}, standard deviation {rewards.std():.4g}, from {rewards.min():.4g} "
        f"to {rewards.max():.4g}; {np.mean(rewards == 0):.1%} are zero."
    )
    return Finding("reward", "ok", says)


def score_finding(rollout: Rollout, random_steps: int, env: Any) -> Finding:
    """Whether the score so far can be read off an observation: as a number, or as digits that change when it does.

    Digits are looked for under random actions: other actions repeat one course of events, in which anything may happen
    with every reward.
    """
    scores = rollout.scores
    n = random_steps
    counting = score_cells(rollout.content[:n], rollout.rewards[:n], rollout.episode[:n])
    if counting.any():
        says = f"{_place(env, np.flatnonzero(counting))} changes with each reward and not between them: a score."
        return Finding("score", "fail", says, "blank those pixels, in the observation and not in what a person sees.")
    if len(np.unique(scores.round(9))) < 5:
        return Finding("score", "ok", "too few rewards were paid to see whether an observation holds their sum.")
    if np.ptp(rollout.rewards) == 0:
        return Finding("score", "ok", "the reward is the same at every step, so that the score is a clock.")
    r = alignment(rollout.shown, rollout.at, scores, rollout.episode, rollout.offset)
    if r.max(initial=0) > LINEAR:
        says = f"{_place(env, np.flatnonzero(r > LINEAR)[:1])} is the sum of the rewards so far (r = {r.max():.5f})."
        fix = "leave it out of the observation, or the learned reward reads the score instead of the answers."
        return Finding("score", "fail", says, fix)
    return Finding("score", "ok", f"no observation holds the score so far (nearest r = {r.max(initial=0):.3f}).")


def readable_finding(rollout: Rollout, env: Any) -> Finding:
    """Whether one number of an observation is the reward: no fault of a state, and an easy task."""
    if len(np.unique(rollout.rewards)) < 3:
        return Finding("readable", "ok", "the reward has fewer than three values: whether one is shown was not tested.")
    r, when = max(
        (
            (alignment(rollout.shown, rollout.at + later, rollout.rewards), f"{word} the step")
            for later, word in ((0, "before"), (1, "after"))
        ),
        key=lambda both: both[0].max(initial=0),
    )
    if r.max(initial=0) > LINEAR:
        where = _place(env, np.flatnonzero(r > LINEAR)[:1])
        says = f"{where} {when} is the step's reward, scaled and shifted (r = {r.max():.5f}): an easy task."
        fix = "none if it belongs to the state, as a velocity does; if it is the reward handed on, leave it out."
        return Finding("readable", "warning", says, fix)
    return Finding("readable", "ok", f"no single number shown is the reward (nearest r = {r.max(initial=0):.3f}).")


def info_finding(rollout: Rollout) -> Finding:
    """Which numbers in `info` are reward or score; no learner here is given `info`."""
    after = rollout.scores + rollout.rewards
    known = {key: values for key, values in rollout.info.items() if np.isfinite(values).all()}
    index = np.arange(len(after))
    told = [
        f"info[{key!r}] is the {word}"
        for key, values in known.items()
        for word, target in (("reward", rollout.rewards), ("score", after))
        if np.ptp(target) > 0 and alignment(values[:, None], index, target)[0] > LINEAR
    ]
    if told:
        return Finding("info", "ok", f"{', '.join(told)}; no learner here is given info, and none of yours should be.")
    return Finding("info", "ok", "no number in info is the reward or the score.")


def oracle_findings(config: CheckConfig, kwargs: dict[str, Any], segment_steps: int) -> list[Finding]:
    """What steps it in a run, and how many pairs of untrained behaviour an oracle would call equal."""
    from prefrl.labelers.oracle import make_oracle
    from prefrl.recorder import Recorder
    from prefrl.vector import EnvPoolVecEnv, GymnasiumVecEnv, find_spec, make_vec_env

    rows = max(config.steps // 4 // ENVS, 3 * segment_steps)
    rng = np.random.default_rng(config.seed)
    try:
        made = make_vec_env(config.env, ENVS, config.seed, "auto", kwargs)
        env = Recorder(made, config.env, config.seed, keep_steps=5 * rows * ENVS)
        env.action_space.seed(config.seed)
        env.reset()
        rates = {}
        for way, hold in (("untrained", 1), *[("held", 100)] * 4):  # held again and again until something is paid
            for row in range(rows):
                if row % hold == 0:
                    actions = np.stack([env.action_space.sample() for _ in range(ENVS)])
                env.step(actions)
            pairs, oracle = env.pairs(PAIRS, segment_steps, rng), make_oracle(["oracle"], config.seed)
            parts = (pairs[np.arange(i, i + 20)] for i in range(0, PAIRS, 20))  # a few at a time: they own their frames
            rates[way] = float(np.mean([answer.mu == 0.5 for part in parts for answer in oracle(part.queries())]))
            if rates[way] < 1:
                break
        env.close()
    except Exception as error:  # what the single environment raised is said already; this one stands for a run
        return [
            Finding("run", "fail", _sentence(_one_line(error)), _package(error, "mend the first line that is not ok."))
        ]
    spec = find_spec(config.env)
    entry = str(spec.entry_point)
    pooled = entry.startswith("gymnasium.envs.mujoco") or (spec.vector_entry_point is not None and "mujoco" in entry)
    if isinstance(made, EnvPoolVecEnv | GymnasiumVecEnv):
        by = "EnvPool, in C++" if isinstance(made, EnvPoolVecEnv) else "a vector environment of its own"
        found = [Finding("run", "ok", f"{ENVS} environments are stepped by {by}.")]
    elif pooled and importlib.util.find_spec("envpool") is None:
        says = f"{ENVS} environments are stepped in turn, because EnvPool is not installed."
        found = [Finding("run", "warning", says, ENVPOOL)]
    else:
        found = [Finding("run", "ok", f"{ENVS} environments are stepped in turn, each by its own step().")]
    equal = f"of {PAIRS} pairs of random behaviour an oracle calls {rates['untrained']:.0%} equal"
    fix = "give longer segments (--segment-steps), a denser reward, or questions to people rather than an oracle."
    if rates.get("held") == 1:
        found.append(Finding("ties", "fail", f"{equal}, and no less where actions are held: nothing to learn.", fix))
    elif "held" in rates:
        says = f"{equal}, {rates['held']:.0%} with pairs in which actions were held."
        found.append(Finding("ties", "warning", says, fix))
    else:
        often = rates["untrained"] > 0.5
        found.append(Finding("ties", "warning" if often else "ok", f"{equal}.", fix if often else ""))
    return found


# --- reading off -----------------------------------------------------------------------------------------------------


def alignment(
    shown: NDArray[Any],
    rows: NDArray[np.int64],
    target: NDArray[np.float64],
    episode: NDArray[np.int64] | None = None,
    clock: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """|Pearson correlation| of each column of `shown[rows]` with `target`, (d,); 0 where either is constant.

    Args:
        shown: (m, d).
        rows: (n,) into `shown`.
        target: (n,).
        episode: (n,) in order; differences between episodes are taken out of both sides.
        clock: (n,) steps since the reset; what is linear in it is taken out of both sides, so that a clock is not
            mistaken for a score that rises steadily.
    """
    groups = np.zeros(len(target), np.int64) if episode is None else np.unique(episode, return_inverse=True)[1]
    counts = np.bincount(groups)
    starts = np.cumsum(counts) - counts

    def centred(values: NDArray[Any]) -> NDArray[np.float64]:
        wide = values.astype(np.float64)
        return wide - (np.add.reduceat(wide, starts, axis=0) / counts[:, None])[groups]

    def cleaned(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        left = centred(values)
        if clock is not None and np.ptp(clock):
            time = centred(clock[:, None])[:, 0]
            left -= np.outer(time, time @ left / (time @ time))
        size = np.linalg.norm(left, axis=0)
        rounding = 1e-6 * np.sqrt(len(values)) * np.abs(values).max(axis=0)
        return left, np.where(size > rounding, size, np.inf)

    if len(target) < 30:  # too few for a correlation near 1 to mean anything
        return np.zeros(shown.shape[1])
    aim, aim_size = cleaned(target[:, None])
    columns = [slice(i, i + 256) for i in range(0, shown.shape[1], 256)]  # observations may be 10,000 wide
    parts = [cleaned(shown[rows, block]) for block in columns]
    return np.concatenate([np.abs(aim[:, 0] @ left) / (size * aim_size) for left, size in parts])


def score_cells(
    content: NDArray[np.uint32], rewards: NDArray[np.float64], episode: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """The cells of a picture (d,) that stay as they are from one reward to the next and are other after it.

    So a score's digits do, and pieces of the game do not. Of each stretch between rewards the commonest content counts:
    a digit may be drawn some frames late, and an older frame of a stack shows it later still. Only rewards of the
    commoner sign count: a penalty need not be on the screen. On six Atari games and five seeds, 3000 steps each, some
    cell of each score was steady for 0.77 of a stretch or more and changed with 0.81 of the rewards or more; with the
    score blanked, no cell as steady changed with more than 0.60.

    Args:
        content: (n, d).
        rewards: (n,). Stretches of five steps and fewer are left out, and fewer than ten rewards say nothing.
        episode: (n,).
    """
    nothing = np.zeros(content.shape[1], bool)
    edges = np.flatnonzero((rewards[:-1] != 0) | (np.diff(episode) != 0)) + 1
    stretches = [slice(a, b) for a, b in pairwise([0, *edges.tolist(), len(rewards)]) if b - a > 5]
    sign = 1 if (rewards > 0).sum() >= (rewards < 0).sum() else -1
    counts = [episode[a.start] == episode[b.start] and rewards[b.start - 1] * sign > 0 for a, b in pairwise(stretches)]
    if sum(counts) < 10 or not content.size:
        return nothing
    held = np.array([np.quantile(content[part], 0.5, axis=0, method="lower") for part in stretches], np.uint32)
    steady = np.mean([(content[part] == h).mean(axis=0) for part, h in zip(stretches, held, strict=True)], axis=0)
    changed = (held[1:] != held[:-1])[counts].mean(axis=0)
    return np.asarray((steady > 0.75) & (changed > 0.75))


def _place(env: Any, features: NDArray[np.int64]) -> str:
    """Where features are: an observation's index, or the part of the picture that holds these cells."""
    from prefrl.reward_model import channels_first, is_image

    if not is_image(env.observation_space):
        return f"observation {features[0]}"
    depth, height, width = channels_first(env.observation_space.shape)
    row, column = np.divmod(features // depth, CELLS)
    top, bottom = row.min() * height // CELLS, (row.max() + 1) * height // CELLS
    left, right = column.min() * width // CELLS, (column.max() + 1) * width // CELLS
    return f"the picture in rows {top} to {bottom - 1} and columns {left} to {right - 1}"


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else 0.0


# --- drawing it ------------------------------------------------------------------------------------------------------


def rendering_finding(base: Any) -> Finding:
    """Whether a person could be shown it, tried in a process of its own: a missing display may end the process."""
    fix = "declare 'rgb_array' in metadata['render_modes'] and return (h, w, 3) uint8 from render(), or ask an oracle."
    modes = base.metadata.get("render_modes") or []
    if "rgb_array" not in modes:
        says = f"it has no render mode 'rgb_array' (it has {list(modes)}): a person cannot be shown it."
        return Finding("rendering", "warning", says, fix)
    uses_mujoco = any("mujoco" in kind.__module__ for kind in type(base).__mro__)
    try:
        spec = pickle.dumps(base.spec)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        says = f"it cannot be drawn in a process of its own: {_one_line(error)}."
        return Finding("rendering", "warning", says, "register it by an importable entry point, 'module:Class'.")
    said = draw_apart(spec, None)
    if "error" in said and uses_mujoco and "MUJOCO_GL" not in os.environ:
        for library in ("egl", "osmesa"):
            if "error" not in draw_apart(spec, library):
                says = f"it can be drawn where MUJOCO_GL={library} is set, and it is not; oracles need no pictures."
                return Finding("rendering", "warning", says, f"set MUJOCO_GL={library} before people are asked.")
    if "error" in said:
        says = f"it cannot be drawn for a person ({said['error']}); oracles need no pictures."
        return Finding("rendering", "warning", says, _package(said["error"], PACKAGES[DISPLAY] if uses_mujoco else fix))
    if len(said["shape"]) != 3 or said["shape"][2] != 3 or said["dtype"] != "uint8" or not said["varies"]:
        what = "of one colour" if not said["varies"] else f"{said['shape']} {said['dtype']}"
        return Finding("rendering", "warning", f"render() returns a picture {what}.", fix)
    return Finding("rendering", "ok", f"a person can be shown it, {said['shape'][1]} x {said['shape'][0]} pixels.")


def draw_apart(spec: bytes, library: str | None) -> dict[str, Any]:
    """Make, reset and draw an environment in another process.

    Args:
        spec: Gymnasium's specification, pickled; it goes to our own process and nowhere else.
        library: what MUJOCO_GL is set to; None leaves it as it is.

    Returns:
        shape, dtype and varies (whether its pixels differ), or error, a clause.
    """
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)} | ({"MUJOCO_GL": library} if library else {})
    command = [sys.executable, "-c", "from prefrl.check import draw; draw()"]
    try:
        done = subprocess.run(command, input=spec, capture_output=True, env=environ, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return {"error": "it took more than two minutes"}
    try:
        said: dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
    except (IndexError, ValueError):
        code = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
        return {"error": f"drawing it ended the process, {code}"}
    return said


def draw() -> None:
    """The other process of `draw_apart`: draw the environment that standard input specifies, and say what came out."""
    import gymnasium

    try:
        env: Any = gymnasium.make(pickle.load(sys.stdin.buffer), render_mode="rgb_array", disable_env_checker=True)
        env.reset(seed=0)
        picture = np.asarray(env.render())
        varies = bool(picture.size and (picture != picture.flat[0]).any())
        said: dict[str, Any] = {"shape": picture.shape, "dtype": str(picture.dtype), "varies": varies}
    except Exception as error:  # whatever drawing raises is the answer
        said = {"error": _one_line(error)}
    print("\n" + json.dumps(said), flush=True)
    os._exit(0)  # a half-made OpenGL context may abort the process when it is torn down


# --- words -----------------------------------------------------------------------------------------------------------


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _sentence(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _package(error: Exception | str, otherwise: str) -> str:
    """What to install, where an error is about something missing; an exception says so by its kind or its cause's."""
    from gymnasium.error import DependencyNotInstalled

    if isinstance(error, Exception) and not isinstance(error.__cause__ or error, ImportError | DependencyNotInstalled):
        return otherwise
    found = [fix for words, fix in PACKAGES.items() if re.search(rf"\b({words})", str(error), re.IGNORECASE)]
    module = re.search(r"No module named '(\w+)", str(error))
    return [*found, f"install the package that has the module {module[1]!r}." if module else otherwise][0]
