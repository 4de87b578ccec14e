"""Fused convolutions and the loops in C compute what the plain modules and torch do."""
import copy
import math
import shutil

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paperlib import models, quantizers
from paperlib.errors import InputError
from paperlib.models import Scheme, fused_conv
from paperlib.models.layers import QuantConv2d
from paperlib.quantizers import kernels

SCHEMES = {
    "DuQ": Scheme(), "zero padding": Scheme(negative_padding=False), "PACT + SAWB": Scheme("sawb", "pact"),
    "LSQ+": Scheme("lsq", "lsq+", a_bits=3), "LSQ": Scheme("lsq+", "lsq", per_channel=True),
    "QIL": Scheme("qil", "qil"),
    "DoReFa": Scheme("dorefa", "dorefa", w_bits=2), "float weights": Scheme(w_bits=32)}
in_c = pytest.mark.skipif(kernels.library() is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def fuse_small_layers_too(monkeypatch):
    monkeypatch.setattr(fused_conv, "WORTH", 0)


def without_c(monkeypatch):
    monkeypatch.setattr(kernels, "library", lambda: None)
    monkeypatch.setattr(kernels, "in_c", lambda: None)


def images(n=6, size=32, dtype=torch.float64):
    x = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    return x.to(dtype).to(memory_format=torch.channels_last)


def network(name="mobilenet_v2", scheme=Scheme(), dtype=torch.float64):
    """A quantized network with batch norms that do something."""
    torch.manual_seed(0)
    net = models.build(name, width=0.25).to(dtype)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias)
    net.train()(images(dtype=dtype))
    net = models.calibrate(models.quantize(net, scheme), images(dtype=dtype)).train()
    with torch.no_grad():       # values that set a range lie on the edge of a grid, where rounding decides: move edges
        for q in (m for m in net.modules() if isinstance(m, quantizers.Quantizer)):
            for parameter in q.parameters():
                parameter.mul_(1.0123)
    return net


def results(net, x):
    """Output, gradients and buffers after one training step's forward and backward."""
    x = x.detach().requires_grad_()
    y = net(x)
    (y * torch.sin(torch.arange(y.numel(), dtype=y.dtype)).reshape(y.shape)).sum().backward()
    return {"y": y.detach(), "x": x.grad, **{k: p.grad for k, p in net.named_parameters()},
            **{k: b.clone() for k, b in net.named_buffers()}}


def assert_same(one, other, rtol=1e-9):
    """Tensor by tensor, relative to its greatest value; gradients that vanish but for rounding count as rounding."""
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert (value is None) == (other[key] is None), key
        if value is not None:
            off, top = (other[key].double() - value.double()).abs().max().item(), value.abs().max().item()
            assert off <= rtol * max(top, 1e-2), f"{key}: off by {off:g} where the greatest is {top:g}"


@pytest.mark.slow
@pytest.mark.parametrize("name, scheme", [*(("mobilenet_v2", s) for s in SCHEMES), *(
    ("mobilenet_v3_large", s) for s in ("DuQ", "QIL"))])
def test_fused_network_computes_the_same(name, scheme):
    plain = network(name, SCHEMES[scheme])
    net = models.fuse(plain)
    for mode in (True, False):      # batch norm of channels that are all but constant magnifies rounding
        one, other = (results(m.train(mode), images(7)) for m in (plain, net))
        gradients = [k for k in ("x", *dict(plain.named_parameters())) if one[k] is not None]
        both = [torch.cat([r.pop(k).flatten() for k in gradients]) for r in (one, other)]
        assert (both[1] - both[0]).norm() < 1e-2 * both[0].norm()
        assert_same(one, other)     # output, running statistics


def block(activation, quantizer, *, dtype=torch.float64, bn=True, **conv):
    """Batch norm, activation and a convolution with this input quantizer, plain and fused."""
    torch.manual_seed(1)
    layer = QuantConv2d.from_float(nn.Conv2d(5, 10, 3, **{"padding": 1, **conv}))
    layer.input_quantizer, layer.pad_value = quantizer, quantizer.floor
    plain = nn.Sequential(nn.BatchNorm2d(5) if bn else nn.Identity(), activation or nn.Identity(), layer).to(dtype)
    if bn:
        nn.init.uniform_(plain[0].weight, 0.5, 2)
        nn.init.normal_(plain[0].bias)
    both = copy.deepcopy(plain), copy.deepcopy(plain)
    if activation is None and bn:
        both = [nn.Sequential(b[0], b[2]) for b in both]
    both[1].train()
    return both[0], models.fuse(both[1])


