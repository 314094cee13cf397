"""A grid of runs, written as TOML: `prefrl sweep` runs it, and each question of the benchmarks is one.

    out = "runs/figure2"                          # where the runs go; else runs/sweep/NAME, after NAME.toml
    cpus = 1                                      # that each run takes, as `gpus`; a GPU can be shared
    env = ["prefrl/Hopper-v0", "prefrl/InvertedPendulum-v0"]
    seed = [0, 1, 2, 3, 4]
    steps = 2_000_000

    [[grid]]
    command = "baseline"                          # as on the command line: baseline, or train, which is the default

    [[grid]]
    labels = [1400, 700, 350]

    [[grid]]
    arm = "random queries"                        # what tables, figures and folders call these runs
    labels = 700
    strategy = "uniform"

    [[override]]
    when = {env = "prefrl/InvertedPendulum-v0"}   # a value, or a list of which any will do
    steps = 200_000

Every other key is a field of the run's configuration (`prefrl.settings.config`). A block asks for every combination
of the lists in it; where a field takes a list itself (`set`, `env_kwargs`, `teachers`), a list of lists does that. What
stands above the blocks holds for each of them, as far as its command has such a field; a file without blocks is one
block.
Overrides come last, in order, and set single values; what they `set` (or `env_kwargs`) goes by name over the block's.

A run goes to OUT/ENV/ARM-seedN. Unless named, the arm is "true reward" or "700 labels" (folders: true-reward,
labels700); whatever else its block lists is added, as in "700 labels, strategy uniform".
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from prefrl.settings.config import BaselineConfig, TrainConfig, arm_name, folder_name, from_values, read_toml, slug
from prefrl.words.errors import UserError
from prefrl.words.lookup import did_you_mean

KINDS: dict[str, type[BaselineConfig]] = {"train": TrainConfig, "baseline": BaselineConfig}
FIELDS = {command: {f.name: f for f in fields(kind) if f.name != "out"} for command, kind in KINDS.items()}
BESIDES = {"command": "train", "cpus": 1, "gpus": 0}  # what a grid says of a run that is no field of its configuration
PAIRS = ("set", "env_kwargs")  # fields of name=value pairs
NAMING = ("command", "arm", "env", "seed")  # what tells runs apart, which an override leaves alone

Values = Mapping[str, Any]  # as TOML has them


@dataclass(frozen=True)
class Job:
    """One run of a grid.

    Attributes:
        config: what to run; `out` is its folder.
        cpus: cores it takes.
        gpus: GPUs it takes; several runs may share one.
    """

    config: BaselineConfig
    cpus: float
    gpus: float


def read_grid(path: Path, out: Path | None = None) -> list[Job]:
    """The runs that a grid file asks for, seed by seed, and within a seed as the file has them.

    Args:
        path: of the file.
        out: where the runs go, whatever the file says.

    Raises:
        UserError: the file cannot be read, or asks for what no run has.
    """
    file, top = repr(str(path)), read_toml(path)
    folder, blocks, overrides = top.pop("out", None), _tables(top, "grid", file), _tables(top, "override", file)
    if not isinstance(folder, str | None):
        raise UserError(f"{file} sets out = {folder!r}: it takes the path of a folder.")
    folder = out or Path(folder or f"runs/sweep/{path.stem}")
    anything = {**BESIDES, **FIELDS["train"]}
    _check_names(top, anything, file)
    for place, override in enumerate(overrides, 1):
        source = f"{file}, [[override]] {place},"
        if not isinstance(override.get("when"), dict):
            raise UserError(f'{source} needs a `when`, such as when = {{env = "Hopper-v5"}}.')
        _check_names(override["when"], anything, source)
        _check_names(override, ["when", *(n for n in anything if n not in NAMING)], source)
    jobs = []
    applied: set[int] = set()
    for place, block in enumerate(blocks or [{}], 1):
        source = f"{file}, [[grid]] {place}," if blocks else file
        for run, lists in _combinations({**BESIDES, **top}, block, source):
            here = [i for i, override in enumerate(overrides) if _applies(override["when"], run)]
            for i in here:
                run |= {name: _over(name, run[name], value) for name, value in overrides[i].items() if name in run}
            applied |= set(here)
            jobs.append(_job(run, lists, folder, source))
    for i in range(len(overrides)):
        if i not in applied:
            raise UserError(f"{file}, [[override]] {i + 1}, applies to no run: change its `when`, or remove it.")
    ((twice, times),) = Counter(job.config.out for job in jobs).most_common(1)
    if times > 1:
        raise UserError(f"{file} asks for {times} runs in {str(twice)!r}: give each block an `arm` of its own.")
    return sorted(jobs, key=lambda job: job.config.seed)


def _combinations(top: Values, block: Values, source: str) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Each combination of a block's lists, with every field that its run has, and the names of those lists."""
    both = {**top, **block}
    if both["command"] not in list(KINDS):
        raise UserError(f"{source} sets command = {both['command']!r}: it is train or baseline.")
    known = FIELDS[both["command"]]
    _check_names(block, [*BESIDES, *known], source)
    asked = {name: value for name, value in both.items() if name in BESIDES or name in known}
    lists = {name: values for name, values in asked.items() if name in known and _is_list(name, values)}
    for name, values in lists.items():
        if not values:
            raise UserError(f"{source} sets {name} = []: give it a value, or several.")
    usual = {name: _plain(field.default) for name, field in known.items()}
    for values in itertools.product(*lists.values()):
        yield {**usual, **asked, **dict(zip(lists, values, strict=True))}, list(lists)


