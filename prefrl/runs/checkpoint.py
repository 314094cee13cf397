"""A run's state on disk, between two phases: written whole or not at all, checked when it is read, and never pickled.

A checkpoint is one safetensors file: arrays as they are, and everything else as JSON in its header. Its name says after
how many steps it was taken, and a digest of its content, so that a damaged one is found out. The newest two are kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.numpy import save as to_bytes

from prefrl.words.errors import UserError

KEPT = 2
NAME = re.compile(r"(\d+)-([0-9a-f]{16})\.safetensors")
FORMAT = 1

State = Mapping[str, Any]
"""A part's state: a tree of dicts and lists whose leaves are arrays, tensors, bytes, numbers, text or None."""


def write(folder: Path, step: int, state: State) -> Path:
    """Keep this state of a run that has taken so many steps, on disk when this returns; older ones than two go.

    Raises:
        UserError: it cannot be written; the checkpoints before it are as they were.
    """
    arrays: dict[str, NDArray[Any]] = {}
    tree = _split(state, arrays)
    data = to_bytes(arrays, {"prefrl": json.dumps({"format": FORMAT, "step": step, "state": tree})})
    place = folder / "checkpoints"
    target = place / f"{step:012d}-{_digest(data)}.safetensors"
    new = target.with_suffix(".new")
    try:
        place.mkdir(exist_ok=True)
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(target)
        for older in sorted(place.glob("*.safetensors"))[:-KEPT]:
            older.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise UserError(
            f"the checkpoint after {step} steps, {len(data) / 2**20:.0f} MiB, cannot be written to {str(place)!r} "
            f"({error.strerror}): the one before it, if there is one, is whole."
        ) from error
    return target


def newest(folder: Path) -> tuple[int, State, list[Path]]:
    """The newest whole checkpoint of a run: its steps, its state, and those that are newer and damaged.

    Raises:
        UserError: there is none.
    """
    damaged: list[Path] = []
    for path in sorted((folder / "checkpoints").glob("*.safetensors"), reverse=True):
        read = _read(path)
        if read is not None:
            return *read, damaged
        damaged.append(path)
    said = f"its {len(damaged)} are damaged" if damaged else "the run was stopped before its first"
    raise UserError(f"{str(folder)!r} has no checkpoint to go on from: {said}; run it again with another --out.")


@contextlib.contextmanager
def of_this_version(folder: Path) -> Iterator[None]:
    """Have what cannot be restored inside told as what it is: the state of a run that another prefrl began.

    Raises:
        UserError: a part's state is not what that part restores.
    """
    try:
        yield
    except UserError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"the checkpoint in {str(folder)!r} is of another version of prefrl, or of its libraries "
            f"({type(error).__name__}: {error}): go on with that version, or begin anew from its answers, with "
            f"--labels-from {folder}."
        ) from error


def has_any(folder: Path) -> bool:
    """Whether a run has left a checkpoint, whole or not."""
    return any((folder / "checkpoints").glob("*.safetensors"))


def _read(path: Path) -> tuple[int, State] | None:
    """The steps and state of a file; None where it is not what was written."""
    named = NAME.fullmatch(path.name)
    data = path.read_bytes()
    if named is None or _digest(data) != named[2]:
        return None
    arrays = safetensors.numpy.load(data)
    length = int.from_bytes(data[:8], "little")
    about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["prefrl"])
    return (about["step"], _join(about["state"], arrays)) if about["format"] == FORMAT else None


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _split(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """The tree as JSON, whose arrays have gone to `arrays` and are called {"array": their key} instead."""
    if isinstance(value, Mapping):
        return {"dict": [[_key(key), _split(item, arrays)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_split(item, arrays) for item in value]
    if isinstance(value, torch.Tensor):
        return {"tensor": _put(value.detach().cpu().numpy(), arrays)}
    if isinstance(value, bytes):
        return {"bytes": _put(np.frombuffer(value, np.uint8), arrays)}
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "S":
            return {"text": value.dtype.itemsize, "shape": value.shape, "of": _put(_as_bytes(value), arrays)}
        return {"array": _put(value, arrays)}
    return value.item() if isinstance(value, np.generic) else value


def _join(tree: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """What `_split` took apart."""
    if isinstance(tree, list):
        return [_join(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if "dict" in tree:
        return {_unkey(key): _join(item, arrays) for key, item in tree["dict"]}
    if "tensor" in tree:
        return torch.from_numpy(arrays[tree["tensor"]].copy())
    if "bytes" in tree:
        return arrays[tree["bytes"]].tobytes()
    if "text" in tree:
        return arrays[tree["of"]].view(f"S{tree['text']}").reshape(tree["shape"]).copy()
    return arrays[tree["array"]].copy()


def _key(key: Any) -> Any:
    return list(key) if isinstance(key, tuple) else key


def _unkey(key: Any) -> Any:
    return tuple(key) if isinstance(key, list) else key


def _put(array: NDArray[Any], arrays: dict[str, NDArray[Any]]) -> str:
    arrays[name := str(len(arrays))] = np.ascontiguousarray(array).reshape(array.shape)
    return name


def _as_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(array.tobytes(), np.uint8)
