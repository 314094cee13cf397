"""The page's requests: what is asked is answered, and what is not this person's or not this page's is refused."""

import asyncio
import math
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
import uvicorn
from helpers import sentence
from hypothesis import HealthCheck, given, settings
from people import make_run
from postgres import Postgres, programs
from schemathesis.checks import not_a_server_error

from prefrl.cli import main
from prefrl.experience.task import Task
from prefrl.label_page import guard
from prefrl.label_page import studio as studio_module
from prefrl.label_page.app import FRESH_S, About, create_app
from prefrl.label_page.connections import Impatient
from prefrl.label_page.guard import BURST, LOOPBACK, MOST_BODY, Names, Rates, read_cookies
from prefrl.label_page.same_store import SameStore, identity_of
from prefrl.label_page.serve import bind, serve
from prefrl.label_page.studio import Studio, new_pool
from prefrl.queries.store import Store
from prefrl.settings.config import LabelConfig, TrainConfig, from_toml
from prefrl.words.errors import UserError
from prefrl.words.preference import Preference, Query, Segment

HERE = "http://localhost"
GAME = "prefrl/Pong-v0"


def make_game_query(number: int) -> Query:
    """Two segments of noise, which is drawn without a simulation."""
    rng = np.random.default_rng(number)
    sides = [
        Segment(
            rng.integers(256, size=(4, 4, 84, 84), dtype=np.uint8), np.zeros(4, int), np.zeros(4), GAME, 7, 0, 0, 0, i
        )
        for i in range(2)
    ]
    return Query(*sides)


class Page:
    """A page over a run of so many questions, and whoever calls on it, each with cookies of their own."""

    pool: ProcessPoolExecutor  # one for all tests: it takes seconds to begin

    def __init__(
        self, folder: Path, questions: int = 6, token: str | None = None, url: str | None = None, **settings: Any
    ) -> None:
        self.queries = [make_game_query(number) for number in range(questions)]
        self.folder = make_run(folder, GAME, self.queries, url, **settings)
        self.store = SameStore(url or self.folder / "labels.sqlite")
        self.studio = Studio(self.folder, self.store, Task(GAME), pool=self.pool)
        about = About("Pong", "Choose.", from_toml(TrainConfig, self.folder / "config.toml"), self.folder)
        self.app, self.guard = create_app(about, self.store, self.studio, LOOPBACK, token)

    def close(self) -> None:
        self.store.close()


@pytest.fixture(autouse=True, scope="module")
def _pool() -> Iterator[None]:
    Page.pool = new_pool(Task(GAME))
    yield
    Page.pool.shutdown(cancel_futures=True)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    made = Page(tmp_path / "run")
    yield made
    made.close()


class Person:
    """A browser, as far as the server can tell."""

    def __init__(self, page: Page, name: str | None = None, **headers: str) -> None:
        self.page, self.cookies = page, httpx.Cookies()
        self.headers = {"origin": HERE, **headers}
        if name is not None:
            assert self.post("/api/hello", name=name).status_code == 200

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(self.page.guard, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=HERE, cookies=self.cookies) as client:
                said = await client.request(method, path, **{"headers": self.headers, **more})
                self.cookies.update(client.cookies)
                return said

        return asyncio.run(go())

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.request("POST", path, json=body)

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def next(self, count: int = 1) -> list[dict[str, Any]]:
        said = self.post("/api/next", count=count)
        assert said.status_code == 200, said.text
        questions: list[dict[str, Any]] = said.json()["questions"]
        return questions

    def answer(self, question: dict[str, Any], word: str = "left", seconds: float = 1.5) -> httpx.Response:
        asked = {name: question[name] for name in ("question", "ticket")}
        return self.post("/api/answer", **asked, answer=word, seconds=seconds)


def refused(said: httpx.Response, status: int) -> str:
    """The sentence of a refusal."""
    assert said.status_code == status, said.text
    text: str = said.json()["error"]
    assert "Traceback" not in text
    assert text.endswith("."), text
    return text


# What people do


def test_answers_are_recorded_as_they_were_given(page: Page) -> None:
    ann = Person(page, "Ann")
    for word in ("left", "right", "equal", "cannot tell"):
        (question,) = ann.next()
        assert ann.answer(question, word, 2).json() == {"saved": question["question"]}
    found, _ = page.store.answers()
    assert [(p.mu, p.labeler, p.seconds) for p in found] == [(mu, "Ann", 2.0) for mu in (1.0, 0.0, 0.5, None)]
    assert [p.query.key for p in found] == [q.key for q in page.queries[:4]]


