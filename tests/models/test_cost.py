"""What networks cost: the supplement's figures, torchvision's, and small networks counted by hand."""
import math

import pytest
import torch
import torchvision
from torch import nn

from paperlib import models
from paperlib.errors import InputError
from paperlib.models import Scheme, cost


def imagenet(name):
    with torch.device("meta"):      # shapes are all that counts
        return models.build(name, num_classes=1000, input_size=224)


def uniform(a_bits, w_bits):
    return Scheme(a_bits=a_bits, w_bits=w_bits, first_input_bits=a_bits, se_bits=a_bits)


@pytest.mark.parametrize("name, others, macs, params, ours, theirs, saving, size_8, size_4", [
    ("mobilenet_v1", (4, 8), "568.74", "4.232", "18.479", "29.637", "37.649", "4.21", "2.10"),
    ("mobilenet_v2", (4, 8), "300.77", "3.505", "9.476", "15.274", "37.964", "3.47", "1.73"),
    ("mobilenet_v3_large", (8, 8), "216.59", "5.483", "6.793", "18.784", "63.834", "5.45", "2.73")])
def test_the_supplements_figure_4(name, others, macs, params, ours, theirs, saving, size_8, size_4):
    net = imagenet(name)
    plain, four, eight, other = (cost.table(n, 224) for n in (
        net, *(models.quantize(net, scheme) for scheme in (Scheme(), Scheme(w_bits=8), uniform(*others)))))
    assert (f"{plain.macs.sum() / 1e6:.2f}", f"{plain.params.sum() / 1e6:.3f}") == (macs, params)
    assert (f"{four.bops.sum() / 1e9:.3f}", f"{other.bops.sum() / 1e9:.3f}") == (ours, theirs)
    assert f"{100 * (1 - four.bops.sum() / other.bops.sum()):.3f}" == saving
    assert [f"{t.weight_bytes.sum() / 1e6:.2f}" for t in (eight, four)] == [size_8, size_4]


@pytest.mark.parametrize("name", models.weights.TORCHVISION)
def test_macs_and_parameters_are_those_that_torchvision_states(name):
    meta, table = torchvision.models.get_model_weights(name).DEFAULT.meta, cost.table(imagenet(name), 224)
    assert table.params.sum() == meta["num_params"] and round(table.macs.sum() / 1e9, 3) == meta["_ops"]


class Small(nn.Module):
    """Called twice, grouped, not square, applied to every position, sharing a weight, and never called."""

    def __init__(self):
        super().__init__()
        self.conv, self.grouped = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 8, (1, 3), groups=2, bias=False)
        self.norm, self.relu, self.idle = nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(1, 1, 1)
        self.fc, self.tied = nn.Linear(8, 8, bias=False), nn.Linear(8, 8)
        self.tied.weight = self.fc.weight

    def forward(self, x):
        x = self.relu(self.norm(self.grouped(self.conv(self.conv(x)))))
        return self.tied(self.fc(x.mean(3).transpose(1, 2)))


SMALL = [   # layer, kind, MACs for an image of 4 x 5 x 6, parameters, products in an output, weights counted here
    ("conv", "first", 2 * 4 * 5 * 6 * 36, 4 * 4 * 9 + 4, 36, 144), ("grouped", "conv", 8 * 5 * 4 * 6, 48, 6, 48),
    ("norm", "norm", 0, 16, 1, 0), ("idle", "project", 0, 2, 1, 1), ("fc", "linear", 5 * 8 * 8, 64, 8, 64),
    ("tied", "linear", 5 * 8 * 8, 8, 8, 0)]


@pytest.mark.parametrize("scheme, bits", [
    (None, {}), (Scheme(), {"conv": (8, 4), "grouped": (4, 4), "fc": (4, 4), "tied": (4, 4)}),
    (Scheme(w_bits=2, a_bits=32), {"conv": (32, 2), "grouped": (32, 2), "fc": (32, 2), "tied": (32, 2)})], ids=str)
def test_counted_by_hand(scheme, bits):
    net = Small()
    if scheme:
        with pytest.warns(UserWarning, match="stay float: idle"):
            net = models.quantize(net, scheme)
    rows = list(cost.table(net, (4, 5, 6)).itertuples(index=False))
    for row, (layer, kind, macs, params, products, weights) in zip(rows, SMALL, strict=True):
        a, w = bits.get(layer, (32, 32))
        assert row[:4] == (layer, kind, macs, params)
        assert row.bops == pytest.approx(macs * (a * w + a + w + math.log2(products)), rel=1e-12)
        assert row.weight_bytes == weights * w / 8


def test_the_network_stays_as_it_was():
    net = models.quantize(models.build("mobilenet_v3_small", width=0.25), Scheme(identity_bits=4)).train()
    table, images = cost.table(net, 32), torch.randn(2, 3, 32, 32)
    state = {k: v for k, v in net.state_dict(keep_vars=True).items() if not k.endswith("_extra_state")}    # made anew
    before, modes = {k: v.clone() for k, v in state.items()}, [m.training for m in net.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()]
    kinds, random = models.plan(net), torch.get_rng_state()
    assert cost.table(net, 32).equals(table)
    assert all(v is state[k] and torch.equal(v, before[k])
               for k, v in net.state_dict(keep_vars=True).items() if k in state)
    assert [m.training for m in net.modules()] == modes and torch.equal(torch.get_rng_state(), random)
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()] == hooks
    assert models.plan(net).equals(kinds) and models.calibrate(net, images)(images).isfinite().all()
    assert cost.table(net, 32).equals(table) and cost.table(models.fuse(net), 32).equals(table)


def test_rows_are_the_plans_and_quantizers_cost_no_parameters():
    net = models.build("mobilenet_v3_large", width=0.25).double()
    quantized = models.quantize(net, Scheme())
    plain, table, plan = cost.table(net, 32), cost.table(quantized, 32), models.plan(quantized)
    layers = table[table.kind != "norm"]
    assert list(layers.layer) == list(plan.layer) and list(layers.kind) == list(plan.kind)
    assert table[["layer", "kind", "macs", "params"]].equals(plain[["layer", "kind", "macs", "params"]])
    assert plain.params.sum() == sum(p.numel() for p in net.parameters())
    smaller = cost.table(net, 16)
    assert smaller.macs.sum() < plain.macs.sum() and smaller.params.equals(plain.params)


@pytest.mark.parametrize("size, reason", [(16, "x16x16 through"), ((1, 32, 32), "1x32x32 through VGG7"), (0, "0x0")])
def test_an_image_that_does_not_fit(size, reason):
    with pytest.raises(InputError, match=f"{reason}.*: give input_size as the network needs it") as caught:
        cost.table(models.build("vgg7", width=0.1), size)
    assert "\n" not in str(caught.value)


def test_other_layers_with_weights_are_named():
    net = nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.Conv2d(4, 2, 1), nn.PReLU(), nn.LayerNorm(5))
    with pytest.warns(UserWarning, match="count 0 MACs: 0$"):
        table = cost.table(net, 4)
    assert list(table.kind) == ["convtranspose2d", "first", "prelu", "norm"] and list(table.macs) == [0, 200, 0, 0]
    assert table.params.sum() == sum(p.numel() for p in net.parameters())
