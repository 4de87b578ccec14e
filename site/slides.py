"""Slides of the lessons: ``make slides`` writes build/slides/learn_N_….html, for a browser with a network.

Each heading begins a slide, and each cell of code one below it, so that its prediction is on the screen first; folded
answers stay folded, and exercises are left to the notebook.
"""
import copy
import sys
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = ("Exercise", "Look around")      # sections for one's own keyboard


def lessons() -> list[Path]:
    """Return the notebooks of the lessons, without their solutions."""
    return [f for f in sorted((ROOT / "notebooks").glob("learn_*.ipynb")) if not f.stem.endswith("_solutions")]


def slides(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the notebook with the metadata that make slides of it: markdown is cut before each heading."""
    result, left_out = copy.deepcopy(notebook), False
    result.cells = []
    for cell in notebook.cells:
        parts = cut(cell.source) if cell.cell_type == "markdown" else [cell.source]
        for i, source in enumerate(parts):
            part = copy.deepcopy(cell)
            part.source, part.id = source, f"{cell.id}-{i}"[:64]
            heading = source.startswith("#") and cell.cell_type == "markdown"
            if heading:
                left_out = source.lstrip("# ").startswith(LEFT_OUT)
            kind = "slide" if heading else "subslide" if cell.cell_type == "code" else "-"
            part.metadata["slideshow"] = {"slide_type": "skip" if left_out else kind}
            result.cells.append(part)
    return result


def cut(markdown: str) -> list[str]:
    """Cut before each heading, not within fenced code."""
    parts, fenced = [[]], False
    for line in markdown.splitlines(keepends=True):
        fenced ^= line.startswith("```")
        if line.startswith("#") and not fenced and any(parts[-1]):
            parts.append([])
        parts[-1].append(line)
    return ["".join(part).strip() for part in parts]


def write(folder: Path, **settings) -> list[Path]:
    """Write the slides of all lessons into ``folder``; ``settings`` go to nbconvert's SlidesExporter."""
    folder.mkdir(parents=True, exist_ok=True)
    exporter = SlidesExporter(**{"reveal_scroll": True, "reveal_transition": "none", "reveal_number": "c/t",
                                 "reveal_width": "1280", "reveal_height": "800"} | settings)
    written = []
    for file in lessons():
        text, _ = exporter.from_notebook_node(slides(nbformat.read(file, as_version=4)))
        written.append(folder / f"{file.stem}.html")
        written[-1].write_text(text, encoding="utf-8")
    return written


if __name__ == "__main__":
    print(*write(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "slides"), sep="\n")
