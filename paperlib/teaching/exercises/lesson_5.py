"""Lesson 5: sums, factors, bytes and bits of integers.  The numbers are those of the recorded 4-bit MobileNet-v3."""
from __future__ import annotations

import functools

import numpy as np
import torch

from ... import deploy, runs
from ...analysis import popcount
from ...claims import experiments
from ...deploy.fixed_rules import Factor
from ...deploy.packed_format import pack_bits
from . import exercise, expect

DEPTHWISE, POINTWISE, CLASSIFIER = "features.8.block.1.0", "features.8.block.2.0", "classifier.3"
ODD, LARGE = 1353638569, 291184231      # their product is just below a half of 2**31, beyond the precision of a float64


@functools.cache
def _layers() -> dict[str, deploy.IntegerLayer]:
    return deploy.integers(runs.obtain(experiments.integers("recorded")["mobilenet_v3_large"][0]).model())


def _number(value, what: str) -> float:
    value = np.asarray(value)
    assert value.size == 1, (f"you have {value.size} numbers", f"{what} is one number: take the sum")
    return value.item()


@exercise("5.1", "one output pixel as a real number, before batch norm",
          "multiply (step * k + origin) * (weight_step * j) out, and add up each of the two terms over the window")
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


@exercise("5.2", "the largest magnitude that the sum of any output channel can reach, for any input",
          "in each row, compare what the positive and what the negative weights can add up to")
def largest_sum(answer):
    """answer(weight, top): the largest magnitude that any sum of this layer can reach."""
    example = torch.tensor([[3, -2], [-7, 1]])
    for weight, top in [(example, 15), (example, 255)] + [(part.weight.long(), part.layer.input_quantizer.grid.code_max)
                                          for part in map(_layers().get, (DEPTHWISE, POINTWISE, CLASSIFIER))]:
        given, flat = _number(answer(weight, top), "the largest magnitude"), weight.flatten(1)
        up, down = flat.clamp(min=0).sum(1), -flat.clamp(max=0).sum(1)
        wanted = top * max(up.max(), down.max()).item()
        shown = f"the weights {weight.tolist()}" if weight is example else f"weights of shape {list(weight.shape)}"
        expect(given, wanted, f"for {shown} and input codes up to {top} it is {wanted}, you have {given:.0f}", (
            (7 * top * flat.shape[1], "that is what the shape alone allows, all weights at their greatest code",
             "these weights are known, and most are smaller"),
            (top * flat.abs().sum(1).max().item(), "input codes are never negative, so positive and negative "
             "weights cannot both add to the magnitude", "take either with the greatest input code"),
            (top * max(up.sum(), down.sum()).item(), "that adds up the whole layer: a sum belongs to one output "
             "channel"),
            (top * flat.sum(1).abs().max().item(), "that is with every input at its greatest code: where weights "
             "differ in sign, another input gives more"),
            (top * flat.abs().max().item(), "that is one product, and a sum has many"),
            (wanted / top, "that is with input codes up to 1"),
            (top * up.max().item(), "sums go below zero as well: look also at the negative weights"),
            (top * down.max().item(), "sums go above zero as well: look also at the positive weights"),
            (-top * down.max().item(), "the largest magnitude is asked for: it has no sign")),
            "which input makes the sum of a row as large as it can be?")
    return (f"The classifier's sums stay within {wanted}, {wanted.bit_length() + 1} bits with the sign. The library's "
            "own bound, IntegerLayer.largest, holds for signed inputs too and is up to twice as large.")


@exercise("5.3", "sums * multiplier / 2**shift, to the nearest integer, without a float",
          "three things: a product that has room, half of 2**shift, a shift to the right")
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
    return "Two integer operations and an addition take the place of each float factor; the bias is added behind it."


@exercise("5.4", "the codes that are packed in the bytes, two in each",
          "a mask gives the lower four bits, a shift the upper ones; then the order, the number and the least code")
def unpack(answer):
    """answer(raw, count, least): the codes in a string of bytes, two in each, the lower half first."""
    part = _layers()[POINTWISE]
    weight, least = part.weight.flatten().numpy().astype(int), part.layer.weight_quantizer.grid.code_min
    for codes in (np.array([-7, 1, 6]), weight):
        raw, n = np.frombuffer(pack_bits(codes - least, 4), np.uint8).astype(int), len(codes)
        given = np.asarray(answer(raw.copy(), n, least))
        assert given.shape == codes.shape or given.shape != (2 * len(raw),), (
            f"{n} codes were asked for and {len(given)} came out", "the last byte is filled up: cut after count")
        assert given.shape == codes.shape, (
            f"{n} codes were asked for, the result has shape {given.shape}", "each byte holds two, in one row")
        told = f"bytes {raw[:2].tolist()} ... begin with the codes {codes[:4].tolist()}, you have {given[:4].tolist()}"
        low, high = raw & 15, raw >> 4
        for wrong, *why in (
                (np.stack([high, low], 1).reshape(-1)[:n] + least, "the two halves are swapped",
                 "the first code is in the lower four bits"),
                (codes - least, f"the file holds each code less the least one ({least}), so that nothing is negative",
                 "add it again"),
                (codes - 2 * least, f"the least code, {least}, was taken off: it is below 0, and belongs to the sum"),
                (np.concatenate([low, high])[:n] + least, "all lower halves come first here: the two codes of a "
                 "byte are neighbours")):
            assert (given == codes).all() or not (given == wrong).all(), (told, *why)
        assert (given == codes).all(), (told, "each half of a byte, plus the least code, is a code")
    return f"{n} weights in {len(raw)} bytes; whoever computes with them does this, or its like, first."


@exercise("5.5", "the sum of products of a and w, from their bit planes",
          "each pair of planes counts the places where both have a one; what is such a place worth?")
def by_popcount(answer):
    """answer(a_planes, w_planes): the sum of products, from bit planes of unsigned a and two's complement w."""
    weight = _layers()[POINTWISE].weight.flatten(1).numpy().astype(int)[0]
    many = np.random.default_rng(0).integers(0, 16, len(weight))
    for a, w in ((np.array([3]), np.array([2])), (np.array([3]), np.array([-1])), (many, weight)):
        a_planes, w_planes = (popcount.planes(codes[None], 4)[:, 0] for codes in (a, w))
        given, wanted = _number(answer(a_planes, w_planes), "a sum of products"), int(a @ w)
        counts = np.array([[popcount.popcount(x & y).sum() for y in w_planes] for x in a_planes]).astype(int)
        i, j = np.indices(counts.shape)
        told = (f"for a = {a[:3].tolist()}, w = {w[:3].tolist()}{' ...' if len(a) > 3 else ''} the sum is {wanted}, "
                f"you have {given:.0f}")
        expect(given, wanted, told, (
            (counts.sum(), "the planes count alike here", "a one in plane i is worth 2**i, in either vector"),
            (np.trace(counts << i + j), "only planes of the same number meet here: each meets every other one"),
            ((counts << i + j).sum(), "w is in two's complement", "its top plane is worth less than nothing"),
            ((counts << i + j).sum() - 2 * (counts << i + j)[-1].sum(), "it is a whose top plane is negative here: "
             "a is unsigned")),
            "the sum goes over all pairs of planes")
    words = len(a_planes[0])
    return f"{len(a)} products in {16 * words} ANDs and popcounts of 64 bits; with one bit each, {words} would do."
