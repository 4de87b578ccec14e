"""The gallery: every recorded figure, with what it shows, its notebook and its data."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

from paperlib.claims import notebooks

FIGURES = Path(__file__).resolve().parent.parent / "figures" / "recorded"
FILES = {"data": "csv", "where the numbers come from": "json", "for print": "svg"}


def page(source: Path, titles: dict[str, str]) -> str:
    """The figures as Markdown, under the titles of the notebooks that draw them; ``titles``: {notebook: its title}, in
    the order of the page.

    Picture, data, provenance and vector graphics go into ``source`` as well.
    """
    folder, lines, last = source / "figures" / "recorded", [], None
    folder.mkdir(parents=True, exist_ok=True)
    order = list(titles)
    for file in sorted(FIGURES.glob("*.json"), key=lambda f: (order.index(notebooks.of_figure(f.stem)), f.stem)):
        caption, notebook = facts(file.stem)["caption"], notebooks.of_figure(file.stem)
        if notebook != last:
            lines += [f"## {titles[notebook]}", "", f"From [{notebook}](notebooks/{notebook}.ipynb).", ""]
        last = notebook
        for suffix in FILES.values():
            shutil.copy(file.with_suffix(f".{suffix}"), folder)
        links = " · ".join(f"{{download}}`{what} <figures/recorded/{file.stem}.{suffix}>`"
                           for what, suffix in FILES.items())
        if takeaway := facts(file.stem).get("takeaway"):
            lines += [f"**{takeaway}.**", ""]
        lines += [figure(source, file.stem), "", f"`{file.stem}` · {links}", "",
                  *(f"*{line}*" for line in caption.splitlines()), ""]
    return "\n".join(lines)


def figure(source: Path, name: str) -> str:
    """One figure, brought into ``source``, as Markdown."""
    folder = source / "figures" / "recorded"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(FIGURES / f"{name}.png", folder)
    return image(f"figures/recorded/{name}.png", facts(name)["alt"])


def facts(name: str) -> dict:
    """What a figure says of itself."""
    return json.loads((FIGURES / f"{name}.json").read_text(encoding="utf-8"))


def image(path: str, alt: str) -> str:
    """A picture as Markdown that holds any alternative text."""
    return f"```{{image}} {path}\n:alt: {json.dumps(' '.join(alt.split()), ensure_ascii=False)}\n```"
