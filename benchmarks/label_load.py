"""Does the label page hold when many people use it, and when it is killed? Nothing acknowledged may ever be missing.

    python -m benchmarks.label_load

Simulated labelers speak HTTP to a real page. load: 200 of them at a person's pace, against PostgreSQL and SQLite.
kill_page and the like: `kill -9` of page, database or trainer at random moments under load. cases: thousands of
requests that schemathesis makes of the page's description.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from prefrl.experience.clips import film
from prefrl.queries.store import Store
from prefrl.runs.runlog import versions
from prefrl.words.preference import Query, Segment
from tests.people import make_run
from tests.postgres import Postgres

RESULTS = Path(__file__).parent / "results" / "label_load.json"
GAME = "prefrl/Pong-v0"
WORDS = ("left", "right", "equal", "cannot tell")
CLI = [sys.executable, "-c", "import sys; from prefrl.cli import main; sys.exit(main())"]


@dataclass(frozen=True)
class Load:
    """Load and kills on the label page."""

    what: tuple[str, ...] = ("load", "kill_page", "kill_database", "kill_trainer", "cases")
    """Which of them."""
    labelers: int = 200
    """People at a time."""
    answers: int = 10
    """Answers of each."""
    think_s: float = 4.0
    """Mean seconds from a question to its answer, as the paper's contractors took; each is drawn from 3/4 to 5/4."""
    kills: int = 20
    """Of each of page, database and trainer."""
    cases: int = 300
    """Of each operation of the page, with a name and without."""


def make_questions(count: int) -> list[Query]:
    """Different questions that cost nothing to keep."""
    frames = np.zeros((2 * count, 2, 4, 84, 84), np.uint8)
    frames[:, 0, 0, 0, :4] = np.arange(2 * count, dtype=np.uint32).view(np.uint8).reshape(-1, 4)
    sides = [Segment(side, np.zeros(2, int), np.zeros(2), GAME, 0, 0, 0, 0, 0) for side in frames]
    return [Query(left, right) for left, right in zip(sides[::2], sides[1::2], strict=True)]


def draw_beforehand(folder: Path, questions: list[Query]) -> None:
    """A film for every segment, as the page would have made and kept it."""
    made = film(np.random.default_rng(0).integers(255, size=(20, 96, 96, 3), dtype=np.uint8), 15)
    (folder / "clips").mkdir()
    for query in questions:
        for side in (query.left, query.right):
            (folder / "clips" / f"{side.key}.mp4").write_bytes(made)


@dataclass
class Served:
    """A real page in a process of its own."""

    folder: Path
    port: int
    process: subprocess.Popen[str]

    def kill(self) -> None:
        """SIGKILL, to the page alone; those who draw for it end by themselves."""
        with self.process:
            self.process.kill()


def start_page(folder: Path, port: int = 0) -> Served:
    """Start the page and wait until it listens.

    Raises:
        RuntimeError: it ended before it listened; with what it said.
    """
    command = [*CLI, "label", str(folder), "--port", str(port), "--trust"]  # its database is ours
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:  # a pipe that nobody reads would fill
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)
        assert process.stdout is not None
        url = process.stdout.readline()
        if not url:
            with process:
                process.kill()
            said.seek(0)
            raise RuntimeError(f"the page did not start: {said.read().strip()}")
    return Served(folder, int(url.rsplit(":", 1)[1].strip("/\n")), process)


@contextmanager
def page(folder: Path) -> Iterator[Served]:
    """A page, until the block ends."""
    served = start_page(folder)
    try:
        yield served
    finally:
        with served.process:
            served.process.terminate()


