"""Who answers: labelers by name.

A labeler is any object called with a sequence of queries that returns the answers that have come back, possibly
fewer than were asked, and late ones among them. One that also has `observe_policy(mean_return, episode_steps)` is told
before each phase how the current policy does; one that has `state_dict()` and `load_state_dict(state)` is saved with
the run. `prefrl.queries.answering` is what calls it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from prefrl.queries.human import Human
from prefrl.queries.oracle import make_oracle
from prefrl.words.errors import UserError
from prefrl.words.lookup import lookup
from prefrl.words.preference import Preference, Query


@runtime_checkable
class Labeler(Protocol):
    """Anything that answers queries."""

    def __call__(self, queries: Sequence[Query]) -> list[Preference]:
        """The answers that have come back, in the order asked; a skipped question is a preference whose mu is None."""


def make_human(teachers: Sequence[str], seed: int, **people: Any) -> Human:
    """People, and an oracle of these teachers for what they leave; the rest as `Human` takes it."""
    return Human(**people, stand_in=make_oracle(teachers, seed))


LABELERS: dict[str, Callable[..., Labeler]] = {"oracle": lambda teachers, seed, **_: make_oracle(teachers, seed)}
LABELERS["human"] = make_human
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
        said = " ".join(str(error).split()) or "no message"
        raise UserError(
            f"labeler {name!r} could not be made: factory(seed={seed}) failed with {type(error).__name__}: {said:.200}."
        ) from error
    if not callable(labeler):
        raise UserError(
            f"labeler {name!r} made {labeler!r}, which is not callable: return an object that takes a sequence of "
            "queries and returns a list of preferences."
        )
    return labeler
