"""Lesson 2: the straight-through gradient and LSQ's gradient of the step, written by hand; a range that learns."""
from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from ... import quantizers
from ...analysis import quantization_error
from . import Open, exercise, expect, short
from .lesson_1 import projection


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, grad):
        return grad


def _slopes(v, low, high):
    inside = (v > low) & (v < high)
    return inside.float(), torch.where(inside, v.round() - v, v.clamp(low, high))


def _fit(s, error):
    optimizer = torch.optim.Adam([s], lr=0.03 * s.item())
    for _ in range(60):
        optimizer.zero_grad()
        error().backward()
        optimizer.step()
    return s


@exercise("2.1", "a Function whose value is x.round() and whose gradient is that of a line of slope 1",
          "`grad` is the slope of the loss by the output; the chain rule multiplies it by the slope of this operation",
          _Round)
def straight_through_rounding(answer) -> str:
    assert isinstance(answer, type) and issubclass(answer, torch.autograd.Function), (
        f"you have {answer!r}", "name the class itself, Round, without parentheses and without .apply")
    x = torch.tensor([-1.3, 0.2, 0.8, 2.6], requires_grad=True)
    if answer.backward(SimpleNamespace(saved_tensors=(x,)), torch.ones(4)) is ...:
        raise Open
    y = answer.apply(x)
    assert isinstance(y, Tensor) and torch.equal(y, x.round()), (
        f"the value must be {short(x.round())}, you have {short(y) if isinstance(y, Tensor) else y}",
        "let forward return x.round()")
    incoming = torch.tensor([1.0, -2.0, 3.0, 0.5])
    slope, = torch.autograd.grad(y, x, incoming, materialize_grads=True)
    told = f"for an incoming gradient of {short(incoming)} backward must return the same, you have {short(slope)}"
    assert slope.any(), (told, "that is the gradient of the staircase itself, which is 0", "a line of slope 1 has "
                         "another one")
    assert not torch.equal(slope, torch.ones(4)), (
        told, "that is the slope of this operation alone", "the chain rule multiplies it by the incoming gradient")
    assert not torch.equal(slope, incoming.round()), (told, "the gradient itself is rounded here: leave it as it is")
    assert torch.equal(slope, incoming), (told, "a slope of 1 leaves the incoming gradient as it is")
    return "Forward it is a staircase; backward it is a line."


@exercise("2.2", "dx̂/dx and dx̂/ds at each place v = x / s, of x̂ = s * round(clip(v, low, high))",
          "inside, dx̂/ds is the derivative of s * round(x / s) by the product rule, with round' = 1", _slopes)
def slopes_of_lsq(answer) -> str:
    low, high = -4, 3
    v = torch.tensor([-7.5, -2.25, -0.75, 0.25, 0.8, 1.75, 5.0])
    got = answer(v, low, high)
    if isinstance(got, tuple) and any(part is ... for part in got):
        raise Open
    assert isinstance(got, tuple) and len(got) == 2, (
        f"you return {f'{len(got)} things' if isinstance(got, tuple) else f'one {type(got).__name__}'}",
        "return two tensors, dx̂/dx and dx̂/ds, with a comma between them")
    assert all(isinstance(part, Tensor) and part.shape == v.shape for part in got), (
        f"the two have the shapes {[tuple(part.shape) if isinstance(part, Tensor) else part for part in got]}",
        f"each has a number for each of the {len(v)} values: nothing is summed here")
    by_x, by_s = (part.detach().float() for part in got)
    inside, residue = (v > low) & (v < high), v.round() - v
    right_x, right_s = _slopes(v, low, high)
    where = f"for v = {short(v)}, low = -4 and high = 3"
    told = f"{where} dx̂/dx must be {short(right_x)}, you have {short(by_x)}"
    assert not torch.allclose(by_x, right_s), (told, "that is dx̂/ds: return dx̂/dx first")
    assert by_x.any(), (told, "that is the slope of the staircase itself", "straight-through puts 1 in its place")
    assert not torch.allclose(by_x, torch.ones_like(v)), (
        told, "beyond the range the output stays the same whatever x does")
    assert torch.allclose(by_x, right_x), (told, "dx̂/dx is 1 inside the range and 0 beyond it")
    told = f"{where} dx̂/ds must be {short(right_s)}, you have {short(by_s)}"
    expect(by_s, right_s, told, (
        (v.clamp(low, high).round(), "inside, that is the code alone", "x / s changes with s as well: its part of "
         "the product rule is -v"),
        (torch.where(inside, v.round(), 0), "inside, that is the code alone, and beyond the range it is missing",
         "beyond the range x̂ = s * low or s * high"),
        (torch.where(inside, -v, v.clamp(low, high)), "inside, the code is missing",
         "s multiplies round(v): its derivative by that s is round(v)"),
        (torch.where(inside, -residue, v.clamp(low, high)), "inside, the sign is the wrong way round"),
        (torch.where(inside, -residue, -v.clamp(low, high)), "the sign is the wrong way round everywhere"),
        (torch.where(inside, residue, 0), "beyond the range it is not 0", "x̂ is s * low or s * high there"),
        (torch.where(inside, 0, v.clamp(low, high)), "that is PACT's rule, which is 0 inside",
         "LSQ counts the rounding residue as well"),
        (residue, "beyond the range that is still the residue", "x̂ is s * low or s * high there"),
        (torch.where(inside, residue, v.sign()), "beyond the range x̂ is s * low or s * high, not s or -s"),
        (v.clamp(low, high).round() - v, "beyond the range x has no part in x̂ = s * low or s * high"),
        (torch.where(inside, residue, v.clamp(low, high).abs()), "below the range x̂ = s * low, and low is "
         "negative")),
        "inside it is round(v) - v, beyond the range low or high")
    finer = _slopes(v, -8, 7)[1]
    got = answer(v, -8, 7)[1]
    assert torch.allclose(got.float(), finer), (
        f"your slopes are right for -4 and 3, but for low = -8 and high = 7 dx̂/ds is {short(finer)}, you have "
        f"{short(got)}", "use low and high, not the numbers")
    return "Inside a value pulls on s by its rounding residue, beyond the range by the code of the last level."


@exercise("2.3", "a step s with nearly the smallest error of the layer's output",
          "Adam on [s] with lr a few percent of s; in each of some dozens of rounds clear the gradient, call error(), "
          "go backward, step", _fit)
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
    fitted = fit(q.s, error)
    assert fitted is q.s, ("what you return is something else", "return the s that was passed, changed in place")
    end, least = quantization_error.of_output(layer, x, q).item(), scan.error.min()
    told = f"the error went from {start:.4f} to {end:.4f}, and the smallest of a scan is {least:.4f}"
    assert end != start or summed, (f"{told}: s has not moved", "call error(), backward() and the optimizer's step()")
    assert end != start, (f"{told}: s has not moved", "a gradient was computed, but no step made with it",
                          "step() comes after backward(), and zero_grad() not in between")
    assert end < 1.1 * least or not any(summed), (
        told, "each gradient was added to those before, so the steps follow the past", "zero_grad() is missing")
    assert end < start, (told, "it has grown, as it does if a sign is wrong or steps are too long")
    moves = [after - before for before, after in zip(places[-10:], places[-10:][1:])]
    assert end < 1.1 * least or abs(sum(moves)) >= sum(map(abs, moves)) / 2, (
        told, "at the end s goes to and fro", "take shorter steps")
    assert end < 1.1 * least, (told, f"it is on the way, but not there after {len(places)} steps",
                               "take more steps or longer ones")
    return f"The error fell from {start:.4f} to {end:.4f}; the smallest of a scan is {least:.4f}."
