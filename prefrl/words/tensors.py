"""Named arrays and what is said of them in one safetensors file, which may be somebody else's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from prefrl.words.errors import UserError
from prefrl.words.files import write_whole


def save_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write them whole, with ordinary permissions; what JSON cannot say of `about` is written as Python shows it.

    Raises:
        OSError: the file cannot be written.
    """
    said = {"prefrl": json.dumps(about, default=repr)}  # one key: several come in no fixed order
    write_whole(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}, said))


def load_tensors(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file and what is said of them.

    Nothing is larger than the file: it holds the tensors as they are, and says where each begins.

    Raises:
        UserError: it is no safetensors file, or says nothing that this wrote.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("prefrl", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{str(path)!r} is not a safetensors file of prefrl ({said:.150}).") from error
    if not isinstance(about, dict):
        raise UserError(f"{str(path)!r} is not a safetensors file of prefrl: it says nothing of what it holds.")
    return tensors, about


def size_of(tensors: dict[str, Tensor]) -> int:
    """Numbers in all of them."""
    return sum(tensor.numel() for tensor in tensors.values())
