"""Where films are made for the page: in processes of their own, at low priority, ahead of need, each once."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import sys
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

from prefrl.experience.clips import Artist, film, frame_rate, policy_frames
from prefrl.experience.task import Task
from prefrl.queries.store import Store, UnreachableError
from prefrl.runs.saved import load_run
from prefrl.words.errors import UserError
from prefrl.words.preference import Segment
from prefrl.words.process import end_with_parent

POLICY_S = 4  # seconds of film that show what the policy does
WORKERS = 2


class UndrawableError(UserError):
    """There is no film of this, and trying again does not help; the sentence says why, once."""


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
        self._without: dict[str, str] = {}  # segments that could not be drawn, and why
        self._killed: set[str] = set()  # segments whose process died, which are drawn alone the next time
        self._policy, self._filmed = b"", 0  # its film, and when the policy in it was written
        self._unfilmed = ""  # why there is none
        self._filming = asyncio.Lock()
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
            UndrawableError: it cannot be drawn; nobody tries again.
            UserError: the store cannot be read, or the process that drew it was killed: trying again may help.
        """
        path = self.shelf / f"{key}.mp4"
        if path.is_file() and self._is_ours(path):
            return path.read_bytes()
        if key in self._without:
            raise UndrawableError(self._without[key])
        segment = None
        if key not in self._making:
            try:
                segment = await asyncio.to_thread(self.store.segment, key)
                if segment is None:
                    return None
            except UnreachableError:
                raise
            except Exception as error:  # whoever wrote it, it was not this program
                raise self._give_up(key, error) from error
        pool, alone = self._pool, key in self._killed
        try:
            if segment is not None:
                self._start(segment)
            made = await asyncio.wrap_future(self._making[key])
        except BrokenProcessPool as error:  # a process was killed; it may have been for another segment
            if alone:
                raise self._give_up(key, error) from error
            if pool is self._pool:
                self._pool = new_pool(self.task, self.camera)
            self._killed.add(key)
            raise UnreachableError("the process that draws was killed: another one begins.") from error
        except Exception as error:  # whatever an environment raises when it is drawn
            raise self._give_up(key, error) from error
        finally:
            self._making.pop(key, None)
        with suppress(OSError):  # a full disk only means that it is drawn again
            self.shelf.mkdir(exist_ok=True)
            new = path.with_suffix(f".{os.getpid()}")
            if self._is_ours(new):
                new.write_bytes(made)
                new.replace(path)
        return made

    def _is_ours(self, path: Path) -> bool:
        """Whether a film lies in the run's folder, and no link in a folder of somebody else's leads out of it."""
        return path.resolve().parent == self.folder.resolve() / self.shelf.name and not path.is_symlink()

    def _give_up(self, key: str, error: Exception) -> UndrawableError:
        """Remember why there is no film of this, and say so to whoever runs the page, once."""
        if key not in self._without:
            self._without[key] = _why("this clip", error)
            print(f"prefrl: {self._without[key]} (segment {key})", file=sys.stderr, flush=True)
        return UndrawableError(self._without[key])

    def _start(self, segment: Segment) -> None:
        steps = len(segment)
        if steps not in self._fps:
            self._fps[steps] = frame_rate(self.task, steps)
        if segment.key not in self._making:
            alone = segment.key in self._killed
            pool = new_pool(self.task, self.camera) if alone else self._pool
            made = pool.submit(_draw, segment, self._fps[steps])
            if alone:
                made.add_done_callback(lambda _: pool.shutdown(wait=False))
            self._making[segment.key] = made

    async def draw_ahead(self, keys: Iterable[str]) -> None:
        """Have these films made, so that nobody waits for them; whoever asks for one is told what is wrong with it."""
        await asyncio.gather(*(self.clip(key) for key in keys), return_exceptions=True)

    def policy_version(self) -> int | None:
        """Changes with the policy; None before there is one."""
        with suppress(OSError):
            return (self.folder / "policy.safetensors").stat().st_mtime_ns
        return None

    async def policy(self) -> bytes | None:
        """The film of the policy as it is now, or was when it was last drawn; None before there is one.

        Raises:
            UndrawableError: this policy cannot be filmed; the next one is tried again.
        """
        version = self.policy_version()
        if version is None:
            return None
        async with self._filming:  # who comes meanwhile gets the same film
            if version != self._filmed:
                self._filmed, self._unfilmed = version, ""
                try:
                    self._policy = await asyncio.wrap_future(self._pool.submit(_draw_policy, self.folder))
                except Exception as error:  # whatever the environment or the policy raises
                    self._unfilmed = _why("what the policy does", error)
                    print(f"prefrl: {self._unfilmed}", file=sys.stderr, flush=True)
                    if isinstance(error, BrokenProcessPool):
                        self._pool = new_pool(self.task, self.camera)
        if self._unfilmed:
            raise UndrawableError(self._unfilmed)
        return self._policy

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _why(what: str, error: Exception) -> str:
    """One sentence on why something has no film."""
    if isinstance(error, BrokenProcessPool):
        return f"{what} cannot be drawn: the process that draws it is killed each time."
    said = " ".join(str(error).split()) if isinstance(error, UserError) else " ".join(repr(error).split())
    return f"{what} cannot be drawn ({said[:300].rstrip('.')})."


_artist: Artist | None = None  # of this process


def _begin(task: Task, camera: str | None) -> None:
    global _artist
    end_with_parent()
    os.nice(5)
    _artist = Artist(task, camera)


def _check() -> None:
    assert _artist is not None
    _artist.check()


def _draw(segment: Segment, fps: int) -> bytes:
    assert _artist is not None
    return film(_artist.frames(segment), fps)


def _draw_policy(folder: Path) -> bytes:
    assert _artist is not None
    run = load_run(folder, trust=True)  # whoever began this process has asked
    return film(*policy_frames(run.policy.act, _artist, POLICY_S, seed=run.config.seed))
