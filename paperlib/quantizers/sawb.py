"""SAWB: the clip of the weights from their first two moments."""
from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from .base import Quantizer
from .calibration import SAWB_COEFFICIENTS, Sample, span
from .functional import Affine, Grid
from .registry import register


@register("sawb")
class SAWB(Quantizer):
    """Statistics-aware weight binning, for weights only; nothing is learned.

    *Forward*: ``clip = c1 sqrt(E[w^2]) + c2 E|w|`` from the weight at hand, then a uniform grid from -clip to clip
    with ``levels`` values: 2**bits by default, which are half-integer multiples of the step (0 is not among them), or
    an odd number (15 at 4 bits, 3 at 2 bits) with 0, the fair match for DuQ's grid.

    *Gradient*: dy/dw = 1 strictly inside the clip, else 0; the clip is taken as a constant.

    *Initialisation*: none, the range follows the weight at every call.

    *Reference*: Choi et al., Accurate and efficient 2-bit quantized neural networks, SysML 2019.

    *Differences*: for distributions far from the ones fitted the formula can fall below E|w|, or below 0; there the
    clip is max|w|.  A weight that is all zeros gets clip 1.

    >>> w = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    >>> SAWB(role="weight", bits=4, levels=15).calibrate(w).levels().shape
    torch.Size([15])
    """

    roles = ("weight",)
    bit_widths = (2, 3, 4, 5, 8)
    range_from = None
    follows = True

    def __init__(self, *, levels: int | None = None, **settings):
        super().__init__(**settings)
        n = 2**self.bits if levels is None else levels
        if n not in SAWB_COEFFICIENTS or n > 2**self.bits:
            known = [k for k in SAWB_COEFFICIENTS if k <= 2**self.bits]
            raise InputError(f"SAWB has no coefficients for {n} levels in {self.bits} bits; known here: {known}")
        self.grid = Grid(n - 1, 0, n - 1, zero=(n - 1) / 2) if n % 2 == 0 else Grid(n // 2, -(n // 2), n // 2)
        self.register_buffer("clip", torch.ones(self.shape))

    def affine(self) -> Affine:
        scale = (2 if self.grid.zero else 1) * self.clip
        return Affine(scale, scale)

    def update_range_from_weight(self, x: Tensor) -> None:
        once = torch.ones(1, 1, dtype=torch.bool, device=x.device)
        self.clip.copy_(span(Sample(self.rows(x.abs()), once, self.shape), self.grid, "sawb"))
