"""The sentence above a figure says what its table says, and turns round with it."""
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from paperlib.plots import ablation, accuracy, aiwq, bn_folding, hswish, loss_curves, pact_vs_duq
from paperlib.plots.style import finish

ALT = "A figure without anything in it that could be seen."


def test_a_takeaway_is_above_the_panels_and_above_their_legend():
    figure, ax = plt.subplots()
    assert finish(figure, ALT, takeaway="One sentence").get_suptitle() == "One sentence"
    ax.plot([1], label="a line")
    figure.legend(loc="outside upper center")
    finish(figure, ALT, takeaway="Another")
    assert figure.legends[0].get_title().get_text() == "Another"
    plt.close(figure)


@pytest.mark.parametrize("middle, words", [(4e-6, "Every bit-width less has a larger AIWQ"),
                                           (1e-6, "AIWQ does not grow at every bit-width less")])
def test_aiwq_grows_or_does_not(middle, words):
    ends = pd.Series({2: 4e-4, 8: 2e-6, 4: middle})
    assert aiwq._growth(ends) == f"{words}: 2 bits have 200 times the AIWQ of 8 bits"
    assert aiwq._growth(pd.Series({4: 1e-6})) == ""


@pytest.mark.parametrize("values, count", [([1, 5, 1, 1], 1), ([1, 1, 1, 1], 2), ([3, 2, 2, 2], 2), ([1], 1)])
def test_layers_that_have_half_of_the_sum(values, count):
    assert aiwq._half(pd.Series(values)) == count


def test_the_last_rung_is_compared_with_the_one_before_it_on_shared_seeds():
    rows = [(3, "+ teacher", 0, 80.0), (3, "+ teacher", 1, 81.0), (3, "+ PROFIT", 0, 81.0), (3, "+ PROFIT", 1, 81.5),
            (3, "+ PROFIT", 2, 99.0), (2, "+ teacher", 0, 70.0), (2, "+ PROFIT", 0, 69.0), (2, "PACT", 0, 10.0)]
    rows.append((3, "float", 0, 99.0))
    table = pd.DataFrame(rows, columns=["bits", "row", "seed", "accuracy"])
    table = pd.concat([table[table.row == row] for row in ("PACT", "+ teacher", "+ PROFIT", "float")])
    table["quantized"] = table.row.map({"float": ablation.UNQUANTIZED}).fillna("step by step")
    words = ablation._gain(table)
    assert words.startswith("PROFIT against teacher: ")
    assert "+0.8 points at 3 bits (n = 2)" in words and "-1.0 points at 2 bits (n = 1)" in words
    assert ablation._gain(table[table.row == "PACT"]) == ""
    assert ablation._gain(table[(table.row == "PACT") | (table.seed == 2)]) == "", "no seed has both"


def test_networks_within_the_margin_are_counted():
    index = pd.MultiIndex.from_product([["a", "b", "c"], ["Full", "4 bits"]], names=["network", "precision"])
    means = pd.Series([70.0, 69.0, 60.0, 61.0, 50.0, 40.0], index)
    assert accuracy._within(means, "4 bits", 1.5) == "At 4 bits, 2 of 3 networks end at most 1.5 points below Full"
    assert "0 of 2" in accuracy._within(means[[True, True, False, True, True, True]], "4 bits", 0.5)


def test_what_folding_changes():
    table = pd.DataFrame([(4, False, False, 60.0, 65.0), (4, True, False, 55.0, 65.5), (4, True, True, 1.0, 1.0),
                          (8, True, False, 2.0, 2.0)], columns=["bits", "folded", "per_channel", "before", "after"])
    assert bn_folding._cost(table) == ("At 4 bits per tensor folding changes the accuracy by -5.0 points at once, by "
                                       "+0.5 after training")
    assert bn_folding._cost(table[table.folded]) == ""


def test_fluctuation_is_measured_from_the_first_freezing_on():
    curves = [(method, "validation", 0, epoch, 1 + (epoch > 2), value)
              for method, values in (("PROFIT", [9, 1, 3, 2, 1]), (loss_curves.WITHOUT, [9, 1, 3, 5, 1]))
              for epoch, value in enumerate(values)]
    curves = pd.DataFrame(curves, columns=["method", "split", "seed", "epoch", "round", "value"])
    assert loss_curves._calm(curves) == ("With PROFIT the validation loss fluctuates by 0.000 nats an epoch, with "
                                         "nothing frozen by 2.000")
    assert loss_curves._calm(curves[curves.method == "PROFIT"]) == ""


def test_the_method_with_the_lower_loss_is_named_first():
    ends = pd.DataFrame({"phase": ["activations", "activations", "weights", "weights"],
                         "method": ["PACT", "DuQ", "PACT", "DuQ"], "val loss": [1.0, 2.0, 1.5, 1.25]})
    assert pact_vs_duq._ends(ends) == "DuQ ends with a lower validation loss than PACT, 1.250 and 1.500"
    assert pact_vs_duq._ends(ends.assign(**{"val loss": ends["val loss"] * -1})).startswith("PACT ends")
    assert pact_vs_duq._ends(ends[ends.method == "DuQ"]) == pact_vs_duq._ends(ends.replace(1.5, float("nan"))) == ""


def test_the_best_grid_in_the_median_layer():
    errors = {"these": pd.Series([1.0, 2, 30]), "those": pd.Series([8.0, 8, 8])}
    assert hswish._ratio(errors) == "In the median layer these make 25% of the error of those"
