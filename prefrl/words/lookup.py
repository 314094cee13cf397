"""A name from a table, or an import path: how labelers, strategies, schedules and learners are chosen by word."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TypeVar, cast

from prefrl.words.errors import UserError, in_short

T = TypeVar("T")

HERE = "here:"  # begins the name of an object that only the program that gave it has
_KEPT: dict[str, tuple[object, object]] = {}


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A question, "Did you mean 'x'?", when something known resembles what was given, else an empty string."""
    names = list(known)
    close = [name for name in names if name.lower() == given.lower()]
    close = close or difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def import_named(what: str, module: str) -> ModuleType:
    """Import a module that somebody named.

    The working folder is looked in last, and only for what is installed nowhere: a file that lies there and happens to
    be called as an installed package is never run.

    Args:
        what: needs the module, as the user knows it ("strategy 'mine:boldest'"); for the error message.
        module: its full name.

    Raises:
        UserError: there is none, or it fails as it is imported.
    """
    _look_here_for(module.partition(".")[0])
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever its own first lines raise
        said = error if isinstance(error, ImportError) else in_short(error)
        raise UserError(f"{what} cannot be imported ({said}): check the path before the colon.") from error


def _look_here_for(package: str) -> None:
    """Put the working folder at the end of the path if this package is neither imported nor installed."""
    found = None
    with suppress(ImportError, ValueError):  # the second: an empty name, or a module that was made by hand
        found = sys.modules.get(package) or importlib.util.find_spec(package)
    if found is None or getattr(found, "origin", "") is None:  # the second: a folder of that name, which is no package
        with suppress(OSError):  # the working folder may have been removed
            if (here := str(Path.cwd())) not in sys.path:
                sys.path.append(here)
                importlib.invalidate_caches()


def import_path(thing: object) -> str | None:
    """The path "package.module:name" by which this very object is found in any program; None where there is none."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    if not module or module == "__main__" or not name.isidentifier():
        return None
    return f"{module}:{name}" if getattr(sys.modules.get(module), name, None) is thing else None


def keep(made: object, name: str, thing: object) -> str:
    """Have `lookup` find an object of this program by a name, which is the same for the same object.

    Args:
        made: what is found.
        name: how it is called; two of one name are told apart by a number.
        thing: what the program gave.
    """
    number = 0
    while (key := f"{HERE}{name}{number or ''}") in _KEPT and _KEPT[key][1] is not thing:
        number += 1
    _KEPT.setdefault(key, (made, thing))
    return key


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """The entry called `name`, or the object at the import path `package.module:attribute`.

    Args:
        kind: what is being looked up, as the user knows it ("strategy"); for the error message.
        name: a key of `table`, or an import path with a colon.
        table: the built-in entries.

    Raises:
        UserError: nothing is known by that name, or the import path leads nowhere.
    """
    if name in table:
        return table[name]
    if name.startswith(HERE):
        if name in _KEPT:
            return cast(T, _KEPT[name][0])
        raise UserError(
            f"{kind} {name!r} was an object of the program that began the run: in Python pass it again, "
            f"{kind}=OBJECT, or give the path by which it can be imported."
        )
    if ":" not in name:
        raise UserError(
            f"unknown {kind} {name!r}: it is one of {', '.join(sorted(table))}, or an import path "
            f"'package.module:name'.{did_you_mean(name, table)}"
        )
    module_name, _, attribute = name.partition(":")
    module = import_named(f"{kind} {name!r}", module_name)
    if not hasattr(module, attribute):
        raise UserError(
            f"{kind} {name!r}: module {module_name!r} has no {attribute!r}.{did_you_mean(attribute, dir(module))}"
        )
    return cast(T, getattr(module, attribute))
