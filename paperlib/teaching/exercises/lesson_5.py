"""Lesson 5: sums, factors and bytes of integers.  The numbers are from the recorded 4-bit MobileNet-v3."""
from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ... import deploy
from ...deploy.fixed_rules import Factor
from ...deploy.packed_format import pack_bits
from .. import networks
from . import exercise, expect, short

DEPTHWISE, POINTWISE, CLASSIFIER = "features.8.block.1.0", "features.8.block.2.0", "classifier.3"
ODD, LARGE = 1353638569, 291184231      # their product is just below a half of 2**31, beyond the precision of a float64


@functools.cache
def _layers() -> dict[str, deploy.IntegerLayer]:
    return deploy.integers(networks.four_bits().model())


def _number(value, what: str) -> float:
    value = np.asarray(value)
    assert value.size == 1, (f"you have {value.size} numbers", f"{what} is one number: take the sum")
    return value.item()


def _pixel(codes, weight, step, origin, weight_step):
    return step * weight_step * (codes * weight).sum() + origin * weight_step * weight.sum()


@exercise("5.1", "one output pixel as a real number, before batch norm",
          "multiply (step * k + origin) * (weight_step * j) out, and add up each of the two terms over the window",
          _pixel)
def one_pixel(answer):
    """answer(codes, weight, step, origin, weight_step): what one output pixel is, before batch norm."""
    part = _layers()[DEPTHWISE]
    step, origin, unit = part.step, part.origin, part.weight_step.item()
    weight = part.weight.long().flatten(1)
    weight = weight[weight.sum(1).abs().argmax()]
    for codes in (torch.tensor([4, 0, 15, 7, 9, 2, 0, 11, 3]), torch.zeros(9, dtype=torch.long)):
        given = _number(answer(codes, weight, step, origin, unit), "a pixel")
        integers, ones = step * unit * (codes * weight).sum().item(), weight.sum().item()
        wanted = integers + origin * unit * ones
        expect(given, wanted, f"for the input codes {codes.tolist()} the pixel is {wanted:.5f}, you have {given:.5f}", (
            (integers, "the offset is missing: an input code k stands for step * k + origin",
             "that origin is multiplied by the weight as well (think of an input of zeros)"),
            (integers + origin, "origin is added once here, but it is part of each input",
             "each weight of the window multiplies it"),
            (integers + origin * ones, "the second term has the weight's codes where it needs the weights",
             "multiply it by weight_step"),
            (integers + origin * unit * len(weight), "the second term counts the weights, but they differ",
             "the sum of their codes belongs there, not their number"),
            (wanted / unit, "a weight code j stands for weight_step * j"),
            (integers / step + origin * unit * ones, "an input code k stands for step * k + origin")),
            "each product is that of an input and a weight, both real numbers")
    return "The second term has no input in it: it is computed once per channel, before any image is there."


class _Called(TorchFunctionMode):
    """Within the block, keeps the names of torch's convolutions that are called."""

    def __init__(self):
        super().__init__()
        self.convolutions = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "").startswith("conv"):
            self.convolutions.append(function.__name__)
        return function(*args, **(kwargs or {}))


def _accumulate(codes, weight):
    height, width = codes.shape[2] - 2, codes.shape[3] - 2
    total = 0
    for row in range(3):
        for column in range(3):
            window = codes[:, :, row:row + height, column:column + width]
            total = total + window * weight[:, row, column].view(-1, 1, 1)
    return total


@exercise("5.2", "the sums of nine products of a depthwise 3x3 convolution",
          "add up nine products: the codes without two rows and two columns, shifted, times one weight of each channel",
          _accumulate)
