"""Lesson 2: gradients through rounding, learned ranges."""
from __future__ import annotations

import torch
from torch import Tensor

from .. import distortion, quantizers
from . import exercise
from .lesson_1 import projection


def _short(values: Tensor) -> list[float]:
    return [round(value, 2) for value in values.tolist()]


@exercise("2.1")
def straight_through(answer) -> str:
    x = torch.tensor([-1.3, 0.2, 0.8, 2.6], requires_grad=True)
    for y, hint in ((x.round(), ""), (3 * x, "y had a gradient of its own and it came in as well: detach all of y")):
        got = answer(x, y)
        assert torch.allclose(got, y, atol=1e-5), f"the value must be y, {_short(y)}, you have {_short(got)}"
        assert got.requires_grad, "there is no gradient at all: something that contains x must stay undetached"
        slope, = torch.autograd.grad(got.sum(), x, materialize_grads=True)
        told = f"the gradient by x must be 1 everywhere, you have {_short(slope)}"
        assert slope.any(), f"{told}: the staircase's own gradient is 0, or x cancels; detach the difference y - x"
        assert torch.allclose(slope, torch.ones_like(slope)), f"{told}: {hint or 'x must come in exactly once'}"
    return "Forward nothing has changed; backward the step has become a line of slope 1."


@exercise("2.2")
def lsq_from_one_straight_through(answer) -> str:
    x = torch.tensor([-3.0, -0.9, -0.3, 0.1, 0.33, 0.7, 2.0], requires_grad=True)
    s, bits, low, high = torch.tensor(0.4, requires_grad=True), 3, -4, 3
    v = (x / s).detach()
    right = s.detach() * v.clamp(low, high).round()
    y = answer(x, s, bits)
    told = f"for x = {_short(x)} and s = 0.4 at 3 bits"
    assert not torch.allclose(y, s * v.clamp(-high, high).round()), (
        f"{told} the lowest level is -4 s, you have {y.min().item():.2f}: LSQ has one level more below 0 than above")
    assert torch.allclose(y, right, atol=1e-6), (
        f"{told} the values are {_short(right)}, you have {_short(y)}: s * round(clamp(x / s, -4, 3))")
    assert y.requires_grad, f"{told} y has no gradient: only round() needs help, nothing else is to be detached"
    by_x, = torch.autograd.grad(y.sum(), x, retain_graph=True, materialize_grads=True)
    by_s = torch.stack([torch.autograd.grad(value, s, retain_graph=True, materialize_grads=True)[0] for value in y])
    inside = (v > low) & (v < high)
    assert by_x.any(), f"{told} dy/dx is 0 everywhere: put round() into the straight-through of exercise 2.1"
    assert by_s.any(), (f"{told} dy/ds is 0 everywhere: the straight-through goes around round() alone, and autograd "
                        "has to see the division and the multiplication by s")
    assert torch.allclose(by_x, inside.float()), (
        f"{told} dy/dx must be 1 inside the range, 0 beyond, you have {_short(by_x)}: clamp belongs outside of the "
        "straight-through")
    residue = torch.where(inside, v.round() - v, v.clamp(low, high))
    assert not torch.allclose(by_s, v.clamp(low, high).round(), atol=1e-5), (
        f"{told} dy/ds is the code itself: it lacks -x/s, because s is detached where x is divided by it")
    assert torch.allclose(by_s, residue, atol=1e-5), f"{told} dy/ds must be {_short(residue)}, you have {_short(by_s)}"
    finer = s.detach() * v.clamp(-8, 7).round()
    assert torch.allclose(answer(x, s, 4), finer, atol=1e-6), (
        f"right at 3 bits, but at 4 bits the values are {_short(finer)}, you have {_short(answer(x, s, 4))}: the codes "
        "go from -2**(bits-1) to 2**(bits-1) - 1")
    return "You did not write down LSQ's gradient: it follows from one straight-through around round()."


@exercise("2.3")
def fit_a_range(fit) -> str:
    layer, x = projection()
    q = quantizers.build("lsq", role="weight", bits=3).calibrate(layer.weight, "max")
    start, top = distortion.of_output(layer, x, q).item(), q.levels()[-1].item()
    scan = distortion.scan_output(layer, x, q, [top * i / 40 for i in range(4, 41)])
    distortion.reach(q, top)
    fitted = fit(q, lambda: distortion.of_output(layer, x, q))
    assert fitted is q, "return the quantizer that was passed: it changes in place"
    end, least = distortion.of_output(layer, x, q).item(), scan.error.min()
    told = f"the error went from {start:.4f} to {end:.4f}, and the least of a scan is {least:.4f}"
    assert end != start, f"{told}: the range has not moved; call backward() and the optimizer's step()"
    assert end < start, (f"{told}: it has grown, as it does if a sign is wrong, steps are too long or gradients add up "
                         "because zero_grad() is missing")
    assert end < 1.1 * least, f"{told}: on the way, but not there; take more steps, or steps of a few percent of s"
    return f"The error fell from {start:.4f} to {end:.4f}; the least of a scan is {least:.4f}."
