"""Answers in and out of a store: files that other programs read, one store's answers for another, and who agrees.

A folder that `prefrl labels export` writes holds

    answers.parquet   a row per event: question, answer or withdrawal (or answers.jsonl, the same as JSON lines)
                      event, query_key, left_key, right_key, asked_at, wanted; labeler, mu (weight on the left segment;
                      null is a skip), seconds, answered_at of answers; withdrawn_at of those taken back. Times are UTC.
    segments.parquet  a row per segment: key, env_id, step (the policy's, when it was cut), seed, env_index, episode,
                      offset (or segments.jsonl)
    segments.npz      arrays KEY/observations, KEY/actions, KEY/rewards (true, raw), and KEY/scene where people looked

and comes back the same by `prefrl labels import`. Keys are content hashes, so nothing is ever there twice.
"""

from __future__ import annotations

import errno
import json
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.experience.task import Task
from prefrl.queries.store import Given, Rows, Store
from prefrl.settings.config import LabelsConfig, TrainConfig, from_toml
from prefrl.settings.values import name_value
from prefrl.words.errors import UserError, install
from prefrl.words.stats import cohen_kappa

ARRAYS = ("observations", "actions", "rewards")
EVENTS = {"question": "queries", "answer": "answers", "withdrawal": "withdrawals"}
TIMES = ("asked_at", "answered_at", "withdrawn_at")
QUESTION = ("left_key", "right_key", "asked_at", "wanted")
ANSWER = ("query_key", "labeler", "mu", "seconds", "answered_at")
COLUMNS = ("event", *QUESTION, *ANSWER, "withdrawn_at")


def store_of(place: Path | str) -> str:
    """The URL or path of the store that a run's folder, a file or a URL stands for.

    Raises:
        UserError: there is none.
    """
    if "://" in str(place) or Path(place).is_file():
        return str(place)
    folder = Path(place)
    if (folder / "config.toml").is_file():
        url = from_toml(TrainConfig, folder / "config.toml").store
        if url or (folder / "labels.sqlite").is_file():
            return url or str(folder / "labels.sqlite")
    raise UserError(f"there are no answers at {str(place)!r}: give the folder of a run, a store's file, or its URL.")


def read(place: Path | str) -> Rows:
    """Everything in a store, or in a folder that `write` wrote.

    Raises:
        UserError: there is neither.
    """
    if "://" not in str(place) and (Path(place) / "segments.npz").is_file():
        return _read_folder(Path(place))
    with Store(store_of(place)) as store:
        return store.dump()


def write(rows: Rows, folder: Path, kind: str = "parquet") -> None:
    """Write a store's rows as files, "parquet" or "jsonl"; the format is this module's docstring.

    Raises:
        UserError: the folder is there already or cannot be written, or Parquet's package is missing.
    """
    asked = {row["key"]: row for row in rows["queries"]}
    events = []
    for event, table in EVENTS.items():
        for row in rows[table]:
            key = row["key"] if event == "question" else row["query_key"]
            events.append({name: (asked[key] | row).get(name) for name in COLUMNS} | {"event": event, "query_key": key})
    plain = [{k: v for k, v in row.items() if k not in ("steps", "scene")} for row in rows["segments"]]
    arrays = {
        f"{row['key']}/{name}": array
        for row in rows["segments"]
        for name, array in zip((*ARRAYS, "scene"), (*row["steps"], row["scene"]), strict=True)
        if array is not None
    }
    files: dict[str, list[dict[str, Any]]] = {"answers": events, "segments": plain}
    libraries = _pyarrow() if kind == "parquet" else None
    new = folder.with_name(f"{folder.name}.unfinished")
    try:
        if folder.exists():
            raise FileExistsError(errno.EEXIST, "it is there already")
        new.mkdir(parents=True)
        for name, lines in files.items():
            if libraries is not None:
                arrow, parquet = libraries
                parquet.write_table(arrow.Table.from_pylist(lines), new / f"{name}.parquet")
            else:
                text = (json.dumps(row, default=datetime.isoformat) + "\n" for row in lines)
                (new / f"{name}.jsonl").write_text("".join(text))
        with (new / "segments.npz").open("wb") as file:
            np.savez_compressed(file, **arrays)
        new.rename(folder)
    except OSError as error:
        raise UserError(
            f"cannot write {str(folder)!r} ({error.strerror}): give a folder that is not there, on a disk with room."
        ) from error


