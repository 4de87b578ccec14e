"""PROFIT, Table 1: claims and tables on made-up runs."""
import pandas as pd
import pytest
from conftest import agree, ends_at, leans
from matplotlib import pyplot as plt

from paperlib import analysis, claims, plots
from paperlib.claims import CONTRADICTED, SUPPORTED, experiments, paper_tables
from paperlib.errors import InputError
from paperlib.runs import Run

V3 = "mobilenet_v3_large"


def run(bits, seed=0, model=V3, full=80.0, taught=81.0, end=80.0):
    """A run with these accuracies at the end of "float", of "fine-tuning" and of all; 30 before each, other splits and
    losses beside them, and averaged weights five points better."""
    recipe = experiments.accuracy("laptop", seed + 1, {bits, 4} - {32}, (model,))[model, bits][seed]
    rows = [(phase.name, epoch, *other) for phase in recipe.phases for epoch in range(phase.epochs + 1)
            for other in (("train", "accuracy", 99.0), ("val", "loss", 1.0))]
    return ends_at(recipe, end, {"float": full, "fine-tuning": taught}, averaged=5, rows=rows)


@pytest.mark.parametrize("loss, verdict", [(-2.0, SUPPORTED), (1.48, SUPPORTED), (1.5, CONTRADICTED)])
@pytest.mark.parametrize("reference", ["float", "fine-tuning"])
def test_within_the_abstracts_points(reference, loss, verdict):
    refs = {"full": 90.0, "taught": 90.0, {"float": "full", "fine-tuning": "taught"}[reference]: 40.0 + loss}
    found = claims.accuracy.four_bits_beside_full(V3, [run(4, end=40.0, **refs)], reference)
    assert leans(found) == verdict and found.differences.difference.tolist() == pytest.approx([loss])


def test_full_precision_is_trained_as_long_and_averaged():
    longer = [run(32), run(32, seed=1, end=80.0)]
    found = claims.accuracy.four_bits_stay_close(V3, [run(4, end=79.0), run(4, seed=1, end=70.0)], longer)
    assert found.differences.difference.tolist() == [1.0, 10.0] and agree(found) == [1]
    assert leans(found) == CONTRADICTED
    assert claims.accuracy.four_bits_stay_close(V3, longer, ()).reason == "a float network trained as long"
    assert claims.accuracy.allowance() == 1.48


@pytest.mark.parametrize("ends, verdict", [((82, 81, 80), SUPPORTED), ((82, 82, 80), CONTRADICTED),
                                           ((82, 80, 81), CONTRADICTED), ((80, 81, 82), CONTRADICTED)])
def test_each_step_costs(ends, verdict):
    by_bits = {bits: [run(bits, end=float(end))] for bits, end in zip((8, 5, 4), ends)}
    shuffled = {bits: by_bits[bits] for bits in (4, 8, 5)}
    found = claims.accuracy.fewer_bits_cost_accuracy(V3, shuffled)
    assert leans(found) == verdict
    assert found.differences.difference.tolist() == [ends[0] - ends[1], ends[1] - ends[2]]


def test_only_seeds_that_both_have_are_compared():
    by_bits = {8: [run(8, end=82.0), run(8, seed=1, end=0.0)], 4: [run(4, end=80.0)]}
    found = claims.accuracy.fewer_bits_cost_accuracy(V3, by_bits)
    assert found.differences.seed.tolist() == [0] and leans(found) == SUPPORTED
    with pytest.raises(InputError, match="same seeds"):
        claims.accuracy.fewer_bits_cost_accuracy(V3, {8: by_bits[8][1:], 4: by_bits[4]})


@pytest.fixture
def table():
    found = {(V3, bits): [run(bits, seed, end=float(end + seed)) for seed in (0, 1)]
             for bits, end in ((8, 82), (4, 79))}
    found[("mobilenet_v1", 4)] = [run(4, model="mobilenet_v1", full=70.0, end=60.0)]
    return analysis.accuracy.accuracies(found)


