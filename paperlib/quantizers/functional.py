"""The one fused forward/backward under every uniform-grid quantizer.

Forward, with ``step = out_scale / grid.steps``::

    t    = (x - grid.floor) * grid.steps / in_scale + grid.zero
    code = round(clip(t, grid.code_min, grid.code_max))          # half to even
    y    = (code - grid.zero) * step + grid.floor

Backward is analytic.  Rounding passes the gradient through, clipping cuts it, and ``inside`` means strictly between
``code_min`` and ``code_max``::

    dy/dx         = out_scale / in_scale                              inside, else 0
    dy/din_scale  = -(x - floor) * out_scale / in_scale**2            inside, else 0
    dy/dout_scale = (code - zero) / steps                             everywhere

``clip_gradient=True`` gives PACT's own rule for a single clipping value ``alpha`` (pass it as ``in_scale`` and its
detached value as ``out_scale``): ``dy/dalpha = 1`` at and above the upper clip, -1 at and below the lower clip of a
signed grid, else 0.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Grid:
    """Which integers a quantizer uses and how they sit on the real line.

    ``steps`` is the number of steps that ``in_scale`` (and ``out_scale``) spans.  ``zero`` is the (possibly
    half-integer) code of the value ``floor``; a non-zero ``floor`` moves the whole grid, e.g. to -3/8 for h-swish.
    """

    steps: int
    code_min: int
    code_max: int
    zero: float = 0.0
    floor: float = 0.0

    @property
    def n_levels(self) -> int:
        return self.code_max - self.code_min + 1


def _position(x: Tensor, in_scale: Tensor, grid: Grid) -> Tensor:
    """Where ``x`` lies on the code axis, before clipping and rounding (a fresh tensor)."""
    per_unit = grid.steps / in_scale
    t = x * per_unit
    if grid.floor:
        t.sub_(grid.floor * per_unit)       # exactly 0 at x = floor
    return t.add_(grid.zero) if grid.zero else t


def _values_(code: Tensor, out_scale: Tensor, grid: Grid) -> Tensor:
    if grid.zero:
        code.sub_(grid.zero)
    code.mul_(out_scale / grid.steps)
    return code.add_(grid.floor) if grid.floor else code


def codes(x: Tensor, in_scale: Tensor, grid: Grid) -> Tensor:
    """Integer codes of ``x`` as a floating-point tensor of the same shape and dtype."""
    return _position(x, in_scale, grid).clamp_(grid.code_min, grid.code_max).round_()


def values(code: Tensor, out_scale: Tensor, grid: Grid) -> Tensor:
    """The reals that floating-point ``code`` stands for; the inverse of :func:`codes` on the grid."""
    return _values_(code.clone(), out_scale, grid)


class _FakeQuantize(torch.autograd.Function):
    """Works in place wherever it can: on a CPU the time goes into fresh memory, not into arithmetic."""

    @staticmethod
    def forward(ctx, x, in_scale, out_scale, grid, clip_gradient):
        y = _values_(codes(x, in_scale, grid), out_scale, grid)
        ctx.save_for_backward(x, y, in_scale, out_scale)   # the layers around keep x and y anyway
        ctx.grid, ctx.clip_gradient = grid, clip_gradient
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, y, in_scale, out_scale = ctx.saved_tensors
        grid, (need_x, need_in, need_out, _, _) = ctx.grid, ctx.needs_input_grad
        grad_x = grad_in = grad_out = None
        if need_x or need_in:
            t = _position(x, in_scale, grid)
            # one pass for "gradient where code_min < t < code_max, else 0"
            grad_x = torch.ops.aten.hardtanh_backward(grad, t, grid.code_min, grid.code_max)
            if need_in and ctx.clip_gradient:
                grad_in = (grad * (t >= grid.code_max)).sum()
                if grid.code_min < 0:
                    grad_in = grad_in - (grad * (t <= grid.code_min)).sum()
            elif need_in:
                t.clamp_(grid.code_min, grid.code_max).sub_(grid.zero)      # infinity times 0 would be NaN
                grad_in = -t.mul_(grad_x).sum() * out_scale / (in_scale * grid.steps)
            grad_x.mul_(out_scale / in_scale)
        if need_out:
            product = (grad * y).sum()
            grad_out = (product - grid.floor * grad.sum() if grid.floor else product) / out_scale
        return grad_x if need_x else None, grad_in, grad_out, None, None


def fake_quantize(x: Tensor, in_scale: Tensor, out_scale: Tensor, grid: Grid, *, clip_gradient=False) -> Tensor:
    """Quantize and dequantize ``x`` with the gradients written at the top of this file.

    ``x`` has any shape and a floating dtype; ``in_scale`` and ``out_scale`` are positive 0-d tensors of the same
    dtype and device.  Returns a tensor of the shape of ``x``.  Double backward is refused by torch with a clear error.
    """
    return _FakeQuantize.apply(x, in_scale, out_scale, grid, clip_gradient)
