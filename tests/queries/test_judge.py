"""A judge: principles that are checked, principles that are put to a model, and what stands in a model's way."""

import base64
import io
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from helpers import sentence
from made import make_query, make_segment

from prefrl.queries.constitution import Constitution, Endpoint, Principle
from prefrl.queries.judge import Judge
from prefrl.queries.store import Store
from prefrl.words.errors import UserError
from prefrl.words.preference import Query

pytest.importorskip("openai")


def numbers(content):
    """The first number of clip A and of clip B, as a reader of the text has it."""
    text = " ".join(part["text"] for part in content if part["type"] == "text")
    _, first, second = re.split(r"Clip [AB]:", text)
    return tuple(float(re.search(r"observation \[([-\d.]+)", clip)[1]) for clip in (first, second))


def better(content, number):
    """An honest model, which likes the larger number."""
    a, b = numbers(content)
    return f"A shows {a:g} and B {b:g}.\n**{'A' if a > b else 'B'}**"


@contextmanager
def model(reply=better, status=200, first=(), delay_s=0.0) -> Iterator[tuple[str, list[dict]]]:
    """A server of chat completions at an address, and the requests it has had.

    Args:
        reply: what it says, of the content of a message and its number.
        status: of its replies.
        first: statuses of its first replies, in order.
        delay_s: before each.
    """
    asked: list[dict] = []
    taking_turns, statuses = threading.Lock(), list(first)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with taking_turns:
                asked.append(request)
                number = len(asked)
                code = statuses.pop(0) if statuses else status
            time.sleep(delay_s)
            words = reply(request["messages"][0]["content"], number) if code == 200 else "no"
            usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
            message = {"role": "assistant", "content": words}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "usage": usage}
            text = json.dumps(body | {"choices": [choice]} if words is not ... else {"hello": 1}).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            if code == 429:
                self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


ASKED = Principle("larger", question="Which clip shows the larger number?")
UP = Principle("up", predicate=lambda observations, actions: observations[:, 0] > 2)


def make_judge(url: str, cache: Path, *principles: Principle, draw=None, **endpoint) -> Judge:
    settings = {"key": "", "shows": "numbers", "retries": 2, "timeout_s": 5.0} | endpoint
    where = Endpoint(url, "some-model", **settings)
    return Judge(Constitution(principles or (ASKED,), about="A walker.", endpoint=where), cache, draw)


def turned(query: Query) -> Query:
    return Query(query.right, query.left)


def test_predicates_decide_by_the_share_of_steps_on_which_they_hold():
    judge = Judge(Constitution((UP,)))
    right, equal, left = judge([make_query(1), make_query(5), turned(make_query(1))])
    assert (right.mu, equal.mu, left.mu) == (0.0, 0.5, 1.0)
    assert right.critique == "up: holds on 0% of the left clip's steps and 100% of the right one's"
    assert {answer.labeler for answer in (left, right, equal)} == {"judge"}
    assert judge([]) == []


def test_the_weights_decide_where_principles_differ():
    down = Principle("down", weight=2.0, predicate=lambda observations, actions: observations[:, 0] <= 2)
    query = make_query(1)  # numbers 2 and 3
    assert Judge(Constitution((UP, down)))([query])[0].mu == 1.0
    assert Judge(Constitution((UP, down), graded=True))([query])[0].mu == pytest.approx(2 / 3)


def test_a_model_is_asked_in_both_orders(tmp_path):
    with model() as (url, asked):
        judge = make_judge(url, tmp_path)
        answers = judge([make_query(3), turned(make_query(4))])
    assert [answer.mu for answer in answers] == [0.0, 1.0]
    assert len(asked) == 4
    assert sorted(numbers(each["messages"][0]["content"]) for each in asked) == [(6, 7), (7, 6), (8, 9), (9, 8)]
    assert "A walker." in asked[0]["messages"][0]["content"][0]["text"]
    assert "A shows 6 and B 7." in answers[0].critique
    assert judge.measures() == {
        "judge_requests": 4,
        "judge_cached": 0,
        "judge_order_agreement": 1.0,
        "judge_first_share": 0.5,
        "judge_cost": 0.0,
    }


def test_orders_that_disagree_are_recorded_as_equal(tmp_path):
    with model(lambda content, number: "I like the first.\nA") as (url, _):
        judge = make_judge(url, tmp_path)
        (answer,) = judge([make_query(1)])
    assert answer.mu == 0.5
    assert "the two orders disagree" in answer.critique
    assert judge.measures()["judge_order_agreement"] == 0.0


