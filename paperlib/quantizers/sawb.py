"""SAWB: the clip of the weights from their first two moments."""
from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from .base import Quantizer
from .functional import Grid, fake_quantize
from .registry import register

# levels -> (c1, c2) of clip = c1 sqrt(E[w^2]) + c2 E|w|: the least-squares-optimal clip, regressed over distributions
COEFFICIENTS = {3: (2.6, -1.71), 4: (3.12, -2.064), 8: (7.509, -6.892), 15: (12.035, -12.03), 16: (12.68, -12.80),
                32: (17.74, -18.64), 256: (31.76, -35.04)}


@register("sawb")
class SAWB(Quantizer):
    """Statistics-aware weight binning, for weights only; nothing is learned.

    *Forward*: ``clip = c1 sqrt(E[w^2]) + c2 E|w|`` from the weight at hand, then a uniform grid from -clip to clip
    with ``levels`` values: 2**bits by default, which are half-integer multiples of the step (0 is not among them), or
    an odd number (15 at 4 bits, 3 at 2 bits) with 0, the fair match for DuQ's grid.

    *Gradient*: dy/dw = 1 strictly inside the clip, else 0; the clip is taken as a constant.

    *Initialisation*: none, the range follows the weight at every call.

    *Reference*: Choi et al., PACT/SAWB, 2019 ("Accurate and efficient 2-bit quantized neural networks").

    *Differences*: for distributions far from the ones fitted the formula can fall below E|w|, or below 0; there the
    clip is max|w|.  A weight that is all zeros gets clip 1.

    >>> w = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    >>> SAWB(role="weight", bits=4, levels=15).calibrate(w).levels().shape
    torch.Size([15])
    """

    roles = ("weight",)

    def __init__(self, *, levels: int | None = None, **settings):
        super().__init__(**settings)
        n = 2**self.bits if levels is None else levels
        if n not in COEFFICIENTS or n > 2**self.bits:
            known = sorted(k for k in COEFFICIENTS if k <= 2**self.bits)
            raise InputError(f"SAWB has no coefficients for {n} levels in {self.bits} bits; "
                             f"known here: {known or 'none (at least 2 bits)'}, and bits 2, 3, 4, 5, 8")
        self.grid = Grid(n - 1, 0, n - 1, zero=(n - 1) / 2) if n % 2 == 0 else Grid(n // 2, -(n // 2), n // 2)
        self.register_buffer("clip", torch.tensor(1.0))

    def scales(self) -> tuple[Tensor, Tensor]:
        span = (2 if self.grid.zero else 1) * self.clip
        return span, span

    def set_range(self, x: Tensor) -> None:
        c1, c2 = COEFFICIENTS[self.grid.n_levels]
        top = x.abs().max()
        scale = 2.0 ** torch.frexp(top).exponent.clamp(-126, 127)       # a power of two changes no digit,
        shape = x / scale                                               # and squares of numbers up to 1 don't overflow
        mean = shape.abs().mean()
        clip = c1 * shape.square().mean().sqrt() + c2 * mean
        clip = torch.where(clip < mean, top, clip * scale)
        self.clip.copy_(torch.where(top > 0, clip, 1))

    def forward(self, x: Tensor) -> Tensor:
        if x.numel():
            with torch.no_grad():
                self.set_range(x)
            self.calibrated = True
        return fake_quantize(x, *self.scales(), self.grid)

    def encode(self, x: Tensor) -> Tensor:
        self.calibrate(x)
        return super().encode(x)
