"""Gradients of depthwise weights in C: those of torch up to rounding, for every form of convolution that C takes."""
import pytest
import torch
from torch import nn

from paperlib.models import depthwise
from paperlib.models.layers import QuantConv2d
from paperlib.quantizers import kernels

pytestmark = pytest.mark.skipif(kernels.library() is None, reason="no C compiler: `make check-env` says why")


def conv_and_input(channels, kernel, stride=1, padding=None, size=9, **more):
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, channels, kernel, stride, kernel // 2 if padding is None else padding,
                     **{"groups": channels, **more})
    return QuantConv2d.from_float(conv), torch.randn(3, channels, size, size).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("threads", (1, 2))
@pytest.mark.parametrize("form", [
    {"channels": 16, "kernel": 5}, {"channels": 21, "kernel": 5, "stride": 2}, {"channels": 40, "kernel": 7, "size": 8},
    {"channels": 8, "kernel": 5, "padding": 0}, {"channels": 5, "kernel": 5, "stride": 3, "padding": 4},
    {"channels": 33, "kernel": 4, "stride": 2, "padding": 1}, {"channels": 16, "kernel": 5, "size": 2},
    {"channels": 3, "kernel": 6, "stride": 4, "padding": 5, "size": 5}, {"channels": 20, "kernel": 3, "size": 2},
    {"channels": 32, "kernel": 7, "stride": 2, "size": 30}], ids=str)
def test_gradients_are_those_of_torch(form, threads):
    conv, x = conv_and_input(**form)
    assert depthwise.in_c(conv, x)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = []
        for leaf in (x.clone(memory_format=torch.preserve_format).requires_grad_() for _ in range(2)):
            y = conv(leaf) if found else nn.Conv2d._conv_forward(conv, leaf, conv.weight, conv.bias)
            torch.manual_seed(1)
            found.append(torch.autograd.grad(y, (leaf, conv.weight, conv.bias), torch.randn_like(y)))
    finally:
        torch.set_num_threads(before)
    for ours, torchs in zip(found[1], found[0]):
        torch.testing.assert_close(ours, torchs, rtol=1e-5, atol=1e-5 * torchs.abs().max().item())


@pytest.mark.parametrize("form", [
    {"channels": 16, "kernel": 3}, {"channels": 16, "kernel": 9}, {"channels": 16, "kernel": 5, "groups": 4},
    {"channels": 16, "kernel": 5, "dilation": 2, "padding": 4},
    {"channels": 16, "kernel": 5, "padding": (2, 1)}], ids=str)
def test_other_convolutions_are_left_to_torch(form):
    conv, x = conv_and_input(**form)
    assert not depthwise.in_c(conv, x)
    assert torch.equal(conv(x), nn.Conv2d._conv_forward(conv, x, conv.weight, conv.bias))


def test_other_inputs_are_left_to_torch():
    conv, x = conv_and_input(16, 5)
    assert not depthwise.in_c(conv, x.contiguous()) and not depthwise.in_c(conv.double(), x.double())
    assert not depthwise.in_c(conv, x[:0])


def test_the_sum_does_not_depend_on_threads():
    conv, x = conv_and_input(48, 5, size=16)
    grad, before, found = torch.randn_like(conv(x)), torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(depthwise.weight_gradient(conv, grad, x))
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
