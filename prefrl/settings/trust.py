"""Whose word is taken: what looking at a run may import, and connect to, because the run's folder says so.

Looking at a run must not run or send anything that whoever made it has chosen. So of an environment "package:Id-v0" the
package is imported only if it is imported already or is installed here by its own name, and of `store` only a file is
opened, which is there already. Everything else takes `--trust`, unless the run was made here: one that names such a
package or host is signed, as it begins, with a key of this user's that never leaves this machine.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import json
import os
import secrets
import sys
from contextlib import suppress
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, Literal

from prefrl.settings.config import BaselineConfig
from prefrl.words.errors import UserError

SIGNATURE = "made_here"  # the file in a run's folder
WRAPPERS = [
    *([f"prefrl.experience.wrappers:{name}"] for name in ("Bounded", "FromZero", "Shifted", "ShowOnly")),
    *([f"gymnasium.wrappers:{name}"] for name in ("ClipAction", "FilterObservation", "FlattenObservation")),
    *([f"gymnasium.wrappers:{name}"] for name in ("GrayscaleObservation", "RescaleAction", "ResizeObservation")),
]
"""Wrappers that change what is shown and taken, and do nothing else; of others of these packages some write files."""


def check_trust(config: BaselineConfig, folder: Path, uses: Literal["package", "host"]) -> None:
    """See that nothing of somebody else's choosing is run or called by looking at this run.

    Args:
        config: of the run.
        folder: of the run.
        uses: what is about to be imported, or called; the sentence names the other, too.

    Raises:
        UserError: it is not installed here, or not on this machine, and the run was not made here.
    """
    named = strangers(config, imported=uses == "package")
    if uses in named and not _is_made_here(config, folder):
        raise UserError(
            f"looking at {str(folder)!r} would use {' and '.join(named.values())}, because its config.toml says so: if "
            f"you know who made it, add --trust (in Python: load_run(folder, trust=True))."
        )


def check_package(env_id: str, said_by: str) -> None:
    """See that nothing is imported for an environment because a file of somebody else's names it.

    Raises:
        UserError: its package is neither imported nor installed here.
    """
    package = env_id.rpartition(":")[0]
    if package and package not in sys.modules and not _is_installed(package):
        raise UserError(
            f"{said_by} is about the environment {env_id!r}, for which the module {package!r} would be imported, and "
            f"no package installed here is called so: if you know who made it, add --trust."
        )


def strangers(config: BaselineConfig, imported: bool = True) -> dict[str, str]:
    """What looking at this run would import or call that nobody has installed here: "package", "host", in words.

    Args:
        config: of the run.
        imported: whether a package that is imported already counts as installed.
    """
    named = {}
    package = config.env.rpartition(":")[0]
    known = not package or _is_installed(package) or (imported and package in sys.modules)
    modules = [] if known else [package]
    modules += [text.partition(":")[0] for text in config.wrapper or () if text.split(maxsplit=1)[:1] not in WRAPPERS]
    if modules:
        named["package"] = f"the module {' and '.join(map(repr, dict.fromkeys(modules)))}"
    if host := host_of(getattr(config, "store", None)):
        named["host"] = f"the database at {host!r}"
    return named


def host_of(store: str | None) -> str | None:
    """The host that a store's URL would be asked of, and sent a password; None for a file.

    Raises:
        UserError: it is no URL of a database.
    """
    place = _url(store) if store and "://" in store else None
    if place is None or place.drivername in ("sqlite", "sqlite+pysqlite"):
        return None
    asked = " ".join(str(value) for name, value in place.query.items() if "host" in name)  # as libpq takes it, too
    return asked or place.host or f"{place.drivername} on this machine"


def file_of(store: str) -> Path | None:
    """The file of a store that a run names; None where a host has it.

    Raises:
        UserError: it is no URL of a database.
    """
    if host_of(store):
        return None
    return Path(_url(store).database or "" if "://" in store else store)


def _url(store: str) -> Any:
    import sqlalchemy as sa

    try:
        return sa.make_url(store)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise UserError(f"the store {store!r:.200} is no URL of a database.") from error


def _is_installed(package: str) -> bool:
    """Whether importing this runs nothing but a package that somebody installed here.

    A module inside an installed package does not count: some, such as `pip.__main__`, do things when they are imported.
    """
    return "." not in package and package in packages_distributions()


def sign(config: BaselineConfig, folder: Path) -> None:
    """Say in a new run's folder that this user made it, if looking at it would otherwise take his word for something.

    Where this machine has no place for the key, nothing is said.
    """
    if strangers(config, imported=False):
        with suppress(OSError, RuntimeError):  # the second: no home
            (folder / SIGNATURE).write_text(_signature(_key(make=True), config) + "\n", encoding="utf-8")


def _is_made_here(config: BaselineConfig, folder: Path) -> bool:
    try:
        signature = (folder / SIGNATURE).read_bytes()[:200].strip()
        return hmac.compare_digest(signature, _signature(_key(), config).encode())
    except (OSError, RuntimeError):
        return False


def _signature(key: bytes, config: BaselineConfig) -> str:
    """Of all that decides what looking at the run does: the environment, where its package lies, the store."""
    package = config.env.rpartition(":")[0].partition(".")[0]
    said: list[Any] = [config.env, config.env_kwargs, _file_of(package), getattr(config, "store", None)]
    said += [[text, _file_of(text.partition(":")[0].partition(".")[0])] for text in config.wrapper or ()]
    return hmac.new(key, json.dumps(said).encode(), hashlib.sha256).hexdigest()


def _file_of(package: str) -> str | None:
    """The file that an import of this package would run, from the path or from the working folder."""
    found = None
    with suppress(ImportError, ValueError):
        found = importlib.util.find_spec(package) if package else None
    if found is not None and found.origin:
        return str(Path(found.origin).resolve())
    here = Path(package).resolve()
    for file in (here / "__init__.py", here.with_name(f"{here.name}.py")):
        if package and file.is_file():
            return str(file)
    return None


def _key(make: bool = False) -> bytes:
    """The key of this user on this machine.

    Raises:
        OSError: there is none, or it cannot be made.
        RuntimeError: this user has no home.
    """
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    path = state / "prefrl" / "key"
    if make and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            suppress(FileExistsError),
            os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
        ):
            file.write(secrets.token_bytes(32))
    key = path.read_bytes()
    if len(key) < 32:
        raise FileNotFoundError(path)
    return key