def data(dtype=torch.float64, n=4, size=9):
    x = torch.randn(n, 5, size, size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return (3 * x + torch.arange(5.0).view(1, 5, 1, 1)).to(dtype).to(memory_format=torch.channels_last)


def quantizer(name, floor=0.0, bits=3, span=2.0, **options):
    q = quantizers.build(name, role="activation", bits=bits, floor=floor, **options)
    with torch.no_grad():
        q.set_span(torch.tensor(span))
    q.calibrated = True
    return q


CHAINS = [  # ranges below and beyond the 6 at which ReLU6 clips; offsets that put levels below ReLU's 0
    *((act, name, 0.0, span, {}) for act in (nn.ReLU, nn.ReLU6) for name in ("duq", "pact", "lsq", "qil")
      for span in (2.0, 9.0)),
    *((nn.Hardswish, name, -0.375, 2.0, {}) for name in ("duq", "lsq+", "pact", "qil")),
    (nn.ReLU6, "duq", -0.5, 9.0, {"learn_offset": True}), (nn.Hardswish, "duq", -0.375, 2.0, {"learn_offset": True}),
    (nn.ReLU, "lsq+", -0.25, 4.0, {}), *((None, name, 0.0, 3.0, {"signed": True}) for name in ("duq", "pact"))]


@pytest.mark.parametrize("conv", [{}, {"bias": False, "stride": 2, "groups": 5}, {"padding": 0}], ids=str)
@pytest.mark.parametrize("act, name, floor, span, options", CHAINS, ids=str)
def test_chain_computes_the_same(act, name, floor, span, options, conv):
    plain, net = block(act and act(), quantizer(name, floor, span=span, **options), **conv)
    last = net[-1]
    assert last.prologue.norm is net[0] and type(last.prologue.activation) is (act or type(None))
    assert_same(results(plain, data()), results(net, data()))


@pytest.mark.parametrize("bn", [True, False])
@pytest.mark.parametrize("pad", [-0.375, 0.0])
def test_border(bn, pad):
    """The grid may start at -3/8 while the border is 0."""
    plain, net = block(nn.Hardswish() if bn else None, quantizer("duq", -0.375), bn=bn)
    plain[-1].pad_value = net[-1].pad_value = pad
    assert_same(results(plain, data()), results(net, data()))


@in_c
@pytest.mark.parametrize("act, name, floor, span, options", CHAINS, ids=str)
def test_c_and_torch_loops_agree(act, name, floor, span, options, monkeypatch):
    found = []
    for use_c in (True, False):
        if not use_c:
            without_c(monkeypatch)
        _, net = block(act and act(), quantizer(name, floor, span=span, **options), dtype=torch.float32)
        assert (kernels.best(data(torch.float32)) is not kernels.TORCH) == use_c
        found.append(results(net, data(torch.float32, size=33)))
    assert_same(*found, rtol=2e-4)      # float32; sums are taken in another order


@in_c
@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("half_up", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 70, 1, 1), (1, 1, 7, 3), (5, 33, 40, 40)], ids=str)
def test_kernels(shape, half_up, curved):
    g = torch.Generator().manual_seed(0)
    z, grad = (torch.randn(shape, generator=g).to(memory_format=torch.channels_last) for _ in range(2))
    slope, intercept, mean, invstd = torch.rand(4, shape[1], generator=g) + 0.5
    chain = kernels.Chain(slope, intercept, 2.5, 0.9, 0.0, 7.0, curved, half_up)
    c, t = kernels.in_c(), kernels.TORCH
    codes = [k.codes(z, chain, torch.empty_like(z)).clone() for k in (c, t)]
    assert codes[0].unique().numel() <= 8 and (codes[0] != codes[1]).float().mean() < 1e-4      # ties, by rounding
    for moving in (True, False):
        found = []
        for k in (c, t):
            own = grad.clone(memory_format=torch.preserve_format)
            found.append([*k.backward(own, z, chain, mean, invstd, moving), own])
        torch.testing.assert_close(*found, rtol=1e-4, atol=2e-3)


