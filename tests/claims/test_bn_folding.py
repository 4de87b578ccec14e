"""Folding batch norms: the network computes the same; ranges of folded weights; the claims on made-up runs."""
import pandas as pd
import pytest
import torch
from conftest import leans, made_up
from matplotlib import pyplot as plt
from torch import nn

from paperlib import analysis, claims, models, plots, quantizers, recipes
from paperlib.analysis import bn_folding
from paperlib.claims import CONTRADICTED, SUPPORTED
from paperlib.errors import InputError
from paperlib.models import Scheme, fused_conv

NETWORKS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "vgg7")


def network(name="mobilenet_v2"):
    """A network whose batch norms do something else in every channel, some with a negative scale."""
    torch.manual_seed(0)
    net = models.build(name, width=0.1).double()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, -0.5, 2.0)
            nn.init.normal_(m.bias)
            nn.init.normal_(m.running_mean)
            nn.init.uniform_(m.running_var, 0.2, 3.0)
    return net.eval()


def images(n=3):
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_folded_network_computes_the_same(name):
    net, x = network(name), images()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    other = models.fold(net)
    assert not [m for m in other.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        torch.testing.assert_close(other(x), net(x), rtol=1e-9, atol=1e-9)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())      # fold works on a copy
    again = models.fold(other)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in other.state_dict().items())


def test_weight_and_bias_are_those_of_equation_2():
    net = network()
    conv, norm = net.features[0][0], net.features[0][1]
    other = models.fold(net).features[0][0]
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    torch.testing.assert_close(other.weight, conv.weight * scale[:, None, None, None])
    torch.testing.assert_close(other.bias, norm.bias - scale * norm.running_mean)


def test_what_a_batch_norm_does_not_directly_follow_keeps_it():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.other = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(self.other(x))
            return self.norm(y) + y      # both see the convolution's own output

    net = Twice().eval()
    nn.init.uniform_(net.norm.running_var, 0.2, 3.0)
    kept = models.fold(net)
    assert isinstance(kept.norm, nn.BatchNorm2d) and isinstance(kept.other, nn.BatchNorm2d)
    assert torch.equal(kept.conv.weight, net.conv.weight)


def quantized(net, scheme):
    """Quantized and calibrated; values that set a range lie on the edge of a grid, where rounding decides: moved."""
    net = models.calibrate(models.quantize(net, scheme), images())
    with torch.no_grad():
        for q in (m for m in net.modules() if isinstance(m, quantizers.Quantizer)):
            for parameter in q.parameters():
                parameter.mul_(1.0123)
    return net.eval()


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large"])
def test_the_fused_form_of_a_folded_network_computes_the_same(name, monkeypatch):
    monkeypatch.setattr(fused_conv, "WORTH", 0)
    plain = quantized(network(name), Scheme(fold_norms=True))
    assert not [m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        torch.testing.assert_close(models.fuse(plain)(images()), plain(images()), rtol=1e-9, atol=1e-9)


def test_a_folded_network_is_quantized_anew():
    net, scheme = network(), Scheme(fold_norms=True)
    once = quantized(net, scheme)
    assert quantized(models.fold(net), Scheme()).state_dict().keys() == once.state_dict().keys()
    twice = models.quantize(once, Scheme(w_bits=8, fold_norms=True))
    layer, before = twice.features[1].conv[0][0], once.features[1].conv[0][0]
    assert layer.weight_quantizer.bits == 8 and torch.equal(layer.weight, before.weight)
    torch.testing.assert_close(layer.weight_quantizer.a, before.weight_quantizer.a)     # its range still fits
    late = models.fold(quantized(net, Scheme()))        # quantized first, folded then: ranges no longer fit
    assert late.features[1].conv[0][0].weight_quantizer is None
    assert late.features[1].conv[0][0].input_quantizer.calibrated
    late = models.calibrate(models.quantize(late, scheme), images())
    assert late.features[1].conv[0][0].weight_quantizer.calibrated


def test_negative_padding_is_kept():
    net = network("mobilenet_v3_large")
    plan, kept = (models.plan(models.quantize(net, Scheme(fold_norms=f))).set_index("layer") for f in (True, False))
    pd.testing.assert_series_equal(plan.pad_value, kept.pad_value)
    assert (plan.pad_value == -0.375).sum() == 10
    late = models.fold(quantized(net, Scheme()))
    assert late.features[1].block[0][0].pad_value == -0.375


def test_with_a_range_per_channel_folding_changes_no_code():
    net = network()
    kept, other = (models.calibrate(models.quantize(net, Scheme(a_bits=32, per_channel=True, fold_norms=f)), images())
                   for f in (False, True))
    layer, its = kept.features[2].conv[1][0], other.features[2].conv[1][0]
    sign = net.features[2].conv[1][1].weight.sign()[:, None, None, None]
    one, two = (m.weight_quantizer.encode(m.weight) for m in (layer, its))
    assert torch.equal(one * sign, two.double()) and (sign < 0).any()
    per_tensor = models.calibrate(models.quantize(net, Scheme(a_bits=32, fold_norms=True)), images())
    its = per_tensor.features[2].conv[1][0]
    assert not torch.equal(one * sign, its.weight_quantizer.encode(its.weight).double())


def test_ranges_of_a_network():
    net = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 1, 1)).eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, -2.0, 4.0]).reshape(3, 1, 1, 1))
        net[1].running_var.copy_(torch.tensor([1.0, 0.25, 1 / 256]) - net[1].eps)      # factors 1, 2, 16
    table = bn_folding.ranges(net).set_index("weights")
    assert table.layer.tolist() == ["0", "0"]       # no batch norm behind the other convolution
    kept, other = table.loc["batch norm kept"], table.loc["folded"]
    assert (kept.range, kept.relative, kept.channels, kept.zeroed) == pytest.approx((4, 2, 2, 0))
    assert (other.range, other.relative, other.channels, other.zeroed) == pytest.approx((64, 16, 16, 2 / 3), rel=1e-3)


