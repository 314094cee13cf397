"""What goes wrong by a mistake in what was asked for."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from pathlib import Path

LIBRARIES = (*(str(Path(sysconfig.get_path(name))) for name in ("stdlib", "purelib", "platlib")), "<")


class UserError(ValueError):
    """A mistake in what was asked for; its message is one sentence: what was given, what is allowed, what to do."""


def in_short(error: BaseException) -> str:
    """An error of somebody else's code on one line: its kind, what it says, and where in that code it arose."""
    said = " ".join(str(error).split()).rstrip(".")
    ours = str(Path(__file__).parent.parent)
    theirs = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*LIBRARIES, ours, sys.base_prefix))
    ]
    place = f", {Path(theirs[-1].filename).name} line {theirs[-1].lineno}" if theirs else ""
    return f"{type(error).__name__}{f': {said:.200}' if said else ''}{place}"
