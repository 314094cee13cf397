"""`prefrl label RUN`: the page for one run, until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import sys

from prefrl.experience.environments import find_spec
from prefrl.experience.task import Task
from prefrl.queries.exchange import store_of
from prefrl.runs.saved import load_run
from prefrl.settings import presets
from prefrl.settings.config import LabelConfig, TrainConfig
from prefrl.words.errors import UserError, install


def serve(config: LabelConfig) -> None:
    """Show the page until interrupted.

    Raises:
        UserError: no such run, nothing to draw with, or an address that cannot be had.
    """
    try:
        import uvicorn

        from prefrl.label_page.app import About, create_app, draw_ahead
        from prefrl.label_page.connections import Impatient, most_connections
        from prefrl.label_page.guard import LOOPBACK
        from prefrl.label_page.same_store import SameStore
        from prefrl.label_page.studio import Studio
    except ImportError as error:
        raise UserError(f"the page needs packages that are missing ({error}): {install('people')}.") from error
    run = load_run(config.run, config.trust).config
    if not isinstance(run, TrainConfig):
        raise UserError(f"{str(config.run)!r} learns from the true reward, and asks nobody: give a run of labels.")
    local = config.host in ("localhost", "127.0.0.1", "::1")
    token = None if local else secrets.token_urlsafe(16)
    host = f"[{config.host}]" if ":" in config.host else config.host  # as browsers write it
    names = () if local else (host, socket.gethostname(), socket.getfqdn())
    hosts = (*LOOPBACK, *names, *config.allow_host)
    spec = find_spec(run.env)
    known = presets.task(spec.id, str(spec.entry_point))
    instruction = config.instruction or presets.INSTRUCTIONS.get(known, presets.INSTRUCTION)
    with SameStore(store_of(config.run, config.trust)) as store, bind(config.host, config.port) as bound:
        studio = Studio(config.run, store, Task.of(run), config.camera)
        try:
            studio.check()
            about = About(spec.name, instruction, run, config.run)
            _, guard = create_app(about, store, studio, hosts, token)
            server = uvicorn.Server(
                uvicorn.Config(
                    guard,
                    log_level="error",  # what strangers send wrongly is no news
                    http=Impatient,
                    server_header=False,
                    ws="none",
                    limit_concurrency=most_connections(),
                    timeout_graceful_shutdown=2,
                )
            )
            port = bound.getsockname()[1]
            name = "localhost" if local else socket.gethostname() if config.host in ("0.0.0.0", "::") else host
            print(f"http://{name}:{port}/{f'#token={token}' if token else ''}", flush=True)
            print("people answer there; Ctrl+C ends it.", file=sys.stderr, flush=True)

            async def both() -> None:
                drawing = asyncio.create_task(draw_ahead(store, studio))
                await server.serve(sockets=[bound])
                drawing.cancel()

            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(both())
        finally:
            studio.close()


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        UserError: it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or a reply waits 40 ms for the other side's word
    try:
        made.bind((host, port))
        made.listen(2048)  # from now on nobody is refused: who comes early waits
    except (OSError, OverflowError) as error:
        made.close()
        raise UserError(
            f"cannot listen at {host} port {port} ({getattr(error, 'strerror', None) or error}): give an address of "
            f"this machine with --host, and a free --port."
        ) from error
    return made
