"""Where modules went when the package got its rooms, so that programs and saved runs that name the old places go on.

`prefrl.labelers` is `prefrl.queries.labelers`, the very same module, whether it is imported or named as
`prefrl.labelers:factory` in a configuration.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ROOMS = {
    "words": "preference bradley_terry schedules lookup stats measures process",
    "settings": "config presets",
    "experience": "environments fixed_horizon recorder ring clips",
    "rewards": "networks reward_model answers fit",
    "queries": "labelers store store_tables patient_store exchange",
    "runs": "resolve runlog saved",
    "studies": "grid batch sweep compare evaluate plots report",
}
MOVED = {f"prefrl.{module}": f"prefrl.{room}.{module}" for room, modules in ROOMS.items() for module in modules.split()}
MOVED |= {
    "prefrl.vector": "prefrl.experience.backends",
    "prefrl.experience.vector": "prefrl.experience.backends",
    "prefrl.labelers.oracle": "prefrl.queries.oracle",
    "prefrl.labelers.human": "prefrl.queries.human",
    "prefrl.learners": "prefrl.policies.on_policy",
    "prefrl.reward_env": "prefrl.rewards.paid",
}


class _Alias(Loader):
    """Loads a module by another name: the module itself, which keeps its own name and specification."""

    def __init__(self, home: str) -> None:
        self.home = home

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module at its new place."""
        module = importlib.import_module(self.home)
        self._own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is run again; the specification that the import system has just put on the module is undone."""
        module.__spec__ = self._own


class Moved(MetaPathFinder):
    """Finds modules where they were before."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """An alias for a module that moved; None for any other."""
        home = MOVED.get(fullname)
        return ModuleSpec(fullname, _Alias(home), is_package=fullname == "prefrl.labelers") if home else None
