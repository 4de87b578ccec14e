"""PROFIT's loss curves: the measure of fluctuation, the claims on made-up runs, and what is drawn."""
import pandas as pd
import pytest
from conftest import agree, leans, made_up
from matplotlib import pyplot as plt

from paperlib import analysis, plots, recipes
from paperlib.analysis.loss_curves import fluctuation, freezing_curve, val_fluctuation
from paperlib.claims import CONTRADICTED, SUPPORTED, experiments, loss_curves
from paperlib.errors import InputError
from paperlib.plots.loss_curves import PANELS
from paperlib.recipes import profiles

WITH_NORMS = profiles.changed("smoke", bn_epochs=1)
CALM, WILD = [2.0, 1.5, 1.0], [2.0, 3.0, 1.0]       # before a round, and after its two epochs
OPPOSITE = {"round 1": 50.0, "sampling": 50.0, "weights 4, norms after": 50.0}     # what must not be looked at


def run(order="aiwq", seed=0, *, val=(CALM, CALM), train=((1.2, 0.9), (1.1, 0.8)), accuracy=60.0):
    """A run with these losses in rounds 2 and 3.

    In all other phases, and in another split, PROFIT's loss is so high that a claim which looked there would turn.
    """
    other = 50.0 if order == "aiwq" else 0.0
    rows = [(name, epoch, split, "loss", other * (1 + epoch)) for name in OPPOSITE for epoch in (0, 1, 2)
            for split in ("val", "train") if epoch or split == "val"]
    for name, val_losses, train_losses in zip(("round 2", "round 3"), val, train):
        rows += [(name, epoch, "val", "loss", loss) for epoch, loss in enumerate(val_losses)]
        rows += [(name, epoch, "train", "loss", loss) for epoch, loss in enumerate(train_losses, 1)]
        rows += [(name, 2, split, "accuracy", other) for split in ("val", "train")]
        rows += [(name, 2, "val_ema", "loss", other)]
    rows += [("weights 4, norms after", epoch, "val", "accuracy", value) for epoch, value in ((1, 0.0), (2, accuracy))]
    return made_up(recipes.profit(profile=WITH_NORMS, order=order, seed=seed), rows)


@pytest.mark.parametrize("losses, expected", [
    ([5, 4, 1], 0), ([1, 2, 7], 0), ([3, 3], 0),                    # one way only, however steep
    ([2, 3, 2], 1), ([2, 5, 1], 2 * 3 / 2), ([1, 5, 3, 4], 2 * 2 / 3),      # twice the smaller of all rises, all falls
    ([9, 8] * 5, 2 * 4 / 9)])                                               # a saw: four rises of 1 in nine steps
def test_fluctuation_counts_the_way_that_leads_nowhere(losses, expected):
    assert fluctuation(losses) == pytest.approx(expected)
    assert fluctuation([10 - loss for loss in losses]) == pytest.approx(expected)
    assert fluctuation([3 * loss for loss in losses]) == pytest.approx(3 * expected)


def test_rounds_are_joined_and_the_first_is_left_out():
    made = run(val=([4.0, 3.0, 2.0], [2.0, 2.5, 1.0]), train=([8.0, 7.0], [6.0, 5.0]))
    assert freezing_curve(made, "val").tolist() == [4.0, 3.0, 2.0, 2.5, 1.0]
    assert freezing_curve(made, "train").tolist() == [8.0, 7.0, 6.0, 5.0]
    assert val_fluctuation(made) == pytest.approx(2 * 0.5 / 4)


def pair(one, other, seeds=(0, 1)):
    return [run("aiwq", s, **one) for s in seeds], [run("none", s, **other) for s in seeds]


LOW = {"val": ([2.0, 1.4, 0.9], [0.9, 1.1, 0.8]), "train": ([1.1, 0.8], [1.0, 0.7])}
HIGH = {"val": ([2.0, 1.6, 1.1], [1.1, 1.3, 1.0]), "train": ([1.3, 1.0], [1.2, 0.9])}


