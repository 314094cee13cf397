"""What goes wrong by a mistake in what was asked for."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STANDARD = sysconfig.get_path("stdlib")


class UserError(ValueError):
    """A mistake in what was asked for; its message is one sentence: what was given, what is allowed, what to do."""


def install(extra: str) -> str:
    """The command that installs an optional part; no index has this package, so it works in a checkout."""
    return f'pip install -c constraints.txt -e ".[{extra}]" in your checkout of prefrl'


@contextmanager
def blamed_on(what: str, todo: str) -> Iterator[None]:
    """Whatever is raised inside is a mistake in something that is not ours, and is told in one sentence.

    Args:
        what: is not ours: "labeler 'mine:ask'".
        todo: what to do about it.

    Raises:
        UserError: in place of any other error.
    """
    try:
        yield
    except (UserError, OSError, MemoryError):  # the last two are the machine's
        raise
    except Exception as error:
        raise UserError(f"{what} failed ({in_short(error)}): {todo}.") from error


def in_short(error: BaseException) -> str:
    """An error of somebody else's code on one line: its kind, what it says, and where in that code it arose."""
    said = " ".join(str(error).split()).rstrip(".")
    ours = str(Path(__file__).parent.parent)
    theirs = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", ours, STANDARD)) and "site-packages" not in frame.filename
    ]
    place = f", {Path(theirs[-1].filename).name} line {theirs[-1].lineno}" if theirs else ""
    return f"{type(error).__name__}{f': {said:.200}' if said else ''}{place}"
