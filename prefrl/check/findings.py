"""The questions, each answered by a sentence and a fix."""

from __future__ import annotations

import contextlib
import re
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prefrl.check.played import Rollout, before_flattening, first_difference, parts_of, roll, unsound
from prefrl.check.reading import alignment, place, score_cells
from prefrl.check.words import Finding, one_line, sentence, short

if TYPE_CHECKING:
    from prefrl.experience.task import Task
    from prefrl.runs.resolve import EnvironmentFacts

LINEAR = 0.999  # correlation from which one number is another one, scaled and shifted

# Gymnasium's advice about bounds. Inputs are normalised here, and `spaces_findings` has its own word on actions.
NOT_OURS = ("infinity", "symmetric and normalized")


def api_finding(task: Task, seed: int, told: list[str]) -> Finding:
    """Gymnasium's own checker on the unwrapped environment, and what Gymnasium warned of while it was made.

    Whatever a run takes as it is, such as float64 where float32 was declared, is a warning; what stops a run fails
    below, where it is stepped. Of determinism the line `seeding` has the last word: the checker resets an environment
    that was used, and takes NaN for another number.
    """
    from gymnasium.utils.env_checker import check_env

    base = task.make().unwrapped
    base.action_space.seed(seed)
    fix = "change the environment until gymnasium.utils.env_checker.check_env passes; a run takes it as it is."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            check_env(base, skip_render_check=True, skip_close_check=True)
        except Exception as error:  # the checker asserts, and lets through what the environment raises
            if "determinis" not in str(error).lower():
                says = sentence(f"Gymnasium's checker says: {_said(error)}")
                return Finding("api", "warning", says, fix)
        finally:
            with contextlib.suppress(Exception):
                base.close()
    heard = [re.sub(r"\x1b\[\d*m", "", text) for text in [*told, *(str(warning.message) for warning in caught)]]
    ours = [text.removeprefix("WARN: ") for text in heard if text.startswith("WARN: ")]
    ours = list(dict.fromkeys(text for text in ours if not any(phrase in text for phrase in NOT_OURS)))
    if ours:
        fix = "change the environment until gymnasium.utils.env_checker.check_env is silent."
        says = sentence(f"Gymnasium's checker says: {' '.join(' '.join(ours).split())}")
        return Finding("api", "warning", says, fix)
    return Finding("api", "ok", "Gymnasium's checker finds nothing wrong.")


def _said(error: Exception) -> str:
    """What it says; of one without a word, its kind and the line that raised it."""
    if str(error).strip():
        return one_line(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name} line {frame.lineno}, `{short(frame.line)}`"


def seeding_finding(task: Task, seed: int, declared: bool, steps: int) -> Finding:
    """Whether a seed and the actions decide the episode of a new instance, and whether another seed gives another.

    Args:
        task: the environment.
        seed: of the first episode.
        declared: whether it is registered as one that no seed decides.
        steps: of each episode that is compared.
    """
    plan = [("random", steps)]
    made = [task.make().env for _ in range(2)]  # as every run makes them: what an instance remembers is no fault
    first, again = (roll(env, plan, seed, seed) for env in made)
    others = [roll(made[1], plan, seed + other, seed) for other in (1, 2)]
    for env in made:
        with contextlib.suppress(Exception):
            env.close()
    if (step := first_difference(first, again)) is not None:
        says = f"the same seed and the same actions give different episodes, from step {step} on"
        if declared:
            return Finding("seeding", "ok", f"{says}, as it is registered (nondeterministic=True).")
        fix = (
            "draw everything random from self.np_random, after super().reset(seed=seed) in reset(); a simulator that "
            "cannot is registered with nondeterministic=True, and no two runs of it are alike."
        )
        return Finding("seeding", "warning", f"{says}.", fix)
    if all(first_difference(first, other) is None for other in others):
        says = f"three seeds give the same {len(first.rewards)} steps under the same actions."
        fix = "none if that is meant; else draw the start from self.np_random, so that clips differ."
        return Finding("seeding", "warning", says, fix)
    return Finding("seeding", "ok", f"the same seed gives the same {len(first.rewards)} steps, another seed others.")


