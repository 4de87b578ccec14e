"""The sentence above a figure says what its table says, and turns round with it."""
import json

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from paperlib.claims import CONTRADICTED, NOT_ENOUGH, SUPPORTED
from paperlib.plots import (
    ablation,
    accuracy,
    aiwq,
    bn_folding,
    context,
    cost_accuracy,
    deploy,
    hswish,
    loss_curves,
    pact_vs_duq,
    qil_intervals,
    qil_photographs,
    qil_pruning,
    qil_reasons,
    qil_tables,
    scoreboard,
)
from paperlib.plots.style import finish
from paperlib.runs.outcomes import FAILED, NOT_RECORDED
from paperlib.system.paths import ROOT

ALT = "A figure without anything in it that could be seen."


def test_a_takeaway_is_above_the_panels_and_above_their_legend():
    figure, ax = plt.subplots()
    assert finish(figure, ALT, takeaway="One sentence").get_suptitle() == "One sentence"
    ax.plot([1], label="a line")
    figure.legend(loc="outside upper center")
    finish(figure, ALT, takeaway="Another")
    assert figure.legends[0].get_title().get_text() == "Another"
    finish(figure, ALT, takeaway=9 * "long words ")
    assert [len(line) for line in figure.legends[0].get_title().get_text().splitlines()] == [54, 43]
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
    longer = means.set_axis(index.set_levels(["4 bits", accuracy.AS_LONG], level="precision"))
    assert accuracy._within(longer, "4 bits", 1.5).endswith("1.5 points below a float network trained as long")
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


def test_published_results_above_profits_are_counted():
    rows = [("v1", 4, "DSQ", "as published", 60.0), ("v2", 4, "PROFIT", "as published", 71.5),
            ("v2", 4, "SAQ", "as published", 72.0), ("v2", 4, "LSQ", "as published", 70.0),
            ("v2", 4, "LSQ", "rerun by others", 73.0)]
    table = pd.DataFrame(rows, columns=["network", "bits", "method", "kind", "accuracy"])
    assert context._place(table) == "1 of 2 other published results for v2 at 4 bits are above PROFIT's 71.5 %"
    assert context._place(table[table.method != "PROFIT"]) == ""


def test_what_four_bits_save():
    rows = [("v1", 8, 60.0, 10.0), ("v1", 4, 59.0, 4.0), ("v2", 8, 50.0, 8.0), ("v2", 4, 50.5, 2.0), ("v3", 4, 1.0, 1)]
    table = pd.DataFrame(rows, columns=["network", "w_bits", "accuracy", "gbops"])
    assert cost_accuracy._saving(table) == ("Here 4 bits take 25% to 40% of the bit operations of 8 bits; accuracy "
                                            "changes by -1.0 to +0.5 points")
    assert cost_accuracy._saving(table[table.w_bits == 4]) == ""


@pytest.mark.parametrize("accuracy, words", [(66.8, "are equal, 66.8 %"), (66.84, "are equal, 66.8 %"),
                                             (66.0, "are within 0.8 points")])
def test_the_smallest_form(accuracy, words):
    table = pd.DataFrame({"form": ["float", "packed"], "bytes": [100, 19], "accuracy": [66.8, accuracy]})
    assert deploy._sizes(table) == ("The smallest form (packed) has 19% of the bytes; the accuracies of all 2 forms "
                                    f"{words}")


def test_what_qil_loses_and_its_place_among_others():
    def table(*accuracies):
        rows = [("QIL", "A8W8", 8, 8), ("QIL", "A1W2", 2, 1), ("QIL", "A32W2", 2, 32), ("TWN", "A32W2", 2, 32)]
        return pd.DataFrame([(*row, 0.0, accuracy, "") for row, accuracy in zip(rows, accuracies)],
                            columns=["method", "bits", "w_bits", "a_bits", "distillation", "accuracy", "outcome"])

    ours, paper = table(72.0, 60.0, 70.0, 71.0), table(94.0, 91.0, 93.0, 92.0)
    assert qil_tables._fall(ours, paper) == "From A8W8 to A1W2 QIL loses 12.0 points here, 3.0 in the paper (λ = 0)"
    assert qil_tables._fall(ours[:1], paper) == ""
    assert qil_tables._rank(ours, paper) == ("With float activations QIL is number 2 of 2 methods here, number 1 of 2 "
                                             "methods in the paper")
    assert qil_tables._rank(ours[:3], paper) == ""


