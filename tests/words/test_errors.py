"""What messages tell people to do can be done."""

import re
import tomllib
from pathlib import Path

from prefrl.words.errors import install

ROOT = Path(__file__).parents[2]


def test_no_sentence_installs_from_an_index_what_is_on_none_and_every_extra_named_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    texts = {
        path.relative_to(ROOT): path.read_text(encoding="utf-8")
        for folder in ("prefrl", "envs", "benchmarks")
        for path in [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("*.js"), ROOT / "README.md"]
    }
    named = [name for text in texts.values() for name in re.findall(r"\binstall\([\"'](\w+)[\"']\)", text)]
    assert len(named) > 6
    named += re.findall(r'-e "\.\[(\w+)\]"', texts[Path("README.md")])
    assert set(named) <= set(extras)
    assert not [str(path) for path, text in texts.items() if re.search(r"install [\"']?prefrl\b", text)]
    assert install("people").startswith('pip install -c constraints.txt -e ".[people]"')
