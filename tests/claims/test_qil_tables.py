"""QIL, Tables 1 and 2: tables and pictures of made-up runs."""
import pandas as pd
import pytest
from conftest import ends_at
from matplotlib import pyplot as plt

from paperlib import analysis, plots
from paperlib.claims import experiments, paper_tables

FULL, LONGER = "float network", "float network trained as long"
ENDS = {"QIL": 80.0, "TTQ": 78.0, "TWN": 77.0, "BC": 74.0, "BWN": 73.0, "DoReFa": 72.0, "XNOR": 60.0, "float": 85.0}


def run(recipe, end, full=82.0):
    return ends_at(recipe, end, {"float": full}, averaged=5)


def table1(seeds=2):
    """Ten points for each bit of activations up to four, two for a teacher, one for each seed."""
    return {(w, a, share): [run(r, 40.0 + 10 * min(a, 4) + 2 * (share > 0) + r.seed) for r in recipes]
            for (w, a, share), recipes in experiments.qil_table1("laptop", seeds).items()}


def table2(seeds=2):
    return {key: [run(r, ENDS[key[0]] + r.seed, full=50.0 if key[0] == "XNOR" else 82.0) for r in recipes]
            for key, recipes in experiments.qil_table2("laptop", seeds).items()}


@pytest.fixture
def first():
    return analysis.qil_tables.accuracies(table1())


@pytest.fixture
def second():
    return analysis.qil_tables.accuracies(table2())


def test_each_cell_and_the_float_network_once(first):
    assert len(first) == 2 * (21 + 1)
    assert set(first[first.method == "QIL"].groupby(["bits", "distillation"]).size()) == {2}
    cell = first[(first.bits == "A1W3") & (first.distillation == 0.5) & (first.seed == 1)].iloc[0]
    assert (cell.w_bits, cell.a_bits, cell.accuracy, cell.averaged) == (3, 1, 53.0, 58.0)
    phases = experiments.qil_table1("laptop", 1)[3, 1, 0.5][0].phases
    assert cell.epochs == sum(p.epochs for p in phases)
    floats = first[first.method == FULL]
    assert set(floats.epochs) == {phases[0].epochs} and set(floats.accuracy) == {82.0}


def test_a_float_network_that_was_there_before_has_no_averaged_weights():
    [recipe] = experiments.qil_table1("pretrained", 1)[2, 2, 0.5]
    begun = run(recipe, 80.0)
    begun.history = begun.history[~((begun.history.phase == "float") & (begun.history.split == "val_ema"))]
    table = analysis.qil_tables.accuracies({(2, 2, 0.5): [begun]}).set_index("method")
    assert table.averaged.to_dict() == pytest.approx({FULL: float("nan"), "QIL": 85.0}, nan_ok=True)
    assert table.epochs.to_dict() == {FULL: 0, "QIL": 5}
    figure = plots.qil_tables.draw_table1(table.reset_index(), footnote="made up")
    assert figure.axes[0].get_title(loc="left") == "ours: 5 epochs from a trained network"
    plt.close("all")


def test_both_tables_together_share_what_they_share(first, second):
    together = analysis.qil_tables.accuracies(table1() | table2())
    assert len(together) == len(first) + len(second) - 2 * 3       # the float network, A2W2 and A1W2 with lambda 0.5
    assert together.method.drop_duplicates().tolist() == [FULL, "QIL", LONGER, "TTQ", "TWN", "BC", "BWN", "DoReFa",
                                                          "XNOR"]


def test_the_float_network_of_xnor_is_another_one(second):
    assert set(second[second.method == FULL].accuracy) == {82.0}
    alone = analysis.qil_tables.accuracies({key: group for key, group in table2().items() if key[0] == "XNOR"})
    assert set(alone.method) == {"XNOR"}


def test_table_1_is_laid_out_as_the_papers(first):
    longer = analysis.qil_tables.accuracies({("float", 32, 32): table2()["float", 32, 32]})
    ours = analysis.qil_tables.by_bits(pd.concat([first, longer]))
    paper = analysis.qil_tables.by_bits(paper_tables.qil_accuracies())
    bits = ["A1W2", "A1W3", "A2W2", "A3W3", "A4W4", "A5W5", "A8W8"]
    assert list(ours) == bits + [FULL, LONGER] and list(paper) == bits + [FULL]
    assert list(ours.index) == list(paper.index) == ["λ = 0", "λ = 0.5", "λ = 1"]
    assert ours.loc["λ = 0.5", "A2W2"] == "62.5 ± 0.7 (n=2)" and ours.loc["λ = 1", LONGER] == "85.5 ± 0.7 (n=2)"
    assert paper.loc["λ = 0"].tolist() == ["91.24", "90.85", "93.05", "92.96", "92.79", "93.47", "93.06", "94.06"]


