"""Running a notebook as a program: strict about its parameters, papermill for the rest."""
from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

# nbformat's jsonschema would build a grammar of web addresses with it, which takes a second; notebooks hold none
sys.modules.setdefault("rfc3987_syntax", None)

import nbformat
import papermill
from filelock import FileLock
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from ..errors import InputError
from ..system import code_hash
from ..system.paths import ROOT, atomic, environment
from ..system.provenance import demand_unchanged, library_version
from . import parameters as declared

FOLDER, SHIPPED = ROOT / "notebooks", ROOT / "figures" / "recorded"
COLAB = "colab"         # id and tag of a cell that does something on Colab alone (site/badges.py)


def names() -> list[str]:
    """List all notebooks, without the suffix."""
    return sorted(p.stem for p in FOLDER.glob("*.ipynb"))


def path(name: str) -> Path:
    """Find the file of a notebook; InputError if there is none of that name."""
    if name not in names():
        raise InputError(f"no notebook {name!r}: choose from {', '.join(names())}")
    return FOLDER / f"{name}.ipynb"


def of_figure(figure: str) -> str:
    """Find the notebook that a figure is named after."""
    return max((name for name in names() if figure.startswith(name)), key=len)


def parameters(name: str) -> dict[str, dict[str, str]]:
    """Read the notebook's parameters cell: {parameter: {"default", "help", ...}}, as papermill has it."""
    with contextlib.redirect_stdout(io.StringIO()):
        return papermill.inspect_notebook(str(path(name)))


def check(name: str, given: dict) -> dict:
    """Read parameters as :func:`paperlib.claims.parameters.read` does; InputError if there is no such notebook."""
    path(name)
    return declared.read(name, given)


def execute(name: str, given: dict) -> nbformat.NotebookNode:
    """Run a notebook with these parameters in its own folder and return it executed; what it writes to the standard
    error, progress bars above all, shows up here at once.  InputError carries the notebook's own message on."""
    given = check(name, given)
    columns, lines = _terminal()
    os.environ.update(environment(), COLUMNS=str(columns), LINES=str(lines))     # how wide progress bars may be
    try:
        return papermill.execute_notebook(
            str(path(name)), None, parameters=given, cwd=str(FOLDER), kernel_name="python3", progress_bar=False,
            stderr_file=sys.stderr, extra_arguments=["--IPKernelApp.log_level=CRITICAL"])
    except PapermillExecutionError as error:
        message = re.sub(r"\x1b\[[0-9;]*m", "", str(error.evalue))
        if error.ename == InputError.__name__:
            raise InputError(f"notebook {name!r}, cell {error.exec_count}: {message}") from None
        raise
    except DeadKernelError:
        raise InputError(f"the process of notebook {name!r} was killed, perhaps for want of memory: close other "
                         "programs, or choose a smaller profile; what was trained is kept") from None


def _terminal() -> os.terminal_size:
    try:
        return os.get_terminal_size(sys.__stderr__.fileno())    # where the bars go; the standard output may be a file
    except (AttributeError, ValueError, OSError):
        return shutil.get_terminal_size()


def make_figure(name: str, profile: str, given: dict) -> list[Path]:
    """Run a figure's notebook under a profile and return the files written: the notebook's own, in figures/<profile>/
    or, with other parameters than its own, in figures/experiments/, and last the executed notebook.

    InputError for parameters that cannot be, before anything runs, and if it did not write its figure.
    """
    if "profile" not in declared.known(path(name).stem):
        raise InputError(f"the notebook {name!r} draws no figure of a profile: open it with `make lab`")
    given = check(name, {"profile": profile, **given})
    if given["profile"] != profile:
        raise InputError(f"the profile is {profile!r} and, as a parameter, {given['profile']!r}: name one of them")
    # the file's own defaults count, in case that somebody has edited them
    folder = declared.folder_of(name, {k: ast.literal_eval(v["default"]) for k, v in parameters(name).items()} | given)
    before = {file: file.stat().st_mtime_ns for file in folder.glob(f"{name}*")}
    notebook = execute(name, given)
    written = [file for file in sorted(folder.glob(f"{name}*")) if file.stat().st_mtime_ns != before.get(file)]
    if folder / f"{name}.json" not in written:
        raise InputError(f"notebook {name!r} ran but did not write {folder / name}.json: it must call parameters.check "
                         "and plots.save with its own name")
    with atomic(folder / f"{name}.ipynb") as temp:
        nbformat.write(notebook, temp)
    if folder == SHIPPED:
        _write_index()
    return [*(file for file in written if file.suffix != ".ipynb"), folder / f"{name}.ipynb"]


def _write_index() -> None:
    """Write figures/README.md: every recorded figure, with the notebook and the command that make it and what it took.

    One process at a time, so that the last of several lists what all of them drew."""
    with FileLock(SHIPPED.parent / ".lock"):
        with atomic(SHIPPED.parent / "README.md") as temp:
            temp.write_text(_index(), encoding="utf-8")


def _index() -> str:
    lines = ["# Figures", "", "Made by `make figures`; this page too. Training times "
             "count what several runs share in each of them.", "",
             "| figure | picture | notebook | command | scale and training time |", "|---|---|---|---|---|"]
    for file in sorted(SHIPPED.glob("*.json")):
        facts, figure, item = json.loads(file.read_text(encoding="utf-8")), file.stem, of_figure(file.stem)
        alt = facts["alt"].replace("|", "/").replace("[", "(").replace("]", ")")
        seconds = sum(run["seconds"] for run in facts["runs"])
        minutes = f"; {seconds / 60:.0f} minutes of training" if seconds else ""
        lines.append(f"| {figure} | ![{alt}](recorded/{figure}.png) | [notebook](../notebooks/{item}.ipynb) | "
                     f"`make figures/{item}` | {facts['caption']}{minutes} |")
    return "\n".join(lines) + "\n"


def stamp(notebook: nbformat.NotebookNode) -> str:
    """Hash the notebook's code cells and the library: outputs under another stamp may be out of date."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code" and cell.id != COLAB]
    return hashlib.sha256(json.dumps([library_version(), sources]).encode()).hexdigest()[:16]


def refresh(name: str) -> None:
    """Execute a committed notebook with its defaults and write it back without timing or papermill's metadata, with the
    :func:`stamp` of the code that made its outputs.  Its recorded figures are made as well."""
    notebook = execute(name, {})
    demand_unchanged(code_hash.whole)
    notebook.metadata = {k: v for k, v in notebook.metadata.items() if k in ("kernelspec", "language_info")}
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    notebook.metadata["paperlib"] = {"executed_with": stamp(notebook)}
    with atomic(path(name)) as temp:
        nbformat.write(notebook, temp)
    _write_index()
