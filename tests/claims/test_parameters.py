"""What notebooks' parameters may be, and where pictures go that are drawn with others than the shipped ones."""
import ast
import os

import nbformat
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from paperlib import plots
from paperlib.claims import notebooks, parameters
from paperlib.errors import InputError
from paperlib.plots.style import finish
from paperlib.system import paths

AIWQ, TABLE, QIL, OWN = "profit_fig2_4_aiwq", "profit_table1_accuracy", "qil_fig1_3_quantizer", "own_network"
ALT = "A straight line that rises from the lower left to the upper right."


@pytest.fixture(autouse=True)
def no_notebook(monkeypatch, tmp_path):
    monkeypatch.setattr(parameters, "_open", None)
    monkeypatch.setenv("PAPERLIB_FIGURES", str(tmp_path / "figures"))


def variables(name, **others):
    return {key: p.default for key, p in parameters.known(name).items()} | others


def code(name):
    return [c for c in nbformat.read(notebooks.path(name), 4).cells if c.cell_type == "code"]


@pytest.mark.parametrize("name, key, value, cause", [
    (AIWQ, "bits", "abc", "is of type int, got 'abc'"), (AIWQ, "bits", "7", "one of 4, 8, 5, 3, 2, got 7"),
    (AIWQ, "bits", "1" * 5000, "of type int"), (AIWQ, "bits", True, "of type int"), (AIWQ, "bits", 4.0, "of type int"),
    (AIWQ, "seeds", "-3", "from 0 to 100, got -3"), (AIWQ, "seeds", "1000000", "from 0 to 100"),
    (AIWQ, "model", "resnet18", "one of mobilenet_v3_large"), (AIWQ, "profile", "../../x", "one of recorded, smoke"),
    (AIWQ, "profile", "", "one of recorded"), (AIWQ, "Bits", 4, "no parameter 'Bits': it has profile"),
    (AIWQ, "profile", 5, "of type str, got 5"), (TABLE, "bits", "4,5", "some of 8, 5, 4, 3, 2"),
    (TABLE, "bits", "4 4", "at most once"), (TABLE, "networks", "", "some of mobilenet_v1"),
    ("deploy_integers", "batches", "-5", "from 0 to 1000"), ("deploy_integers", "fraction", "31", "from 1 to 30"),
    (QIL, "c", "nan", "got nan"), (QIL, "c", "inf", "got inf"), (QIL, "c", "1e308", "from 0.01 to 100"),
    (QIL, "d", "0", "from 0.01 to c"), (QIL, "d", "nan", "from 0.01 to c"), (QIL, "d", "1e-300", "from 0.01 to c"),
    (QIL, "d", "0.6", "from 0.01 to c, got 0.6"), (QIL, "images", "0", "from 1"),
    ("profit_supp_fig2_pact_vs_duq", "extension", "maybe", "of type bool"), (OWN, "bits", "1", "from 2 to 8"),
    (OWN, "profile", "smoke", "no parameter 'profile': it has bits"), ("learn_5_integers", "x", "1", "it has none")])
def test_values_that_cannot_be_are_refused_in_one_sentence_however_a_notebook_starts(name, key, value, cause):
    with pytest.raises(InputError, match=cause) as info:
        notebooks.check(name, {key: value})
    assert "\n" not in str(info.value) and name in str(info.value)
    if key in parameters.known(name):
        with pytest.raises(InputError, match=f"parameter {key!r} of notebook"):
            parameters.check(name, variables(name, **{key: value if isinstance(value, str) else str(value)}))


@pytest.mark.parametrize("name, key, value, checked", [
    (TABLE, "bits", "", ""), (TABLE, "bits", "4 3 2", "4 3 2"), (TABLE, "networks", "mobilenet_v2", "mobilenet_v2"),
    (TABLE, "seeds", "100", 100), (AIWQ, "profile", "smoke", "smoke"), (QIL, "c", "0.5", 0.5), (QIL, "c", 1, 1.0)])
def test_values_that_can_be_get_the_declared_type(name, key, value, checked):
    [found] = notebooks.check(name, {key: value}).values()
    assert found == checked and type(found) is type(checked)


