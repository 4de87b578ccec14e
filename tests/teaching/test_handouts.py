"""Handouts: each lesson's question, picture, predictions and takeaways, on one page."""
import re
import sys

import nbformat
import pytest

from paperlib.system.paths import ROOT

sys.path.insert(0, str(ROOT / "site"))
import handouts  # noqa: E402
from slides import lessons  # noqa: E402


@pytest.mark.parametrize("file", lessons(), ids=lambda file: file.stem)
def test_a_handout_has_all_parts_of_its_lesson(file):
    notebook = nbformat.read(file, as_version=4)
    page = handouts.page(notebook, file.stem)
    head, predict, take = re.split(r"<h2>.*?</h2>", page)
    assert head.count("<img") == 1 and "?</strong>" in head and "You need" in head
    asked = sum(c.source.count("*Predict:*") for c in notebook.cells if c.cell_type == "markdown")
    assert predict.count("<li>") == asked >= 3 and take.count("<li>") >= 3
    assert "<details" not in page and "Exercise" not in predict


def test_a_lesson_that_lacks_a_part_is_named():
    picture = nbformat.v4.new_output("display_data", {"image/png": "AAAA"}, metadata={"image/png": {"alt": "dots"}})
    cells = [nbformat.v4.new_markdown_cell("# A lesson"), nbformat.v4.new_code_cell(outputs=[picture])]
    with pytest.raises(ValueError, match="learn_9 has nothing like .*be able to"):
        handouts.page(nbformat.v4.new_notebook(cells=cells), "learn_9")


@pytest.mark.slow
def test_each_is_one_page(tmp_path):
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if handouts.chromium() is None:
        pytest.skip(handouts.MISSING)
    written = handouts.write(tmp_path)
    assert [f.stem for f in written] == [f.stem for f in lessons()]
    assert [len(re.findall(rb"/Type\s*/Page\b", f.read_bytes())) for f in written] == [1] * len(written)
