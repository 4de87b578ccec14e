"""DuQ, the differentiable and unified quantizer of PROFIT: one learned scale before rounding, another after it."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import InputError
from .base import Quantizer
from .functional import Affine
from .registry import register


def inverse_softplus(y: Tensor) -> Tensor:
    """Return x with softplus(x) = y for y > 0, without overflow for large y."""
    return y + torch.log(-torch.expm1(-y))


@register("duq")
class DuQ(Quantizer):
    """Differentiable and unified quantizer, with a scale before rounding and another after it.

    *Forward* (s = softplus, b = -floor, K steps, lo = 0, or -1 when signed)::

        u = (x + b) / s(a);   v = clip(u, lo, 1);   y = s(c) * round(K v) / K - b

    K = 2**bits - 1 unsigned, 2**(bits-1) - 1 signed (weights too): 15 levels of weights at 4 bits, 16 of activations.
    With ``floor=-3/8`` (h-swish) code 0 is -3/8 and 0 itself is in general not a level.  ``learn_offset=True`` makes b
    and the d that takes the place of -b at the end parameters, for unsigned activations; border padding is then d.
    ``one_scale=True`` takes s(a) for s(c), too: the levels end where the clip does, as with PACT and LSQ.

    *Gradient*: dy/dx = s(c)/s(a) inside the clip, else 0; dy/da = -sigmoid(a) s(c) (x+b)/s(a)**2 inside, else 0;
    dy/dc = sigmoid(c) round(K v)/K everywhere; dy/db = dy/dx; dy/dd = 1.  With one scale a gets both.

    *Initialisation*: s(a) = s(c) = 0.9 max|w| for weights; the 95th percentile of the positive part of x + b for
    activations (of |x| when signed); b = -d = -floor.

    *Reference*: Park & Yoo, PROFIT, ECCV 2020, and the authors' released code.

    *Differences*: the released calibration never applied |x| or + 3/8 (a test on the wrong type) and gave a range of
    1e-3 to a batch without positive values; here both are as the paper means them, and such a batch gives 1 with a
    warning.  y is computed as code * (s(c)/K) + d, so that integers times one scale are exact.  A learned offset is
    not in the paper, whose offsets are constants.

    >>> q = DuQ(role="activation", bits=4, floor=-0.375).calibrate(torch.linspace(-0.375, 3, 100))
    >>> len(q.levels())
    16
    """

    range_from = {"weight": ("max", {"fraction": 0.9}), "activation": ("percentile", {"percent": 95})}

    def __init__(self, *, learn_offset: bool = False, one_scale: bool = False, **settings):
        super().__init__(**settings)
        self.grid = self.symmetric_or_unsigned_grid()
        self.a = nn.Parameter(torch.ones(self.shape))
        self.c = None if one_scale else nn.Parameter(torch.ones(self.shape))
        if learn_offset and self.signed:
            raise InputError("a signed grid is symmetric: leave out learn_offset=True")
        if learn_offset:
            self.b = nn.Parameter(torch.tensor(-self.floor))
            self.d = nn.Parameter(torch.tensor(self.floor))
        self.learn_offset = learn_offset

    def affine(self) -> Affine:
        return self.before_softplus().positive()

    def before_softplus(self) -> Affine:
        offsets = (-self.b, self.d) if self.learn_offset else (self.floor, self.floor)
        return Affine(self.a, self.a if self.c is None else self.c, *offsets)

    def set_span(self, span: Tensor) -> None:
        raw = inverse_softplus(span.double()).to(self.a.dtype)
        self.a.copy_(raw)
        if self.c is not None:
            self.c.copy_(raw)