def multiply_accumulate(answer):
    """answer(codes, weight): (N, C, H - 2, W - 2) sums of codes (N, C, H, W) times weight (C, 3, 3), in integers."""
    codes = torch.randint(0, 16, (2, 3, 5, 6), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    weight = torch.tensor([[[1, -2, 3], [-4, 5, -6], [7, -1, 2]], [[0, 1, 2], [-3, 4, 0], [1, 1, -7]],
                           [[2, 2, 2], [-1, 0, 3], [5, -5, 6]]], dtype=torch.int32)
    with _Called() as called:
        given = answer(codes.clone(), weight.clone())
    wanted = _accumulate(codes, weight)
    assert not called.convolutions, ("torch's own convolution adds the products up here",
                                     "shift the codes by a row or a column and multiply them yourself")
    assert isinstance(given, Tensor), (f"you have a {type(given).__name__}", "the sums are a tensor")
    told = f"for codes of shape (2, 3, 5, 6) the sums have the shape (2, 3, 3, 4), you have {tuple(given.shape)}"
    assert given.shape != (2, 3, 5, 6), (told, "the codes are padded already: the window stays inside")
    assert given.shape not in ((2, 1, 3, 4), (2, 3, 4)), (
        told, "a depthwise layer filters each channel by itself: do not add channels up")
    assert given.shape == wanted.shape, (told, "a window of 3 fits H - 2 times into H rows")
    assert not given.is_floating_point(), ("floats came out", "whole numbers times whole numbers are whole numbers")
    first = given[0, 0, 0].tolist()
    told = f"the first row of the first channel is {wanted[0, 0, 0].tolist()}, you have {first}"

    def other(kernel: Tensor) -> Tensor:
        return F.conv2d(codes.double(), kernel[:, None].double(), groups=3).int()

    expect(given, wanted, told, (
        (other(weight.flip(1, 2)), "the weight is turned round: row 0 belongs to the upper codes"),
        (other(weight.mT), "rows and columns of the weight are swapped"),
        (other(weight[:1].expand(3, 3, 3)), "all channels have the first channel's weight here"),
        (wanted // 9, "that is a mean: leave the sum as it is"),
        (codes[:, :, 1:-1, 1:-1] * weight[:, 1, 1].view(-1, 1, 1), "that is the middle product alone")),
        "each of the nine weights multiplies a shifted view")
    return "Additions and multiplications of whole numbers: their order does not matter, and nothing is rounded."


def _largest_sum(weight, top):
    rows = weight.flatten(1)
    up, down = rows.clamp(min=0).sum(1), -rows.clamp(max=0).sum(1)
    return top * torch.maximum(up, down).max().item()


@exercise("5.3", "the largest magnitude that the sum of any output channel can have, for any input",
          "in each row, compare what the positive and what the negative weights can add up to", _largest_sum)
def largest_sum(answer):
    """answer(weight, top): the largest magnitude that any sum of this layer can have."""
    example = torch.tensor([[3, -2], [-7, 1]])
    for weight, top in [(example, 15), (example, 255)] + [(part.weight.long(), part.layer.input_quantizer.grid.code_max)
                                          for part in map(_layers().get, (DEPTHWISE, POINTWISE, CLASSIFIER))]:
        given, flat = _number(answer(weight, top), "the largest magnitude"), weight.flatten(1)
        up, down = flat.clamp(min=0).sum(1), -flat.clamp(max=0).sum(1)
        wanted = _largest_sum(weight, top)
        shown = f"the weights {weight.tolist()}" if weight is example else f"weights of shape {list(weight.shape)}"
        expect(given, wanted, f"for {shown} and input codes up to {top} it is {wanted}, you have {given:.0f}", (
            (7 * top * flat.shape[1], "that is what the shape alone allows, all weights at their largest code",
             "these weights are known, and most are smaller"),
            (top * flat.abs().sum(1).max().item(), "input codes are never negative, so positive and negative "
             "weights cannot both add to the magnitude", "take either with the largest input code"),
            (top * max(up.sum(), down.sum()).item(), "that adds up the whole layer: a sum belongs to one output "
             "channel"),
            (top * flat.sum(1).abs().max().item(), "that is with every input at its largest code: where weights "
             "differ in sign, another input gives more"),
            (top * flat.abs().max().item(), "that is one product, and a sum has many"),
            (wanted / top, "that is with input codes up to 1"),
            (top * up.max().item(), "sums go below zero as well: look also at the negative weights"),
            (top * down.max().item(), "sums go above zero as well: look also at the positive weights"),
            (-top * down.max().item(), "the largest magnitude is asked for: it has no sign")),
            "which input makes the sum of a row as large as it can be?")
    return (f"The classifier's sums stay within {wanted}, {wanted.bit_length() + 1} bits with the sign. The library's "
            "own bound, IntegerLayer.largest, holds for signed inputs too and is up to twice as large.")


def _factor_and_bias(norm, step, origin, weight_step, total):
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    bias = gain * (origin * weight_step * total - norm.running_mean) + norm.bias
    return gain * step * weight_step, bias


@exercise("5.4", "the factor and the bias of each channel, which take the place of both steps and of batch norm",
          "put the pixel of 5.1 into batch norm's formula, and collect what multiplies the sum of k * j",
          _factor_and_bias)
def factor_and_bias(answer):
    """answer(norm, step, origin, weight_step, total): (factor, bias), two tensors of shape (channels,)."""
    norm = nn.BatchNorm2d(3, eps=0.01).double().eval()
    gamma, beta, mean, var = (torch.tensor(values, dtype=torch.float64) for values in (
        [1.5, 0.5, -1.0], [0.25, -0.5, 1.0], [0.2, -0.1, 0.4], [0.24, 0.99, 0.08]))
    norm.load_state_dict({"weight": gamma, "bias": beta, "running_mean": mean, "running_var": var,
                          "num_batches_tracked": torch.tensor(1)})
    step, origin, unit, total = 0.1, -0.375, 0.02, torch.tensor([5, -12, 3]).double()
    with torch.no_grad():
        given, wanted = answer(norm, step, origin, unit, total), _factor_and_bias(norm, step, origin, unit, total)
    assert isinstance(given, (tuple, list)) and len(given) == 2, (
        f"you have a {type(given).__name__}", "return two tensors: factor, bias")
    factor, bias = (torch.as_tensor(x, dtype=torch.float64).detach() for x in given)
    for name, x in (("factor", factor), ("bias", bias)):
        assert x.shape == (3,), (f"your {name} has the shape {tuple(x.shape)}, for 3 channels",
                                 "each channel has one of its own")
    sigma = (var + norm.eps).sqrt()
    told = f"the factors are {short(wanted[0], 5)}, you have {short(factor, 5)}"
    expect(factor, wanted[0], told, (
        (gamma / var.sqrt() * step * unit, "eps is missing: sigma is the root of running_var + eps"),
        (gamma / (var + norm.eps) * step * unit, "running_var is the square of sigma: take the root"),
        (gamma / sigma, "that is what batch norm multiplies by", "the sum is in units of step * weight_step"),
        (gamma / sigma * step, "a weight code j stands for weight_step * j"),
        (gamma / sigma * unit, "an input code k stands for step * k + origin"),
        (step * unit * torch.ones(3), "batch norm's factor gamma / sigma is missing"),
        (step * unit / sigma, "batch norm multiplies by gamma = norm.weight as well")),
        "everything that multiplies the sum of k * j belongs to the factor", within=1e-7)
    gain, constant = gamma / sigma, origin * unit * total
    told = f"the factors are right; the biases are {short(wanted[1], 5)}, you have {short(bias, 5)}"
    expect(bias, wanted[1], told, (
        (beta - gain * mean, "that is batch norm's own bias", "the second term of 5.1 goes through it as well"),
        (constant + beta - gain * mean, "batch norm multiplies the second term of 5.1 as well"),
        (gain * constant + beta - mean, "batch norm takes the mean off before it multiplies"),
        (gain * (constant + mean) + beta, "batch norm takes the mean off: look at its sign"),
        (gain * (constant - mean), "beta = norm.bias is missing"),
        (gain * (origin * total - mean) + beta, "a weight code j stands for weight_step * j"),
        (gain * (origin * unit - mean) + beta, "the offset is multiplied by each weight", "total is their sum")),
        "everything that no input changes belongs to the bias")
    return "Seven numbers become two, and a scale for each channel comes for free."


def _rescale(sums, multiplier, shift):
    half = 1 << (shift - 1)
    return (sums.long() * multiplier + half) >> shift


@exercise("5.5", "sums * multiplier / 2**shift, to the nearest integer, without a float",
          "three things: a product that has room, half of 2**shift, a shift to the right", _rescale)
def rescale(answer):
    """answer(sums, multiplier, shift): sums * multiplier / 2**shift in integers, to the nearest."""
    part = _layers()[DEPTHWISE]
    factor = Factor(part.scale * 2**20)
    multiplier, shift = factor.multiplier.int(), factor.shift
    sums = torch.randint(-part.largest, part.largest + 1, (500, len(multiplier)), dtype=torch.int32,
                         generator=torch.Generator().manual_seed(0))
    given, product = answer(sums, multiplier, shift), sums.long() * multiplier
    assert isinstance(given, torch.Tensor) and given.shape == sums.shape, (
        f"you have {tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__}",
        f"the result must be a tensor of the shape of the sums, {tuple(sums.shape)}: each sum gives one number")
    assert not given.is_floating_point(), (
        "a float came out", "a division makes floats: a shift to the right divides as well, and stays an integer")
    off = (given.long() * (1 << shift) - product).abs().double() / (1 << shift)
    told = f"results are up to {off.max():.3g} units from the exact product, where rounding allows 0.5"
    wrapped = sums * multiplier
    assert not any(torch.equal(given.long(), (wrapped + half.int() >> shift).long())
                   for half in (torch.zeros(()), 1 << shift - 1)), (
        told, "the product overflowed int32", f"it takes up to {int(product.abs().max()).bit_length() + 1} bits: make "
        "the sums wider before they are multiplied")
    assert not torch.equal(given, product >> shift), (
        told, "a shift to the right rounds down", "every result is half a unit too small in the mean: add that before")
    assert not torch.equal(given, (product >> shift) + 1), (told, "that rounds up, not to the nearest")
    assert not torch.equal(given, torch.div(product, 1 << shift, rounding_mode="trunc")), (
        told, "that rounds towards 0, not to the nearest", "half of 2**shift, added first, makes rounding down right")
    assert off.max() <= 0.5, (told, "what is added before the shift is half of what one unit is there")
    large = torch.tensor([[LARGE], [-LARGE]], dtype=torch.int32)
    given = answer(large, torch.tensor([ODD], dtype=torch.int32), torch.tensor([31])).flatten().tolist()
    wanted = [value * ODD + 2**30 >> 31 for value in (LARGE, -LARGE)]
    assert given == wanted, (
        f"right for small sums, but {LARGE} and -{LARGE} times {ODD} / 2**31 give {wanted}, you have {given}",
        "the product takes more than the 53 bits that a float64 keeps", "stay in int64")
    return "Two integer operations and an addition take the place of each float factor; the bias is added after it."


def _pack(codes, lowest):
    first, second = codes[0::2] - lowest, codes[1::2] - lowest
    return first | second << 4


@exercise("5.6", "the bytes that hold the codes, two in each",
          "three things: take the lowest code off, a shift for the upper half, an or (or a sum) of the two", _pack)
def pack(answer):
    """answer(codes, lowest): bytes (numbers from 0 to 255), two codes in each, the first in the lower half."""
    part = _layers()[POINTWISE]
    weight, lowest = part.weight.flatten().numpy().astype(int), part.layer.weight_quantizer.grid.code_min
    for codes in (np.array([-7, 1, 6, 0]), weight):
        given = answer(codes.copy(), lowest)
        given = np.asarray(list(given) if isinstance(given, (bytes, bytearray)) else given)
        wanted = np.frombuffer(pack_bits(codes - lowest, 4), np.uint8).astype(int)
        told = f"{len(codes)} codes take {len(wanted)} bytes, you have {given.shape[0] if given.ndim else 1}"
        assert given.shape != codes.shape, (told, "a byte has eight bits, which is room for two codes")
        assert given.shape == wanted.shape, (told, "codes[0::2] and codes[1::2] are the first and second of each byte")
        assert given.dtype.kind in "iu", ("floats came out", "a shift is an integer operation, a division is not")
        first, second, half = codes[0::2] - lowest, codes[1::2] - lowest, len(codes) // 2
        told = f"the codes {codes[:4].tolist()} become the bytes {wanted[:2].tolist()}, you have {given[:2].tolist()}"
        expect(given, wanted, told, (
            (second | first << 4, "the two halves are swapped", "the first code is in the lower four bits"),
            ((codes[0::2] & 15) | (codes[1::2] & 15) << 4, f"the file holds each code less the lowest ({lowest}), "
             "not its two's complement"),
            (codes[0::2] | codes[1::2] << 4, f"the file holds each code less the lowest ({lowest}), so that "
             "nothing is negative"),
            (codes[0::2] + lowest | codes[1::2] + lowest << 4, f"the lowest code, {lowest}, is below 0: take it "
             "off, and the codes become larger"),
            (codes[:half] - lowest | codes[half:] - lowest << 4, "the two codes of a byte are neighbours: "
             "codes[0::2] and codes[1::2]"),
            (first + second, "both codes are in the lower half here", "shift the second by four bits")),
            "the first code less the lowest, plus 16 times the second less it")
    return f"{len(weight)} weights in {len(wanted)} bytes; whoever computes with them takes them apart first."
