"""Lesson 1: a uniform quantizer, its error and its calibration, written by hand."""
from __future__ import annotations

import functools

import torch
from torch import Tensor

from ... import quantizers
from ...analysis import quantization_error
from .. import networks
from . import exercise, expect

projection = functools.cache(networks.layer)        # (layer, its input)


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-5 * abs(b)


def _step(top, bits):
    return top / (2 ** (bits - 1) - 1)


def _codes(x, top, bits):
    last = 2 ** (bits - 1) - 1
    return (x / _step(top, bits)).round().clamp(-last, last)


def _error(x, top, bits):
    return (_codes(x, top, bits) * _step(top, bits) - x).square().mean() / x.square().mean()


def _calibrate(x, bits):
    tops = x.abs().max() * torch.linspace(0.01, 1, 100)
    return min(tops, key=lambda top: _error(x, top, bits))


@exercise("1.1", "the distance of two neighbouring levels of a symmetric grid from -top to top",
          "draw the levels for 2 and for 3 bits on paper, and count the steps from 0 to the last one", _step)
def step_of_a_grid(step) -> str:
    got = float(step(0.6, 3))
    expect(got, 0.2, f"for a top of 0.6 and 3 bits you have {got:.5g}", (
        (1.2 / 7, "you divided by the number of levels", "between 7 levels there are 6 steps"),
        (1.2 / 8, "that is 1.2 / 8, or 0.6 / 4, as if there were 8 levels", "the code -4 is not used: count the levels "
         "from -3 to 3"),
        (0.6 / 7, "that is the step of a grid with 7 steps on each side of 0", "here 7 levels share both sides"),
        (0.6, "that is the distance from 0 to the last level, which is several steps"),
        (1.2, "that is the distance of the two ends, which is several steps"),
        (3, "that is the number of steps from 0 to the last level", "how long is one of them?")),
        "divide top by the number of steps from 0 to the last level")
    got = float(step(0.6, 2))
    expect(got, 0.6, f"your step is right at 3 bits, but at 2 bits, for a top of 0.6, you have {got:.5g}", (),
           "at 2 bits there are three levels: the number of steps depends on bits")
    return "One bit more makes the step a little less than half as long: 3 steps on each side of 0 become 7."


@exercise("1.2", "the number of the nearest level for each value of x, from -K to K, with K = 2**(bits-1) - 1",
          "three operations, in this order: divide by the step, go to the nearest whole number, clamp", _codes)
def codes_of_a_tensor(codes) -> str:
    places = [-1000.0, -3.2, -2.6, -1.7, -0.4, 0.0, 0.6, 1.2, 2.7, 1000.0]       # in steps
    right = torch.tensor([-3, -3, -3, -2, 0, 0, 1, 1, 3, 3])
    x = 0.25 * torch.tensor(places)
    got = codes(x, torch.tensor(0.75), 3)
    assert isinstance(got, Tensor) and got.shape == right.shape, (
        f"you return {f'the shape {tuple(got.shape)}' if isinstance(got, Tensor) else type(got).__name__}",
        "the codes are a tensor in the shape of x")
    got, values = got.detach().float(), [round(value, 3) for value in x.tolist()]
    shown = [round(code, 2) + 0.0 for code in got.tolist()]
    shown = [int(code) if code == int(code) else code for code in shown]
    told = f"for x = {values}, a top of 0.75 and 3 bits the codes are {right.tolist()}, you have {shown}"
    assert not torch.allclose(got, 0.25 * right), (
        told, "these are the levels themselves", "a level is its code times the step")
    assert (got < 0).any(), (told, "a symmetric grid has codes below 0 as well")
    ends = (got.min().item(), got.max().item())
    assert ends not in ((-7, 7), (-8, 7)), (told, "these are the codes of 4 bits: half of the codes are below 0")
    assert ends != (-4, 4), (told, "3 bits have eight codes at most, and these are nine")
    assert ends != (-4, 3), (told, "the code -4 fits into 3 bits, but a symmetric grid does not use it")
    assert abs(ends[0]) < 100 or ends[1] < 100, (
        told, "values beyond the range must get the last code: clamp is missing")
    assert ends != (-0.75, 0.75), (told, "you clamped at top: after the division the last code is K")
    assert ends == (-3, 3), (told, "the codes must end at -3 and 3: clamp them after the division")
    assert torch.equal(got, got.round()), (told, "codes are whole numbers: torch.round is missing")
    ways = {"floor goes down, below 0 as well": torch.floor, "ceil goes up everywhere": torch.ceil,
            "the decimals are cut off, so every value moves towards 0": torch.trunc}
    for why, way in ways.items():
        assert not torch.equal(got.long(), way(torch.tensor(places)).clamp(-3, 3).long()), (
            told, why, "torch.round finds the nearest whole number")
    assert torch.equal(got.long(), right), (told, "the nearest level is asked for: use torch.round")
    got = codes(torch.tensor([-0.93, 0.2, 5.0]), torch.tensor(0.7), 4).tolist()
    assert got == [-7, 2, 7], ("your codes are right at 3 bits, but at 4 bits and a top of 0.7 the values -0.93, 0.2 "
                               f"and 5 have the codes -7, 2 and 7, and you have {got}", "the last code depends on bits")
    return "The codes and one step are all that has to be stored."


