"""Answers in and out of a store: files that other programs read, one store's answers for another, and who agrees.

A folder that `prefrl labels export` writes holds

    answers.parquet   a row per event: question, answer or withdrawal (or answers.jsonl, the same as JSON lines)
                      event, query_key, kind (pair, ranking or best), left_key and right_key of a pair, asked_at,
                      wanted; labeler, mu (of a pair, the weight on its left segment), choice (of a ranking, places
                      from best to worst, "2>0=1"; of a best one, its place; neither mu nor choice is a skip),
                      strength, critique, seconds, answered_at of answers; withdrawn_at of those taken back. Times are
                      UTC.
    items.parquet     a row per segment that a question shows: query_key, place (from 0, the left one), segment_key, and
                      when it was cut: step (the policy's), seed, env_index, episode, offset (or items.jsonl)
    segments.parquet  a row per segment: key, env_id, and step, seed, env_index, episode, offset of the first that held
                      the same (or segments.jsonl)
    segments.npz      arrays KEY/observations, KEY/actions, KEY/rewards (true, raw), and KEY/scene where people looked

and comes back the same by `prefrl labels import`. Keys are hashes of what they stand for, which an import recomputes:
nothing is ever there twice, and nothing is there that was changed on the way.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefrl.experience.task import Task
from prefrl.queries.rows import checked
from prefrl.queries.store import Given, Rows, Store
from prefrl.queries.store_tables import ARRAYS, INTEGERS, MOST_BYTES, array_of
from prefrl.settings.config import LabelsConfig, TrainConfig, from_toml, read_run
from prefrl.settings.trust import check_package, check_trust, file_of
from prefrl.settings.values import name_value
from prefrl.words.errors import UserError, blamed_on, install
from prefrl.words.preference import ranks_of, word_of
from prefrl.words.stats import cohen_kappa

NOT_OURS = "it holds what prefrl never wrote, so ask who made it"
EVENTS = {"question": "queries", "answer": "answers", "withdrawal": "withdrawals"}
TIMES = ("asked_at", "answered_at", "withdrawn_at")
SIDES = ("left_key", "right_key")
QUESTION = ("kind", "asked_at", "wanted")
ANSWER = ("query_key", "labeler", "mu", "seconds", "answered_at")
MORE = ("choice", "strength", "critique")  # which files of before version 3 have not
COLUMNS = ("event", *SIDES, *QUESTION, *ANSWER, *MORE, "withdrawn_at")
ITEM = ("query_key", "place", "segment_key", *INTEGERS)


def store_of(place: Path | str, trust: bool = False) -> str:
    """The URL or path of the store that a run's folder, a file or a URL stands for.

    Args:
        place: a run's folder, a store's file, or its URL.
        trust: call the host that a run's folder names, although the run was not made here.

    Raises:
        UserError: there is none, or the run's folder names a host.
    """
    if "://" in str(place) or Path(place).is_file():
        return str(place)
    folder = Path(place)
    if (folder / "config.toml").is_file():
        config = read_run(folder)
        store = getattr(config, "store", None) or str(folder / "labels.sqlite")
        if not trust:
            check_trust(config, folder, "host")
        file = file_of(store)
        if file is None or file.is_file():  # looking at answers makes no new store
            return store
    raise UserError(f"there are no answers at {str(place)!r}: give the folder of a run, a store's file, or its URL.")


@contextmanager
def looking_at(place: Path | str, trust: bool = False) -> Iterator[Store]:
    """The store of a place, to be read; arguments as of `store_of`.

    Raises:
        UserError: there is none, it may not be asked, or it holds what no store does.
    """
    url = store_of(place, trust)
    with blamed_on(f"the store of {str(place)!r}", NOT_OURS), Store.reading(url) as store:
        yield store


def read(place: Path | str, trust: bool = False) -> Rows:
    """Everything in a store, or in a folder that `write` wrote; nothing there is changed, not even a store's version.

    Raises:
        UserError: there is neither, or a row of it that cannot be; the sentence names it.
    """
    if "://" not in str(place) and (Path(place) / "segments.npz").is_file():
        return checked(_read_folder(Path(place)), str(place))
    with looking_at(place, trust) as store:
        return checked(store.dump(), str(place))


def write(rows: Rows, folder: Path, kind: str = "parquet") -> None:
    """Write a store's rows as files, "parquet" or "jsonl"; the format is this module's docstring.

    Raises:
        UserError: the folder is there already or cannot be written, or Parquet's package is missing; nothing is left.
    """
    asked = {row["key"]: row for row in rows["queries"]}
    sides: dict[str, dict[str, str]] = {row["key"]: {} for row in rows["queries"] if row["kind"] == "pair"}
    for row in rows["items"]:
        if row["query_key"] in sides:
            sides[row["query_key"]][SIDES[row["place"]]] = row["segment_key"]
    events = []
    for event, table in EVENTS.items():
        for row in rows[table]:
            key = row["key"] if event == "question" else row["query_key"]
            every = asked[key] | sides.get(key, {}) | row
            events.append({name: every.get(name) for name in COLUMNS} | {"event": event, "query_key": key})
    plain = [{k: v for k, v in row.items() if k not in ("steps", "scene")} for row in rows["segments"]]
    arrays = {
        f"{row['key']}/{name}": array
        for row in rows["segments"]
        for name, array in zip((*ARRAYS, "scene"), (*row["steps"], row["scene"]), strict=True)
        if array is not None
    }
    files: dict[str, list[dict[str, Any]]] = {"answers": events, "items": rows["items"], "segments": plain}
    libraries = _pyarrow() if kind == "parquet" else None
    try:
        if folder.exists():
            raise FileExistsError(errno.EEXIST, "it is there already")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _unfinished(folder) as new:
            for name, lines in files.items():
                if libraries is not None:
                    arrow, parquet = libraries
                    parquet.write_table(arrow.Table.from_pylist(lines), new / f"{name}.parquet")
                else:
                    text = (json.dumps(row, default=datetime.isoformat) + "\n" for row in lines)
                    (new / f"{name}.jsonl").write_text("".join(text), encoding="utf-8")
            with (new / "segments.npz").open("wb") as file:
                np.savez_compressed(file, **arrays)
            new.rename(folder)
    except OSError as error:
        raise UserError(
            f"cannot write {str(folder)!r} ({error.strerror}): give a folder that is not there, on a disk with room."
        ) from error


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A new folder beside that one, which is gone at the end unless it has been renamed."""
    new = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    new.mkdir()
    try:
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _read_folder(folder: Path) -> Rows:
    try:
        events, items, segments = (_read_table(folder, name) for name in ("answers", "items", "segments"))
        for row in events:
            for name in TIMES:
                if isinstance(row[name], str):
                    row[name] = datetime.fromisoformat(row[name])
        with _npz(folder / "segments.npz") as arrays:
            for row in segments:
                row["steps"] = [arrays[f"{row['key']}/{name}"] for name in ARRAYS]
                row["scene"] = arrays.get(f"{row['key']}/scene")
        kinds = {event: [row for row in events if row["event"] == event] for event in EVENTS}
        questions = kinds["question"]
        if not (folder / "items.parquet").is_file() and not (folder / "items.jsonl").is_file():  # before version 3
            origin = {row["key"]: {name: row[name] for name in INTEGERS} for row in segments}
            items = [
                {"query_key": row["query_key"], "place": place, "segment_key": row[side]} | origin[row[side]]
                for row in questions
                for place, side in enumerate(SIDES)
            ]
        return {
            "segments": segments,
            "queries": [{"key": r["query_key"], **{name: r.get(name, "pair") for name in QUESTION}} for r in questions],
            "items": [{name: row[name] for name in ITEM} for row in items],
            "answers": [_answer(row) for row in kinds["answer"]],
            "withdrawals": [_answer(row) | {"withdrawn_at": row["withdrawn_at"]} for row in kinds["withdrawal"]],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, zipfile.BadZipFile) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{str(folder)!r} is not a folder that `prefrl labels export` wrote: {said:.200}.") from error


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ANSWER} | {name: row.get(name) for name in MORE}


