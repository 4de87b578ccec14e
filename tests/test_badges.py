"""Badges lead to the first notebook of the repository that they are made for."""
import re
import sys

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

from paperlib.errors import InputError
from paperlib.system.paths import ROOT

sys.path.insert(0, str(ROOT / "site"))
import badges  # noqa: E402
import pages  # noqa: E402

from paperlib.claims import notebooks


def test_they_lead_to_the_first_notebook():
    assert badges.FIRST.endswith(f"/{notebooks.names()[0]}.ipynb")
    targets = re.findall(r"\]\((https://\S+?)\)$", badges.badges("someone/some.thing"), re.M)
    assert len(targets) == 2 and all("someone/some.thing/" in t and t.endswith(badges.FIRST) for t in targets)


@pytest.mark.parametrize("wrong", ["name", "a/b/c", "https://github.com/a/b", "a /b", ""])
def test_an_address_that_is_none(wrong):
    with pytest.raises(InputError, match="as OWNER/NAME"):
        badges.badges(wrong)


@pytest.mark.parametrize("remote, found", [
    ("https://github.com/a/b.git", "a/b"), ("git@github.com:a/b.c.git", "a/b.c"), ("https://github.com/a/b/", "a/b"),
    ("https://example.org/a/b.git", None), ("", None)])
def test_the_remote_tells_the_address(remote, found, monkeypatch):
    class Found:
        stdout = f"{remote}\n"
    monkeypatch.setattr(badges.subprocess, "run", lambda *args, **options: Found)
    assert badges.origin() == found


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A repository with two notebooks, which has no address yet."""
    monkeypatch.setattr(badges, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text(f"# Title\n{badges.START}\nold\n{badges.END}\ntext\n", encoding="utf-8")
    (tmp_path / "CITATION.cff").write_text('title: "a"\nversion: 1\n', encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    for name in ("one", "two"):
        cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("x = 1", execution_count=1)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"notebooks/{name}.ipynb")
    return tmp_path


def test_an_address_is_written_to_all_its_places_and_replaced_there(clone):
    before = nbformat.read(clone / "notebooks/one.ipynb", 4)
    assert badges.address() is None
    for repository in ("a/b", "c/d.e"):
        new, name = badges.write(repository), repository.split("/")[1]
        readme = (clone / "README.md").read_text(encoding="utf-8")
        assert readme == f"# Title\n{badges.START}\n{new}\n{badges.END}\ntext\n"
        citation = (clone / "CITATION.cff").read_text(encoding="utf-8")
        assert badges.address() == repository
        assert citation == f'title: "a"\nversion: 1\nrepository-code: "https://github.com/{repository}"\n'
        notebook = nbformat.read(clone / "notebooks/two.ipynb", 4)
        title, colab, code = notebook.cells
        assert (title.source, code.source) == ("# Title", "x = 1") and f"github.com/{repository} /content/{name}" in \
            colab.source
        assert notebooks.stamp(notebook) == notebooks.stamp(before)     # its outputs are still those of its code


def test_without_an_address_or_a_place_nothing_is_written(clone, monkeypatch):
    monkeypatch.setattr(badges, "origin", lambda: None)
    with pytest.raises(InputError, match="name the repository"):
        badges.write()
    (clone / "README.md").write_text("# Title\n", encoding="utf-8")
    with pytest.raises(InputError, match="once each"):
        badges.write("a/b")
    assert badges.address() is None


def test_the_cell_for_colab_fetches_the_companion_there_and_does_nothing_elsewhere(clone, monkeypatch):
    shell, done = InteractiveShell(), []
    monkeypatch.setattr(shell, "system", lambda command: done.append(command))
    monkeypatch.setattr(shell, "run_line_magic", lambda name, line, **_: done.append(f"%{name} {line}"))
    badges.write("a/b")
    cell = nbformat.read(clone / "notebooks/one.ipynb", 4).cells[1]
    monkeypatch.setattr(sys, "path", list(sys.path))
    shell.run_cell(cell.source).raise_error()
    assert not done and "/content/b" not in sys.path
    monkeypatch.setitem(sys.modules, "google.colab", None)
    shell.run_cell(cell.source).raise_error()
    assert done == ["git clone --quiet --depth 1 https://github.com/a/b /content/b",
                    "%pip install --quiet --editable /content/b", "%cd -q /content/b/notebooks"]
    assert "/content/b" in sys.path and cell.metadata.tags == [notebooks.COLAB, "remove-cell"]


@pytest.mark.parametrize("repository", ["a/b", None])
def test_pages_of_notebooks_open_elsewhere_once_there_is_an_address(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(badges, "address", lambda: repository)
    (tmp_path / "notebooks").mkdir()
    pages.Notebook(notebooks.path("scoreboard")).write(tmp_path, pages.Files(tmp_path))
    title = nbformat.read(tmp_path / "notebooks/scoreboard.ipynb", 4).cells[0].source
    assert all((f"({target})" in title) == (repository is not None)
               for target in badges.places("a/b", "notebooks/scoreboard.ipynb").values())


def test_the_readme_has_a_place_for_them():
    text = (badges.ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index(badges.START) < text.index(badges.END) < 1500
