"""AIWQ against two full convolutions in double precision, by hand, and while a network trains."""
import copy
import dataclasses
import math

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paperlib import models, quantizers
from paperlib.errors import InputError
from paperlib.models import Scheme, fused_conv
from paperlib.models.layers import QuantConv2d, QuantLinear
from paperlib.quantizers import kernels
from paperlib.training.aiwq import Aiwq
from paperlib.training.output_moments import DEAD, REST, Moments, divergence

METHODS = {name: Scheme(name, w_bits={"bc": 1, "bwn": 1, "xnor": 1, "ttq": 2, "twn": 2}.get(name, 3))
           for name in quantizers.names("weight")}
SCHEMES = {
    **METHODS, "zero padding": Scheme(negative_padding=False), "float weights": Scheme(w_bits=32),
    "float activations": Scheme(a_bits=32), "a range per channel": Scheme(per_channel=True),
    "PACT": Scheme("sawb", "pact", w_bits=4), "LSQ+": Scheme("lsq+", "lsq+", w_bits=2),
    "QIL per channel": Scheme("qil", "qil", per_channel=True),
    "XNOR": Scheme("xnor", "xnor", w_bits=1, a_bits=1, first_input_bits=1)}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def fuse_small_layers_too(monkeypatch):
    monkeypatch.setattr(fused_conv, "WORTH", 0)


class Excite(nn.Module):
    """Squeeze-and-excite, with biases."""

    def __init__(self, channels):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


def every_kind(seed=0, signed=False):
    """Strided with bias, depthwise 5x5, grouped, squeeze-and-excite, dilated, linear; or with signed inputs only."""
    torch.manual_seed(seed)
    hswish, relu = (nn.Identity, nn.Identity) if signed else (nn.Hardswish, nn.ReLU)

    def block(*conv, act=hswish, **options):
        return [nn.Conv2d(*conv, **options), nn.BatchNorm2d(conv[1]), act()]
    return nn.Sequential(
        *block(3, 8, 3, 2, 1), *block(8, 8, 5, 1, 2, groups=8, bias=False), *block(8, 12, 3, 1, 1, groups=4),
        nn.Identity() if signed else Excite(12),
        *block(12, 8, 3, (2, 1), (2, 1), dilation=(2, 1), act=relu, bias=False), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(32, 10)).to(memory_format=torch.channels_last)


def images(i=0, n=8, size=12):
    x = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(i))
    return x.to(memory_format=torch.channels_last)


def quantized(scheme=Scheme(), net=None, *, fuse=False):
    """In training mode, with ranges of activations that suit the statistics of that mode."""
    net = every_kind(signed=scheme.activation == "xnor") if net is None else net
    for norm in [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]:
        norm.momentum = 1.0
    for a_bits in (32, scheme.a_bits):
        net = models.calibrate(models.quantize(net, dataclasses.replace(scheme, a_bits=a_bits)), images()).train()
        net(images())
    return models.fuse(net) if fuse else net


def layers(net):
    return {name: m for name, m in net.named_modules() if isinstance(m, (QuantConv2d, QuantLinear))}


def move(net, share, seed=1):
    """Every weight by normal noise of this share of its deviation, every range of a weight by up to 2 %."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in layers(net).values():
            noise = torch.randn(layer.weight.shape, generator=generator)
            layer.weight.add_(noise.to(layer.weight.dtype), alpha=share * layer.weight.std().item())
            for parameter in () if layer.weight_quantizer is None else layer.weight_quantizer.parameters():
                if not parameter.shape:             # one per channel moves with the weight below
                    parameter.mul_(1 + 0.02 * (2 * torch.rand((), generator=generator) - 1))


def direct(layer, x, weight, gain=None):
    """A layer's output (channels, values) in double precision, with the border that its padding stands for."""
    x, weight, gain = x.double(), weight.double(), 1.0 if gain is None else gain.double()
    bias = torch.zeros(len(weight)).double() if layer.bias is None else layer.bias.detach().double()
    if isinstance(layer, nn.Linear):
        return (F.linear(x, weight) * gain + bias).flatten(0, -2).T
    v, h = layer.padding
    y = F.conv2d(F.pad(x, (h, h, v, v), value=layer.pad_value), weight, None, layer.stride, 0, layer.dilation,
                 layer.groups)
    return (y * gain).movedim(1, 0).flatten(1) + bias[:, None]


