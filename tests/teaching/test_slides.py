"""Slides: nothing of a lesson is lost or moved, and each heading begins one."""
import re
import sys

import nbformat
import pytest

from paperlib.system.paths import ROOT

sys.path.insert(0, str(ROOT / "site"))
import slides  # noqa: E402

LESSONS = slides.lessons()


def test_markdown_is_cut_before_headings_alone():
    assert slides.cut("a\n\n## b\nc\n```\n# no heading\n```\n### d\n") == [
        "a", "## b\nc\n```\n# no heading\n```", "### d"]
    assert slides.cut("# only\ntext") == ["# only\ntext"]


@pytest.mark.parametrize("file", LESSONS, ids=lambda file: file.stem)
def test_everything_is_there_in_its_order(file):
    notebook = nbformat.read(file, as_version=4)
    made = slides.slides(notebook)
    nbformat.validate(made)
    pictures = [c for c in made.cells if "-picture-" in c.id]
    words = [" ".join(c.source for c in cells if c not in pictures).split() for cells in (made.cells, notebook.cells)]
    assert words[0] == words[1]
    drawn = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == len(drawn) and all('alt="' in c.source for c in pictures)
    assert "is open: put your answer" not in str(made)
    kinds = [(c.metadata.slideshow.slide_type, c.cell_type, c.source.startswith("#")) for c in made.cells]
    assert kinds[0] == ("slide", "markdown", True) and sum(kind == "slide" for kind, *_ in kinds) >= 4
    assert all(heading for kind, _, heading in kinds if kind == "slide")
    assert all(kind in ("subslide", "skip") for kind, cell, _ in kinds if cell == "code")


@pytest.mark.slow
def test_pages(tmp_path):
    written = slides.write(tmp_path / "slides")
    assert [f.stem for f in written] == [f.stem for f in LESSONS]
    assert all(file.read_text().count("<section") > 10 for file in written)


def test_with_reveal_installed_slides_load_only_what_is_beside_them(tmp_path, monkeypatch):
    asset, shipped = tmp_path / "asset", slides.shipped
    asset.write_text("@import url(https://fonts.example/css?family=a);\nbody {}")
    monkeypatch.setattr(slides, "shipped", lambda package, name: (
        asset if package == "sphinx-revealjs" else shipped(package, name)))
    monkeypatch.setattr(slides, "lessons", lambda: LESSONS[:1])
    written, = slides.write(tmp_path / "slides")
    loaded = re.findall(r'<(?:script|link)[^>]+(?:src|href)="([^"]+)"', written.read_text())
    assert len(loaded) == 4 and all((written.parent / name).is_file() for name in loaded)
    assert "http" not in (written.parent / "reveal.js" / slides.THEME).read_text()
