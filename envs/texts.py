"""A world of short texts, written a token at a time or chosen whole: a language model small enough to be solved.

A prompt says which letters are wanted. A text is worth the value of every letter that it has, counted once, less
`repetition` for every further time that a letter comes. Longer texts are therefore better at first, more of a good
letter is better at first, and neither holds for long: whoever learns the reward from the short, mixed texts of the
reference and then writes what that reward likes most has two mistakes to fall for.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from .exact import HORIZONS, FiniteWorld, Tables, about, check_range, check_size

Text = tuple[int, ...]
REWARDED = ("text", "token")


class TokenWriter(FiniteWorld):
    """Answer a prompt, a token at a time.

    | | |
    |---|---|
    | Observation | Box(0, 1, prompts + letters (length - 1)): the prompt, and the letter at each place, one-hot; \
zeros where nothing is written yet |
    | Action | Discrete(tokens): the next token; 0 ends the text, and the others are the letters |
    | Reward | the worth of the text, where it ends, or what each token adds to it |
    | Start | every prompt alike |
    | Horizon, segment | at most `length` steps |
    | Reference | every token alike |

    The values of the letters fall evenly from 1 to -0.5, and go round by one with each prompt: letter 1 is best for
    prompt 0, letter 2 for prompt 1. At the default `repetition` a text of the three letters worth most is worth 1.875,
    and the best letter five times over is worth 0.

    Args:
        prompts: how many.
        tokens: how many.
        length: most letters in a text.
        rewarded: "text", all at its end, or "token", what each adds; the sum is the same, and so is the optimum.
        fixed_length: every text has `length` letters, and no token ends it: all of them are letters.
        repetition: taken off for each letter that the text has already.
        pays: as `FiniteWorld` says.
        beta: as `FiniteWorld` says.

    Versions: v0, first.
    """

    metadata = about(5, "the worth of the text")

    def __init__(
        self,
        prompts: int = 4,
        tokens: int = 6,
        length: int = 5,
        rewarded: str = "text",
        fixed_length: bool = False,
        repetition: float = 0.25,
        pays: str = "reward",
        beta: float = 1.0,
    ) -> None:
        if rewarded not in REWARDED:
            raise ValueError(f"rewarded={rewarded!r}: what is rewarded is the text or each token")
        tables = _tokens(prompts, tokens, length, rewarded, fixed_length, repetition)
        super().__init__(tables, length, self.metadata["reward"], pays, beta)


class WholeText(FiniteWorld):
    """Answer a prompt with one of all the texts that `TokenWriter` can write: a bandit of many arms.

    | | |
    |---|---|
    | Observation | Box(0, 1, prompts): the prompt, one-hot |
    | Action | Discrete(3906): the text, shorter ones first, those of one length in the order of their letters |
    | Reward | the worth of the text |
    | Start | every prompt alike |
    | Horizon, segment | 1 step |
    | Reference | the chance that `TokenWriter`'s reference writes the text |

    Args: as of `TokenWriter`; nothing is rewarded but the text.

    Versions: v0, first.
    """

    metadata = about(1, "the worth of the text")

    def __init__(
        self,
        prompts: int = 4,
        tokens: int = 6,
        length: int = 5,
        fixed_length: bool = False,
        repetition: float = 0.25,
        pays: str = "reward",
        beta: float = 1.0,
    ) -> None:
        tables = _wholes(prompts, tokens, length, fixed_length, repetition)
        super().__init__(tables, 1, self.metadata["reward"], pays, beta)


def letter_values(prompt: int, letters: int) -> NDArray[np.float64]:
    """What each letter is worth to a prompt, (letters,)."""
    return np.roll(np.linspace(1.0, -0.5, letters), prompt)


def worth(text: Text, values: NDArray[np.float64], repetition: float) -> float:
    """What a text is worth, by the values of its letters, which count from 0."""
    different = set(text)
    return float(sum(values[letter] for letter in different) - repetition * (len(text) - len(different)))


def finished_texts(tokens: int, length: int, fixed_length: bool) -> list[Text]:
    """Every text, in the order of `WholeText`'s actions; letters count from 0."""
    letters = tokens if fixed_length else tokens - 1
    return [
        text for n in range(length if fixed_length else 0, length + 1) for text in product(range(letters), repeat=n)
    ]


def _check(prompts: int, tokens: int, length: int, fixed_length: bool, repetition: float) -> int:
    """The number of letters.

    Raises:
        ValueError: an argument out of range.
    """
    check_range("prompts", prompts, 1, 1000)
    check_range("tokens", tokens, 2 if fixed_length else 3, 1000)
    check_range("length", length, 1, HORIZONS["TokenWriter"])
    if not 0 <= repetition < np.inf:
        raise ValueError(f"repetition={repetition} is taken off a text's worth: it must be zero or more")
    return tokens if fixed_length else tokens - 1


@cache
def _tokens(prompts: int, tokens: int, length: int, rewarded: str, fixed_length: bool, repetition: float) -> Tables:
    """The tables of `TokenWriter`: its states are the texts that can still be written on, prompt by prompt."""
    letters = _check(prompts, tokens, length, fixed_length, repetition)
    check_size(prompts * tokens * sum(letters**n for n in range(length)))
    texts = [text for n in range(length) for text in product(range(letters), repeat=n)]
    place = {text: n for n, text in enumerate(texts)}
    states, first = prompts * len(texts), 0 if fixed_length else 1  # the token that is letter 0
    observations = np.zeros((states, prompts + letters * (length - 1)), np.float32)
    rewards, successors = np.zeros((states, tokens)), np.full((states, tokens, 1), -1)
    for prompt in range(prompts):
        values = letter_values(prompt, letters)
        for n, text in enumerate(texts):
            state, before = prompt * len(texts) + n, worth(text, values, repetition)
            observations[state, prompt] = 1
            observations[state, [prompts + at * letters + letter for at, letter in enumerate(text)]] = 1
            if not fixed_length and rewarded == "text":
                rewards[state, 0] = before
            for letter in range(letters):
                longer = (*text, letter)
                goes_on = longer in place
                after = worth(longer, values, repetition)
                if goes_on:
                    successors[state, first + letter] = prompt * len(texts) + place[longer]
                if rewarded == "token":
                    rewards[state, first + letter] = after - before
                elif not goes_on:
                    rewards[state, first + letter] = after
    start = np.zeros(states)
    start[:: len(texts)] = 1 / prompts
    return Tables(
        observations, start, rewards, successors, np.ones((states, tokens, 1)), np.full((states, tokens), 1 / tokens)
    )


@cache
def _wholes(prompts: int, tokens: int, length: int, fixed_length: bool, repetition: float) -> Tables:
    """The tables of `WholeText`: its states are the prompts."""
    letters = _check(prompts, tokens, length, fixed_length, repetition)
    check_size(prompts * letters**length)
    texts = finished_texts(tokens, length, fixed_length)
    written = np.array([len(text) + (len(text) < length) for text in texts])  # tokens, the one that ends it included
    values = [letter_values(prompt, letters) for prompt in range(prompts)]
    one_step = (prompts, len(texts), 1)
    return Tables(
        observations=np.eye(prompts, dtype=np.float32),
        start=np.full(prompts, 1 / prompts),
        rewards=np.array([[worth(text, of_prompt, repetition) for text in texts] for of_prompt in values]),
        successors=np.full(one_step, -1),
        chances=np.ones(one_step),
        reference=np.broadcast_to((1.0 / tokens) ** written, one_step[:2]),
    )
