"""QIL, Table 1: explanations of the losses at few bits, on made-up runs."""
import pytest
from conftest import leans
from matplotlib import pyplot as plt
from test_qil_tables import run

from paperlib import analysis, claims, plots
from paperlib.claims import CONTRADICTED, SUPPORTED, experiments

BEGUN = "twice the width, trained before"
ENDS = {"nothing changed": (70.0, 60.0, 75.0), "a tenth of the rate": (65.0, 61.0, 75.0),    # A2W2, A1W2, float
        "5 times the epochs": (75.9, 70.0, 76.0), "5 times, step by step": (69.0, 50.0, 76.0),
        "twice the width": (79.0, 79.5, 80.0), BEGUN: (85.0, 70.0, 90.0)}


@pytest.fixture
def table():
    return analysis.qil_reasons.losses({changed: {cell: [run(r, end) for r in recipes]
                                        for (cell, recipes), end in zip(cells.items(), ENDS[changed])}
                              for changed, cells in experiments.qil_reasons().items()})


def test_what_is_changed():
    def what(recipe):
        last = recipe.phases[-1]
        return recipe.width, last.epochs, len(recipe.phases), last.scheme.w_bits, last.scheme.a_bits

    cells = {changed: [what(group[0]) for group in wanted.values()]
             for changed, wanted in experiments.qil_reasons().items()}
    assert cells["nothing changed"] == [(0.125, 5, 2, 2, 2), (0.125, 5, 2, 2, 1), (0.125, 5, 2, 32, 32)]
    slower = [[group[0].phases[-1].lr for group in experiments.qil_reasons()[changed].values()]
              for changed in ("nothing changed", "a tenth of the rate")]
    assert slower == [[0.1, 0.1, 0.1], [0.01, 0.01, 0.1]]
    assert cells["a tenth of the rate"] == cells["nothing changed"]
    assert cells["5 times the epochs"] == [(0.125, 25, 2, 2, 2), (0.125, 25, 2, 2, 1), (0.125, 25, 2, 32, 32)]
    assert cells["5 times, step by step"] == [(0.125, 5, 6, 2, 2), (0.125, 5, 7, 2, 1), (0.125, 25, 2, 32, 32)]
    assert cells[BEGUN] == cells["twice the width"] == [(0.25, 5, 2, 2, 2), (0.25, 5, 2, 2, 1), (0.25, 5, 2, 32, 32)]
    assert all(group[0].recorded for wanted in experiments.qil_reasons().values() for group in wanted.values())


def test_a_loss_is_against_the_float_network_of_its_own_width_and_length(table):
    losses = table.pivot_table("loss", "changed", "bits", sort=False).round(6)
    assert losses.to_dict("index") == {
        "nothing changed": {"A2W2": 5.0, "A1W2": 15.0}, "a tenth of the rate": {"A2W2": 10.0, "A1W2": 14.0},
        "5 times the epochs": {"A2W2": 0.1, "A1W2": 6.0}, "5 times, step by step": {"A2W2": 7.0, "A1W2": 26.0},
        "twice the width": {"A2W2": 1.0, "A1W2": 0.5}, BEGUN: {"A2W2": 5.0, "A1W2": 20.0}}
    assert table.set_index(["changed", "bits"]).epochs["5 times, step by step"].tolist() == [25, 30]


def test_words_say_what_is_enough(table):
    assert analysis.qil_reasons.in_words(table, claims.qil_tables.allowance).splitlines() == [
        "* **A tenth of the rate**: A2W2 loses 10.0 points instead of 5.0, A1W2 loses 14.0 points instead of 15.0. "
        "As little as in the paper: neither.",
        "* **5 times the epochs**: A2W2 loses 0.1 points instead of 5.0, A1W2 loses 6.0 points instead of 15.0. "
        "As little as in the paper: A2W2.",
        "* **5 times, step by step**: A2W2 loses 7.0 points instead of 5.0, A1W2 loses 26.0 points instead of 15.0. "
        "As little as in the paper: neither.",
        "* **Twice the width**: A2W2 loses 1.0 points instead of 5.0, A1W2 loses 0.5 points instead of 15.0. "
        "As little as in the paper: A1W2.",
        f"* **T{BEGUN[1:]}**: A2W2 loses 5.0 points instead of 5.0, A1W2 loses 20.0 points instead of 15.0. "
        "As little as in the paper: neither."]


