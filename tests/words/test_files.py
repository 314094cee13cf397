"""Files that may be somebody else's."""

import os

import pytest
from helpers import sentence

from prefrl.words.errors import UserError
from prefrl.words.files import read_text, write_whole


def test_text_is_utf8_whatever_the_locale(tmp_path):
    (tmp_path / "one").write_bytes("Größe\r\n".encode())
    assert read_text(tmp_path / "one") == "Größe\r\n"


def make(path, kind):
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe that nobody writes to":
        os.mkfifo(path)
    elif kind == "a file without end":
        path.symlink_to("/dev/zero")
    elif kind == "a link to itself":
        path.symlink_to(path)
    elif kind == "latin-1":
        path.write_bytes("Größe".encode("latin-1"))
    elif kind == "too much":
        path.write_bytes(bytes(1001))


@pytest.mark.parametrize(
    "kind",
    [
        "nothing",
        "a folder",
        "a pipe that nobody writes to",
        "a file without end",
        "a link to itself",
        "latin-1",
        "too much",
    ],
)
def test_what_is_no_text_of_a_run_is_told_in_a_sentence(kind, tmp_path):
    make(tmp_path / "one", kind)
    with pytest.raises(UserError, match="cannot read") as caught:
        read_text(tmp_path / "one", most=1000)
    sentence(caught.value)


def test_a_link_is_replaced_and_what_it_points_to_is_left(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "film").symlink_to(tmp_path / "precious")
    write_whole(tmp_path / "film", b"new")
    assert (tmp_path / "precious").read_text() == "kept"
    assert (tmp_path / "film").read_bytes() == b"new"
    assert not (tmp_path / "film").is_symlink()
