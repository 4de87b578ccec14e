"""What comes out of h-swish: tables of networks, and the claims on made-up runs."""
import copy

import pandas as pd
import pytest
import torch
from conftest import leans
from matplotlib import pyplot as plt
from torch import nn

from paperlib import analysis, claims, models, plots, quantizers, recipes
from paperlib.analysis import hswish
from paperlib.claims import CONTRADICTED, SUPPORTED
from paperlib.errors import InputError
from paperlib.runs import Run, loading

LAYERS = ("features.1.block.0.0", "features.7.block.1.0", "classifier.0")


class Net(nn.Module):
    """h-swish before a convolution that pads, a gate and an average pool before two that don't; one ReLU."""

    def __init__(self):
        super().__init__()
        self.first, self.act = nn.Conv2d(3, 4, 1), nn.Hardswish()
        self.padded, self.gate = nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 4, 1)
        self.gated = nn.Conv2d(4, 4, 1)
        self.relu, self.pool, self.last = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(4, 10)

    def forward(self, x):
        x = self.act(self.padded(self.act(self.first(x))))
        x = self.gated(x * torch.sigmoid(self.gate(self.relu(x))))
        return self.last(self.pool(self.act(x)).flatten(1))


class Images:
    def __init__(self, x):
        self.x = x

    def epoch(self):
        yield self.x, None


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Net()


@pytest.fixture(scope="module")
def x():
    return 3 * torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def live(network, x, monkeypatch):
    """A run whose float network is ``network`` and whose last one is quantized, with its ranges set by ``x``."""
    monkeypatch.setattr(loading, "batches", lambda recipe, device: (None, Images(x)))
    last = models.calibrate(models.quantize(network, models.Scheme(w_bits=32)), x)
    with torch.no_grad():
        for q in (m for m in last.modules() if isinstance(m, quantizers.Quantizer)):
            q.c += 0.5      # another scale after rounding than before
    run = Run(recipes.activations_then_weights("duq", profile="smoke"), pd.DataFrame(), pd.DataFrame(), key="k",
              seconds=0.0, environment={})
    monkeypatch.setattr(run, "model", lambda phase=None: copy.deepcopy(last if phase is None else network))
    return run, last


def test_layers_behind_an_hswish(network):
    assert list(hswish.layers_behind(network).items()) == [("padded", "depthwise"), ("gated", "project"),
                                                           ("last", "linear")]
    found = hswish.layers_behind(models.build("mobilenet_v3_large", width=0.1))
    assert len(found) == 21 and "se" not in found.values()      # 2 of each of 9 blocks, block 1, 2 of the classifier
    assert not hswish.layers_behind(models.build("mobilenet_v2", width=0.1))


def inputs(net, x):
    """What reaches the layer ``padded``."""
    return net.act(net.first(x)).detach()


def test_levels_and_their_shares(live, x):
    run, last = live
    table = hswish.hswish_levels(run)
    mine, q = table[table.layer == "padded"], last.padded.input_quantizer
    values, levels = inputs(last, x), q.levels()
    assert mine.level.tolist() == pytest.approx(levels.tolist()) and len(mine) == 16
    nearest = (q(values).flatten()[:, None] - levels).abs().argmin(1)
    assert mine.share.tolist() == pytest.approx([(nearest == i).float().mean().item() for i in range(16)])
    before = values.flatten()[:, None] - torch.tensor(mine.before.to_numpy())
    inside = values.flatten() < mine.before.iloc[-1]
    assert (before.abs().argmin(1) == nearest)[inside].all()      # values are rounded to the nearest of these ...
    assert (mine["level"] - mine.before).abs().max() > 0.1       # ... and not to the level that the layer sees


