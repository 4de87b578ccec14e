"""The pages of the API: what is public, and where it is defined, asked of the library itself."""
from __future__ import annotations

import importlib
import inspect
import pkgutil
import types
from pathlib import Path

from paperlib import quantizers

# A page for each module, with its ``__all__`` or the functions and classes that it defines; of the last three, whose
# files are named after figures, with those of each file too.
MODULES = ("quantizers", "models", "models.layers", "models.cost", "training.aiwq", "training.phases", "recipes",
           "recipes.profiles", "runs", "deploy", "teaching.widgets", "teaching.exercises",
           "analysis", "claims", "plots")
BY_FIGURE = ("analysis", "claims", "plots")


def public(module: types.ModuleType) -> dict[str, object]:
    """Return {full name: value} of all that the page of a module shows."""
    names = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items() if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == module.__name__]
    found = {f"{module.__name__}.{name}": getattr(module, name) for name in names}
    return {name: value for name, value in found.items() if not inspect.ismodule(value)}


def write(folder: Path) -> None:
    """Write a page for each module and an index."""
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
    groups: dict[str, dict[str, object]] = {}
    for name, value in public(module).items():
        groups.setdefault(getattr(value, "__module__", module.__name__).rpartition(".")[2], {})[name] = value
    if module.__name__.rpartition(".")[2] in BY_FIGURE:
        for info in pkgutil.iter_modules(module.__path__):
            group = groups.setdefault(info.name, {})
            shown = public(importlib.import_module(f"{module.__name__}.{info.name}"))
            group |= {name: value for name, value in shown.items() if value not in group.values()}
    if module is quantizers:
        found = {quantizers.find(name, role) for role in ("weight", "activation") for name in quantizers.names(role)}
        ordered = sorted(found, key=lambda method: (method.__module__, inspect.getsourcelines(method)[1]))
        groups["Methods"] = {f"{method.__module__}.{method.__qualname__}": method for method in ordered}
    lines = [*_title(module.__name__, "="), f".. automodule:: {module.__name__}", ""]
    for title, values in groups.items():
        lines += _title(title, "-") if len(groups) > 1 and values else []
        for name in sorted(values, key=lambda name: name.rpartition(".")[2].isupper()):     # constants last
            lines += _entry(name, values[name])
    return lines


def _entry(name: str, value) -> list[str]:
    if inspect.isclass(value):
        return [f".. autoclass:: {name}", "   :members:", ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {name}", ""]
    return [f".. py:data:: {name.rpartition('.')[2]}", f"   :value: {value!r}", ""]


def _title(text: str, line: str) -> list[str]:
    return [text, line * len(text), ""]
