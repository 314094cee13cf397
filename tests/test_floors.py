"""The floors of the house, read from the imports: a module imports from floors below it, and never in a circle."""

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from prefrl.words.moved import MOVED

ROOT = Path(__file__).parent.parent
FLOORS = (
    "words",
    "settings",
    "experience",
    "rewards",
    "queries",
    "policies",
    "exact",
    "runs",
    "run",
    "studies",
    "doors",
)
"""Rooms, the ground first: `run` is the algorithm on the page, and `doors` are what people and programs come in by."""
AT_THE_TOP = {
    "run": "run",
    "baseline": "run",
    "experiment": "run",
    "cli": "doors",
    "__init__": "doors",
    "check": "doors",
    "label_page": "doors",
}
WORDS_NEED = {"numpy", "torch", "scipy", "jaxtyping", "gymnasium", "safetensors"}  # besides the standard library
OPTIONAL = {
    "dm_control", "envpool", "metaworld", "ray", "wandb", "av", "fastapi", "pydantic",
    "starlette", "uvicorn", "minari", "pyarrow", "openai",
}  # fmt: skip
BEHIND = {"label_page.app", "label_page.connections"}  # imported in a try of label_page.serve alone
OWN_PROCESS = {"check.drawing"}  # hands a specification to a child process that it starts itself, and to nobody else
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}

Sources = Mapping[str, str]


def sources(folder: str) -> dict[str, str]:
    """The text of each module of a package folder, by its name below the package: "labelers.oracle"."""
    root = ROOT / folder
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path.read_text()
    return found


def imported(text: str) -> Iterator[tuple[str, bool]]:
    """Every absolute name that a module imports, and whether it may fail: in a function, or in a try."""

    def walk(node: ast.AST, guarded: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, guarded) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((f"{node.module}.{alias.name}", guarded) for alias in node.names)
        guarded = guarded or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Try)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, guarded)

    return walk(ast.parse(text), False)


def edges(modules: Sources) -> dict[str, set[str]]:
    """Which modules of `prefrl` each imports; the package's own names count as those of `__init__`."""
    result: dict[str, set[str]] = {}
    for module, text in modules.items():
        result[module] = set()
        for name, _guarded in imported(text):
            if name.split(".")[0] == "prefrl":
                inside = name.split(".")[1:]
                known = [".".join(inside[:n]) for n in range(len(inside), 0, -1) if ".".join(inside[:n]) in modules]
                result[module].add(known[0] if known else "__init__")
    return result


def floor(module: str) -> int | None:
    """How high a module lives, by its folder; None where it has no room."""
    room = module.split(".")[0]
    room = AT_THE_TOP.get(room, room)
    return FLOORS.index(room) if room in FLOORS else None


def climbs(modules: Sources) -> list[str]:
    """Imports that go up, and modules without a room."""
    unplaced = [f"{module} has no room: put it into a folder" for module in modules if floor(module) is None]
    return unplaced + [
        f"{module} imports {other}, which is above it"
        for module, others in edges(modules).items()
        for other in sorted(others)
        if None not in (floor(module), floor(other)) and floor(other) > floor(module)
    ]


def third_party(modules: Sources) -> set[tuple[str, str, bool]]:
    """(module, top-level package, guarded) of everything imported that is neither ours nor the standard library's."""
    return {
        (module, name.split(".")[0], guarded)
        for module, text in modules.items()
        for name, guarded in imported(text)
        if name.split(".")[0] not in sys.stdlib_module_names | {"prefrl", "prefrl_envs"}
    }


def distributions(requirements: list[str]) -> set[str]:
    """Names of the packages in a list of requirements, as PyPI normalises them."""
    return {
        r.split(";")[0].split(">")[0].split("=")[0].split("[")[0].strip().lower().replace("_", "-")
        for r in requirements
    }


PREFRL, ENVS = sources("prefrl"), sources("envs")


