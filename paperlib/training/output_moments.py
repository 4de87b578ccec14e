"""Moments of a layer's output, as it is and as other weights would have made it."""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
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
        return cls(*torch.batch_norm_update_stats(values.float(), None, None, 0.0), len(values))

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


def output_without_bias(layer: nn.Module, given: LayerInput, weight: Tensor, outputs: Tensor | None = None,
                        inputs: Tensor | None = None) -> Tensor:
    """Compute what ``weight`` makes of a layer's input, for all channels or from ``inputs`` to ``outputs`` alone.

    ``outputs`` and ``inputs`` are int64 (n,): which of the layer's output channels, and of the input channels that each
    of them sees, ``weight`` has.
    """
    x, gain = given.x, given.gain
    if gain is not None and outputs is not None and isinstance(layer, nn.Conv2d):
        gain = gain[:, outputs]
    if isinstance(layer, nn.Linear):
        output = F.linear(x if inputs is None else x[..., inputs], weight)
        return output if gain is None else output * gain
    scaled, window = weight * given.unit, (layer.stride, layer.padding, layer.dilation)
    if outputs is None:
        output = layer.convolve(x, scaled, None)
    elif layer.groups == 1:
        output = F.conv2d(x[:, inputs], scaled, None, *window)
    elif layer.groups == layer.in_channels == layer.out_channels:
        output = F.conv2d(x[:, outputs], scaled, None, *window, len(outputs))
    else:
        everywhere = torch.zeros_like(layer.weight)
        everywhere[outputs] = torch.zeros_like(everywhere[outputs]).index_copy_(1, inputs, scaled)
        output = layer.convolve(x, everywhere, None)[:, outputs]
    output = output + (given.shift * weight.sum((1, 2, 3))).view(-1, 1, 1)
    return output if gain is None else output * gain


def moments_again(layer: nn.Module, old: Snapshot, seen: LayerInput) -> Moments:
    """Moments of the output that the old weight gives on the same input, by computing the layer a second time.

    On a GPU that is cheaper than to look for the weights that changed, since nothing has to wait for the device.
    """
    output = output_without_bias(layer, seen, old.weight)
    if layer.bias is not None:
        output = output + (layer.bias.view(-1, 1, 1) if isinstance(layer, nn.Conv2d) else layer.bias)
    return Moments.of(rows(output, layer))


class Change(NamedTuple):
    """Where a quantized weight has got another code, and by how much: old = new * ratio + these.

    Quantized weights are few distinct numbers times a scale; from one step to the next the scale moves and hardly any
    weight gets another code.
    """

    ratio: Tensor       # float32 (output channels,)
    places: Tensor      # int64 (n, dimensions of the weight)
    amount: Tensor      # float32 (n,)

    @classmethod
    def between(cls, layer: nn.Module, new: Snapshot, old: Snapshot) -> Change:
        quantizer, ratio = layer.weight_quantizer, old.scale / new.scale
        least = torch.zeros_like(old.scale)
        if quantizer is not None and quantizer.affine() is not None:
            least = 0.5 * old.scale / quantizer.grid.steps
        change = torch.addcmul(old.weight, new.weight, ratio, value=-1)
        places = (change.abs() > least).nonzero()
        return cls(ratio.flatten().expand(len(new.weight)), places, change[tuple(places.T)])

    def old_moments(self, layer: nn.Module, new: Moments, output: Tensor, seen: LayerInput) -> Moments:
        """Find the moments of the output that the old weight gives on the same input, from the new ones.

        They follow from the ratio of the scales; only channels in which a code has changed are looked at again.
        """
        ratio = self.ratio.double()
        bias = None if layer.bias is None else (1 - ratio) * layer.bias.detach()
        mean = new.mean * ratio if bias is None else torch.addcmul(bias, new.mean, ratio)
        old = Moments(mean, new.var * ratio**2, new.count)
        if len(self.places):
            offset = torch.zeros_like(self.ratio) if bias is None else bias.float()
            outputs, part = self._sparse(layer, output, seen, offset, mean) or self._dense(layer, output, seen, offset)
            old.mean[outputs], old.var[outputs] = part.mean, part.var
        return old

    def _sparse(self, layer: nn.Module, output: Tensor, seen: LayerInput, offset: Tensor, centre: Tensor
                ) -> tuple[Tensor, Moments] | None:
        """(channels, moments) by a loop in C, weight by weight; None where it can't be, or a convolution is faster."""
        shape, unit = layer.weight.shape, seen.unit
        x, y = (t.permute(0, 2, 3, 1) if len(shape) == 4 else t.reshape(-1, 1, 1, t.shape[-1])
                for t in (seen.x, output))
        if seen.gain is not None or not kernels.can_correct(x, y):
            return None
        places, amount = self.places.numpy(), self.amount.numpy()      # numpy: many small steps, on the CPU anyway
        starts = np.flatnonzero(np.diff(places[:, 0], prepend=-1))
        outputs = places[starts, 0]
        if len(places) > len(outputs) * (12 + shape[1:].numel() / 20):
            return None
        taps = np.zeros((len(places), 4), np.int32)        # dy, dx, input channel, and the bits of the change
        taps[:, 2], taps[:, 3] = places[:, 1], (amount * unit).astype(np.float32).view(np.int32)
        if len(shape) == 4:
            taps[:, :2] = places[:, 2:] * layer.dilation - layer.padding
            taps[:, 2] += places[:, 0] // (layer.out_channels // layer.groups) * shape[1]
        shifted = offset.numpy()[outputs] + np.add.reduceat(amount, starts) * float(seen.shift)
        centre, count = centre.numpy()[outputs], y.numel() // y.shape[-1]
        sums = kernels.corrected_moments(
            x, y, layer.stride if len(shape) == 4 else (1, 1), outputs, np.append(starts[1:], len(places)), taps,
            self.ratio.numpy()[outputs], shifted, centre)
        mean, square = torch.from_numpy(sums / count).unbind(1)
        return torch.from_numpy(outputs), Moments(torch.from_numpy(centre) + mean, square - mean**2, count)

    def _dense(self, layer: nn.Module, output: Tensor, seen: LayerInput, offset: Tensor) -> tuple[Tensor, Moments]:
        """Find (channels, moments) by a convolution between the channels that are concerned."""
        outputs, inputs = (self.places[:, k].unique() for k in (0, 1))
        change = torch.zeros_like(layer.weight).index_put_(tuple(self.places.T), self.amount)
        if 2 * len(inputs) > change.shape[1]:
            inputs = torch.arange(change.shape[1], device=inputs.device)
        kept = output.index_select(1 if change.dim() == 4 else -1, outputs)
        correction = output_without_bias(layer, seen, change[outputs][:, inputs], outputs, inputs)
        return outputs, Moments.of(rows(kept, layer) * self.ratio[outputs] + offset[outputs] + rows(correction, layer))
