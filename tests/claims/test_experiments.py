"""Which runs belong to which figure, and how they come from the shelf."""
import dataclasses

import pandas as pd
import pytest
from conftest import whole_history

from paperlib import recipes, runs
from paperlib.claims import contents, experiments, notebooks
from paperlib.errors import InputError
from paperlib.recipes import profiles
from paperlib.runs import Run
from paperlib.system import paths


def same(recipe):
    return dataclasses.replace(recipe, label="", recorded=False)


def test_bit_widths_branch_off_one_float_network():
    wanted = experiments.aiwq("laptop", seeds=2)
    assert list(wanted) == [32, 8, 5, 4, 3, 2] and [len(r) for r in wanted.values()] == [2] * 6
    for bits, (first, second) in wanted.items():
        assert (first.seed, second.seed) == (0, 1)
        assert first.phases[0] == wanted[32][0].phases[0]
        [phase] = first.phases[1:]
        assert phase.measure and phase.every_step and phase.scheme.a_bits == 32 and phase.scheme.w_bits == bits
        assert phase.lr_factor(0) == phase.lr_factor(phase.epochs * 0.99) == 1      # constant


def test_orders_differ_in_nothing_but_what_freezes():
    for wanted in (experiments.loss_curves("laptop", 1), experiments.loss_curves_two_bits()):
        assert list(wanted) == ["aiwq", "none", "reverse", "random"]
        bare = {order: [dataclasses.replace(p, freeze=None) if p.name.startswith("round") else p
                        for p in group[0].phases] for order, group in wanted.items()}
        assert bare["aiwq"] == bare["none"] == bare["reverse"] == bare["random"]


def test_ablation_shares_its_runs_with_the_figures():
    wanted = experiments.ablation("laptop", 1, bits=4)
    curves, methods = experiments.loss_curves("laptop", 1), experiments.pact_vs_duq("laptop", 1)
    assert same(wanted["+ PROFIT"][0]) == same(curves["aiwq"][0])
    assert same(wanted["+ teacher"][0]) == same(curves["none"][0])
    assert same(wanted["PACT"][0]) == same(methods["pact"][0])
    assert same(experiments.accuracy("laptop", 1)[("mobilenet_v3_large", 4)][0]) == same(curves["aiwq"][0])
    assert {p.teacher for p in wanted["+ progressive"][0].phases} == {None}


def test_each_method_learns_its_quantizers_at_the_profiles_rate_but_qil():
    rates = {row: recipes[0].phases[-1].quantizer_lr
             for row, recipes in experiments.ablation("laptop", 1, bits=3).items()}
    assert rates.pop("QIL") == 0.01 and set(rates.values()) == {profiles.get("laptop").quantizer_lr}


def test_folding_has_a_control_in_float():
    wanted = experiments.folding("laptop", 1)
    assert len(wanted) == 10 and wanted[32, True, False][0].phases[1].scheme.fold_norms
    assert {r[0].phases[1].lr for r in wanted.values()} == {experiments.FOLDING_LR}
    assert wanted[4, True, True][0].phases[1].scheme.per_channel


@pytest.mark.parametrize("profile", [p for p in profiles.names() if p != "imagenet"])
def test_every_item_is_defined_at_every_scale(profile):
    for make in (experiments.aiwq, experiments.loss_curves, experiments.pact_vs_duq, experiments.accuracy,
                 experiments.ablation, experiments.folding):
        for group in make(profile).values():
            further = len(group) - profiles.get(profile).seeds
            assert further == 0 or further > 0 and profile == "recorded"
            assert profile == "laptop" or all(r.recorded == (profile == "recorded") for r in group)


@pytest.mark.parametrize("item", contents.names())
def test_what_is_shipped_is_on_the_shelf(item):
    """The notebook exists, and of its runs at least the first seed is recorded, with its tables; tests/test_readme.py
    demands that the README names the items of which runs are missing."""
    assert item in notebooks.names()
    for recipe, looks in contents.needed("recorded", item, 1):
        if not runs.is_recorded(recipe):
            continue
        run = runs.obtain(dataclasses.replace(recipe, recorded=True))
        assert len(run.history) and all(len(run.find(look)) for look in looks)


def test_an_item_that_ships_nothing():
    with pytest.raises(InputError, match="'fig9' has no runs of its own: choose from profit_fig2_4_aiwq"):
        list(contents.needed("recorded", "fig9"))