def test_picture(table):
    figure = plots.qil_reasons.draw(table, footnote="made up")
    for ax, printed, losses in zip(figure.axes, (0.16, 1.17), ([5, 10, 0.1, 7, 1, 5], [15, 14, 6, 26, 0.5, 20])):
        assert [bar.get_width() for bar in ax.patches] == pytest.approx(losses)
        assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [printed]
    assert [text.get_text() for text in figure.axes[0].texts][2] == "0.1  (75.9 of 76.0 %)"
    assert [t.get_text().split("\n")[0] for t in figure.axes[0].get_yticklabels()] == list(ENDS)
    assert "A1W2: nothing changed 15.0, a tenth of the rate 14.0" in figure.alt
    plt.close("all")


PART_ENDS = dict(zip(experiments.qil_parts(), (87.0, 86.0, 86.5, 83.0, 87.2)))


@pytest.fixture
def parts():
    return {part: [run(r, PART_ENDS[part]) for r in recipes] for part, recipes in experiments.qil_parts().items()}


def test_each_part_is_left_out_alone():
    whole, *others = [recipes[0].phases[-1] for recipes in experiments.qil_parts().values()]

    def differing(part, one, other):
        return {(part, name): (getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__
                if getattr(one, name) != getattr(other, name) and name != "scheme"}

    found = [differing("phase", whole, other) | differing("scheme", whole.scheme, other.scheme) for other in others]
    assert found == [{("scheme", "weight_options"): ({"normalized": True}, {})}, {("phase", "linear_lr"): (0.01, 1.0)},
                     {("scheme", "quantize_first"): (False, True), ("scheme", "quantize_last"): (False, True)},
                     {("phase", "quantizer_lr"): (0.1, 0.0)}]


def test_each_part_has_its_claim(parts):
    verdicts = claims.qil_tables.verdicts_on_parts(parts, "recorded")
    assert [leans(v) for v in verdicts] == [SUPPORTED, SUPPORTED, SUPPORTED, CONTRADICTED]
    assert [set(v.differences.difference) for v in verdicts] == [{1.0}, {0.5}, {4.0}, {-0.2}]


def test_trainings_that_fail_are_evidence_where_a_part_is_there_to_prevent_it(parts):
    failed = {part: [run(r.recipe, 10.0) for r in runs] for part, runs in parts.items()}
    verdicts = claims.qil_tables.verdicts_on_parts(failed | {"as in the table": parts["as in the table"]}, "recorded")
    assert [v.reason == "failed training" for v in verdicts] == [False, False, False, True]
    assert set(verdicts[0].differences.difference) == set(verdicts[2].differences.difference) == {77.0}


def test_picture_of_the_parts(parts):
    figure = plots.qil_reasons.draw_parts(analysis.qil_reasons.parts(parts), footnote="made up")
    ax, = figure.axes
    assert [t.get_text() for t in ax.texts] == ["87.0", "86.0  (-1.0 points)", "86.5  (-0.5 points)",
                                                "83.0  (-4.0 points)", "87.2  (+0.2 points)"]
    assert [t.get_text() for t in ax.get_yticklabels()] == list(PART_ENDS)
    plt.close("all")


def test_a_part_whose_trainings_fail_is_named_in_the_picture(parts):
    parts["weights not normalized"] = [run(r.recipe, 10.0) for r in parts["weights not normalized"]]
    figure = plots.qil_reasons.draw_parts(analysis.qil_reasons.parts(parts), footnote="made up")
    ax, = figure.axes
    assert "failed training: 10.0, 10.0, 10.0" in [t.get_text() for t in ax.texts]
    assert figure.takeaway == "Failed trainings: 3 of 3 with weights not normalized"
    plt.close("all")
