"""The one fused forward/backward under every uniform-grid quantizer, and the straight-through rule for the others.

Forward, with ``step = out_scale / grid.steps``::

    t    = (x - in_offset) * grid.steps / in_scale + grid.zero
    code = round(clip(t, grid.code_min, grid.code_max))          # half to even, or half up where the grid says so
    y    = (code - grid.zero) * step + out_offset

Backward is analytic.  Rounding passes the gradient through, clipping cuts it, and ``inside`` means
``code_min < t < code_max``::

    dy/dx          = out_scale / in_scale                                 inside, else 0
    dy/din_scale   = -(x - in_offset) * out_scale / in_scale**2           inside, else 0
    dy/din_offset  = -out_scale / in_scale                                inside, else 0
    dy/dout_scale  = (code - zero) / steps                                everywhere
    dy/dout_offset = 1                                                    everywhere

``clip_gradient=True`` gives PACT's own rule for a single clipping value ``alpha`` (pass it as ``in_scale`` and its
detached value as ``out_scale``): ``dy/dalpha = 1`` at and above the upper clip, -1 at and below the lower clip of a
signed grid, else 0.

On a CPU the time goes into fresh memory, not into arithmetic: everything here works in place where it can.
"""
from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from . import kernels

aten = torch.ops.aten
SMALLEST = 1e-15        # a learned scale that has shrunk to 0 is taken for this, so that 0 stays 0


@dataclass(frozen=True)
class Grid:
    """Which integers a quantizer uses: ``code_min`` to ``code_max``.

    ``steps`` is the number of steps that a scale spans.  ``zero`` is the (possibly half-integer) code of the offset.
    ``half_up``: a value exactly between two levels goes to the upper one, not to the one with the even code.
    """

    steps: int
    code_min: int
    code_max: int
    zero: float = 0.0
    half_up: bool = False

    @property
    def n_levels(self) -> int:
        return self.code_max - self.code_min + 1


class Affine(NamedTuple):
    """Where the grid lies: two positive scales and two offsets, tensors that broadcast against x, or numbers."""

    in_scale: Tensor
    out_scale: Tensor
    in_offset: Tensor | float = 0.0
    out_offset: Tensor | float = 0.0

    def positive(self) -> Affine:
        """Put softplus of the scales in their place."""
        return Affine(softplus(self.in_scale), softplus(self.out_scale), *self[2:])

    def numbers(self, raw: bool) -> tuple[list[float], list[float]]:
        """Return all four as Python numbers, and what the gradient of each of the two scales is multiplied by.

        ``raw``: the scales are before softplus.
        """
        numbers = list(map(float, self.positive() if raw else self))
        return numbers, [-math.expm1(-scale) if raw else 1.0 for scale in numbers[:2]]


def _numbers(affine: Affine) -> Affine:
    """Put Python numbers for 0-d tensors on the CPU, whose arithmetic costs a hundredth."""
    def number(a):
        return a.item() if isinstance(a, Tensor) and a.is_cpu and a.dim() == 0 else a

    if kernels.recording() or affine.in_scale.dim():
        return affine._replace(in_scale=affine.in_scale.clamp_min(SMALLEST))
    scale = number(affine.in_scale)
    if not isinstance(scale, Tensor):
        scale = max(scale, SMALLEST)
    return Affine(scale, *map(number, affine[1:]))


def _none(offset: Tensor | float) -> bool:
    return not isinstance(offset, Tensor) and offset == 0


def position(x: Tensor, affine: Affine, grid: Grid, out: Tensor | None = None) -> Tensor:
    """Say where ``x`` lies on the code axis, before clipping and rounding; written to ``out``, or fresh."""
    affine = _numbers(affine)
    per_unit = grid.steps / affine.in_scale
    t = torch.mul(x, per_unit, out=out)
    if not _none(affine.in_offset):
        t.sub_(affine.in_offset * per_unit)       # exactly 0 at x = in_offset
    return t.add_(grid.zero) if grid.zero else t


