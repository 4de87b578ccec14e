"""Lesson 1: uniform grids, clipping against rounding, bits."""
from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from .. import distortion, inputs, items, quantizers, runs
from . import exercise

LAYER = "features.8.block.2.0"      # a projection behind an h-swish


@functools.cache
def projection() -> tuple[nn.Module, Tensor]:
    """(layer, what reaches it from 100 test images): LAYER of the lessons' float network."""
    run, seen = runs.obtain(items.float_network()), {}
    net = run.model()
    images, _ = next(iter(inputs.test_batches(run).epoch()))
    inputs.look_at_inputs(net, images[:100], [LAYER], lambda name, layer, x: seen.update({name: x}))
    return net.get_submodule(LAYER), seen[LAYER]


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-5 * abs(b)


@exercise("1.1")
def step_of_a_grid(step) -> str:
    got = float(step(torch.tensor([-0.7, 0.2, 0.35]), 4))
    says = f"for -0.7, 0.2 and 0.35 at 4 bits you have {got:.5g}"
    assert not _near(got, 0.05), f"{says}: that is from the greatest value; the range holds the greatest size, 0.7"
    assert not _near(got, 1.4 / 15), f"{says}: you divided by the 15 levels; between 15 levels lie 14 steps"
    assert not _near(got, 1.4 / 16), (f"{says}: that is 1.4 / 16, or 0.7 / 8; without the code -8 there are 15 levels, "
                                      "and 7 steps to each side of 0")
    assert _near(got, 0.1), f"{says}; there are 2**(bits-1) - 1 = 7 steps from 0 to the greatest size, 0.7: 0.1 each"
    got = float(step(torch.tensor([-0.2, 0.35, 0.7]), 2))
    assert _near(got, 0.7), (f"right at 4 bits, but at 2 bits, for -0.2, 0.35 and 0.7, you have {got:.5g}: the levels "
                             "are -0.7, 0 and 0.7, and the greatest size may be that of a positive number")
    return "One bit more halves the step, almost: 7 steps to each side become 15."


@exercise("1.2")
def codes_of_a_tensor(codes) -> str:
    places = [-1000.0, -3.2, -2.6, -1.7, -0.4, 0.0, 0.6, 1.2, 2.7, 1000.0]       # in steps
    right = torch.tensor([-3, -3, -3, -2, 0, 0, 1, 1, 3, 3])
    got = codes(0.25 * torch.tensor(places), 0.25, 3)
    assert isinstance(got, Tensor) and got.shape == right.shape, "codes has to be a tensor in the shape of x"
    assert not torch.allclose(got.float(), 0.25 * right), "these are values: codes are what the step is multiplied by"
    assert not got.is_floating_point(), f"codes are whole numbers, you have {got.dtype}: end with .to(torch.int8)"
    told = f"At {places} steps and 3 bits the codes are {right.tolist()}, you have {got.tolist()}"
    assert got.abs().max() <= 4, f"what lies beyond the range gets the last code, use clamp. {told}"
    assert got[-1] == 3 and got[0] in (-3, -4), f"int8 wraps around beyond 127, so clamp before you convert. {told}"
    assert got.min() == -3, f"the code -4 fits into 3 bits, but a symmetric grid does without it. {told}"
    assert got[4] == 0, f"floor goes down below 0 as well, the nearest level is meant: use torch.round. {told}"
    assert got[2] == -3 and got[6] == 1, f"conversion cuts off what is behind the point, so round before it. {told}"
    assert torch.equal(got.long(), right), f"the nearest level is asked for, use torch.round. {told}"
    got = codes(torch.tensor([-0.93, 0.2, 5.0]), 0.1, 4).tolist()
    assert got == [-7, 2, 7], (f"right with 3 bits and a step of 0.25, but with 4 bits and 0.1 the numbers -0.93, 0.2 "
                               f"and 5 have the codes -7, 2 and 7, you have {got}: the last is 2**(bits-1) - 1")
    return "Times the step they are the quantized values again, to the bit; integers are all that has to be stored."


@exercise("1.3")
def range_of_least_error(best_range) -> str:
    weight = projection()[0].weight.detach()
    found = {}
    for bits in (2, 4):
        q = quantizers.build("duq", role="weight", bits=bits).calibrate(weight, "mse")
        least, right = sum(distortion.parts(weight, q)), q.levels()[-1].item()
        top = found[bits] = float(best_range(weight, bits))
        assert 0 < top, f"the greatest level must be positive, you have {top} at {bits} bits"
        times = sum(distortion.parts(weight, distortion.reach(q, top))) / least
        told = f"at {bits} bits your range, {top:.4f}, has {times:.2f} times the least error"
        assert times < 1.02 or not _near(top, weight.abs().max().item()), (
            f"{told}: it is the greatest weight, and all others pay for it with a coarse step; try smaller ranges")
        assert times < 1.02 or bits == 2 or not _near(top, found[2]), (
            f"{told}: it is the same as at 2 bits, but with more levels the best range is wider")
        side = "too wide, rounding outweighs clipping" if top > right else "too narrow, clipping outweighs rounding"
        assert times < 1.02, f"{told}: it is {side}; take the least of at least 100 ranges up to the greatest weight"
    return f"The best range of these weights is {found[2]:.2f} at 2 bits and {found[4]:.2f} at 4."


@exercise("1.4")
def span_with_a_level_at_zero(span_with_zero) -> str:
    for span, bits, right in ((3.2, 4, 2.8125), (3.9, 4, 5.625), (1.3125, 3, 1.3125), (20.0, 4, 5.625)):
        steps = 2**bits - 1
        told = f"for a span of {span} at {bits} bits, {steps} steps"
        try:
            got = float(span_with_zero(span, bits))
        except ZeroDivisionError:
            raise AssertionError(f"{told}, less than half a step lies below 0: round to one step at least") from None
        if _near(got, right):
            continue
        told = f"{told}, you have {got:.5g}"
        zero = 0.375 * steps / got if got > 0 else 0.0      # steps from -3/8 to 0
        assert not _near(got, right - 0.375), f"{told}: that is the greatest level; the span starts at -3/8"
        assert not _near(got, 0.375 * 2**bits / max(1, round(0.375 * 2**bits / span))), (
            f"{told}: that is with {2**bits} steps, but so many are the levels, one more than the steps")
        assert abs(zero - round(zero)) < 1e-4 and zero > 0.5, (
            f"{told}, where 0 lies {zero:.3f} steps above -3/8: it is a level if that is a whole number")
        raise AssertionError(f"{told}: 0 is a level, {zero:.0f} steps above -3/8; {0.375 * steps / span:.2f} steps it "
                             f"was, and {0.375 * steps / right:.0f} is the nearest whole number")
    return "Now -3/8 lies whole steps below 0, so 0 has a code: integer runtimes call it the zero point."
