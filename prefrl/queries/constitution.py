"""What a judge goes by: principles with names, in a file that can be read, argued about and committed.

    [[principle]]
    name = "stays upright"
    predicate = "my_principles:upright"     # holds of a step, or not
    weight = 2.0

    [[principle]]
    name = "looks natural"
    question = "In which clip does the animal move more naturally?"    # put to a language or vision model

    [endpoint]                              # where questions go; not needed without any
    url = "http://localhost:8000/v1"
    model = "some-vision-model"

Bai et al. 2022 (Constitutional AI, arXiv 2212.08073) had a language model compare two replies by a principle drawn from
such a list; here every principle is asked about, and their weights are in the open.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prefrl.words.errors import UserError, in_short
from prefrl.words.lookup import did_you_mean, lookup
from prefrl.words.preference import Segment

Predicate = Callable[[NDArray[Any], NDArray[Any]], Any]
"""Of a segment's observations (T, *observation_shape) and actions (T, *action_shape), how far it holds at each step:
(T,) truths, or numbers in [0, 1]; one number is for the whole segment."""


@dataclass(frozen=True)
class Principle:
    """One thing that behaviour should be.

    Attributes:
        name: as people and reports call it.
        weight: how much it counts beside the others.
        predicate: says by itself whether it holds; None where a model is asked.
        question: what a model is asked about two clips; None where there is a predicate.
    """

    name: str
    weight: float = 1.0
    predicate: Predicate | None = None
    question: str | None = None

    def held(self, segment: Segment) -> NDArray[np.float64]:
        """How far it holds at each step of a segment (T,), in [0, 1].

        Raises:
            UserError: its predicate fails, or says something else.
        """
        assert self.predicate is not None, f"{self.name!r} is put to a model"
        try:
            said = np.asarray(self.predicate(segment.observations, segment.actions), np.float64)
            held = np.broadcast_to(said.squeeze() if said.ndim > 1 else said, len(segment))
        except Exception as error:
            raise UserError(
                f"the predicate of principle {self.name!r} failed on {segment!r:.200} with {in_short(error)}: it is "
                f"called with observations and actions, a row for each step, and returns whether it holds at each."
            ) from error
        if not ((held >= 0) & (held <= 1)).all():
            wrong = held[~((held >= 0) & (held <= 1))][0]
            raise UserError(
                f"the predicate of principle {self.name!r} returned {wrong:g}: it must return true or false, or a "
                f"number from 0 to 1, for each step."
            )
        return held


@dataclass(frozen=True)
class Endpoint:
    """A language or vision model, called as OpenAI's chat completions are, which most servers of models understand.

    Attributes:
        url: where, up to and with its version: "http://localhost:8000/v1".
        model: which.
        key: name of the environment variable that holds the key; "" where none is needed.
        shows: "frames" of a clip as pictures, or its "numbers" as text.
        frames: how many of a clip are shown, evenly apart, its first and last among them.
        timeout_s: seconds that an answer may take.
        retries: times that a request is made again which was refused, lost or too slow.
        parallel: requests at a time.
        temperature: of the model's sampling.
        max_tokens: that an answer may have.
        input_price, output_price: of a million tokens, in whatever currency is wanted.
    """

    url: str
    model: str
    key: str = "OPENAI_API_KEY"
    shows: Literal["frames", "numbers"] = "frames"
    frames: int = 6
    timeout_s: float = 60.0
    retries: int = 4
    parallel: int = 4
    temperature: float = 0.0
    max_tokens: int = 400
    input_price: float = 0.0
    output_price: float = 0.0


@dataclass(frozen=True)
class Constitution:
    """Principles, and how they are put together.

    Attributes:
        principles: at least one.
        about: what a model is told of the task first.
        graded: answer with how sure the principles are together (mu anywhere in [0, 1]), not with the better one.
        endpoint: where questions go; None without any.
    """

    principles: tuple[Principle, ...]
    about: str = ""
    graded: bool = False
    endpoint: Endpoint | None = None

    @property
    def asks_a_model(self) -> bool:
        """Whether any principle is a question."""
        return any(principle.question for principle in self.principles)

    @property
    def shows_frames(self) -> bool:
        """Whether clips have to be drawn."""
        return self.asks_a_model and self.endpoint is not None and self.endpoint.shows == "frames"

    def shares(self, segments: Sequence[Segment]) -> dict[str, float]:
        """The share of steps, over all of these segments, on which each principle that has a predicate holds."""
        checked = [principle for principle in self.principles if principle.predicate is not None]
        return {p.name: float(np.concatenate([p.held(s) for s in segments]).mean()) for p in checked}


@dataclass
class _Reading:
    """A table of the file, and where it is, for messages."""

    path: Path
    called: str
    table: Any
    known: tuple[str, ...]

    def refuse_others(self) -> None:
        if not isinstance(self.table, Mapping):
            raise self.wrong(f"{self.called} is {self.table!r:.80}, and it must be a table of {', '.join(self.known)}.")
        for key in self.table:
            if key not in self.known:
                raise self.wrong(
                    f"{self.called} has {key!r}, which nothing reads: it may have {', '.join(self.known)}."
                    f"{did_you_mean(key, self.known)}"
                )

    def wrong(self, text: str) -> UserError:
        return UserError(f"the constitution {str(self.path)!r}: {text}")

    def get(self, name: str, kind: type | tuple[type, ...], default: Any = None, wanted: str = "text") -> Any:
        value = self.table.get(name, default)
        fits = isinstance(value, kind) and (isinstance(value, bool) <= (kind is bool))
        if not fits or (isinstance(value, float) and not math.isfinite(value)) or value == "":
            raise self.wrong(f"{self.called} has {name}={value!r:.100}, and it must be {wanted}.")
        return value


def read_constitution(path: Path | str) -> Constitution:
    """The principles that a file lists.

    Raises:
        UserError: there is none, it is not TOML, a key is unknown or of the wrong kind, a predicate cannot be imported,
            two principles have one name, or there is a question and nobody to put it to.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"there is no constitution at {str(path)!r}: give a TOML file of principles.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"the constitution {str(path)!r} cannot be read ({error}): give a TOML file.") from error
    whole = _Reading(path, "the file", table, ("about", "graded", "principle", "endpoint"))
    whole.refuse_others()
    listed = whole.get("principle", list, [], "tables, each under [[principle]]")
    if not listed:
        raise whole.wrong("it has no principles: write one under [[principle]], with a name and a predicate.")
    principles = tuple(_principle(path, number, each) for number, each in enumerate(listed, 1))
    names = [principle.name for principle in principles]
    if twice := {name for name in names if names.count(name) > 1}:
        raise whole.wrong(f"two principles are called {min(twice)!r}: give each a name of its own.")
    found = Constitution(
        principles,
        about=whole.get("about", str, "a task") if "about" in table else "",
        graded=whole.get("graded", bool, False, "true or false"),
        endpoint=_endpoint(path, table["endpoint"]) if "endpoint" in table else None,
    )
    if found.asks_a_model and found.endpoint is None:
        asked = next(p.name for p in principles if p.question)
        raise whole.wrong(f"principle {asked!r} is a question, and there is no [endpoint] with a url and a model.")
    return found


