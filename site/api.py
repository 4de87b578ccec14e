"""The pages of the API: what is public, and where it is defined, asked of the library itself."""
from __future__ import annotations

import importlib
import inspect
import types
from pathlib import Path

from paperlib import quantizers

MODULES = ("quantizers", "models", "models.layers", "models.cost", "training.aiwq", "training.phases", "recipes",
           "recipes.profiles", "runs", "claims.experiments", "analysis.layer_inputs", "deploy", "claims.published",
           "plots", "claims", "teaching.widgets", "teaching.exercises")


def public(module: types.ModuleType) -> list[str]:
    """Its ``__all__``, or else the functions and classes that it defines."""
    return list(getattr(module, "__all__", None) or (
        name for name, value in vars(module).items() if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith(module.__name__)))


def methods() -> list[type]:
    """The classes of all registered quantizers."""
    found = {quantizers.find(name, role): None for role in ("weight", "activation") for name in quantizers.names(role)}
    return sorted(found, key=lambda method: (method.__module__, inspect.getsourcelines(method)[1]))


def write(folder: Path) -> None:
    """A page for each module and an index."""
    folder.mkdir()
    lines = [*_title("API", "="), "Every public name, from the docstrings. ``from paperlib import quantizers, models`` "
             "and so on; the command line explains itself: ``python -m paperlib --help``.", ""]
    for name in MODULES:
        module = importlib.import_module(f"paperlib.{name}")
        first = " ".join((inspect.getdoc(module) or "").split("\n\n")[0].split())
        lines.append(f"* :doc:`{name}`: {first}")
        (folder / f"{name}.rst").write_text("\n".join(_page(module)) + "\n", encoding="utf-8")
    lines += ["", ".. toctree::", "   :hidden:", "", *(f"   {name}" for name in MODULES)]
    (folder / "index.rst").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _page(module: types.ModuleType) -> list[str]:
    lines = [*_title(module.__name__, "="), f".. automodule:: {module.__name__}", ""]
    groups: dict[str, list[str]] = {}
    for name in sorted(public(module), key=lambda n: _home(module, getattr(module, n)) == module.__name__):
        groups.setdefault(_home(module, getattr(module, name)), []).append(name)
    for home, names in groups.items():
        if len(groups) > 1:
            lines += _title("others" if home == module.__name__ else home.rpartition(".")[2], "-")
        for name in sorted(names, key=lambda n: n.isupper()):       # constants last
            lines += _entry(f"{module.__name__}.{name}", getattr(module, name))
    if module is quantizers:
        lines += _title("Methods", "-")
        for method in methods():
            lines += _entry(f"{method.__module__}.{method.__qualname__}", method)
    return lines


def _home(module: types.ModuleType, value) -> str:
    home = getattr(value, "__module__", "") or ""
    return home if home.startswith("paperlib") else module.__name__


def _entry(name: str, value) -> list[str]:
    if inspect.isclass(value):
        return [f".. autoclass:: {name}", "   :members:", ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {name}", ""]
    return [f".. py:data:: {name.rpartition('.')[2]}", f"   :value: {value!r}", ""]


def _title(text: str, line: str) -> list[str]:
    return [text, line * len(text), ""]
