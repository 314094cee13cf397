"""What a finding is, and the words that errors are told in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from prefrl.words.errors import install

ENVPOOL = f"{install('fast')}, which brings EnvPool."
DISPLAY = "osmesa|egl|opengl|glfw|display"
PACKAGES = {
    "pygame": 'pip install "gymnasium[classic-control]", which brings the pygame that it needs.',
    "box2d": 'pip install swig "gymnasium[box2d]".',
    "cv2|opencv": "pip install opencv-python-headless.",
    "envpool": ENVPOOL,
    "rom": "pip install --upgrade ale-py, whose wheels carry the ROMs, and unset ALE_ROMS_DIR.",
    "ale_py": "pip install ale-py.",
    DISPLAY: (
        "set MUJOCO_GL=egl (Debian: apt install libegl1 libgl1-mesa-dri), or MUJOCO_GL=osmesa (apt install libosmesa6)."
    ),
    "mujoco": "pip install mujoco.",
}
"""A word in a message about something that is not installed, and what brings it."""


@dataclass(frozen=True)
class Finding:
    """One question about the environment, and its answer.

    Attributes:
        name: a word for the question.
        level: "ok"; "warning", worth knowing; "fail", learning from preferences would go wrong.
        says: what was found, one sentence.
        fix: what to do about it; empty where all is well.
    """

    name: str
    level: Literal["ok", "warning", "fail"]
    says: str
    fix: str = ""


def one_line(error: BaseException) -> str:
    """What an error says, or its kind."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def sentence(text: str) -> str:
    """The text with its full stop."""
    return text if text.endswith("?") else f"{text}."


def short(value: Any) -> str:
    """A value as text of 80 characters at most."""
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def package(error: Exception | str, otherwise: str) -> str:
    """What to install, where an error is about something missing; an exception says so by its kind or its cause's."""
    from gymnasium.error import DependencyNotInstalled

    if isinstance(error, Exception) and not isinstance(error.__cause__ or error, ImportError | DependencyNotInstalled):
        return otherwise
    found = [fix for words, fix in PACKAGES.items() if re.search(rf"\b({words})", str(error), re.IGNORECASE)]
    module = re.search(r"No module named '(\w+)", str(error))
    return [*found, f"install the package that has the module {module[1]!r}." if module else otherwise][0]
