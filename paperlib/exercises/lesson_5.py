"""Lesson 5: sums, factors, bytes and bits of integers.  The numbers are those of the recorded 4-bit MobileNet-v3."""
from __future__ import annotations

import functools

import numpy as np
import torch

from .. import bitwise, deploy, items, runs
from ..deploy.layout import packed_bits
from . import exercise

DEPTHWISE, POINTWISE, CLASSIFIER = "features.8.block.1.0", "features.8.block.2.0", "classifier.3"
ODD, LARGE = 1353638569, 291184231      # their product is just below a half of 2**31, beyond the precision of a float64


@functools.cache
def _layers() -> dict[str, deploy.IntegerLayer]:
    return deploy.integers(runs.obtain(items.integers("recorded")["mobilenet_v3_large"][0]).model())


def _number(value, what: str) -> float:
    value = np.asarray(value)
    assert value.size == 1, f"{what} is one number, you have {value.size} of them: take the sum"
    return value.item()


@exercise("5.1")
def one_pixel(answer):
    """answer(codes, weight, step, origin, weight_step): what one output pixel is, before batch norm."""
    part = _layers()[DEPTHWISE]
    step, origin, unit = part.step, part.origin, part.weight_step.item()
    weight = part.weight.long().flatten(1)
    weight = weight[weight.sum(1).abs().argmax()]
    for codes in (torch.zeros(9, dtype=torch.long), torch.tensor([4, 0, 15, 7, 9, 2, 0, 11, 3])):
        given = _number(answer(codes, weight, step, origin, unit), "a pixel")
        integers, ones = step * unit * (codes * weight).sum().item(), weight.sum().item()

        def is_(value):
            return abs(given - value) < 1e-6
        assert not is_(integers), ("the offset is missing: an input code k stands for step * k + origin, and that "
                                   "origin is multiplied by the weight as well (think of an input of zeros)")
        assert not is_(integers + origin), ("origin is added once here, but it is part of each input, so each weight "
                                            "multiplies it: origin * weight_step * (sum of the weight's codes)")
        assert not is_(integers + origin * ones), ("the second term has the weight's codes where it needs the weights: "
                                                   "multiply it by weight_step")
        assert not is_(integers + origin * unit * len(weight)), (
            "the second term counts the weights, but they differ: take the sum of their codes, not their number")
        wanted = integers + origin * unit * ones
        assert is_(wanted), (f"for the input codes {codes.tolist()} the pixel is {wanted:.5f}, you have {given:.5f}: "
                             "multiply out (step * k + origin) * (weight_step * j) and add up")
    return "The second term has no input in it: it is computed once per channel, before any image is there."


@exercise("5.2")
def largest_sum(answer):
    """answer(weight, top): the largest magnitude that any sum of this layer can reach."""
    example = torch.tensor([[3, -2], [-7, 1]])
    for weight, top in [(example, 15), (example, 255)] + [(part.weight.long(), part.layer.input_quantizer.grid.code_max)
                                          for part in map(_layers().get, (DEPTHWISE, POINTWISE, CLASSIFIER))]:
        given, flat = _number(answer(weight, top), "the largest magnitude"), weight.flatten(1)
        up, down = flat.clamp(min=0).sum(1), -flat.clamp(max=0).sum(1)
        wanted = top * max(up.max(), down.max()).item()
        named = {7 * top * flat.shape[1]: "that is what the shape alone allows, all weights at their greatest code: "
                                          "these weights are known, and most are smaller",
                 top * flat.abs().sum(1).max().item(): "input codes are never negative, so positive and negative "
                                                       "weights cannot both add to the magnitude: take either with the "
                                                       "greatest input code, and the others with 0",
                 top * max(up.sum(), down.sum()).item(): "that adds up the whole layer: a sum belongs to one output "
                                                         "channel, so take each row by itself and then the largest",
                 top * up.max().item(): "sums go below zero as well: look also at the negative weights",
                 -top * down.max().item(): "the largest magnitude is asked for: it has no sign"}
        for value, why in named.items():
            assert given == wanted or given != value, f"you have {given:.0f}, and {why}"
        assert given == wanted, (f"for weights {list(weight.shape)} and input codes up to {top} it is {wanted}, you "
                                 f"have {given:.0f}: in each row, the greater of what positive and what negative "
                                 "weights can add up to")
    return (f"The classifier's sums stay within {wanted}, {wanted.bit_length() + 1} bits with the sign. The library's "
            "own bound, IntegerLayer.largest, holds for signed inputs too and is up to twice as large.")