@dataclass
class Labeler:
    """One person's browser: one connection, the requests that the page's script makes, and what came of them."""

    name: str
    port: Callable[[], int]
    rng: random.Random
    cookie: str = ""
    acknowledged: dict[str, str] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"next": [], "clip": [], "answer": []})
    statuses: Counter[int] = field(default_factory=Counter)
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """One request; a connection that breaks is a status of 0."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self.port())
            reader, writer = self._streams
            data = b"" if body is None else json.dumps(body).encode()
            head = [f"{method} {path} HTTP/1.1", "host: localhost", "origin: http://localhost"]
            head += [f"cookie: {self.cookie}", "content-type: application/json", f"content-length: {len(data)}", "", ""]
            writer.write("\r\n".join(head).encode() + data)
            raw = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode("latin-1").split("\r\n")
            headers = [line.partition(": ")[::2] for line in raw[1:] if line]
            size = int(next(value for name, value in headers if name.lower() == "content-length"))
            for name, value in headers:
                if name.lower() == "set-cookie":
                    self.cookie = value.partition(";")[0]
            status, reply = int(raw[0].split()[1]), await reader.readexactly(size)
        except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError):
            self.close()
            status, reply = 0, b""
        self.statuses[status] += 1
        return status, reply

    async def hello(self) -> None:
        """Say the name, until somebody listens."""
        while (await self.ask("POST", "/api/hello", {"name": self.name}))[0] != 200:
            await asyncio.sleep(0.1)

    async def timed(self, kind: str, *request: Any) -> tuple[int, bytes]:
        """A request whose time is noted."""
        began = time.perf_counter()
        said = await self.ask(*request)
        self.seconds[kind].append(time.perf_counter() - began)
        return said

    async def label(self, answers: int, think_s: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Answer so many questions as the page's script does: what is not acknowledged is sent again."""
        await self.hello()
        while len(self.acknowledged) < answers and not stop():
            status, reply = await self.timed("next", "POST", "/api/next", {"count": 1})
            if status == 401:
                await self.hello()
            questions = json.loads(reply)["questions"] if status == 200 else []
            if not questions:
                await asyncio.sleep(0.2)
            for question in questions:
                key = question["question"]
                self.shown.append(key)
                if think_s > 0.5:
                    for clip in question["clips"]:
                        await self.timed("clip", "GET", f"/clips/{clip}.mp4")
                await asyncio.sleep(think_s * self.rng.uniform(0.75, 1.25))
                word = self.rng.choice(WORDS)
                body = {"question": key, "ticket": question["ticket"], "answer": word, "seconds": think_s}
                while not stop():
                    status, _ = await self.timed("answer", "POST", "/api/answer", body)
                    if status == 200:
                        self.acknowledged[key] = word
                    elif status == 401:
                        await self.hello()
                        continue
                    elif status in (0, 429, 503):
                        await asyncio.sleep(0.2)
                        continue
                    break
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


MU = {"left": 1.0, "right": 0.0, "equal": 0.5, "cannot tell": None}


def compare(people: list[Labeler], store: Store) -> dict[str, int]:
    """What was acknowledged against what is there."""
    there = {(answer.key, answer.labeler): answer.mu for answer in store.given()}
    said = {(key, person.name): MU[word] for person in people for key, word in person.acknowledged.items()}
    answered = Counter(key for key, _ in there)
    shown = Counter(key for person in people for key in set(person.shown))
    return {
        "acknowledged": len(said),
        "lost": sum(there.get(pair, "nothing") != mu for pair, mu in said.items()),
        "doubled": sum(count > 1 for count in answered.values()),
        "shown_to_two": sum(count > 1 for count in shown.values()),
    }


def load(ask: Load, url: str | None) -> dict[str, Any]:
    """So many people at a person's pace; latencies as they see them, in milliseconds."""
    with tempfile.TemporaryDirectory() as parent:
        questions = make_questions(ask.labelers * (ask.answers + 1))
        folder = make_run(Path(parent) / "run", GAME, questions, url)
        draw_beforehand(folder, questions)
        with page(folder) as served:
            people = [Labeler(f"person {i}", lambda: served.port, random.Random(i)) for i in range(ask.labelers)]

            async def all_of_them() -> None:
                async def one(person: Labeler) -> None:
                    await asyncio.sleep(person.rng.uniform(0, ask.think_s))  # they do not arrive together
                    await person.label(ask.answers, ask.think_s)

                await asyncio.gather(*map(one, people))

            began = time.perf_counter()
            asyncio.run(all_of_them())
            seconds = time.perf_counter() - began
        with Store(url or folder / "labels.sqlite") as store:
            found: dict[str, Any] = {"seconds": round(seconds, 1), **compare(people, store)}
        for kind in ("answer", "next", "clip"):
            times = 1000 * np.array([s for person in people for s in person.seconds[kind]])
            for name, share in (("p50", 50), ("p95", 95), ("p99", 99), ("max", 100)):
                found[f"{kind}_{name}_ms"] = round(float(np.percentile(times, share)), 1)
        found["statuses"] = dict(sum((person.statuses for person in people), Counter()))
        return found