def test_a_planted_preference_for_the_first_clip_is_recovered(tmp_path):
    rng = np.random.default_rng(3)
    coin = iter(rng.random(10_000))
    with model(lambda content, number: "A" if next(coin) < 0.6 else "B") as (url, _):
        judge = make_judge(url, tmp_path, parallel=1)
        judge([make_query(number) for number in range(300)])
    # Alike where one order says A and the other B: 2 * 0.6 * 0.4.
    assert judge.measures()["judge_order_agreement"] == pytest.approx(0.48, abs=0.1)
    assert judge.measures()["judge_first_share"] == pytest.approx(0.6, abs=0.06)


@pytest.mark.parametrize(
    ("words", "mu"),
    [
        ("UNSURE", None),
        ("EQUAL", 0.5),
        ("", None),
        ("Both clips are lovely.", None),
        ("A or B, I could not say", None),
        ("A wins the first look.\n\nEqual.", None),
        ("A wins the first look.\n\nEQUAL.\n", 0.5),
    ],
)
def test_what_a_model_may_say(tmp_path, words, mu):
    with model(lambda content, number: words) as (url, _):
        assert make_judge(url, tmp_path)([make_query(1)])[0].mu == mu


def test_what_was_asked_before_is_not_asked_again(tmp_path):
    queries = [make_query(number) for number in range(3)]
    with model() as (url, asked):
        first = make_judge(url, tmp_path)(queries)
        judge = make_judge(url, tmp_path)
        again = judge(queries)
        assert len(asked) == 6
        assert judge.measures()["judge_cached"] == 6
        for kept in tmp_path.iterdir():
            kept.write_text("{", encoding="utf-8")
        make_judge(url, tmp_path)(queries[:1])
        assert len(asked) == 8
    assert [(a.mu, a.critique) for a in first] == [(a.mu, a.critique) for a in again]


def test_a_model_that_refuses_for_a_while_is_asked_again(tmp_path):
    with model(first=(429, 500)) as (url, asked):
        assert make_judge(url, tmp_path, parallel=1)([make_query(1)])[0].mu == 0.0
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"status": 429}, "429"),
        ({"status": 401}, "401"),
        ({"delay_s": 0.5}, "timed out"),
        ({"reply": lambda content, number: ...}, "did not answer"),
        ({"reply": lambda content, number: None}, "did not answer"),
    ],
)
def test_a_model_that_does_not_answer_is_one_sentence(tmp_path, how, expected):
    with model(**how) as (url, _), pytest.raises(UserError) as caught:
        make_judge(url, tmp_path, retries=0, timeout_s=0.1 if "delay_s" in how else 5.0)([make_query(1)])
    assert expected in sentence(caught.value)
    assert "--resume" in str(caught.value)


def test_a_model_that_is_not_there_is_one_sentence(tmp_path):
    with model() as (url, _):
        pass
    with pytest.raises(UserError) as caught:
        make_judge(url, tmp_path, retries=0)([make_query(1)])
    assert url in sentence(caught.value)


def test_a_key_that_is_not_set_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(UserError) as caught:
        make_judge("http://localhost:1", tmp_path, key="SOME_KEY")
    assert "SOME_KEY" in sentence(caught.value)


def test_frames_are_shown_as_pictures_first_and_last_among_them(tmp_path):
    def draw(segment):
        return np.stack([np.full((8, 8, 3), 20 * step, np.uint8) for step in range(len(segment))])

    with model(lambda content, number: "A") as (url, asked):
        make_judge(url, tmp_path, shows="frames", frames=2, draw=draw)([make_query(1)])
    urls = [part["image_url"]["url"] for part in asked[0]["messages"][0]["content"] if part["type"] == "image_url"]
    pictures = [iio.imread(io.BytesIO(base64.b64decode(each.partition(",")[2]))) for each in urls]
    assert [int(picture.mean()) for picture in pictures] == [0, 40, 0, 40]


def test_the_counts_go_on_after_a_break(tmp_path):
    with model() as (url, _):
        before = make_judge(url, tmp_path, input_price=1000.0)
        before([make_query(1)])
        after = make_judge(url, tmp_path, input_price=1000.0)
        after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert after.measures() == before.measures()
    assert before.measures()["judge_cost"] == pytest.approx(0.2)


def test_critiques_are_kept_beside_the_answers(tmp_path):
    (answer,) = Judge(Constitution((UP,)))([make_query(1)])
    with Store(tmp_path / "labels.sqlite") as store:
        store.ask([answer.query])
        store.add([answer])
    with Store(tmp_path / "labels.sqlite") as store:
        assert store.answers()[0][0].critique == answer.critique


def test_segments_of_one_step_are_shown(tmp_path):
    one = {"actions": np.zeros((1, 1)), "rewards": np.zeros(1)}
    short = [make_segment(n, observations=np.full((1, 2), n), **one) for n in (1, 2)]
    with model() as (url, _):
        assert make_judge(url, tmp_path)([Query(*short)])[0].mu == 0.0
