"""`prefrl check ID`: is this environment fit for learning from preferences? Each line that is not ok carries its fix.

The environment is played as a run would play it, and what is said is measured: its speed, the API and the seeding, what
can be read off an observation, where episodes end, what the oracle could tell apart, whether a person could watch. Each
line is printed when it is known, and the whole takes no longer than it may.

Neither torch nor Gymnasium is imported before a check begins, so that `--help` stays quick.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import tyro

from prefrl.check.clock import Clock
from prefrl.check.drawing import rendering_finding
from prefrl.check.episodes import episode_findings
from prefrl.check.findings import (
    api_finding,
    info_finding,
    precision_findings,
    readable_finding,
    reward_finding,
    score_finding,
    seeding_finding,
    sound_findings,
    spaces_findings,
)
from prefrl.check.oracles import oracle_findings
from prefrl.check.played import roll, sound_part
from prefrl.check.speed import speed_finding
from prefrl.check.words import Finding, one_line, package, sentence
from prefrl.words.errors import UserError

FEWEST_STEPS = 400
FEWEST_S = 5
WIDTH = len("rendering")  # the longest of the words that a line begins with


@dataclass(frozen=True)
class CheckConfig:
    """Say whether an environment is fit for learning from preferences: a line for each question, and how to fix it."""

    env: tyro.conf.Positional[str]
    """Gymnasium id, or "package:Id-v0" to import a package first."""
    env_kwargs: tuple[str, ...] | None = None
    """Arguments of the environment, as name=value. Default: as for a run, by family."""
    wrapper: tuple[str, ...] | None = None
    """Wrappers around it, as for a run. Default: as for a run, what it needs."""
    seed: int = 0
    """Seeds the episodes and the actions."""
    steps: int = 6000
    """Steps to judge by, at most: half with random actions, a quarter standing still, a quarter holding random actions.
    A quarter as many again are taken as a run takes them, several environments at a time."""
    seconds: float = 60.0
    """The check takes no longer, about: fewer steps of a slow environment are looked at."""
    json: bool = False
    """Print one JSON object in place of lines."""


def run_check(config: CheckConfig) -> int:
    """Print what is found, as it is; 0 when no line fails, else 1.

    Raises:
        UserError: unknown id, malformed arguments, or too few steps or seconds.
    """
    out, findings = sys.stdout, list[Finding]()
    with contextlib.redirect_stdout(sys.stderr):  # an environment may print
        for finding in look(config):
            findings.append(finding)
            if not config.json:
                mark = {"ok": "ok", "warning": "warn", "fail": "FAIL"}[finding.level]
                print(f"{mark:<4}  {finding.name:<{WIDTH}}  {finding.says}", file=out)
                if finding.level != "ok":
                    print(f"      {'':<{WIDTH}}  fix: {finding.fix}", file=out)
                out.flush()
    levels = [finding.level for finding in findings]
    failed, warned = levels.count("fail"), levels.count("warning")
    verdict = "not fit" if failed else "fit"
    if config.json:
        about = {"env": config.env, "seed": config.seed, "steps": config.steps, "verdict": verdict}
        print(json.dumps({**about, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        print(f"{config.env} is {verdict} for learning from preferences: {failed} failed, {warned} warned.")
    return int(failed > 0)


def examine(config: CheckConfig) -> list[Finding]:
    """Everything that is found.

    Raises:
        UserError: as `look`.
    """
    return list(look(config))


def look(config: CheckConfig) -> Iterator[Finding]:
    """Play the environment and say what is found, as it is: what everything else depends on first.

    Raises:
        UserError: unknown id, malformed arguments, or too few steps or seconds.
    """
    from prefrl.experience.environments import find_spec
    from prefrl.experience.wrappers import parsed
    from prefrl.settings.values import name_value

    if config.steps < FEWEST_STEPS or config.seed < 0:
        raise UserError(
            f"steps={config.steps} with seed={config.seed}: a check takes {FEWEST_STEPS} steps or more, and a seed of "
            f"zero or more."
        )
    if not config.seconds >= FEWEST_S:
        raise UserError(f"seconds={config.seconds:g}: a check takes {FEWEST_S} seconds or more.")
    find_spec(config.env)
    name_value(config.env_kwargs or (), "environment argument")
    for wrapper in config.wrapper or ():
        parsed(wrapper)
    with warnings.catch_warnings(record=True) as told, ThreadPoolExecutor(1) as beside:
        warnings.simplefilter("always")
        yield from _look(config, Clock(config.seconds), told, beside)


def _look(config: CheckConfig, clock: Clock, told: list[Any], beside: ThreadPoolExecutor) -> Iterator[Finding]:
    from prefrl.experience.environments import find_spec
    from prefrl.experience.task import Task
    from prefrl.runs import resolve
    from prefrl.settings.config import BaselineConfig
    from prefrl.settings.values import name_value

    made: dict[str, Any] = {}

    def make() -> list[Finding]:
        try:
            asked = BaselineConfig(env=config.env, env_kwargs=config.env_kwargs, wrapper=config.wrapper)
            about = resolve.look_at(asked)
            kwargs = name_value(about.kwargs, "environment argument")
            task = Task(config.env, kwargs, wrappers=about.wrappers)
            env = task.make().env  # without the guard: what it would say is a finding here
        except Exception as error:  # whatever an environment raises while it is made is the finding
            if "--wrapper" in str(error):
                fix = "put the wrapper that the line names around it."
            else:
                fix = package(error, "change the environment, or its arguments (--env-kwargs), as the line says.")
            return [Finding("made", "fail", sentence(one_line(error)), fix)]
        made.update(about=about, task=task, env=env)
        return [Finding("made", "ok", f"made with {', '.join(about.kwargs) or 'no arguments'}.")]

    yield from clock.part("made", 0.5, make, "let the constructor raise no such thing.", "fail")
    if not made:
        return
    about, task, env = made["about"], made["task"], made["env"]
    base = env.unwrapped
    speed, rate = speed_finding(task, config.seed, clock.left(0.05))
    yield speed
    drawn = beside.submit(rendering_finding, base, config.env, dict(task.kwargs), clock.left())
    yield Finding("settings", "ok", about.told("ppo", about.settings_of("ppo"), about.segment_steps))
    heard = [str(warning.message) for warning in told]
    warnings.simplefilter("ignore")  # said once, below
    yield from clock.part("api", 0.1, lambda: [api_finding(task, config.seed, heard)])
    steps = max(1, min(200, int(rate * clock.left(0.05))))
    known = bool(find_spec(config.env).nondeterministic)
    yield from clock.part("seeding", 0.2, lambda: [seeding_finding(task, config.seed, known, steps)])
    yield from clock.part("spaces", 0.05, lambda: spaces_findings(env, about, config.wrapper is None))
    steps = max(20, min(config.steps, int(rate * clock.left(0.35))))
    plan = (("random", steps // 2), ("still", steps // 4), ("held", steps // 4))
    whole = roll(env, plan, config.seed, seconds=clock.left(0.45))
    yield from clock.part("steps", 0.05, lambda: sound_findings(whole))
    part = sound_part(whole)
    n = min(steps // 2, len(part.rewards))
    horizon = env.spec.max_episode_steps if env.spec else None
    yield from clock.part("precision", 0.05, lambda: precision_findings(whole))
    yield from clock.part("ending", 0.05, lambda: episode_findings(part, horizon, about.segment_steps))
    if len(part.rewards):
        yield from clock.part("reward", 0.05, lambda: [reward_finding(part, n)])
        yield from clock.part("score", 0.1, lambda: [score_finding(part, n, env)])
        yield from clock.part("readable", 0.1, lambda: [readable_finding(part, env)])
        yield from clock.part("info", 0.05, lambda: [info_finding(part)])
    fits = horizon is None or about.segment_steps <= horizon
    if fits and len(part.rewards) == len(whole.rewards) and not whole.raised:
        took = min(config.steps // 4, int(rate * clock.left(0.3)))
        asked = (config.seed, took, about.segment_steps, clock.left(0.3), about.same_start)
        yield from clock.part("run", 0.4, lambda: oracle_findings(task, *asked))
    yield from clock.part("rendering", 1.0, lambda: [drawn.result()])
    for each in (env, base):
        with contextlib.suppress(Exception):
            each.close()
