"""What a checkpoint holds comes back as it was, and what is damaged is found out."""

import numpy as np
import pytest
import torch
from helpers import sentence

from prefrl.runs import checkpoint
from prefrl.words.errors import UserError

STATE = {
    "arrays": {
        "float64": np.array([1.0, np.nan, -0.0, 5e-324]),
        "no dimension": np.array(2.5),
        "empty": np.zeros((0, 3), np.float32),
        "bool": np.array([[True, False]]),
        "uint32": np.arange(624, dtype=np.uint32),
        "not contiguous": np.arange(12).reshape(3, 4).T,
        "text": np.array([[b"a", b"longer"], [b"", b"c"]]),
    },
    "tensor": torch.tensor([1.5, -2.0]),
    "bytes": b"\x00JPEG\xff",
    "list": [1, 2.5, None, "words", True, [np.float32(0.1)]],
    "generator": np.random.default_rng(0).bit_generator.state,
    "keys": {0: "a number", ("row", 3): "two", "name": "text"},
}


def equal(one, other):
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return one == other


def test_every_kind_of_value_comes_back_as_it_was(tmp_path):
    checkpoint.write(tmp_path, 1200, STATE)
    step, state, damaged = checkpoint.newest(tmp_path)
    assert step == 1200
    assert damaged == []
    assert equal(STATE, state)


def test_the_newest_two_are_kept_and_nothing_half_written(tmp_path):
    for step in (100, 900, 1000, 20_000):
        checkpoint.write(tmp_path, step, {"step": step})
    assert checkpoint.newest(tmp_path)[:2] == (20_000, {"step": 20_000})
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert [int(name.split("-")[0]) for name in names] == [1000, 20_000]
    assert all(name.endswith(".safetensors") for name in names)


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied", "renamed"])
def test_a_damaged_one_falls_back_to_the_one_before(tmp_path, damage):
    for step in (100, 200):
        newest = checkpoint.write(tmp_path, step, {"step": step, "array": np.arange(100)})
    data = newest.read_bytes()
    if damage == "renamed":
        newest.rename(newest.with_name("000000000300-0123456789abcdef.safetensors"))
    else:
        newest.write_bytes({"cut": data[:-7], "changed": data[:-1] + b"\x01", "emptied": b""}[damage])
    step, state, damaged = checkpoint.newest(tmp_path)
    assert step == state["step"] == 100
    assert len(damaged) == 1


def test_no_whole_one_is_one_sentence(tmp_path):
    with pytest.raises(UserError) as caught:
        checkpoint.newest(tmp_path)
    assert "before its first" in sentence(caught.value)
    checkpoint.write(tmp_path, 100, STATE).write_bytes(b"")
    with pytest.raises(UserError) as caught:
        checkpoint.newest(tmp_path)
    assert "damaged" in sentence(caught.value)


def test_a_place_that_cannot_be_written_keeps_the_one_before(tmp_path):
    (tmp_path / "run").mkdir()
    checkpoint.write(tmp_path / "run", 100, STATE)
    moved = (tmp_path / "run" / "checkpoints").rename(tmp_path / "kept")
    (tmp_path / "run" / "checkpoints").write_text("a file is in the way")
    with pytest.raises(UserError) as caught:
        checkpoint.write(tmp_path / "run", 200, STATE)
    assert "cannot be written" in sentence(caught.value)
    (tmp_path / "run" / "checkpoints").unlink()
    moved.rename(tmp_path / "run" / "checkpoints")
    assert checkpoint.newest(tmp_path / "run")[0] == 100
