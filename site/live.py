"""Pictures that move without a kernel (paperlib/teaching/moving/), on pages of the site."""
from __future__ import annotations

from pathlib import Path

import pictures

from paperlib.teaching import moving

NAMES = [name.replace("_", " ") for name in moving.NAMES if name.replace("_", " ") in pictures.NAMES]


def figure(source: Path, name: str) -> str:
    """Write a live picture as Markdown: the fixed picture of the same name, and the module that takes its place."""
    html = moving.html(name.replace(" ", "_"))
    return f"{pictures.figure(source, name)}\n\n````{{raw}} html\n{html}\n````"


def outputs(cell: dict) -> list[dict]:
    """Return the outputs of a notebook's cell with a module after each picture that names one in its metadata."""
    shown = []
    for output in cell.get("outputs", []):
        shown.append(output)
        if html := moving.noted(output.get("metadata", {})):
            shown.append({"output_type": "display_data", "data": {"text/html": html}, "metadata": {}})
    return shown
