"""Products by AND and popcount are exact, for codes of all widths and for layers of a network."""
import numpy as np
import pandas as pd
import pytest
import torch

from paperlib import models
from paperlib.analysis import popcount
from paperlib.errors import InputError
from paperlib.models.layers import QuantConv2d, QuantLinear

pytestmark = pytest.mark.usefixtures("one_thread")
RANDOM = np.random.default_rng(0)


def weights(bits, shape):
    if bits == 1:
        return RANDOM.choice([-1, 1], shape)
    return RANDOM.integers(-2 ** (bits - 1), 2 ** (bits - 1), shape)


@pytest.mark.parametrize("w_bits", range(1, 9))
@pytest.mark.parametrize("a_bits", range(1, 9))
def test_product_of_all_widths_is_exact(a_bits, w_bits):
    for m, k, n in ((3, 4, 1), (2, 3, 63), (5, 2, 64), (1, 2, 65), (3, 1, 200), (0, 3, 10), (3, 0, 10), (2, 2, 0)):
        a, w = RANDOM.integers(0, 2**a_bits, (m, n)), weights(w_bits, (k, n))
        found = popcount.product(a, w, a_bits, w_bits)
        assert found.dtype == np.int64 and np.array_equal(found, a @ w.T)


@pytest.mark.parametrize("a_bits, w_bits", [(8, 8), (1, 1), (8, 1), (1, 8)])
def test_product_of_the_extremes_is_exact(a_bits, w_bits):
    top, low = 2**a_bits - 1, -1 if w_bits == 1 else -2 ** (w_bits - 1)
    high = 1 if w_bits == 1 else 2 ** (w_bits - 1) - 1
    a, w = np.full((1, 1000), top), np.array([[low] * 1000, [high] * 1000])
    assert popcount.product(a, w, a_bits, w_bits).tolist() == [[1000 * top * low, 1000 * top * high]]


def test_ternary_weights_are_two_bits():
    a, w = RANDOM.integers(0, 16, (4, 100)), RANDOM.integers(-1, 2, (5, 100))
    assert np.array_equal(popcount.product(a, w, 4, 2), a @ w.T)


def test_planes_put_the_lowest_bit_first_and_fill_up_with_zeros():
    planes = popcount.planes(np.array([[1, 2, 3], [-1, 0, -4]]), 3)
    assert planes.shape == (3, 2, 1) and planes[:, 0, 0].tolist() == [0b101, 0b110, 0]
    assert planes[:, 1, 0].tolist() == [0b001, 0b001, 0b101]     # -1 is 111, -4 is 100
    assert popcount.planes(np.ones((1, 65), int), 1)[0, 0].tolist() == [2**64 - 1, 1]


@pytest.mark.parametrize("a, w, a_bits, w_bits, cause", [
    ([[4]], [[1]], 2, 2, "activations of 2 bits are 0 to 3, got 4 to 4: allow more"),
    ([[-1]], [[1]], 2, 2, "activations of 2 bits are 0 to 3"), ([[1]], [[2]], 2, 2, "weights of 2 bits are -2 to 1"),
    ([[1]], [[0]], 1, 1, "weights of 1 bit are -1 or 1"), ([[1, 1]], [[1]], 2, 2, "got 2 and 1: a weight's row"),
    ([1], [[1]], 2, 2, "two dimensions"), ([[0.5]], [[1]], 2, 2, "whole numbers .* encode")])
def test_wrong_input_is_refused(a, w, a_bits, w_bits, cause):
    with pytest.raises(InputError, match=cause):
        popcount.product(np.array(a), np.array(w), a_bits, w_bits)


def quantized(layer, x, method="qil", **scheme):
    """``layer`` behind a ReLU, quantized and calibrated with ``x``; 4 bits unless told."""
    scheme = models.Scheme(method, method, first_input_bits=scheme.get("a_bits", 4), **scheme)
    return models.calibrate(models.quantize(torch.nn.Sequential(torch.nn.ReLU(), layer), scheme), x)[1]


@pytest.mark.parametrize("a_bits, w_bits, options", [
    (1, 2, {}), (2, 3, {"stride": 2, "padding": 1}), (8, 8, {"padding": (0, 2), "bias": False}),
    (3, 4, {"dilation": 2, "stride": (2, 1), "padding": 2})])
def test_a_convolution_gives_its_output(a_bits, w_bits, options):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 9, 10)
    layer = quantized(torch.nn.Conv2d(5, 7, 3, **options), x, w_bits=w_bits, a_bits=a_bits)
    [row] = popcount.compare(torch.nn.Sequential(layer), x.relu()).itertuples()
    assert isinstance(layer, QuantConv2d) and row.equal and row.difference < 1e-5


@pytest.mark.parametrize("method", ["qil", "lsq"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_linear_layer_gives_its_output(method, per_channel):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 70)
    layer = quantized(torch.nn.Linear(70, 4), x, method, per_channel=per_channel)
    [row] = popcount.compare(torch.nn.Sequential(layer), x.relu()).itertuples()
    assert isinstance(layer, QuantLinear) and row.equal and row.difference < 1e-5


def test_layers_that_are_not_codes_times_a_scale_are_refused():
    x = torch.randn(2, 4, 6, 6)
    for layer, options, cause in (
            (torch.nn.Conv2d(4, 4, 3), {"a_bits": 32}, "float inputs or weights"),
            (torch.nn.Conv2d(4, 4, 3, groups=2), {}, "one group")):
        with pytest.raises(InputError, match=cause):
            popcount.codes(quantized(layer, x, **options), x.relu())
    with pytest.raises(InputError, match="float inputs or weights"):
        popcount.codes(torch.nn.Linear(2, 2), x)


def test_compare_counts_words_of_every_quantized_layer():
    torch.manual_seed(0)
    x = torch.rand(1, 3, 32, 32)
    scheme = models.Scheme("qil", "qil", w_bits=2, a_bits=1, quantize_first=False, quantize_last=False)
    net = models.calibrate(models.quantize(models.build("vgg7", width=0.0625), scheme), x)
    table = popcount.compare(net, x)
    plan = models.plan(net)
    assert table.layer.tolist() == plan[plan.w_bits == 2].layer.tolist() and len(table) == 6
    assert table.equal.all() and (table.difference < 1e-5).all() and table.w_bits.eq(2).all()
    first = table.iloc[0]       # 8 channels to 8 at 32 x 32: 72 products in 2 words, 1 bit times 2 bits
    assert (first.multiply_adds, first.words) == (1024 * 8 * 72, 1024 * 8 * 2 * 2)
    assert not any(m._forward_pre_hooks for m in net.modules())
    pd.testing.assert_frame_equal(table, popcount.compare(net.train(), x))
    assert net.training
