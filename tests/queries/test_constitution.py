"""The principles of a judge, as a file has them: what can be written, and what is told of what cannot."""

from pathlib import Path

import numpy as np
import pytest
from helpers import sentence
from made import make_segment

from prefrl.queries.constitution import Principle, read_constitution
from prefrl.words.errors import UserError


def high(observations, actions):
    """Holds where the first number is above four."""
    return observations[:, 0] > 4


def broken(observations, actions):
    return observations["height"]


def minus(observations, actions):
    return -1.0


ASKED = '[[principle]]\nname = "natural"\nquestion = "Which moves more naturally?"\n'
CHECKED = '[[principle]]\nname = "high"\npredicate = "test_constitution:high"\n'
ENDPOINT = '[endpoint]\nurl = "http://localhost:1/v1"\nmodel = "some"\n'


def read(folder: Path, text: str):
    path = folder / "constitution.toml"
    path.write_text(text, encoding="utf-8")
    return read_constitution(path)


def test_principles_are_read_with_their_weights(tmp_path):
    found = read(tmp_path, 'about = "Ein Läufer"\ngraded = true\n' + CHECKED + "weight = 3\n" + ASKED + ENDPOINT)
    assert [(p.name, p.weight) for p in found.principles] == [("high", 3.0), ("natural", 1.0)]
    assert found.about == "Ein Läufer"
    assert found.graded
    assert found.asks_a_model
    assert found.shows_frames
    assert not read(tmp_path, ASKED + ENDPOINT + 'shows = "numbers"\n').shows_frames
    assert not read(tmp_path, CHECKED).asks_a_model


def test_how_far_a_principle_holds_is_told_step_by_step(tmp_path):
    low, up = make_segment(4), make_segment(5)
    found = read(tmp_path, CHECKED)
    assert found.principles[0].held(low).tolist() == [0, 0, 0]
    assert found.principles[0].held(up).tolist() == [1, 1, 1]
    assert found.shares([low, up, up]) == {"high": pytest.approx(2 / 3)}
    whole = Principle("whole", predicate=lambda observations, actions: 0.25)
    assert whole.held(low).tolist() == [0.25] * 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "no principles"),
        ("principle = 3", "principle=3"),
        ("[[principle", "cannot be read"),
        (CHECKED + "wieght = 2", "Did you mean 'weight'"),
        (CHECKED + "weight = 0", "above zero"),
        (CHECKED + "weight = nan", "a number above zero"),
        (CHECKED + "weight = true", "a number above zero"),
        (CHECKED + 'question = "Which?"', "has both"),
        ('[[principle]]\nname = "neither"', "neither"),
        ("[[principle]]\nweight = 1", "name=None"),
        (CHECKED + CHECKED, "two principles are called 'high'"),
        ('[[principle]]\nname = "a"\npredicate = "high"', "import path"),
        ('[[principle]]\nname = "a"\npredicate = "nowhere_at_all:high"', "cannot be imported"),
        ('[[principle]]\nname = "a"\npredicate = "test_constitution:ASKED"', "cannot be called"),
        (ASKED, "no [endpoint]"),
        (ASKED + '[endpoint]\nurl = "http://localhost:1"', "no model"),
        (ASKED + ENDPOINT + 'shows = "films"', "'frames' or 'numbers'"),
        (ASKED + ENDPOINT + "frames = 0", "too little"),
        (ASKED + ENDPOINT + "retries = 1.5", "a number"),
        (ASKED + ENDPOINT + "key_name = 1", "key_name"),
        ("endpoint = 3\n" + ASKED, "[endpoint]"),
    ],
)
def test_what_is_no_constitution_is_one_sentence(tmp_path, text, expected):
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert expected in sentence(caught.value)


def test_a_constitution_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(UserError) as caught:
        read_constitution(tmp_path / "none.toml")
    assert "no constitution at" in sentence(caught.value)


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        (broken, "IndexError"),
        (minus, "returned -1"),
        (lambda observations, actions: np.nan, "returned nan"),
        (lambda observations, actions: observations[1:, 0] > 0, "ValueError"),
        (lambda observations, actions: None, "returned nan"),
    ],
)
def test_a_predicate_that_fails_is_named(predicate, expected):
    with pytest.raises(UserError) as caught:
        Principle("odd", predicate=predicate).held(make_segment(1))
    assert "'odd'" in sentence(caught.value)
    assert expected in str(caught.value)