def _principle(path: Path, number: int, table: Any) -> Principle:
    reading = _Reading(path, f"principle {number}", table, ("name", "weight", "predicate", "question"))
    reading.refuse_others()
    name = reading.get("name", str, wanted="a name")
    reading.called = f"principle {name!r}"
    weight = float(reading.get("weight", (int, float), 1.0, "a number above zero"))
    if not weight > 0:
        raise reading.wrong(f"principle {name!r} has weight={weight:g}: it must be above zero.")
    if ("predicate" in table) == ("question" in table):
        raise reading.wrong(
            f"principle {name!r} must have either a predicate, 'package.module:function', or a question to put to a "
            f"model: it has {'both' if 'predicate' in table else 'neither'}."
        )
    if "question" in table:
        return Principle(name, weight, question=reading.get("question", str))
    said = reading.get("predicate", str, wanted="an import path 'package.module:function'")
    if ":" not in said:
        raise reading.wrong(f"the predicate {said!r} of {name!r} must be an import path, 'package.module:function'.")
    predicate: Any = lookup("predicate", said, {})
    if not callable(predicate):
        raise reading.wrong(f"the predicate {said!r} of principle {name!r} cannot be called.")
    return Principle(name, weight, predicate=predicate)


def _endpoint(path: Path, table: Any) -> Endpoint:
    known = {each.name: each for each in fields(Endpoint)}
    reading = _Reading(path, "[endpoint]", table, tuple(known))
    reading.refuse_others()
    if missing := [name for name in ("url", "model") if name not in table]:
        raise reading.wrong(f"[endpoint] has no {missing[0]}.")
    texts = {name: table[name] for name in ("key",) if name in table}  # a key may be empty
    for name in set(table) - set(texts):
        default = known[name].default
        if isinstance(default, bool | int | float):
            reading.get(name, (int,) if isinstance(default, int) else (int, float), wanted="a number")
            if table[name] < (name in ("frames", "timeout_s", "parallel", "max_tokens")):
                raise reading.wrong(f"[endpoint] has {name}={table[name]!r}, which is too little.")
        else:
            reading.get(name, str)
    if table.get("shows", "frames") not in ("frames", "numbers"):
        raise reading.wrong(f"[endpoint] has shows={table['shows']!r}: it must be 'frames' or 'numbers'.")
    return Endpoint(**table)
