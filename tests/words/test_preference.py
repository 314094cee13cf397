"""The nouns: questions about two segments or more, and what can be answered to them."""

from dataclasses import replace

import pytest
from helpers import sentence
from made import make_query, make_segment

from prefrl.words.errors import UserError
from prefrl.words.preference import Preference, Query, choice_of, comparisons, misfit, ranks_of, word_of

FOUR = [make_segment(number) for number in range(4)]


def test_a_pair_is_what_it_was():
    pair = make_query(0)
    assert pair.segments == (pair.left, pair.right)
    assert (
        pair.key == Query(pair.left, pair.right).key == Query.of(pair.segments).key != Query(pair.right, pair.left).key
    )
    assert Preference(pair, 0.25, "ann", 1.0).ranks == (1, 0)
    assert Preference(pair, 0.5, "ann", 1.0).ranks == (0, 0)
    assert not Preference(pair, None, "ann", 1.0).is_decided
    assert Query(pair.left, pair.left).segments  # an environment that shows the same twice may be asked about


def test_a_ranking_is_another_question_than_one_for_the_best_and_than_another_order():
    asked = [Query.of(FOUR, kind) for kind in ("ranking", "best")] + [Query.of(FOUR[::-1], "ranking")]
    asked += [Query.of([*FOUR[:3], replace(FOUR[3], offset=12)], "ranking"), Query.of(FOUR[:2], "best")]
    assert len({query.key for query in asked}) == 5
    assert [segment.key for segment in asked[0].segments] == [segment.key for segment in FOUR]


@pytest.mark.parametrize(
    ("segments", "kind", "said"),
    [
        (FOUR, "pair", "a question of kind 'pair' shows 4 segments"),
        (FOUR, "duel", "a question of kind 'duel'"),
        ([*FOUR, FOUR[1]], "ranking", "in places 1 and 4"),
        ([FOUR[0], FOUR[0]], "best", "in places 0 and 1"),
    ],
)
def test_what_is_no_question_is_one_sentence(segments, kind, said):
    with pytest.raises(UserError) as caught:
        Query.of(segments, kind)
    assert said in sentence(caught.value)


def test_choices_and_ranks_are_each_others_inverse():
    for choice in ("2>0=1>3", "0=1=2=3", "3>2>1>0"):
        assert choice_of(ranks_of(choice, 4)) == choice
    assert ranks_of("2>0=1>3", 4) == (1, 1, 0, 2)
    assert ranks_of("2", 4) == (1, 1, 0, 1)
    assert ranks_of("0=2", 3) == (0, 1, 0)
    assert choice_of([-1.5, 7.0, -1.5, 0.0]) == "0=2>3>1"
    assert choice_of([-1.5, 7.0, -1.5, 0.0], "best") == "0=2"
    assert Preference(Query.of(FOUR, "ranking"), None, "ann", 1.0, choice="2>0=1>3").ranks == (1, 1, 0, 2)


def test_words_count_from_one():
    assert word_of(None, "2>0=1>3") == "3>1=2>4"
    assert [word_of(mu) for mu in (1.0, 0.2, 0.5, None)] == ["left", "right", "equal", "cannot tell"]


def test_comparisons():
    assert (comparisons("pair", 2), comparisons("ranking", 4), comparisons("best", 4)) == (1, 6, 3)


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [
        ("pair", {"mu": 1.0, "choice": "0"}, "a pair is answered by mu"),
        ("ranking", {"mu": 1.0}, "its question is no pair"),
        ("ranking", {"choice": "0>1>2"}, "of 4 segments"),
        ("ranking", {"choice": "0>1>2>2"}, "once"),
        ("ranking", {"choice": "0>1>2>3", "strength": 0.5}, "strength is 0.5"),
        ("best", {"choice": "4"}, "of 4 segments"),
        ("best", {"choice": "0>1"}, "the best one's place"),
        ("best", {"choice": "1=1"}, "the best one's place"),
        ("best", {"choice": "0", "strength": 2.0}, "a number from 0 to 1"),
        ("pair", {"mu": 2.0}, "a number from 0 to 1"),
    ],
)
def test_what_is_no_answer_is_refused(kind, more, said):
    query = Query.of(FOUR[: 2 if kind == "pair" else 4], kind)
    with pytest.raises(ValueError, match=said):
        Preference(query, more.pop("mu", None), "ann", 1.0, **more)


def test_what_fits_fits():
    assert not misfit("best", 3, None, "0=1=2", 1.0)
    assert not misfit("ranking", 11, None, ">".join(map(str, range(11))))
    assert not misfit("pair", 2, 0.3, None, 0.5)
