"""The README's Python runs as it stands, its commands exist, and its tree is that of the folders."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "learned reward" in done.stdout
    assert (tmp_path / "runs/readme/curve.png").exists()


@pytest.mark.parametrize("command", re.findall(r"^prefrl (\w+)", README, re.MULTILINE))
def test_every_command_shown_exists(command):
    from prefrl.cli import COMMANDS

    assert command in COMMANDS


TREE = re.compile(r"<!-- tree -->\n(.*?)\n<!-- tree -->", re.DOTALL)


def tree() -> str:
    """The folders, each file beside the first sentence that its own text says of it."""
    lines = ["prefrl/"]
    below = (*sorted((ROOT / "prefrl").glob("*/*.py")), *sorted((ROOT / "prefrl").glob("*/*/*.py")))
    rooms = sorted(below, key=lambda path: (path.parent, path.name))
    for path in [*sorted((ROOT / "prefrl").glob("*.py")), *rooms]:
        if path == ROOT / "prefrl/__init__.py":
            continue
        said = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
        said = re.sub(r" \(Christiano[^)]*\)", "", " ".join(said.split())).split(". ")[0].rstrip(".")
        deep = "  " * len(path.relative_to(ROOT / "prefrl").parts)
        name = f"{deep[2:]}{path.parent.name}/" if path.name == "__init__.py" else f"{deep}{path.name}"
        lines.append(f"{name:<26}{said}")
    beside = {
        "envs/": "the paper's environments, and worlds to solve, as a Gymnasium plugin (imported as prefrl_envs)",
        "tests/": "the same rooms, one file for each of theirs",
        "benchmarks/": "one question each: a command, its committed raw data, a figure",
    }
    return "\n".join(["```", *lines, *(f"{name:<26}{said}" for name, said in beside.items()), "```"])


def test_the_tree_is_that_of_the_folders() -> None:
    (shown,) = TREE.findall(README)
    assert shown == tree(), "python tests/test_readme.py writes it anew"


if __name__ == "__main__":
    (ROOT / "README.md").write_text(
        TREE.sub(lambda _: f"<!-- tree -->\n{tree()}\n<!-- tree -->", README), encoding="utf-8"
    )
