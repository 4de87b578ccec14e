"""Put badges for Binder and Colab into README.md: ``python site/badges.py [OWNER/NAME]``, by default where this clone
is from."""
from __future__ import annotations

import re
import subprocess
import sys

from paperlib.errors import InputError
from paperlib.system.paths import ROOT, atomic

START, END = "<!-- badges -->", "<!-- end of badges -->"
FIRST = "notebooks/00_start_here.ipynb"


def origin() -> str | None:
    """OWNER/NAME of this clone on GitHub, if it comes from there."""
    try:
        found = subprocess.run(["git", "remote", "get-url", "origin"], cwd=ROOT, capture_output=True, text=True)
    except OSError:         # no git here
        return None
    match = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(\.git)?/?\s*$", found.stdout)
    return match and match[1]


def badges(repository: str) -> str:
    """Two badges in Markdown: JupyterLab on Binder, and Colab.  InputError unless ``repository`` is OWNER/NAME."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise InputError(f"write the repository as OWNER/NAME, its address on GitHub, not {repository!r}")
    binder, colab = "https://mybinder.org", "https://colab.research.google.com"
    return (f"[![Open in JupyterLab on Binder]({binder}/badge_logo.svg)]"
            f"({binder}/v2/gh/{repository}/HEAD?urlpath=lab/tree/{FIRST})\n"
            f"[![Open in Colab]({colab}/assets/colab-badge.svg)]({colab}/github/{repository}/blob/HEAD/{FIRST})")


def write(repository: str | None = None) -> str:
    """Put them into README.md, between its two marks; returns them.  ``repository``: default :func:`origin`."""
    repository = repository or origin()
    if repository is None:
        raise InputError("this clone does not come from GitHub: name the repository, OWNER/NAME")
    text, new = (ROOT / "README.md").read_text(encoding="utf-8"), badges(repository)
    if text.count(START) != 1 or text.count(END) != 1 or text.index(END) < text.index(START):
        raise InputError(f"README.md must have the lines {START} and {END} once each, in this order, where the badges "
                         "belong")
    before, rest = text.split(START)
    with atomic(ROOT / "README.md") as temp:
        temp.write_text(f"{before}{START}\n{new}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    return new


if __name__ == "__main__":
    print(write(*sys.argv[1:2]))