@pytest.mark.parametrize("name", notebooks.names())
def test_notebooks_with_parameters_check_them_first_and_never_reuse_their_names(name):
    cells = code(name)
    tagged = [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    assert bool(tagged) == bool(parameters.known(name))
    if not tagged:
        return
    found = {k: ast.literal_eval(p["default"]) for k, p in notebooks.parameters(name).items()}
    assert list(found.items()) == list(variables(name).items()), "defaults differ from paperlib/claims/contents.py"
    assert notebooks.check(name, found) == found
    assert cells[tagged[0] + 1].source.startswith(f'parameters.check("{name}", globals())\n')
    for cell in cells[tagged[0] + 1:]:
        scopes = (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
        pending = [ast.parse(cell.source)]
        while pending:
            node = pending.pop()
            assert not (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in found), node.id
            pending += [child for child in ast.iter_child_nodes(node) if not isinstance(child, scopes)]


def save(profile="recorded"):
    figure, ax = plt.subplots()
    ax.plot([0, 1])
    return plots.save(finish(figure, ALT), f"{AIWQ}_x", data=pd.DataFrame(), runs=[], profile=profile, parameters={})


def test_pictures_of_other_values_go_elsewhere_and_say_where(tmp_path, capsys):
    edited = variables(AIWQ)
    parameters.check(AIWQ, edited)
    save()
    assert (tmp_path / f"figures/recorded/{AIWQ}_x.png").exists() and not capsys.readouterr().out
    edited["bits"] = 3      # in JupyterLab, without running the next cell again
    save()
    other = tmp_path / f"figures/experiments/recorded-bits-3/{AIWQ}_x.png"
    assert other.exists() and str(other) in capsys.readouterr().out
    assert '"bits": 3' in other.with_suffix(".json").read_text()
    edited.update(bits=4, profile="smoke")
    save()      # whose runs are always recorded ones: the folder is still the notebook's
    assert (tmp_path / f"figures/smoke/{AIWQ}_x.png").exists()
    edited["bits"] = "many"
    with pytest.raises(InputError, match="of type int, got 'many'"):
        save()


def test_names_of_experiments_stay_in_their_folder():
    values = variables(TABLE, bits="4 3", networks="mobilenet_v1 mobilenet_v2")
    assert parameters.folder_of(TABLE, values).name == "recorded-bits-4-3-networks-mobilenet_v1-mobilenet_v2"


def test_names_that_are_paths_are_refused_before_anything_is_written(tmp_path):
    figure = plt.figure()
    for item, profile in (("../x", "smoke"), ("x", "../../x")):
        with pytest.raises(InputError):
            plots.save(finish(figure, ALT), item, data=pd.DataFrame(), runs=[], profile=profile, parameters={})
    for name in ("", "..", ".hidden", "a/b", "a\\b", "/a", "a\0b", "a\nb", "x" * 300):
        with pytest.raises(InputError, match="cannot be the name of a run"):
            paths.plain_name(name, "a run")
    assert paths.plain_name("4-bits_mobilenet_v2_0", "a run") == "4-bits_mobilenet_v2_0"
    assert not list(tmp_path.iterdir())


def test_the_library_of_another_clone_is_refused(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / f"notebooks/{AIWQ}.ipynb").touch()
    monkeypatch.chdir(tmp_path / "notebooks")
    with pytest.raises(InputError, match="start it with `make lab` in"):
        parameters.check(AIWQ, variables(AIWQ))


def test_processes_elsewhere_get_this_library_and_whole_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAPERLIB_FIGURES", "here")
    monkeypatch.setenv("PAPERLIB_DATA", "")
    monkeypatch.setenv("PYTHONPATH", "/another/clone")
    environment = paths.environment()
    assert environment["PAPERLIB_FIGURES"] == str(tmp_path / "here") and environment["PAPERLIB_DATA"] == ""
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(paths.ROOT), "/another/clone"]


def test_notebooks_show_the_sentence_alone():
    assert InputError("bits must be 4")._render_traceback_() == ["InputError: bits must be 4"]
