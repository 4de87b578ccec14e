"""Tables of runs have names of their own."""
import pandas as pd
import pytest

from paperlib.analysis import bn_folding, hswish, qil_intervals
from paperlib.claims import contents
from paperlib.errors import InputError
from paperlib.runs import Run, tables
from paperlib.system import paths


def test_the_names_are_those_of_the_files_that_are_shipped():
    wanted = {look for _, looks in contents.needed("recorded") for look in looks}
    files = {file.stem for file in paths.recorded_dir().glob("*/*.csv")} - set(tables.OF_EVERY_RUN)
    assert {tables.name(look) for look in wanted} >= files
    assert {tables.name(look) for look in wanted} == {
        "interval_pruning", "interval_histograms", "weight_ranges", "hswish_histograms", "hswish_levels",
        "hswish_layers", "hswish_grids", "wrong_statistics", "norms_taken_anew"}


@pytest.mark.parametrize("module, function", [(qil_intervals, "interval_pruning"), (bn_folding, "weight_ranges"),
                                              (hswish, "hswish_layers")])
def test_a_function_that_is_renamed_still_finds_its_table(module, function, tmp_path):
    look = getattr(module, function)
    look.__name__, before = "quite_another", look.__name__
    try:
        pd.DataFrame({"layer": ["a"]}).to_csv(tmp_path / f"{function}.csv", index=False)
        run = Run(None, pd.DataFrame(), pd.DataFrame(), key="k", seconds=0, environment={}, folder=tmp_path)
        assert run.find(look).layer.tolist() == ["a"]
    finally:
        look.__name__ = before


@pytest.mark.parametrize("name", ["history", "layers", "instability", "steps", "weight_ranges"])
def test_no_two_tables_have_one_name(name):
    with pytest.raises(InputError, match=f"two tables cannot both be called '{name}'"):
        tables.named(name)(lambda run: None)


@pytest.mark.parametrize("name", ["", "Upper", "../x", "a b", "a\n"])
def test_a_name_is_that_of_a_file_anywhere(name):
    with pytest.raises(InputError, match="a table cannot be called"):
        tables.named(name)(lambda run: None)


def test_a_cell_or_module_may_be_run_again_and_a_function_without_a_name_is_refused():
    def look(run):
        return pd.DataFrame()

    assert tables.name(tables.named("test_again")(tables.named("test_again")(look))) == "test_again"
    with pytest.raises(InputError, match="has no name: put @tables.named"):
        tables.name(lambda run: None)
