"""Running a notebook as a program: strict about its parameters, papermill for the rest."""
from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
import papermill
from filelock import FileLock
from papermill.exceptions import PapermillExecutionError

from .errors import InputError
from .paths import ROOT, atomic, figures_dir
from .provenance import library_version

FOLDER = ROOT / "notebooks"
_TYPES = {"int": int, "float": float, "str": str, "bool": bool}


def names() -> list[str]:
    """All notebooks, without the suffix."""
    return sorted(p.stem for p in FOLDER.glob("*.ipynb"))


def path(name: str) -> Path:
    """The file of a notebook; InputError if there is none of that name."""
    if name not in names():
        raise InputError(f"no notebook {name!r}: choose from {', '.join(names())}")
    return FOLDER / f"{name}.ipynb"


def of_figure(figure: str) -> str:
    """The notebook that a figure is named after."""
    return max((name for name in names() if figure.startswith(name)), key=len)


def parameters(name: str) -> dict[str, dict]:
    """{parameter: {"type", "default", "help"}} from the notebook's parameters cell."""
    with contextlib.redirect_stdout(io.StringIO()):
        found = papermill.inspect_notebook(str(path(name)))
    return {k: {"type": v["inferred_type_name"], "default": v["default"], "help": v["help"]} for k, v in found.items()}


def check(name: str, given: dict) -> dict:
    """``given`` with strings from a command line turned into the declared types.

    InputError names a parameter that the notebook doesn't have, and one whose value doesn't fit its type.
    """
    known, checked = parameters(name), {}
    for key, value in given.items():
        if key not in known:
            raise InputError(f"notebook {name!r} has no parameter {key!r}: it has {', '.join(known) or 'none'}")
        wanted = known[key]["type"]
        checked[key] = _convert(value, wanted)
        if checked[key] is None:
            raise InputError(f"parameter {key!r} of notebook {name!r} is of type {wanted}, got {value!r}")
    return checked


def _convert(value, wanted: str):
    kind = _TYPES[wanted]
    if isinstance(value, str) and kind is not str:
        if kind is bool:
            return {"true": True, "false": False}.get(value.lower())
        try:
            return kind(value)
        except ValueError:
            return None
    if kind is float and type(value) is int:
        return float(value)
    return value if type(value) is kind else None


def execute(name: str, given: dict) -> nbformat.NotebookNode:
    """Run a notebook with these parameters in its own folder and return it executed; what it writes to the standard
    error, progress bars above all, shows up here at once.  InputError carries the notebook's own message on."""
    given = check(name, given)
    columns, lines = shutil.get_terminal_size()
    os.environ.update(COLUMNS=str(columns), LINES=str(lines))     # how wide progress bars may be
    try:
        return papermill.execute_notebook(
            str(path(name)), None, parameters=given, cwd=str(FOLDER), kernel_name="python3", progress_bar=False,
            stderr_file=sys.stderr, extra_arguments=["--IPKernelApp.log_level=CRITICAL"])
    except PapermillExecutionError as error:
        message = re.sub(r"\x1b\[[0-9;]*m", "", str(error.evalue))
        if error.ename == InputError.__name__:
            raise InputError(f"notebook {name!r}, cell {error.exec_count}: {message}") from None
        raise


def make_figure(name: str, profile: str, given: dict) -> None:
    """Run a figure's notebook under a profile; the notebook writes figures/<profile>/<name>.* itself.

    The executed notebook is kept beside them.  InputError if it did not write its figure.
    """
    folder = figures_dir(profile)
    last_written = folder / f"{name}.json"
    before = last_written.stat().st_mtime_ns if last_written.exists() else None
    notebook = execute(name, {"profile": profile, **given})
    if not last_written.exists() or last_written.stat().st_mtime_ns == before:
        raise InputError(f"notebook {name!r} ran but did not write {last_written}: "
                         "it must call plots.save with its own name and profile")
    with atomic(folder / f"{name}.ipynb") as temp:
        nbformat.write(notebook, temp)
    _write_index(folder.parent)


def _write_index(folder: Path) -> None:
    """figures/README.md: every recorded figure, with the notebook and the command that make it and what it took.

    One process at a time, so that the last of several lists what all of them drew."""
    with FileLock(folder / ".lock"):
        _list_figures(folder)


def _list_figures(folder: Path) -> None:
    lines = ["# Figures", "", "Made by `make figures PROFILE=recorded`; this page too. Training times "
             "count what several runs share in each of them.", "",
             "| figure | picture | notebook | command | scale and training time |", "|---|---|---|---|---|"]
    for file in sorted((folder / "recorded").glob("*.json")):
        facts, figure = json.loads(file.read_text(encoding="utf-8")), file.stem
        item = of_figure(figure)
        alt = facts["alt"].replace("|", "/").replace("[", "(").replace("]", ")")
        seconds = sum(run["seconds"] for run in facts["runs"])
        minutes = f"; {seconds / 60:.0f} minutes of training" if seconds else ""
        lines.append(f"| {figure} | ![{alt}](recorded/{figure}.png) | [notebook](../notebooks/{item}.ipynb) | "
                     f"`make figures/{item}` | {facts['caption']}{minutes} |")
    with atomic(folder / "README.md") as temp:
        temp.write_text("\n".join(lines) + "\n", encoding="utf-8")


def stamp(notebook: nbformat.NotebookNode) -> str:
    """A hash over the notebook's code cells and the library: outputs under another stamp may be out of date."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps([library_version(), sources]).encode()).hexdigest()[:16]


def refresh(name: str) -> None:
    """Execute a committed notebook with its defaults and write it back without timing or papermill's metadata, with the
    :func:`stamp` of the code that made its outputs.  Its recorded figures are made as well."""
    notebook = execute(name, {})
    notebook.metadata = {k: v for k, v in notebook.metadata.items() if k in ("kernelspec", "language_info")}
    notebook.metadata["language_info"] = {"name": "python"}
    cells = []
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            continue
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        cells.append(cell)
    notebook.cells = cells
    notebook.metadata["paperlib"] = {"executed_with": stamp(notebook)}
    with atomic(path(name)) as temp:
        nbformat.write(notebook, temp)
    _write_index(figures_dir("recorded").parent)
