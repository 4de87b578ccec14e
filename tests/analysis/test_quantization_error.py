"""The error of a grid, against closed forms; its two parts add up; a layer's output."""
import pytest
import torch

from paperlib import quantizers
from paperlib.analysis import quantization_error
from paperlib.models.layers import QuantConv2d


def weights(bits):
    return quantizers.build("duq", role="weight", bits=bits)


def even(n=200_001):
    return torch.linspace(-1, 1, n)


def test_rounding_and_clipping_add_up_and_have_their_closed_forms():
    x, q = even(), quantization_error.set_max_level(weights(4), 0.7)
    rounding, clipping = quantization_error.error_parts(x, q)
    assert rounding + clipping == pytest.approx(((q(x) - x).square().mean() / x.square().mean()).item(), rel=1e-4)
    assert clipping == pytest.approx(0.3**3, rel=1e-3)                   # 2 * (0.3³/3) / 2, over 1/3
    assert rounding == pytest.approx(0.7 * 0.1**2 / 12 * 3, rel=1e-2)
    assert quantization_error.error_parts(x, quantization_error.set_max_level(q, 1.0))[1] == pytest.approx(0, abs=1e-12)


def test_a_scan_finds_what_calibration_finds():
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    tops = [0.02 * i for i in range(20, 201)]
    least = quantization_error.best(quantization_error.scan(x, weights(3), tops))
    found = weights(3).calibrate(x, "mse")
    assert least.index.tolist() == [3] and least.range[3] == pytest.approx(found.levels()[-1].item(), abs=0.03)
    assert least.error[3] == pytest.approx(sum(quantization_error.error_parts(x, found)), rel=5e-3)


def test_a_sample_is_drawn_always_the_same():
    x = torch.arange(1000.0).reshape(10, 100)
    assert torch.equal(quantization_error.sample(x), x.flatten())
    few = quantization_error.sample(x, 50)
    assert len(few) == 50 and torch.equal(few, quantization_error.sample(x, 50)) and len(few.unique()) > 40


def layer():
    torch.manual_seed(0)
    return QuantConv2d.from_float(torch.nn.Conv2d(6, 5, 1))


def test_the_output_feels_the_weights_errors():
    conv, x, q = layer(), torch.randn(20, 6, 4, 4, generator=torch.Generator().manual_seed(1)), weights(3)
    q.calibrate(conv.weight)
    error = (q(conv.weight) - conv.weight).flatten(1)
    wanted = torch.einsum("oi,nihw->nohw", error, x).square().mean() / conv(x).square().mean()
    got = quantization_error.of_output(conv, x, q)
    assert got.item() == pytest.approx(wanted.item(), rel=1e-4)
    got.backward()
    assert q.a.grad != 0 and conv.weight.grad.abs().sum() > 0
    a = quantizers.build("duq", role="activation", bits=3, signed=True).calibrate(x)
    direct = (conv(a(x)) - conv(x)).square().mean() / conv(x).square().mean()
    assert quantization_error.of_output(conv, x, a).item() == pytest.approx(direct.item())
