"""One process at a time in a folder: two that write into it would each take the other's files for its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from prefrl.words.errors import UserError

LOCK = ".lock"
WAIT_S = 5.0  # for a process that is just ending, such as one whose parent was killed


@contextmanager
def alone(folder: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Have a folder to oneself, until the block or the process ends, however that ends.

    Where the file system knows no locks, nobody is kept out.

    Args:
        folder: that is there.
        wait_s: how long to wait for one who has it.

    Raises:
        UserError: another process has it still.
        OSError: nothing can be written there.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout as error:
        raise UserError(
            f"another process is at work in {str(folder)!r}: wait until it has ended, or stop it, or give another "
            f"--out."
        ) from error
    except NotImplementedError:
        pass
    try:
        yield
    finally:
        lock.release()
