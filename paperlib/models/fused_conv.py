"""Batch norm, activation, quantizer and convolution as one function that keeps its input and recomputes the rest.

In a plain network each of the four keeps a tensor for its backward pass and writes its result to fresh memory, which on
a CPU costs more than the arithmetic.  Here one autograd function does all four.  Between forward and backward it holds
on to its input alone; its intermediate results live in scratch memory that all layers share.  Values are those of the
plain modules (to rounding: see tests/models/test_fused_conv.py), and so are running statistics and gradients.

``models.fuse`` puts it into a network.  It is made for CPUs; on a GPU, torch.compile of the plain network does as much.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..quantizers import kernels
from ..quantizers.functional import SMALLEST, Grid, total_product
from ..quantizers.kernels import Chain, scratch

aten = torch.ops.aten
CLIPS = {None: (-math.inf, math.inf), nn.ReLU: (0.0, math.inf), nn.ReLU6: (0.0, 6.0)}   # activations that only clip
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish)


class LayerInput(NamedTuple):
    """A quantized input as a layer used it: x * unit + shift, with a border of ``shift``; the output's gain or None."""

    x: Tensor
    unit: float
    shift: Tensor | float
    gain: Tensor | None


class FusedPrologue(NamedTuple):
    """What a convolution does on the way to its input quantizer."""

    norm: nn.BatchNorm2d | None
    activation: type | None

    def apart(self, z: Tensor) -> Tensor:
        """The same by the modules' own code."""
        z = z if self.norm is None else nn.BatchNorm2d.forward(self.norm, z)
        return z if self.activation is None else self.activation()(z)


WORTH = 2**18    # numbers in an input from which on it pays to recompute a quantizer that has no batch norm before it


def fits(before: FusedPrologue, z: Tensor) -> bool:
    """Single or double precision, without autocast, and large enough; not where torch writes down the plain form."""
    return (z.dtype.itemsize >= 4 and not kernels.recording()
            and not torch.is_autocast_enabled(z.device.type) and (before.norm is not None or z.numel() >= WORTH))


class Norm(NamedTuple):
    """A batch norm on one batch, as a line through each channel: its output is ``z * slope + intercept``."""

    mean: Tensor
    invstd: Tensor
    slope: Tensor
    intercept: Tensor
    moving: bool        # whether mean and invstd depend on z

    @classmethod
    def of(cls, bn: nn.BatchNorm2d | None, z: Tensor) -> "Norm":
        """From a module; in training mode this moves its running statistics, as its own forward would."""
        if bn is None:
            zero, one = z.new_zeros(z.shape[1]), z.new_ones(z.shape[1])
            return cls(zero, one, one, zero, False)
        mean, var = bn.running_mean, bn.running_var
        if bn.training:
            bn.num_batches_tracked += 1
            momentum = 1 / bn.num_batches_tracked.item() if bn.momentum is None else bn.momentum
            mean, var = torch.batch_norm_update_stats(z, mean, var, momentum)
        invstd = (var + bn.eps).rsqrt_()
        slope = bn.weight * invstd
        return cls(mean, invstd, slope, torch.addcmul(bn.bias, mean, slope, value=-1), bn.training)

    def backward(self, grad: Tensor, z: Tensor, slope: Tensor, by_xhat: Tensor, total: Tensor, k) -> Tensor:
        """Gradient of z, written to ``grad``, that of ``z * slope``; with the sums of it that kernels.masked gives."""
        if not self.moving:
            return grad.mul_(slope.view(1, -1, 1, 1))
        # slope * (grad - mean(grad) - xhat * mean(grad * xhat))
        share = slope * (-z.shape[1] / z.numel())
        by_z = share * self.invstd * by_xhat
        return k.combine(grad, z, slope, by_z, torch.addcmul(share * total, by_z, self.mean, value=-1))


class Settings(NamedTuple):
    activation: type | None
    grid: Grid
    clip_gradient: bool
    shifted: bool           # no border, or one at the lowest level: the offset is a constant for each output channel
    layer: nn.Module        # the convolution

    def chain(self, norm: Norm, in_scale: float, offset: float) -> Chain:
        """From z to codes.  An activation that only clips needs no step of its own: the limits take care of it."""
        per_unit = self.grid.steps / in_scale
        constant = -offset * per_unit
        low, high = (bound * per_unit + constant for bound in CLIPS.get(self.activation, CLIPS[None]))
        low, high = max(low, self.grid.code_min), min(high, self.grid.code_max)
        if self.activation is nn.Hardswish:
            return Chain(norm.slope, norm.intercept, per_unit, constant, low, high, True, self.grid.half_up)
        intercept = norm.intercept * per_unit
        return Chain(norm.slope * per_unit, intercept + constant if constant else intercept, per_unit, constant, low,
                     high, False, self.grid.half_up)