def _job(run: Values, lists: Collection[str], folder: Path, source: str) -> Job:
    """The run, checked, with its arm and its folder."""
    for name, least in (("cpus", "more than 0"), ("gpus", "0 or more")):
        amount = run[name]
        is_number = isinstance(amount, int | float) and not isinstance(amount, bool)
        if not (
            is_number and 0 <= amount < math.inf and (amount < 1 or amount % 1 == 0) and (amount or name == "gpus")
        ):
            raise UserError(f"{source} sets {name} = {amount!r}: it takes a share of one, or a whole number, {least}.")
    values = {name: value for name, value in run.items() if name not in BESIDES and value is not None}
    config = from_values(KINDS[run["command"]], values, source)
    said = {"env", "seed", "arm"} | (set() if config.arm else {"labels"})
    varied = [f"{name} {_word(run[name])}" for name in lists if name not in said]
    if varied:
        config = replace(config, arm=", ".join([arm_name(config), *varied]))
    return Job(replace(config, out=folder / slug(config.env) / folder_name(config)), run["cpus"], run["gpus"])


def _tables(top: dict[str, Any], name: str, file: str) -> list[dict[str, Any]]:
    """The tables [[name]], taken out of the file's values."""
    tables = top.pop(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UserError(f"{file} sets {name} to something else than tables: begin each with [[{name}]].")
    return tables


def _check_names(given: Values, known: Collection[str], source: str) -> None:
    for name in given:
        if name not in known:
            raise UserError(
                f"{source} sets {name!r}, which has no place there."
                f"{did_you_mean(name, known) or ' There can be ' + ', '.join(known) + '.'}"
            )


def _is_list(name: str, value: Any) -> bool:
    """Whether these are values to be taken one after the other: a list, or of a field that takes lists, lists."""
    takes_list = name in FIELDS["train"] and "tuple" in str(FIELDS["train"][name].type)
    return isinstance(value, list) and (not takes_list or (value != [] and all(isinstance(v, list) for v in value)))


def _applies(when: Values, run: Values) -> bool:
    return all(run.get(name) in (value if _is_list(name, value) else [value]) for name, value in when.items())


def _over(name: str, value: Any, other: Any) -> Any:
    """The other value in place of this one; of name=value pairs, those that it names."""
    if name not in PAIRS or not isinstance(other, list):
        return other
    named = {str(pair).partition("=")[0] for pair in other}
    return [pair for pair in value or [] if str(pair).partition("=")[0] not in named] + other


def _plain(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default


def _word(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)
