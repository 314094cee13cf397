"""The command line: every command and option is generated from a dataclass, most of them in `settings/config.py`."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union

import tyro

from prefrl.check import CheckConfig, run_check
from prefrl.settings.config import (
    BaselineConfig,
    CompareConfig,
    LabelConfig,
    LabelsConfig,
    TrainConfig,
    VideoConfig,
    from_toml,
)
from prefrl.words.errors import UserError


@dataclass(frozen=True)
class PlotConfig:
    """Draw true return against environment steps for any runs, by task and arm."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, or folders that hold run folders."""
    out: Path = Path("curves.png")
    """The figure: .png, .svg or .pdf."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure saved reward models against the true reward, on fresh behaviour of each run's own policy."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, or folders that hold run folders."""
    steps: int = 10_000
    """Environment steps of fresh behaviour."""
    pairs: int = 1_000
    """Pairs of segments drawn from it."""
    seed: int = 0
    """Seeds behaviour and pairs."""
    out: Path | None = None
    """Write the measures as CSV here too, a row for each run."""
    trust: bool = False
    """Import the environment's package that a run's folder names."""


@dataclass(frozen=True)
class ReviseConfig:
    """Judge what a run's policy does beside other things it might have done, and keep what keeps the principles best.

    What is kept is what another run clones first, with --demonstrations.
    """

    run: tyro.conf.Positional[Path]
    """Folder of the run whose policy acts."""
    constitution: tyro.conf.Positional[Path]
    """The principles, a TOML file; see `prefrl.queries.constitution`."""
    out: Path | None = None
    """Folder for what is kept, and what was said; it is made here. Default: revised, in the run's folder."""
    starts: int = 100
    """Moments from which the policy acts."""
    n: int = 8
    """Times that it acts from each; it comes back by the same reset seed and the same actions."""
    segment_steps: int = 50
    """Steps each time."""
    seed: int = 0
    """Of the first reset, and of what is drawn."""
    trust: bool = False
    """Import the environment's package that the run's folder names."""


@dataclass(frozen=True)
class SolveConfig:
    """Solve the exact world of runs, and say how far their policies are from its optimum: nothing is sampled."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, or folders that hold run folders."""
    beta: float | None = None
    """What a nat of divergence from the reference costs. Default: what it cost each run."""
    trust: bool = False
    """Import the environment's package that a run's folder names."""


@dataclass(frozen=True)
class BestOfConfig:
    """Draw n episodes from one start, keep the best by a run's reward, and say what it is worth.

    It is how far a reward carries without a policy trained on it: beside each n stands log n - (n - 1)/n, the nats that
    the best of n differs from one of them.
    """

    run: tyro.conf.Positional[Path]
    """Folder of the run whose reward keeps the best."""
    n: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Episodes that are drawn."""
    starts: int = 20
    """Reset seeds, from each of which the largest n are drawn."""
    policy: str | None = None
    """What draws them: a run's folder, or a policy.safetensors. Default: the reference that the run was held near."""
    seed: int = 0
    """Of the first start, and of what the policy draws."""
    trust: bool = False
    """Import the environment's package that the run's folder names."""


@dataclass(frozen=True)
class SweepConfig:
    """Run a grid: every environment, arm and seed that a TOML file asks for, on this machine or on a Ray cluster.

    A run that is finished is not run again, so a sweep that was stopped, or in which some runs failed, goes on when the
    same command is given again. The file:

        env = ["Hopper-v5", "Walker2d-v5"]   # lists are taken in every combination
        seed = [0, 1, 2]
        cpus = 1                             # that each run takes; gpus likewise
        [[grid]]
        command = "baseline"
        [[grid]]
        labels = [350, 700]

    `prefrl.studies.grid` says the rest: names for arms, settings for single environments.
    """

    grid: tyro.conf.Positional[Path]
    """The TOML file."""
    out: Path | None = None
    """Where the runs go, each to OUT/ENV/ARM-seedN. Default: as the file says, else runs/sweep/NAME."""
    address: str | None = None
    """Ray cluster to run on: HOST:PORT, or auto for the one that this machine is part of.
    Its machines need prefrl installed, and OUT on storage that they share. Default: this machine alone."""
    dry_run: bool = False
    """Only say which runs there are, and which of them are finished."""


