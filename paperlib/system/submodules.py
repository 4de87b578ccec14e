"""Rooms whose files are loaded when they are first asked for."""
from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType


def on_demand(package: str) -> Callable[[str], ModuleType]:
    """Make the ``__getattr__`` of a package whose submodules are imported at their first use, ``plots.ablation``."""
    def load(name: str) -> ModuleType:
        if name.startswith("_") or importlib.util.find_spec(f"{package}.{name}") is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return importlib.import_module(f"{package}.{name}")
    return load
