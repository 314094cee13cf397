"""A grid of runs on Ray: on this machine, or on every machine of a cluster.

Each run is an ordinary run folder, on storage that all machines share. One that is finished is not run again; one
whose machine is lost begins again on another; one that fails leaves its error beside what it had, and the rest go on.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefrl.runs.alone import alone
from prefrl.settings.config import BaselineConfig
from prefrl.studies.batch import Board, run_one, set_aside, unfinished
from prefrl.studies.compare import describe
from prefrl.studies.grid import Job
from prefrl.words.errors import UserError, install

TRIES = 3  # times that a run begins again after its machine or its process was lost
PATIENCE_S = 20.0  # for runs that are stopped to save what they have; Ray stops one between calls, never inside one
RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # report nothing home
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a run that asks for no GPU sees none
    "RAY_task_oom_retries": str(TRIES),  # not for ever
}


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        job: the run.
        node: Ray's name for the machine; None if the run was lost with it.
        error: what it failed with, on one line; None if it finished.
    """

    job: Job
    node: str | None
    error: str | None


def to_run(jobs: Sequence[Job]) -> list[Job]:
    """Those of these runs that are not finished.

    Raises:
        UserError: one of them cannot be done as asked, or another run is in its folder.
    """
    # The GPU that a run asks for has to be where it runs, not here.
    left = {run.out for run in unfinished([replace(job.config, device="auto") for job in jobs])}
    return [job for job in jobs if job.config.out in left]


def sweep(jobs: Sequence[Job], address: str | None = None, quiet: bool = False) -> list[Ended]:
    """Run what is not finished, in this order, as many at a time as there are cores and GPUs for.

    Args:
        jobs: the runs.
        address: of a Ray cluster, HOST:PORT, or "auto" for the one that this machine is part of; None for this machine
            alone.
        quiet: show nothing.

    Raises:
        UserError: a run cannot be done as asked, another run is in its folder, or another sweep is at work beside it;
            no machine has what a run takes; Ray is not installed, or not at the address. Nothing has been changed.
    """
    waiting = to_run(jobs)
    if not waiting:
        return []
    ray = _connected(address)
    try:
        for job in waiting:
            _check_room(job, ray.nodes())
        with _locked({_folder(job.config).parent for job in waiting}):
            waiting = to_run(waiting)  # another sweep may just have finished some
            for job in waiting:
                set_aside(job.config)
            return _run_all(ray, waiting, quiet)
    finally:
        with (
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            redirect_stdout(nowhere),
        ):  # Ray may still print of a lost machine
            ray.shutdown()


@contextmanager
def _locked(folders: Iterable[Path]) -> Iterator[None]:
    """Keep other sweeps out of these folders, which are made: each would take the other's runs for stopped ones.

    Raises:
        UserError: another sweep is at work in one of them.
    """
    with ExitStack() as locks:
        for folder in sorted(folders):
            folder.mkdir(parents=True, exist_ok=True)
            locks.enter_context(alone(folder))
        yield


def _connected(address: str | None) -> Any:
    """Ray, at this address or started here, and silent.

    Raises:
        UserError: it is not installed, or not at the address.
    """
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UserError(f"a sweep runs on Ray, which is not installed: {install('sweep')}.") from error
    silent: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        ray.init("local", num_cpus=cores, include_dashboard=False, object_store_memory=100 << 20, **silent)
        return ray
    try:
        if address != "auto":  # Ray itself would try for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, **silent)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split()).strip(".")
        raise UserError(
            f"there is no Ray cluster to join at {address!r} ({said:.200}): give HOST:PORT as `ray start --head` says "
            f"it, or auto on one of its machines."
        ) from error
    return ray


def _check_room(job: Job, nodes: Sequence[dict[str, Any]]) -> None:
    """See that some machine has what the run takes: Ray would wait for one for ever."""
    for node in nodes:
        has = node["Resources"]
        if node["Alive"] and has.get("CPU", 0) >= job.cpus and has.get("GPU", 0) >= job.gpus:
            return
    raise UserError(
        f"{str(job.config.out)!r} takes cpus={job.cpus:g} and gpus={job.gpus:g}, and no machine here has as much: ask "
        f"for less, or give the --address of a cluster that has."
    )


def _run_all(ray: Any, jobs: Sequence[Job], quiet: bool) -> list[Ended]:
    ended, machines = [], _machines(ray)
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),  # where Ray prints the logs of a machine that is lost
        Board([job.config for job in jobs], quiet) as board,
    ):
        task = ray.remote(_run_there)
        waiting = {
            task.options(num_cpus=job.cpus, num_gpus=job.gpus, max_retries=TRIES).remote(job.config, Path.cwd()): job
            for job in jobs
        }
        try:
            while waiting:
                done, _ = ray.wait(list(waiting), timeout=1.0)
                for place in done:
                    job = waiting.pop(place)
                    try:
                        node, error = ray.get(place)
                    except ray.exceptions.RayError as lost:
                        node, error = None, " ".join(str(lost).split())
                    ended.append(Ended(job, node, error))
                    folder = _folder(job.config)
                    board.ended(job.config, f"{folder} failed: {error}" if error else describe(folder), bool(error))
                for node in machines.keys() - (still := _machines(ray)).keys():
                    board.say(f"{machines[node]} was lost; its runs begin again on another machine", warn=True)
                machines = still
                board.refresh()
        except BaseException:
            for place in waiting:
                ray.cancel(place)
            if waiting:
                ray.wait(list(waiting), num_returns=len(waiting), timeout=PATIENCE_S)
            raise
    return ended


def _machines(ray: Any) -> dict[str, str]:
    """The machines that are there: Ray's name and their own."""
    return {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}


def _run_there(run: BaselineConfig, base: Path) -> tuple[str, str | None]:
    """The run, on the machine that Ray chose.

    Args:
        run: what to run.
        base: the folder that the sweep was started in; what the run's folder is relative to, and where modules of the
            user's own are.

    Returns:
        Ray's name for the machine, and what the run failed with, on one line.
    """
    import ray

    node: str = ray.get_runtime_context().get_node_id()
    folder = base / _folder(run)
    if not (base.is_dir() and folder.parent.is_dir()):
        return (
            node,
            f"{socket.gethostname()} does not see {str(folder.parent)!r}: give an --out that all machines share.",
        )
    os.chdir(base)
    if str(base) not in sys.path:
        sys.path.append(str(base))  # last: a file there is not to be taken for a package of the same name
    set_aside(run)  # what it had on a machine that was lost
    try:
        run_one(run)
    except Exception as error:
        if folder.exists():
            (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        return node, " ".join(f"{kind}{error}".split())
    return node, None


def _folder(run: BaselineConfig) -> Path:
    assert run.out is not None
    return run.out