def gaussians(new, old):
    """(mean KL, dead channels) of outputs (channels, values) as Gaussians, as PROFIT defines it."""
    (m1, s1), (m0, s0) = ((y.mean(1), y.var(1, correction=0).sqrt()) for y in (new, old))
    alive = (s1 > DEAD * m1.abs()) & (s0 > DEAD * m0.abs()) & (s0 > REST * (s1**2 + m1**2).sqrt())
    kl = (s0 / s1).log() + (s1**2 + (m1 - m0) ** 2) / (2 * s0**2) - 0.5
    return kl[alive].mean().item(), int((~alive).sum())


def reference(net, old, x):
    """{layer: (AIWQ, dead)}: both convolutions of each layer, on the quantized input that it has in ``net``."""
    net, old, found = models.unfuse(net), layers(models.unfuse(old)), {}

    def hook(name):
        def look(layer, args):
            inputs = args[0] if layer.input_quantizer is None else layer.input_quantizer(args[0])
            found[name] = gaussians(*(direct(layer, inputs, one.quantized_weight(), layer.gain(args[0]))
                                      for one in (layer, old[name])))
        return look
    for name, layer in layers(net).items():
        layer.register_forward_pre_hook(hook(name))
    with torch.no_grad():
        net(x)
    return found


def measured(net, change, x=None, passes=1):
    """The AIWQ table after a pass, this change and another pass; and the network as it was before the change."""
    x = images(7) if x is None else x
    with Aiwq(net) as aiwq:
        net(x)
        before = copy.deepcopy(net)
        for _ in range(passes):
            change(net)
            net(x)
    return aiwq.table().set_index("layer"), before


