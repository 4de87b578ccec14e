"""Networks as others write them, in all the forms that they can take here: what works stays so.

torch.export, jit.trace and averaged models: tests/quantizers/test_state.py; pickle and torch.compile:
tests/training/test_aiwq_hooks.py.
"""
import copy

import pytest
import torch
from torch import nn

from paperlib import deploy, models
from paperlib.models import Scheme, fused_conv

X = torch.randn(6, 4, 12, 10, generator=torch.Generator().manual_seed(0))
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def fuse_small_layers_too(monkeypatch):
    monkeypatch.setattr(fused_conv, "WORTH", 0)


def network(*conv, channels=8, affine=True, gamma=None, sync=False, **options):
    """A convolution of this kind among others, with batch norms that do something."""
    torch.manual_seed(0)
    kind = nn.SyncBatchNorm if sync else nn.BatchNorm2d
    net = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), kind(8, affine=affine), nn.ReLU(),
                        nn.Conv2d(8, channels, *conv, **options), kind(channels, affine=affine), nn.Hardswish(),
                        nn.Conv2d(channels, 8, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    if gamma is not None:
        for norm in (net[1], net[4]):
            norm.weight.data[::2] = gamma
    net.train()(X)
    return net


KINDS = {
    "groups": ((3, 1, 1), {"groups": 2}), "depthwise": ((3, 1, 1), {"groups": 8}),
    "depthwise, 3 channels from each": ((3, 2, 1), {"groups": 8, "channels": 24}),
    "a kernel of 3 x 1": (((3, 1), (2, 1), (1, 0)), {}), "a kernel of 1 x 5": (((1, 5), 1, (0, 2)), {"bias": False}),
    "wider than its padding": ((5, 3, 1), {}), "dilated": ((3, 1, 2), {"dilation": 2}),
    "negative gamma": ((3, 1, 1), {"gamma": -0.7}), "gamma of 0": ((3, 1, 1), {"gamma": 0.0}),
    "affine=False": ((3, 1, 1), {"affine": False}), "SyncBatchNorm": ((3, 1, 1), {"sync": True})}


def built(kind="groups", scheme=Scheme()):
    conv, options = KINDS[kind]
    net = network(*conv, **options)
    return net, models.calibrate(models.quantize(net, scheme), X)


def step(net, x=X):
    """Output, gradients and statistics of a training step."""
    net.zero_grad()
    y = net.train()(x)
    y.square().mean().backward()
    return [y.detach(), *(p.grad.clone() for p in net.parameters() if p.grad is not None), *map(torch.clone,
            net.buffers())]


def off(y, wanted):
    return ((y - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_computes_the_same(kind, tmp_path):
    float_net, q = built(kind)
    assert off(models.fold(float_net).eval()(X), float_net.eval()(X)) < 1e-4
    with torch.no_grad():
        y = q.eval()(X)
        assert off(y, float_net(X)) < 0.5 and off(models.fuse(q)(X), y) < 1e-3
        assert torch.equal(models.unfuse(models.fuse(q))(X), y)
        assert off(deploy.IntegerNet(q)(X), y) < 1e-2 and off(deploy.IntegerNet(q, "fixed")(X), y) < 0.05
        assert torch.equal(deploy.load(deploy.pack(q, tmp_path / "packed"), network(*KINDS[kind][0], **KINDS[kind][1]))(
            X), y)
    plain, form = step(models.unfuse(q.double()), X.double()), step(models.fuse(q), X.double())
    for a, b in zip(plain, form, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


STRIDES = {
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "every other": lambda x: torch.stack([x, x], -1).flatten(-2)[..., ::2],
    "transposed": lambda x: x.mT.contiguous().mT, "a part of more": lambda x: torch.cat([x, x], 1)[:, :4],
    "expanded": lambda x: x[:1].expand(6, -1, -1, -1)}


@pytest.mark.parametrize("form", [models.unfuse, models.fuse])
@pytest.mark.parametrize("how", STRIDES)
def test_strides_make_no_difference(form, how):
    net, x = form(built()[1]), STRIDES[how](X)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(x), net(x.clone(memory_format=torch.contiguous_format)), rtol=1e-4,
                                   atol=1e-5)
    assert all(t.isfinite().all() for t in step(net, x))


@pytest.mark.parametrize("form", [models.unfuse, models.fuse, deploy.IntegerNet])
def test_an_empty_batch(form):
    with torch.no_grad():
        assert form(built()[1].eval())(X[:0]).shape == (0, 5)


@pytest.mark.parametrize("form", [models.unfuse, models.fuse])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(form, dtype):
    net = form(built()[1]).train()
    wanted = copy.deepcopy(net)(X)
    with torch.autocast("cpu", dtype):
        y = net(X)
    y.float().square().mean().backward()
    assert y.dtype == dtype and off(y.float(), wanted) < 0.3
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("form", [models.unfuse, models.fuse])
def test_double_precision(form):
    net = form(built()[1]).eval()
    with torch.no_grad():
        y, wide = net(X), net.double()(X.double())
    assert wide.dtype == torch.float64 and off(y.double(), wide) < 1e-2


@pytest.mark.parametrize("form", [models.unfuse, models.fuse])
def test_frozen_parameters_stay_frozen(form):
    float_net = built()[0]
    for parameter in (*float_net[0].parameters(), float_net[4].weight, float_net[10].bias):
        parameter.requires_grad_(False)
    net = form(models.calibrate(models.quantize(float_net, Scheme()), X))
    optimizer, before = torch.optim.SGD(net.parameters(), 0.1), copy.deepcopy(net)
    step(net), optimizer.step()
    frozen = {"0.weight", "0.bias", "4.weight", "10.bias"}
    assert {name for name, p in net.named_parameters() if not p.requires_grad} == frozen
    for (name, p), old in zip(net.named_parameters(), before.parameters()):
        if name in frozen:
            assert p.grad is None and torch.equal(p, old)
    assert not torch.equal(net[3].weight, before[3].weight)
