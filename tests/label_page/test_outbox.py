"""Answers that wait in the browser: for their own run, under their own name, whatever else happens at this address."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from people import make_run
from playwright.sync_api import BrowserContext, Page, sync_playwright
from test_browser import CHROMIUM, FLAGS, until

from prefrl.experience.clips import film
from prefrl.experience.task import Task
from prefrl.label_page.app import About, create_app
from prefrl.label_page.connections import Impatient
from prefrl.label_page.guard import LOOPBACK
from prefrl.label_page.same_store import SameStore
from prefrl.label_page.serve import bind
from prefrl.label_page.studio import Studio
from prefrl.queries.store import Store
from prefrl.settings.config import TrainConfig, from_toml
from prefrl.words.preference import Query, Segment

GAME = "prefrl/Pong-v0"
ENTRIES = "Object.entries(localStorage).filter(([key]) => key.startsWith('prefrl answer '))"
NOTICES = "document.querySelector('#notices').innerText"
SAVED = "document.querySelector('#saved').textContent"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


def make_questions(folder: Path, count: int = 5, seed: int = 0, **settings: Any) -> Path:
    """A run whose films are ready, so that nothing has to be drawn."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(256, size=(2 * count, 4, 4, 8, 8), dtype=np.uint8)
    sides = [Segment(frame, np.zeros(4, int), np.zeros(4), GAME, 7, 0, 0, 0, 0) for frame in frames]
    make_run(folder, GAME, [Query(*pair) for pair in zip(sides[::2], sides[1::2], strict=True)], **settings)
    (folder / "clips").mkdir()
    made = film(rng.integers(256, size=(20, 96, 96, 3), dtype=np.uint8), 15)
    for side in sides:
        (folder / "clips" / f"{side.key}.mp4").write_bytes(made)
    return folder


class Server:
    """The page of a run, in a thread of its own; stopped and started, always at one address."""

    def __init__(self) -> None:
        with bind("127.0.0.1", 0) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://localhost:{self.port}/"

    @contextmanager
    def show(self, folder: Path) -> Iterator[None]:
        """The page, until left."""
        with SameStore(folder / "labels.sqlite") as store, bind("127.0.0.1", self.port) as bound:
            studio = Studio(folder, store, Task(GAME))
            about = About("Pong", "Choose.", from_toml(TrainConfig, folder / "config.toml"), folder)
            _, guard = create_app(about, store, studio, LOOPBACK, None)
            config = uvicorn.Config(guard, http=Impatient, log_level="critical", timeout_graceful_shutdown=1)
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, args=([bound],))
            thread.start()
            while not server.started:
                time.sleep(0.01)
            try:
                yield
            finally:
                server.should_exit = True
                thread.join()
                studio.close()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def tabs(chromium: Any) -> Iterator[BrowserContext]:
    """A browser of somebody: its tabs share what is stored."""
    context = chromium.new_context(viewport={"width": 1000, "height": 800})
    yield context
    context.close()


def open_page(tabs: BrowserContext, url: str, name: str) -> Page:
    """A tab at the page, after somebody has said their name."""
    page = tabs.new_page()
    page.goto(url)
    if page.evaluate("!lastName()"):
        until(page, "document.querySelector('#hello').open")
        page.fill("#name", name)
        page.click("#hello .main")
    until(page, "named && shown")
    return page


def say(page: Page, key: str = "ArrowLeft") -> str:
    """Answer what is on the screen; which question that was."""
    question: str = until(page, "shown && !shown.said && shown.question")
    page.keyboard.press(key)
    until(page, f"!shown || shown.question !== '{question}'")
    return question


def given(folder: Path) -> set[tuple[str, str]]:
    """Who has answered which question, on disk."""
    with Store(folder / "labels.sqlite") as store:
        return {(answer.labeler, answer.key) for answer in store.given()}


def test_two_tabs_keep_each_its_answers(tmp_path: Path, server: Server, tabs: BrowserContext) -> None:
    """And show each other's questions no more."""
    folder = make_questions(tmp_path / "run")
    with server.show(folder):
        one, two = (open_page(tabs, server.url, "Ann") for _ in range(2))
        assert one.evaluate("shown.question") == two.evaluate("shown.question")
    first = say(one)
    until(two, f"shown && shown.question !== '{first}'")
    second = say(two)
    for page in (one, two):
        until(page, "outbox.length === 2")
        assert "2 kept here" in page.evaluate(SAVED)
    with server.show(folder):
        until(one, "!outbox.length")
        until(two, "!outbox.length")
    assert given(folder) == {("Ann", first), ("Ann", second)}


def test_a_closed_tabs_answers_are_sent_by_the_other(tmp_path: Path, server: Server, tabs: BrowserContext) -> None:
    folder = make_questions(tmp_path / "run")
    with server.show(folder):
        one, two = (open_page(tabs, server.url, "Ann") for _ in range(2))
    first = say(one)
    one.close()
    with server.show(folder):
        until(two, "!outbox.length")
    assert given(folder) == {("Ann", first)}


