"""Moments of a layer's output, as it is and as other weights would have made it."""
from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.layers import LayerInput
from ..quantizers import kernels
from ..quantizers.functional import SMALLEST
from ..system import distributed

DEAD = 4e-6         # a channel whose deviation is below this share of its mean is constant up to rounding
REST = 1e-4         # the same, relative to the new output, for an old one, which is found from the new by subtraction


def rows(output: Tensor, layer: nn.Module) -> Tensor:
    """A convolution's output (N, C, H, W) or a linear layer's (..., C) as (values, C); no copy if channels_last."""
    return (output.movedim(-3, -1) if isinstance(layer, nn.Conv2d) else output).flatten(0, -2)


class Moments:
    """Mean and variance (float64) of each output channel over batch, height and width, and how many values there were.

    ``of`` takes (values, channels).
    """

    def __init__(self, mean: Tensor, var: Tensor, count: int):
        self.mean, self.var, self.count = mean.double(), var.double(), count

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        values = values.float()
        dense = values.is_contiguous() and kernels.for_dense(values) is not None
        return cls(*(kernels.in_c() if dense else kernels.TORCH).moments(values, None, None, 0.0), len(values))

    @classmethod
    def joined(cls, parts: list[Moments]) -> Moments:
        """Put the channels of all parts in a row, over all processes; parts may differ in their counts."""
        mean, var = torch.cat([p.mean for p in parts]), torch.cat([p.var for p in parts])
        if distributed.world() == 1:
            return cls(mean, var, 0)
        count = torch.cat([torch.full_like(p.mean, p.count) for p in parts])
        total, square, count = distributed.total(torch.stack([mean * count, (var + mean**2) * count, count]))
        mean = total / count
        return cls(mean, square / count - mean**2, 0)

    @property
    def dead(self) -> Tensor:
        """Channels that are constant, so that their Gaussian has no width."""
        return self.var <= (DEAD * self.mean)**2 + torch.finfo(torch.float64).tiny


def divergence(new: Moments, old: Moments) -> Tensor:
    """KL(new || old) of the Gaussians of each channel, in nats: float64 (C,); NaN where one of them is dead.

    ln(sigma_old / sigma_new) + (sigma_new**2 + (mu_new - mu_old)**2) / (2 sigma_old**2) - 1/2, as PROFIT measures it.
    """
    ratio = new.var / old.var
    kl = 0.5 * (ratio - 1 - ratio.log() + (new.mean - old.mean)**2 / old.var)
    rest = old.var <= REST**2 * (new.var + new.mean**2)
    return kl.masked_fill(new.dead | old.dead | rest, math.nan)


class Snapshot(NamedTuple):
    """A quantized weight and the scale of its grid (1 where the grid is not evenly spaced)."""

    weight: Tensor
    scale: Tensor

    @classmethod
    def of(cls, layer: nn.Module, weight: Tensor) -> Snapshot:
        """``weight`` is what the layer has quantized; a float one is copied, since training changes it in place."""
        quantizer = layer.weight_quantizer
        affine = None if quantizer is None else quantizer.affine()
        scale = torch.as_tensor(1.0 if affine is None else affine.out_scale, device=weight.device)
        return cls(weight.clone() if quantizer is None else weight, scale.detach().float().clamp_min(SMALLEST))


def moments_again(layer: nn.Module, old: Snapshot, seen: LayerInput) -> Moments:
    """Find the moments of the output that the old weight gives on the same input, by computing the layer once more."""
    x, weight, gain = seen.x, old.weight, seen.gain
    if isinstance(layer, nn.Linear):
        bias, compute = layer.bias, F.linear
    else:
        bias, compute = layer.shifted_bias(weight, seen.shift or None), layer.convolve
    output = compute(x, weight * seen.unit, bias if gain is None else None)
    if gain is not None:
        output = output * gain
        if bias is not None:
            output = output + (bias if isinstance(layer, nn.Linear) else bias.view(-1, 1, 1))
    return Moments.of(rows(output, layer))


def smallest_change(layer: nn.Module, old: Snapshot) -> Tensor:
    """Return what a difference from the old weight must exceed to be another code: half a step; 0 without a grid."""
    quantizer = layer.weight_quantizer
    if quantizer is None or quantizer.affine() is None:
        return torch.zeros_like(old.scale)
    return 0.5 * old.scale / quantizer.grid.steps


def moments_before(layer: nn.Module, now: Snapshot, old: Snapshot, new: Moments, output: Tensor, seen: LayerInput
                   ) -> Moments:
    """Find them from ``new``, the moments of ``output``, which the weight ``now`` gives.

    Quantized weights are few distinct numbers times a scale; from one step to the next the scale moves, and where few
    weights get another code, a loop in C looks at the outputs of these alone.
    """
    found = Moments(new.mean.clone(), new.var.clone(), new.count)
    if seen.gain is None and kernels.moments_before(
            layer, seen.x, output, now.weight, old.weight, old.scale / now.scale, smallest_change(layer, old),
            float(seen.unit), float(seen.shift), found.mean, found.var):
        return found
    return moments_again(layer, old, seen)