@exercise("5.3")
def rescale(answer):
    """answer(sums, multiplier, shift): sums * multiplier / 2**shift in integers, to the nearest."""
    part = _layers()[DEPTHWISE]
    factor = deploy.integer.Factor(part.scale * 2**20)
    multiplier, shift = factor.multiplier.int(), factor.shift
    sums = torch.randint(-part.largest, part.largest + 1, (500, len(multiplier)), dtype=torch.int32,
                         generator=torch.Generator().manual_seed(0))
    given, product = answer(sums, multiplier, shift), sums.long() * multiplier
    assert isinstance(given, torch.Tensor) and given.shape == sums.shape, (
        f"the result must be a tensor of the shape of the sums, {tuple(sums.shape)}: each sum gives one number")
    assert not given.is_floating_point(), ("a float came out: a division by 2**shift is a shift to the right by that "
                                           "many bits, >> shift, and stays an integer")
    wrapped = sums * multiplier
    assert not any(torch.equal(given.long(), (wrapped + half.int() >> shift).long())
                   for half in (torch.zeros(()), 1 << shift - 1)), (
        f"the product overflowed int32: it takes up to {int(product.abs().max()).bit_length() + 1} bits, so make the "
        "sums int64 before they are multiplied")
    assert not torch.equal(given, product >> shift), ("a shift to the right rounds down, so every result is half a "
                                                      "unit too small in the mean: add half of 2**shift before it")
    assert not torch.equal(given, torch.div(product, 1 << shift, rounding_mode="trunc")), (
        "that rounds towards 0, not to the nearest: add half of 2**shift, then shift to the right")
    off = (given.long() * (1 << shift) - product).abs().double() / (1 << shift)
    assert off.max() <= 0.5, (f"results are up to {off.max():.3g} units from the exact product, where rounding allows "
                              "0.5: (sums * multiplier + half) >> shift, with half = 1 << (shift - 1)")
    large = torch.tensor([[LARGE], [-LARGE]], dtype=torch.int32)
    given = answer(large, torch.tensor([ODD], dtype=torch.int32), torch.tensor([31])).flatten().tolist()
    wanted = [value * ODD + 2**30 >> 31 for value in (LARGE, -LARGE)]
    assert given == wanted, (
        f"right for small sums, but {LARGE} and -{LARGE} times {ODD} / 2**31 give {wanted}, you have {given}: the "
        "product takes more than the 53 bits that a float64 keeps, so stay in int64")
    return "Two integer operations and an addition take the place of each float factor; the bias is added behind it."


@exercise("5.4")
def unpack(answer):
    """answer(raw, count, least): the codes in a string of bytes, two in each, the lower half first."""
    part = _layers()[POINTWISE]
    weight, least = part.weight.flatten().numpy().astype(int), part.layer.weight_quantizer.grid.code_min
    for codes in (np.array([-7, 1, 6]), weight):
        raw = np.frombuffer(packed_bits(codes - least, 4), np.uint8).astype(int)
        given = np.asarray(answer(raw, len(codes), least))
        shown = f"bytes {raw[:2].tolist()} ..."
        assert given.shape != (2 * len(raw),) or given.shape == codes.shape, (
            f"{len(codes)} codes were asked for and {len(given)} came out: the last byte is filled up, cut after count")
        assert given.shape == codes.shape, f"{len(codes)} codes were asked for, the result has shape {given.shape}: " \
            "each byte holds two"
        swapped = np.stack([raw >> 4, raw & 15], 1).reshape(-1)[:len(codes)]
        assert not (given == swapped + least).all(), (
            f"in {shown} the two halves are swapped: the first code is in the lower four bits, byte & 15, the second "
            "one in byte >> 4")
        assert not (given == codes - least).all(), (
            f"from {shown} you read {given[:3].tolist()}, but the file holds each code less the least one ({least}), "
            "so that nothing is negative: add it again")
        assert (given == codes).all(), (f"{shown} begin with the codes {codes[:4].tolist()}, you have "
                                        f"{given[:4].tolist()}: byte & 15, then byte >> 4, each plus the least code")
    return f"{len(codes)} weights in {len(raw)} bytes; whoever computes with them does this, or its like, first."


@exercise("5.5")
def by_popcount(answer):
    """answer(a_planes, w_planes): the sum of products, from bit planes of unsigned a and two's complement w."""
    weight = _layers()[POINTWISE].weight.flatten(1).numpy().astype(int)[0]
    many = np.random.default_rng(0).integers(0, 16, len(weight))
    for a, w in ((np.array([3]), np.array([2])), (np.array([3]), np.array([-1])), (many, weight)):
        a_planes, w_planes = (bitwise.planes(codes[None], 4)[:, 0] for codes in (a, w))
        given, wanted = _number(answer(a_planes, w_planes), "a sum of products"), int(a @ w)
        counts = np.array([[bitwise.popcount(x & y).sum() for y in w_planes] for x in a_planes])
        i, j = np.indices(counts.shape)
        case = f"a = {a[:3].tolist()}, w = {w[:3].tolist()}{' ...' if len(a) > 3 else ''}"
        assert given == wanted or given != counts.sum(), (
            f"for {case} you have {given:.0f}: the planes count alike here, but a one in plane i of a is worth 2**i "
            "and one in plane j of w 2**j")
        assert given == wanted or given != (counts << i + j).sum(), (
            f"for {case} you have {given:.0f}, not {wanted}: w is in two's complement, where the top plane is worth "
            "-2**(bits - 1), not +2**(bits - 1)")
        assert given == wanted, (f"for {case} the sum is {wanted}, you have {given:.0f}: over all pairs of planes, add "
                                 "(value of i) * (value of j) * popcount(a_planes[i] & w_planes[j])")
    words = len(a_planes[0])
    return f"{len(a)} products in {16 * words} ANDs and popcounts of 64 bits; with one bit each, {words} would do."