def test_a_question_shows_its_two_clips_and_they_are_films(page: Page) -> None:
    ann = Person(page, "ann")
    (question,) = ann.next()
    assert question["clips"] == [page.queries[0].left.key, page.queries[0].right.key]
    first, again = (ann.get(f"/clips/{question['clips'][0]}.mp4") for _ in range(2))
    assert first.headers["content-type"] == "video/mp4"
    assert "immutable" in first.headers["cache-control"]
    assert first.content[4:8] == b"ftyp"
    assert again.content == first.content
    assert (page.folder / "clips" / f"{question['clips'][0]}.mp4").read_bytes() == first.content


def test_people_get_different_questions_and_a_reload_keeps_them(page: Page) -> None:
    ann, bob = Person(page, "ann"), Person(page, "bob")
    hers, his = ann.next(3), bob.next(3)
    assert not {q["question"] for q in hers} & {q["question"] for q in his}
    assert ann.next(3) == hers
    assert Person(page, "cat").next(3) == []


def test_undo_gives_the_question_back_and_again_the_one_before(page: Page) -> None:
    ann = Person(page, "ann")
    first, second = ann.next(2)
    ann.answer(first, "left")
    ann.answer(second, "right")
    back = ann.post("/api/undo").json()["question"]
    assert back["question"] == second["question"]
    assert ann.post("/api/undo").json()["question"]["question"] == first["question"]
    assert ann.post("/api/undo").json()["question"] is None
    assert Person(page, "bob").post("/api/undo").json()["question"] is None
    assert ann.answer(back, "left").status_code == 200
    assert [p.mu for p in page.store.answers()[0]] == [1.0]
    assert page.store.counts().withdrawn == 2


def test_the_run_is_shown_while_it_goes_on(page: Page) -> None:
    ann = Person(page, "ann")
    (question,) = ann.next()
    ann.answer(question, "equal", 3.25)
    time.sleep(FRESH_S)  # counts may be that old
    said = ann.get("/api/run").json()
    assert said["curves"]["step"] == []
    assert (said["asked"], said["answered"], said["planned"], said["policy"]) == (6, 1, 6, None)
    (page.folder / "metrics.csv").write_text("step,true_return,learned_return\n100,,1.5\n200,-3,nan\n")
    said = ann.get("/api/run").json()
    assert said["curves"]["step"] == [100, 200]
    assert said["curves"]["true_return"] == [None, -3]
    assert said["curves"]["learned_return"] == [1.5, None]
    who = ann.get("/api/people").json()
    assert who["people"] == [
        {"name": "ann", "answers": 1, "seconds": 3.25, "left": 0, "right": 0, "equal": 1, "cannot tell": 0}
    ]
    assert who["newest"][0] | {"at": ""} == {
        "name": "ann", "answer": "equal", "seconds": 3.25, "step": 7, "question": question["question"], "at": ""
    }  # fmt: skip
    assert ann.get("/policy.mp4").status_code == 404


# What is refused


def test_answers_that_are_forged_or_replayed_are_refused(page: Page) -> None:
    ann, bob = Person(page, "ann"), Person(page, "bob")
    (question,) = ann.next()
    refused(bob.answer(question), 409)  # somebody else's, ticket and all
    refused(ann.answer(question | {"ticket": "0" * 32}), 409)
    refused(ann.answer(question | {"question": page.queries[3].key}), 409)  # never shown to her
    assert page.store.counts().answered == 0
    assert ann.answer(question).status_code == 200
    assert ann.answer(question).status_code == 200  # sent again, as the page does when a reply is lost
    refused(ann.answer(question, "right"), 409)
    ann.post("/api/undo")
    refused(ann.answer(question), 409)  # the old one, replayed after it was taken back
    assert page.store.counts().answered == 0


def test_nobody_is_somebody_by_writing_a_cookie(page: Page) -> None:
    ann = Person(page, "ann")
    (question,) = ann.next()
    for forged in ("", "ann", "YW5u", "YW5u.", "YW5u." + "0" * 64, Names().sign("ann"), "é.x", "a" * 3000):
        eve = Person(page)
        eve.headers |= {"cookie": f"prefrl_name={forged}"} if forged.isascii() else {}
        refused(eve.answer(question), 401)
        refused(eve.post("/api/next"), 401)
        refused(eve.post("/api/undo"), 401)
    assert read_cookies("a=b; ==;") in ({}, {"a": "b"})