@exercise("1.3", "the mean squared difference between quantized x and x, divided by the mean square of x",
          "two means: of the squared difference, and of the squared values; divide the first by the second", _error)
def relative_error(error) -> str:
    x = torch.tensor([-1.7, -0.62, -0.1, 0.04, 0.33, 0.9])
    off = _codes(x, 0.9, 3) * _step(0.9, 3) - x
    got, right = error(x.clone(), torch.tensor(0.9), 3), _error(x, 0.9, 3).item()
    assert not isinstance(got, Tensor) or got.numel() == 1, (
        f"you return {got.numel()} numbers for {len(x)} values", "take the mean: one number for the whole tensor")
    got = float(got)
    mean, mean_of_ratios = off.square().mean().item(), (off / x).square().mean().item()
    told = f"for x = {[round(v, 2) for v in x.tolist()]}, a top of 0.9 and 3 bits it is {right:.5f}, you have {got:.5f}"
    expect(got, right, told, (
        (mean, "that is the mean squared difference itself", "divide it by the mean square of x"),
        (off.square().sum().item(), "that is the sum of the squared differences", "take the mean, and divide it"),
        (off.mean().item(), "positive and negative differences cancel here", "square each difference first"),
        (off.abs().mean().item(), "that is the mean size of the difference", "square each difference first"),
        ((off.abs().mean() / x.abs().mean()).item(), "these are means of sizes", "squares are asked for, in both"),
        (right**0.5, "that is the root of it", "leave out the root"),
        (off.square().sum().item() / x.square().mean().item(), "one of the two is a sum, the other a mean"),
        (mean / x.var().item(), "you divided by the variance", "divide by the mean of x squared, x.square().mean()"),
        (mean_of_ratios, "you divided before you took the mean", "two means are asked for, and then their ratio"),
        (1 / right, "that is the other way round: the difference belongs above"),
        (mean / x.mean().item() ** 2, "you squared the mean of x", "square x first, then take the mean")),
        "quantize(x, top, bits) - x is the difference", within=1e-5)
    return "At 0.01 the squared differences are one percent of the squared values, on average."


@exercise("1.4", "the top whose grid has the smallest error",
          "try at least 100 tops from near 0 to the largest |x|, and return the one with the smallest error",
          _calibrate)
def range_of_least_error(calibrate) -> str:
    weight = projection()[0].weight.detach()
    found = {}
    for bits in (2, 4):
        q = quantizers.build("duq", role="weight", bits=bits).calibrate(weight, "mse")
        least, right = sum(quantization_error.error_parts(weight, q)), q.levels()[-1].item()
        top, widest = float(calibrate(weight.clone(), bits)), weight.abs().max().item()
        found[bits] = top

        def times(range_end):
            return sum(quantization_error.error_parts(weight, quantization_error.set_max_level(q, range_end))) / least
        told = f"for the weights of the lesson at {bits} bits you have {top:.4f}"
        assert 0 < top, (told, "the last level must be positive")
        told += f", and a grid that ends there has {times(top):.2f} times the smallest error"
        if times(top) < 1.02:
            continue
        assert not _near(top, widest), (
            told, "that is the largest weight, and all others pay for it with a coarse step", "try smaller tops")
        assert bits == 2 or not _near(top, found[2]), (
            told, "that is the same as at 2 bits, but with more levels the best top is larger")
        assert bits == 2 or times(7 * top) > 1.02, (
            told, "that is the step of the best grid", "its last level is some steps away from 0")
        assert times(top / 2) > 1.02, (
            told, "that is the distance of the best grid's two ends", "its last level is half as far")
        assert not _near(top, 3 * weight.std().item()), (
            told, "three standard deviations are a rule of thumb, too wide at few bits",
            "compute the error of many tops")
        assert top > 1 or times(top * widest) > 1.02, (
            told, "that is the best top as a share of the largest weight", "multiply it by the largest weight")
        assert abs(top / least - 1) > 0.02 and abs(top / (weight.square().mean().item() * least) - 1) > 0.02, (
            told, "that is the smallest error itself", "return the top that has it")
        assert top > right / 4, (
            told, "that is far too narrow", "do values beyond the range get the last code, and do you look for the "
            "smallest error?")
        why = "wide: rounding outweighs clipping" if top > right else "narrow: clipping outweighs rounding"
        raise AssertionError((told, f"that is too {why}", "try more tops"))
    return f"The best range of these weights ends at {found[2]:.2f} with 2 bits and at {found[4]:.2f} with 4."
