"""The wrapper around papermill is strict, and the notebooks keep the form of the house."""
import json
import re

import nbformat
import pytest

from paperlib.claims import notebooks
from paperlib.errors import InputError

pytestmark = pytest.mark.slow

FIGURE = "profit_supp_fig2_pact_vs_duq"


def test_an_error_in_a_notebook_arrives_as_its_own_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    with pytest.raises(InputError, match=r"cell 3: no recorded run .*seed 97.*choose|cell \d+: .*recorded run") as info:
        notebooks.execute(FIGURE, {"seeds": 98})
    assert "\n" not in str(info.value)


def test_a_kernel_that_is_killed_is_one_line(tmp_path, monkeypatch, capfd):
    cells = [nbformat.v4.new_code_cell('profile: str = "smoke"  # how large', metadata={"tags": ["parameters"]}),
             nbformat.v4.new_code_cell("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "dying.ipynb")
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    with pytest.raises(InputError, match="notebook 'dying' was killed, perhaps for want of memory: close") as info:
        notebooks.execute("dying", {})
    assert "\n" not in str(info.value) and "Traceback" not in capfd.readouterr().err


def test_a_figure_leaves_its_files_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAPERLIB_FIGURES", "paper")       # not from notebooks/, where kernels start
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper/README.md").write_text("mine")
    written = notebooks.make_figure(FIGURE, "recorded", {"seeds": 1, "extension": False})
    folder = tmp_path / "paper/experiments/recorded-seeds-1-extension-False"
    assert written == [folder / f"{FIGURE}{s}" for s in (".csv", ".json", ".png", ".svg", ".ipynb")]
    assert sorted(written) == sorted(folder.iterdir()) and written[-1].stat().st_mtime >= written[2].stat().st_mtime
    assert (tmp_path / "paper/README.md").read_text() == "mine" and len(list((tmp_path / "paper").iterdir())) == 2
    monkeypatch.setattr(notebooks, "execute", lambda name, given: None)     # a notebook that draws nothing
    with pytest.raises(InputError, match="did not write"):
        notebooks.make_figure(FIGURE, "recorded", {})


def test_recorded_figures_of_the_clone_get_their_place_in_the_index(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_FIGURES", str(tmp_path))
    monkeypatch.setattr(notebooks, "SHIPPED", tmp_path / "recorded")

    def draw(name, given):
        folder = tmp_path / given["profile"]
        folder.mkdir(exist_ok=True)
        facts = {"alt": "two [lines]", "caption": "1 seed", "runs": [{"seconds": 120}]}
        (folder / f"{name}.json").write_text(json.dumps(facts))
        return nbformat.v4.new_notebook()

    monkeypatch.setattr(notebooks, "execute", draw)
    notebooks.make_figure(FIGURE, "smoke", {})
    assert not (tmp_path / "README.md").exists()
    notebooks.make_figure(FIGURE, "recorded", {})
    line = (tmp_path / "README.md").read_text(encoding="utf-8").splitlines()[-1]
    assert f"![two (lines)](recorded/{FIGURE}.png)" in line and "1 seed; 2 minutes of training" in line
    with pytest.raises(InputError, match="'smoke' and, as a parameter, 'laptop'"):
        notebooks.make_figure(FIGURE, "smoke", {"profile": "laptop"})


def cells(name, kind="code"):
    return [c for c in nbformat.read(notebooks.path(name), 4).cells if c.cell_type == kind]


@pytest.mark.parametrize("name", notebooks.names())
def test_form_of_the_house(name):
    file = notebooks.path(name)
    assert file.stat().st_size < 400_000     # the scoreboard has a line for each of some 80 claims
    code = [c for c in cells(name) if c.id != notebooks.COLAB]
    assert len(code) < 15 and max(len(c.source.splitlines()) for c in code) <= 12
    counts = [c.execution_count for c in code]
    assert counts in [list(range(first, first + len(code))) for first in (1, 2)], "run `make notebooks`"
    outputs = [o for c in code for o in c.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert "papermill" not in nbformat.read(file, 4).metadata
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|work|Users|tmp)/", text), "an absolute path"


def test_the_first_notebook_leads_to_all_others():
    text = notebooks.path("00_start_here").read_text(encoding="utf-8")
    assert [name for name in notebooks.names() if f"]({name}.ipynb)" not in text] == ["00_start_here"]


@pytest.mark.parametrize("name", notebooks.names())
def test_every_picture_says_what_one_sees(name):
    for cell in cells(name):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                assert len(output.metadata.get("image/png", {}).get("alt", "").split()) >= 8, cell.source


@pytest.mark.parametrize("name", notebooks.names())
def test_outputs_are_those_of_the_code_at_hand(name):
    notebook = nbformat.read(notebooks.path(name), 4)
    assert notebook.metadata.get("paperlib", {}).get("executed_with") == notebooks.stamp(notebook), \
        f"run `python -m paperlib refresh {name}`, or `make notebooks`"


def test_a_stamp_changes_with_code_and_with_nothing_else(monkeypatch):
    notebook = nbformat.read(notebooks.path(FIGURE), 4)
    before = notebooks.stamp(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source += " reworded"
    assert notebooks.stamp(notebook) == before
    monkeypatch.setattr(notebooks, "library_version", lambda: "another library")
    assert notebooks.stamp(notebook) != before
    monkeypatch.undo()
    next(c for c in notebook.cells if c.cell_type == "code").source += "\nx = 1"
    assert notebooks.stamp(notebook) != before


@pytest.mark.parametrize("name", [n for n in notebooks.names()
                                  if n.startswith(("profit_", "qil_", "beyond_", "deploy_"))])
def test_parameters_cell_is_typed_and_commented(name):
    tagged = [c for c in cells(name) if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    for line in tagged[0].source.splitlines():
        assert re.fullmatch(r"\w+: (int|float|str|bool) = .+  # .+", line), line
    found = notebooks.parameters(name)
    assert found["profile"]["default"] == '"recorded"' and all(p["help"] for p in found.values())


@pytest.mark.parametrize("name", ["own_network", "00_start_here"])
def test_a_notebook_without_a_profile_is_no_figure(name):
    with pytest.raises(InputError, match=f"the notebook '{name}' draws no figure .* `make lab`"):
        notebooks.make_figure(name, "smoke", {})