def _read_folder(folder: Path) -> Rows:
    try:
        tables = []
        for name in ("answers", "segments"):
            if (folder / f"{name}.parquet").is_file():
                tables.append(_pyarrow()[1].read_table(folder / f"{name}.parquet").to_pylist())
            else:
                lines = (folder / f"{name}.jsonl").read_text().splitlines()
                tables.append([json.loads(line) for line in lines])
        events, segments = tables
        for row in events:
            for name in TIMES:
                if isinstance(row[name], str):
                    row[name] = datetime.fromisoformat(row[name])
        with np.load(folder / "segments.npz", allow_pickle=False) as arrays:
            for row in segments:
                row["steps"] = [arrays[f"{row['key']}/{name}"] for name in ARRAYS]
                row["scene"] = arrays.get(f"{row['key']}/scene")
        kinds = {event: [row for row in events if row["event"] == event] for event in EVENTS}
        return {
            "segments": segments,
            "queries": [{"key": r["query_key"]} | {name: r[name] for name in QUESTION} for r in kinds["question"]],
            "answers": [{name: row[name] for name in ANSWER} for row in kinds["answer"]],
            "withdrawals": [{name: row[name] for name in (*ANSWER, "withdrawn_at")} for row in kinds["withdrawal"]],
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{str(folder)!r} is not a folder that `prefrl labels export` wrote: {said:.200}.") from error


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"Parquet needs the package pyarrow: {install('exchange')}, or write jsonl.") from error
    return pyarrow, pyarrow.parquet


def inherit(store: Store, places: Iterable[Path | str], env_id: str, segment_steps: int) -> None:
    """Add to a run's store the answered questions of others; what nobody answered there is not asked here.

    Raises:
        UserError: one is no store, of another environment, or of longer segments.
    """
    for place in places:
        rows = read(place)
        answered = {row["query_key"] for row in rows["answers"]}
        rows["queries"] = [{**row, "wanted": 0} for row in rows["queries"] if row["key"] in answered]
        shown = {row[side] for row in rows["queries"] for side in ("left_key", "right_key")}
        rows["segments"] = [row for row in rows["segments"] if row["key"] in shown]
        rows["withdrawals"] = [row for row in rows["withdrawals"] if row["query_key"] in answered]
        for row in rows["segments"]:
            if row["env_id"] != env_id or len(row["steps"][0]) > segment_steps:
                raise UserError(
                    f"the answers in {str(place)!r} are about segments of {len(row['steps'][0])} steps of "
                    f"{row['env_id']}, and this run has {segment_steps} of {env_id}: start from answers about the same."
                )
        store.restore(rows)


def write_minari(
    rows: Rows, dataset_id: str, root: Path | None = None, env_kwargs: dict[str, Any] | None = None
) -> None:
    """Write the segments as a Minari dataset, an episode each; its metadata names the answers' keys.

    The last action of a segment is left out: what it led to is not part of the segment.

    Args:
        rows: of one environment.
        dataset_id: as Minari writes it, such as "halfcheetah/labels-v0".
        root: folder of datasets; None for Minari's own.
        env_kwargs: arguments of the environment.

    Raises:
        UserError: Minari is missing, there are no segments, the id is not one, or it is taken.
    """
    if root is not None:
        os.environ["MINARI_DATASETS_PATH"] = str(root)
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
    except ImportError as error:
        raise UserError(f"Minari datasets need the package minari: {install('exchange')}.") from error
    if not rows["segments"]:
        raise UserError("there is no segment to write yet: nothing has been asked.")
    env = Task(rows["segments"][0]["env_id"], env_kwargs or {}).make()
    episodes = []
    for place, row in enumerate(rows["segments"]):
        observations, actions, rewards = row["steps"]
        cut = [False] * (len(rewards) - 1)
        about = {name: np.full(len(rewards), row[name]) for name in ("step", "env_index", "episode")}
        about["offset"] = row["offset"] + np.arange(len(rewards))
        about["key"] = np.full(len(rewards), int(row["key"][:15], 16))
        episodes.append(
            EpisodeBuffer(
                id=place,
                seed=row["seed"],
                observations=list(observations),
                actions=list(actions[:-1]),
                rewards=list(rewards[:-1]),
                terminations=cut,
                truncations=[*cut[:-1], True],
                infos={name: list(values) for name, values in about.items()},
            )
        )
    try:
        with warnings.catch_warnings():  # an author, a permalink and the like are for who publishes it
            warnings.simplefilter("ignore", UserWarning)
            minari.create_dataset_from_buffers(
                dataset_id,
                episodes,
                observation_space=env.observation_space,
                action_space=env.action_space,
                data_format="arrow",
                algorithm_name="prefrl",
                description="Segments that were compared; the info `key` is 15 hexadecimal digits of the key.",
            )
    except ValueError as error:
        raise UserError(
            f"Minari cannot make the dataset {dataset_id!r}: {' '.join(str(error).split()):.200}."
        ) from error
    finally:
        env.close()


