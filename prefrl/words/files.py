"""Files of a run, which may be somebody else's: read within bounds, written whole and with ordinary permissions."""

from __future__ import annotations

from pathlib import Path

from prefrl.words.errors import UserError

MOST_BYTES = 64 << 20  # of a text file: a metrics.csv of a million rows and more


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a file, UTF-8 whatever the locale.

    Args:
        path: of an ordinary file; a device or a pipe might never end.
        most: bytes.

    Raises:
        UserError: there is no such file, it cannot be read, or it is no text of at most so many bytes.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"cannot read {str(path)!r}: it is no ordinary file; give the folder of a run.")
        with path.open("rb") as file:
            read = file.read(most + 1)
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}; give the folder of a run.") from error
    if len(read) > most:
        raise UserError(f"cannot read {str(path)!r}: it has more than {most} bytes, and no run writes as many.")
    try:
        return read.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {str(path)!r}: it is no text ({error}).") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or as it was before; what is a link becomes a file of its own.

    Raises:
        OSError: it cannot be written.
    """
    new = path.with_name(f"{path.name}.unfinished")
    try:
        new.write_bytes(content)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