def test_answers_wait_for_their_own_run(tmp_path: Path, server: Server, tabs: BrowserContext) -> None:
    """Another run, of the very same questions, is shown at this address meanwhile; the page is open all the time."""
    mine, other = make_questions(tmp_path / "mine"), make_questions(tmp_path / "other")
    with server.show(mine):
        page = open_page(tabs, server.url, "Ann")
    first = say(page)
    with server.show(other):
        until(page, f"{NOTICES}.includes('1 answer waits in this browser for Pong (mine)')")
        second = say(page)
        until(page, "mine === 1 && !outbox.length")
        assert page.evaluate(SAVED) == "✓ saved, for this run"
        page.reload()
        until(page, f"named && {NOTICES}.includes('for Pong (mine)')")
        assert len(page.evaluate(ENTRIES)) == 1
        page.keyboard.press("z")  # takes back the newest answer of this run, and none of the other
        until(page, f"shown && shown.question === '{second}'")
    assert (given(mine), given(other)) == (set(), set())
    with server.show(mine):
        page.reload()
        until(page, "named && !outbox.length && shown")
        assert page.evaluate(ENTRIES) == []
        assert page.evaluate(NOTICES) == ""
    assert given(mine) == {("Ann", first)}


def test_answers_are_sent_under_the_name_that_gave_them(tmp_path: Path, server: Server, tabs: BrowserContext) -> None:
    folder = make_questions(tmp_path / "run")
    with server.show(folder):
        page = open_page(tabs, server.url, "Ann")
        bobs = tabs.new_page()
    first = say(page)
    with server.show(folder):
        bobs.goto(server.url)
        until(bobs, "named")
        bobs.click("#who")
        bobs.fill("#name", "Bob")
        bobs.click("#hello .main")
        until(bobs, "me === 'Bob' && shown")
        second = say(bobs)
        third = say(page)  # of Ann, although the browser's cookie is Bob's by now
        for tab in (page, bobs):
            until(tab, "!outbox.length")
    assert given(folder) == {("Ann", first), ("Bob", second), ("Ann", third)}


def test_an_outbox_that_cannot_be_read_is_told_and_left(tmp_path: Path, server: Server, tabs: BrowserContext) -> None:
    folder = make_questions(tmp_path / "run")
    broken = {
        "prefrl outbox": "[{",
        "prefrl answer 1": "{",
        "prefrl answer 2": "null",
        "prefrl answer 3": '{"question": 7}',
        "prefrl answer 4": '["left"]',
        "prefrl theme": '"><img src=x onerror=alert(1)>',
    }
    with server.show(folder):
        page = open_page(tabs, server.url, "Ann")
        page.evaluate(f"Object.entries({json.dumps(broken)}).forEach(([k, v]) => localStorage.setItem(k, v))")
        page.reload()
        until(page, f"named && {NOTICES}.includes('5 answers kept in this browser cannot be read')")
        first = say(page)
        until(page, "mine === 1 && !outbox.length")
        assert page.evaluate(SAVED) == "✓ saved, for this run"
        assert page.evaluate(f"Object.keys({json.dumps(broken)}).every((k) => localStorage.getItem(k) !== null)")
        with page.expect_download() as downloading:
            page.click("#notices >> text=Download")
        assert '"["left"]"' in downloading.value.path().read_text().replace("\\", "")
        page.on("dialog", lambda dialog: dialog.accept())
        page.click("#notices >> text=Throw away")
        until(page, f"{NOTICES} === '' && {SAVED} === '✓ all saved'")
    assert given(folder) == {("Ann", first)}


def test_the_outbox_of_an_earlier_version_is_tried_and_kept(
    tmp_path: Path, server: Server, tabs: BrowserContext
) -> None:
    """It was one list, and did not say for which run: what this one does not know stays."""
    folder = make_questions(tmp_path / "run")
    with server.show(folder):
        page = open_page(tabs, server.url, "Ann")
        question, ticket = page.evaluate("[queue[1].question, queue[1].ticket]")
        ours = {"question": question, "ticket": ticket, "answer": "right", "seconds": 1}
        old = json.dumps([ours | {"question": "a" * 32, "ticket": "b" * 32}, ours])
        page.evaluate(f"localStorage.setItem('prefrl outbox', {json.dumps(old)})")
        page.reload()
        until(
            page, f"named && !outbox.length && {NOTICES}.includes('1 answer waits in this browser for an earlier run')"
        )
        assert len(page.evaluate(ENTRIES)) == 1
        assert page.evaluate("localStorage.getItem('prefrl outbox')") is None
    assert given(folder) == {("Ann", question)}


def test_a_browser_without_room_says_so_and_loses_nothing(tmp_path: Path, server: Server, tabs: BrowserContext) -> None:
    folder = make_questions(tmp_path / "run")
    fill = """for (let size = 2 ** 22; size >= 1; size /= 2) {
        for (let i = 0; i < 9; i += 1) {
            try { localStorage.setItem(`full ${size} ${i}`, 'x'.repeat(size)); } catch { break; }
        }
    }"""
    with server.show(folder):
        page = open_page(tabs, server.url, "Ann")
        page.evaluate(f"() => {{ {fill} }}")
    first = say(page)
    until(page, f"{NOTICES}.includes('no room to write 1 answer down')")
    assert page.evaluate(ENTRIES) == []
    assert "1 kept here" in page.evaluate(SAVED)
    with server.show(folder):
        until(page, f"!outbox.length && {SAVED} === '✓ all saved'")
    assert given(folder) == {("Ann", first)}


