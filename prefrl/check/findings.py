"""The questions, each answered by a sentence and a fix."""

from __future__ import annotations

import importlib.util
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from prefrl.check.played import Rollout, first_difference, roll, unsound
from prefrl.check.reading import alignment, correlation_or_zero, place, score_cells
from prefrl.check.words import ENVPOOL, Finding, one_line, package, sentence, short

if TYPE_CHECKING:
    from prefrl.experience.task import Task

LINEAR = 0.999  # correlation from which one number is another one, scaled and shifted
PAIRS = 300  # questions that the oracle is asked
ENVS = 8  # environments in parallel, where a run would have several

# Gymnasium's advice about bounds. Inputs are normalised here, and `spaces_findings` has its own word on actions.
NOT_OURS = ("infinity", "symmetric and normalized")


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
            return Finding("api", "fail", sentence(f"Gymnasium's checker says: {one_line(error)}"), fix)
    heard = [re.sub(r"\x1b\[\d*m", "", text) for text in [*told, *(str(warning.message) for warning in caught)]]
    ours = [text.removeprefix("WARN: ") for text in heard if text.startswith("WARN: ")]
    ours = list(dict.fromkeys(text for text in ours if not any(phrase in text for phrase in NOT_OURS)))
    if ours:
        fix = "change the environment until gymnasium.utils.env_checker.check_env is silent."
        says = sentence(f"Gymnasium's checker says: {' '.join(' '.join(ours).split())}")
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


def spaces_findings(env: Any, base: Any) -> list[Finding]:
    """What the learner sees and does, and how a picture is laid out."""
    from gymnasium import spaces

    from prefrl.words.spaces import SMALLEST_IMAGE, channels_first, is_image

    seen, raw, act = env.observation_space, base.observation_space, env.action_space
    acts = f"{type(act).__name__}{tuple(act.shape)}" if isinstance(act, spaces.Box) else str(act)
    kind = f"{np.dtype(seen.dtype)} {seen.shape}"
    came = "" if raw.shape == seen.shape else f", flattened from {short(raw)}"
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
        r = correlation_or_zero(lengths, returns)
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


def oracle_findings(task: Task, seed: int, steps: int, segment_steps: int, same_start: bool = False) -> list[Finding]:
    """What steps it in a run, and how many pairs of untrained behaviour an oracle would call equal."""
    from prefrl.experience.environments import find_spec
    from prefrl.experience.recorder import Recorder
    from prefrl.queries.oracle import make_oracle

    rows = max(steps // ENVS, 3 * segment_steps)
    rng = np.random.default_rng(seed)
    try:
        made = task.make_vec(ENVS, seed)
        env = Recorder(made, task.env_id, seed, keep_steps=5 * rows * ENVS, same_start=same_start)
        env.action_space.seed(seed)
        env.reset()
        rates = {}
        for way, hold in (("untrained", 1), *[("held", 100)] * 4):  # held again and again until something is paid
            for row in range(rows):
                if row % hold == 0:
                    actions = np.stack([env.action_space.sample() for _ in range(ENVS)])
                env.step(actions)
            pairs, oracle = env.pairs(PAIRS, segment_steps, rng), make_oracle(["oracle"], seed)
            parts = (pairs[np.arange(i, i + 20)] for i in range(0, PAIRS, 20))  # a few at a time: they own their frames
            rates[way] = float(np.mean([answer.mu == 0.5 for part in parts for answer in oracle(part.queries())]))
            if rates[way] < 1:
                break
        env.close()
    except Exception as error:  # what the single environment raised is said already; this one stands for a run
        return [
            Finding("run", "fail", sentence(one_line(error)), package(error, "mend the first line that is not ok."))
        ]
    spec = find_spec(task.env_id)
    entry = str(spec.entry_point)
    pooled = entry.startswith("gymnasium.envs.mujoco") or (spec.vector_entry_point is not None and "mujoco" in entry)
    if by := getattr(made, "stepped_by", None):
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
