"""Handouts of the lessons, a page of A4 each: ``make handouts`` writes build/handouts/learn_N_….pdf with Chromium.

All of it is from the notebook: the question and its picture, what one will be able to do and needs, every prediction
with a line for the answer, and the takeaways.
"""
import html
import re
import sys
import tempfile
from importlib.metadata import files
from pathlib import Path

import nbformat
from browsers import MISSING, chromium
from nbconvert.filters import markdown2html
from slides import ROOT, lessons

MATHJAX = next(f for f in files("sphinx-mathjax-offline") if f.name == "tex-svg.js").locate()
GOALS = r"\*\*You will be able to\*\*.+?(?=\n\n\*\*You need)"
NEEDS = r"\*\*You need\*\*.+?(?=\n\n)"
PREDICTION = r"\*Predict:\*\s*(.+?)(?=\n\n|\Z)"
TAKEAWAYS = r"## Takeaways\n\n((?:\*[^\n]+\n?)+)"
STYLE = """
@page { size: A4; margin: 0; }
body { width: 182mm; margin: 0 auto; padding: 12mm 0; font: 10pt/1.35 "DejaVu Sans", sans-serif; color: #111; }
h1 { font-size: 1.7em; margin: 0 0 0.3em; } h2 { font-size: 1.1em; margin: 0.8em 0 0.2em; color: #0072B2; }
p, ul, ol { margin: 0.35em 0; } ul, ol { padding-left: 1.4em; }
a { color: inherit; text-decoration: none; } .anchor-link { display: none; }
img { display: block; max-width: 100%; max-height: 62mm; margin: 2mm auto; }
.predict li { margin-bottom: 0.4em; } .predict li::after { content: ""; display: block; height: 5.5mm;
  border-bottom: 0.3mm dotted #888; }
footer { margin-top: 1em; font-size: 0.8em; color: #555; }
mjx-container > svg { vertical-align: middle; } mjx-container g { stroke: none; }
"""


def page(notebook: nbformat.NotebookNode, name: str) -> str:
    """Return the handout of a lesson as HTML; ValueError if the notebook lacks a part of it."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    text = "\n\n".join(texts)

    def part(pattern: str) -> str:
        if not (found := re.search(pattern, text, re.DOTALL)):
            raise ValueError(f"{name} has nothing like {pattern}")
        return found[1] if found.re.groups else found[0]

    picture = next(o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs
                   if "image/png" in o.get("data", {}))
    alt = html.escape(picture.metadata["image/png"]["alt"])
    asked = [" ".join(found.split()) for found in re.findall(PREDICTION, text, re.DOTALL)]
    predictions = "\n".join(f"1. {question[0].upper()}{question[1:]}" for question in asked)
    rendered = [markdown2html(words) for words in (texts[0], part(GOALS), part(NEEDS))]
    return f"""<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{html.escape(name)}</title>
<style>{STYLE}</style>
<script>MathJax = {{ tex: {{ inlineMath: [["$", "$"]] }}, options: {{ enableAssistiveMml: false }} }}</script>
<script src="{MATHJAX.as_uri()}"></script>
<body>{rendered[0]}
<img alt="{alt}" src="data:image/png;base64,{picture.data["image/png"]}">
{rendered[1]}{rendered[2]}
<h2>Predict, before you run the cell</h2><div class="predict">{markdown2html(predictions)}</div>
<h2>Takeaways</h2>{markdown2html(part(TAKEAWAYS))}
<footer>notebooks/{name}.ipynb; its solutions are in {name}_solutions.ipynb</footer></body></html>"""


def write(folder: Path) -> list[Path]:
    """Print the handouts of all lessons into ``folder``, in the largest letters that fit on a page."""
    from playwright.sync_api import sync_playwright

    if (browser := chromium()) is None:
        raise SystemExit(MISSING)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with sync_playwright() as play, tempfile.TemporaryDirectory() as work:
        tab = play.chromium.launch(executable_path=browser).new_page()
        for file in lessons():
            source, made = Path(work) / f"{file.stem}.html", folder / f"{file.stem}.pdf"
            source.write_text(page(nbformat.read(file, as_version=4), file.stem), encoding="utf-8")
            tab.goto(source.as_uri())
            tab.evaluate("MathJax.startup.promise.then(() => 0)")
            tab.evaluate("""() => { const size = percent => { document.body.style.fontSize = `${percent / 10}pt`;
                return document.body.getBoundingClientRect().height; };
                let percent = 100; while (size(percent) > 296 * 96 / 25.4 && percent > 60) percent -= 2; }""")
            tab.pdf(path=made, prefer_css_page_size=True)
            written.append(made)
        tab.context.browser.close()
    return written


if __name__ == "__main__":
    print(*write(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "handouts"), sep="\n")