def _read_table(folder: Path, name: str) -> list[dict[str, Any]]:
    if (folder / f"{name}.parquet").is_file():
        rows: list[dict[str, Any]] = _pyarrow()[1].read_table(folder / f"{name}.parquet").to_pylist()
        return rows
    if name == "items" and not (folder / "items.jsonl").is_file():
        return []
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@contextmanager
def _npz(file: Path) -> Iterator[Arrays]:
    with zipfile.ZipFile(file) as archive:
        yield Arrays(archive)


class Arrays:
    """The arrays of an .npz file by name; none is larger than a segment may be, nor than the file says."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._names = set(archive.namelist())

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The array of this name; ValueError where it is none, KeyError where there is none."""
        about = self._archive.getinfo(f"{name}.npy")
        if about.file_size > MOST_BYTES:
            raise ValueError(f"{name} claims {about.file_size / 2**20:,.0f} MiB, more than {MOST_BYTES >> 20}")
        try:
            return array_of(self._archive.read(about))
        except (ValueError, EOFError, zlib.error) as error:
            raise ValueError(f"{name}: {error}") from error

    def get(self, name: str) -> NDArray[Any] | None:
        """The array of this name, or None."""
        return self[name] if f"{name}.npy" in self._names else None


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
        rows["items"] = [row for row in rows["items"] if row["query_key"] in answered]
        shown = {row["segment_key"] for row in rows["items"]}
        rows["segments"] = [row for row in rows["segments"] if row["key"] in shown]
        rows["withdrawals"] = [row for row in rows["withdrawals"] if row["query_key"] in answered]
        for row in rows["segments"]:
            if row["env_id"] != env_id or len(row["steps"][0]) > segment_steps:
                raise UserError(
                    f"the answers in {str(place)!r} are about segments of {len(row['steps'][0])} steps of "
                    f"{row['env_id']}, and this run has {segment_steps} of {env_id}: start from answers about the same."
                )
        with blamed_on(f"what is in {str(place)!r}", NOT_OURS):
            store.restore(rows)


