"""How fast the environment is, before anything else is asked of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prefrl.check.clock import TimeUpError, alarm
from prefrl.check.words import Finding

if TYPE_CHECKING:
    from prefrl.experience.task import Task

MOST_STEPS = 300
SLOW = 100  # steps a second: a million take three hours


def speed_finding(task: Task, seed: int, seconds: float) -> tuple[Finding, float]:
    """Steps a second of one environment with random actions, resets included; and the rate, for whoever plans by it.

    What it raises is told by those who look closer, and so is a step that never ends.
    """
    steps, began = 0, time.monotonic()
    try:
        with alarm(seconds):
            env = task.make().env
            env.action_space.seed(seed)
            began, over = time.monotonic(), True
            while steps < MOST_STEPS and time.monotonic() - began < seconds / 2:
                if over:
                    env.reset(seed=seed if steps == 0 else None)
                _, _, terminated, truncated, _ = env.step(env.action_space.sample())
                over = bool(terminated or truncated)
                steps += 1
            env.close()
    except KeyboardInterrupt:
        raise
    except (Exception, SystemExit, TimeUpError):  # what it is shows below
        pass
    rate = max(steps, 1) / max(time.monotonic() - began, 1e-6)
    if not steps:
        return Finding("speed", "ok", "not a step could be taken in time, or none without an error."), rate
    says = f"{_rounded(rate):,g} steps a second in one environment: a million steps take {_duration(1e6 / rate)}."
    if rate >= SLOW:
        return Finding("speed", "ok", says), rate
    fix = "take --workers 8, where there are cores for them, repeat actions inside step(), or draw less there."
    return Finding("speed", "warning", says, fix), rate


def _rounded(rate: float) -> float:
    """Two digits of it."""
    return float(f"{rate:.2g}")


def _duration(seconds: float) -> str:
    """In the largest unit of which there are two or more."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
