"""Settings as people write them on a command line, name=value, and as they are written back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from prefrl.words.errors import UserError


def as_toml(value: Any) -> str:
    """A setting's value as `name_value` reads it: TOML, and words as they are."""
    if isinstance(value, str) and name_value((f"x={value}",), "setting")["x"] == value:
        return value
    return _within(value)


def _within(value: Any) -> str:
    """A value as TOML has it in a list or a table, where a word needs its quotes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(name)} = {_within(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_within, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _key(name: str) -> str:
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


WORDS = {"True": "true", "False": "false"}  # as Python writes them: a text "False" would be taken for true


def name_value(pairs: tuple[str, ...], what: str) -> dict[str, Any]:
    """`("a=1", "b=true")` as `{"a": 1, "b": True}`: values are TOML, or plain words.

    Raises:
        UserError: an item without "=".
    """
    import tomllib

    parsed = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or "\n" in pair:
            raise UserError(f"{what} {pair!r} is not of the form name=value, such as learning_rate=1e-4.")
        try:
            parsed[name] = tomllib.loads(f"value = {WORDS.get(value, value)}")["value"]
        except tomllib.TOMLDecodeError:
            parsed[name] = value
    return parsed