def test_layers_are_measured_on_their_input(live, x):
    run, last = live
    row = hswish.hswish_layers(run).set_index("layer").loc["padded"]
    values = inputs(last, x).double()
    y = last.padded.input_quantizer(values.float()).double()
    assert (row.kind, row.pads) == ("depthwise", True)
    assert row.reach == pytest.approx(values.quantile(0.99).item() + 0.375, rel=0.02)
    channels = values.transpose(0, 1).flatten(1).quantile(0.99, dim=1) + 0.375
    assert row.feature_maps == pytest.approx((channels.max() / channels.min()).item(), rel=0.05)
    assert row.below == pytest.approx((values < 0).double().mean().item())
    assert row.error == pytest.approx(((y - values) ** 2).mean().item() / values.var().item(), rel=1e-3)
    a = ((y - y.mean()) * (values - values.mean())).mean() / ((y - y.mean()) ** 2).mean()      # least squares
    rest = ((values - values.mean() - a * (y - y.mean())) ** 2).mean() / values.var(correction=0)
    assert row.residual == pytest.approx(rest.item(), rel=1e-3) and row.residual < row.error


def test_histograms_hold_all_but_a_thousandth(live, x):
    run, last = live
    table = hswish.hswish_histograms(run)
    assert table.groupby("layer").share.sum().between(0.9985, 1.0001).all() and table.left.min() == -0.375
    mine, values = table[table.layer == "padded"], inputs(last, x)
    inside = (values >= mine.left.iloc[3]) & (values < mine.left.iloc[4])
    assert mine.share.iloc[3] == pytest.approx(inside.float().mean().item(), abs=1e-3)


def test_grids_on_values_of_the_float_network(live, network, x):
    table = hswish.hswish_grids(live[0])
    mine = table[table.layer == "padded"].set_index("grid")
    values = inputs(network, x)
    assert mine.levels.tolist() == [16, 16, 16] and mine.below.loc[["from 0", "half below 0"]].tolist() == [0, 8]
    step = quantizers.build("lsq", role="activation", bits=4, signed=True).calibrate(values, "mse").s.item()
    assert mine.used_below["half below 0"] == round(0.375 / step) < 8
    clipped = values.clamp(max=0)[values < 0].square().sum() / values.numel() / values.var()
    assert mine.error_below["from 0"] == pytest.approx(clipped.item(), rel=1e-3)       # 0 is what they become
    assert mine.error["from -3/8"] == mine.error.min() and (mine.error >= mine.error_below).all()


def test_percentile_is_the_nearest_rank_from_above():
    assert [hswish.percentile(torch.arange(1.0, 201), p).item() for p in (99, 99.9, 50, 0.1)] == [198, 200, 100, 1]


def made(method, seed=0, **tables):
    """A recorded-like run that brings these tables along."""
    run = Run(recipes.activations_then_weights(method, profile="smoke", seed=seed), pd.DataFrame(), pd.DataFrame(),
              key="made up", seconds=0.0, environment={})
    run._found = {name: table.assign(layer=LAYERS) if len(table) == 3 else table for name, table in tables.items()}
    return run


def about(**columns):
    default = {"kind": ["depthwise", "depthwise", "linear"], "pads": [True, True, False], "reach": [1.0, 2.0, 4.0],
               "feature_maps": [2.0, 4.0, 8.0], "below": 0.5, "error": 0.5, "residual": [0.1, 0.1, 0.1]}
    return pd.DataFrame({**default, **columns})


@pytest.mark.parametrize("reach, maps, verdict", [
    ([1, 1.5, 2], [1, 2, 2], SUPPORTED), ([1, 1.5, 1.99], [2, 4, 8], CONTRADICTED),
    ([1, 2, 4], [1, 1.9, 9], CONTRADICTED)])
def test_distributions_differ_by_a_factor_of_two(reach, maps, verdict):
    found = claims.hswish.hswish_outputs_differ([made("duq", hswish_layers=about(reach=reach, feature_maps=maps))])
    assert leans(found) == verdict
    factors = 2 ** found.differences.difference
    assert factors.tolist() == pytest.approx([max(reach) / min(reach), maps[1]])


def grids(duq=(1, 1, 3), zero=(2, 2, 2), half=(2, 2, 2), used=(3, 3, 8)):
    return pd.DataFrame([{"layer": layer, "grid": grid, "levels": 16, "below": below, "used": 16, "used_below": u,
                          "error": e, "error_below": 0.0}
                         for layer, d, z, h, u in zip(LAYERS, duq, zero, half, used)
                         for grid, below, e in (("from -3/8", 2, d), ("from 0", 0, z), ("half below 0", 8, h))])


