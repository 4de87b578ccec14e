"""PROFIT, supplement Fig. 4: counting rules against the printed savings, the claims on cost, the picture's points."""
import dataclasses
import math

import pandas as pd
import pytest
from conftest import ends_at
from matplotlib import pyplot as plt

from paperlib import analysis, claims, models, plots
from paperlib.analysis import bit_operations
from paperlib.claims import (
    CONTRADICTED,
    NOT_TESTABLE,
    SUPPORTED,
    cost_accuracy,
    experiments,
    paper_tables,
    published,
)
from paperlib.models import Scheme, cost

THE_RULE = next(iter(bit_operations.RULES))


def test_small_network_counted_by_hand():
    net = models.quantize(models.build("vgg7", width=0.05), Scheme(quantize_first=False, quantize_last=False))
    operations, size = bit_operations.total(cost.table(net, 32))
    want = bits = 0
    for row, plan in zip(cost.table(net, 32).query("kind != 'norm'").itertuples(), models.plan(net).itertuples()):
        weights, n = (math.prod(map(int, plan.weight_shape.split("x")[k:])) for k in (0, 1))
        a, w = plan.a_bits, plan.w_bits
        want += row.macs * (a * w + a + w + math.log2(n)) + w * weights
        bits += w * weights
    assert operations == pytest.approx(want / 1e9, rel=1e-12) and size == pytest.approx(bits / 8e6, rel=1e-12)


@pytest.mark.parametrize("model", bit_operations.NAMES)
@pytest.mark.parametrize("bits, exceptions", [((4, 4), True), ((4, 8), False), ((8, 8), True)])
def test_the_rule_is_the_counter_and_the_reading_of_weights(model, bits, exceptions):
    table = cost.table(bit_operations.imagenet(model, *bits, exceptions), 224)
    w = bits[1]
    assert bit_operations.RULES[THE_RULE].count(model, *bits, exceptions) == pytest.approx(
        table.bops.sum() + w * (table.weight_bytes.sum() * 8 / w), rel=1e-12)
    free = dataclasses.replace(bit_operations.RULES[THE_RULE], reading=False)
    assert free.count(model, *bits, exceptions) == pytest.approx(table.bops.sum(), rel=1e-12)


def test_what_layers_see():
    t = bit_operations.layers("mobilenet_v3_large", 4, 4)
    assert t.a.groupby(t.kind).unique().map(list).to_dict() == {
        "first": [8], "se": [8], **{kind: [4] for kind in ("depthwise", "expand", "project", "linear")}}
    assert set(t.w) == {4} and set(bit_operations.layers("mobilenet_v3_large", 8, 4, False).a) == {8}
    depthwise, dense = (t[(t.kind == "depthwise") == which] for which in (True, False))
    assert (dense.dense == dense.n).all()
    assert set(depthwise.n) == {9, 25} and (depthwise.dense == depthwise.weights).all()


def test_savings_without_accumulator_in_closed_form():
    """With a*w alone and 4 bits everywhere, 4/4 against 8/8 saves three quarters and against 4/8 a half."""
    rule = bit_operations.Rule(lambda t: t.a * t.w, reading=False, ours=False)
    assert rule.saving("mobilenet_v3_large") == pytest.approx(75) and rule.saving("mobilenet_v1") == pytest.approx(50)


def test_savings_name_what_fits_to_the_printed_decimal():
    table = cost_accuracy.savings().set_index("rule")
    for rule, row in table.iloc[1:].iterrows():
        want = [name.removeprefix("MobileNet-") for name in bit_operations.NAMES.values()
                if round(row[name], 1) == table.iloc[0][name]]
        assert row.fits == (", ".join(want) or "none"), rule
    assert table.fits[THE_RULE] == "v1, v2, v3-Large" and table.fits["a·w alone"] == "none"
    assert table.fits["reading weights is free"] == "v2, v3-Large"


def test_savings_are_judged_to_the_decimal(monkeypatch):
    assert [claims.cost_accuracy.saves(model).verdict for model in bit_operations.NAMES] == [SUPPORTED] * 3
    monkeypatch.setattr(bit_operations, "RULES", {"another": bit_operations.RULES["reading weights is free"]})
    found = claims.cost_accuracy.saves("mobilenet_v1")
    assert found.verdict == CONTRADICTED and found.differences.difference.tolist() == [-0.1]


def test_the_price_of_an_8_bit_image():
    """Only the first convolution differs from DSQ's network: 4 more bits times 4 of the weight, and 4 in the sum."""
    verdict = claims.cost_accuracy.costs_as_much_as_dsq()
    macs = bit_operations.layers("mobilenet_v2", 4, 4).macs.iloc[0]
    more = macs * (4 * 4 + 4)
    assert verdict.verdict == CONTRADICTED
    assert verdict.differences.difference[0] == pytest.approx(
        100 * more / 1e9 / bit_operations.on_imagenet("mobilenet_v2", 4, 4, False)[0])


