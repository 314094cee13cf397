"""Rows that come from elsewhere, checked before any of them is taken: one that cannot be makes a store unreadable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from numbers import Integral, Real
from typing import Any

from prefrl.queries.store import Rows
from prefrl.queries.store_tables import ARRAYS, INTEGERS, MOST_BYTES
from prefrl.words.errors import UserError
from prefrl.words.preference import KINDS, Occasion, Segment, misfit, question_key, question_key_by_contents

MOST_ITEMS = 64  # of a question
MOST_WANTED = 1_000  # people that a question is still for
MOST_TEXT = 100_000  # letters

Row = Mapping[str, Any]


def checked(rows: Rows, place: str) -> Rows:
    """The same rows, all of which can be.

    Args:
        rows: as `Store.dump` gives them.
        place: where they come from, for the sentence.

    Raises:
        UserError: one of them cannot be; which, and why.
    """
    segments: set[str] = set()
    kinds: dict[str, str] = {}
    items: dict[str, list[Row]] = {}

    def one_segment(row: Row) -> None:
        arrays = row["steps"]
        lengths = {len(array) for array in arrays}
        _must(len(lengths) == 1 and lengths != {0}, f"its arrays have {sorted(lengths)} steps")
        _must(row["scene"] is None or len(row["scene"]) in lengths, "its scene has another number of steps")
        _must(sum(array.nbytes for array in arrays) <= MOST_BYTES, "it is larger than a segment may be")
        _must(_is_text(row["env_id"]), f"env_id is {row['env_id']!r:.80}")
        _integers(row)
        origin = {name: row[name] for name in INTEGERS}
        key = Segment(**dict(zip(ARRAYS, arrays, strict=True)), env_id=row["env_id"], **origin).key
        _must(row["key"] == key, f"its key is {row['key']!r:.80}, and that of its contents {key!r}")
        segments.add(key)

    def one_query(row: Row) -> None:
        _must(row["kind"] in KINDS, f"its kind is {row['kind']!r:.80}, and not one of {', '.join(KINDS)}")
        _must(_is_integer(row["wanted"]) and row["wanted"] <= MOST_WANTED, f"wanted is {row['wanted']!r:.80}")
        _time(row, "asked_at")
        shown = sorted(items.get(row["key"], []), key=lambda item: item["place"])
        _must([item["place"] for item in shown] == list(range(len(shown))), "its items do not count from place 0")
        _must(2 <= len(shown) <= (2 if row["kind"] == "pair" else MOST_ITEMS), f"it shows {len(shown)} segments")
        held = [(item["segment_key"], Occasion(*(item[name] for name in Occasion._fields))) for item in shown]
        _must(row["kind"] == "pair" or len(set(held)) == len(held), "it shows a segment twice")
        keys = {question_key(row["kind"], held)}
        if row["kind"] == "pair":
            keys.add(question_key_by_contents(held[0][0], held[1][0]))
        _must(row["key"] in keys, f"its key is {row['key']!r:.80}, and that of what it shows {min(keys)!r}")
        kinds[row["key"]] = row["kind"]

    def one_item(row: Row) -> None:
        _must(row["segment_key"] in segments, f"its segment {row['segment_key']!r:.80} is not there")
        _must(_is_integer(row["place"]) and row["place"] < MOST_ITEMS, f"its place is {row['place']!r:.80}")
        _integers(row)
        items.setdefault(row["query_key"], []).append(row)

    def one_answer(row: Row) -> None:
        kind = kinds.get(row["query_key"])
        _must(kind is not None, f"its question {row['query_key']!r:.80} is not there")
        _must(_is_text(row["labeler"]), f"its labeler is {row['labeler']!r:.80}")
        _must(_is_number(row["seconds"], 0.0), f"seconds is {row['seconds']!r:.80}, and not zero or more")
        for name in ("mu", "strength"):
            fits = row[name] is None or _is_number(row[name], 0.0, 1.0)
            _must(fits, f"{name} is {row[name]!r:.80}, and not a number from 0 to 1")
        said = (row["mu"], row["choice"], row["strength"])
        wrong = misfit(str(kind), len(items[row["query_key"]]), *said)
        _must(not wrong, wrong)
        critique = row["critique"]
        _must(critique is None or _is_text(critique, MOST_TEXT), f"its critique is {critique!r:.80}")
        _time(row, "answered_at")

    def one_withdrawal(row: Row) -> None:
        one_answer(row)
        _time(row, "withdrawn_at")

    each: dict[str, Callable[[Row], None]] = {
        "segments": one_segment,
        "items": one_item,
        "queries": one_query,
        "answers": one_answer,
        "withdrawals": one_withdrawal,
    }
    for table, check in each.items():
        for number, row in enumerate(rows[table], 1):
            try:
                check(row)
            except (_Wrong, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                said = " ".join(str(error).split())
                raise UserError(
                    f"row {number} of the {table} in {place!r} cannot be, and none was taken: {said:.250}."
                ) from error
    strays = items.keys() - kinds.keys()
    if strays:
        raise UserError(f"the items in {place!r} show a question {min(strays)!r} that is not there: none was taken.")
    return rows


class _Wrong(Exception):  # noqa: N818  # it never leaves this module
    pass


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Wrong(otherwise)


def _is_integer(value: Any) -> bool:
    """From 0 to what a database keeps."""
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) < 2**63


def _is_number(value: Any, least: float, most: float = 1e12) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and least <= float(value) <= most


def _is_text(value: Any, most: int = 1_000) -> bool:
    return isinstance(value, str) and bool(value.strip()) and len(value) <= most and "\0" not in value


def _integers(row: Row) -> None:
    for name in INTEGERS:
        _must(_is_integer(row[name]), f"{name} is {row[name]!r:.80}, and not a whole number of zero or more")


def _time(row: Row, name: str) -> None:
    _must(isinstance(row[name], datetime), f"{name} is {row[name]!r:.80}, and no time")
