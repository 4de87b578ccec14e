"""The static site is whole: every notebook, figure, public name and difference is on it, and every link leads on."""
import functools
import inspect
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest

from paperlib import claims, deploy, models, plots, quantizers, recipes
from paperlib.analysis import hswish
from paperlib.claims import ablation, notebooks
from paperlib.system.paths import ROOT

pytestmark = pytest.mark.slow


EQUATION = re.compile(r'<(span|div) class="math notranslate.*?</\1>', re.DOTALL)
LEFTOVER = re.compile(r"\$\$|\\frac|\\mathrm|\\sigma|:(func|class|meth|mod):`|(?<![\w)\]])\*\*[A-Za-z]|\]\(")


class Page(HTMLParser):
    """What a page refers to, its pictures, how many equations it has, and its text outside code and equations."""

    FETCHES = {("script", "src"), ("img", "src"), ("link", "href"), ("source", "src"), ("iframe", "src")}

    def __init__(self, file):
        super().__init__()
        self.links, self.fetched, self.pictures, self.text, self.code = [], [], [], [], 0
        rest, self.equations = EQUATION.subn("", file.read_text(encoding="utf-8"))
        self.feed(rest)

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        self.links += [a["href"]] if tag == "a" and "href" in a else []
        self.fetched += [a[key] for t, key in self.FETCHES if t == tag and a.get(key)]
        if tag == "img":
            self.pictures.append((a["src"], a.get("alt") or ""))
        self.code += tag in ("pre", "code", "script", "style", "svg")

    def handle_endtag(self, tag):
        self.code -= tag in ("pre", "code", "script", "style", "svg")

    def handle_data(self, data):
        if not self.code:
            self.text.append(data)


@pytest.fixture(scope="module")
def pages(site):
    """All pages but the listings of the library's code, which are Sphinx's own."""
    return {name: Page(site / name) for name in (file.relative_to(site).as_posix() for file in site.rglob("*.html"))
            if not name.startswith("_modules/")}


@functools.cache
def places(file):
    """What can be referred to in a page."""
    return set(re.findall(r'\b(?:id|name)="([^"]+)"', file.read_text(encoding="utf-8")))


def test_every_notebook_has_a_page_with_its_pictures_and_equations(pages):
    contents = {link.partition("#")[0] for link in pages["index.html"].links}
    for name in notebooks.names():
        assert f"notebooks/{name}.html" in contents, "a section of site/pages.py has to hold it"
        page = pages[f"notebooks/{name}.html"]
        cells = json.loads(notebooks.path(name).read_text(encoding="utf-8"))["cells"]
        alts = [o["metadata"]["image/png"]["alt"] for c in cells for o in c.get("outputs", [])
                if "image/png" in o.get("data", {})]
        assert [alt for _, alt in page.pictures if alt] == [" ".join(alt.split()) for alt in alts]
        prose = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        prose = re.sub(r"```.*?```|`[^`]*`", "", prose, flags=re.DOTALL)
        shown = len(re.findall(r"\$\$.+?\$\$|(?<!\$)\$[^$]+\$", prose, re.DOTALL))
        assert page.equations >= shown, "an equation is missing"


def test_what_is_to_be_predicted_is_folded(site):
    folds = '<details class="answer">'
    for file in site.glob("notebooks/learn_?_*.html"):
        questions = re.split(r"<p>(?:<em>|<strong>)?Predict", file.read_text(encoding="utf-8"))[1:]
        assert len(questions) >= 3 or "solutions" in file.name
        for text in questions:
            shown, fold, _ = re.split(r"<h[1-6]>", text)[0].partition(folds)
            assert fold and "cell_output" not in shown, (file.name, shown[:99])
        for text in file.read_text(encoding="utf-8").split(folds)[1:]:
            assert "<strong>Exercise" not in text.split("</details>")[0], file.name


def test_no_equation_or_markup_is_left_unread(pages):
    for name, page in pages.items():
        if name.startswith(("files/", "search", "genindex")):
            continue
        assert not LEFTOVER.search(" ".join(page.text)), name


def test_all_links_lead_to_a_place_that_exists(site, pages):
    broken = []
    for name, page in pages.items():
        for link in [*page.links, *page.fetched]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = ((site / name).parent / unquote(parts.path)).resolve() if parts.path else site / name
            if not target.is_file():
                broken.append(f"{name}: {link}")
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in places(target):
                broken.append(f"{name}: {link}")
    assert not broken


def test_nothing_is_fetched_from_elsewhere(site, pages):
    assert not [(name, url) for name, page in pages.items() for url in page.fetched if urlsplit(url).netloc]
    styles = {file.name: re.findall(r"(?:url\(|@import\s*)['\"]?((?:https?:)?//[^'\")\s]+)", file.read_text("utf-8"))
              for file in (site / "_static").rglob("*.css")}
    assert styles and not {name: urls for name, urls in styles.items() if urls}


