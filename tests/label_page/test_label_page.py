"""The page's requests: what is asked is answered, and what is not this person's or not this page's is refused."""

import asyncio
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from helpers import sentence
from hypothesis import HealthCheck, given, settings
from people import make_run
from postgres import Postgres, programs
from schemathesis.checks import not_a_server_error

from prefrl.cli import main
from prefrl.experience.task import Task
from prefrl.label_page.app import FRESH_S, About, create_app
from prefrl.label_page.guard import BURST, LOOPBACK, MOST_BODY, Names, Rates, read_cookies
from prefrl.label_page.serve import bind, serve
from prefrl.label_page.studio import Studio, new_pool
from prefrl.queries.store import Store
from prefrl.settings.config import LabelConfig, TrainConfig, from_toml
from prefrl.words.errors import UserError
from prefrl.words.preference import Query, Segment

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

    def __init__(self, folder: Path, questions: int = 6, token: str | None = None, url: str | None = None) -> None:
        self.queries = [make_game_query(number) for number in range(questions)]
        self.folder = make_run(folder, GAME, self.queries, url)
        self.store = Store(url or self.folder / "labels.sqlite")
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
            ([str(tmp_path / "nowhere")], "cannot read the configuration"),
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