def test_zeroed_channels_become_zero():
    net = network("mobilenet_v3_large")
    table = bn_folding.ranges(net)
    layers, row = models.fold(net), table[table.weights == "folded"].sort_values("zeroed").iloc[-1]
    weight = layers.get_submodule(row.layer).weight
    codes = quantizers.build("duq", role="weight", bits=4).calibrate(weight, "max").encode(weight)
    assert row.zeroed > 0 and row.zeroed == pytest.approx((codes.flatten(1) == 0).all(1).double().mean().item())


def run(after, bits=4, is_folded=True, channel=False, seed=0, start=60.0, table=None, before=5.0):
    """A made-up run of one cell; other metrics and splits stand beside the accuracy."""
    rows = [("float", 0, "val", "accuracy", 9.0), ("float", 9, "val", "accuracy", start),
            ("weights", 0, "val", "accuracy", before), ("weights", 1, "val", "accuracy", 1.0),
            ("weights", 2, "val", "accuracy", after), ("weights", 2, "val", "loss", 70.0),
            ("weights", 2, "val_ema", "accuracy", 70.0), ("weights", 2, "train", "accuracy", 70.0),
            ("weights", 2, "train", "loss", 0.5)]
    recipe = recipes.weights_alone(bits, profile="smoke", seed=seed, folded=is_folded, per_channel=channel)
    made = made_up(recipe, rows)
    made._found = {} if table is None else {"weight_ranges": table}
    return made


GOOD = {(32, False, False): 60, (32, True, False): 58, (8, False, False): 59, (8, True, False): 55,
        (8, False, True): 59, (8, True, True): 58, (4, False, False): 55, (4, True, False): 12, (4, False, True): 56,
        (4, True, True): 50}


def cells(seeds=1, **changes):
    """What the paper says; ``changes`` such as b4_folded_tensor=30 are accuracies of cells."""
    names = {f"b{b}_{'folded' if f else 'kept'}_{'channel' if c else 'tensor'}": (b, f, c) for b, f, c in GOOD}
    after = GOOD | {names[name]: value for name, value in changes.items()}
    return {cell: [run(value, *cell, seed=seed) for seed in range(seeds)] for cell, value in after.items()}


CLAIMS = [claims.bn_folding.folding_control_trains, claims.bn_folding.four_bits_fail_folded,
          claims.bn_folding.eight_bits_survive_folding, claims.bn_folding.channels_repair_folding]


@pytest.mark.parametrize("change, holds", [
    ({}, (1, 1, 1, 1)), ({"b4_folded_tensor": 30.1}, (1, 0, 1, 1)), ({"b4_kept_tensor": 29}, (1, 0, 1, 1)),
    ({"b32_folded_tensor": 29}, (0, 0, 1, 1)), ({"b8_folded_tensor": 29}, (1, 1, 0, 1)),
    ({"b8_kept_tensor": 29}, (1, 1, 0, 1)), ({"b4_folded_channel": 29}, (1, 1, 1, 0)),
    ({"b4_folded_channel": 33}, (1, 1, 1, 0)),      # no failure, but less than half of the gap from 12 to 55
    ({"b4_folded_channel": 34}, (1, 1, 1, 1)),
    ({"b4_folded_tensor": 55}, (1, 0, 1, 0))])      # no gap, nothing to repair
