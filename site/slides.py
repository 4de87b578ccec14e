"""Slides of the lessons: ``make slides`` writes build/slides/learn_N_….html, for a browser with a network.

Each heading begins a slide; each cell of code and each picture has one below it, so that a prediction is on the screen
before its answer.  Folded answers stay folded, sections of exercises are left to the notebook, and an exercise among
other cells is shown without what its check says.
"""
import copy
import html
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter

from paperlib.claims.notebooks import COLAB

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = ("Exercise", "Look around")      # sections for one's own keyboard
STYLE = """<style>
.reveal img.whole { display: block; max-width: 100%; max-height: 500px; margin: 0 auto; }
.reveal pre { font-size: 16px !important; line-height: 1.35 !important; }
.reveal .jp-InputPrompt, .reveal .jp-OutputPrompt { display: none; }
</style>
"""
UNSOLVED = re.compile(r"^\d\.\d is open: .*\n(?:Until then .*\n)?", re.MULTILINE)


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
            part.metadata["slideshow"] = {"slide_type": "skip" if left_out or cell.id == COLAB else kind}
            result.cells += [part, *pictures(part)] if cell.cell_type == "code" else [part]
    return result


def pictures(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Move the pictures of a cell of code into cells of their own, whose slides they fill, and leave out of what it
    prints that an exercise is open; return these cells."""
    found, kept = [], []
    for output in cell.outputs:
        if "image/png" in output.get("data", {}):
            alt = html.escape(output.metadata["image/png"]["alt"])
            source = f'<img class="whole" alt="{alt}" src="data:image/png;base64,{output.data["image/png"].strip()}">'
            found.append(nbformat.v4.new_markdown_cell(source, id=f"{cell.id}-picture-{len(found)}"[:64],
                                                       metadata=copy.deepcopy(cell.metadata)))
            continue
        if "text" in output:
            output["text"] = UNSOLVED.sub("", output["text"])
        if output.get("text") != "":
            kept.append(output)
    cell.outputs = kept
    return found


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
                                 "reveal_width": "960", "reveal_height": "600"} | settings)
    written = []
    for file in lessons():
        text, _ = exporter.from_notebook_node(slides(nbformat.read(file, as_version=4)))
        written.append(folder / f"{file.stem}.html")
        written[-1].write_text(text.replace("</head>", STYLE + "</head>", 1), encoding="utf-8")
    return written


if __name__ == "__main__":
    print(*write(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "slides"), sep="\n")