@dataclass(frozen=True)
class ReportConfig:
    """Write runs as one page, without server or network: curves, questions and answers, how far to trust the reward."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, or folders that hold run folders."""
    out: Path = Path("report.html")
    """The page."""
    clips: int = 12
    """Questions of each run that are shown with both segments."""
    steps: int = 10_000
    """Environment steps of fresh behaviour that each reward model is judged on."""
    trust: bool = False
    """Import the environment's package, and call the database's host, that a run's folder names."""


@dataclass(frozen=True)
class EnvsConfig:
    """List the environments that can be asked for by id, with horizon, segment length and reward."""

    match: tyro.conf.Positional[str] = ""
    """Only ids that contain this; "package:" imports a package first, and lists what it registers."""


@dataclass(frozen=True)
class ResumeConfig:
    """Go on with a run that was stopped."""

    run: Path


DESCRIPTION = """Learn a reward, and a policy that maximises it, from a few hundred preferences between short clips.

"prefrl COMMAND --help" lists a command's options. "--config FILE.toml" sets those of train, baseline and compare by
name, below what is given here. "prefrl train --resume RUN" goes on with a run that was stopped."""


def _train(config: TrainConfig) -> None:
    from prefrl.run import train

    print(train(config))


def _baseline(config: BaselineConfig) -> None:
    from prefrl.baseline import run_baseline

    print(run_baseline(config))


def _compare(config: CompareConfig) -> None:
    from prefrl.studies.compare import folder_of, results, run_comparison, zero_of
    from prefrl.studies.plots import result_table

    print(result_table(results(run_comparison(config), zero_of(config))))
    print(folder_of(config) / "compare.png")


def _plot(config: PlotConfig) -> None:
    from prefrl.studies.compare import find_runs, panels, read_outcomes
    from prefrl.studies.plots import learning_curves

    _check_place(config.out, makes_folders=True)
    learning_curves(panels(read_outcomes(find_runs(config.runs))), config.out)
    print(config.out)


def _check_place(path: Path, makes_folders: bool = False) -> None:
    """Before anything is measured: whether a file can be written there."""
    folder = path.parent
    while makes_folders and not folder.exists():
        folder = folder.parent
    if path.is_dir():
        raise UserError(f"cannot write {str(path)!r}: it is a folder; give a file in it.")
    if not folder.is_dir():
        raise UserError(f"cannot write {str(path)!r}: there is no folder {str(folder)!r}; make it first.")


def _evaluate(config: EvaluateConfig) -> None:
    import csv

    from prefrl.runs.saved import load_run
    from prefrl.studies.compare import find_runs
    from prefrl.studies.evaluate import evaluate_run
    from prefrl.studies.plots import measures_table
    from prefrl.words.process import for_small_networks

    for_small_networks()
    if config.out is not None:
        _check_place(config.out)
    runs = [load_run(folder, config.trust) for folder in find_runs(config.runs)]
    learned = [run for run in runs if isinstance(run.config, TrainConfig) or run.folder in config.runs]
    if not learned:
        raise UserError(f"no run in {' '.join(map(str, config.runs))} has a reward model: all are of the true reward.")
    measured = {
        str(run.folder): evaluate_run(run, config.steps, config.pairs, seed=config.seed).measures for run in learned
    }
    print(measures_table(measured))
    if config.out is not None:
        with config.out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["run", *next(iter(measured.values()))], lineterminator="\n")
            writer.writeheader()
            writer.writerows({"run": run, **measures} for run, measures in measured.items())


def _solve(config: SolveConfig) -> None:
    from prefrl.runs.saved import load_run
    from prefrl.studies.compare import find_runs
    from prefrl.studies.plots import measures_table
    from prefrl.studies.solved import standing
    from prefrl.words.process import for_small_networks

    for_small_networks()
    runs = [load_run(folder, config.trust) for folder in find_runs(config.runs)]
    print(measures_table({str(run.folder): standing(run, config.beta) for run in runs}))