@pytest.mark.parametrize("claim", [loss_curves.profit_lies_lower, loss_curves.profit_ends_lower])
def test_lower_in_training_and_validation(claim):
    verdict = claim(*pair(LOW, HIGH))
    assert leans(verdict) == SUPPORTED and verdict.differences.difference.tolist() == pytest.approx([-0.2] * 4)
    assert leans(claim(*pair(HIGH, LOW))) == leans(claim(*pair(LOW, LOW))) == CONTRADICTED     # a tie is not lower
    for split in ("val", "train"):
        mixed = claim(*pair({**LOW, split: HIGH[split]}, {**HIGH, split: LOW[split]}))
        assert leans(mixed) == CONTRADICTED and agree(mixed) == (
            [2, 0] if split == "val" else [0, 2])
    with_one_bad_seed = [LOW, HIGH], [HIGH, LOW]
    runs = [[run(order, s, **curves) for s, curves in enumerate(group)]
            for order, group in zip(("aiwq", "none"), with_one_bad_seed)]
    assert leans(claim(*runs)) == CONTRADICTED


def test_lower_on_the_whole_and_lower_at_the_end_are_two_things():
    """The validation loss before the first epoch counts for neither."""
    late = {"val": ([9.0, 5.0, 5.0], [5.0, 5.0, 1.0]), "train": ([5.0, 5.0], [5.0, 1.0])}
    early = {"val": ([0.0, 1.0, 1.0], [1.0, 1.0, 2.0]), "train": ([1.0, 1.0], [1.0, 2.0])}
    assert leans(loss_curves.profit_ends_lower(*pair(late, early))) == SUPPORTED
    assert leans(loss_curves.profit_lies_lower(*pair(late, early))) == CONTRADICTED
    start = {**LOW, "val": ([99.0, *LOW["val"][0][1:]], LOW["val"][1])}
    found = loss_curves.profit_lies_lower(*pair(start, HIGH)).differences.difference.tolist()
    assert found == pytest.approx([-0.2] * 4)


def test_calmer():
    verdict = loss_curves.profit_calms(*pair({"val": (CALM, CALM)}, {"val": (WILD, CALM)}))
    # without PROFIT 2, 3, 1 and then 1.5, 1: rises of 1 and 0.5 in four steps; with it 2, 1.5, 1, 1.5, 1
    assert leans(verdict) == SUPPORTED and verdict.differences.difference.tolist() == pytest.approx([-2 / 4] * 2)
    assert leans(loss_curves.profit_calms(*pair({"val": (WILD, CALM)}, {"val": (CALM, CALM)}))) == CONTRADICTED
    assert leans(loss_curves.profit_calms(*pair({}, {}))) == CONTRADICTED


def four(**curves):
    """{order: runs of two seeds} with these validation losses in round 2."""
    return {order: [run(order, s, val=(curves.get(order, WILD), CALM)) for s in (0, 1)] for order in experiments.ORDERS}


@pytest.mark.parametrize("calm, agreed", [(("aiwq",), [2, 2]), (("aiwq", "random"), [2, 0]), ((), [0, 0]),
                                         (("aiwq", "reverse"), [0, 2]), (("reverse", "random"), [0, 0])])
def test_whether_the_order_matters(calm, agreed):
    found = four(**{order: CALM for order in calm})
    verdict = loss_curves.aiwq_order_calms(found)
    assert agree(verdict) == agreed
    assert leans(verdict) == (SUPPORTED if agreed == [2, 2] else CONTRADICTED)
    shown = ["" if n == 2 else "do not " for n in agreed]
    assert "these runs {}show that it matters which layers are frozen, and they {}show that AIWQ".format(*shown) in (
        loss_curves.orders_in_words(found, "laptop"))
    counts = [2 * (order in calm) for order in ("aiwq", "reverse", "random")]
    assert ("in {} of 2 seeds under PROFIT, in {} of 2 seeds in reverse order and in {} of 2 seeds in random"
            ).format(*counts) in (
        loss_curves.orders_in_words(found, "laptop"))
    assert "nothing follows" in loss_curves.orders_in_words(found, "smoke")


