"""LSQ and LSQ+: the step size is learned, and in LSQ+ the offset of the activations as well."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import InputError
from .base import Quantizer
from .calibration import Sample
from .functional import Affine, Grid, at_least, straight_through
from .registry import register


@register("lsq")
class LSQ(Quantizer):
    """Learned step size quantization.

    *Forward*::  y = s * round(clip(x / s, -Qn, Qp))

    Qn = 2**(bits-1) and Qp = Qn - 1 for weights and signed activations (one level more below 0 than above it);
    Qn = 0 and Qp = 2**bits - 1 for unsigned ones.

    *Gradient*: dy/dx = 1 inside the clip, else 0; dy/ds = round(x/s) - x/s inside, -Qn below, Qp above, all of it
    times 1/sqrt(N Qp) with N the weights that share s, or the features of one image.

    *Initialisation*: s = 2 E|x| / sqrt(Qp).

    *Reference*: Esser et al., Learned step size quantization, ICLR 2020 (arXiv 1902.08153).

    *Differences*: none known in the method.  ``floor`` is beyond it and ignored: what h-swish puts below 0 becomes 0
    and has no part in the mean (LSQ+ is the cure).  s is kept above 0.

    >>> q = LSQ(role="weight", bits=2).calibrate(torch.linspace(-1, 1, 101))
    >>> (q.levels() / q.s).tolist()
    [-2.0, -1.0, 0.0, 1.0]
    """

    range_from = {"weight": ("lsq", {}), "activation": ("lsq", {})}
    ignores_floor = True

    def __init__(self, **settings):
        super().__init__(**settings)
        self.grid = self.own_grid()
        self.s = nn.Parameter(torch.ones(self.shape))
        self.group_size = 1    # how many values of the last input share one s

    def own_grid(self) -> Grid:
        if not self.signed:
            return Grid(1, 0, 2**self.bits - 1)
        if self.bits == 1:
            raise InputError(f"{type(self).__name__} with a signed grid needs at least 2 bits, got 1: "
                             "use a binary method")
        return Grid(1, -2 ** (self.bits - 1), 2 ** (self.bits - 1) - 1)

    def observe(self, x: Tensor) -> None:
        images = x.shape[0] if self.role == "activation" and x.dim() else 1
        self.group_size = max(1, x.numel() // max(1, images * self.s.numel()))

    def scale_gradient(self, parameter: Tensor) -> Tensor:
        """Return the parameter with LSQ's factor on its gradient."""
        return straight_through(parameter.detach(), parameter / (self.group_size * self.grid.code_max) ** 0.5)

    def affine(self) -> Affine:
        s = at_least(self.scale_gradient(self.s), 1e-8)
        return Affine(s, s)

    def set_span(self, span: Tensor) -> None:
        self.s.copy_(span / self.grid.code_max)


@register("lsq+")
class LSQPlus(LSQ):
    """LSQ with a learned offset for activations; its weights are LSQ's.

    *Forward*::  y = s * round(clip((x - beta) / s, 0, 2**bits - 1)) + beta

    *Gradient*: with respect to x and s as in LSQ; dy/dbeta = 0 inside the clip, 1 outside, times 1/sqrt(N Qp).

    *Initialisation*: beta is the floor of the input, or the smallest value of the data where the input has both signs;
    s minimises the squared error.

    *Reference*: Bhalgat et al., LSQ+, CVPR workshops 2020 (arXiv 2004.09576).

    *Differences*: the paper also starts from minimum and maximum, and weights from three standard deviations; here
    ``calibrate(x, "max")`` gives the former and the latter is left out.  Border padding is beta.

    >>> q = LSQPlus(role="activation", bits=3, floor=-0.375).calibrate(torch.linspace(-0.375, 3, 100))
    >>> q.levels()[0].item()
    -0.375
    """

    range_from = {"weight": ("mse", {}), "activation": ("mse", {})}
    ignores_floor = False

    def __init__(self, **settings):
        super().__init__(**settings)
        if self.role == "activation":
            self.beta = nn.Parameter(torch.tensor(self.floor))

    def own_grid(self) -> Grid:
        return super().own_grid() if self.role == "weight" else Grid(1, 0, 2**self.bits - 1)

    def affine(self) -> Affine:
        affine = super().affine()
        if self.role == "weight":
            return affine
        beta = self.scale_gradient(self.beta)
        return affine._replace(in_offset=beta, out_offset=beta)

    def set_range(self, sample: Sample, method: str, options: dict) -> None:
        if self.role == "weight":
            super().set_range(sample, method, options)
        else:
            self.beta.copy_(sample.values.min() if self.signed else torch.tensor(self.floor))
            self.set_span(self.find_span(sample.above(self.beta, False), method, options))
