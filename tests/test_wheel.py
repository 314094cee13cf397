"""The package as others get it: source distribution and wheel, installed into a new environment outside the checkout.

An editable install shows every file of the checkout, and so hides what a wheel leaves out. The new environment sees
the packages that are installed where the tests run, and this one alone is its own.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
VERSIONS = ("3.11", "3.12", "3.13")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
OUTSIDE = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def ran(command: Sequence[str | Path], cwd: Path, **kwargs: int) -> str:
    """What a command says, which must succeed."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=OUTSIDE, capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def interpreter(version: str) -> str | None:
    """A Python of this version that this machine has: the one that runs here, on the path, or kept by pyenv."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [sys.executable] if version == HERE else []
    found += filter(None, [shutil.which(f"python{version}")])
    found += map(str, sorted(kept.glob(f"{version}.*/bin/python")))
    for python in found:  # pyenv's own names may stand for nothing
        asked = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        with contextlib.suppress(OSError):
            if subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == version:
                return python
    return None


def left_behind(folder: str, names: list[str]) -> set[str]:
    """What a fresh clone has not: hidden folders, caches, what was built and run."""
    made = {"build", "dist", "runs"} if Path(folder) == ROOT else set()
    return {n for n in names if n.startswith(".") or n == "__pycache__" or n.endswith(".egg-info") or n in made}


@dataclass(frozen=True)
class Built:
    """The two files that are handed out."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A source distribution of a clean copy of the checkout, and the wheel built from what it unpacks to."""
    place = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, place / "copy", ignore=left_behind)
    build = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
    ran([sys.executable, "-c", build, "build_sdist", place], place / "copy")
    (sdist,) = place.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        file.extractall(place, filter="data")
    ran([sys.executable, "-c", build, "build_wheel", place], place / sdist.name.removesuffix(".tar.gz"))
    (wheel,) = place.glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(params=VERSIONS)
def installed(request: pytest.FixtureRequest, built: Built, tmp_path: Path) -> Path:
    """The commands' folder of a new environment that has the wheel, of each Python that the machine has."""
    version: str = request.param
    python = interpreter(version)
    if python is None:
        pytest.skip(f"this machine has no Python {version}")
    ran([python, "-m", "venv", tmp_path / "env"], tmp_path)
    ran([tmp_path / "env/bin/python", "-m", "pip", "install", "-q", "--no-deps", "--no-index", built.wheel], tmp_path)
    if (
        version == HERE
    ):  # a .pth file's line is a folder whose own .pth files, such as an editable install's, do nothing
        shared = [path for path in sys.path if Path(path).name == "site-packages"]
        (packages(tmp_path / "env/bin") / "shared.pth").write_text("\n".join(shared), encoding="utf-8")
    return tmp_path / "env/bin"


def packages(bin: Path) -> Path:
    """Where an environment keeps its own packages."""
    (found,) = bin.parent.glob("lib/python*/site-packages")
    return found


def missing(bin: Path, cwd: Path) -> str:
    """The first of the wheel's requirements that the environment has not; empty where it can run."""
    ask = (
        "import re; from importlib.metadata import requires, version, PackageNotFoundError as N\n"
        "for name in (re.match('[A-Za-z0-9_.-]+', r)[0] for r in requires('prefrl') if 'extra' not in r):\n"
        "    try: version(name)\n"
        "    except N: print(name); break"
    )
    return ran([bin / "python", "-c", ask], cwd).strip()


def inside(folder: str) -> set[str]:
    """Files of a package in the checkout, below it."""
    found = (path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path) for path in found if "__pycache__" not in path.parts and path.suffix != ".md"}


def test_the_wheel_has_every_file_of_both_packages_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
        metadata = next(file.read(name).decode() for name in file.namelist() if name.endswith("/METADATA"))
    assert names == {f"prefrl/{name}" for name in inside("prefrl")} | {f"prefrl_envs/{name}" for name in inside("envs")}
    assert "Requires-Python: <3.14,>=3.11" in metadata
    assert "# prefrl" in metadata


def test_the_source_distribution_has_what_it_takes_to_build_and_no_more(built: Built) -> None:
    with tarfile.open(built.sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert names >= {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", "prefrl/run.py", "envs/atari.py"}
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "runs", "."))]


@contextlib.contextmanager
def label_page(bin: Path, cwd: Path) -> Iterator[str]:
    """The address of the page where people answer."""
    command = [str(bin / "prefrl"), "label", "run", "--port", "0"]
    with subprocess.Popen(
        command, cwd=cwd, env=OUTSIDE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            assert server.stdout is not None
            said = server.stdout.readline()
            address = re.match(r"http://\S+", said)
            assert address is not None, said
            yield address[0]
        finally:
            server.terminate()


def test_the_wheel_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    python, prefrl = installed / "python", installed / "prefrl"
    ours = [packages(installed) / name for name in ("prefrl", "prefrl_envs")]
    ran([python, "-W", "error", "-m", "compileall", "-q", "-f", *ours], work)
    if lacks := missing(installed, work):
        version = packages(installed).parent.name
        pytest.skip(f"{version} compiles the wheel and cannot run it: the requirement {lacks} is not installed for it")

    everything = (
        "import importlib, json, pkgutil, sys, prefrl, prefrl_envs\n"
        "found = [m.name for p in (prefrl, prefrl_envs) for m in pkgutil.walk_packages(p.__path__, p.__name__ + '.')]\n"
        "print(json.dumps([sys.path, [importlib.import_module(name).__file__ for name in found]]))"
    )
    path, files = json.loads(ran([python, "-c", everything], work))
    assert str(ROOT) not in path
    assert len(files) > 50
    assert not [file for file in files if not Path(file).is_relative_to(tmp_path)]

    assert "train" in ran([prefrl, "--help"], work)
    listed = ran([prefrl, "envs"], work)
    assert "prefrl/Hopper-v0" in listed
    assert "Pendulum-v1" in listed
    assert "Pendulum-v1" in ran([prefrl, "check", "Pendulum-v1"], work)
    ran([prefrl, "train", "--env", "Pendulum-v1", "--labels", "10", "--steps", "2000", "--out", "run"], work)
    assert {"policy.safetensors", "reward.safetensors", "result.json"} <= {
        file.name for file in (work / "run").iterdir()
    }
    ran([prefrl, "report", "run", "--out", "report.html", "--clips", "1", "--steps", "1000"], work)
    assert "</html>" in (work / "report.html").read_text(encoding="utf-8")
    with label_page(installed, work) as address:
        shown = urllib.request.urlopen(address, timeout=30).read().decode()
        parts = re.findall(r'(?:src|href)="/?([^":]+\.(?:js|css|svg))"', shown)
        assert len(parts) > 1
        for part in parts:
            assert urllib.request.urlopen(f"{address}{part}", timeout=30).read(), part