def test_dsq_would_cost_the_same_with_an_8_bit_image(monkeypatch):
    monkeypatch.setattr(bit_operations, "on_imagenet", lambda model, a, w, exceptions: (9.5, 1.0))
    assert claims.cost_accuracy.costs_as_much_as_dsq().verdict == SUPPORTED


@pytest.mark.parametrize("model", bit_operations.NAMES)
def test_almost_half_the_size(model):
    """Bytes of 4-bit weights w/2 and of the rest 4r, against w and 4r."""
    table = bit_operations.costs(model, 4, 4)
    weights = sum(p.numel() for p in bit_operations.imagenet(model, 4, 4).parameters() if p.ndim > 1)
    rest = table.params.sum() - weights
    verdict = claims.cost_accuracy.almost_half_the_size(model)
    saved = 100 * weights / 2 / (weights + 4 * rest)
    assert verdict.differences.difference[0] == pytest.approx(saved - 45) and verdict.verdict == SUPPORTED


def test_a_network_that_is_mostly_not_quantized_is_not_halved(monkeypatch):
    monkeypatch.setattr(bit_operations, "costs", lambda *which: pd.DataFrame({"params": [200], "weight_bytes": [50.0]}))
    assert claims.cost_accuracy.almost_half_the_size("mobilenet_v2").verdict == CONTRADICTED


def test_gains_on_imagenet_are_not_judged():
    verdicts = claims.cost_accuracy.accuracy_gains()
    assert [v.verdict for v in verdicts] == [NOT_TESTABLE] * 4 and all(len(v.table()) == 0 for v in verdicts)
    assert all(any(f"{value:g} points" in v.claim for v in verdicts) for value in (4.06, 9.56, 6.76, 0.1))


def test_table_at_the_papers_size():
    table = bit_operations.table(((8, 8), (4, 4)))
    for name in bit_operations.NAMES.values():
        assert table.loc["(8, 8)", ("MB of weights", name)] == 2 * table.loc["(4, 4)", ("MB of weights", name)]
        assert 2 < table.loc["(8, 8)", ("GBOPs", name)] / table.loc["(4, 4)", ("GBOPs", name)] < 4


@pytest.fixture(scope="module")
def points():
    found = {(model, bits): [ends_at(recipe, bits + 60.0 + recipe.seed, averaged=5) for recipe in recipes]
             for (model, bits), recipes in experiments.accuracy("laptop", 2, (8, 4)).items()}
    return pd.concat([paper_tables.cost_points(), analysis.accuracy.points(found)], ignore_index=True)


def test_points_are_the_published_and_our_means(points):
    paper, ours = (rows for _, rows in points.groupby("data", sort=False))
    assert list(ours.accuracy) == [68.5, 64.5] * 3 and set(ours.seeds) == {2}
    recipe = experiments.accuracy("laptop", 1, (4,))["mobilenet_v1", 4][0]
    net = models.quantize(models.build("mobilenet_v1", width=recipe.width), Scheme())
    assert ours[["gbops", "mb"]].iloc[1].tolist() == pytest.approx(bit_operations.total(cost.table(net, 32)))
    dsq = paper[paper.method == "DSQ"].iloc[0]
    assert (dsq.accuracy, dsq.gbops) == (64.8, bit_operations.on_imagenet("mobilenet_v2", 4, 4, False)[0])
    hollow = paper[paper.confidence == "unverified"]
    assert len(hollow) == len([row for row in hollow.itertuples() if "unverified" in published.text(
        model=row.network, a_bits=row.a_bits, w_bits=row.w_bits, metric="top1",
        method="PROFIT+DuQ(+NP)" if row.ours else row.method)]) == 3


def test_picture_keeps_the_papers_and_our_axes_apart(points):
    figure = plots.cost_accuracy.draw(points, footnote="made up")
    left = [part.axes[0] for part in figure.subfigs]
    assert [ax.get_title(loc="left") for ax in left] == ["the paper: ImageNet, 224×224", "here: CIFAR-10, 32×32"]
    assert not left[0].get_shared_x_axes().joined(*left) and not left[0].get_shared_y_axes().joined(*left)
    markers = [[line for line in ax.lines if line.get_marker() != "None"] for ax in left]
    assert [len(m) for m in markers] == points.groupby("data", sort=False).size().tolist()
    assert sum(line.get_markerfacecolor() == "w" for line in markers[0]) == 3
    assert "PROFIT at its fewest bits, the paper: ImageNet, 224×224, 4 bits: MobileNet-v2 71.6 %" in figure.alt
    plt.close("all")
