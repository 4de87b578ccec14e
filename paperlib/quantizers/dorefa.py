"""DoReFa: weights squeezed through tanh, activations clipped at 1; nothing is learned but the weights."""
from __future__ import annotations

import torch
from torch import Tensor

from .base import Quantizer
from .functional import Affine, Grid, codes_, values_
from .registry import register


@register("dorefa")
class DoReFa(Quantizer):
    """DoReFa-Net's quantizers: weights through tanh, activations clipped to [0, 1], nothing learned.

    *Forward*, with Q(v) = round(v n) / n and n = 2**bits - 1::

        weights      v = tanh(w) / max|tanh(w)|;   y = 2 Q(v/2 + 1/2) - 1        (2**bits levels, without 0)
        1 bit        y = sign(w) * E|w|
        activations  y = Q(clip(x, 0, 1))

    *Gradient*: rounding passes it on; dy/dw is dv/dw, the maximum included, or 1 at 1 bit; dy/dx = 1 strictly
    between 0 and 1, else 0.

    *Initialisation*: none; the range of the weights follows them, the range of the activations is fixed.

    *Reference*: Zhou et al., DoReFa-Net, 2016 (arXiv 1606.06160).

    *Differences*: the maximum is over the tensor, or over each output channel with ``shape``.  Activations with both
    signs, which the paper has not, are clipped at -1 and 1 (2**bits - 1 levels); ``floor`` is ignored.  Gradients
    are not quantized.

    >>> DoReFa(role="activation", bits=2).levels()
    tensor([0.0000, 0.3333, 0.6667, 1.0000])
    """

    range_from = None
    disturbs_norms = True   # weights reach from -1 to 1, activations end at 1 whatever comes; 1 bit as in binary.py
    ignores_floor = True

    def __init__(self, **settings):
        super().__init__(**settings)
        n = 2**self.bits - 1
        self.follows = self.role == "weight" and self.bits == 1
        self.calibrated = not self.follows
        self.grid = Grid(n, 0, n, zero=n / 2) if self.role == "weight" else self.symmetric_or_unsigned_grid()
        self.register_buffer("scale", torch.ones(self.shape))

    def affine(self) -> Affine | None:
        return None if self.role == "weight" else Affine(self.scale, self.scale)

    def update_range_from_weight(self, x: Tensor) -> None:
        self.scale.copy_(self.rows(x.abs()).mean(1, dtype=torch.float64).reshape(self.shape))

    def squeezed(self, w: Tensor) -> Tensor:
        v = w.tanh()
        if not w.numel():
            return v
        top = self.rows(v.abs()).amax(1).reshape(self.shape)
        return v / top.clamp_min(torch.finfo(v.dtype).tiny)

    def codes(self, x: Tensor) -> Tensor:
        if self.role == "activation":
            return super().codes(x)
        if self.bits == 1:
            return (x >= 0).to(x.dtype)
        return codes_(self.squeezed(x).add_(1).mul_(self.grid.steps / 2), self.grid)

    def values(self, code: Tensor) -> Tensor:
        if self.role == "activation":
            return super().values(code)
        span = 2 * self.scale
        return values_(code.clone(), Affine(span, span), self.grid)

    def surrogate(self, x: Tensor) -> Tensor:
        return x if self.bits == 1 else self.squeezed(x)