def write_minari(
    rows: Rows,
    dataset_id: str,
    root: Path | None = None,
    env_kwargs: dict[str, Any] | None = None,
    fixed_horizon: bool | None = None,
    wrappers: Sequence[str] = (),
) -> int:
    """Write the segments as a Minari dataset, an episode each; its metadata names the answers' keys.

    The last action of a segment is left out: what it led to is not part of the segment. So a segment of a single step,
    as short as an episode's end may be, has no transition, and is left out whole.

    Args:
        rows: of one environment.
        dataset_id: as Minari writes it, such as "halfcheetah/labels-v0".
        root: folder of datasets; None for Minari's own.
        env_kwargs: what the run made the environment with.
        fixed_horizon: whether the run held its episodes to one length; None where that is not known.
        wrappers: that the run had around it.

    Returns:
        Segments that were left out.

    Raises:
        UserError: Minari is missing, there are no segments, the id is not one, or it is taken; nothing is left.
    """
    if root is not None:
        os.environ["MINARI_DATASETS_PATH"] = str(root)
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
        from minari.storage import get_dataset_path
    except ImportError as error:
        raise UserError(f"Minari datasets need the package minari: {install('exchange')}.") from error
    segments = [row for row in rows["segments"] if len(row["steps"][-1]) > 1]
    if not segments:
        raise UserError("there is no segment of two steps or more to write yet: nothing of the kind has been asked.")
    env = Task(segments[0]["env_id"], env_kwargs or {}, bool(fixed_horizon), wrappers=tuple(wrappers)).make()
    episodes = []
    for place, row in enumerate(segments):
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
        there = Path(get_dataset_path(dataset_id))
        was_there = there.exists()
        done = False
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
            done = True
        finally:
            if not done and not was_there:  # half a dataset would hold its id
                shutil.rmtree(there, ignore_errors=True)
    except (OSError, ValueError, TypeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"Minari cannot make the dataset {dataset_id!r}: {' '.join(str(error).split()):.200}."
        ) from error
    finally:
        env.close()
    return len(rows["segments"]) - len(segments)


@dataclass(frozen=True)
class Agreement:
    """How far two people agree on the questions that both answered, chance taken off (Cohen's kappa).

    Of a ranking it is taken over every two of its segments, which are not independent of one another.
    """

    one: str
    other: str
    questions: int
    kappa: float


def agreements(given: Iterable[Given]) -> list[Agreement]:
    """Each two labelers that share answered questions; skips are left out."""
    by: dict[str, dict[str, dict[str, str]]] = {}
    for answer in given:
        if answer.mu is not None or answer.choice is not None:
            by.setdefault(answer.labeler, {})[answer.key] = _said(answer)
    found = []
    for one, other in combinations(sorted(by), 2):
        shared = sorted(by[one].keys() & by[other].keys())
        if shared:
            said = [[word for key in shared for _, word in sorted(by[who][key].items())] for who in (one, other)]
            found.append(Agreement(one, other, len(shared), cohen_kappa(*said)))
    return found


