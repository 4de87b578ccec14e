"""Real values, and where a quantizer's levels lie among them: what is used, what is clipped, what rounding costs."""
from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...analysis.layer_inputs import capture_inputs
from ...analysis.quantization_error import sample
from ...errors import InputError
from ...quantizers import Quantizer
from ...quantizers.qil import QIL


def inputs(net: nn.Module, images: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
    """Sample the inputs of these layers with ``images`` (N, C, H, W); ``net`` is then in evaluation mode.

    InputError if it cannot take them."""
    try:
        return {name: sample(x) for name, x in capture_inputs(net, images, names).items()}
    except RuntimeError as error:
        raise InputError(f"{type(net).__name__} cannot take images of shape {tuple(images.shape)} "
                         f"({' '.join(str(error).split())[:120]}): give it the size and channels it is made for"
                         ) from error


@torch.no_grad()
def unit(q: Quantizer) -> Tensor:
    """Return how far apart, among the inputs, two levels lie whose difference is 1."""
    affine = q.affine()
    if affine is not None:
        return affine.in_scale / affine.out_scale
    return 2 * q.d if _maps_to_one(q) else torch.ones(q.shape)


@torch.no_grad()
def places(q: Quantizer, y: Tensor) -> Tensor:
    """Return where quantized values ``y`` lie among the inputs: before DuQ's second scale, and before QIL maps the
    interval of an input to [0, 1].  For all other methods ``y`` itself."""
    affine = q.affine()
    if affine is not None:
        return (y - affine.out_offset) * unit(q) + affine.in_offset
    return y * unit(q) + y.sign() * (q.c - q.d) if _maps_to_one(q) else y


def _maps_to_one(q: Quantizer) -> bool:
    return isinstance(q, QIL) and q.shrink is None


def ends(q: Quantizer) -> tuple[Tensor, Tensor]:
    """Return the places of the lowest and of the highest level, each of the quantizer's ``shape``."""
    low, high = (places(q, q.decode(torch.full(q.shape, code))) for code in (q.grid.code_min, q.grid.code_max))
    return low, high


class Fit(NamedTuple):
    """How a quantizer fits values: the levels it has, those that values fall on, the share of values beyond the
    outermost ones, the squared error as a share of the squared values, and what the best factor leaves of it."""

    levels: int
    used: int
    clipped: float
    error: float
    rescaled: float

    @classmethod
    @torch.no_grad()
    def of(cls, q: Quantizer, x: Tensor) -> Fit:
        y, (low, high) = q(x).double(), ends(q)
        clipped, used = ((x < low) | (x > high)).double().mean(), q.encode(x).unique().numel()
        x = x.double()
        values, squares = x.square().sum(), y.square().sum()
        rescaled = 1 - (x * y).sum() ** 2 / (values * squares) if squares else 1.0
        return cls(q.grid.n_levels, used, float(clipped), float((y - x).square().sum() / values), float(rescaled))