def test_how_far_upper_bounds_move():
    ends = pd.DataFrame({"role": ["activation", "weight", "weight"], "M": [1.01, 0.8, 2.1], "begin": [1.0, 1.0, 2.0],
                         "epoch": 5})
    assert qil_intervals._moves(ends) == ("In 5 epochs an upper bound moves by at most 1.0% for activations and 20.0% "
                                          "for weights")


def test_what_intervals_prune():
    assert qil_intervals._pruned(pd.Series({5: 0.03, 3: 0.2})) == ("The interval prunes 3% of this layer's weights at "
                                                                   "5 bits and 20% at 3")
    index = pd.MultiIndex.from_product([["weight", "activation"], [3, 5]], names=["role", "bits"])
    means = pd.DataFrame({"end": [18.0, 6.0, 54.0, 48.0], "start": [19.0, 5.0, 56.0, 47.0]}, index)
    assert qil_pruning._pruned(means) == ("At 3 bits 18 % of the weights and 54 % of the activations are pruned; "
                                          "before training, 19 and 56 %")


def test_what_photographs_lose():
    def table(*accuracies):
        return pd.DataFrame({"network": "ResNet-18", "distillation": 0, "bits": [4, 2], "accuracy": accuracies,
                             "outcome": ""})

    assert qil_photographs._fall(table(70.0, 60.0), table(71.0, 66.0)) == (
        "From 4 to 2 bits ResNet-18 loses 10.0 points here, 5.0 in the paper (λ = 0)")
    assert qil_photographs._fall(table(70.0, float("nan")), table(71.0, 66.0)) == ""


def test_the_change_with_the_smallest_loss():
    index = pd.MultiIndex.from_product([["A2W2", "A1W2"], ["as before", "twice the width"]], names=["bits", "changed"])
    means = pd.Series([4.6, 2.6, 11.2, float("nan")], index)
    assert qil_reasons._smallest(means) == ("QIL loses fewest points at A2W2 with “twice the width” (2.6) and at A1W2 "
                                            "with “as before” (11.2)")


def test_claims_are_counted():
    verdicts = pd.Series([SUPPORTED, SUPPORTED, CONTRADICTED, NOT_ENOUGH])
    assert scoreboard._sum(verdicts) == "Of 4 claims 2 are supported, 1 contradicted and 1 not decided"


def test_methods_in_the_order_of_their_losses():
    ends = pd.DataFrame({"phase": "weights", "method": ["PACT", "LSQ", "QIL"], "val loss": [1.2, 1.1, float("nan")]})
    assert pact_vs_duq._order(ends) == "The validation losses end at LSQ 1.100, PACT 1.200"
    assert pact_vs_duq._order(ends[1:]) == ""


@pytest.mark.parametrize("file", sorted((ROOT / "figures" / "recorded").glob("*.json")), ids=lambda file: file.stem)
def test_every_recorded_figure_has_a_takeaway(file):
    facts = json.loads(file.read_text(encoding="utf-8"))
    assert len(facts["takeaway"].split()) > 5 or NOT_RECORDED in facts["alt"]


def test_the_part_that_fails_or_costs_most_is_named():
    table = pd.DataFrame({"part": ["none", "none", "first", "first", "last"], "outcome": "",
                          "loss": [0.0, 0.0, 1.0, 3.0, 0.5]})
    assert qil_reasons._worst(table) == "Most is lost with first: 2.0 points"
    assert qil_reasons._worst(table.assign(loss=0.0)) == ""
    table.loc[[2, 4], "outcome"] = FAILED
    assert qil_reasons._worst(table) == "Failed trainings: 1 of 2 with first, 1 of 1 with last"
