"""What is asked, of whom, and where questions and answers are kept.

The strategies that choose what is asked can be imported from here: `from prefrl.queries import disagreement`.
"""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    strategies = importlib.import_module("prefrl.queries.strategies")
    if name.startswith("_") or not hasattr(strategies, name):
        raise AttributeError(f"module 'prefrl.queries' has no attribute {name!r}")
    return getattr(strategies, name)
