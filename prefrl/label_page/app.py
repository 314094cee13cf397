"""The page's requests: questions out, answers in, and how the run goes. Nothing is learned here, only recorded."""

from __future__ import annotations

import asyncio
import math
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr
from starlette.exceptions import HTTPException

from prefrl.label_page.guard import NAMED, TOKEN, WHO, Guard, Names
from prefrl.label_page.same_store import MovedError, identity_of
from prefrl.label_page.studio import Studio, UndrawableError
from prefrl.queries.exchange import agreements
from prefrl.queries.oracle import TEACHERS
from prefrl.queries.store import Counts, Lease, RefusedError, Store
from prefrl.runs.runlog import read_table
from prefrl.settings.config import TrainConfig
from prefrl.words.errors import UserError
from prefrl.words.preference import CHOICE, word_of

STATIC = Path(__file__).parent / "static"
LEASE_S = 120.0  # a question stays with a person who says nothing more
AHEAD = 3  # questions a person has at a time: one on the screen, the others ready
DRAWN_AHEAD = 8  # questions whose films are ready before anybody asks
FRESH_S = 0.5  # counts may be this old
CURVE_POINTS = 400
NEWEST = 50
MU = {"left": 1.0, "right": 0.0, "equal": 0.5, "cannot tell": None}
AWAY = "the database does not answer, or has no room: your answer is kept by your browser, and sent again."
BLIND = (
    "what others answered, and the true return, are not shown while second opinions are asked for: `prefrl labels "
    "stats` and `prefrl report` show them to whoever runs this."
)

T = TypeVar("T")


def _is_name(name: str) -> str:
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if not name or not name.isprintable():
        raise ValueError("a name has letters that can be read")
    if unicodedata.normalize("NFKC", name).casefold() in TEACHERS:
        raise ValueError("that is the name of a simulated labeler")
    return name


Key = Annotated[StrictStr, Field(pattern="^[0-9a-f]{32}$")]
Choice = Annotated[StrictStr, Field(pattern=f"^{CHOICE.pattern}$", max_length=200)]