def kill_page_or_database(what: str, times: int, people_count: int = 20, seed: int = 0) -> dict[str, Any]:
    """Kill one of them again and again while people answer as fast as they can."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as parent, Postgres() as database:
        questions = make_questions(400 * times + 400)
        folder = make_run(Path(parent) / "run", GAME, questions, database.url)
        served = [start_page(folder)]
        stop = threading.Event()
        people = [Labeler(f"person {i}", lambda: served[0].port, random.Random(i)) for i in range(people_count)]

        async def all_of_them() -> None:
            await asyncio.gather(*(person.label(10**9, 0.05, stop.is_set) for person in people))

        thread = threading.Thread(target=lambda: asyncio.run(all_of_them()))
        thread.start()
        lost = 0
        try:
            for _ in range(times):
                count = sum(len(person.acknowledged) for person in people)
                while sum(len(person.acknowledged) for person in people) < count + people_count:
                    time.sleep(0.01)  # until they are at it again
                time.sleep(rng.uniform(0.0, 0.7))
                if what == "page":
                    port = served[0].port
                    served[0].kill()
                    served[0] = start_page(folder, port)
                else:
                    database.kill()
                    time.sleep(rng.uniform(0.0, 0.3))
                    database.start()
                before = [dict(person.acknowledged) for person in people]
                with Store(database.url) as store:
                    there = {(answer.key, answer.labeler) for answer in store.given()}
                lost += sum(
                    (key, person.name) not in there for person, said in zip(people, before, strict=True) for key in said
                )
        finally:
            stop.set()
            thread.join()
            served[0].kill()
        with Store(database.url) as store:
            found = compare(people, store)
        statuses = dict(sum((person.statuses for person in people), Counter()))
        return {"killed": times, **found, "lost": max(lost, found["lost"]), "statuses": statuses}


def kill_trainer(times: int, seed: int = 0) -> dict[str, Any]:
    """Kill a trainer again and again while people answer its questions in the same SQLite file."""
    rng = random.Random(seed)
    acknowledged = lost = damaged = 0
    for number in range(times):
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "run"
            command = [
                *CLI,
                "train",
                "--env",
                "CartPole-v1",
                "--labeler",
                "human",
                "--out",
                str(folder),
                "--seed",
                str(number),
            ]
            command += ["--steps", "200000", "--labels", "2000", "--n-envs", "4", "--phases", "400", "--slowdown", "1"]
            command += ["--explore-steps", "400", "--segment-steps", "8", "--no-tensorboard"]  # each step is drawn
            command += ["--set", "n_steps=100", "n_epochs=1"]
            trainer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            path = folder / "labels.sqlite"
            while not path.exists():
                assert trainer.poll() is None, "the trainer did not start"
                time.sleep(0.02)
            stop = threading.Event()
            said: dict[str, float | None] = {}

            def answer(path: Path = path, stop: threading.Event = stop, said: dict[str, float | None] = said) -> None:
                with Store(path) as store:
                    while not stop.is_set():
                        for lease in store.lease("ann", 3, 60):
                            store.answer(lease.key, "ann", lease.ticket, 1.0, 0.1)
                            said[lease.key] = 1.0
                        time.sleep(0.005)

            thread = threading.Thread(target=answer)
            thread.start()
            while not said:
                assert trainer.poll() is None, "the trainer ended before it asked"
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, 1.5))
            trainer.send_signal(signal.SIGKILL)
            trainer.wait()
            stop.set()
            thread.join()
            with Store(path) as store:
                there = {given.key: given.mu for given in store.given()}
                with store._engine.begin() as connection:
                    damaged += connection.exec_driver_sql("PRAGMA integrity_check").scalar() != "ok"
            acknowledged += len(said)
            lost += sum(there.get(key, "nothing") != mu for key, mu in said.items())
    return {"killed": times, "acknowledged": acknowledged, "lost": lost, "damaged": damaged}


def cases(each: int) -> dict[str, Any]:
    """Requests that schemathesis makes of the page's description, right and wrong; no status of 500 or more."""
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from hypothesis.errors import Unsatisfiable
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode

    statuses: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as parent:
        folder = make_run(Path(parent) / "run", GAME, make_questions(50))
        with page(folder) as served:
            here = f"http://127.0.0.1:{served.port}"
            schema = schemathesis.openapi.from_url(f"{here}/api/openapi.json")
            who = Labeler("ann", lambda: served.port, random.Random(0))
            asyncio.run(who.hello())
            name, _, value = who.cookie.partition("=")

            def ask_all(operation: Any, mode: GenerationMode, cookies: dict[str, str]) -> None:
                @settings(max_examples=each, deadline=None, database=None, suppress_health_check=list(HealthCheck))
                @given(case=operation.as_strategy(generation_mode=mode))
                def ask(case: Any) -> None:
                    said = case.call(headers={"origin": here}, cookies=cookies)
                    while said.status_code == 429:
                        time.sleep(0.5)
                        said = case.call(headers={"origin": here}, cookies=cookies)
                    statuses[said.status_code] += 1
                    case.validate_response(said, checks=[not_a_server_error])

                with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with a request that says nothing
                    ask()

            for cookies in ({}, {name: value}):
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    for result in schema.get_all_operations():
                        ask_all(result.ok(), mode, cookies)
    return {"cases": sum(statuses.values()), "statuses": dict(sorted(statuses.items()))}


def main(ask: Load) -> None:
    """Measure, print, and write what was found beside what was found before."""
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    about = versions()  # before the results, which are committed too, change

    def note(name: str, result: dict[str, Any]) -> None:
        found[name] = result | {"commit": about["commit"]}
        print(name, json.dumps(result), flush=True)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    if "load" in ask.what:
        with Postgres() as database:
            note("load_postgresql", load(ask, database.url))
        note("load_sqlite", load(ask, None))
        note("asked", asdict(ask) | {"cores": len(os.sched_getaffinity(0))})
    for name in ("page", "database"):
        if f"kill_{name}" in ask.what:
            note(f"kill_{name}", kill_page_or_database(name, ask.kills))
    if "kill_trainer" in ask.what:
        note("kill_trainer", kill_trainer(ask.kills))
    if "cases" in ask.what:
        note("cases", cases(ask.cases))
    found["versions"] = about
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Load))