@pytest.mark.slow
@pytest.mark.parametrize("share, again", [(0.02, False), (0.2, False), (0.2, True)], ids=["few", "many", "all"])
@pytest.mark.parametrize("fuse", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_two_full_convolutions_say_the_same(scheme, fuse, share, again, monkeypatch):
    if again:       # as without a C compiler
        monkeypatch.setattr(kernels, "moments_before", lambda *args: False)
    net = quantized(SCHEMES[scheme], fuse=fuse)
    x = images(7)
    table, before = measured(net, lambda n: move(n, share), x)
    wanted = reference(net, before, x)
    assert list(table.index) == list(wanted) and (table.iterations == 1).all()
    if not fuse:
        for name, (aiwq, dead) in wanted.items():
            assert table.aiwq[name] == pytest.approx(aiwq, rel=2e-3 if aiwq < 100 else 0.02, abs=3e-7), name
            assert table.dead[name] == dead, name
    else:       # a number on the edge of two codes may fall otherwise, and layers behind it see another input
        first = next(iter(wanted))
        assert table.aiwq[first] == pytest.approx(wanted[first][0], rel=2e-3, abs=3e-7)
        for name, (aiwq, _) in wanted.items():
            assert table.aiwq[name] == pytest.approx(aiwq, rel=0.05 if aiwq < 100 else 0.2, abs=1e-5), name
    assert sum(aiwq > 1e-6 for aiwq, _ in wanted.values()) >= len(wanted) - 3      # there was something to measure


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_other_precisions(dtype):
    net = quantized().double() if dtype == torch.float64 else quantized()
    x = images(7).double() if dtype == torch.float64 else images(7)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        table, before = measured(net, lambda n: move(n, 0.3), x)
    wanted = reference(net, before, x)
    for name, (aiwq, _) in wanted.items():
        assert table.aiwq[name] == pytest.approx(aiwq, rel=0.3 if dtype == torch.bfloat16 else 2e-3, abs=3e-7), name
    assert table.aiwq.min() > 1e-5


@pytest.mark.parametrize("fuse", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("scheme", ["duq", "float weights", "twn", "a range per channel", "XNOR"])
def test_nothing_where_no_weight_has_changed(scheme, fuse):
    """With another input, too, and borders of -3/8; biases do not count, since they are no weights."""
    net = quantized(SCHEMES[scheme], fuse=fuse)
    assert any(getattr(m, "pad_value", 0) == -0.375 for m in net.modules()) == (scheme != "XNOR")
    with Aiwq(net) as aiwq:
        net(images(1))
        for layer in layers(net).values():
            if layer.bias is not None:
                layer.bias.data += 0.01
        net(images(2))
    assert aiwq.table().aiwq.tolist() == [0.0] * len(layers(net)) and (aiwq.table().iterations == 1).all()


def test_codes_that_stay_count_as_unchanged():
    """Weights that move within their steps change nothing."""
    net = quantized()

    def nudge(n):
        for layer in layers(n).values():
            q = layer.weight_quantizer
            layer.weight.data = q(layer.weight.data).detach()         # to the middle of their steps
    nudge(net)

    def move_a_little(n):
        for layer in layers(n).values():
            step = layer.weight_quantizer.affine().in_scale.item() / layer.weight_quantizer.grid.steps
            layer.weight.data += 0.2 * step * torch.sin(torch.arange(layer.weight.numel())).view_as(layer.weight)
    before = {name: layer.quantized_weight() for name, layer in layers(net).items()}
    table, _ = measured(net, move_a_little)
    assert all(torch.equal(layer.quantized_weight(), before[name]) for name, layer in layers(net).items())
    assert table.aiwq.tolist() == [0.0] * len(table)


@pytest.mark.parametrize("factor", [0.9, 1.001, 1.5])
@pytest.mark.parametrize("fuse", [False, True], ids=["plain", "fused"])
def test_a_change_of_scale_alone_is_known_in_closed_form(factor, fuse):
    """Twice the scale is twice the output but for the bias."""
    net = quantized(fuse=fuse)

    def rescale(n):
        for layer in layers(n).values():        # s(c) is softplus
            c = layer.weight_quantizer.c
            c.data = (F.softplus(c.data) * factor).expm1().log()
    x = images(7)
    table, before = measured(net, rescale, x)
    wanted, name = reference(net, before, x), "3"       # without a bias the ratio of standard deviations is `factor`
    layer = net[3]
    assert layer.bias is None
    assert table.aiwq[name] > factor**2 / 2 - 0.5 - math.log(factor) - 1e-9
    for name, (aiwq, _) in wanted.items():
        assert table.aiwq[name] == pytest.approx(aiwq, rel=2e-3 if not fuse else 0.05, abs=1e-8), name


def normals(mean, var):
    return Moments(torch.tensor(mean, dtype=torch.float64), torch.tensor(var, dtype=torch.float64), 10)


@pytest.mark.parametrize("new, old", [((0.0, 1.0), (1.0, 4.0)), ((1.0, 4.0), (0.0, 1.0)), ((-2.0, 0.3), (5.0, 0.2))])
def test_divergence_is_from_the_new_to_the_old(new, old):
    (m1, v1), (m0, v0) = new, old
    found = divergence(normals([m1], [v1]), normals([m0], [v0]))
    wanted = math.log(math.sqrt(v0 / v1)) + (v1 + (m1 - m0) ** 2) / (2 * v0) - 0.5
    assert found.tolist() == pytest.approx([wanted], rel=1e-12)
    torch_says = torch.distributions.kl_divergence(torch.distributions.Normal(m1, v1**0.5),
                                                   torch.distributions.Normal(m0, v0**0.5))
    assert found.item() == pytest.approx(torch_says.item(), rel=1e-5)


def ternary_linear(n_in=1, n_out=1, weight=1.0, bias=0.0):
    """A linear layer with levels -1, 0 and 1, on float inputs."""
    net = nn.Sequential(nn.Linear(n_in, n_out))
    net[0].weight.data.fill_(weight), net[0].bias.data.fill_(bias)
    net = models.quantize(net, Scheme("duq", w_bits=2, a_bits=32)).train()
    q = net[0].weight_quantizer
    q.a.data.fill_(math.log(math.e - 1)), q.c.data.fill_(math.log(math.e - 1))
    q.calibrated = True
    return net


def test_one_channel_by_hand():
    """y = x1 + x2 + 3 becomes y = x1 + 3: mean 3 + 2 + 1 to 3 + 2, variance 1 + 1 + 2 cov to 1."""
    net = ternary_linear(2, bias=3.0)
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [1.0, 2.0], [3.0, 2.0]])      # mean 2 and 1, variance 1 and 1, cov 0

    def drop(n):
        n[0].weight.data[0, 1] = 0.1
    table, _ = measured(net, drop, x)
    assert table.aiwq.item() == pytest.approx(math.log(math.sqrt(2)) + (1 + 1) / (2 * 2) - 0.5, rel=1e-6)


