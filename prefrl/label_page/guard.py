"""What stands between the page and the rest of the world: hosts, origins, a token, sizes, rates, headers.

Cross-site requests fail three times over: browsers name the page they come from (Origin), which must be this one; a
body must be JSON, which no form can send; cookies are SameSite=Strict.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import secrets
import time
import traceback
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MOST_BODY = 4096  # bytes of a request; an answer takes some 150
BODY_S = 10.0  # in which they must have come
RATE = 40.0  # requests a second for each person, and for each address that says no name, in the long run
BURST = 400.0  # and at once
MOST_BUCKETS = 10_000
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
NAMED = "prefrl_name"
NAMED_HEADER = (
    "prefrl-name"  # says the same for one request: a browser has one cookie, and maybe two people in two tabs
)
WHO = "prefrl.who"  # where the guard leaves the name in a request's scope
TOKEN = "prefrl_token"
PUBLIC = {"/", "/page.css", "/page.js", "/sets.js", "/icon.svg"}  # tell nothing of any run, so they need no token

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class GoneError(Exception):
    """Nobody waits for a reply."""


class Names:
    """Who is asking: a name, signed, so that nobody answers, or takes back, under another's by a guess."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def sign(self, name: str) -> str:
        """What stands for a name, in a cookie or a header."""
        text = base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")
        return f"{text}.{self._mac(text)}"

    def read(self, value: str | None) -> str | None:
        """The name that a value stands for; None where it is not of this server's making."""
        text, _, mac = (value or "").partition(".")
        if not text or not hmac.compare_digest(mac.encode(), self._mac(text).encode()):
            return None
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()

    def _mac(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()


class Rates:
    """A bucket for each client, which every request takes a token from and time fills again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> bool:
        """Whether this client may ask now."""
        now = self._clock()
        left, before = self._buckets.pop(client, (BURST, now))
        left = min(BURST, left + (now - before) * RATE)
        self._buckets[client] = (left - 1 if left >= 1 else left, now)
        while len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return left >= 1


class Guard:
    """An ASGI application around another that lets through what may pass.

    Args:
        app: what is guarded.
        hosts: names and addresses by which this server may be called, without port.
        token: what everybody must know; None where only this machine can reach the server.
        names: who signed the cookies.
    """

    def __init__(self, app: App, hosts: tuple[str, ...], token: str | None, names: Names) -> None:
        self.app, self.token, self.names = app, token, names
        self.hosts = {host.lower() for host in hosts}
        self.rates = Rates()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer, refuse, or pass on."""
        if scope["type"] != "http":  # start-up and shut-down pass; there are no web sockets
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        began = False

        async def say(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                told = {name for name, _ in message["headers"]}
                extra = {**HEADERS, "cache-control": "no-store"}
                message["headers"] = [
                    *message["headers"],
                    *((n.encode(), v.encode()) for n, v in extra.items() if n.encode() not in told),
                ]
            await send(message)

        try:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            refused = self._refuse(scope, headers)
            if refused is not None:
                await _reply(say, *refused)
                return
            try:
                body = await asyncio.wait_for(_read(receive), BODY_S)
            except TimeoutError:
                await _reply(say, 408, f"a request must have come whole within {BODY_S:.0f} seconds.")
                return
            if body is None:
                await _reply(say, 413, f"a request has at most {MOST_BODY} bytes.")
                return
            rest = [pair for pair in scope["headers"] if pair[0] != b"cookie"]  # they are read; see `read_cookies`
            await self.app({**scope, "headers": rest}, _once(body, receive), say)
        except GoneError:
            return
        except Exception:
            traceback.print_exc()  # for whoever runs the server, and for nobody else
            if not began:
                await _reply(say, 500, "something went wrong here; what was saved is safe.")

    def _refuse(self, scope: Message, headers: dict[str, str]) -> tuple[int, str] | None:
        """The status and sentence of a request that may not pass."""
        host = headers.get("host", "").lower()
        if re.sub(r":\d+$", "", host) not in self.hosts:
            return 403, "this server is not called that; --allow-host adds a name."
        cookies = read_cookies(headers.get("cookie", ""))
        if scope["method"] not in ("GET", "HEAD"):
            if headers.get("origin", "").lower() not in (f"http://{host}", f"https://{host}"):
                return 403, "a request that changes something must come from this server's own page."
            if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return 415, "a request that changes something must be JSON."
            size = headers.get("content-length", "0")
            if not re.fullmatch("[0-9]{1,9}", size) or int(size) > MOST_BODY:
                return 413, f"a request has at most {MOST_BODY} bytes."
        if self.token is not None and scope["path"] not in PUBLIC:
            bearer = headers.get("authorization", "").removeprefix("Bearer ")
            given = [text.encode() for text in (bearer, cookies.get(TOKEN, ""))]
            if not any(secrets.compare_digest(text, self.token.encode()) for text in given):
                return 401, "this server needs the token that was printed when it started."
        client = (scope.get("client") or ("", 0))[0]
        name = scope[WHO] = self.names.read(headers.get(NAMED_HEADER, cookies.get(NAMED)))
        if not self.rates.take(f"{client} {name or ''}"):
            return 429, "that is too many requests: wait a few seconds."
        return None


def read_cookies(header: str) -> dict[str, str]:
    """Cookies by name. This server's own need no quotes; SimpleCookie takes quadratic time to unquote others'."""
    pairs = (part.lstrip().partition("=") for part in header.split(";"))
    return {name: value.strip('"') for name, _, value in pairs if name}


async def _read(receive: Receive) -> bytes | None:
    """The body; None where it is too large, however it was sent.

    Raises:
        GoneError: whoever sent it has gone.
    """
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_BODY:
            return None
    return body


def _once(body: bytes, receive: Receive) -> Receive:
    """What gives the body once, and what comes from the client after it."""
    given = False

    async def give() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return give


async def _reply(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 429:
        headers.append((b"retry-after", b"5"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