def test_each_claim_fails_where_it_should(change, holds):
    found = [leans(claim(cells(seeds=2, **change))) for claim in CLAIMS]
    assert found == [SUPPORTED if h else CONTRADICTED for h in holds]


def test_nothing_to_repair():
    """Three seeds in which training per tensor does not fail, then three in which it does."""
    verdicts = []
    for end in (50, 12):
        runs = cells(seeds=3)
        for cell, base in ((4, True, False), end), ((4, True, True), 50), ((4, False, False), 55):
            runs[cell] = [run(base + seed * (1 + cell[2]), *cell, seed=seed) for seed in range(3)]
        verdicts.append(claims.bn_folding.channels_repair_folding(runs).verdict)
    assert verdicts == [claims.NOT_APPLICABLE, SUPPORTED]


def test_numbers_of_the_claims():
    rows = claims.bn_folding.four_bits_fail_folded(cells()).table().set_index("comparison")["mean"]
    assert rows["4 bits, folded, per tensor"] == pytest.approx(0.5 - 12 / 60)
    assert rows["4 bits, batch norm kept, per tensor"] == pytest.approx(55 / 60 - 0.5)
    closed = claims.bn_folding.channels_repair_folding(cells()).table()["mean"].tolist()
    assert closed == pytest.approx([50 / 60 - 0.5, (50 - 12) / (55 - 12) - 0.5])


def test_one_seed_that_disagrees_is_enough():
    mixed = cells(seeds=2)
    mixed[4, True, False][1] = run(40, seed=1)
    assert leans(claims.bn_folding.four_bits_fail_folded(mixed)) == CONTRADICTED
    mixed[4, True, False].pop()
    with pytest.raises(InputError, match="same seeds"):
        claims.bn_folding.four_bits_fail_folded(mixed)


def ranges(kept, other):
    rows = [(str(i), "depthwise" if i else "expand", weights, v, r, r, 0.0)
            for weights, values in (("batch norm kept", kept), ("folded", other)) for i, (v, r) in enumerate(values)]
    return pd.DataFrame(rows, columns=["layer", "kind", "weights", "range", "relative", "channels", "zeroed"])


@pytest.mark.parametrize("other, shares", [
    ([(2, 2), (2, 2), (0, 0)], (2 / 3, 2 / 3)), ([(2, 0), (2, 2), (0, 0)], (2 / 3, 1 / 3)),
    ([(0, 2), (2, 2), (0, 2)], (1 / 3, 1)), ([(1, 1)] * 3, (0, 0))])
def test_wider_in_both_ways_in_most_layers(other, shares):
    found = claims.bn_folding.folded_weights_are_wider([run(50, 32, False, table=ranges([(1, 1)] * 3, other))])
    assert found.differences.difference.tolist() == pytest.approx(shares)
    assert leans(found) == (SUPPORTED if min(shares) > 0.5 else CONTRADICTED)


def test_tables_and_pictures_of_the_notebook():
    accuracy = analysis.bn_folding.accuracies(cells(seeds=2))
    assert len(accuracy) == 20 and set(accuracy.before) == {5.0} and set(accuracy["float"]) == {60.0}
    assert "4 bits per tensor: 55.0 % with batch norms kept, 12.0 % folded, a difference of -43.0." in (
        analysis.bn_folding.in_words(accuracy))
    figure = plots.bn_folding.draw_accuracy(accuracy, footnote="made up")
    assert "4 bits, folded, per tensor: 5.0, then 12.0" in figure.alt
    drawn = [list(line.get_ydata()) for line in figure.axes[1].lines]
    assert [12, 55, 58] in drawn and [56, 59, 60] in drawn      # folded per tensor; kept per channel and float
    tables = {"a network": ranges([(1, 1), (1, 1), (1, 4)], [(2, 3), (2, 1), (2, 5)])}
    summary = analysis.bn_folding.summary(tables).set_index("layers")
    assert summary.loc["depthwise", "max/median, folded"] == 3 and summary.loc["1x1", "number"] == 1
    told = plots.bn_folding.draw_ranges(tables, footnote="made up").alt
    assert "share of the layers: 67% in a network" in told
    plt.close("all")