@pytest.mark.parametrize(
    "name", ["", "   ", "x" * 41, "oracle", "Oracle", "mistake", "a\u0000b", "\u202eevil", 7, None, ["a"]]
)
def test_names_that_are_none(page: Page, name: Any) -> None:
    refused(Person(page).post("/api/hello", name=name), 422)


@pytest.mark.parametrize("name", ["ann", "Zoë O'Hara", "李", "  two  words "])
def test_names_are_as_people_write_them(page: Page, name: str) -> None:
    ann = Person(page, name)
    (question,) = ann.next()
    ann.answer(question)
    assert page.store.given()[0].labeler == " ".join(name.split())


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "localhost:80:80"]
)
def test_another_host_is_refused(page: Page, host: str) -> None:
    """A name that somebody else made point here (DNS rebinding)."""
    for method, path in (("GET", "/"), ("GET", "/api/run"), ("POST", "/api/hello")):
        refused(Person(page, host=host).request(method, path), 403)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8321", "[::1]:8321", "LOCALHOST"])
def test_this_machines_own_names_are_known(page: Page, host: str) -> None:
    assert Person(page, host=host).get("/").status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://localhost:9", "http://localhost.evil.example"]
)
def test_another_origin_is_refused_on_every_write(page: Page, origin: str) -> None:
    ann = Person(page, "ann")
    (question,) = ann.next()
    ann.headers["origin"] = origin
    refused(ann.answer(question), 403)
    for path in ("/api/hello", "/api/next", "/api/undo"):
        refused(ann.post(path), 403)
    del ann.headers["origin"]
    refused(ann.answer(question), 403)
    assert page.store.counts().answered == 0


def test_what_a_form_of_another_site_could_send_is_refused(page: Page) -> None:
    ann = Person(page, "ann")
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""):
        said = ann.request("POST", "/api/undo", content=b"{}", headers=ann.headers | {"content-type": kind})
        refused(said, 415)
    assert all("SameSite=strict" in cookie and "HttpOnly" in cookie for cookie in cookies_set(page))


def cookies_set(page: Page) -> list[str]:
    return Person(page).post("/api/hello", name="ann").headers.get_list("set-cookie")


def test_large_bodies_are_refused_however_they_are_sent(page: Page) -> None:
    ann = Person(page, "ann")
    refused(ann.post("/api/hello", name="a" * MOST_BODY), 413)

    async def stream() -> Any:
        for _ in range(100):
            yield b" " * 100

    json_type = {"content-type": "application/json"}
    refused(ann.request("POST", "/api/hello", content=stream(), headers=ann.headers | json_type), 413)
    headers = ann.headers | json_type | {"content-length": "-1"}
    refused(ann.request("POST", "/api/hello", content=b"{}", headers=headers), 413)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"answer": "left"}', b"[" * 2000,
        b'{"question": "../../labels.sqlite", "ticket": "0", "answer": "left", "seconds": 1}',
        b'{"question": "%b", "ticket": "%b", "answer": "both", "seconds": 1}' % (b"a" * 32, b"a" * 32),
        b'{"question": "%b", "ticket": "%b", "answer": "left", "seconds": NaN}' % (b"a" * 32, b"a" * 32),
        b'{"question": "%b", "ticket": "%b", "answer": "left", "seconds": -1}' % (b"a" * 32, b"a" * 32),
        b'{"question": "%b", "ticket": "%b", "answer": "left", "seconds": 1e999}' % (b"a" * 32, b"a" * 32),
        b'{"question": "%b", "ticket": "%b", "answer": "left", "seconds": 1, "x": 1}' % (b"a" * 32, b"a" * 32),
        b'{"question": "%b\\n", "ticket": "%b", "answer": "left", "seconds": 1}' % (b"a" * 32, b"a" * 32),
    ],
)  # fmt: skip
def test_bodies_that_say_nothing(page: Page, body: bytes) -> None:
    ann = Person(page, "ann")
    headers = ann.headers | {"content-type": "application/json"}
    said = ann.request("POST", "/api/answer", content=body, headers=headers)
    refused(said, 400 if body.startswith(b"[[") else 422)