@in_c
@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 70, 1, 2), (3, 1, 7, 3), (5, 33, 40, 40)], ids=str)
def test_moments_are_those_of_torch(shape, running):
    g = torch.Generator().manual_seed(0)
    z = (torch.randn(shape, generator=g) + 50 * torch.randn(1, shape[1], 1, 1, generator=g)).to(
        memory_format=torch.channels_last)
    found = []
    for k in (kernels.in_c(), kernels.TORCH):
        stats = [torch.full((shape[1],), value) if running else None for value in (0.5, 2.0)]
        found.append([*k.moments(z, *stats, 0.1), *filter(lambda s: s is not None, stats)])
    exact = torch.var_mean(z.double(), (0, 2, 3), correction=0)
    torch.testing.assert_close(found[0][:2], [v.float() for v in exact[::-1]], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


@in_c
@pytest.mark.parametrize("threads", [2, 5])
def test_sums_are_the_same_at_each_time(threads):
    """However the threads come to their end."""
    g = torch.Generator().manual_seed(0)
    z, grad = (torch.randn(4, 33, 40, 40, generator=g).to(memory_format=torch.channels_last) for _ in range(2))
    line = torch.rand(4, 33, generator=g) + 0.5
    before, found, k = torch.get_num_threads(), set(), kernels.in_c()
    torch.set_num_threads(threads)
    try:
        for _ in range(20):
            own = grad.clone(memory_format=torch.preserve_format)
            sums = k.backward(own, z, kernels.Chain(*line[:2], 2.5, 0.9, 0.0, 7.0, False, False), *line[2:], True)
            every = torch.cat([v.flatten() for v in (*sums, *k.moments(z, None, None, 0.1), own)])
            found.add(hash(every.numpy().tobytes()))
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


@in_c
@pytest.mark.parametrize("floor", [0.0, -0.375])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("name", [n for n in quantizers.names("activation") if n != "xnor"])
def test_fake_quantization_in_c_is_bit_identical(name, bits, floor, monkeypatch):
    q = quantizers.build(name, role="activation", bits=bits, floor=floor)
    x = F.hardswish(2 * torch.randn(3, 8, 70, 70, generator=torch.Generator().manual_seed(bits)))
    q.calibrate(x)
    x.view(-1)[:5] = torch.tensor([math.inf, -math.inf, 3e38, 1e-40, math.nan])
    x, found = x.to(memory_format=torch.channels_last), []
    for _ in range(2):
        v = x.clone(memory_format=torch.preserve_format).requires_grad_()
        y = q(v)
        grads = torch.autograd.grad(y[1:].sin().sum(), [v, *q.parameters()])
        found.append([y.detach(), *grads])
        without_c(monkeypatch)
    assert torch.equal(*(f[0].nan_to_num(9) for f in found)) and torch.equal(*(f[1] for f in found))
    torch.testing.assert_close(*(f[2:] for f in found), rtol=1e-4, atol=1e-2, equal_nan=True)


def test_only_the_input_and_the_weight_are_kept():
    _, net = block(nn.ReLU6(), quantizer("duq"))
    kept, x = [], data().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()), lambda t: t):
        net(x)
    large = {p for p in kept if p in (x.data_ptr(), net[-1].weight.data_ptr())}
    assert len(kept) <= 4 and len(large) == 2


