"""Pictures that move without a kernel: an ES module each, in the folder of the same name."""
from __future__ import annotations

from pathlib import Path

import pictures

FOLDER = Path(__file__).resolve().parent / "live"
NAMES = [file.stem.replace("_", " ") for file in sorted(FOLDER.glob("*.js"))]


def figure(source: Path, name: str) -> str:
    """Write a live picture as Markdown: the fixed picture of the same name, which the module takes the place of.

    The module lies in the page itself, since browsers import none from a file.
    """
    module = (FOLDER / f"{name.replace(' ', '_')}.js").read_text(encoding="utf-8")
    return f"""{pictures.figure(source, name)}

````{{raw}} html
<div class="live"></div>
<script type="module">
{module}
const place = document.querySelector("div.live:empty"), fixed = place.previousElementSibling;
render({{ el: place }});
fixed.remove();
</script>
````"""
