"""Where episodes end, whether that tells the task, and whether a segment fits in."""

from __future__ import annotations

import numpy as np

from prefrl.check.played import Rollout
from prefrl.check.reading import correlation_or_zero
from prefrl.check.words import Finding

MOST_FROZEN = 0.75  # share of the steps that a fixed horizon may hold still
FEW = 5  # steps of an episode that is over before much could be learned of it
LONGER = "train with --fixed-horizon, which wraps it in prefrl.FixedHorizon"


def episode_findings(rollout: Rollout, horizon: int | None, segment_steps: int) -> list[Finding]:
    """The lines about episodes: ending, length, horizon, segment."""
    last = np.flatnonzero(rollout.ended)
    lengths = rollout.offset[last] + 1
    returns = (rollout.scores + rollout.rewards)[last] if len(last) else np.zeros(0)
    by_itself = rollout.ended[last] == 2
    middle = float(np.median(lengths)) if len(last) else np.inf
    frozen = 1 - float(lengths.mean()) / horizon if horizon and len(last) else 0.0
    holds = horizon is not None and frozen <= MOST_FROZEN and middle > FEW
    if horizon is None:
        leave = "give it a time limit (--env-kwargs max_episode_steps=1000), which --fixed-horizon then holds it to."
    else:
        leave = f"leave the ends in: with --fixed-horizon {frozen:.0%} of such steps would be of what is over."
    found = []
    if by_itself.any():
        low, high = lengths[by_itself].min(), lengths[by_itself].max()
        says = (
            f"{by_itself.sum()} of {len(last)} episodes ended by themselves, after {low} to {high} steps: where an "
            f"episode ends says something of the task that no person was asked about."
        )
        fix = f"{LONGER}, or take the end out of it." if holds else leave
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
            fix = f"{LONGER}; answers alone should say what is better." if holds else leave
            found.append(Finding("length", "warning", f"{says}: the length gives the task away.", fix))
        else:
            found.append(Finding("length", "ok", f"{says} over {len(last)} episodes."))
    if horizon is None and not (rollout.ended == 1).any():
        fix = "register it with max_episode_steps, or pass --env-kwargs max_episode_steps=1000."
        found.append(Finding("horizon", "warning", "there is no time limit, so an episode may never end.", fix))
    else:
        limit = f"{horizon} steps" if horizon else "its own"
        found.append(Finding("horizon", "ok", f"the time limit is {limit}."))
    says = f"a segment has {segment_steps} steps"
    if horizon is not None and segment_steps > horizon:
        fix = f"give --segment-steps {max(1, horizon // 2)} or fewer, or another metadata['segment_steps']."
        found.append(Finding("segment", "fail", f"{says} and an episode at most {horizon}.", fix))
    elif middle <= FEW:
        found.append(Finding("segment", "ok", f"{says}, and whole episodes of {middle:g} or so are compared."))
    elif segment_steps > middle:
        fix = f"give --segment-steps {max(1, int(middle) // 2)} or so{', or ' + LONGER if holds else ''}."
        found.append(Finding("segment", "warning", f"{says} and half of the episodes at most {middle:g}.", fix))
    else:
        found.append(Finding("segment", "ok", f"{says}, and fits in an episode."))
    return found
