"""Where films are made for the page: in processes of their own, at low priority, ahead of need, each once."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

from prefrl.experience.clips import Artist, film, frame_rate, policy_frames
from prefrl.experience.task import Task
from prefrl.queries.store import Store
from prefrl.runs.saved import load_run
from prefrl.words.errors import UserError
from prefrl.words.preference import Segment

POLICY_S = 4  # seconds of film that show what the policy does
WORKERS = 2


def new_pool(task: Task, camera: str | None = None) -> ProcessPoolExecutor:
    """Processes that draw, each with a simulation of its own."""
    spawn = multiprocessing.get_context("spawn")  # a fork of a server with threads may hang
    return ProcessPoolExecutor(WORKERS, mp_context=spawn, initializer=_begin, initargs=(task, camera))


class Studio:
    """Films of segments and of the policy, kept in the run's folder once they are made.

    Args:
        folder: of the run.
        store: where segments are.
        task: the environment as the run had it.
        camera: of a MuJoCo model; None for the environment's own.
        pool: processes of this task and camera; None for new ones.
    """

    def __init__(
        self,
        folder: Path,
        store: Store,
        task: Task,
        camera: str | None = None,
        pool: ProcessPoolExecutor | None = None,
    ) -> None:
        self.folder, self.store, self.task, self.camera = folder, store, task, camera
        view = "" if camera is None else "-" + re.sub(r"\W", "_", camera)
        self.shelf = folder / f"clips{view}"
        self._fps: dict[int, int] = {}
        self._making: dict[str, Future[bytes]] = {}
        self._policy = (0, b"")  # when it was written, and its film
        self._filming: Future[bytes] | None = None
        self._pool = pool or new_pool(task, camera)

    def check(self) -> None:
        """Draw something now.

        Raises:
            UserError: nothing can be drawn here.
        """
        try:
            self._pool.submit(_check).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"drawing {self.task.env_id} ends the process that draws it: install what drawing it needs, or set "
                f"MUJOCO_GL to egl or osmesa where MuJoCo draws it."
            ) from error

    async def clip(self, key: str) -> bytes | None:
        """The film of a segment; None where there is no such segment.

        Args:
            key: 32 hexadecimal digits.

        Raises:
            UserError: it cannot be drawn, or the store cannot be read.
        """
        path = self.shelf / f"{key}.mp4"
        if path.is_file():
            return path.read_bytes()
        if key not in self._making:
            segment = await asyncio.to_thread(self.store.segment, key)
            if segment is None:
                return None
            self._start(segment)
        try:
            made = await asyncio.wrap_future(self._making[key])
        except BrokenProcessPool:  # the process was killed; the next has better luck
            self._making.clear()
            self._pool = new_pool(self.task, self.camera)
            raise
        finally:
            self._making.pop(key, None)
        with suppress(OSError):  # a full disk only means that it is drawn again
            self.shelf.mkdir(exist_ok=True)
            new = path.with_suffix(f".{os.getpid()}")
            new.write_bytes(made)
            new.replace(path)
        return made

    def _start(self, segment: Segment) -> None:
        steps = len(segment)
        if steps not in self._fps:
            self._fps[steps] = frame_rate(self.task, steps)
        if segment.key not in self._making:
            self._making[segment.key] = self._pool.submit(_draw, segment, self._fps[steps])

    async def draw_ahead(self, keys: Iterable[str]) -> None:
        """Have these films made, so that nobody waits for them; whoever asks for one is told what is wrong with it."""
        await asyncio.gather(*(self.clip(key) for key in keys), return_exceptions=True)

    def policy_version(self) -> int | None:
        """Changes with the policy; None before there is one."""
        with suppress(OSError):
            return (self.folder / "policy.safetensors").stat().st_mtime_ns
        return None

    async def policy(self) -> bytes | None:
        """The film of the policy as it is now, or was when it was last drawn; None before there is one."""
        version = self.policy_version()
        if version is None:
            return None
        if self._filming is None and version != self._policy[0]:
            self._filming = self._pool.submit(_draw_policy, self.folder)
            self._filming.add_done_callback(lambda _: setattr(self, "_filming", None))
            self._policy = (version, await asyncio.wrap_future(self._filming))
        elif self._filming is not None and not self._policy[1]:
            return await asyncio.wrap_future(self._filming)
        return self._policy[1]

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=False, cancel_futures=True)


_artist: Artist | None = None  # of this process


def _begin(task: Task, camera: str | None) -> None:
    global _artist
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(5)
    _artist = Artist(task, camera)


def _end_with_parent() -> None:
    """A page that is killed leaves nobody behind, who would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(0)


def _check() -> None:
    assert _artist is not None
    _artist.check()


def _draw(segment: Segment, fps: int) -> bytes:
    assert _artist is not None
    return film(_artist.frames(segment), fps)


def _draw_policy(folder: Path) -> bytes:
    assert _artist is not None
    run = load_run(folder)
    return film(*policy_frames(run.policy.act, _artist, POLICY_S, seed=run.config.seed))