class Asked(BaseModel):
    """A request's body; what is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class Hello(Asked):
    """Who is labeling."""

    name: Annotated[StrictStr, Field(min_length=1, max_length=40), AfterValidator(_is_name)]


class Next(Asked):
    """How many questions to hold."""

    count: Annotated[StrictInt, Field(ge=1, le=AHEAD)] = AHEAD


class Answer(Asked):
    """What somebody says of a question, and how long that took.

    Of more than two clips the answer is their places, from 0, from best to worst, "2>0=1", or that of the best, "2".
    """

    question: Key
    ticket: Key
    answer: Literal["left", "right", "equal", "cannot tell"] | Choice
    strength: Annotated[StrictFloat | StrictInt, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    seconds: Annotated[StrictFloat | StrictInt, Field(ge=0, le=86_400, allow_inf_nan=False)]


@dataclass(frozen=True)
class About:
    """What is said of the run on the page."""

    title: str
    instruction: str
    config: TrainConfig
    folder: Path


def create_app(
    about: About, store: Store, studio: Studio, hosts: tuple[str, ...], token: str | None
) -> tuple[FastAPI, Guard]:
    """The page's application, and the guard that must stand before it.

    Args:
        about: the run.
        store: questions and answers.
        studio: films.
        hosts: names by which this server may be called.
        token: what everybody must know; None where only this machine can reach the server.
    """
    names, identity = Names(), identity_of(store)
    app = FastAPI(title="prefrl label", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    counts = _Fresh(store.counts)
    ahead: set[asyncio.Task[None]] = set()
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"description": text}
        for status, text in {
            401: "no name, or no token",
            403: "another host or origin",
            409: "not this person's to answer",
            413: "too large",
            415: "not JSON",
            429: "too many requests",
            503: "the database does not answer",
        }.items()
    }

    def who(request: Request) -> str:
        name: str | None = request.scope[WHO]
        if name is None:
            raise HTTPException(401, "say who you are first.")
        return name

    blind = about.config.second_opinions > 0  # whoever gives an opinion does not know the others'

    def state() -> dict[str, Any]:
        now = counts()
        return {**asdict(now), "planned": about.config.labels, "strengths": about.config.margin > 0}

    @app.exception_handler(HTTPException)
    async def told(_: Any, error: HTTPException) -> JSONResponse:
        return _sentence(error.detail, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def not_understood(_: Any, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _sentence(f"{where:.100}: {first['msg']}", 422)

    @app.exception_handler(Exception)
    async def broken(_: Any, error: Exception) -> JSONResponse:
        return _sentence("something went wrong here; what was saved is safe", 500)

    @app.exception_handler(UserError)
    async def cannot(_: Any, error: UserError) -> JSONResponse:
        if isinstance(error, RefusedError):
            return _sentence(str(error), 409)
        if isinstance(error, UndrawableError):
            return _sentence(str(error), 404)
        return _sentence(str(error) if isinstance(error, MovedError) else AWAY, 503)  # others name what is not theirs

    @app.post("/api/hello", responses=refusals)
    def hello(body: Hello, response: Response) -> dict[str, Any]:
        """Say who you are; the reply's cookies say it from then on, and so does the header `prefrl-name: BADGE`."""
        badge = names.sign(body.name)
        for name, value in [(NAMED, badge)] + ([(TOKEN, token)] if token else []):
            response.set_cookie(name, value, httponly=True, samesite="strict", max_age=30 * 86_400)
        run = {"run": identity, "called": f"{about.title} ({about.folder.resolve().name})"}
        text = {"title": about.title, "instruction": about.instruction}
        return {"name": body.name, "badge": badge, **run, **text, **state()}

    @app.post("/api/next", responses=refusals)
    async def following(body: Next, request: Request) -> dict[str, Any]:
        """The questions that are yours now, oldest first; asking again keeps them yours."""
        name = who(request)
        leases = await asyncio.to_thread(store.lease, name, body.count, LEASE_S)
        task = asyncio.create_task(studio.draw_ahead([key for lease in leases for key in lease.clips]))
        ahead.add(task)
        task.add_done_callback(ahead.discard)
        return {"questions": [_shown(lease) for lease in leases], **await asyncio.to_thread(state)}

    @app.post("/api/answer", responses=refusals)
    def answer(body: Answer, request: Request) -> dict[str, Any]:
        """Answer a question of yours; when this is acknowledged the answer is on disk."""
        mu, choice = (MU[body.answer], None) if body.answer in MU else (None, body.answer)
        strength = None if body.strength is None else float(body.strength)
        said = (mu, float(body.seconds), choice, strength)
        store.answer(body.question, who(request), body.ticket, *said)
        return {"saved": body.question}

    @app.post("/api/undo", responses=refusals)
    def undo(request: Request) -> dict[str, Any]:
        """Take back your newest answer; its question is yours again."""
        lease = store.withdraw(who(request), LEASE_S)
        return {"question": None if lease is None else _shown(lease)}

    @app.get("/api/run", responses=refusals)
    def run() -> dict[str, Any]:
        """The curves so far, thinned, and which policy there is to see."""
        try:
            table = read_table(about.folder / "metrics.csv")
        except (UserError, ValueError, TypeError):  # no phase is over yet, or the last row is not whole
            table = {}
        shown = ["step", "learned_return", "labels_asked", "labels_answered", "held_out_accuracy"]
        shown += [] if blind else ["true_return"]
        every = max(1, -(-len(table.get("step", [])) // CURVE_POINTS))
        curves = {name: [_number(x) for x in table.get(name, [])[::every]] for name in shown}
        finished = (about.folder / "result.json").is_file()
        version = studio.policy_version()
        policy = None if version is None else str(version)
        progress = {"steps": about.config.steps, "finished": finished, "policy": policy}
        return {"curves": curves, **progress, "blind": BLIND if blind else "", **state()}

    @app.get("/api/people", responses=refusals)
    def people() -> dict[str, Any]:
        """Who answered how much, how fast and what, and how far they agree; not for those who give second opinions."""
        if blind:
            raise HTTPException(403, BLIND)
        given = store.given()
        rows = []
        for name in sorted({answer.labeler for answer in given}):
            mine = [answer for answer in given if answer.labeler == name]
            said = Counter("choice" if answer.choice else word_of(answer.mu) for answer in mine)
            seconds = _number(round(float(np.median([answer.seconds for answer in mine])), 2))
            words = {word: said[word] for word in (*MU, *said)}
            rows.append({"name": name, "answers": len(mine), "seconds": seconds, **words})
        newest = [
            {
                "name": a.labeler,
                "answer": word_of(a.mu, a.choice),
                "seconds": _number(round(a.seconds, 2)),
                "step": a.step,
                "question": a.key,
            }
            | {"at": a.answered_at.isoformat(timespec="seconds")}
            for a in given[:NEWEST]
        ]
        kappa = [asdict(agreement) | {"kappa": _number(agreement.kappa)} for agreement in agreements(given)]
        return {"people": rows, "kappa": kappa, "newest": newest}

    @app.get("/clips/{key}.mp4", response_class=Response, responses=refusals | {404: {"description": "no such clip"}})
    async def clip(key: Annotated[str, InPath(pattern="^[0-9a-f]{32}$")]) -> Response:
        """The film of a segment, made if need be."""
        made = await studio.clip(key)
        if made is None:
            raise HTTPException(404, "there is no such clip.")
        return Response(made, media_type="video/mp4", headers={"cache-control": "private, max-age=31536000, immutable"})

    @app.get("/policy.mp4", response_class=Response, responses=refusals | {404: {"description": "no policy yet"}})
    async def policy() -> Response:
        """What the policy does now."""
        made = await studio.policy()
        if made is None:
            raise HTTPException(404, "there is no policy to see yet.")
        return Response(made, media_type="video/mp4")

    for name in ("index.html", "page.css", "page.js", "sets.js", "icon.svg"):
        path = "/" if name == "index.html" else f"/{name}"
        app.add_api_route(path, _sender(STATIC / name), include_in_schema=False)

    return app, Guard(app, hosts, token, names)


async def draw_ahead(store: Store, studio: Studio) -> None:
    """Keep the films of the oldest open questions ready, for ever."""
    while True:
        try:
            queries = await asyncio.to_thread(store.unanswered, DRAWN_AHEAD)
            for query in queries:  # one after the other: what somebody is waiting for comes in between
                await studio.draw_ahead([segment.key for segment in query.segments])
        except Exception:  # the database is away, or is damaged: whoever asks is told
            pass
        await asyncio.sleep(2)


def _sender(file: Path) -> Callable[[], Any]:
    async def send() -> FileResponse:
        return FileResponse(file)

    return send


def _shown(lease: Lease) -> dict[str, Any]:
    """A question, as the page takes it."""
    return {"question": lease.key, "kind": lease.kind, "ticket": lease.ticket, "clips": list(lease.clips)}


def _sentence(text: str, status: int, headers: Any = None) -> JSONResponse:
    """A refusal; what it repeats, of an environment for one, may be no text that can be sent."""
    text = text.encode("utf-8", "replace").decode()
    return JSONResponse({"error": text if text.endswith(".") else f"{text}."}, status, headers)


def _number(x: float) -> float | None:
    return x if math.isfinite(x) else None


class _Fresh:
    """A reading that is taken anew when it is older than `FRESH_S`."""

    def __init__(self, read: Callable[[], Counts]) -> None:
        self._read, self._at = read, -math.inf
        self._value: Counts | None = None

    def __call__(self) -> Counts:
        if self._value is None or time.monotonic() - self._at > FRESH_S:
            self._value, self._at = self._read(), time.monotonic()
        return self._value
