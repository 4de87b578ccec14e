"""QIL's Table 3: the paper's numbers, ours, and what is said of them."""
import pandas as pd
import pytest

from paperlib import claims, items, plots
from paperlib.claims import qil_photographs as judged
from paperlib.plots.qil_photographs import COLUMNS


def table(loss, taught):
    """Accuracies from what each bit-width loses without distillation, and what lambda 0.5 adds to it."""
    rows = [(n, 32, 0.0, 60.0) for n in ("ResNet-18", "AlexNet")]
    rows += [(n, b, share, 60.0 - loss[b] + taught * (share > 0))
             for n in ("ResNet-18", "AlexNet") for b in (5, 4, 3, 2) for share in (0.0, 0.5)]
    return pd.DataFrame(rows, columns=COLUMNS)


GOOD = table({5: 0, 4: 0.2, 3: 1.0, 2: 4}, -0.5)


def test_the_papers_own_table_agrees_with_itself():
    paper = plots.paper_photographs()
    assert len(paper) == 2 * (3 * 3 + 1)
    assert judged.qil_photographs_allowance() == 1.0
    for claim in (judged.distillation_does_not_help, judged.few_bits_keep_full_accuracy, judged.two_bits_cost_most):
        assert claim(paper).verdict == claims.REPRODUCED, claim
    shown = plots.photographs_table(paper)
    assert shown.loc["A2W2", ("ResNet-18", "λ = 0")] == "65.4 (+3.8)"
    assert shown.loc["float", ("AlexNet", "λ = 0")] == "58.1" and shown.loc["float", ("AlexNet", "λ = 1")] == ""


@pytest.mark.parametrize("claim, bad", [
    (judged.distillation_does_not_help, table({5: 0, 4: 0.2, 3: 1.0, 2: 4}, 0.1)),
    (judged.few_bits_keep_full_accuracy, table({5: 0, 4: 0.2, 3: 1.1, 2: 4}, -0.5)),
    (judged.two_bits_cost_most, table({5: 0, 4: 1, 3: 1, 2: 4}, -0.5))])
def test_claims_hold_and_fail(claim, bad):
    assert claim(GOOD).verdict == claims.REPRODUCED and claim(bad).verdict == claims.NOT_REPRODUCED
    assert claim(GOOD, testable=False).verdict == claims.NOT_TESTABLE


def test_picture_and_words():
    figure = plots.qil_photographs(GOOD, footnote="made up")
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == [f"{n}, {whose}" for whose in ("the paper, ImageNet", "ours") for n in ("ResNet-18", "AlexNet")]
    text = plots.describe_qil_photographs(GOOD)
    assert "ResNet-18: 60.0 in float, with lambda 0 56.0 at 2 bits, 59.0 at 3 bits" in text and "69.2 in float" in text


def test_a_network_that_was_not_run_is_said_to_be_missing():
    table = GOOD[GOOD.network == "ResNet-18"]
    texts = [text.get_text() for ax in plots.qil_photographs(table, footnote="made up").axes for text in ax.texts]
    assert "AlexNet: none of ours" in texts and list(plots.photographs_table(table).columns.levels[0]) == ["ResNet-18"]
    assert "AlexNet" not in plots.describe_qil_photographs(table).split("Lower row")[1]


def test_runs_go_down_from_five_bits():
    for model, cells in items.qil_photographs().items():
        assert [bits for bits, share in cells if not share] == [5, 4, 3, 2]
        for (bits, share), [recipe] in cells.items():
            assert recipe.recorded and recipe.model == model and recipe.weights is None and recipe.input_size == 96
            assert recipe.phases == cells[2, share][0].phases[:len(recipe.phases)]
            assert recipe.phases[-1].scheme.w_bits == recipe.phases[-1].scheme.a_bits == bits
