"""Where this companion opens in a browser: Binder and Colab.

``python site/badges.py [OWNER/NAME]``, by default where this clone is from, writes the address into CITATION.cff, from
where the site's pages take it, badges into README.md, and into each notebook a cell that fetches the companion on Colab
and does nothing elsewhere.
"""
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat

from paperlib.claims.notebooks import COLAB
from paperlib.errors import InputError
from paperlib.system.paths import ROOT, atomic

START, END = "<!-- badges -->", "<!-- end of badges -->"
FIRST = "notebooks/00_start_here.ipynb"
FIELD = re.compile(r"^repository-code: .*\n", re.MULTILINE)
CELL = """\
import sys

if "google.colab" in sys.modules:  # elsewhere the companion is there already
    !git clone --quiet --depth 1 https://github.com/{repository} /content/{name}
    %pip install --quiet --editable /content/{name}
    %cd -q /content/{name}/notebooks
    sys.path.insert(0, "/content/{name}")"""


def origin() -> str | None:
    """OWNER/NAME of this clone on GitHub, if it comes from there."""
    try:
        found = subprocess.run(["git", "remote", "get-url", "origin"], cwd=ROOT, capture_output=True, text=True)
    except OSError:         # no git here
        return None
    return _on_github(found.stdout)


def address() -> str | None:
    """OWNER/NAME as CITATION.cff has it; None as long as :func:`write` has written none."""
    field = FIELD.search((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return _on_github(field[0].strip().strip('"')) if field else None


def _on_github(url: str) -> str | None:
    match = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(\.git)?/?\s*$", url)
    return match and match[1]


def places(repository: str, notebook: str) -> dict[str, str]:
    """{a place that opens a notebook: its address there}; ``notebook``: its path in the repository."""
    return {"JupyterLab on Binder": f"https://mybinder.org/v2/gh/{repository}/HEAD?urlpath=lab/tree/{notebook}",
            "Colab": f"https://colab.research.google.com/github/{repository}/blob/HEAD/{notebook}"}


def badges(repository: str) -> str:
    """Two badges in Markdown: JupyterLab on Binder, and Colab.  InputError unless ``repository`` is OWNER/NAME."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise InputError(f"write the repository as OWNER/NAME, its address on GitHub, not {repository!r}")
    pictures = ("https://mybinder.org/badge_logo.svg", "https://colab.research.google.com/assets/colab-badge.svg")
    return "\n".join(f"[![Open in {place}]({picture})]({target})"
                     for (place, target), picture in zip(places(repository, FIRST).items(), pictures))


def write(repository: str | None = None) -> str:
    """Write the address to all its places; returns README.md's badges.  ``repository``: default :func:`origin`."""
    repository = repository or origin()
    if repository is None:
        raise InputError("this clone does not come from GitHub: name the repository, OWNER/NAME")
    text, new = (ROOT / "README.md").read_text(encoding="utf-8"), badges(repository)
    if text.count(START) != 1 or text.count(END) != 1 or text.index(END) < text.index(START):
        raise InputError(f"README.md must have the lines {START} and {END} once each, in this order, where the badges "
                         "belong")
    before, rest = text.split(START)
    _replace(ROOT / "README.md", f"{before}{START}\n{new}\n{END}{rest.split(END)[1]}")
    citation = FIELD.sub("", (ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    _replace(ROOT / "CITATION.cff", f'{citation}repository-code: "https://github.com/{repository}"\n')
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(file, 4)
        insert(notebook, repository)
        _replace(file, nbformat.writes(notebook) + "\n")
    return new


def insert(notebook: nbformat.NotebookNode, repository: str) -> None:
    """Put the cell for Colab after the notebook's title, in the place of an earlier one."""
    cell = nbformat.v4.new_code_cell(CELL.format(repository=repository, name=repository.split("/")[1]), id=COLAB,
                                     metadata={"tags": [COLAB, "remove-cell"]})     # pages leave it out
    notebook.cells[1:] = [cell, *(other for other in notebook.cells[1:] if other.id != COLAB)]


def _replace(file: Path, text: str) -> None:
    with atomic(file) as temp:
        temp.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    print(write(*sys.argv[1:2]))
