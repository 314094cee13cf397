"""A name from a table, or an import path: how labelers, strategies, schedules and learners are chosen by word."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import TypeVar, cast

from prefrl.words.errors import UserError

T = TypeVar("T")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A question, "Did you mean 'x'?", when something known resembles what was given, else an empty string."""
    by_small_letters = {name.lower(): name for name in known}
    close = difflib.get_close_matches(given.lower(), list(by_small_letters), n=1, cutoff=0.5)
    return f" Did you mean {by_small_letters[close[0]]!r}?" if close else ""


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
    if ":" not in name:
        raise UserError(
            f"unknown {kind} {name!r}: it is one of {', '.join(sorted(table))}, or an import path "
            f"'package.module:name'.{did_you_mean(name, table)}"
        )
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError, TypeError) as error:  # the last two: an empty or a relative module name
        raise UserError(f"{kind} {name!r} cannot be imported ({error}): check the path before the colon.") from error
    if not hasattr(module, attribute):
        raise UserError(
            f"{kind} {name!r}: module {module_name!r} has no {attribute!r}.{did_you_mean(attribute, dir(module))}"
        )
    return cast(T, getattr(module, attribute))