def test_dead_channels_are_counted_and_left_out():
    net = ternary_linear(2, 3)
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    net[0].weight.data[1] = 0.0         # dead before and after

    def change(n):
        n[0].weight.data[0, 0] = -1.0
        n[0].weight.data[2] = 0.0       # dead after
    table, before = measured(net, change, x)
    new, old = (direct(one[0], x, one[0].quantized_weight())[:1] for one in (net, before))
    assert table.dead.item() == 2 and table.not_finite.item() == 0
    assert table.aiwq.item() == pytest.approx(gaussians(new, old)[0], rel=1e-5)


def test_a_nearly_dead_channel_carries_away_the_mean_and_not_the_trimmed_mean():
    """Of twenty channels four change a little, and one that was nearly constant comes to life."""
    net = ternary_linear(2, 20)
    net[0].weight.data[4, 0] = 0.0
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    x[:, 1] *= 1e-2                     # which is all that the nearly constant channel sees

    def change(n):
        n[0].weight.data[:4, 1] = 0.0
        n[0].weight.data[4, 0] = 1.0
    table, before = measured(net, change, x)
    new, old = (direct(one[0], x, one[0].quantized_weight()) for one in (net, before))
    kl = sorted(gaussians(new[i:i + 1], old[i:i + 1])[0] for i in range(20))
    assert table.aiwq.item() == pytest.approx(sum(kl) / 20, rel=1e-4) and table.aiwq.item() > 100
    assert table.trimmed.item() == pytest.approx(sum(kl[2:-2]) / 16, rel=1e-3) and table.trimmed.item() < 1e-4


def test_channels_that_jump_in_turn_are_not_trimmed_away():
    """Ten channels, each of which jumps in one of ten iterations: all alike in the end, though nine rest each time."""
    net = ternary_linear(2, 10)
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    with Aiwq(net) as aiwq, torch.no_grad():
        net(x)
        for channel in range(10):
            net[0].weight[channel, 1] = 0.0
            net(x)
    table = aiwq.table()
    assert table.trimmed.item() == pytest.approx(table.aiwq.item(), rel=1e-2) and table.trimmed.item() > 0.01