def _said(answer: Given) -> dict[str, str]:
    """What was said of what: of a pair left, right or equal, of every two in a ranking the same, or which is best."""
    if answer.choice is None or answer.kind == "best":
        return {"": answer.choice or word_of(answer.mu)}
    ranks = ranks_of(answer.choice, answer.choice.count(">") + answer.choice.count("=") + 1)
    words = {-1: "left", 0: "equal", 1: "right"}
    return {f"{i} {j}": words[int(np.sign(ranks[i] - ranks[j]))] for i, j in combinations(range(len(ranks)), 2)}


def exchange(config: LabelsConfig) -> str:
    """Do what `prefrl labels` was asked for; what to say of it.

    Raises:
        UserError: nothing at one of the places, or no place to write to.
    """
    if config.action == "stats":
        texts = []
        for place in config.places:
            with looking_at(place, config.trust) as store:
                texts.append(report(store))
        return "\n\n".join(texts)
    if config.out is None:
        kind = "a new folder" if config.action == "export" else "the store's file or URL"
        raise UserError(f"`prefrl labels {config.action}` needs --out, {kind}.")
    if config.action == "export":
        if len(config.places) != 1:
            raise UserError(f"export writes one store at a time, and {len(config.places)} are named: merge them first.")
        rows = read(config.places[0], config.trust)
        if config.format == "minari":
            if not config.trust and rows["segments"]:
                _check_env(rows["segments"][0]["env_id"], config.places[0])
            left_out = write_minari(rows, config.out, **_environment(config))
            if left_out:
                return f"{config.out}\n{left_out} segments of a single step have no transition, and are left out"
        else:
            write(rows, Path(config.out), config.format)
        return config.out
    found = [read(place, config.trust) for place in config.places]  # all of them, before anything is written
    with blamed_on(f"what is in {' '.join(config.places)}", NOT_OURS), Store(config.out) as store:
        for rows in found:
            store.restore(rows)
        return report(store)


def _check_env(env_id: str, place: str) -> None:
    """See that the environment's package may be imported: the user's own run may name it, a store by itself may not.

    Raises:
        UserError: it may not.
    """
    folder = Path(place).parent if Path(place).is_file() else Path(place)
    if "://" not in place and (folder / "config.toml").is_file():
        run = read_run(folder)
        if run.env == env_id:
            return check_trust(run, folder, "package")
    check_package(env_id, repr(place))


def _environment(config: LabelsConfig) -> dict[str, Any]:
    """How the run made its environment: as its folder says, or as is said beside a store that is in none."""
    place, given = Path(config.places[0]), config.env_kwargs
    place = place.parent if place.is_file() else place
    if not (place / "config.toml").is_file():
        return {"env_kwargs": name_value(given or (), "environment argument")}
    run = from_toml(TrainConfig, place / "config.toml")
    kwargs = run.env_kwargs if given is None else given
    return {
        "env_kwargs": name_value(kwargs or (), "environment argument"),
        "fixed_horizon": run.fixed_horizon,
        "wrappers": run.wrapper or (),
    }


def report(store: Store) -> str:
    """What a store holds, who answered how much and how fast, and who agrees with whom; lines of text."""
    counts, given = store.counts(), store.given()
    choices = any(answer.kind != "pair" for answer in given)
    lines = [
        f"{counts.asked} questions: {counts.answered} answers, {counts.skipped} skipped, {counts.open} open, "
        f"{counts.withdrawn} answers taken back",
        "",
        f"{'labeler':<24} {'left':>6} {'right':>6} {'equal':>6} {'skip':>6} "
        + (f"{'choice':>6} " if choices else "")
        + f"{'s/answer':>9}",
    ]
    for who in sorted({answer.labeler for answer in given}):
        mine = [answer for answer in given if answer.labeler == who]
        words = ["choice" if answer.choice else word_of(answer.mu) for answer in mine]
        said = [
            words.count(word) for word in ("left", "right", "equal", "cannot tell", *(["choice"] if choices else []))
        ]
        seconds = float(np.median([answer.seconds for answer in mine]))
        lines.append(f"{who:<24} " + " ".join(f"{count:>6}" for count in said) + f" {seconds:>9.1f}")
    agreed = [f"{a.one} and {a.other}: kappa {a.kappa:.2f} over {a.questions} questions" for a in agreements(given)]
    return "\n".join(lines + agreed)
