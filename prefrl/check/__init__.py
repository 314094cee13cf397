"""`prefrl check ID`: is this environment fit for learning from preferences? Each line that is not ok carries its fix.

The environment is played as a run would play it, and what is said is measured: the API and the seeding, what can be
read off an observation, where episodes end, what the oracle could tell apart, whether a person could watch.

Neither torch nor Gymnasium is imported before a check begins, so that `--help` stays quick.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import tyro

from prefrl.check.drawing import rendering_finding
from prefrl.check.findings import (
    api_finding,
    episode_findings,
    info_finding,
    oracle_findings,
    readable_finding,
    reward_finding,
    score_finding,
    seeding_finding,
    sound_findings,
    spaces_findings,
)
from prefrl.check.played import roll, sound_part
from prefrl.check.words import Finding, one_line, package, sentence
from prefrl.words.errors import UserError

FEWEST_STEPS = 400


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
    from prefrl.experience.environments import find_spec
    from prefrl.experience.task import Task
    from prefrl.runs import resolve
    from prefrl.settings.config import BaselineConfig
    from prefrl.settings.values import name_value

    if config.steps < FEWEST_STEPS or config.seed < 0:
        raise UserError(
            f"steps={config.steps} with seed={config.seed}: a check takes {FEWEST_STEPS} steps or more, and a seed of "
            f"zero or more."
        )
    spec = find_spec(config.env)
    name_value(config.env_kwargs or (), "environment argument")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            about = resolve.look_at(BaselineConfig(env=config.env, env_kwargs=config.env_kwargs))
            task = Task(config.env, name_value(about.kwargs, "environment argument"))
            env, base = task.make().env, task.make().unwrapped  # without the guard: what it would say is a finding here
        except Exception as error:  # whatever an environment raises while it is made is the finding
            fix = package(error, "change the environment, or its arguments (--env-kwargs), as the line says.")
            return [Finding("made", "fail", sentence(one_line(error)), fix)]
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
            findings += oracle_findings(task, config.seed, config.steps // 4, about.segment_steps, about.same_start)
        findings.append(drawn.result())
        env.close()
        base.close()
    return findings
