"""What steps the environment in a run, and what an oracle could tell apart there."""

from __future__ import annotations

import importlib.util
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from prefrl.check.clock import TimeUpError
from prefrl.check.words import ENVPOOL, Finding, one_line, package, sentence

if TYPE_CHECKING:
    from prefrl.experience.task import Task

PAIRS = 300  # questions that the oracle is asked
ENVS = 8  # environments in parallel, where a run would have several


def oracle_findings(
    task: Task, seed: int, steps: int, segment_steps: int, seconds: float, same_start: bool = False
) -> list[Finding]:
    """What steps it in a run, and how many pairs of untrained behaviour an oracle would call equal.

    Args:
        task: the environment.
        seed: of episodes and actions.
        steps: to take with actions of each kind.
        segment_steps: of a question's two segments.
        seconds: after which no more actions are tried; a slow environment has fewer beside it.
        same_start: whether a question's two segments begin alike.
    """
    least = 3 * segment_steps
    n_envs = max(2, min(ENVS, steps // least))
    rows = max(steps // n_envs, least)
    ends = time.monotonic() + seconds
    try:
        made, rates = _asked(task, seed, n_envs, rows, segment_steps, ends, same_start)
    except Exception as error:  # what the single environment raised is said already; this one stands for a run
        if time.monotonic() > ends:
            raise TimeUpError from error
        return [
            Finding("run", "fail", sentence(one_line(error)), package(error, "mend the first line that is not ok."))
        ]
    found = [_stepped(task, made, n_envs)]
    if "untrained" not in rates:
        says = f"{rows * n_envs} steps, to ask an oracle about pairs of them, took too long."
        return [*found, Finding("ties", "warning", says, f"give --seconds {round(8 * seconds):d} to have them taken.")]
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


def _asked(
    task: Task, seed: int, n_envs: int, rows: int, segment_steps: int, ends: float, same_start: bool
) -> tuple[Any, dict[str, float]]:
    """The environments, and the share of pairs that an oracle calls equal, by the kind of actions, as far as it got."""
    from prefrl.experience.recorder import Recorder
    from prefrl.queries.oracle import make_oracle

    rng = np.random.default_rng(seed)
    made = task.make_vec(n_envs, seed)
    env = Recorder(made, task.env_id, seed, keep_steps=5 * rows * n_envs, same_start=same_start)
    env.action_space.seed(seed)
    env.reset()
    rates: dict[str, float] = {}
    for way, hold in (("untrained", 1), *[("held", 100)] * 4):  # held again and again until something is paid
        for row in range(rows):
            if row % hold == 0:
                actions = np.stack([env.action_space.sample() for _ in range(n_envs)])
            env.step(actions)
            if time.monotonic() > ends:
                break
        if time.monotonic() > ends and (rates or row + 1 < rows):
            break
        pairs, oracle = env.pairs(PAIRS, segment_steps, rng), make_oracle(["oracle"], seed)
        parts = (pairs[np.arange(i, i + 20)] for i in range(0, PAIRS, 20))  # a few at a time: they own their frames
        rates[way] = float(np.mean([answer.mu == 0.5 for part in parts for answer in oracle(part.queries())]))
        if rates[way] < 1:
            break
    env.close()
    return made, rates


def _stepped(task: Task, made: Any, n_envs: int) -> Finding:
    """What steps several environments in a run."""
    from prefrl.experience.environments import find_spec

    spec = find_spec(task.env_id)
    entry = str(spec.entry_point)
    pooled = entry.startswith("gymnasium.envs.mujoco") or (spec.vector_entry_point is not None and "mujoco" in entry)
    if by := getattr(made, "stepped_by", None):
        return Finding("run", "ok", f"{n_envs} environments are stepped by {by}.")
    if pooled and importlib.util.find_spec("envpool") is None:
        says = f"{n_envs} environments are stepped in turn, because EnvPool is not installed."
        return Finding("run", "warning", says, ENVPOOL)
    return Finding("run", "ok", f"{n_envs} environments are stepped in turn, each by its own step().")