@pytest.mark.parametrize(
    "path",
    [
        "/clips/../config.toml", "/clips/..%2fconfig.toml", "/clips/%2e%2e/config.toml", "/clips/labels.sqlite",
        "/clips//etc/passwd.mp4", "/clips/..%2f..%2fetc%2fpasswd.mp4", "/clips/%00.mp4", "/../config.toml",
        "/static/../app.py", "/page.js/../app.py", "/config.toml", "/labels.sqlite", "/app.py", "/docs",
        f"/clips/{'A' * 32}.mp4", f"/clips/{'a' * 31}.mp4", f"/clips/{'a' * 33}.mp4", f"/clips/{'a' * 32}.mp4.mp4",
        f"/clips/{'a' * 32}%0a.mp4",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file(page: Page, path: str) -> None:
    said = Person(page, "ann").get(path)
    assert said.status_code in (404, 422)
    assert b"import" not in said.content
    assert b"SQLite" not in said.content


def test_a_clip_that_nobody_recorded(page: Page) -> None:
    refused(Person(page).get(f"/clips/{'a' * 32}.mp4"), 404)


def test_a_token_is_asked_for_everywhere_but_at_the_door(tmp_path: Path) -> None:
    page = Page(tmp_path / "run", token="right token")
    try:
        for given in ("", "wrong", "right tokem", "right token "):
            eve = Person(page, authorization=f"Bearer {given}", cookie=f"prefrl_token={given or 'x'}")
            for path in ("/api/run", "/api/people", "/api/openapi.json", f"/clips/{'a' * 32}.mp4", "/policy.mp4"):
                refused(eve.get(path), 401)
            refused(eve.post("/api/hello", name="eve"), 401)
        assert Person(page).get("/").status_code == 200
        ann = Person(page, authorization="Bearer right token")
        assert ann.post("/api/hello", name="ann").status_code == 200
        del ann.headers["authorization"]  # the cookie says it from now on
        assert len(ann.next()) == 1
    finally:
        page.close()


def test_too_many_requests_are_refused_for_a_while() -> None:
    now = [0.0]
    rates = Rates(lambda: now[0])
    assert sum(rates.take("ann") for _ in range(2 * int(BURST))) == BURST
    assert rates.take("bob")
    now[0] += 1
    assert 0 < sum(rates.take("ann") for _ in range(1000)) < 100
    for number in range(20_000):
        rates.take(str(number))
    assert len(rates._buckets) <= 10_000


def test_the_guard_counts_requests(page: Page) -> None:
    page.guard.rates = Rates(clock=lambda: 0.0)  # however long the requests take
    ann = Person(page)
    codes = {ann.get("/").status_code for _ in range(int(BURST) + 50)}
    assert codes == {200, 429}


@pytest.mark.parametrize("path", ["/", "/page.js", "/api/run", "/nowhere", "/api/next"])
def test_every_reply_carries_the_headers_that_keep_it_safe(page: Page, path: str) -> None:
    headers = Person(page).get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


def test_the_page_has_no_inline_script_or_style_and_nothing_from_elsewhere(page: Page) -> None:
    ann = Person(page)
    html = ann.get("/").text
    assert not re.findall(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=|javascript:", html)
    for path in ("/", "/page.js", "/page.css"):
        text = ann.get(path).text.replace("http://www.w3.org/2000/svg", "")
        assert not re.findall(r"https?://|//cdn", text)


def test_no_stack_trace_reaches_a_browser(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    @page.app.get("/api/broken")
    def broken() -> None:
        raise RuntimeError("a secret of the server")

    said = Person(page).get("/api/broken")
    assert "secret" not in refused(said, 500)
    assert "a secret of the server" in capsys.readouterr().err  # for whoever runs it


# A database that goes away


def test_a_database_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    if programs() is None:
        pytest.skip("no PostgreSQL here")
    with Postgres() as server:
        page = Page(tmp_path / "run", url=server.url)
        try:
            ann = Person(page, "ann")
            first, second = ann.next(2)
            assert ann.answer(first).status_code == 200
            server.kill()
            assert "database does not answer" in refused(ann.answer(second), 503)
            assert str(server.folder) not in ann.post("/api/next").text
            server.start()
            assert ann.answer(second).status_code == 200  # as the page does: the same again
            assert page.store.counts().answered == 2
        finally:
            page.close()


# A database that is replaced


def remove_database(folder: Path) -> Path:
    """Move the run's database out of its place, as somebody who cleans up does; where it is now."""
    away = folder / "away.sqlite"
    (folder / "labels.sqlite").rename(away)
    return away


def test_an_answer_to_a_database_that_was_removed_waits_until_it_is_back(page: Page) -> None:
    ann = Person(page, "ann")
    first, second = ann.next(2)
    assert ann.answer(first).status_code == 200
    away = remove_database(page.folder)
    for _ in range(2):
        assert "gone from its folder" in refused(ann.answer(second), 503)
    refused(ann.post("/api/next"), 503)
    assert not (page.folder / "labels.sqlite").exists()  # nor was an empty one made in its place
    away.rename(page.folder / "labels.sqlite")
    assert ann.answer(second).status_code == 200  # as the page does: the same again
    assert page.store.counts().answered == 2


def test_nothing_is_written_into_another_runs_database(page: Page, tmp_path: Path) -> None:
    """Somebody starts a new run in the folder: a file that stayed open would take every answer with it."""
    ann = Person(page, "ann")
    (question,) = ann.next()
    away = remove_database(page.folder)
    other = make_run(tmp_path / "other", GAME, page.queries) / "labels.sqlite"  # the same questions, in another run
    other.rename(page.folder / "labels.sqlite")
    for _ in range(2):
        said = refused(ann.answer(question), 503)
        assert "replaced by another one" in said
        assert "prefrl label" in said
    with Store(page.folder / "labels.sqlite") as store:
        assert store.counts().answered == 0
    away.replace(page.folder / "labels.sqlite")
    assert ann.answer(question).status_code == 200


@pytest.mark.parametrize("way", ["moved into its place", "written over it"])
def test_a_copy_of_the_database_takes_its_place(page: Page, way: str) -> None:
    """Out of a backup: it is the same run's, and no journal of the former file may be read into it."""
    ann = Person(page, "ann")
    first, second = ann.next(2)
    place, copy = page.folder / "labels.sqlite", page.folder / "backup.sqlite"
    shutil.copy(place, copy)
    with Store(copy) as store:  # which has gone a way of its own
        store.ask([make_game_query(number) for number in range(20, 40)])
        store.add([Preference(page.queries[5], 0.0, "cat", 1.0)])
    assert ann.answer(first).status_code == 200
    if way == "moved into its place":
        copy.replace(place)
    else:
        shutil.copy(copy, place)
    assert ann.answer(second).status_code == 200
    assert ann.answer(first).status_code == 200  # which the backup had not seen
    with Store(place) as store:
        assert (store.counts().asked, store.counts().answered) == (26, 3)
        assert store.segment(make_game_query(39).right.key) is not None


def test_two_stores_are_never_taken_for_one(tmp_path: Path) -> None:
    queries = [make_game_query(0)]
    paths = [make_run(tmp_path / name, GAME, queries) / "labels.sqlite" for name in ("one", "two")]
    shutil.copy(paths[0], tmp_path / "before.sqlite")
    names = []
    for path in (*paths, *paths):
        with Store(path) as store:
            names.append(identity_of(store))
    assert names[0] != names[1]
    assert names[:2] == names[2:]
    shutil.move(paths[0], tmp_path / "moved.sqlite")
    with Store(tmp_path / "moved.sqlite") as store:
        assert identity_of(store) == names[0]


def test_the_page_is_told_which_run_it_shows(tmp_path: Path) -> None:
    pages = [Page(tmp_path / name) for name in ("one", "two")]
    try:
        said = [Person(page).post("/api/hello", name="ann").json() for page in (*pages, *pages)]
        assert said[0]["run"] == said[2]["run"] != said[1]["run"] == said[3]["run"]
        assert said[0]["called"] == "Pong (one)"
    finally:
        for page in pages:
            page.close()


def test_two_people_in_two_tabs_have_one_cookie_and_two_names(page: Page) -> None:
    """A request says whose it is; a cookie alone would give Ann's answer to whoever said their name last."""
    browser = Person(page)
    badge = {name: browser.post("/api/hello", name=name).json()["badge"] for name in ("ann", "bob")}
    headers = browser.headers | {"prefrl-name": badge["ann"]}
    (question,) = browser.request("POST", "/api/next", json={"count": 1}, headers=headers).json()["questions"]
    assert browser.next(1)[0]["question"] != question["question"]  # without the header it is Bob's cookie
    body = {name: question[name] for name in ("question", "ticket")} | {"answer": "left", "seconds": 1}
    assert browser.request("POST", "/api/answer", json=body, headers=headers).status_code == 200
    assert [answer.labeler for answer in page.store.given()] == ["ann"]
    forged = browser.headers | {"prefrl-name": "YW5u." + "0" * 64}
    refused(browser.request("POST", "/api/undo", json={}, headers=forged), 401)  # and not as Bob


# What labelers are not to know


def test_who_gives_second_opinions_sees_no_others_and_no_true_return(tmp_path: Path) -> None:
    page = Page(tmp_path / "run", second_opinions=0.5)
    try:
        ann, bob = Person(page, "ann"), Person(page, "bob")
        ann.answer(ann.next()[0], "left")
        (page.folder / "metrics.csv").write_text("step,true_return,learned_return\n100,987654,1.5\n")
        for who in (bob, Person(page)):
            assert "second opinions" in refused(who.get("/api/people"), 403)
            said = who.get("/api/run")
            assert said.status_code == 200
            assert "987654" not in said.text
            assert "true_return" not in said.text
            assert said.json()["curves"]["learned_return"] == [1.5]
            assert "second opinions" in said.json()["blind"]
    finally:
        page.close()


# Films that cannot be made


def test_a_segment_that_cannot_be_drawn_is_told_in_words_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Page(tmp_path / "run", questions=0)
    try:
        strange = [Segment(np.zeros((4, 3)), np.zeros(4, int), np.zeros(4), GAME, 7, 0, 0, 0, i) for i in range(2)]
        strange[1] = replace(strange[1], observations=np.ones((4, 3)))
        page.store.ask([Query(*strange)])
        ann = Person(page, "ann")
        (question,) = ann.next()
        said = [refused(ann.get(f"/clips/{question['clips'][0]}.mp4"), 404) for _ in range(3)]
        assert "this clip cannot be drawn" in said[0]
        assert set(said) == {said[0]}
        error = capsys.readouterr().err
        assert error.count(question["clips"][0]) == 1
        assert "Traceback" not in error
        assert ann.answer(question, "cannot tell").status_code == 200
    finally:
        page.close()


def test_a_segment_that_is_no_array_is_told_as_well(page: Page) -> None:
    key = page.queries[0].left.key
    with sqlite3.connect(page.folder / "labels.sqlite") as connection:
        connection.execute("UPDATE segments SET steps = ? WHERE key = ?", (b"not an array", key))
    for _ in range(2):
        assert "this clip cannot be drawn" in refused(Person(page, "ann").get(f"/clips/{key}.mp4"), 404)


def test_a_segment_that_kills_whoever_draws_it_is_given_up_and_the_others_are_not(tmp_path: Path) -> None:
    page = Page(tmp_path / "run")
    page.studio = Studio(page.folder, page.store, page.studio.task)  # its processes are for killing
    deadly, harmless = page.queries[0].left.key, page.queries[1].left.key

    async def draw() -> list[str]:
        said = []
        for _ in range(2):  # together with others, then alone
            drawing = asyncio.create_task(page.studio.clip(deadly))
            while not (busy := [p for pool in drawing_pools() for p in (pool._processes or {}).values()]):
                await asyncio.sleep(0.02)
            for process in busy:
                process.kill()
            try:
                await drawing
            except UserError as error:
                said.append(str(error))
        assert await page.studio.clip(harmless) is not None
        return said

    pools: list[ProcessPoolExecutor] = [page.studio._pool]

    def drawing_pools() -> list[ProcessPoolExecutor]:
        return pools if deadly in page.studio._making else []

    new = studio_module.new_pool

    def noted(task: Task, camera: str | None = None) -> ProcessPoolExecutor:
        pools.append(new(task, camera))
        return pools[-1]

    studio_module.new_pool = noted
    try:
        said = asyncio.run(draw())
        assert "another one begins" in said[0]
        assert "is killed each time" in said[1]
    finally:
        studio_module.new_pool = new
        page.studio.close()
        page.close()


def test_no_link_in_a_foreign_runs_folder_leads_out_of_it(page: Page, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"a secret of the machine")
    key, other = page.queries[0].left.key, page.queries[0].right.key
    (page.folder / "clips").mkdir()
    (page.folder / "clips" / f"{key}.mp4").symlink_to(secret)
    assert Person(page).get(f"/clips/{key}.mp4").content[4:8] == b"ftyp"
    shutil.rmtree(page.folder / "clips")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (page.folder / "clips").symlink_to(elsewhere)
    assert Person(page).get(f"/clips/{other}.mp4").content[4:8] == b"ftyp"
    assert not list(elsewhere.iterdir())
    assert secret.read_bytes() == b"a secret of the machine"


# Odd sizes, odd texts


@pytest.mark.parametrize("size", ["9" * 5000, "\u00b2", "-1", "1e3", "", " 2", "0x2", "+2"])
def test_a_body_of_no_known_size_is_refused(page: Page, size: str) -> None:
    """Straight to the guard: the server before it may be another one tomorrow."""
    headers = {"host": "localhost", "origin": HERE, "content-type": "application/json", "content-length": size}
    assert asyncio.run(ask(page, headers, b"{}"))[0] == 413


async def ask(page: Page, headers: dict[str, str], body: bytes | None, path: str = "/api/undo") -> tuple[int, bytes]:
    """Status and body of the reply to a request that no client would send; a body of None never comes."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if body is None:
            await asyncio.sleep(3600)
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    await page.guard({**scope, "headers": raw, "client": ("127.0.0.1", 1)}, receive, send)
    return sent[0]["status"], sent[-1]["body"]


def test_a_body_that_never_comes_is_not_waited_for(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_S", 0.05)
    headers = {"host": "localhost", "origin": HERE, "content-type": "application/json", "content-length": "2"}
    assert asyncio.run(ask(page, headers, None))[0] == 408


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "\\ud800"}', b'{"\\ud800": 1, "name": "ann"}', b'{"name": "ann", "%b": 1}' % (b"x" * 3000),
        b'{"name": {"name": "ann"}}', b'{"name": 1e400}', b'{"name": ' + b"9" * 4000 + b"}", b'"' * 4000,
        b'{"name": "a\\u0007"}', b'{"name": "\\u001b[31mann"}', b'{"name": "an\\u200bn"}', b'{"a":' * 600,
        "{\"name\": \"\uff4f\uff52\uff41\uff43\uff4c\uff45\"}".encode(), b"\xff", b'{"name": "\xff"}',
    ],
)  # fmt: skip
def test_bodies_that_are_no_name(page: Page, body: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    eve = Person(page)
    headers = eve.headers | {"content-type": "application/json"}
    said = eve.request("POST", "/api/hello", content=body, headers=headers)
    assert len(refused(said, said.status_code)) < 300
    assert said.status_code in (400, 422)
    assert capsys.readouterr().err == ""


def test_a_name_is_one_name_however_its_accents_were_typed(page: Page) -> None:
    names = {Person(page).post("/api/hello", name=name).json()["name"] for name in ("Zo\u00eb", "Zoe\u0308")}
    assert names == {"Zo\u00eb"}


def test_cookies_of_other_servers_on_this_machine_cost_nothing(page: Page) -> None:
    """SimpleCookie would take seconds to unquote this one; cookies know no ports."""
    ann = Person(page, "ann")
    mine = "; ".join(f"{name}={value}" for name, value in ann.cookies.items())
    ann.cookies = httpx.Cookies()
    began = time.monotonic()
    others = 'other="' + "\\" * 60_000 + '"'
    for _ in range(3):
        said = ann.request(
            "POST", "/api/next", json={"count": 1}, headers=ann.headers | {"cookie": f"{others}; {mine}"}
        )
        assert said.status_code == 200
    assert time.monotonic() - began < 3


def test_answers_of_any_strength_and_time_are_listed(page: Page) -> None:
    """Other programs may write a preference between the words, and a time that is no number."""
    page.store.add([Preference(query, 1.0, "cat", 1.0) for query in page.queries[:2]])
    with sqlite3.connect(page.folder / "labels.sqlite") as connection:
        connection.executemany("UPDATE answers SET mu = ?, seconds = ? WHERE id = ?", [(0.8, 1, 1), (0.1, math.inf, 2)])
    said = Person(page, "ann").get("/api/people")
    assert said.status_code == 200
    assert [row["answer"] for row in said.json()["newest"]] == ["right", "left"]
    assert said.json()["newest"][0]["seconds"] is None


@pytest.mark.parametrize("text", ["", "step\n", "step,true_return\n1\n", "step,true_return\n1,x\n", "\x00\n\x01,2\n"])
def test_a_table_of_metrics_that_is_not_whole(page: Page, text: str) -> None:
    (page.folder / "metrics.csv").write_text(text)
    assert Person(page).get("/api/run").status_code == 200


# What a machine thinks of asking


# The page's threads check their types beside the drawing, and beartype draws which items to check from `random`.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
def test_no_request_that_the_description_allows_or_forbids_breaks_the_server(page: Page) -> None:
    """Thirty cases of each operation; `python -m benchmarks.label_load` asks thousands."""
    ann = Person(page, "ann")
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", page.guard, headers={"host": "localhost"})
    seen: list[int] = []

    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def run(case: schemathesis.Case) -> None:
            page.guard.rates = Rates()
            named = {"cookies": dict(ann.cookies)} if len(seen) % 2 else {}
            said = case.call(headers={"origin": HERE}, base_url=HERE, **named)
            case.validate_response(said, checks=[not_a_server_error])
            seen.append(said.status_code)

        run()
    assert len(seen) > 100
    assert {200, 401, 422} <= set(seen)


# The command


def test_connections_over_which_nothing_whole_comes_end() -> None:
    """Silent ones, and those whose request trickles in, or whose reply nobody takes; not one whose reply takes time."""

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await asyncio.sleep(2 if scope["path"] == "/slow" else 0)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * (2**25 if scope["path"] == "/large" else 10)})

    class Hurried(Impatient):
        patience_s = 0.8

    config = uvicorn.Config(slow, http=Hurried, log_level="critical", timeout_graceful_shutdown=0)
    server = uvicorn.Server(config)

    def one(first: bytes, more: bytes, reads: bool) -> str:
        """How a connection ends over which this is sent, then this again and again."""
        with socket.create_connection(listening.getsockname()) as client:
            client.settimeout(0.1)
            client.sendall(first)
            for _ in range(100):
                try:
                    client.sendall(more)
                    if reads and client.recv(65_536) == b"":
                        return "ended"
                    if not reads:
                        time.sleep(0.1)
                except TimeoutError:
                    pass
                except OSError:
                    return "ended"
        return "open"

    async def all_of_them() -> list[Any]:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.02)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/slow"
        get = b"GET /large HTTP/1.1\r\nHost: localhost\r\n"
        found = await asyncio.gather(
            asyncio.to_thread(httpx.get, url, timeout=30),
            asyncio.to_thread(one, b"", b"", True),
            asyncio.to_thread(one, b"GET / HTTP/1.1\r\n", b"X-A: b\r\n", True),
            asyncio.to_thread(one, get + b"\r\n", b"", False),
        )
        for _ in range(100):
            if not server.server_state.connections:
                break
            await asyncio.sleep(0.05)
        left = len(server.server_state.connections)
        server.should_exit = True
        await serving
        return [found[0].status_code, *found[1:3], left]

    with bind("127.0.0.1", 0) as listening:
        assert asyncio.run(all_of_them()) == [200, "ended", "ended", 0]


def test_a_reply_does_not_wait_for_the_other_sides_word() -> None:
    """Without TCP_NODELAY, headers go out at once and the body after the 40 ms of a delayed acknowledgement."""
    with bind("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_label_says_in_one_sentence_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "run", GAME, [])
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    with taken:
        for arguments, says in (
            ([str(tmp_path / "nowhere")], "cannot read"),
            ([str(folder), "--port", str(taken.getsockname()[1])], "a free --port"),
            ([str(folder), "--port", "99999"], "a free --port"),
            ([str(folder), "--host", "192.0.2.1"], "an address of this machine"),
        ):
            assert main(["label", *arguments]) == 2
            error = capsys.readouterr().err
            assert says in error
            assert error.count("\n") == 1
    make_newer(folder)
    with pytest.raises(UserError, match="schema version") as caught:
        serve(LabelConfig(run=folder, port=0))
    sentence(caught.value)


def make_newer(folder: Path) -> None:
    import sqlite3

    with sqlite3.connect(folder / "labels.sqlite") as connection:
        connection.execute("UPDATE prefrl SET schema_version = schema_version + 1")


def test_another_address_needs_the_printed_token(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", GAME, [make_game_query(0)])
    command = [sys.executable, "-c", "from prefrl.cli import main; main()", "label", str(folder)]
    with subprocess.Popen([*command, "--host", "0.0.0.0", "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.fullmatch(r"http://[^:]+:(\d+)/#token=([\w-]{20,})\n", process.stdout.readline())
        assert found is not None
        url = f"http://127.0.0.1:{found[1]}"
        try:
            wait_for(url)
            assert httpx.get(f"{url}/api/run").status_code == 401
            assert httpx.get(f"{url}/api/run", headers={"authorization": f"Bearer {found[2]}"}).status_code == 200
            assert httpx.get(f"{url}/api/run", headers={"host": "evil.example"}).status_code == 403
        finally:
            listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
            process.kill()
    for _ in range(200):
        if not any(map(is_alive, listed.stdout.split())):
            break
        time.sleep(0.05)
    assert not any(map(is_alive, listed.stdout.split()))  # whoever drew for it has gone with it


def is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(url: str) -> None:
    for _ in range(200):
        try:
            httpx.get(url)
            return
        except httpx.ConnectError:
            time.sleep(0.05)
