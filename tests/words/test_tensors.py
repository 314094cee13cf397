"""Tensors in a file, which may be somebody else's: small in memory when small on disk, and readable by all."""

import os
import struct

import pytest
import torch
from helpers import sentence
from safetensors.torch import save

from prefrl.words.errors import UserError
from prefrl.words.tensors import load_tensors, save_tensors, size_of


def test_tensors_come_back_with_what_was_said_of_them(tmp_path):
    tensors = {"b": torch.arange(6).reshape(2, 3), "a": torch.zeros(3).expand(2, 3)}
    save_tensors(tmp_path / "some.safetensors", tensors, {"members": 3, "odd": int})
    read, about = load_tensors(tmp_path / "some.safetensors")
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert about == {"members": 3, "odd": "<class 'int'>"}
    assert size_of(read) == 12
    assert [path.name for path in tmp_path.iterdir()] == ["some.safetensors"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_has_the_permissions_that_files_have(mask, tmp_path):
    before = os.umask(mask)
    try:
        save_tensors(tmp_path / "some.safetensors", {"a": torch.zeros(1)}, {})
    finally:
        os.umask(before)
    assert (tmp_path / "some.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_file_that_cannot_be_written_is_left_as_it_was(tmp_path):
    path = tmp_path / "some.safetensors"
    save_tensors(path, {"a": torch.ones(1)}, {})
    (tmp_path / "some.safetensors.unfinished").mkdir()  # in the way, whoever writes
    with pytest.raises(OSError):
        save_tensors(path, {"a": torch.zeros(1)}, {})
    assert load_tensors(path)[0]["a"] == 1


WHOLE = save({"a": torch.zeros(50)}, {"prefrl": "{}"})
DAMAGED = {
    "nothing": b"",
    "noise": bytes(range(256)) * 20,
    "half": WHOLE[: len(WHOLE) // 2],
    "a header of 2^62 bytes": struct.pack("<Q", 2**62) + b"{}",
    "a shape of 10^9": WHOLE.replace(b"[50]", b"[1000000000]"),
    "words that are no JSON": save({"a": torch.zeros(1)}, {"prefrl": "Hopper, 700 labels"}),
    "a list": save({"a": torch.zeros(1)}, {"prefrl": "[1]"}),
    "lists within lists": save({"a": torch.zeros(1)}, {"prefrl": "[" * 100_000}),
    "a number of 10^4 digits": save({"a": torch.zeros(1)}, {"prefrl": f'{{"n": {"9" * 9999}}}'}),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_another_file_is_told_in_a_sentence(content, tmp_path):
    (tmp_path / "some.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="is not a safetensors file of prefrl") as caught:
        load_tensors(tmp_path / "some.safetensors")
    sentence(caught.value)
