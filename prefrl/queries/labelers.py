"""Who answers: labelers by name.

A labeler is any object called with a sequence of queries that returns the answers that have come back, possibly
fewer than were asked, and late ones among them. One that also has `observe_policy(mean_return, episode_steps)` is told
before each phase how the current policy does; one that has `state_dict()` and `load_state_dict(state)` is saved with
the run; one that has `measures()` writes columns of its own into metrics.csv. `prefrl.queries.answering` is what calls
it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from prefrl.experience.clips import Artist
from prefrl.experience.task import Task
from prefrl.queries.constitution import read_constitution
from prefrl.queries.human import Human
from prefrl.queries.judge import Judge
from prefrl.queries.oracle import make_oracle
from prefrl.words.errors import UserError, in_short
from prefrl.words.lookup import lookup
from prefrl.words.preference import Preference, Query


@runtime_checkable
class Labeler(Protocol):
    """Anything that answers queries."""

    def __call__(self, queries: Sequence[Query]) -> list[Preference]:
        """The answers that have come back, in the order asked; a skipped question is a preference whose mu is None."""


def make_human(
    teachers: Sequence[str], seed: int, *, constitution: Any = None, cache: Any = None, task: Any = None, **people: Any
) -> Human:
    """People, and an oracle of these teachers for what they leave; the rest as `Human` takes it, but for a judge's."""
    return Human(**people, stand_in=make_oracle(teachers, seed))


def make_judge(
    teachers: Sequence[str],
    seed: int,
    *,
    constitution: Path | str | None = None,
    cache: Path | None = None,
    task: Task | None = None,
    **_: Any,
) -> Judge:
    """A judge by this constitution, who draws clips of this task where a model is to look at them.

    Raises:
        UserError: there is no constitution, or it cannot be read; or what it asks a model needs what is not here.
    """
    if constitution is None:
        raise UserError("a judge goes by a constitution: give its file with --constitution.")
    principles = read_constitution(constitution)
    artist = Artist(task) if principles.shows_frames and task is not None else None
    return Judge(principles, cache, artist.frames if artist else None)


def is_shown_to_a_model(labeler: str, constitution: Path | None) -> bool:
    """Whether clips are drawn for a judge's model to look at.

    Raises:
        UserError: the judge's constitution is not given, or cannot be read.
    """
    if labeler != "judge":
        return False
    return make_judge((), 0, constitution=constitution).constitution.shows_frames


LABELERS: dict[str, Callable[..., Labeler]] = {"oracle": lambda teachers, seed, **_: make_oracle(teachers, seed)}
LABELERS["human"] = make_human
LABELERS["judge"] = make_judge
"""Built-in labelers; each entry is called as `factory(teachers, seed, **people)`, see `make_labeler`."""


def find_factory(name: str) -> Callable[..., Labeler]:
    """What makes the labeler called `name`: a key of `LABELERS`, or an import path.

    Raises:
        UserError: nothing is known by that name, or it is of one's own and cannot be called as `factory(seed=seed)`.
    """
    factory = lookup("labeler", name, LABELERS)
    if name in LABELERS:
        return factory
    try:
        inspect.signature(factory).bind(seed=0)
    except ValueError:  # what is compiled may not say what it takes
        pass
    except TypeError as error:
        raise UserError(
            f"labeler {name!r} cannot be called as factory(seed=0) ({error}): give the path of a function or "
            "class that takes a seed and returns the labeler."
        ) from error
    return factory


def make_labeler(name: str, teachers: Sequence[str], seed: int, **people: Any) -> Labeler:
    """The labeler called `name`.

    Args:
        name: a key of `LABELERS`, or an import path `package.module:factory`, called as `factory(seed=seed)`.
        teachers: the simulated annotators that share a built-in labeler's questions, as `parse_teacher` reads them.
        seed: seeds everything the labeler draws.
        people: what `Human` needs to know; no other labeler asks.

    Raises:
        UserError: nothing is known by that name, a teacher cannot be read, or the factory makes no labeler.
    """
    if name in LABELERS:
        return LABELERS[name](teachers, seed, **people)
    try:
        labeler = find_factory(name)(seed=seed)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"labeler {name!r} could not be made: factory(seed={seed}) failed with {in_short(error)}."
        ) from error
    if not callable(labeler):
        raise UserError(
            f"labeler {name!r} made {labeler!r}, which is not callable: return an object that takes a sequence of "
            "queries and returns a list of preferences."
        )
    return labeler
