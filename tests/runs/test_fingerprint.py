"""A run says what made it; only what can change a number counts."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import prefrl.baseline
import prefrl.run  # noqa: F401
from prefrl.runs.fingerprint import (
    code_hash,
    fingerprint,
    modules_from,
    present_hashes,
    settings_hash,
    source_hash,
)
from prefrl.runs.resolve import resolve
from prefrl.settings.config import BaselineConfig, TrainConfig

PAID = '''
"""Pays."""
import math
from prefrl.rewards.fit import Fit, adapted_l2

FACTORY = "prefrl.queries.oracle:Oracle"


class Pay:
    """Of a step."""

    rate: float = 2.0
    """For each."""

    def due(self, steps: int) -> str:
        """What is due."""
        return f"{self.rate * steps:>{9}.2f}"  # in full
'''


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("# in full", "# by the day"),
        ('"""What is due."""', ""),
        ('"""For each."""', ""),
        ("(self, steps: int)", "(\n        self,\n        steps: int,\n    )"),
        (
            "import math\nfrom prefrl.rewards.fit import Fit, adapted_l2",
            "from prefrl.fit import adapted_l2, Fit\nimport math",
        ),
        ("prefrl.queries.oracle:Oracle", "prefrl.labelers.oracle:Oracle"),
    ],
)
def test_comments_docstrings_formatting_and_the_folder_of_a_module_do_not_count(was: str, now: str) -> None:
    assert was in PAID
    assert source_hash(PAID.replace(was, now)) == source_hash(PAID)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("rate: float = 2.0", "rate: float = 2.5"),
        ("self.rate * steps", "steps * self.rate"),
        ("import Fit, adapted_l2", "import Fit"),
        ("prefrl.rewards.fit", "prefrl.rewards.answers"),
        ("prefrl.queries.oracle:Oracle", "prefrl.queries.human:Oracle"),
        ("import math", "import cmath as math"),
        ("{9}.2f", "{9}.3f"),
    ],
)
def test_what_can_change_a_number_does(was: str, now: str) -> None:
    assert was in PAID
    assert source_hash(PAID.replace(was, now)) != source_hash(PAID)


def test_a_runs_modules_are_those_it_reaches_whatever_the_process_has_imported_besides(tmp_path: Path) -> None:
    learned = fingerprint(resolve(TrainConfig(env="CartPole-v1", labels=10, out=tmp_path / "learned")))
    true = fingerprint(resolve(BaselineConfig(env="prefrl/Hopper-v0", out=tmp_path / "true")))
    assert {"prefrl.run", "prefrl.rewards.fit", "prefrl.queries.oracle"} <= learned["modules"].keys()
    assert {"prefrl.baseline", "prefrl_envs", "prefrl_envs.mujoco"} <= true["modules"].keys()
    assert not {name for name in learned["modules"] if name.startswith(("prefrl_envs", "prefrl.studies"))}
    assert learned["code"] != true["code"]
    present = present_hashes()
    for name, found in (learned["modules"] | true["modules"]).items():
        assert found == present[name], name


def test_the_hash_of_the_code_forgets_names_and_that_of_the_settings_what_makes_no_other_run(
    tmp_path: Path,
) -> None:
    assert code_hash({"prefrl.fit": "a", "prefrl.run": "b"}) == code_hash(
        {"prefrl.rewards.fit": "a", "prefrl.run": "b"}
    )
    assert code_hash({"prefrl.fit": "a"}) != code_hash({"prefrl.fit": "b"})
    config = resolve(BaselineConfig(env="CartPole-v1", out=tmp_path / "run"))
    same = replace(config, seed=7, arm="mine", out=tmp_path / "other", tensorboard=False)
    assert settings_hash(same) == settings_hash(config) != settings_hash(replace(config, steps=5))


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A module of the benchmarks that this process has imported, in a file of its own."""
    path = tmp_path / "planted.py"
    path.write_text("RATE = 1\n")
    os.utime(path, (0, 0))
    module = type(sys)("benchmarks.planted")
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return path


def test_a_file_that_has_changed_since_the_process_began_is_not_what_ran(planted: Path) -> None:
    assert modules_from("benchmarks.planted") == {"benchmarks.planted": source_hash("RATE = 1\n")}
    planted.write_text("RATE = 2\n")
    assert modules_from("benchmarks.planted") == {"benchmarks.planted": "changed"}


def test_a_finished_run_says_what_made_it_without_git(tmp_path: Path) -> None:
    code = (
        "import pathlib, prefrl; prefrl.run_baseline(prefrl.BaselineConfig(env='CartPole-v1', steps=2000, "
        "tensorboard=False, out=pathlib.Path('run')), quiet=True)"
    )
    environ = {**os.environ, "PATH": ""}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environ, check=True, capture_output=True)
    about = json.loads((tmp_path / "run" / "versions.json").read_text())
    assert about["commit"] == "unknown"
    assert about["code"] == code_hash(about["modules"])
    assert about["modules"].items() <= present_hashes().items()
    assert len(about["settings"]) == 16