def codes_(t: Tensor, grid: Grid) -> Tensor:
    """Positions to integer codes (as floating-point numbers), in place."""
    t.clamp_(grid.code_min, grid.code_max)
    return t.add_(0.5).floor_() if grid.half_up else t.round_()


def values_(code: Tensor, affine: Affine, grid: Grid) -> Tensor:
    """Codes to the reals that they stand for, in place."""
    affine = _numbers(affine)
    if grid.zero:
        code.sub_(grid.zero)
    code.mul_(affine.out_scale / grid.steps)
    return code if _none(affine.out_offset) else code.add_(affine.out_offset)


def _total(a: Tensor, shape: torch.Size) -> Tensor:
    """Sum ``a`` down to ``shape``, which broadcasts against it."""
    return a.sum_to_size(shape) if shape else a.sum()


def total_product(a: Tensor, b: Tensor, shape: torch.Size) -> Tensor:
    """Sum ``a * b`` down to ``shape``, without a temporary where that can be."""
    if shape or not a.is_cpu or kernels.recording() or a.stride() != b.stride() or not (
            a.is_contiguous() or a.is_contiguous(memory_format=torch.channels_last)):
        return _total(a * b, shape)
    flat = (a.numel(),), (1,)       # in the order of memory
    return torch.dot(a.as_strided(*flat), b.as_strided(*flat))


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, in_scale, out_scale, in_offset, out_offset, grid, clip_gradient):
        affine = Affine(in_scale, out_scale, in_offset, out_offset)
        y = values_(codes_(position(x, affine, grid), grid), affine, grid)
        ctx.grid, ctx.clip_gradient = grid, clip_gradient
        ctx.save_for_backward(x, y, *(a for a in affine if isinstance(a, Tensor)))      # others keep x and y anyway
        ctx.numbers = [None if isinstance(a, Tensor) else a for a in affine]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, y, *tensors = ctx.saved_tensors
        affine = Affine(*(tensors.pop(0) if n is None else n for n in ctx.numbers))
        return *_backward(grad, x, y, affine, ctx.grid, ctx.clip_gradient, ctx.needs_input_grad[:5]), None, None


def _backward(grad: Tensor, x: Tensor, y: Tensor, affine: Affine, grid: Grid, clip_gradient: bool, needs) -> list:
    in_scale, out_scale, in_offset, out_offset = _numbers(affine)
    need_x, need_in, need_out, need_in_offset, need_out_offset = needs
    grads = [None] * 5
    if need_out:
        total = total_product(grad, y, affine.out_scale.shape)
        if not _none(out_offset):
            total = total - _total(grad, affine.out_scale.shape) * out_offset
        grads[2] = total / affine.out_scale.clamp_min(SMALLEST)
    if need_out_offset:
        grads[4] = _total(grad, affine.out_offset.shape)
    if not (need_x or need_in or need_in_offset):
        return grads
    ratio, t, shape = out_scale / in_scale, position(x, affine, grid), affine.in_scale.shape
    if clip_gradient and need_in:
        grads[1] = _total(grad * (t >= grid.code_max), shape)
        if grid.code_min < 0:
            grads[1] = grads[1] - _total(grad * (t <= grid.code_min), shape)
    inside = aten.hardtanh_backward(grad, t, grid.code_min, grid.code_max)
    if need_in and not clip_gradient:
        t.clamp_(grid.code_min, grid.code_max)      # infinity times 0 would be NaN
        if grid.zero:
            t.sub_(grid.zero)
        grads[1] = total_product(inside, t, shape) * (-ratio / grid.steps)
    grads[0] = inside.mul_(ratio)
    if need_in_offset:
        grads[3] = -_total(inside, affine.in_offset.shape)
    return grads