def test_every_picture_says_what_one_sees(pages):
    assert not [(name, src) for name, page in pages.items() for src, alt in page.pictures
                if len(alt.split()) < 8]


def test_every_recorded_figure_is_in_the_gallery_with_its_data(site, pages):
    page = pages["gallery.html"]
    shown, offered = ({Path(path).name for path in paths} for paths in (dict(page.pictures), page.links))
    figures = [f.stem for f in (ROOT / "figures" / "recorded").glob("*.png")]
    assert figures and {f"{name}.png" for name in figures} <= shown
    assert {f"{name}.{suffix}" for name in figures for suffix in ("csv", "json", "svg")} <= offered


def test_the_glossary_has_each_word_once_in_order():
    words = re.findall(r"^## (.+)$", (ROOT / "site" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    plain = [word.lower().replace("-", " ") for word in words]
    assert len(words) >= 25 and plain == sorted(set(plain))


def test_the_api_has_every_public_name(site):
    for module in (quantizers, models, plots, claims, deploy, recipes):
        ids = places(site / "api" / f"{module.__name__.partition('.')[2]}.html")
        names = [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
        assert names and {f"{module.__name__}.{name}" for name in names} <= ids
    for module in (ablation, hswish):       # files that are named after figures
        functions = [name for name, value in inspect.getmembers(module, inspect.isfunction)
                     if value.__module__ == module.__name__ and not name.startswith("_")]
        ids = places(site / "api" / f"{module.__name__.split('.')[1]}.html")
        assert functions and {f"{module.__name__}.{name}" for name in functions} <= ids
    methods = {quantizers.find(name, role) for role in ("weight", "activation") for name in quantizers.names(role)}
    assert {f"{m.__module__}.{m.__name__}" for m in methods} <= places(site / "api" / "quantizers.html")


def test_the_page_of_differences_has_those_of_each_method(pages):
    said = re.sub(r"\W+", "", " ".join(pages["differences.html"].text)).lower()
    for role in ("weight", "activation"):
        for name in quantizers.names(role):
            doc = inspect.getdoc(quantizers.find(name, role))
            beginning = doc.split("*Differences*: ")[1][:60].split("``")[0]
            assert re.sub(r"\W+", "", beginning).lower() in said, name


def test_the_summary_counts_what_the_tables_hold(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "site"))
    import summary

    claims = pd.DataFrame(
        [("A", "PROFIT, Fig. 1", "supported", ""), ("B", "PROFIT, Fig. 2", "not enough evidence", "one seed"),
         ("C", "QIL, Fig. 1", "contradicted", ""), ("D", "QIL, Fig. 1", "not enough evidence", "the premise: one seed"),
         ("E", "QIL, Fig. 2", "not enough evidence", "one seed"), ("F", "QIL, Fig. 2", "not enough evidence", "x")],
        columns=["claim", "where", "verdict", "reason"]).assign(
            notebook="n", ours="+1", unit="points", seeds=[3, 1, 3, 0, 0, 1], further=[2, 0, 0, 0, 0, 0],
            together="+2: supported", machines=["M; N", "M", "M", "", "", "M"])
    runs = pd.DataFrame({"label": ["a"] * 3 + ["b"], "seed": [0, 1, 2, 0], "minutes": [30.0, 60, 60, 90],
                         "machine": "M", "network": "vgg7", "width": 0.5, "data": "cifar10", "train_images": 1000})
    assert re.match("6 claims from 4 places.*vgg7 × 0.5.*1,000 for training, in 4", summary.scope(claims, runs))
    assert summary.results(claims, runs).splitlines()[2:] == ["| PROFIT | 2 | 1 | 0 | 1 |", "| QIL | 4 | 0 | 1 | 3 |"]
    assert "[A]" in summary.easy(claims, runs) and "[C]" not in summary.easy(claims, runs)
    assert "4 claims are open, by reason or missing run: one seed: 3; other reasons: 1." in summary.hard(claims, runs)
    told = summary.seeds(claims, runs)
    assert told.startswith("4 claims have runs") and "have: 1 in 2; 3 in 1; 5 in 1 claims." in told
    assert "Processors: M in 4; N in 1 claims." in told and "add 2 seeds, in 1 of these claims; they" in told
    assert told.endswith("\n* [A](notebooks/n.ipynb): +2: supported (points)")
    assert summary.seeds(claims[1:], runs).endswith("no confirmations from other machines yet.")
    assert "4 recorded runs, 1 of 2 settings" in summary.cost(claims, runs) and "4 hours" in summary.cost(claims, runs)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    done = subprocess.run([sys.executable, ROOT / "site" / "build.py", tmp_path], capture_output=True, text=True)
    assert done.returncode == 2 and "name an empty folder" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]
