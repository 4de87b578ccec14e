"""Badges lead to the first notebook of the repository that they are made for."""
import re
import sys

import pytest

from paperlib.errors import InputError
from paperlib.system.paths import ROOT

sys.path.insert(0, str(ROOT / "site"))
import badges  # noqa: E402

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


def test_they_are_written_between_the_marks(tmp_path, monkeypatch):
    monkeypatch.setattr(badges, "ROOT", tmp_path)
    file = tmp_path / "README.md"
    file.write_text(f"# Title\n{badges.START}\nold\n{badges.END}\ntext\n", encoding="utf-8")
    for repository in ("a/b", "c/d"):
        badges.write(repository)
        text = file.read_text(encoding="utf-8")
        assert text == f"# Title\n{badges.START}\n{badges.badges(repository)}\n{badges.END}\ntext\n"
    monkeypatch.setattr(badges, "origin", lambda: None)
    with pytest.raises(InputError, match="name the repository"):
        badges.write()
    file.write_text("# Title\n", encoding="utf-8")
    with pytest.raises(InputError, match="once each"):
        badges.write("a/b")


def test_the_readme_has_a_place_for_them():
    text = (badges.ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index(badges.START) < text.index(badges.END) < 1500
