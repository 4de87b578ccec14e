"""Ternary weights: TWN, whose threshold and scale follow the weight, and TTQ, whose two scales are learned."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import Quantizer
from .calibration import Sample
from .functional import Grid, at_least
from .registry import register


class _Ternary(Quantizer):
    """Codes -1, 0 and 1: the sign of the weight beyond a threshold, the buffer ``delta``."""

    roles = ("weight",)
    bit_widths = (2,)
    disturbs_norms = True   # of a normal weight's energy a fifth is lost (TWN), or three tenths (TTQ)
    range_from = None
    follows = True
    grid = Grid(1, -1, 1)

    def __init__(self, **settings):
        super().__init__(**settings)
        self.register_buffer("delta", torch.zeros(self.shape))

    def codes(self, x: Tensor) -> Tensor:
        return (x > self.delta).to(x.dtype) - (x < -self.delta).to(x.dtype)


def _mean_where(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over each row of ``x`` where ``mask`` is set; 0 where it nowhere is."""
    return (x.double() * mask).sum(1) / mask.sum(1).clamp_min(1)


@register("twn")
class TWN(_Ternary):
    """Ternary weight networks: -alpha, 0 or alpha, by a threshold at 0.7 of the mean magnitude.

    *Forward*::  y = alpha * (1 if w > delta, -1 if w < -delta, else 0)

    with delta = 0.7 E|w| and alpha the mean of |w| over |w| > delta.

    *Gradient*: dy/dw = 1 (delta and alpha are taken as constants).

    *Initialisation*: none, threshold and scale follow the weight at every call.

    *Reference*: Li et al., Ternary weight networks, 2016 (arXiv 1605.04711).

    *Differences*: none known; ``shape`` gives each output channel its own threshold and scale.

    >>> q = TWN(role="weight", bits=2).calibrate(torch.tensor([-1.0, -0.1, 0.2, 0.5]))
    >>> q.levels()
    tensor([-0.7500,  0.0000,  0.7500])
    """

    def __init__(self, **settings):
        super().__init__(**settings)
        self.register_buffer("alpha", torch.ones(self.shape))

    def update_range_from_weight(self, x: Tensor) -> None:
        x = self.rows(x.abs())
        delta = 0.7 * x.mean(1, dtype=torch.float64).to(x.dtype)
        self.delta.copy_(delta.reshape(self.shape))
        self.alpha.copy_(_mean_where(x, x > delta[:, None]).reshape(self.shape))

    def values(self, code: Tensor) -> Tensor:
        return code * self.alpha

    def surrogate(self, x: Tensor) -> Tensor:
        return x


@register("ttq")
class TTQ(_Ternary):
    """Trained ternary quantization: -Wn, 0 or Wp, with both values learned.

    *Forward*::  y = Wp if w > delta, -Wn if w < -delta, else 0;   delta = 0.05 max|w|

    *Gradient*: dy/dw = Wp above delta, Wn below -delta, 1 between; dy/dWp = 1 above delta, dy/dWn = -1 below -delta.

    *Initialisation*: Wp and Wn are the means of |w| above and below.

    *Reference*: Zhu et al., Trained ternary quantization, ICLR 2017 (arXiv 1612.01064).

    *Differences*: the paper prints dL/dWn without the minus sign that -Wn brings.  Starting values are our choice.  Wp
    and Wn are kept above 0.

    >>> q = TTQ(role="weight", bits=2).calibrate(torch.tensor([-1.0, -0.02, 0.2, 0.6]))
    >>> [round(v, 4) for v in q.levels().tolist()]
    [-1.0, 0.0, 0.4]
    """

    def __init__(self, **settings):
        super().__init__(**settings)
        self.Wp = nn.Parameter(torch.ones(self.shape))
        self.Wn = nn.Parameter(torch.ones(self.shape))

    def set_range(self, sample: Sample, method: str | None, options: dict) -> None:
        for scale, side in ((self.Wp, sample.values), (self.Wn, -sample.values)):
            mean = _mean_where(side, side > self.rows(self.delta))
            scale.copy_(torch.where(mean > 0, mean, 1).reshape(self.shape))

    def update_range_from_weight(self, x: Tensor) -> None:
        self.delta.copy_(0.05 * self.rows(x.abs()).amax(1).reshape(self.shape))

    def values(self, code: Tensor) -> Tensor:
        return (code > 0) * at_least(self.Wp, 1e-8) - (code < 0) * at_least(self.Wn, 1e-8)

    def surrogate(self, x: Tensor) -> Tensor:
        code = self.codes(x.detach())
        slope = self.values(code).detach().abs()
        return torch.where(code == 0, x, slope * x + self.values(code))
