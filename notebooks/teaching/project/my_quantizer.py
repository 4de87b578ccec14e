"""Your quantizer of weights.  It works as it is, and it is a poor one: change what follows and run the tests.

CONTRIBUTING.md, "A new quantizer in 15 minutes", explains each part; paperlib/quantizers/lsq.py learns its range.
"""
import torch
from torch import Tensor

from paperlib.quantizers.base import Quantizer
from paperlib.quantizers.functional import Affine
from paperlib.quantizers.registry import register


@register("mine")
class Mine(Quantizer):
    """Clip at the largest weight.

    *Forward*::  y = top / K * round(clip(w, -top, top) * K / top),  top = max|w|,  K = 2**(bits-1) - 1

    *Gradient*: dy/dw = 1 inside the clip, else 0.

    *Initialisation*: none, the range follows the weight.

    *Reference*: say where your idea is from.

    *Differences*: say what you changed.
    """

    roles = ("weight",)
    bit_widths = range(2, 9)
    range_from = None       # no calibration to choose:
    follows = True          # the range is a function of the weight

    def __init__(self, **settings):
        super().__init__(**settings)
        self.grid = self.symmetric_or_unsigned_grid()
        self.register_buffer("top", torch.ones(self.shape))

    def affine(self) -> Affine:
        return Affine(self.top, self.top)

    def update_range_from_weight(self, x: Tensor) -> None:
        self.top.copy_(self.rows(x).abs().amax(1).reshape(self.shape))