@pytest.mark.parametrize("fuse", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups, size", [(8, 3), (1, 3), (1, 1)])
@pytest.mark.parametrize("method, a_bits", [("duq", 4), ("duq", 32), ("twn", 4), ("lsq", 4), ("lsq", 32)])
def test_a_channel_that_comes_to_life_has_no_divergence(method, a_bits, groups, size, bias, fuse):
    """What rounding leaves of its constant old output is no Gaussian."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 8, size, groups=groups, bias=bias), nn.BatchNorm2d(8))
    x = (torch.randn(16, 8, 16, 16) + 0.3).to(memory_format=torch.channels_last)
    net = models.quantize(net.to(memory_format=torch.channels_last), Scheme(method, w_bits=2 if method == "twn" else 4,
                                                                            a_bits=a_bits))
    net = models.calibrate(net, x[:4]).train()
    net = models.fuse(net) if fuse else net
    alive = net[0].weight.data[0].clone()
    net[0].weight.data[0] = 0

    def enliven(n):
        n[0].weight.data[0] = alive
        for parameter in n[0].weight_quantizer.parameters():
            parameter.data *= 1.003
    table, _ = measured(net, enliven, x)
    assert table.dead.item() == 1 and table.iterations.item() == 1 and table.aiwq.item() < 1


def test_a_layer_of_dead_channels_has_no_value():
    net = ternary_linear(2, 3, weight=0.0)
    with Aiwq(net, history=True) as aiwq:
        net(torch.randn(9, 2)), net(torch.randn(9, 2))
    row = aiwq.table().iloc[0]
    assert row.dead == 3 and row.iterations == 0 and math.isnan(row.aiwq) and aiwq.history().empty


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_what_is_not_finite_passes(bad):
    """One bad batch leaves no trace in the average; whether infinite values or none were found is told apart."""
    net = ternary_linear(2, 3)
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))

    def flip(n, to):
        n[0].weight.data[0, 0] = to
    with Aiwq(net) as aiwq:
        net(x)
        flip(net, -1.0)
        net(x)
        first = aiwq.table().iloc[0]
        flip(net, 1.0)
        net(torch.cat([x[1:], torch.full((1, 2), bad)]))
        flip(net, -1.0)
        net(x)
    last = aiwq.table().iloc[0]
    assert first.iterations == 1 and 2 <= last.iterations <= 3
    assert all(math.isfinite(last[key]) for key in ("aiwq", "mean", "max"))


def test_no_divergence_of_huge_or_tiny_outputs_is_infinite():
    for size in (1e-18, 1e15):
        net = ternary_linear(2, 3)
        x = size * torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
        table, before = measured(net, lambda n: n[0].weight.data[0, 0].fill_(-1.0), x)
        wanted = gaussians(*(direct(one[0], x, one[0].quantized_weight()) for one in (net, before)))[0]
        assert table.aiwq.item() == pytest.approx(wanted, rel=1e-4)


class Twice(nn.Module):
    """One convolution that two modules call."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(torch.relu(self.conv(x)))


def test_layer_called_twice_counts_its_first_call():
    net = models.calibrate(models.quantize(Twice(), Scheme()), images()).train()
    x = images(7)
    table, before = measured(net, lambda n: move(n, 0.3), x)
    q = net.conv.input_quantizer
    wanted = gaussians(*(direct(one.conv, q(x), one.conv.quantized_weight()) for one in (net, before)))[0]
    assert len(table) == 1 and table.iterations.item() == 1
    assert table.aiwq.item() == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("shape", [(5, 2), (4, 5, 2), (2, 3, 5, 2), (4, 1, 5, 2)])
def test_linear_layers_take_inputs_of_any_shape(shape):
    net = ternary_linear(2, 3)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    table, before = measured(net, lambda n: n[0].weight.data[:2, 0].fill_(-1.0), x)
    wanted = gaussians(*(direct(one[0], x, one[0].quantized_weight()) for one in (net, before)))[0]
    assert table.aiwq.item() == pytest.approx(wanted, rel=1e-5)


def test_evaluation_does_not_count():
    net = quantized()
    with Aiwq(net, history=True) as aiwq:
        net(images(1))
        move(net, 0.1)
        net.eval()(images(2))
        assert aiwq.iteration == 1 and (aiwq.table().iterations == 0).all() and aiwq.table().aiwq.isna().all()
        net.train()(images(1))
    assert (aiwq.table().iterations == 1).all() and aiwq.iteration == 2
    before = aiwq.table()
    net(images(3))                  # outside the block nothing is measured
    pd.testing.assert_frame_equal(aiwq.table(), before)


def train(net, steps=3, start=0, optimizer=None, lr=0.05):
    optimizer = optimizer or torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    for i in range(start, start + steps):
        optimizer.zero_grad()
        y = net(images(i))
        F.cross_entropy(y, torch.arange(len(y)) % 10).backward()
        optimizer.step()
    return {**{k: v.clone() for k, v in net.state_dict().items() if torch.is_tensor(v)},
            **{f"gradient of {k}": p.grad for k, p in net.named_parameters()}, "output": y.detach()}


@pytest.mark.parametrize("scheme", ["duq", "twn", "XNOR"])
@pytest.mark.parametrize("fuse", [False, True], ids=["plain", "fused"])
def test_measuring_changes_nothing(fuse, scheme):
    net = quantized(SCHEMES[scheme], fuse=fuse)
    other = copy.deepcopy(net)
    with Aiwq(other, history=True) as aiwq:
        watched = train(other)
    plain = train(net)
    assert plain.keys() == watched.keys()
    assert all(torch.equal(value, watched[key]) for key, value in plain.items())
    assert (aiwq.table().iterations == 2).all() and aiwq.table().aiwq.max() > 0


def test_state_goes_on_where_it_was(tmp_path):
    def go(pause):
        net = quantized()
        optimizer, aiwq = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9), Aiwq(net, history=True)
        with aiwq:
            train(net, 2, optimizer=optimizer)
        if pause:
            torch.save(aiwq.state(), tmp_path / "state.pt")
            aiwq = Aiwq(net, history=True)
            aiwq.load(torch.load(tmp_path / "state.pt", weights_only=True))
        with aiwq:
            train(net, 2, start=2, optimizer=optimizer)
        return aiwq
    whole, parts = go(False), go(True)
    assert (whole.table().iterations == 3).all() and whole.iteration == 4
    pd.testing.assert_frame_equal(parts.table(), whole.table(), check_exact=True)
    pd.testing.assert_frame_equal(parts.history(), whole.history(), check_exact=True)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_average_mean_and_largest(decay):
    net = quantized()
    with Aiwq(net, decay=decay, history=True) as aiwq:
        train(net, 5)
    history = aiwq.history()
    for name, row in aiwq.table().set_index("layer").iterrows():
        values = history[(history.layer == name) & (history.metric == "aiwq")].value.tolist()
        weights = [decay ** (len(values) - 1 - i) for i in range(len(values))]
        assert len(values) == row.iterations == 4
        assert row.aiwq == pytest.approx(sum(w * v for w, v in zip(weights, values)) / sum(weights))
        assert (row["mean"], row["max"]) == (pytest.approx(sum(values) / 4), max(values))