def test_the_checks_see_what_they_look_for() -> None:
    planted = {
        "words.preference": "import torch\n",
        "words.lookup": "def f():\n    from prefrl.rewards.fit import Fit\n",
        "rewards.fit": "from prefrl.words import preference\nfrom prefrl.run import train\nimport prefrl_envs\n",
        "run": "from prefrl import train\n",
        "queries.labelers": "from prefrl.queries.oracle import Oracle\ntry: import envpool\nexcept ImportError: ...\n",
        "queries.oracle": "from prefrl.queries.labelers import LABELERS\n",
        "stray": "",
        "__init__": "",
    }
    assert climbs(planted) == [
        "stray has no room: put it into a folder",
        "words.lookup imports rewards.fit, which is above it",
        "rewards.fit imports run, which is above it",
        "run imports __init__, which is above it",
    ]
    with pytest.raises(CycleError):
        TopologicalSorter(edges(planted)).prepare()
    assert third_party(planted) == {("words.preference", "torch", False), ("queries.labelers", "envpool", True)}


def test_imports_go_down() -> None:
    assert len(PREFRL) > 15
    assert "queries.oracle" in PREFRL
    assert climbs(PREFRL) == []


def test_no_circles() -> None:
    TopologicalSorter(edges(PREFRL)).prepare()


def test_the_two_packages_meet_only_in_gymnasiums_registry() -> None:
    assert "mujoco" in ENVS
    assert not [m for m, text in PREFRL.items() for name, _ in imported(text) if name.split(".")[0] == "prefrl_envs"]
    assert not [m for m, text in ENVS.items() for name, _ in imported(text) if name.split(".")[0] == "prefrl"]


def test_words_and_formulas_need_arrays_alone() -> None:
    assert not [
        (module, name)
        for module, name, _guarded in third_party(PREFRL)
        if floor(module) == 0 and name not in WORDS_NEED
    ]


def test_whatever_is_imported_is_declared_and_extras_may_be_missing() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = distributions(project["dependencies"])
    groups = project["optional-dependencies"]
    extras = distributions([r for name, group in groups.items() if name != "dev" for r in group])
    homes = packages_distributions()
    for module, name, guarded in sorted(third_party(PREFRL) | third_party(ENVS)):
        if name in OPTIONAL:
            assert name.replace("_", "-") in extras
            assert guarded or module in BEHIND, (
                f"{module} imports {name}, which may be missing, outside of a function or try"
            )
        else:
            assert declared & {home.lower().replace("_", "-") for home in homes[name]}, f"{module} imports {name}"
    importers = {
        (module, guarded)
        for module, text in PREFRL.items()
        for name, guarded in imported(text)
        if name.startswith(tuple(f"prefrl.{behind}" for behind in BEHIND))
    }
    assert importers == {("label_page.serve", True)}


def test_nothing_is_pickled() -> None:
    for module, text in (PREFRL | ENVS).items():
        if module in OWN_PROCESS:
            continue
        assert not [name for name, _ in imported(text) if name.split(".")[0] in PICKLES], module
        tree = ast.walk(ast.parse(text))
        called = {ast.unparse(node.func): ast.unparse(node) for node in tree if isinstance(node, ast.Call)}
        assert not {"torch.load", "torch.save"} & set(called), module
        assert not [call for call in called.values() if "allow_pickle=True" in call or "PickleType" in call], module


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("prefrl, prefrl.settings.config", "torch gymnasium stable_baselines3 matplotlib scipy sqlalchemy rich numpy"),
        ("prefrl.cli", "torch gymnasium stable_baselines3 matplotlib scipy sqlalchemy prefrl_envs"),
    ],
)
def test_start_up_is_light(modules: str, heavy: str) -> None:
    code = f"import sys, {modules}; print(*(set({heavy.split()!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_folder_is_in_the_package_that_is_built() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "prefrl").rglob("*.py")}
    assert folders | {"prefrl_envs"} == set(listed)


@pytest.mark.parametrize("old", sorted(MOVED))
def test_what_moved_is_found_at_its_old_place_and_is_the_same(old: str) -> None:
    module = importlib.import_module(old)
    assert module is importlib.import_module(MOVED[old])
    assert module.__spec__ is not None
    assert module.__spec__.name == module.__name__ == MOVED[old]
