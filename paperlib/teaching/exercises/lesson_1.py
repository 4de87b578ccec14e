"""Lesson 1: uniform grids, clipping against rounding, bits."""
from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from ... import quantizers, runs
from ...analysis import layer_inputs, quantization_error
from ...claims import experiments
from . import exercise, expect

LAYER = "features.8.block.2.0"      # a projection behind an h-swish


@functools.cache
def projection() -> tuple[nn.Module, Tensor]:
    """(layer, what reaches it from 100 test images): LAYER of the lessons' float network."""
    run = runs.obtain(experiments.float_network())
    net = run.model()
    images, _ = next(iter(layer_inputs.test_batches(run).epoch()))
    return net.get_submodule(LAYER), layer_inputs.capture_inputs(net, images[:100], [LAYER])[LAYER]


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-5 * abs(b)


@exercise("1.1", "the step of a symmetric grid whose range ends at the greatest size |x|",
          "draw the levels for 2 and for 3 bits, and count the steps from 0 to the last one")
def step_of_a_grid(step) -> str:
    of_width = ("that is from the distance of the least to the greatest value, but a symmetric grid reaches as far "
                "below 0 as above")
    got = float(step(torch.tensor([-0.7, 0.2, 0.35]), 4))
    expect(got, 0.1, f"for -0.7, 0.2 and 0.35 at 4 bits you have {got:.5g}", (
        (0.05, "that is from the greatest value", "the range holds the greatest size, 0.7"),
        (1.05 / 14, of_width), (1.05 / 15, of_width),
        (1.4 / 15, "you divided by the number of levels", "between 15 levels lie 14 steps"),
        (1.4 / 16, "that is 1.4 / 16, or 0.7 / 8, as if there were 16 levels",
         "without the code -8 there are 15 levels"),
        (1.4, "that is the whole range, which the step divides")),
        "divide the greatest size by the number of steps from 0 to the last level")
    got = float(step(torch.tensor([-0.2, 0.35, 0.7]), 2))
    expect(got, 0.7, f"right at 4 bits, but at 2 bits, for -0.2, 0.35 and 0.7, you have {got:.5g}", (),
           "at 2 bits there are three levels, and the greatest size may be that of a positive number")
    return "One bit more halves the step, almost: 7 steps to each side become 15."


@exercise("1.2", "the codes of x as whole numbers from -K to K, with K = 2**(bits-1) - 1, the nearest for each value",
          "divide, then three things remain: to the nearest whole number, into the range, into the type; in that order")
def codes_of_a_tensor(codes) -> str:
    places = [-1000.0, -3.2, -2.6, -1.7, -0.4, 0.0, 0.6, 1.2, 2.7, 1000.0]       # in steps
    right = torch.tensor([-3, -3, -3, -2, 0, 0, 1, 1, 3, 3])
    got = codes(0.25 * torch.tensor(places), 0.25, 3)
    assert isinstance(got, Tensor) and got.shape == right.shape, (
        f"what came out is {f'of shape {tuple(got.shape)}' if isinstance(got, Tensor) else type(got).__name__}",
        "codes has to be a tensor in the shape of x")
    told = f"at {places} steps and 3 bits the codes are {right.tolist()}, you have {got.tolist()}"
    assert not torch.allclose(got.float(), 0.25 * right), (
        told, "these are values: codes are what the step is multiplied by")
    assert not got.is_floating_point(), (f"you have {got.dtype}", "codes are whole numbers: end with .to(torch.int8)")
    assert got.dtype != torch.uint8, (told, "uint8 has no numbers below 0: take another type, such as torch.int8")
    assert (got < 0).any(), (told, "a symmetric grid has codes below 0 as well")
    assert got[0] < 0 < got[-1], (told, "int8 wraps around beyond 127, so clamp before you convert")
    ends = (got.min().item(), got.max().item())
    assert ends not in ((-7, 7), (-8, 7)), (told, "these are the codes of 4 bits: half of the codes lie below 0")
    assert ends != (-4, 4), (told, "3 bits have eight codes at most, and these are nine")
    assert ends != (-4, 3), (told, "the code -4 fits into 3 bits, but a symmetric grid does without it")
    assert ends == (-3, 3), (told, "the codes themselves have to end at the last code: use clamp, after the division")
    ways = {"floor goes down, below 0 as well": torch.floor, "ceil goes up everywhere": torch.ceil,
            "conversion cuts off what is behind the point": torch.trunc}
    for why, way in ways.items():
        assert not torch.equal(got.long(), way(torch.tensor(places)).clamp(-3, 3).long()), (
            told, why, "the nearest level is meant: torch.round finds it")
    assert torch.equal(got.long(), right), (told, "the nearest level is asked for, use torch.round")
    got = codes(torch.tensor([-0.93, 0.2, 5.0]), 0.1, 4).tolist()
    assert got == [-7, 2, 7], (f"right with 3 bits and a step of 0.25, but with 4 bits and 0.1 the numbers -0.93, 0.2 "
                               f"and 5 have the codes -7, 2 and 7, you have {got}", "the last code depends on bits")
    return "Times the step they are the quantized values again, to the bit; integers are all that has to be stored."