@pytest.mark.parametrize("change, shares", [
    ({}, [1, 1]), ({"half": (2, 1, 1)}, [0, 1]), ({"zero": (0.5, 0.5, 2)}, [1, -1])])
def test_a_fixed_split_must_err_more_in_the_median_layer(change, shares):
    found = claims.hswish.fixed_split_does_not_fit([made("duq", hswish_grids=grids(**change))])
    assert found.differences.difference.tolist() == pytest.approx(shares)
    assert leans(found) == (SUPPORTED if not change else CONTRADICTED)


def levels(lowest=(0.0, 0.0, 0.0)):
    return pd.DataFrame([{"layer": layer, "level": low + i, "before": low + i, "share": 0.5}
                         for layer, low in zip(LAYERS, lowest) for i in (1, 0)])


@pytest.mark.parametrize("lowest, below, verdict", [
    ((0, 0, 0), 0.5, SUPPORTED), ((0, -0.1, 0), 0.5, CONTRADICTED), ((0, 0, 0), [0.5, 0.0, 0.5], CONTRADICTED)])
def test_pact_needs_values_below_zero_and_no_level_there(lowest, below, verdict):
    run = made("pact", hswish_levels=levels(lowest), hswish_layers=about(below=below))
    assert leans(claims.hswish.pact_has_nothing_below_zero([run])) == verdict


@pytest.mark.parametrize("pact, lsq, verdict", [
    ([0.2, 0.2, 0.0], [0.2, 0.0, 0.2], SUPPORTED), ([0.2, 0.0, 0.0], [0.2, 0.2, 0.2], CONTRADICTED),
    ([0.2, 0.2, 0.2], [0.1, 0.1, 0.2], CONTRADICTED)])
def test_trained_levels_are_compared_after_the_best_scale(pact, lsq, verdict):
    runs = [[made(method, hswish_layers=about(residual=values, error=error))] for method, values, error in (
        ("duq", [0.1] * 3, 9.0), ("pact", pact, 0.0), ("lsq", lsq, 0.0))]
    assert leans(claims.hswish.duq_learns_better_levels(*runs)) == verdict
    with pytest.raises(InputError, match="same seeds"):
        claims.hswish.duq_learns_better_levels(*runs[:2], [made("lsq", 1, hswish_layers=about())])


def test_tables_of_the_notebook():
    table = analysis.hswish.grid_summary(grids()).set_index("grid")
    assert table["layers where it is best"].tolist() == [2, 1, 0] and table["error, median"].tolist() == [1, 2, 2]
    padding = analysis.hswish.padding(about().assign(layer=LAYERS), levels((-0.375, -0.5, -0.375)))
    assert padding.layer.tolist() == ["1 depthwise", "7 depthwise"]        # the classifier pads nothing
    assert padding["from 0 to the next level (steps)"].tolist() == [0.375, 0.5]
    methods = analysis.hswish.method_summary({"DuQ": about().assign(layer=LAYERS)},
                                             {"DuQ": levels((-0.375, -0.5, 0.0))}, {"DuQ": [1.0, 2.0]})
    assert methods.iloc[0].tolist()[1:] == pytest.approx([2 / 3, 2, 0.5, 0.1, 1.5])


def test_pictures_say_what_they_show():
    layers, lines = about().assign(layer=LAYERS), levels((-0.375, -0.375, -0.375))
    bars = pd.DataFrame([(layer, -0.375 + i, 0.1) for layer in LAYERS for i in range(4)],
                        columns=["layer", "left", "share"])
    one, two = plots.hswish.draw_histograms(bars, lines, layers, footnote="made up"), plots.hswish.draw_errors(
        grids(), {"DuQ": layers}, footnote="made up")
    assert [ax.get_title(loc="left") for ax in one.axes[:3]] == ["1 depthwise", "7 depthwise", "classifier 0"]
    assert "between 0.62 and" in one.alt
    assert len(two.axes[0].lines) == 3
    assert two.alt.endswith("On the right: DuQ 0.100.")
    empty = lines.assign(share=[0.5, 0.5, 1.0, 0.0, 0.5, 0.5])
    assert "In 1 of 3 layers (7 depthwise) no value" in analysis.hswish.in_words(layers, empty)
    plt.close("all")