def test_table_2_is_laid_out_as_the_papers(second):
    ours, paper = analysis.qil_tables.by_method(second), analysis.qil_tables.by_method(paper_tables.qil_accuracies())
    assert list(paper.index) == [FULL, "QIL", "TTQ", "TWN", "BC", "BWN", "QIL", "WAGE", "QIL", "QIL", "QIL", "XNOR"]
    assert list(ours.index) == [FULL, LONGER, "QIL", "TTQ", "TWN", "BC", "BWN", "DoReFa"] + ["QIL"] * 4 + ["XNOR"]
    assert paper["bits of activations"].tolist() == [32] * 6 + [8, 8, 4, 2, 1, 1]
    assert paper.loc["QIL", "accuracy (%)"].tolist() == ["94.12", "93.96", "94.11", "93.90", "92.89"]
    assert ours.loc["TTQ", "accuracy (%)"] == "78.5 ± 0.7 (n=2)" and "epochs" in ours and "epochs" not in paper


def test_losses_are_of_the_same_seed(first):
    longer = analysis.qil_tables.accuracies({("float", 32, 32): table2()["float", 32, 32][1:]})
    losses = analysis.qil_tables.losses(pd.concat([first, longer[longer.method == LONGER]]))
    losses = losses.set_index(["against", "distillation", "bits", "seed"]).loss
    assert losses[FULL, 0.0, "A4W4", 0] == 2.0 and losses[FULL, 1.0, "A4W4", 1] == -1.0
    assert losses[LONGER, 0.0, "A1W2", 1] == 86.0 - 51.0 and len(losses) == 3 * 21      # one has no seed 0


def test_what_hardly_learnt_is_named():
    found = {key: [run(r, 19.9 if key in ((2, 1, 0.5), ("XNOR", 1, 1)) else 20.0) for r in recipes] for key, recipes in
             (experiments.qil_table1("laptop", 1) | experiments.qil_table2("laptop", 1)).items()}
    low = analysis.qil_tables.near_guessing(analysis.qil_tables.accuracies(found))
    assert low == ["QIL A1W2 with λ = 0.5", "XNOR A1W1"]


def test_missing_seeds_show_in_n():
    found = table1(3)
    found[2, 2, 0.5] = found[2, 2, 0.5][1:]
    found[2, 1, 1.0] = found[2, 1, 1.0][:1]
    shown = analysis.qil_tables.by_bits(analysis.qil_tables.accuracies(found))
    assert shown.loc["λ = 0.5", "A2W2"] == "63.5 ± 0.7 (n=2)" and shown.loc["λ = 1", "A1W2"] == "52.0 (n=1)"
    assert shown.loc["λ = 0", FULL] == "82.0 ± 0.0 (n=3)"


def test_picture_of_table_1(first):
    figure = plots.qil_tables.draw_table1(first, footnote="made up")
    ours, paper = figure.axes
    means = {line.get_label(): list(line.get_ydata()) for line in ours.lines}
    assert means["λ = 0"] == [50.5, 50.5, 60.5, 70.5, 80.5, 80.5, 80.5] and means[FULL] == [82.0, 82.0]
    assert ours.get_ylim()[1] < paper.get_ylim()[0] and len(paper.lines) == 3 + 1 and len(ours.lines) == 6 + 1
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "ours: 5 epochs after 24 in float", "the paper: 200 epochs, all images"]
    assert "lambda 0.5: A1W2 52.5, A2W2 62.5" in figure.alt and "float network 82.0; the paper" in figure.alt
    plt.close("all")


def test_picture_of_table_2(second):
    figure = plots.qil_tables.draw_table2(second, footnote="made up")
    texts = [[text.get_text() for text in ax.texts] for ax in figure.axes]
    assert texts[0] == ["80.5", "78.5", "77.5", "74.5", "73.5", "72.5", "80.5", "80.5", "80.5", "80.5", "60.5",
                        "no number"]
    assert texts[1][:3] == ["94.12", "93.56", "92.56"] and texts[1][-1] == "no number"
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[5:8] == ["DoReFa  A32W1", "QIL  A8W2", "WAGE  A8W2"]
    assert "TTQ A32W2 78.5, TWN" in figure.alt and "WAGE" not in figure.alt
    plt.close("all")
