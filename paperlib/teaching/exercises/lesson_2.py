"""Lesson 2: gradients through rounding, learned ranges."""
from __future__ import annotations

import torch
from torch import Tensor

from ... import quantizers
from ...analysis import quantization_error
from . import exercise
from .lesson_1 import projection


def _short(values: Tensor) -> list[float]:
    return [round(value, 2) for value in values.tolist()]


@exercise("2.1", "the value of y with the gradient of x",
          "start from x, and add something that gives the value y and that autograd takes for a constant")
def straight_through(answer) -> str:
    x = torch.tensor([-1.3, 0.2, 0.8, 2.6], requires_grad=True)
    for y, hint in ((x.round(), ""), (3 * x, "y had a gradient of its own and it came in as well: detach all of y")):
        got = answer(x, y)
        assert torch.allclose(got, y, atol=1e-5), (f"the value must be y, {_short(y)}, you have {_short(got)}",
                                                   "all that is added to y has to cancel in the value")
        assert got.requires_grad, ("there is no gradient at all", "something that contains x must stay undetached")
        slope, = torch.autograd.grad(got.sum(), x, materialize_grads=True)
        told = f"the gradient by x must be 1 everywhere, you have {_short(slope)}"
        assert slope.any(), (told, "the staircase's own gradient is 0, or x cancels", "detach the difference y - x")
        assert not torch.allclose(slope, -torch.ones_like(slope)), (
            told, "x comes in with a minus: the x that is not detached is the one that is added")
        assert torch.allclose(slope, torch.ones_like(slope)), (told, hint or "x must come in exactly once")
    return "Forward nothing has changed; backward the step has become a line of slope 1."


@exercise("2.2", "s * round(clip(x / s, -2**(bits-1), 2**(bits-1) - 1)) with LSQ's gradients by x and by s",
          "write the formula with torch, and replace round(v) alone by the straight-through of v and v.round()")
def lsq_from_one_straight_through(answer) -> str:
    x = torch.tensor([-3.0, -0.9, -0.3, 0.1, 0.33, 0.7, 2.0], requires_grad=True)
    s, bits, low, high = torch.tensor(0.4, requires_grad=True), 3, -4, 3
    v = (x / s).detach()
    right = s.detach() * v.clamp(low, high).round()
    y = answer(x, s, bits)
    told = f"for x = {_short(x)} and s = 0.4 at 3 bits"
    assert not torch.allclose(y, s * v.clamp(-high, high).round()), (
        f"{told} the lowest level is -4 s, you have {y.min().item():.2f}", "LSQ has one level more below 0 than above")
    assert not torch.allclose(y * s, right, atol=1e-6), (
        f"{told} you have {_short(y)}", "these are the codes: the values are s times as large")
    assert torch.allclose(y, right, atol=1e-6), (
        f"{told} the values are {_short(right)}, you have {_short(y)}", "the codes go from -4 to 3 here")
    assert y.requires_grad, (f"{told} y has no gradient", "only round() needs help, nothing else is to be detached")
    by_x, = torch.autograd.grad(y.sum(), x, retain_graph=True, materialize_grads=True)
    by_s = torch.stack([torch.autograd.grad(value, s, retain_graph=True, materialize_grads=True)[0] for value in y])
    inside = (v > low) & (v < high)
    assert by_x.any(), (f"{told} dy/dx is 0 everywhere", "put round() into the straight-through of exercise 2.1")
    assert by_s.any(), (f"{told} dy/ds is 0 everywhere", "the straight-through goes around round() alone",
                        "autograd has to see the division and the multiplication by s")
    assert torch.allclose(by_x, inside.float()), (
        f"{told} dy/dx must be 1 inside the range, 0 beyond, you have {_short(by_x)}",
        "clamp belongs outside of the straight-through")
    residue = torch.where(inside, v.round() - v, v.clamp(low, high))
    told = f"{told} dy/ds must be {_short(residue)}, you have {_short(by_s)}"
    assert not torch.allclose(by_s, v.clamp(low, high).round(), atol=1e-5), (
        told, "dy/ds is the code itself: it lacks -x/s", "s is detached where x is divided by it")
    assert not torch.allclose(by_s, torch.where(inside, -v, 0), atol=1e-5), (
        told, "dy/ds lacks the code: s is detached where it multiplies")
    assert not torch.allclose(by_s, residue / (len(x) * high)**0.5, atol=1e-5), (
        told, "that is with the factor of section 5, which is left out here")
    assert torch.allclose(by_s, residue, atol=1e-5), (told, "autograd finds it if s is detached nowhere")
    finer = s.detach() * v.clamp(-8, 7).round()
    assert torch.allclose(answer(x, s, 4), finer, atol=1e-6), (
        f"right at 3 bits, but at 4 bits the values are {_short(finer)}, you have {_short(answer(x, s, 4))}",
        "the first and the last code depend on bits")
    return "You did not write down LSQ's gradient: it follows from one straight-through around round()."


@exercise("2.3", "a range with nearly the least error of the output",
          "Adam on q.s with lr a few percent of s; in each of some dozens of rounds clear the gradient, call error(), "
          "go backward, step")
def fit_a_range(fit) -> str:
    layer, x = projection()
    q = quantizers.build("lsq", role="weight", bits=3).calibrate(layer.weight, "max")
    start, top = quantization_error.of_output(layer, x, q).item(), q.levels()[-1].item()
    scan = quantization_error.scan_output(layer, x, q, [top * i / 40 for i in range(4, 41)])
    quantization_error.set_max_level(q, top)
    places, summed = [], []         # the step at each call; whether a gradient was added to an earlier one
    q.s.register_hook(lambda gradient: summed.append(q.s.grad is not None and bool(q.s.grad.any())))

    def error() -> Tensor:
        places.append(q.s.item())
        return quantization_error.of_output(layer, x, q)
    fitted = fit(q, error)
    assert fitted is q, ("what came back is something else", "return the quantizer that was passed, changed in place")
    end, least = quantization_error.of_output(layer, x, q).item(), scan.error.min()
    told = f"the error went from {start:.4f} to {end:.4f}, and the least of a scan is {least:.4f}"
    assert end != start or summed, (f"{told}: the range has not moved", "call error(), backward() and the optimizer's "
                                    "step()")
    assert end != start, (f"{told}: the range has not moved", "a gradient was computed, but no step made with it",
                          "step() comes after backward(), and zero_grad() not in between")
    assert end < 1.1 * least or not any(summed), (
        told, "each gradient was added to those before, so the steps follow the past", "zero_grad() is missing")
    assert end < start, (told, "it has grown, as it does if a sign is wrong or steps are too long")
    moves = [after - before for before, after in zip(places[-10:], places[-10:][1:])]
    assert end < 1.1 * least or abs(sum(moves)) >= sum(map(abs, moves)) / 2, (
        told, "at the end the range goes to and fro", "take shorter steps")
    assert end < 1.1 * least, (told, f"it is on the way, but not there after {len(places)} steps",
                               "take more steps or longer ones")
    return f"The error fell from {start:.4f} to {end:.4f}; the least of a scan is {least:.4f}."