def spaces_findings(env: Any, about: EnvironmentFacts, is_chosen: bool) -> list[Finding]:
    """What the learner sees and does, and how a picture is laid out.

    Args:
        env: as a run has it.
        about: it.
        is_chosen: whether the wrappers around it are those that it was found to need.
    """
    from gymnasium import spaces

    from prefrl.experience.wrappers import RESCALED, needed
    from prefrl.words.spaces import SMALLEST_IMAGE, channels_first, is_image

    seen, raw, act, own = env.observation_space, before_flattening(env), env.action_space, env.unwrapped.action_space
    acts = f"{type(act).__name__}{tuple(act.shape)}" if isinstance(act, spaces.Box) else short(act)
    kind = f"{np.dtype(seen.dtype)} {seen.shape}"
    came = "" if raw.shape == seen.shape else f", flattened from {short(raw)}"
    found = [Finding("spaces", "ok", f"a learner sees {kind}{came}, and acts in {acts}.")]
    if isinstance(act, spaces.Box):
        ends = f"{own.low.min():g} to {own.high.max():g}" if isinstance(own, spaces.Box) else short(own)
        off = f"actions span {ends}, and a policy begins with noise of size 1 around 0"
        if is_chosen and RESCALED in about.wrappers:
            found.append(Finding("actions", "ok", f"{off}: a run puts {RESCALED} around it."))
        elif needed(act):
            found.append(Finding("actions", "warning", f"{off}.", f'give --wrapper "{RESCALED}", or none at all.'))
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
    elif pictures := [(key, part) for key, part in parts_of(raw) if is_image(part)]:
        key, part = pictures[0]
        says = (
            f"the picture {part.shape} at {key!r} is flattened with the rest into {seen.shape[0]} numbers, which no "
            f"convolution sees."
        )
        fix = f'give --wrapper "prefrl.experience.wrappers:ShowOnly key={key}" to learn from it alone; else nothing.'
        found.append(Finding("image", "warning", says, fix))
    return found


def precision_findings(rollout: Rollout) -> list[Finding]:
    """Whether float32, in which everything is learned, can tell apart what the environment shows."""
    wide = rollout.wide
    if wide is None or len(wide) < 2 or not np.isfinite(wide).all():
        return []
    spread = wide.std(axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        missed = np.sqrt(((wide - wide.astype(np.float32).astype(np.float64)) ** 2).mean(axis=0))
    varies = spread > 1e-12 * np.abs(wide).max(axis=0)
    lost = varies & (missed > 0.1 * spread)
    if not lost.any():
        return []
    at = int(np.argmax(lost))
    says = f"observation {at} is about {wide[:, at].mean():g} and varies by {spread[at]:.2g}, which float32 cannot hold"
    says += f" ({lost.sum()} of {varies.sum()} numbers that vary)."
    by = [float(f"{mean:.9g}") if gone else 0.0 for mean, gone in zip(wide.mean(axis=0), lost, strict=True)]
    told = str(by[0] if len(set(by)) == 1 else by).replace(" ", "") if len(by) <= 12 else "..., a number for each"
    fix = f'give --wrapper "prefrl.experience.wrappers:Shifted by={told}", or show the difference to a start.'
    return [Finding("precision", "fail" if (lost == varies).all() else "warning", says, fix)]


def sound_findings(rollout: Rollout) -> list[Finding]:
    """Whether every step could be taken, and everything shown and paid is finite, and small enough to be squared."""
    steps, found = len(rollout.rewards), []
    if rollout.raised:
        fix = "let step() take every action of the action space, and end the episode where it cannot go on."
        found.append(Finding("steps", "fail", sentence(f"the environment raised {rollout.raised}"), fix))
    else:
        episodes = int(rollout.episode[-1]) + 1
        found.append(Finding("steps", "ok", f"{steps} steps in {episodes} episodes, and none raised an error."))
    bad_reward = np.flatnonzero(unsound(rollout.rewards))
    bad_row, bad_column = np.nonzero(unsound(rollout.shown))
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
        says = f"{place(env, np.flatnonzero(counting))} changes with each reward and not between them: a score."
        return Finding("score", "fail", says, "blank those pixels, in the observation and not in what a person sees.")
    if len(np.unique(scores.round(9))) < 5:
        return Finding("score", "ok", "too few rewards were paid to see whether an observation holds their sum.")
    if np.ptp(rollout.rewards) == 0:
        return Finding("score", "ok", "the reward is the same at every step, so that the score is a clock.")
    r = alignment(rollout.shown, rollout.at, scores, rollout.episode, rollout.offset)
    if r.max(initial=0) > LINEAR:
        says = f"{place(env, np.flatnonzero(r > LINEAR)[:1])} is the sum of the rewards so far (r = {r.max():.5f})."
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
        where = place(env, np.flatnonzero(r > LINEAR)[:1])
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
