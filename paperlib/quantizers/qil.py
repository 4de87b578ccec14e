"""QIL: the interval that is quantized, its centre and its half width, is learned; what lies below it is pruned."""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..errors import InputError
from .base import Quantizer
from .functional import Affine, Grid, at_least, values_
from .registry import register


@register("qil")
class QIL(Quantizer):
    """Quantization intervals, learned with the task loss.

    *Forward*, with q = 2**(bits-1) - 1 for weights and signed activations, 2**bits - 1 for unsigned ones::

        u = clip((|x| - c + d) / (2 d), 0, 1);   y = M * sign(x) * round(q u) / q

    M = c + d - d/q for weights and 1 for activations, which come out in [0, 1]; half-way cases go up, so a weight at
    the threshold m = c - d + d/q gets the first level.  At 2 bits a weight is pruned below c, and d acts only backward.

    ``normalized=True``: weights are divided by M, as activations are: sign(w) * round(q u) / q, in [-1, 1], with the
    gradient of sign(w) u.  ``version="cvpr"``: weights are sign(w) * round(q u**gamma) / q, with a learned gamma (1 at
    the start).

    *Gradient* of the surrogate M sign(x) u: dy/dx = 0.5 M/d for c - d < |x| < c + d, else 0; with respect to c and d
    through u and M, written out: weights inside 0.5/d x + (0.5/q - c/d) sign(x) for c and
    -0.5 c/d**2 x + (0.5 c**2/d**2 - 0.5/q + 0.5) sign(x) for d, outside sign(x) and (1 - 1/q) sign(x);
    activations inside -0.5/d for c and 0.5 (c - x)/d**2 for d, outside 0.

    *Initialisation*: c = d = half of the range whose evenly spaced levels have the smallest squared error: the interval
    begins at 0.  (The paper names no starting values; with c = d = max|w|/2 two bits would prune most weights.)

    *Reference*: Jung et al., arXiv 1808.05779v1, equations 1 to 13; for the other version Jung et al., CVPR 2019.

    *Differences*: the printed floor of eq. 4 is written as rounding, which is the same but at thresholds, where
    floating point decides; the misprints in eq. 7 (d alpha/dc is 0.5/d) and eq. 13 (the x is missing) are mended.
    Section 4.1 found "a simple normalization" of the weights helpful and does not say which: ``normalized`` is our
    reading. ``floor`` is beyond the method and ignored; signed activations, which the paper has not, are treated as
    weights with M = 1. d and M are kept above 0.

    >>> q = QIL(role="weight", bits=3).calibrate(torch.linspace(-1, 1, 101))
    >>> len(q.levels())
    7
    """

    range_from = {"weight": ("mse", {}), "activation": ("mse", {})}
    ignores_floor = True

    def __init__(self, *, version: str = "v1", normalized: bool = False, **settings):
        super().__init__(**settings)
        if version not in ("v1", "cvpr"):
            raise InputError(f"version must be 'v1' (arXiv 1808.05779v1) or 'cvpr' (2019), got {version!r}")
        self.grid: Grid = self.symmetric_or_unsigned_grid(half_up=True)
        self.c = nn.Parameter(torch.full(self.shape, 0.5))
        self.d = nn.Parameter(torch.full(self.shape, 0.5))
        if self.role == "weight":
            self.variant = version if version != "v1" else "normalized" if normalized else ""
        scaled = self.role == "weight" and not self.variant
        self.shrink = 1 - 1 / self.grid.steps if scaled else None       # of d in M
        self.disturbs_norms = not scaled        # the greatest level is 1, wherever the interval ends
        self.gamma = nn.Parameter(torch.ones(self.shape)) if self.variant == "cvpr" else None

    def set_span(self, span: Tensor) -> None:
        self.c.copy_(span / 2)
        self.d.copy_(span / 2)

    def magnitude(self, x: Tensor) -> Tensor:
        """Compute u (u**gamma in the CVPR version), in [0, 1], of a signed x."""
        d = at_least(self.d, 1e-6)
        x, low, high = x.abs(), self.c - d, self.c + d
        inside = (x > low) & (x < high)     # clip, without the gradient that clamp passes at its two ends
        u = (torch.where(inside, x, self.c.detach()) - low) / (2 * d)
        u = torch.where(inside, u, (x >= high).to(u.dtype))
        if self.gamma is not None:
            u = torch.where(inside, torch.where(inside, u, 0.5) ** self.gamma, u)
        return u

    def top(self) -> Tensor:
        """M, the last level."""
        return torch.ones_like(self.d) if self.shrink is None else at_least(self.c + self.d * self.shrink, 1e-6)

    def affine(self) -> Affine | None:
        if self.signed:
            return None
        d = at_least(self.d, 1e-6)
        return Affine(2 * d, torch.ones_like(d), self.c - d)

    def codes(self, x: Tensor) -> Tensor:
        if not self.signed:
            return super().codes(x)
        d, q = at_least(self.d, 1e-6), self.grid.steps
        u = self.magnitude(x) if self.gamma is not None else x.abs().sub_(self.c - d).div_(2 * d).clamp_(0, 1)
        return u.mul_(q).add_(0.5).floor_().mul_(x.sign())

    def values(self, code: Tensor) -> Tensor:
        top = self.top()
        return values_(code.clone(), Affine(top, top), self.grid)

    def surrogate(self, x: Tensor) -> Tensor:
        return self.top() * x.sign() * self.magnitude(x)

    def stand_in(self, x: Tensor, y: Tensor) -> Tensor:
        if self.gamma is not None:
            return super().stand_in(x, y)
        return _Surrogate.apply(x, y, self.c, at_least(self.d, 1e-6), self.top())


class _Surrogate(torch.autograd.Function):
    """y with the gradient of M sign(x) u, written out: three sums give those of c, d and M."""

    @staticmethod
    def forward(ctx, x, y, c, d, top):
        ctx.save_for_backward(x, c, d, top)
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, c, d, top = ctx.saved_tensors
        size, half = x.abs(), 0.5 / d
        inside = ((size > c - d) & (size < c + d)).to(grad.dtype).mul_(grad)
        above = (size >= c + d).to(grad.dtype).mul_(grad).mul_(x.sign()).sum_to_size(c.shape)
        through_x = (inside * x).sum_to_size(c.shape)               # over sign(x) * |x|
        signs = (inside * x.sign()).sum_to_size(c.shape)
        slope = top * half
        return (inside.mul_(slope), None, -slope * signs, slope / d * (c * signs - through_x),
                half * (through_x - (c - d) * signs) + above)