def test_an_answer_whose_lease_ran_out_goes_with_the_new_one(
    tmp_path: Path, server: Server, tabs: BrowserContext
) -> None:
    folder = make_questions(tmp_path / "run")
    with server.show(folder):
        page = open_page(tabs, server.url, "Ann")
    first = say(page)
    with Store(folder / "labels.sqlite") as store:  # meanwhile the question was leased to her anew
        store.lease("Ann", 3, -1)
        assert first in [lease.key for lease in store.lease("Ann", 3, 60)]
    with server.show(folder):
        until(page, "!outbox.length")
    assert given(folder) == {("Ann", first)}


def test_an_answer_that_the_server_refuses_is_kept_with_the_reason(
    tmp_path: Path, server: Server, tabs: BrowserContext
) -> None:
    folder = make_questions(tmp_path / "run")
    with server.show(folder):
        page = open_page(tabs, server.url, "Ann")
        question, ticket = page.evaluate("[shown.question, shown.ticket]")
    say(page)
    with Store(folder / "labels.sqlite") as store:
        store.answer(question, "Ann", ticket, 0.0, 1.0)  # at another machine she said the opposite
    with server.show(folder):
        until(page, f"{NOTICES}.includes('did not take 1 answer')")
        assert "another answer of yours already" in page.evaluate(NOTICES)
        assert "all saved" not in page.evaluate(SAVED)
        ((_, entry),) = page.evaluate(ENTRIES)
        assert json.loads(entry)["answer"] == "left"


def test_a_database_that_is_replaced_is_told_and_the_answer_waits(
    tmp_path: Path, server: Server, tabs: BrowserContext
) -> None:
    folder = make_questions(tmp_path / "run")
    with server.show(folder):
        page = open_page(tabs, server.url, "Ann")
        shutil.move(folder / "labels.sqlite", tmp_path / "away")
        first = say(page)
        until(page, f"{NOTICES}.includes('gone from its folder')")
        assert "1 kept here" in page.evaluate(SAVED)
        shutil.move(tmp_path / "away", folder / "labels.sqlite")
        until(page, f"!outbox.length && {NOTICES} === '' && {SAVED} === '✓ all saved'")
    assert given(folder) == {("Ann", first)}


def test_a_clip_that_cannot_be_drawn_is_told_once(tmp_path: Path, server: Server, tabs: BrowserContext) -> None:
    """Both sides for one reason: one sentence."""
    folder = tmp_path / "run"
    strange = [Segment(np.full((4, 3), i), np.zeros(4, int), np.zeros(4), GAME, 7, 0, 0, 0, 0) for i in range(2)]
    make_run(folder, GAME, [Query(*strange)])
    with server.show(folder):
        page = open_page(tabs, server.url, "Ann")
        until(page, f"{NOTICES}.includes('This clip cannot be drawn')")
        assert page.evaluate(NOTICES).count("This clip cannot be drawn") == 1
        say(page, "ArrowUp")
        until(page, f"!outbox.length && {NOTICES} === ''")
        until(page, "document.querySelector('#nothing').innerText.includes('All answered')")  # counts are a moment old


def test_second_opinions_are_given_without_the_others(tmp_path: Path, server: Server, tabs: BrowserContext) -> None:
    folder = make_questions(tmp_path / "run", second_opinions=0.3)
    (folder / "metrics.csv").write_text("step,true_return,learned_return\n100,4242,1.5\n200,4243,2\n")
    with server.show(folder):
        page = open_page(tabs, server.url, "Ann")
        page.click("#tab-run")
        until(page, "document.querySelectorAll('#charts polyline').length >= 1")
        text = page.inner_text("#run")
        assert "second opinions" in text
        assert "True return" not in text
        assert "Newest answers" not in text


def test_names_and_titles_are_text_and_nothing_else(tmp_path: Path, server: Server, tabs: BrowserContext) -> None:
    """What others chose to be called, here or in a foreign database, is written and never run."""
    evil = "<img src=x onerror=evil=1>"
    folder = make_questions(tmp_path / "<b>run")
    with Store(folder / "labels.sqlite") as store:
        (lease,) = store.lease(f"\x1b[31m{evil}</td>", 1, 60)
        store.answer(lease.key, f"\x1b[31m{evil}</td>", lease.ticket, 1.0, 1.0)
    with server.show(folder):
        page = open_page(tabs, server.url, evil)
        say(page)
        until(page, "mine === 1 && !outbox.length")
        page.click("#tab-run")
        until(page, "document.querySelector('#newest').innerText.includes('onerror')")
        assert page.evaluate("[typeof evil, document.querySelectorAll('main img, header button img').length]") == [
            "undefined",
            0,
        ]
        assert page.inner_text("#who") == evil
