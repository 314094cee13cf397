"""The README's Python runs as it stands, and its commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


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


def test_every_room_in_the_tree_exists_and_every_room_is_in_it():
    tree = README.split("```")[3]
    for path in (ROOT / "prefrl").rglob("*.py"):
        if path.name != "__init__.py":
            assert path.name in tree, path
    for name in re.findall(r"\b(\w+\.py)\b", tree):
        assert list(ROOT.glob(f"prefrl/**/{name}")), name