def _arguments(config: LabelsConfig) -> dict[str, Any]:
    """The arguments of the environment that the answers are about: what the caller says, or what their run had."""
    if config.env_kwargs is None and "://" not in config.places[0]:
        place = Path(config.places[0])
        run = (place.parent if place.is_file() else place) / "config.toml"
        if run.is_file():
            return Task.of(from_toml(TrainConfig, run)).kwargs
    return name_value(config.env_kwargs or (), "environment argument")


@dataclass(frozen=True)
class Agreement:
    """How far two people agree on the questions that both answered, chance taken off (Cohen's kappa)."""

    one: str
    other: str
    questions: int
    kappa: float


def agreements(given: Iterable[Given]) -> list[Agreement]:
    """Each two labelers that share answered questions; skips are left out."""
    by: dict[str, dict[str, float]] = {}
    for answer in given:
        if answer.mu is not None:
            by.setdefault(answer.labeler, {})[answer.key] = answer.mu
    found = []
    for one, other in combinations(sorted(by), 2):
        shared = sorted(by[one].keys() & by[other].keys())
        if shared:
            kappa = cohen_kappa([by[one][key] for key in shared], [by[other][key] for key in shared])
            found.append(Agreement(one, other, len(shared), kappa))
    return found


def exchange(config: LabelsConfig) -> str:
    """Do what `prefrl labels` was asked for; what to say of it.

    Raises:
        UserError: nothing at one of the places, or no place to write to.
    """
    if config.action == "stats":
        texts = []
        for place in config.places:
            with Store(store_of(place)) as store:
                texts.append(report(store))
        return "\n\n".join(texts)
    if config.out is None:
        kind = "a new folder" if config.action == "export" else "the store's file or URL"
        raise UserError(f"`prefrl labels {config.action}` needs --out, {kind}.")
    if config.action == "export":
        if len(config.places) != 1:
            raise UserError(f"export writes one store at a time, and {len(config.places)} are named: merge them first.")
        rows = read(config.places[0])
        if config.format == "minari":
            write_minari(rows, config.out, env_kwargs=_arguments(config))
        else:
            write(rows, Path(config.out), config.format)
        return config.out
    found = [read(place) for place in config.places]  # all of them, before anything is written
    with Store(config.out) as store:
        for rows in found:
            store.restore(rows)
        return report(store)


def report(store: Store) -> str:
    """What a store holds, who answered how much and how fast, and who agrees with whom; lines of text."""
    counts, given = store.counts(), store.given()
    lines = [
        f"{counts.asked} questions: {counts.answered} answers, {counts.skipped} skipped, {counts.open} open, "
        f"{counts.withdrawn} answers taken back",
        "",
        f"{'labeler':<24} {'left':>6} {'right':>6} {'equal':>6} {'skip':>6} {'s/answer':>9}",
    ]
    for who in sorted({answer.labeler for answer in given}):
        mine = [answer for answer in given if answer.labeler == who]
        said = [sum(answer.mu == mu for answer in mine) for mu in (1.0, 0.0, 0.5, None)]
        seconds = float(np.median([answer.seconds for answer in mine]))
        lines.append(f"{who:<24} " + " ".join(f"{count:>6}" for count in said) + f" {seconds:>9.1f}")
    agreed = [f"{a.one} and {a.other}: kappa {a.kappa:.2f} over {a.questions} questions" for a in agreements(given)]
    return "\n".join(lines + agreed)
