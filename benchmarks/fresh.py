"""Whether a committed number is still one of the code beside it.

Every row keeps a hash of the settings and one of the code that made it (`prefrl.runs.fingerprint`); `results/code.json`
has the modules behind each. A row is stale where one of them has changed since, and where none were recorded.

    python -m benchmarks.fresh                       # write into both READMEs which rows are stale by now

Code that was changed and shown to do the same, byte for byte, is listed as equivalent, with what showed it:

    python -m benchmarks.fresh --same-as ../before --command "python -m benchmarks.identical ../before" --commit 1a2b3c
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tomli_w
import tyro

from prefrl.runs.fingerprint import code_hash, hashes_of, present_hashes
from prefrl.words.errors import UserError

HERE = Path(__file__).parent
CODE = HERE / "results" / "code.json"
EQUIVALENT = HERE / "equivalent.toml"
Modules = Mapping[str, str]  # name: hash


@dataclass(frozen=True)
class Equivalent:
    """A change of code that changed no byte of what it makes.

    Attributes:
        before: hashes of what was there before and is not any more.
        after: hashes of what took its place.
        command: that showed it.
        commit: at which it did.
    """

    before: frozenset[str]
    after: frozenset[str]
    command: str
    commit: str


def remember(modules: Modules) -> str:
    """Keep the modules that made a number; the hash that its row has of them."""
    code = code_hash(modules)
    known = _known(CODE)
    if code not in known:
        CODE.write_text(json.dumps(known | {code: dict(modules)}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return code


def is_current(code: str) -> bool:
    """Whether everything that this code was made of is still there, or its equivalent; unknown code is not."""
    modules = _known(CODE).get(code)
    return bool(modules) and still_there(frozenset(modules.values()), _present(), equivalents())


def still_there(needed: frozenset[str], present: frozenset[str], known: tuple[Equivalent, ...]) -> bool:
    """Whether these hashes are among the present ones, as far as need be by way of equivalents.

    An equivalent counts where all that it replaces is missing together, so that a change is followed as a whole.
    """
    missing = needed - present
    if not missing:
        return True
    return any(
        still_there((needed - step.before) | step.after, present, tuple(other for other in known if other is not step))
        for step in known
        if step.before & missing
    )


def equivalents(path: Path = EQUIVALENT) -> tuple[Equivalent, ...]:
    """Changes that were shown to change nothing, as they are listed.

    Raises:
        UserError: an entry lacks something.
    """
    listed = tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", []) if path.exists() else []
    try:
        return tuple(
            Equivalent(frozenset(e["before"]), frozenset(e["after"]), e["command"], e["commit"]) for e in listed
        )
    except KeyError as error:
        raise UserError(f"an entry of {path.name} has no {error}: it has before, after, command and commit.") from error


def share_of_stale(stale: int, of: int, what: str = "runs") -> str:
    """A sentence about how many rows are of an earlier code; empty if none is."""
    if not stale:
        return ""
    which = f"All {of} {what} are" if stale == of else f"{stale} of {of} {what} are"
    return f"**Stale:** {which} of an earlier code: what made them has changed since, or was not recorded."


def _known(path: Path) -> dict[str, dict[str, str]]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@cache
def _present() -> frozenset[str]:
    return frozenset(present_hashes().values())


@dataclass(frozen=True)
class Fresh:
    """Write into the READMEs which committed numbers are stale, or list a change of code as equivalent."""

    same_as: Path | None = None
    """A folder with the project as it was: what differs from it now is listed as equivalent to it."""
    command: str = ""
    """What shows that both make the same bytes. It is run first, and must succeed."""
    commit: str = ""
    """At which it does."""


def list_equivalent(ask: Fresh) -> str:
    """Run the proof, and list what has changed since as equivalent; a sentence about it.

    Raises:
        UserError: no proof is named, it fails, or nothing has changed.
    """
    assert ask.same_as is not None
    if not ask.command or not ask.commit:
        raise UserError("name what shows that both make the same bytes with --command, and where with --commit.")
    folders = {"prefrl": "prefrl", "prefrl_envs": "envs", "benchmarks": "benchmarks"}
    then = {h for name, folder in folders.items() for h in hashes_of(name, ask.same_as / folder).values()}
    before, after = sorted(then - _present()), sorted(_present() - then)
    if not then or not before:
        raise UserError(f"nothing that was in {str(ask.same_as)!r} has changed: there is nothing to list.")
    if subprocess.run(ask.command, shell=True, check=False).returncode:
        raise UserError(f"{ask.command!r} failed: what it was to show is not so.")
    listed = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8")).get("equivalent", []) if EQUIVALENT.exists() else []
    entry = {"before": before, "after": after, "command": ask.command, "commit": ask.commit}
    EQUIVALENT.write_text(tomli_w.dumps({"equivalent": [*listed, entry]}), encoding="utf-8")
    return f"{len(after)} modules and functions are listed as equivalent to {len(before)} before."


def write_reports() -> None:
    """Every question's part of the READMEs, and the table of speed, from the committed data."""
    from importlib import import_module

    from benchmarks import figure2, question, speed

    for path in sorted(HERE.glob("[a-z]*.py")):
        module = import_module(f"benchmarks.{path.stem}")
        if hasattr(module, "QUESTION"):
            asked = module.QUESTION
            body = getattr(module, "body", question.report)(asked) if question.outcomes(asked) else ""
            question.write_between(question.README, asked.name, question.section(asked, body))
    figure2.write_front()
    speed.report()


def main(ask: Fresh) -> int:
    """The command."""
    try:
        if ask.same_as is not None:
            print(list_equivalent(ask))
            _present.cache_clear()
        write_reports()
    except UserError as error:
        print(f"benchmarks.fresh: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Fresh)))
