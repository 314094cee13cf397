"""A PostgreSQL server of one's own, in an empty folder, on a Unix socket: for tests and benchmarks."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType


def programs() -> Path | None:
    """The folder of initdb and postgres, the newest version installed; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class Postgres:
    """A server that `initdb` makes and that is gone with its folder; never the superuser's, who may not run one.

    Attributes:
        url: as a store takes it.
    """

    def __init__(self) -> None:
        bin_folder = programs()
        assert bin_folder is not None, "install PostgreSQL (Debian: apt install postgresql)"
        self._bin = bin_folder
        names = {entry.pw_name for entry in pwd.getpwall()}
        self._user = None if os.geteuid() else "postgres" if "postgres" in names else "nobody"
        self.folder = Path(tempfile.mkdtemp(prefix="prefrl-pg-"))
        if self._user:
            shutil.chown(self.folder, self._user)
        self._run("initdb", "-A", "trust", "-U", "prefrl", "-D", str(self.folder / "data"), "--no-sync")
        self.url = f"postgresql+psycopg://prefrl@/postgres?host={self.folder}"
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Postgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start, and wait until it answers; after a kill it recovers first."""
        options = ["-k", str(self.folder), "-c", "listen_addresses=", "-c", "max_connections=100"]
        log = (self.folder / "log").open("ab")
        self._server = subprocess.Popen(
            [self._bin / "postgres", "-D", self.folder / "data", *options],
            stdout=log,
            stderr=log,
            user=self._user,
            cwd=self.folder,
        )
        log.close()
        ready = [self._bin / "pg_isready", "-q", "-h", self.folder, "-U", "prefrl"]
        for _ in range(600):
            if subprocess.run(ready, check=False).returncode == 0:
                return
            time.sleep(0.05)
        raise RuntimeError((self.folder / "log").read_text()[-500:])

    def kill(self) -> None:
        """As a power cut would: SIGKILL to the server and all that it started, at once."""
        assert self._server is not None
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self._server.pid)], capture_output=True, text=True)
        for pid in (self._server.pid, *map(int, children.stdout.split())):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._server.wait()
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        self._server = None

    def stop(self) -> None:
        """Stop without waiting for anybody."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait()
            self._server = None

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._bin / program, *arguments], check=True, user=self._user, cwd=self.folder, capture_output=True
        )