def test_table_of_the_orders():
    found = {"none": [run("none", s, val=(WILD, CALM), accuracy=50.0 + s) for s in (0, 1)],
             "aiwq": [run("aiwq", 0, val=(CALM, CALM)), run("aiwq", 1, val=(WILD, [1.0, 1.5, 0.5]))]}
    table = analysis.loss_curves.by_order(found).set_index("order")
    assert list(table.index) == ["nothing frozen", "PROFIT"]
    assert table.fluctuation.tolist() == pytest.approx([2 * 1.5 / 4, 2 * (0.5 + 1.5) / 2 / 4])
    assert table.loc["nothing frozen", "val accuracy (%), s.d."] == pytest.approx(0.5**0.5)
    assert table.loc["PROFIT", ["train loss", "val loss", "val accuracy (%)"]].tolist() == [0.8, 0.75, 60.0]
    assert table.n.tolist() == [2, 2] and table["calmer than nothing frozen"].tolist() == [0, 1]


@pytest.mark.parametrize("claim", [loss_curves.profit_lies_lower, loss_curves.profit_ends_lower,
                                   loss_curves.profit_calms])
def test_what_cannot_be_judged(claim):
    with pytest.raises(InputError, match="same seeds"):
        claim([run("aiwq", 0)], [run("none", 1)])


def histories(rounds=(2, 3, 1)):
    """Curves 1 / epoch + 0.1 * seed + a step for each method, over rounds of these lengths and a phase that is none."""
    rows = [(f"round {k}", epoch, split, metric, 1 / (epoch + 1) + 0.1 * seed + step, method, seed)
            for k, length in enumerate(rounds, 1) for epoch in range(length + 1) for split in ("val", "train")
            for metric in ("loss", "accuracy") for seed in (0, 1)
            for step, method in enumerate(["nothing frozen", *PANELS])
            if epoch or split == "val"]
    rows.append(("round 3", 1, "val_ema", "loss", 99.0, "PROFIT", 0))
    rows.append(("weights 4, norms after", 1, "val", "loss", 99.0, "PROFIT", 0))
    return pd.DataFrame(rows, columns=["phase", "epoch", "split", "metric", "value", "method", "seed"])


def test_epochs_are_counted_through_the_rounds():
    curves = analysis.loss_curves.along_rounds(histories())
    profit = curves[(curves.method == "PROFIT") & (curves.metric == "loss") & (curves.seed == 0)]
    val, train = (profit[profit.split == split] for split in ("val", "train"))
    assert val.epoch.tolist() == [0, 1, 2, 3, 4, 5, 6] and train.epoch.tolist() == [1, 2, 3, 4, 5, 6]
    assert val["round"].tolist() == [1, 1, 1, 2, 2, 2, 3]
    assert val.value.tolist() == pytest.approx([2, 1.5, 4 / 3, 1.5, 4 / 3, 1.25, 1.5])


def test_each_panel_shows_one_order_beside_nothing_frozen():
    figure = plots.loss_curves.draw(histories(), w_bits=3, a_bits=4, footnote="made up")
    for step, ax in enumerate(figure.axes, 1):
        drawn = [line for line in ax.lines if len(line.get_xdata()) > 5]
        assert [list(line.get_xdata()) for line in drawn] == [list(range(7)), list(range(1, 7))] * 2
        assert drawn[0].get_ydata()[1] == pytest.approx(0.55) and drawn[2].get_ydata()[1] == pytest.approx(0.55 + step)
        assert [text.get_text() for text in ax.texts] == ["frozen: 0", "1/3", "2/3"]
        assert [text.get_position()[0] for text in ax.texts] == [1, 3.5, 5.5]
    assert "weights in 3 bits, activations in 4 bits; made up" in figure.get_supxlabel()
    plt.close("all")
    for step, method in enumerate(["nothing frozen", "PROFIT", "PROFIT, reverse order", "PROFIT, random order"]):
        assert f"{method}: up to {0.55 + step:.2f} after the first round and {0.55 + step:.2f} at the end" in figure.alt


def test_a_failed_training_is_drawn_and_called_so():
    table = histories().replace({"method": {"PROFIT": "PROFIT: failed training"}})
    first, second, _ = plots.loss_curves.draw(table, w_bits=3, a_bits=4, footnote="made up").axes
    assert "failed training" in first.get_title("left") and "failed" not in second.get_title("left")
    assert [len([line for line in ax.lines if len(line.get_xdata()) > 5]) for ax in (first, second)] == [4, 4]
    plt.close("all")
