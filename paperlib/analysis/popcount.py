"""Products of low-bit numbers by AND and popcount, the arithmetic that QIL's introduction has in mind.

Codes are taken apart into bit planes, and 64 bits of a plane are packed into one word.  For a = sum 2**i a_i with bits
a_i, and w = sum v_j w_j with bits w_j of value v_j,

    sum_k a_k w_k  =  sum_ij  2**i  v_j  popcount(a_i AND w_j).

Weights are in two's complement, where only the top bit is special (its value is -2**(bits-1)): a row that is filled up
with zeros to whole words stays right, which an offset would have to be corrected for.  Ternary weights are the
two-bit case; bipolar ones, -1 and 1, are one plane b with w = 2 b - 1, hence twice the product minus sum a.

This is for understanding: NumPy does one word at a time, a library for this would not.
"""
from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..models.layers import QuantConv2d, QuantLinear
from .layer_inputs import capture_inputs

WORD = 64


def planes(codes: np.ndarray, bits: int) -> np.ndarray:
    """Integers (rows, n) as bit planes (bits, rows, words) of uint64, lowest bit first; missing places are zeros.

    Negative integers are in two's complement.  The range is the caller's to check.
    """
    rows, n = codes.shape
    padded = np.zeros((rows, -(-n // WORD) * WORD), dtype=np.int64)
    padded[:, :n] = codes
    values = (padded >> np.arange(bits)[:, None, None] & 1).astype(np.uint8)
    return np.packbits(values, axis=-1, bitorder="little").view("<u8").astype(np.uint64)


def product(a: np.ndarray, w: np.ndarray, a_bits: int, w_bits: int) -> np.ndarray:
    """``a @ w.T`` by AND and popcount, exactly: int64 (m, k) from integers ``a`` (m, n) and ``w`` (k, n).

    ``a``: unsigned, 0 to 2**a_bits - 1, 1 to 8 bits.  ``w``: signed, -2**(w_bits-1) to 2**(w_bits-1) - 1, 2 to 8 bits
    (2 bits hold ternary weights); with ``w_bits=1`` bipolar, -1 or 1.  InputError for integers beyond these.
    """
    half = 2 ** (w_bits - 1)
    a = _checked("activations", a, a_bits, 0, 2**a_bits - 1)
    w = _checked("weights", w, w_bits, -half, half - 1 if w_bits > 1 else 1, bipolar=w_bits == 1)
    if a.shape[1] != w.shape[1]:
        raise InputError(f"rows of activations and weights must be equally long, got {a.shape[1]} and {w.shape[1]}: "
                         "a weight's row holds one number for each input of the sum")
    a_planes = planes(a, a_bits)
    if w_bits == 1:
        ones = sum(np.bitwise_count(p).sum(-1, dtype=np.int64, keepdims=True) << i for i, p in enumerate(a_planes))
        return 2 * _weighted(a_planes, planes(w > 0, 1), [1]) - ones
    return _weighted(a_planes, planes(w, w_bits), [1 << j for j in range(w_bits - 1)] + [-half])


def _weighted(a_planes: np.ndarray, w_planes: np.ndarray, values: list[int]) -> np.ndarray:
    total = np.zeros((a_planes.shape[1], w_planes.shape[1]), dtype=np.int64)
    for i, a in enumerate(a_planes):
        for value, w in zip(values, w_planes):
            total += (value << i) * np.bitwise_count(a[:, None] & w).sum(-1, dtype=np.int64)
    return total


def _checked(name: str, codes: np.ndarray, bits: int, least: int, most: int, bipolar: bool = False) -> np.ndarray:
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.dtype.kind not in "iu":
        raise InputError(f"{name} must be whole numbers in two dimensions (rows, n), got {codes.dtype} of shape "
                         f"{codes.shape}: take a quantizer's encode(x), flattened to rows")
    if codes.size and (codes.min() < least or codes.max() > most or bipolar and (codes == 0).any()):
        allowed = "-1 or 1" if bipolar else f"{least} to {most}"
        raise InputError(f"{name} of {bits} bit{'s' * (bits > 1)} are {allowed}, got {codes.min()} to {codes.max()}: "
                         "allow more bits, or encode with a quantizer of this width")
    return codes.astype(np.int64)


# -- a layer of a network -------------------------------------------------------------------------------------------
@torch.no_grad()
def codes(layer: nn.Module, x: Tensor) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """What a QuantLinear or QuantConv2d multiplies, as integers, for its input ``x``.

    Returns (activations (m, n), weights (k, n), scale), a row for each output position and each output channel, with
    ``activations @ weights.T * scale`` the layer's output before the bias.  ``scale`` is 0-d, or (k,) with a range for
    each channel.  InputError where codes times one scale are not what the layer computes with: float or unevenly
    spaced quantizers, signed inputs, a level for 0 that is not code 0, groups.
    """
    a, w = getattr(layer, "input_quantizer", None), getattr(layer, "weight_quantizer", None)
    if a is None or w is None:
        raise InputError(f"this {type(layer).__name__} has float inputs or weights: choose a quantized QuantLinear or "
                         "QuantConv2d")
    if a.signed or getattr(layer, "groups", 1) > 1 or getattr(layer, "pad_value", 0.0):
        raise InputError("only layers with inputs from 0 upwards and one group are shown here: choose another layer")
    scales = []
    for q in (a, w):
        levels, grid = q.levels().double(), torch.arange(q.grid.code_min, q.grid.code_max + 1)
        scale = levels[..., -1] / grid[-1]
        if not torch.allclose(levels, scale[..., None] * grid, rtol=1e-5, atol=1e-7):
            raise InputError(f"the levels of {type(q).__name__} are not its codes times one scale: choose QIL, LSQ, "
                             "PACT or another evenly spaced grid around 0")
        scales.append(scale)
    inputs = a.encode(x)
    if isinstance(layer, QuantConv2d):
        inputs = F.unfold(inputs.float(), layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        inputs = inputs.transpose(1, 2)
    rows = (t.reshape(-1, n).to(torch.int64).numpy() for t, n in (
        (inputs, layer.weight[0].numel()), (w.encode(layer.weight), layer.weight[0].numel())))
    return *rows, scales[0] * scales[1]


def _shaped(layer: nn.Module, x: Tensor, whole: np.ndarray, scale: Tensor) -> Tensor:
    """Sums of products of codes as the layer's output: times the scale, plus the bias, in its shape."""
    output = torch.from_numpy(whole) * scale
    if layer.bias is not None:
        output = output + layer.bias
    if isinstance(layer, QuantLinear):
        return output.reshape(*x.shape[:-1], -1)
    height, width = (((x.shape[2 + i] + 2 * layer.padding[i] - layer.dilation[i] * (layer.kernel_size[i] - 1) - 1)
                      // layer.stride[i]) + 1 for i in (0, 1))
    return output.reshape(len(x), height, width, -1).permute(0, 3, 1, 2)


@torch.no_grad()
def compare(net: nn.Module, x: Tensor) -> pd.DataFrame:
    """Every quantized layer of ``net`` for images ``x``, in evaluation mode: whether AND and popcount give its output.

    Columns: layer; a_bits, w_bits; equal (the bitwise product is the integers' own, to the last one); difference
    (the largest to the layer's own output, divided by the largest output); multiply_adds of these images, and words,
    how many word ANDs (each with a popcount) stand for them.
    """
    names = [name for name, layer in net.named_modules()
             if isinstance(layer, (QuantLinear, QuantConv2d)) and layer.input_quantizer and layer.weight_quantizer]
    training = net.training
    try:
        inputs = capture_inputs(net, x, names)
        return pd.DataFrame([_row(name, net.get_submodule(name), given) for name, given in inputs.items()])
    finally:
        net.train(training)


def _row(name: str, layer: nn.Module, x: Tensor) -> dict:
    (a, w, scale), own = codes(layer, x), layer(x)
    a_bits, w_bits = layer.input_quantizer.bits, layer.weight_quantizer.bits
    bitwise = product(a, w, a_bits, w_bits)
    return {"layer": name, "a_bits": a_bits, "w_bits": w_bits, "equal": bool((bitwise == a @ w.T).all()),
            "difference": ((_shaped(layer, x, bitwise, scale) - own).abs().max() / own.abs().max()).item(),
            "multiply_adds": a.size * len(w),
            "words": len(a) * len(w) * -(-a.shape[1] // WORD) * a_bits * w_bits}
