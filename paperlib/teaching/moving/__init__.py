"""Pictures that move without a kernel: ES modules in this folder, in the form that anywidget takes.

A module exports ``render({ model, el })``, which draws into the element ``el``; ``model.get("data")`` are its numbers.
It loads nothing, so the same text works in JupyterLab, in a page of the site and in a file.
"""
from __future__ import annotations

import hashlib
import json
from pathlib import Path

from IPython.display import Image

FOLDER = Path(__file__).parent
NAMES = sorted(file.stem for file in FOLDER.glob("*.js"))


def html(name: str, data: dict | None = None) -> str:
    """Return the HTML of the module ``name`` (one of ``NAMES``) with its ``data``: style, place and script."""
    module, style = ((FOLDER / file).read_text(encoding="utf-8").strip() for file in (f"{name}.js", "moving.css"))
    text = json.dumps(data or {}, separators=(",", ":")).replace("</", "<\\/")
    key = hashlib.sha256(f"{name}{text}".encode()).hexdigest()[:12]
    return f"""<style>
{style}
</style>
<div class="live" data-key="{key}"></div>
<script type="module">
{module}
const el = document.querySelector('div.live[data-key="{key}"]:empty'), data = {text};
render({{ el, model: {{ get: () => data }} }});
// in JupyterLab arrow keys would go to another cell
el.querySelectorAll("input, select, button").forEach(control => control.dataset.lmSuppressShortcuts = true);
</script>"""


def note(picture: Image, name: str, data: dict) -> Image:
    """Note in a fixed picture's metadata which module moves it, with which numbers: a notebook keeps them with the
    picture, and the site shows the module in its place."""
    picture.metadata = {**(picture.metadata or {}), "live": {"module": name, "data": data}}
    return picture


def noted(metadata: dict) -> str | None:
    """Return the HTML that the metadata of a notebook's output ask for, None if there is none (:func:`note`)."""
    found = metadata.get("image/png", {}).get("live")
    return found and html(found["module"], found["data"])