@exercise("1.3", "the greatest level of the grid with the least squared error",
          "try at least 100 ranges from near 0 to the greatest weight, and take the one whose error is least")
def range_of_least_error(best_range) -> str:
    weight = projection()[0].weight.detach()
    found = {}
    for bits in (2, 4):
        q = quantizers.build("duq", role="weight", bits=bits).calibrate(weight, "mse")
        least, right = sum(quantization_error.error_parts(weight, q)), q.levels()[-1].item()
        top, widest = float(best_range(weight.clone(), bits)), weight.abs().max().item()
        found[bits] = top

        def times(range_end):
            return sum(quantization_error.error_parts(weight, quantization_error.set_max_level(q, range_end))) / least
        told = f"at {bits} bits you have {top:.4f}"
        assert 0 < top, (told, "the greatest level must be positive")
        told += f", and a grid that ends there has {times(top):.2f} times the least error"
        if times(top) < 1.02:
            continue
        assert not _near(top, widest), (
            told, "it is the greatest weight, and all others pay for it with a coarse step", "try smaller ranges")
        assert bits == 2 or not _near(top, found[2]), (
            told, "it is the same as at 2 bits, but with more levels the best range is wider")
        assert bits == 2 or times(7 * top) > 1.02, (
            told, "it is the step of the best grid: its greatest level is some steps away from 0")
        assert times(top / 2) > 1.02, (
            told, "it is the distance of the best grid's two ends: its greatest level is half as far")
        assert top > 1 or times(top * widest) > 1.02, (
            told, "it is the best range as a share of the greatest weight: the level itself is meant")
        assert not _near(top, least) and abs(top / (weight.square().mean().item() * least) - 1) > 0.02, (
            told, "it is the least error itself: return the range that has it")
        assert top > right / 4, (
            told, "it is far too narrow: is what lies beyond the range clipped to the last code, or the greatest error "
            "taken?")
        raise AssertionError((told, "it is too wide, rounding outweighs clipping") if top > right else
                             (told, "it is too narrow, clipping outweighs rounding"))
    return f"The best range of these weights is {found[2]:.2f} at 2 bits and {found[4]:.2f} at 4."


@exercise("1.4", "the span near this one whose grid from -3/8 has 0 among its levels",
          "count the steps from -3/8 to 0, make that a whole number, and see which step and which span follow from it")
def span_with_a_level_at_zero(span_with_zero) -> str:
    for span, bits, right in ((3.2, 4, 2.8125), (3.9, 4, 5.625), (1.3125, 3, 1.3125), (20.0, 4, 5.625)):
        steps = 2**bits - 1
        told = f"for a span of {span} at {bits} bits"
        try:
            got = float(span_with_zero(span, bits))
        except ZeroDivisionError:
            raise AssertionError((f"{told} there is a division by 0", "less than half a step lies below 0: round to "
                                  "one step at least")) from None
        if _near(got, right):
            continue
        told += f" you have {got:.5g}"
        assert got > 0, (told, "a span is positive: it goes from -3/8 up to the last level")
        zero, places = 0.375 * steps / got, 0.375 * steps / right      # steps from -3/8 to 0
        assert not _near(got, right - 0.375), (told, "that is the greatest level", "the span starts at -3/8")
        assert not _near(got, right / steps), (told, "that is the step", f"the span is all {steps} of them")
        assert not _near(got, places), (told, "that is the number of steps from -3/8 to 0", "the step is 3/8 over it")
        assert not _near(got, 0.375 * 2**bits / max(1, round(0.375 * 2**bits / span))), (
            told, f"that is with {2**bits} steps, but so many are the levels, one more than the steps")
        assert abs(zero - round(zero)) < 1e-4 and zero > 0.5, (
            told, f"there 0 lies {zero:.3f} steps above -3/8: it is a level if that is a whole number")
        raise AssertionError((told, f"0 is a level there, {zero:.0f} steps above -3/8, but {0.375 * steps / span:.2f} "
                              f"steps it was with the given span, and {places:.0f} is the nearest whole number"))
    return "Now -3/8 lies whole steps below 0, so 0 has a code: integer runtimes call it the zero point."
