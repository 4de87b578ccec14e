"""QIL's Table 3: the paper's numbers, ours, and what is said of them."""
import pandas as pd
import pytest
from conftest import leans
from matplotlib import pyplot as plt
from test_qil_tables import run

from paperlib import analysis, claims, plots
from paperlib.analysis.qil_photographs import COLUMNS
from paperlib.claims import experiments, paper_tables
from paperlib.claims import qil_photographs as judged


def table(loss, taught):
    """Accuracies from what each bit-width loses without distillation, and what lambda 0.5 adds to it."""
    rows = [(n, 32, 0.0, 60.0) for n in ("ResNet-18", "AlexNet")]
    rows += [(n, b, share, 60.0 - loss[b] + taught * (share > 0))
             for n in ("ResNet-18", "AlexNet") for b in (5, 4, 3, 2) for share in (0.0, 0.5)]
    return pd.DataFrame(rows, columns=COLUMNS).assign(outcome="")


GOOD = table({5: 0, 4: 0.2, 3: 1.0, 2: 4}, -0.5)


def found(loss, taught):
    """Runs with the accuracies of :func:`table`."""
    return {model: {(bits, share): [run(r, 60.0 - loss[bits] + taught * (share > 0), full=60.0) for r in recipes]
                    for (bits, share), recipes in cells.items()}
            for model, cells in experiments.qil_photographs().items()}


def test_the_papers_own_table():
    paper = paper_tables.qil_photographs_accuracies()
    assert len(paper) == 2 * (3 * 3 + 1)
    assert judged.allowance() == 1.0
    shown = analysis.qil_photographs.summary(paper)
    assert shown.loc["A2W2", ("ResNet-18", "λ = 0")] == "65.4 (+3.8)"
    assert shown.loc["float", ("AlexNet", "λ = 0")] == "58.1" and shown.loc["float", ("AlexNet", "λ = 1")] == ""


LOSS = {5: 0, 4: 0.2, 3: 1.0, 2: 4}


@pytest.mark.parametrize("claim, loss, taught, comparisons", [
    (judged.distillation_does_not_help, LOSS, 1.1, 6),
    (judged.few_bits_keep_full_accuracy, {**LOSS, 3: 1.1}, -0.5, 4),
    (judged.two_bits_cost_most, {**LOSS, 4: 1}, -0.5, 8)])
def test_claims_hold_and_fail(claim, loss, taught, comparisons):
    good = claim(found(LOSS, -0.5))
    assert leans(good) == claims.SUPPORTED and len(good.table()) == comparisons
    assert leans(claim(found(loss, taught))) == claims.CONTRADICTED


def test_one_network_that_guesses_leaves_no_verdict():
    guesses = found({**LOSS, 2: 50}, -0.5)
    assert judged.two_bits_cost_most(guesses).reason == claims.FAILED
    assert leans(judged.few_bits_keep_full_accuracy(guesses)) == claims.SUPPORTED     # it is none of these
    ours = analysis.qil_photographs.accuracies(guesses)
    assert analysis.qil_photographs.summary(ours).loc["A2W2", ("AlexNet", "λ = 0")] == "failed training"
    assert "failed training at 2 bits" in plots.qil_photographs.draw(ours, footnote="made up").alt
    plt.close("all")


def test_means_are_over_the_seeds_that_did_not_fail():
    rows = [("AlexNet", b, 0.0, a, seed, outcome) for b, seed, a, outcome in (
        (32, 0, 60.0, ""), (32, 1, 70.0, ""), (2, 0, 50.0, ""), (2, 1, 10.0, claims.FAILED))]
    ours = pd.DataFrame(rows, columns=[*COLUMNS, "seed", "outcome"])
    shown = analysis.qil_photographs.summary(ours)["AlexNet", "λ = 0"]
    assert shown.to_dict() == {"A2W2": "50.0 (+10.0), 1 failed", "float": "65.0"}
    panel = plots.qil_photographs.draw(ours, footnote="made up").axes[3]
    assert [line.get_ydata()[0] for line in panel.lines if len(line.get_ydata())] == [
        65.0, 10.0, 50.0, 50.0]    # float, failed, seed, mean
    plt.close("all")


def test_picture_and_words():
    figure = plots.qil_photographs.draw(GOOD, footnote="made up")
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == [f"{n}, {whose}" for whose in ("the paper, ImageNet", "ours") for n in ("ResNet-18", "AlexNet")]
    assert "ours: ResNet-18 56.0 at 2 bits, 59.0 at 3 bits" in figure.alt and "69.2 in float" in figure.alt


def test_a_network_that_was_not_run_is_said_to_be_missing():
    table = GOOD[GOOD.network == "ResNet-18"]
    figure = plots.qil_photographs.draw(table, footnote="made up")
    assert "AlexNet: none of ours" in [text.get_text() for ax in figure.axes for text in ax.texts]
    assert list(analysis.qil_photographs.summary(table).columns.levels[0]) == ["ResNet-18"]
    assert "AlexNet" not in figure.alt.split("ours: ")[1]


def test_runs_go_down_from_five_bits():
    for model, cells in experiments.qil_photographs().items():
        assert [bits for bits, share in cells if not share] == [5, 4, 3, 2]
        for (bits, share), (recipe, *further) in cells.items():
            assert [r.seed for r in (recipe, *further)] == list(range(len(further) + 1)) and len(further) > 1
            assert recipe.recorded and recipe.model == model and recipe.weights is None and recipe.input_size == 96
            assert recipe.phases == cells[2, share][0].phases[:len(recipe.phases)]
            assert recipe.phases[-1].scheme.w_bits == recipe.phases[-1].scheme.a_bits == bits