def test_float_rows_count_once(table):
    assert table.groupby(["network", "precision"]).size().to_dict() == {
        **{("MobileNet-v3-Large", p): 2 for p in ("Full", "Full+", "8 bits", "4 bits")},
        **{("MobileNet-v1", p): 1 for p in ("Full", "Full+", "4 bits")}}
    assert (table.averaged == table.accuracy + 5).all()
    epochs = table[table.seed == 0].set_index(["network", "precision"]).epochs
    phases = run(4).recipe.phases
    assert epochs["MobileNet-v3-Large", "Full"] == phases[0].epochs
    assert epochs["MobileNet-v3-Large", "4 bits"] == sum(p.epochs for p in phases)


def test_float_is_trained_as_long_as_four_bits():
    longer, four = run(32), run(4)
    assert not {p.scheme.w_bits for p in longer.recipe.phases[1:]} - {32} and longer.recipe.phases[0].scheme is None
    assert [(p.epochs, p.lr) for p in longer.recipe.phases] == [(p.epochs, p.lr) for p in four.recipe.phases]
    assert ("mobilenet_v3_large", 32) not in experiments.accuracy("laptop", 1, (8, 5))
    found = {(V3, 4): [four], (V3, 32): [run(32, end=79.0)]}
    table = analysis.accuracy.accuracies(found).set_index("precision")
    assert table.index.tolist() == ["Full", "Full+", "4 bits", "float, as long"]
    assert table.accuracy["float, as long"] == 79 and table.epochs.nunique() == 3
    assert analysis.accuracy.precisions(table.reset_index()) == ["Full", "Full+", "float, as long", "4 bits"]
    assert analysis.accuracy.above_full(table.reset_index()).to_dict() == {("MobileNet-v3-Large", 0, "4 bits"): False}
    assert analysis.accuracy.points(found).w_bits.tolist() == [4]
    figure = plots.accuracy.draw(table.reset_index(), allowance=1.48, footnote="made up")
    assert any("grey: from float, as long" in text.get_text() for text in figure.texts)
    plt.close("all")
    found[V3, 32] = [Run.unrecorded(found[V3, 32][0].recipe)]
    assert analysis.accuracy.accuracies(found).precision.tolist() == ["Full", "Full+", "4 bits"]


def test_table_shows_spread_and_number(table):
    shown = analysis.accuracy.summary(table)
    assert list(shown.columns) == ["Full", "Full+", "8 bits", "4 bits"]
    assert shown.loc["MobileNet-v3-Large", "8 bits"] == "82.5 ± 0.7 (n=2)"
    assert shown.loc["MobileNet-v1", "4 bits"] == "60.0 (n=1)" and pd.isna(shown.loc["MobileNet-v1", "8 bits"])


def test_above_the_float_network_of_the_same_seed(table):
    above = analysis.accuracy.above_full(table)
    assert above.sum() == 2 and not above["MobileNet-v1"].any() and above["MobileNet-v3-Large", 0, "8 bits"]
    assert not above["MobileNet-v3-Large", 1, "4 bits"]             # 80 is not above 80


def test_published_numbers_are_marked():
    shown = paper_tables.accuracy((8, 4))
    assert shown.loc["MobileNet-v2"].tolist() == ["no source", "no source", "72.352", "71.564"]
    assert shown.loc["MobileNet-v3-Large", "Full+"] == "75.296 (unverified)"


def test_picture_has_the_means(table):
    figure = plots.accuracy.draw(table, allowance=1.48, footnote="made up")
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["MobileNet-v1, 1 seed", "MobileNet-v3-Large, 2 seeds"]
    assert list(figure.axes[1].lines[0].get_ydata()) == [80.0, 81.0, 82.5, 79.5]
    assert "v3-Large: Full 80.0, Full+ 81.0, 8 bits 82.5, 4 bits 79.5" in figure.alt
    plt.close("all")


def test_a_network_is_shown_on_the_seeds_that_all_its_bit_widths_have():
    found = {(V3, 8): [run(8, end=82.0)], (V3, 4): [run(4, end=80.0), run(4, seed=1, end=60.0)],
             ("mobilenet_v1", 4): [run(4, model="mobilenet_v1"), run(4, seed=1, model="mobilenet_v1")]}
    table = analysis.accuracy.accuracies(found)
    assert table[table.network == "MobileNet-v3-Large"].seed.unique().tolist() == [0]
    assert table[table.network == "MobileNet-v1"].seed.unique().tolist() == [0, 1]
    points = analysis.accuracy.points(found).set_index(["network", "w_bits"]).accuracy
    assert points["MobileNet-v3-Large", 4] == 80.0
