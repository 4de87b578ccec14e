"""DuQ, the quantizer of PROFIT: one learned scale before rounding, another after it."""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .base import Quantizer
from .registry import register


def inverse_softplus(y: Tensor) -> Tensor:
    """x with softplus(x) = y for y > 0, without overflow for large y."""
    return y + torch.log(-torch.expm1(-y))


@register("duq")
class DuQ(Quantizer):
    """Dual-scale quantizer.

    *Forward* (s = softplus, b = -floor, K steps, lo = 0, or -1 when signed)::

        u = (x + b) / s(a);   v = clip(u, lo, 1);   y = s(c) * round(K v) / K - b

    K = 2**bits - 1 unsigned, 2**(bits-1) - 1 signed (weights too): 15 levels of weights at 4 bits, 16 of activations.
    With ``floor=-3/8`` (h-swish) code 0 is -3/8 and 0 itself is in general not a level.

    *Gradient*: dy/dx = s(c)/s(a) inside the clip, else 0; dy/da = -sigmoid(a) s(c) (x+b)/s(a)**2 inside, else 0;
    dy/dc = sigmoid(c) round(K v)/K everywhere.

    *Initialisation*: s(a) = s(c) = 0.9 max|w| for weights; the 95th percentile of the positive part of x + b for
    activations (of |x| when signed).

    *Reference*: Park & Yoo, PROFIT, ECCV 2020, and the authors' released code.

    *Differences*: the released calibration never applied |x| or + 3/8 (a test on the wrong type) and gave a range of
    1e-3 to a batch without positive values; here both are as the paper means them, and such a batch gives 1 with a
    warning.  y is computed as code * (s(c)/K) + d, so that integers times one scale are exact.

    >>> q = DuQ(role="activation", bits=4, floor=-0.375).calibrate(torch.linspace(-0.375, 3, 100))
    >>> len(q.levels())
    16
    """

    def __init__(self, **settings):
        super().__init__(**settings)
        self.grid = self.symmetric_or_unsigned_grid()
        self.a = nn.Parameter(torch.tensor(1.0))
        self.c = nn.Parameter(torch.tensor(1.0))

    def scales(self) -> tuple[Tensor, Tensor]:
        return softplus(self.a), softplus(self.c)

    def set_range(self, x: Tensor) -> None:
        if self.role == "weight":
            scale = 0.9 * x.abs().max()
            scale = torch.where(scale > 0, scale, torch.ones_like(scale))   # an all-zero weight: any scale will do
        else:
            scale = self.positive_percentile(x, 95)
        raw = inverse_softplus(scale.double()).to(self.a.dtype)
        self.a.copy_(raw)
        self.c.copy_(raw)
