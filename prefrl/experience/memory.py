"""Whether what will be kept fits into the memory there is, reckoned before any of it is taken."""

from __future__ import annotations

import os
from pathlib import Path

from prefrl.words.errors import UserError

CONTROL_GROUPS = (  # limit, use, and what of it can be given back at once: version 2, then version 1
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory() -> int | None:
    """Bytes that this process may still take without swapping; None where the system does not say.

    Linux says what is available of the machine, and, in a container, what its limit leaves.
    """
    free = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else []  # all there is
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        pass
    for folder, limit, used, cached in CONTROL_GROUPS:
        try:
            most, now = (int(Path(folder, name).read_text(encoding="utf-8")) for name in (limit, used))
            lines = Path(folder, "memory.stat").read_text(encoding="utf-8").splitlines()
            spare = sum(int(line.split()[1]) for line in lines if line.split()[0] == cached)
        except (OSError, ValueError):  # no such group, or no limit, which is spelt "max"
            continue
        free.append(max(0, most - now + spare))
    return min(free, default=None)


def check_room(needed: int, what: str, instead: str) -> None:
    """Refuse what would not fit into the memory there is.

    Args:
        needed: bytes.
        what: takes them, as the subject of a sentence.
        instead: what to do about it.

    Raises:
        UserError: there is less.
    """
    free = free_memory()
    if free is not None and needed > free:
        raise UserError(f"{what} take {needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB of memory are free: {instead}.")