def _bestof(config: BestOfConfig) -> None:
    from prefrl.runs.saved import load_run
    from prefrl.studies.best_of import best_of
    from prefrl.studies.plots import measures_table
    from prefrl.words.process import for_small_networks

    for_small_networks()
    found = best_of(load_run(config.run, config.trust), config.n, config.starts, config.policy, config.seed)
    print(measures_table({f"best of {n}": measures for n, measures in found.items()}))


def _revise(config: ReviseConfig) -> None:
    from prefrl.runs.saved import load_run
    from prefrl.studies.plots import measures_table
    from prefrl.studies.revise import revise
    from prefrl.words.process import for_small_networks

    for_small_networks()
    run, out = load_run(config.run, config.trust), config.out or config.run / "revised"
    shares = revise(run, config.constitution, out, config.starts, config.n, config.segment_steps, config.seed)
    if shares:
        print(measures_table({name: {"before": old, "kept": new} for name, (old, new) in shares.items()}))
    print(f"`--demonstrations {out}` has a run begin from what was kept.")


def _sweep(config: SweepConfig) -> int:
    from prefrl.studies.grid import read_grid
    from prefrl.studies.sweep import sweep, to_run

    jobs = read_grid(config.grid, config.out)
    if config.dry_run:
        waiting = to_run(jobs)
        for job in jobs:
            print("to run   " if job in waiting else "finished ", job.config.out)
        return 0
    failed = [run for run in sweep(jobs, config.address) if run.error]
    print(f"{len(jobs) - len(failed)} of {len(jobs)} runs are finished.")
    for run in failed:
        print(f"{run.job.config.out} failed: {run.error}", file=sys.stderr)
    if failed:
        print("The same command runs again what has failed.", file=sys.stderr)
    return 1 if failed else 0


def _report(config: ReportConfig) -> None:
    from prefrl.studies.report import write_page
    from prefrl.words.process import for_small_networks

    for_small_networks()
    _check_place(config.out)
    write_page(config.runs, config.out, config.clips, config.steps, config.trust)
    print(config.out)


def _envs(config: EnvsConfig) -> None:
    from prefrl.experience.environments import list_environments

    print(list_environments(config.match))


def _check(config: CheckConfig) -> int:
    return run_check(config)


def _label(config: LabelConfig) -> None:
    from prefrl.label_page.serve import serve

    serve(config)


def _labels(config: LabelsConfig) -> None:
    from prefrl.queries.exchange import exchange

    print(exchange(config))


def _video(config: VideoConfig) -> None:
    from prefrl.runs.saved import film_policy
    from prefrl.words.process import for_small_networks

    for_small_networks()
    print(film_policy(config))


COMMANDS: dict[str, tuple[type[Any], Callable[[Any], int | None]]] = {
    "train": (TrainConfig, _train),
    "baseline": (BaselineConfig, _baseline),
    "compare": (CompareConfig, _compare),
    "sweep": (SweepConfig, _sweep),
    "plot": (PlotConfig, _plot),
    "evaluate": (EvaluateConfig, _evaluate),
    "solve": (SolveConfig, _solve),
    "bestof": (BestOfConfig, _bestof),
    "revise": (ReviseConfig, _revise),
    "report": (ReportConfig, _report),
    "envs": (EnvsConfig, _envs),
    "check": (CheckConfig, _check),
    "label": (LabelConfig, _label),
    "labels": (LabelsConfig, _labels),
    "video": (VideoConfig, _video),
}


