"""The whole of it, as a person meets it: training in one process, the page in another, a real browser before it."""

import csv
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from people import make_queries, make_run
from playwright.sync_api import Page, sync_playwright

from prefrl.queries.exchange import store_of
from prefrl.queries.store import Store
from prefrl.rewards.reward_model import RewardEnsemble

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CLI = [sys.executable, "-c", "import sys; from prefrl.cli import main; sys.exit(main())"]
PLAYING = "[...document.querySelectorAll('#pair video')].every(v => v.readyState >= 3)"
FORWARD = 8  # the cheetah's forward velocity, in its observation

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


def until(page: Page, script: str, seconds: float = 60) -> Any:
    """What a script says once it says something; the page's own policy forbids it to evaluate texts."""
    began = time.monotonic()
    while not (found := page.evaluate(script)):
        assert time.monotonic() - began < seconds, f"{script} after {seconds} s"
        page.wait_for_timeout(30)
    return found


@contextmanager
def label(folder: Path, *arguments: str) -> Iterator[str]:
    """The page's address."""
    command = [*CLI, "label", str(folder), "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, process.stderr.read() if process.stderr else ""
        yield url
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def browser(url: str, name: str, **device: Any) -> Iterator[tuple[Page, list[str]]]:
    """A browser at the page, after somebody has said their name; and what its console complained of."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_context(**device).new_page()
        complaints: list[str] = []
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        page.fill("#name", name)
        page.click("#hello .main")
        yield page, complaints
        chromium.close()


def shown(page: Page) -> str:
    """The key of the question on the screen, once its clips play."""
    until(page, f"shown && !shown.said && {PLAYING}")
    key: str = page.evaluate("shown.question")
    return key


def press(page: Page, key: str) -> None:
    """Answer, and wait for the next question to take the place of this one."""
    before = page.evaluate("shown.question")
    page.keyboard.press(key)
    until(page, f"!shown || shown.question !== '{before}'")


def test_sixty_answers_by_keys_teach_the_reward_while_training_goes_on(tmp_path: Path) -> None:
    """Somebody who prefers the faster cheetah answers from the keyboard; equal, cannot tell and undo included."""
    folder = tmp_path / "run"
    command = [*CLI, "train", "--env", "HalfCheetah-v5", "--labeler", "human", "--labels", "60", "--steps", "12800"]
    command += ["--segment-steps", "10", "--phases", "6", "--keep-up", "1", "--slowdown", "10000", "--no-tensorboard"]
    trainer = subprocess.Popen([*command, "--out", str(folder)], stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            if (folder / "labels.sqlite").exists():
                break
            time.sleep(0.1)
        with (
            Store(folder / "labels.sqlite") as store,
            label(folder) as url,
            browser(url, "Ann", viewport={"width": 800, "height": 600}) as (page, complaints),
        ):

            def faster() -> str:
                sides = [store.segment(side) for side in page.evaluate("shown.clips")]
                left, right = (float(side.observations[:, FORWARD].mean()) for side in sides if side is not None)
                return "ArrowLeft" if left > right else "ArrowRight"

            said, until_then = 0, time.monotonic() + 400
            while trainer.poll() is None:  # it ends when its last question has been answered
                assert time.monotonic() < until_then, f"{said} answers, {store.counts()}"
                if not page.evaluate(f"!!(shown && !shown.said && {PLAYING})"):
                    page.wait_for_timeout(50)
                    continue
                key = shown(page)
                if said == 5:
                    press(page, "ArrowDown")
                elif said == 7:
                    press(page, "ArrowUp")
                else:
                    press(page, faster())
                said += 1
                if said == 3:  # a mistake: taken back, and answered anew
                    until(page, "!outbox.length")
                    page.keyboard.press("z")
                    until(page, f"shown && shown.question === '{key}'")
                    assert shown(page) == key
                    press(page, faster())
            assert trainer.returncode == 0
            assert complaints == []
            page.click("#tab-run")
            until(page, "document.querySelectorAll('#charts polyline').length >= 3")
            assert "Ann" in page.inner_text("#people")
            until(page, "document.querySelector('#policy video').readyState >= 3", 150)
            counts = store.counts()
            given = store.given()
    finally:
        trainer.kill()
        trainer.communicate()
    assert (counts.asked, counts.answered, counts.skipped, counts.withdrawn, counts.open) == (60, 59, 1, 1, 0)
    assert {answer.labeler for answer in given} == {"Ann"}
    assert sum(answer.mu == 0.5 for answer in given) == 1
    assert all(0 < answer.seconds < 60 for answer in given)
    with (folder / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    answered = [int(row["labels_answered"]) for row in table]
    assert answered == sorted(answered)
    assert 0 < answered[0] < answered[-1] == 59  # some before training, the others while it went on
    r_hat = RewardEnsemble.load(folder / "reward.safetensors")
    with Store(folder / "labels.sqlite") as store:
        decided = [p for p in store.answers()[0] if p.mu in (0.0, 1.0)]
    learned = [
        np.sum(r_hat.reward(p.query.left.observations, p.query.left.actions))
        > np.sum(r_hat.reward(p.query.right.observations, p.query.right.actions))
        for p in decided
    ]
    assert np.mean([bool(left) == (p.mu == 1.0) for left, p in zip(learned, decided, strict=True)]) > 0.75


def test_answers_given_while_the_page_is_away_are_kept_and_sent_later(tmp_path: Path) -> None:
    """The server is killed; the browser keeps the answer, even through a reload, until a server is back."""
    folder = make_run(tmp_path / "run", "CartPole-v1", make_queries("CartPole-v1", 4, 8))
    command = [*CLI, "label", str(folder), "--port"]
    with subprocess.Popen([*command, "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with browser(url, "Bob") as (page, _), Store(store_of(folder)) as store:
            shown(page)
            press(page, "ArrowLeft")
            until(page, "!outbox.length")
            key = shown(page)
            process.kill()
            process.wait()
            page.keyboard.press("ArrowRight")
            until(page, "outbox.length === 1 && document.querySelector('#saved').textContent.includes('kept here')")
            assert store.counts().answered == 1
            port = url.rsplit(":", 1)[1].strip("/")
            with subprocess.Popen([*command, port], stdout=subprocess.PIPE, text=True) as another:
                assert another.stdout is not None
                assert another.stdout.readline()
                page.reload()
                until(page, "named && !outbox.length")
                assert {answer.key for answer in store.given() if answer.mu == 0.0} == {key}
                assert store.counts().answered == 2
                another.kill()


@pytest.mark.parametrize("device", ["desktop", "phone", "dark"])
def test_the_page_fits_its_screen_and_can_be_read(tmp_path: Path, device: str) -> None:
    """Both clips and every button are on the screen at once, and text stands out from what is behind it."""
    devices: dict[str, dict[str, Any]] = {
        "desktop": {"viewport": {"width": 1280, "height": 800}},
        "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
        "dark": {"viewport": {"width": 1024, "height": 700}, "color_scheme": "dark"},
    }
    folder = make_run(tmp_path / "run", "CartPole-v1", make_queries("CartPole-v1", 3, 8))
    with label(folder, "--instruction", "Choose.") as url, browser(url, "Cat", **devices[device]) as (page, complaints):
        shown(page)
        size = devices[device]["viewport"]
        found = "[...document.querySelectorAll('#pair video, .name, #actions button')]"
        for box in page.evaluate(f"{found}.map(e => e.getBoundingClientRect().toJSON())"):
            assert box["width"] > 40
            assert 0 <= box["left"] <= box["right"] <= size["width"], box
            assert 0 <= box["top"] <= box["bottom"] <= size["height"], box
        for selector in ("#instruction", "#left .name", "#counts", "#undo b"):
            assert page.evaluate(CONTRAST, selector) >= 4.5, selector
        assert page.inner_text("#instruction") == "Choose."
        left, right = (page.locator(f"#{side} video").bounding_box() for side in ("left", "right"))
        assert left is not None
        assert right is not None
        assert (left["x"] < right["x"], left["y"] < right["y"]) == (device != "phone", device == "phone")
        until(page, "Math.abs(videos[0].currentTime - videos[1].currentTime) < 0.15 && videos[0].currentTime > 0.2")
        rate = page.evaluate("videos[0].playbackRate")
        page.click("#slower")
        assert page.evaluate("videos.map(v => v.playbackRate)") == [rate / 2] * 2
        (page.tap if device == "phone" else page.click)("#right")
        until(page, "mine === 1 && !outbox.length")
        assert complaints == []
        with Store(store_of(folder)) as store:
            assert [answer.mu for answer in store.given()] == [0.0]


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["side by side", "one above the other"])
def test_every_key_that_a_button_shows_presses_that_button(tmp_path: Path, size: tuple[int, int]) -> None:
    folder = make_run(tmp_path / "run", "CartPole-v1", make_queries("CartPole-v1", 4, 8))
    keys = {"←": "ArrowLeft", "→": "ArrowRight", "↑": "ArrowUp", "↓": "ArrowDown"}
    answers: dict[str, float | None] = {"left": 1.0, "right": 0.0, "equal": 0.5, "cannot tell": None}
    viewport = dict(zip(("width", "height"), size, strict=True))
    with label(folder) as url, browser(url, "Kim", viewport=viewport) as (page, _), Store(store_of(folder)) as store:
        for count, (answer, mu) in enumerate(answers.items(), 1):
            shown(page)
            (hint,) = page.locator(f'[data-answer="{answer}"] kbd:visible').all_inner_texts()
            page.keyboard.press(keys.get(hint, hint.lower()))
            until(page, f"mine === {count} && !outbox.length")
            assert Counter(given.mu for given in store.given())[mu] == 1, hint


SETS = "[...document.querySelectorAll('#set video')].every(v => v.readyState >= 3)"


def settled(page: Page, count: int) -> None:
    """Wait until so many answers are with the server, and the next set plays."""
    until(page, f"mine === {count} && !outbox.length && shown && !shown.said && {SETS}")


@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_four_clips_are_put_in_order_by_keys_by_drag_and_by_touch(tmp_path: Path, device: str) -> None:
    size = {"width": 1280, "height": 800} if device == "desktop" else {"width": 390, "height": 844}
    touch = {"is_mobile": True, "has_touch": True} if device == "phone" else {}
    queries = make_queries("CartPole-v1", 4, 8, kind="ranking", k=4)
    folder = make_run(tmp_path / "run", "CartPole-v1", queries, question="ranking", k=4)
    with (
        label(folder) as url,
        browser(url, "Kim", viewport=size, **touch) as (page, complaints),
        Store(store_of(folder)) as store,
    ):
        settled(page, 0)
        found = "[...document.querySelectorAll('#set video, #set .name, .slot, #done, #actions button')]"
        for box in page.evaluate(f"{found}.map(e => e.getBoundingClientRect().toJSON())"):
            assert box["width"] > 30
            assert 0 <= box["left"] <= box["right"] <= size["width"], box
            assert 0 <= box["top"] <= box["bottom"] <= size["height"], box
        rows = page.evaluate("new Set(videos.map(v => v.getBoundingClientRect().top)).size")
        assert rows == (1 if device == "desktop" else 2)
        if device == "phone":
            for number in (2, 0, 3):
                page.tap(f"#set [data-place='{number}'] .film")
        else:
            for key in "31z42":  # the third, the first, not that one but the fourth, the second; the first is left
                page.keyboard.press(key)
        assert page.evaluate("choiceOf(shown)") == ("2>3>1>0" if device == "desktop" else "2>0>3>1")
        page.locator(".link").nth(2).click()
        (page.tap if device == "phone" else page.click)("#done")
        settled(page, 1)
        for key in "123":
            page.keyboard.press(key)
        page.locator(".slot").nth(3).drag_to(page.locator(".slot").nth(0))
        page.keyboard.press("Enter")
        settled(page, 2)
        page.keyboard.press("e")
        settled(page, 3)
        page.keyboard.press("z")
        settled(page, 2)
        page.keyboard.press("x")
        settled(page, 3)
        page.keyboard.press("Enter")  # nothing is in order yet
        assert [(given.mu, given.choice) for given in reversed(store.given())] == [
            (None, "2>3>1=0" if device == "desktop" else "2>0>3=1"), (None, "3>0>1>2"), (None, None),
        ]  # fmt: skip
        assert store.counts().withdrawn == 1
        assert complaints == []


def test_the_best_of_three_is_one_key_and_much_better_another(tmp_path: Path) -> None:
    queries = make_queries("CartPole-v1", 3, 8, kind="best", k=3)
    folder = make_run(tmp_path / "run", "CartPole-v1", queries, question="best", k=3, margin=1.0)
    with label(folder) as url, browser(url, "Kim") as (page, complaints), Store(store_of(folder)) as store:
        for count, keys in enumerate(("3", "m2", "e")):
            settled(page, count)
            for key in keys:
                page.keyboard.press(key)
        until(page, "mine === 3 && !outbox.length")
        said = [(given.choice, strength) for given, strength in zip(
            reversed(store.given()), [p.strength for p in store.answers()[0]], strict=True
        )]  # fmt: skip
        assert said == [("2", 0.0), ("1", 1.0), ("0=1=2", None)]
        assert complaints == []


CONTRAST = """selector => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const light = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    const [x, y, z] = [r, g, b].map((v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return a ? 0.2126 * x + 0.7152 * y + 0.0722 * z : null;
  };
  let element = document.querySelector(selector), paper = null;
  const ink = light(getComputedStyle(element).color);
  for (; element && paper === null; element = element.parentElement) {
    paper = light(getComputedStyle(element).backgroundColor);
  }
  return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
}"""