@pytest.mark.parametrize("act", [nn.ReLU6, nn.Hardswish])
def test_autocast_and_half_precision_do_it_apart(act):
    plain, net = block(act(), quantizer("duq", -0.375 if act is nn.Hardswish else 0.0), dtype=torch.float32)
    x = data(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        one, other = plain(x), net(x)
    assert other.dtype == torch.bfloat16 and torch.equal(one, other)
    assert torch.equal(plain.bfloat16()(x.bfloat16()), net.bfloat16()(x.bfloat16()))
    assert torch.equal(plain[0].running_mean, net[0].running_mean)


def test_fuse_copies_and_unfuse_gives_back():
    plain = network()
    before = {k: v.clone() for k, v in plain.state_dict().items() if isinstance(v, torch.Tensor)}
    net = models.fuse(models.fuse(plain))
    assert list(net.state_dict()) == list(plain.state_dict())
    results(net, images())
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in before.items())
    twin = copy.deepcopy(net)
    twin.load_state_dict(plain.state_dict())
    assert twin.features[1].conv[1].prologue.norm is not net.features[1].conv[1].prologue.norm
    back = models.unfuse(twin)
    assert [type(m) for m in back.modules()] == [type(m) for m in plain.modules()]
    assert torch.equal(back.eval()(images()), plain.eval()(images()))
    with pytest.raises(InputError, match="calibrate first, then models.fuse"):
        models.calibrate(net, images())
    again = models.quantize(net, Scheme(w_bits=2))      # the plan sees activations again
    assert models.plan(again).input.tolist() == models.plan(models.quantize(plain, Scheme())).input.tolist()


class Forked(nn.Module):
    """The activation feeds two layers, one batch norm is used twice, another has no running statistics."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(4, 4, 1) for _ in range(4))
        self.bn, self.twice = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.free = nn.BatchNorm2d(4, track_running_stats=False)
        self.relu, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        x = self.relu(self.bn(x))
        x = self.twice(self.a(x) + self.b(x))
        return self.d(self.free(self.c(self.relu2(self.twice(x)))))


def test_what_others_use_is_not_fused():
    plain = models.calibrate(models.quantize(Forked().double(), Scheme(first_input_bits=4)), data()[:, :4]).train()
    net = models.fuse(plain)
    assert [getattr(net, n).prologue.norm for n in "abcd"] == [None] * 4
    assert_same(results(plain, data()[:, :4]), results(net, data()[:, :4]))


def test_methods_without_an_even_grid_stay_plain():
    net = models.fuse(models.quantize(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)), Scheme(
        "xnor", "xnor", w_bits=1, a_bits=1, first_input_bits=1)))
    assert type(net[0]) is type(net[2]) is QuantConv2d and "forward" not in vars(net[1])
    with pytest.raises(Exception, match="no range yet"):
        models.fuse(models.quantize(models.build("mobilenet_v2", width=0.25), Scheme()))(images(dtype=torch.float32))


@pytest.mark.skipif(shutil.which("false") is None, reason="no `false` here")
def test_without_a_compiler_torch_does_it(monkeypatch, tmp_path):
    for key, value in (("CC", "false"), ("XDG_CACHE_HOME", str(tmp_path))):
        monkeypatch.setenv(key, value)
    assert kernels.library.__wrapped__() is None and not list(tmp_path.rglob("*.so"))
    monkeypatch.setenv("CC", "no-such-compiler")
    assert kernels.library.__wrapped__() is None


@in_c
def test_the_default_dtype_is_no_matter():
    x, found = images(dtype=torch.float32), []
    for dtype in (torch.float32, torch.float64):
        net = models.fuse(network(dtype=torch.float32))
        torch.set_default_dtype(dtype)
        try:
            found.append(results(net, x))
        finally:
            torch.set_default_dtype(torch.float32)
    assert_same(*found, rtol=0)


def test_layouts_that_c_cannot_do_go_through_torch():
    x = data(torch.float32)
    assert kernels.best(x) is kernels.in_c() and kernels.best(x.double()) is kernels.TORCH
    assert kernels.best(x.contiguous()) is kernels.TORCH and kernels.for_dense(x.mT) is None
    _, net = block(nn.ReLU(), quantizer("duq"), dtype=torch.float32)
    assert torch.allclose(net(x.contiguous()), net(x), atol=1e-4)


def test_small_layers_without_a_batch_norm_run_plainly(monkeypatch):
    _, net = block(None, quantizer("duq"), bn=False)
    for worth, name in ((data().numel(), "_FusedConv"), (data().numel() + 1, "Convolution")):
        monkeypatch.setattr(fused_conv, "WORTH", worth)
        assert name in net(data().requires_grad_()).grad_fn.name()
