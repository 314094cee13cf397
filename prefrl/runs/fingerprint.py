"""What a run was made by: a short hash of its settings, and one of the contents of each module that it used.

A commit says where the code of a number can be found; this says whether it is still the same code, with git or without.
Only what can change a number counts: not comments, docstrings and formatting, not the order of imports, and not the
folder that a module lies in, so that moving a module leaves its hash as it was.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from prefrl.settings.config import BaselineConfig, TrainConfig, to_toml

OURS = ("prefrl", "prefrl_envs", "benchmarks")
UNTOLD = (
    "arm",
    "backend",
    "device",
    "out",
    "seed",
    "store",
    "tensorboard",
    "wandb",
    "workers",
)  # fields that make no other run
PLACE = re.compile(rf"(?:{'|'.join(OURS)})(?:\.\w+)*\.(\w+)((?::\w+)?)")  # of a module, or of something in it
NAME = r"\1\2"  # of it, without the folders
BEGAN = time.time()


def settings_hash(config: BaselineConfig) -> str:
    """Of a resolved configuration, without its seed and without what leaves a run what it is."""
    told = to_toml(replace(config, seed=0))
    kept = {name: value for name, value in told.items() if name not in UNTOLD}
    return short_hash(json.dumps([isinstance(config, TrainConfig), kept], sort_keys=True, default=str))


def fingerprint(config: BaselineConfig) -> dict[str, Any]:
    """What a run of this resolved configuration, which has just ended in this process, was made by.

    Returns:
        `settings` and `code`, a hash of each, and `modules`, the hash of each that `code` is made of.
    """
    modules = used_modules(config)
    return {"settings": settings_hash(config), "code": code_hash(modules), "modules": modules}


def used_modules(config: BaselineConfig) -> dict[str, str]:
    """Name and hash of each module of ours that a run in this process has used.

    Those reached by imports from the loop and from the environment, as far as they have been imported: what the process
    was started by, or has run before, does not count.
    """
    return modules_from("prefrl.run" if isinstance(config, TrainConfig) else "prefrl.baseline", *made_by(config.env))


def made_by(env_id: str) -> list[str]:
    """The modules that a registered environment comes from, and those that registered it."""
    import gymnasium as gym

    task = gym.registry.get(env_id.rpartition(":")[2])
    places = [str(place).partition(":")[0] for place in (task.entry_point, task.vector_entry_point)] if task else []
    return places + [place.partition(".")[0] for place in places if place.startswith("prefrl_envs")]


def modules_from(*names: str) -> dict[str, str]:
    """Name and hash of these modules, and of all that they import of ours, directly or not, and that is imported.

    A module whose file has changed since this process began is hashed as "changed": what ran is not what is there.
    """
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        module = sys.modules.get(waiting.pop())
        name, file = getattr(module, "__name__", ""), getattr(module, "__file__", None)
        if name == "__main__" and module is not None and module.__spec__ is not None:
            name = module.__spec__.name
        if file is None or name in found or name == __name__ or not name.startswith(OURS):
            continue
        path = Path(file)
        source = path.read_text(encoding="utf-8")
        found[name] = "changed" if path.stat().st_mtime > BEGAN else source_hash(source)
        waiting += _imports(source)
    return dict(sorted(found.items()))


@cache
def _imports(source: str) -> tuple[str, ...]:
    """Modules that a source may import: in statements, and as "package.module:name" in tables."""
    return tuple(_named(ast.parse(source)))


def _named(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_place(node.value):
            yield node.value.partition(":")[0]


def _is_place(text: str) -> bool:
    return ":" in text and PLACE.fullmatch(text) is not None


def present_hashes() -> dict[str, str]:
    """The hash of every module of ours as its file is now, and of every function of the benchmarks; by its name."""
    found: dict[str, str] = {}
    for package in OURS:
        spec = importlib.util.find_spec(package)
        for root in spec.submodule_search_locations or [] if spec else []:
            found |= hashes_of(package, Path(root))
    return found


def hashes_of(package: str, root: Path) -> dict[str, str]:
    """The same of one package in this folder, installed or not."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join((package, *parts)).removesuffix(".__init__")
        source = path.read_text(encoding="utf-8")
        found[name] = source_hash(source)
        if package == "benchmarks":
            found |= function_hashes(name, source)
    return found


def function_hashes(module: str, source: str) -> dict[str, str]:
    """The hash of each function of a module, by "module:function"."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {f"{module}:{node.name}": short_hash(_told(node)) for node in functions}


@cache
def source_hash(source: str) -> str:
    """Of what a source does, as far as its syntax tree says; the same on every version of Python."""
    return short_hash(_told(ast.parse(source)))


def code_hash(modules: Mapping[str, str]) -> str:
    """One for all of a run's modules, whatever they are called."""
    return short_hash(json.dumps(sorted(set(modules.values()))))


def short_hash(text: str) -> str:
    """Sixteen hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _told(node: Any) -> str:
    """A syntax tree as text, without what changes no number."""
    if isinstance(node, list):
        imports = sorted(
            line for part in node if isinstance(part, ast.Import | ast.ImportFrom) for line in _lines(part)
        )
        others = [_told(part) for part in node if not (isinstance(part, ast.Import | ast.ImportFrom) or _is_said(part))]
        return f"[{','.join(imports + others)}]"
    if isinstance(node, ast.Constant):
        text = repr(node.value)
        return PLACE.sub(NAME, text) if isinstance(node.value, str) else text
    if isinstance(node, ast.JoinedStr):  # some versions end its formats in an empty text
        return f"JoinedStr({','.join(_told(part) for part in node.values if getattr(part, 'value', None) != '')})"
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if name != "ctx" and value not in (None, [])]
        return f"{type(node).__name__}({','.join(f'{name}={_told(value)}' for name, value in fields)})"
    return repr(node)


def _is_said(node: Any) -> bool:
    """Whether this is a text that stands by itself: a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _lines(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Each name that a statement imports, with the module it comes from, but not the folder of a module of ours."""
    for alias in node.names:
        place, name = (alias.name, "") if isinstance(node, ast.Import) else (f"{node.module}", alias.name)
        yield f"import {PLACE.sub(NAME, place)}.{name} as {alias.asname}"
