"""Slides of the lessons: ``make slides`` writes build/slides/learn_N_….html, for a browser with a network, or for one
without, where the package sphinx-revealjs is installed.

Each heading begins a slide; each cell of code and each picture has one below it, so that a prediction is on the screen
before its answer.  Folded answers stay folded, sections of exercises are left to the notebook, and an exercise among
other cells is shown without what its check says.
"""
import copy
import html
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, files
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
THEME = "dist/theme/simple.css"
ASSETS = ("dist/reveal.js", "dist/reveal.css", THEME, "LICENSE")
WITHOUT_NETWORK = """<style>.reveal .slides section { max-height: 600px; overflow-y: auto; }</style>
<script>MathJax = { tex: { inlineMath: [["$", "$"]] }, options: { enableMenu: false } };</script>
<script src="reveal.js/tex-svg.js"></script>
<script src="reveal.js/dist/reveal.js"></script>
<script>Reveal.initialize({ width: 960, height: 600, hash: true, transition: "none", slideNumber: "c/t" });</script>
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


def shipped(package: str, name: str) -> Path | None:
    """Return the file of an installed package whose path ends with ``name``, None if it is not installed."""
    try:
        return next(Path(file.locate()) for file in files(package) if file.as_posix().endswith(name))
    except PackageNotFoundError:
        return None


def reveal(folder: Path) -> bool:
    """Copy reveal.js and MathJax into ``folder``, if sphinx-revealjs, which brings the first, is installed."""
    for asset in ASSETS:
        if (source := shipped("sphinx-revealjs", f"revealjs/{asset}")) is None:
            return False
        (folder / asset).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / asset)
    theme = folder / THEME
    theme.write_text(re.sub(r"@import url\(http.*?\);", "", theme.read_text(encoding="utf-8")), encoding="utf-8")
    shutil.copyfile(shipped("sphinx-mathjax-offline", "tex-svg.js"), folder / "tex-svg.js")
    return True


def without_network(page: str) -> str:
    """Have slides load nothing but what :func:`reveal` copies beside them."""
    page = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    return page.replace("</body>", WITHOUT_NETWORK + "</body>", 1)


def write(folder: Path, **settings) -> list[Path]:
    """Write the slides of all lessons into ``folder``; ``settings`` go to nbconvert's SlidesExporter."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = reveal(folder / "reveal.js")
    settings = ({"reveal_url_prefix": "reveal.js"} if beside else {}) | settings
    exporter = SlidesExporter(**{"reveal_scroll": True, "reveal_transition": "none", "reveal_number": "c/t",
                                 "reveal_width": "960", "reveal_height": "600"} | settings)
    written = []
    for file in lessons():
        text, _ = exporter.from_notebook_node(slides(nbformat.read(file, as_version=4)))
        text = without_network(text) if beside else text
        written.append(folder / f"{file.stem}.html")
        written[-1].write_text(text.replace("</head>", STYLE + "</head>", 1), encoding="utf-8")
    return written


if __name__ == "__main__":
    print(*write(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "slides"), sep="\n")
