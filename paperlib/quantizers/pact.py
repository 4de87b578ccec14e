"""PACT: activations clipped at a learned value."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import Quantizer
from .functional import Affine, at_least
from .registry import register


@register("pact")
class PACT(Quantizer):
    """Parameterized clipping activation, for activations only (its authors pair it with SAWB for weights).

    *Forward*::  y = round(clip(x, 0, alpha) * K / alpha) * alpha / K,   K = 2**bits - 1

    *Gradient*: dy/dx = 1 strictly between 0 and alpha, else 0; dy/dalpha = 1 for x >= alpha, else 0.

    *Initialisation*: the 99th percentile of the positive part of x; training puts L2 on alpha, as in the paper.

    *Reference*: Choi et al., PACT, 2018 (arXiv 1805.06085).

    *Differences*: the paper starts alpha at a constant, here data set it.  A range that starts below 0 is beyond
    the method: the ``floor`` of h-swish and its kin is accepted and ignored, so what they put below 0 becomes 0; a
    floor under -1/2 makes the grid signed.  ``signed=True``, for inputs with both signs such as images and linear
    bottlenecks, clips at -alpha and alpha (2**bits - 1 levels) with dy/dalpha = -1 for x <= -alpha; the paper has no
    such case.

    >>> q = PACT(role="activation", bits=2).calibrate(torch.linspace(0, 3, 301))
    >>> q.levels().shape
    torch.Size([4])
    """

    roles = ("activation",)
    weight_decay = True
    clip_gradient = True
    ignores_floor = True

    def __init__(self, **settings):
        super().__init__(**settings)
        self.grid = self.symmetric_or_unsigned_grid()
        self.alpha = nn.Parameter(torch.tensor(1.0))

    def affine(self) -> Affine:
        alpha = at_least(self.alpha, 1e-6)      # training may push alpha through 0
        return Affine(alpha, alpha.detach())

    def set_span(self, span: Tensor) -> None:
        self.alpha.copy_(span)