class InNumbers:
    """A grid with one range for the whole tensor, as the loops in C take it, in numbers: a tensor for each number costs
    more time than the loops.

    ``raw``: the scales of ``affine`` are before softplus.  ``unit``: a factor of the result.
    """

    def __init__(self, affine: Affine, grid: Grid, clip_gradient: bool = False, raw: bool = False, unit: float = 1.0):
        (scale, out_scale, in_offset, out_offset), self.slopes = affine.numbers(raw)
        self.grid, self.clip_gradient, self.unit = grid, clip_gradient, unit
        scale = max(scale, SMALLEST)
        per_unit = grid.steps / scale
        self.uniform = kernels.Uniform(per_unit, in_offset * per_unit, grid.zero, grid.code_min, grid.code_max,
                                       out_scale / grid.steps * unit, out_offset * unit, out_scale / scale * unit,
                                       grid.half_up)

    def quantize(self, x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        kernels.library().fake_quantize(x.numel(), x.data_ptr(), self.uniform, y.data_ptr())
        return y

    def backward(self, grad: Tensor, x: Tensor, needs: tuple[bool, ...]) -> list[Tensor | None]:
        """Compute the gradients of x and of the four members of ``affine``, None where one is not needed."""
        if grad.stride() != x.stride():
            grad = torch.empty_like(x).copy_(grad)
        grad_x, sums = torch.empty_like(x), (ctypes.c_double * 6)()
        kernels.library().fake_quantize_backward(x.numel(), x.data_ptr(), grad.data_ptr(), self.uniform,
                                                 grad_x.data_ptr(), sums)
        by_code, total, by_t, inside, above, below = sums
        ratio, steps = self.uniform.ratio, self.grid.steps
        by_scale = ((above - (below if self.grid.code_min < 0 else 0.0)) * self.unit if self.clip_gradient
                    else by_t * -ratio / steps)
        grads = [by_scale * self.slopes[0], by_code / steps * self.unit * self.slopes[1], -ratio * inside,
                 total * self.unit]
        return [grad_x, *[x.new_tensor(g) if need else None for g, need in zip(grads, needs[1:])]]


class _FakeQuantizeInC(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, in_scale, out_scale, in_offset, out_offset, *how):
        ctx.save_for_backward(x)
        ctx.numbers = InNumbers(Affine(in_scale, out_scale, in_offset, out_offset), *how)
        return ctx.numbers.quantize(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return *ctx.numbers.backward(grad, *ctx.saved_tensors, ctx.needs_input_grad[:5]), None, None, None


def fake_quantize(x: Tensor, affine: Affine, grid: Grid, *, clip_gradient: bool = False, raw: bool = False) -> Tensor:
    """Quantize and dequantize ``x`` with the gradients written at the top of this file.

    ``x`` has any shape and a floating dtype.  Scales and offsets are of one dtype, float32 or float64, on the device
    of ``x``, 0-d or broadcasting against ``x``.  ``raw``: the scales are before softplus.  Returns a
    tensor of the shape of ``x``.  Double backward is refused by torch with a clear error.
    """
    if not affine.in_scale.dim() and kernels.for_dense(x) is not None:
        return _FakeQuantizeInC.apply(x, *affine, grid, clip_gradient, raw)
    if raw:
        affine = affine.positive()
    if torch.compiler.is_compiling():       # which wants each tensor once
        affine = Affine(*affine[:1], affine.out_scale.clone(), affine.in_offset, affine.out_offset + 0)
    return _FakeQuantize.apply(x, *affine, grid, clip_gradient)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, surrogate):
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return None, grad


def at_least(x: Tensor, low: float) -> Tensor:
    """``x``, or ``low`` where that is greater; the gradient passes even there, so that training can come back."""
    return straight_through(x.detach().clamp_min(low), x)


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """Return ``value`` to the bit, with the gradient of ``surrogate`` (same shape)."""
    return _StraightThrough.apply(value, surrogate)