LOOKING = (
    PlotConfig,
    EvaluateConfig,
    SolveConfig,
    BestOfConfig,
    ReviseConfig,
    ReportConfig,
    LabelConfig,
    LabelsConfig,
    VideoConfig,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when it did what was asked, 1 when a check failed, 2 after a sentence about what was wrong with the asking.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot show is shown as it can
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        config = _parse(given)
        if isinstance(config, ResumeConfig):
            from prefrl.studies.batch import resume

            print(resume(config.run))
            return 0
        with _children_look_elsewhere() if isinstance(config, LOOKING) else nullcontext():
            code = next(verb for kind, verb in COMMANDS.values() if type(config) is kind)(config) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever reads has had enough: `prefrl envs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's own last flush fails as well
        return 141  # as of a program that SIGPIPE ended
    except KeyboardInterrupt:
        print("prefrl: stopped; the run folder holds everything up to the last finished phase.", file=sys.stderr)
        return 130
    except Exception as error:
        if (said := _mistake(error)) is None:
            raise
        print(f"prefrl: {said}", file=sys.stderr)
        return 2


@contextmanager
def _children_look_elsewhere() -> Iterator[None]:
    """Python processes that are started meanwhile do not look for modules in the working folder, as they would."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def _mistake(error: Exception) -> str | None:
    """What the user, or his machine, did wrong, in a sentence; None where it is a mistake of ours.

    Of several errors, each met while cleaning up after another, the first says what is wrong: on a full disk, that it
    is full.
    """
    first: BaseException = error
    while first.__context__ is not None and not first.__suppress_context__:
        first = first.__context__
    if isinstance(first, OSError) and first.errno is not None:
        place = f" {str(first.filename)!r}" if first.filename else ""
        return f"cannot read or write{place} ({first.strerror}): see that there is room, and permission."
    if isinstance(first, UnicodeEncodeError):
        return f"{first.object!r:.80} has no place in this locale's encoding: use one of UTF-8, or set PYTHONUTF8=1."
    if isinstance(first, MemoryError):
        return "this takes more memory than there is: ask for less at a time."
    for one in (first, error):
        if isinstance(one, UserError):
            return str(one)
    return None


def _parse(given: list[str]) -> Any:
    """The configuration that the arguments spell, over the TOML file they name."""
    given, path = _take_config(given)
    if given[:1] in (["train"], ["baseline"]) and (run := _take_resume(given[1:])):
        return run
    if path is not None and given and given[0] in COMMANDS and not issubclass(COMMANDS[given[0]][0], BaselineConfig):
        raise UserError(f"--config is for train, baseline and compare: give the options of {given[0]} by name.")
    commands = []
    for name, (kind, _) in COMMANDS.items():
        if path is not None and given[:1] == [name]:
            commands.append(Annotated[kind, tyro.conf.subcommand(name, default=from_toml(kind, path))])
        else:
            commands.append(Annotated[kind, tyro.conf.subcommand(name)])
    every = Union[tuple(commands)]  # type: ignore[valid-type]  # noqa: UP007
    config: Any = tyro.cli(
        every,  # type: ignore[call-overload]
        prog="prefrl",
        description=DESCRIPTION,
        args=given,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.PositionalRequiredArgs),
    )
    return config


def _take_resume(given: list[str]) -> ResumeConfig | None:
    """The run to go on with, where that is asked for.

    Raises:
        UserError: --resume with anything but a folder.
    """
    if not any(argument.split("=")[0] == "--resume" for argument in given):
        return None
    given = given[0].split("=", 1) + given[1:] if given[0].startswith("--resume=") else given
    if len(given) != 2 or given[0] != "--resume" or not given[1]:
        raise UserError("--resume takes a run's folder and no other option: what the run was told is in its folder.")
    return ResumeConfig(Path(given[1]))


def _take_config(given: list[str]) -> tuple[list[str], Path | None]:
    """The arguments without "--config FILE", and the file.

    Raises:
        UserError: --config names no file.
    """
    for place, argument in enumerate(given):
        if argument == "--config":
            if place + 1 == len(given):
                raise UserError("--config needs a TOML file after it.")
            return given[:place] + given[place + 2 :], Path(given[place + 1])
        if argument.startswith("--config="):
            return given[:place] + given[place + 1 :], Path(argument.removeprefix("--config="))
    return given, None
