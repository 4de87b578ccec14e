"""What the docstrings say of differences to the papers and to the authors' code."""
from __future__ import annotations

import importlib
import inspect
import pkgutil

import docstrings

import paperlib


def found() -> dict[str, str]:
    """{full name of a class or function: its paragraph *Differences*}, of the whole library."""
    result = {}
    for info in pkgutil.walk_packages(paperlib.__path__, "paperlib."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__:
                text = docstrings.differences(inspect.getdoc(value))
                if text and not name.startswith("_"):
                    result[f"{module.__name__}.{name}"] = text
    return result


def of_docstrings() -> str:
    """The paragraphs as one list, in reStructuredText inside Markdown."""
    lines = ["```{eval-rst}"]
    for name, text in sorted(found().items(), key=lambda item: item[0].rpartition(".")[2].lower()):
        text = docstrings.escaped(text[0].upper() + text[1:])
        lines += [f":class:`{name.rpartition('.')[2]} <{name}>`", f"    {text}", ""]
    return "\n".join([*lines, "```"])