HISTORY = pd.DataFrame([("float", 1, 8, "val", "loss", 0.5)], columns=["phase", "epoch", "step", "split", "metric",
                                                                      "value"])


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An empty data/recorded/."""
    monkeypatch.setattr(paths, "recorded_dir", lambda: tmp_path / "recorded")
    return tmp_path / "recorded"


def finished(seed=0, **options):
    recipe = recipes.activations_then_weights("duq", profile="laptop", seed=seed, **options)
    return Run(recipe, whole_history(recipe, 50.5), pd.DataFrame({"layer": ["a"]}),
               steps=pd.DataFrame({"iteration": [1, 2]}), key="k", seconds=1.0, environment={})


def sizes(run):
    return pd.DataFrame({"size": [run.recipe.seed + 0.5]})


def test_a_recorded_run_brings_its_tables_along(shelf):
    run = finished(seed=3)
    assert run.find(sizes)["size"].tolist() == [3.5]
    folder = run.record()
    assert folder.parent == shelf and folder.name.startswith("duq-negative-padding_mobilenet_v3_large_3_")
    again = runs.obtain(dataclasses.replace(run.recipe, recorded=True, label="another"))
    pd.testing.assert_frame_equal(again.find(sizes), run.find(sizes))
    pd.testing.assert_frame_equal(again.history, run.history)
    assert again.steps.iteration.tolist() == [1, 2] and again.folder == folder
    with pytest.raises(InputError, match="has no table 'whole_history', and no weights"):
        again.find(whole_history)


def test_recording_again_gives_equal_bytes(shelf):
    def record():
        run = finished()
        run.find(sizes)
        return {file.name: file.read_bytes() for file in run.record().iterdir()}

    first = record()
    assert first == record() and set(first) == {"history.csv", "layers.csv", "run.json", "sizes.csv",
                                                "steps.csv.gz"}


def test_a_table_is_made_once():
    calls, run = [], finished()

    def look(run):
        calls.append(run)
        return HISTORY

    assert run.find(look) is run.find(look) and calls == [run]


def test_seeds_that_are_not_on_the_shelf_are_left_out(shelf):
    finished(seed=0).record()
    finished(seed=2).record()
    wanted = {"duq": [dataclasses.replace(finished(seed=s).recipe, recorded=True) for s in range(3)]}
    assert [r.recipe.seed for r in runs.obtain_each(wanted)["duq"]] == [0, 2]
    with pytest.raises(InputError, match="no recorded run of .*seed 1"):
        runs.obtain_each(wanted, complete=True)


def test_an_absent_run_stands_where_a_name_has_none_for_the_seeds_that_others_have(shelf):
    finished(seed=0).record()
    finished(seed=2).record()
    wanted = {bits: [dataclasses.replace(finished(seed=s, bits=bits).recipe, recorded=True) for s in range(3)]
              for bits in (4, 3)}
    found = runs.obtain_each(wanted)
    assert [[(r.recipe.seed, r.absent) for r in group] for group in found.values()] == [
        [(0, False), (2, False)], [(0, True), (2, True)]]
    absent = found[3][0]
    assert absent.outcome == "not recorded yet" and not found[4][0].outcome
    for phase in absent.recipe.phases:
        assert len(absent.values(phase.name, "val", "accuracy")) == phase.epochs + 1
    assert absent.history.value.isna().all()
    for look in (absent.model, lambda: absent.find(len)):
        with pytest.raises(InputError, match="no recorded run of .*seed 0"):
            look()
    assert [r.recipe.seed for r in runs.obtain_each({3: wanted[3]})[3]] == [0, 1, 2]      # alone: all seeds


def test_laptop_spares_what_is_recorded(monkeypatch):
    def spared():
        return {"curves": experiments.loss_curves("laptop"),
                "methods": experiments.pact_vs_duq("laptop", methods=("duq", "lsq")),
                "accuracy": experiments.accuracy("laptop"), "ablation": experiments.ablation("laptop"),
                "folding": experiments.folding("laptop")}

    names = {(item, name) for item, wanted in spared().items() for name, group in wanted.items() if group[0].recorded}
    assert names == {
        ("curves", "reverse"), ("curves", "random"), ("methods", "lsq"), ("accuracy", ("mobilenet_v1", 4)),
        ("accuracy", ("mobilenet_v2", 4)),
        *(("ablation", row) for row in ("LSQ", "DuQ", "+ negative padding", "+ progressive")),
        *(("folding", (8, folded, channel)) for folded in (False, True) for channel in (False, True))}
    assert not experiments.ablation("laptop", bits=5)["LSQ"][0].recorded      # which nobody has recorded
    monkeypatch.setattr(experiments.runs, "is_recorded", lambda recipe: False)
    assert not any(r.recorded for wanted in spared().values() for group in wanted.values() for r in group)


def test_recorded_seeds_beyond_the_profiles_are_shown(monkeypatch):
    monkeypatch.setattr(experiments.runs, "is_recorded", lambda recipe: recipe.seed < 5)

    def seeds(*what):
        return [recipe.seed for recipe in experiments.pact_vs_duq(*what)["duq"]]

    assert seeds("recorded") == [0, 1, 2, 3, 4] and seeds("recorded", 2) == [0, 1] and seeds("laptop") == [0]
    assert [len(group) for group in experiments.loss_curves_photographs().values()] == [5] * 4
    monkeypatch.setattr(experiments.runs, "is_recorded", lambda recipe: recipe.seed == 4)      # none of those before it
    assert seeds("recorded") == [0, 1, 2]