def test_history_has_a_row_per_iteration_layer_and_metric():
    net = quantized(fuse=True)
    norms = {name: m for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for norm in norms.values():
        norm.momentum = 0.3
    states = []
    with Aiwq(net, history=True) as aiwq:
        for i in range(3):
            train(net, 1, start=i)
            states.append({name: (m.running_mean.clone(), m.running_var.clone()) for name, m in norms.items()})
    history = aiwq.history()
    assert list(history.columns) == ["iteration", "layer", "metric", "value"]
    assert not history.duplicated(["iteration", "layer", "metric"]).any() and history.value.map(math.isfinite).all()
    counts = history.groupby("metric").size().to_dict()
    assert counts == {"aiwq": 2 * len(layers(net)), "running_mean": 3 * 4, "running_var": 3 * 4, "mean_drift": 2 * 4,
                      "var_drift": 2 * 4}
    values = history.set_index(["iteration", "layer", "metric"]).value
    for name, norm in norms.items():
        for i, (mean, var) in enumerate(state[name] for state in states):
            assert values[i + 1, name, "running_mean"] == pytest.approx(mean.mean().item(), abs=1e-6)
            assert values[i + 1, name, "running_var"] == pytest.approx(var.mean().item(), rel=1e-5)
            if i:
                mean0, var0 = states[i - 1][name]
                drift = ((mean - mean0).abs() / (var0 + norm.eps).sqrt()).mean().item()
                assert values[i + 1, name, "mean_drift"] == pytest.approx(drift, rel=1e-4)
                drift = ((var + norm.eps) / (var0 + norm.eps)).log().abs().mean().item()
                assert values[i + 1, name, "var_drift"] == pytest.approx(drift, rel=1e-3)


def test_history_only_where_asked_for():
    with pytest.raises(InputError, match="history=True"):
        Aiwq(quantized()).history()


@pytest.mark.parametrize("decay", [-0.1, 1.0, math.nan])
def test_impossible_decay(decay):
    with pytest.raises(InputError, match="decay"):
        Aiwq(quantized(), decay=decay)


def test_network_that_is_not_quantized():
    with pytest.raises(InputError, match="models.quantize"):
        Aiwq(every_kind())


def test_table_names_layers_in_the_network_s_order():
    net = quantized()
    table = Aiwq(net).table()
    assert list(table.columns) == ["layer", "kind", "aiwq", "trimmed", "mean", "max", "iterations", "dead",
                                   "not_finite"]
    plan = models.plan(net)
    assert table.layer.tolist() == plan.layer.tolist() and table.kind.tolist() == plan.kind.tolist()
    assert table.aiwq.isna().all() and table.iterations.eq(0).all()