class _FusedConv(torch.autograd.Function):
    """The convolution is of the integer codes, with the step multiplied into its weight."""

    @staticmethod
    def forward(ctx, z, bn_weight, bn_bias, in_scale, out_scale, in_offset, out_offset, weight, bias, norm, s):
        in_scale, out_scale, offset, shift = (float(a) for a in (in_scale, out_scale, in_offset, out_offset))
        in_scale, step = max(in_scale, SMALLEST), max(out_scale, SMALLEST) / s.grid.steps
        chain = s.chain(norm, in_scale, offset)
        code = kernels.best(z).codes(z, chain, scratch.like(z))
        if shift and not s.shifted:
            code.add_(shift / step)
        ctx.save_for_backward(z, weight)
        ctx.norm, ctx.chain, ctx.numbers, ctx.s = norm, chain, (in_scale, step, shift), s

        constant = shift if s.shifted and shift else None
        output = s.layer.convolve(code, weight * step, s.layer.shifted_bias(weight, constant))
        if s.layer.watch is not None:
            s.layer.watch(s.layer, weight, output, LayerInput(code, step, constant or 0.0, None))
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        z, weight = ctx.saved_tensors
        norm, chain, s, (in_scale, step, shift), needs = ctx.norm, ctx.chain, ctx.s, ctx.numbers, ctx.needs_input_grad
        layer = s.layer
        k = kernels.best(z)
        code = k.codes(z, chain, scratch.like(z))
        in_place = bool(shift) and not s.shifted
        if in_place:
            code.add_(shift / step)
        before = any(needs[:4]) or needs[5] or in_place and (needs[4] or needs[6])
        g, by_weight, by_bias = aten.convolution_backward(
            grad, code, weight * step, [len(weight)], layer.stride, layer.padding, layer.dilation, False, (0, 0),
            layer.groups,
            [before, needs[4] or needs[7], needs[8] or s.shifted and (bool(shift) or needs[6])])
        grads = [None] * 11
        if needs[4]:            # sum(grad * code) over the input is sum(grad * weight) over the weight
            grads[4] = total_product(by_weight, weight, torch.Size()) / s.grid.steps
            if in_place:
                grads[4] -= g.sum() * (shift / step**2 / s.grid.steps)
        if needs[6]:
            grads[6] = by_bias.dot(weight.sum((1, 2, 3))) if s.shifted else g.sum() / step
        if needs[7]:
            grads[7] = by_weight.mul_(step)
            if shift and s.shifted:
                grads[7].add_(by_bias.view(-1, 1, 1, 1), alpha=shift)
        if needs[8]:
            grads[8] = by_bias
        if not before:
            return tuple(grads)
        if g.stride() != z.stride():
            g = torch.empty_like(z).copy_(g)
        at_low, at_high = _clipped(g, z, chain, s) if needs[3] or needs[5] else (None, None)  # k.masked overwrites g
        by_xhat, total, by_t, total_t = k.masked(g, z, chain, norm.mean, norm.invstd)
        if needs[1] or needs[2]:    # chain.slope is that of n, or for a line that of t = n * per_unit + constant
            unit = 1.0 if chain.curved else chain.per_unit
            grads[1], grads[2] = by_xhat * unit, total * unit
        if needs[3] and s.clip_gradient:
            grads[3] = torch.as_tensor((at_high - at_low) / step, dtype=z.dtype, device=z.device)
        elif needs[3]:
            if by_t is None:        # t = xhat * slope / invstd + (intercept + mean * slope)
                by_t = by_xhat.dot(chain.slope / norm.invstd) + total.dot(
                    torch.addcmul(chain.intercept, norm.mean, chain.slope))
            grads[3] = (by_t + at_low * chain.low + at_high * chain.high) * (-1 / in_scale)
        if needs[5]:
            grads[5] = ((total.sum() if total_t is None else total_t) + at_low + at_high) * -chain.per_unit
        if needs[0]:
            grads[0] = norm.backward(g, z, chain.slope, by_xhat, total, k)
        return tuple(grads)


def _clipped(g: Tensor, z: Tensor, chain: Chain, s: Settings) -> tuple[Tensor | float, Tensor | float]:
    """Sums of the gradient over those clipped values that move the input scale, at the lower and at the upper end.

    By PACT's rule these are the ones that the grid clips; else those that the activation clips within the grid (ReLU6).
    """
    ends = ((chain.low, s.grid.code_min), (chain.high, s.grid.code_max))
    wanted = [(bound == edge) == s.clip_gradient and not (s.clip_gradient and edge == 0) for bound, edge in ends]
    if not any(wanted):
        return 0.0, 0.0
    t = kernels.position(z, chain)
    return tuple((g * (t == bound)).sum() if want else 0.0 for want, (bound, _) in zip(wanted, ends))


def conv(layer: nn.Module, before: FusedPrologue, z: Tensor, weight: Tensor) -> Tensor:
    """``layer`` (a QuantConv2d whose input quantizer has an affine grid) on what ``before`` makes of ``z``.

    ``weight`` is the quantized one.
    """
    if not (z.is_contiguous() or z.is_contiguous(memory_format=torch.channels_last)):
        z = z.contiguous()      # the loops go along memory, which others may share or skip
    bn, q = before.norm, layer.input_quantizer
    q.observe(z)
    q._require_calibrated()
    settings = Settings(before.activation, q.grid, q.clip_gradient, bool(layer.pad_value) or not any(layer.padding),
                        layer)
    with torch.no_grad():
        norm = Norm.of(bn, z)
    parameters = (None, None) if bn is None else (bn.weight, bn.bias)
    return _FusedConv.apply(z, *parameters, *q.float32_affine(), weight, layer.bias, norm, settings)
