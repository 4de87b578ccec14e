"""Batch norm, activation, quantizer and convolution as one function that keeps its input and recomputes the rest.

In a plain network each of the four keeps a tensor for its backward pass and writes its result to fresh memory, which on
a CPU costs more than the arithmetic.  Here one autograd function does all four.  Between forward and backward it holds
on to its input alone; its intermediate results live in scratch memory that all layers share.  Values equal those in the
plain modules (to rounding: see tests/models/test_fused_conv.py), and so are running statistics and gradients.

``models.fuse`` puts it into a network.  It is made for CPUs; on a GPU, torch.compile of the plain network does as much.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..quantizers import Quantizer, kernels
from ..quantizers.functional import SMALLEST, Affine, InNumbers, total_product
from ..quantizers.kernels import Chain, scratch
from . import depthwise
from .copying import hooked
from .layers import LayerInput, QuantConv2d

UNCLIPPED = (-math.inf, math.inf)
CLIPS = {nn.ReLU: (0.0, math.inf), nn.ReLU6: (0.0, 6.0)}    # activations that only clip
ACTIVATIONS = (*CLIPS, nn.Hardswish)
WORTH = 2**18    # numbers in an input from which on it pays to recompute a quantizer that has no batch norm before it


class Norm(NamedTuple):
    """A batch norm on one batch, as a line through each channel: its output is ``z * slope + intercept``."""

    mean: Tensor
    invstd: Tensor
    slope: Tensor
    intercept: Tensor
    moving: bool        # whether mean and invstd depend on z

    @classmethod
    def of(cls, bn: nn.BatchNorm2d | None, z: Tensor) -> "Norm":
        """Take it from a module; in training mode this moves its running statistics, as its own forward would."""
        if bn is None:
            zero, one = z.new_zeros(z.shape[1]), z.new_ones(z.shape[1])
            return cls(zero, one, one, zero, False)
        mean, var = bn.running_mean, bn.running_var
        if bn.training:
            bn.num_batches_tracked.add_(1)
            momentum = 1 / bn.num_batches_tracked.item() if bn.momentum is None else bn.momentum
            mean, var = kernels.best(z).moments(z, mean, var, momentum)
        invstd = (var + bn.eps).rsqrt_()
        slope = bn.weight * invstd
        return cls(mean, invstd, slope, torch.addcmul(bn.bias, mean, slope, value=-1), bn.training)


class Gradients(NamedTuple):
    """What :class:`_FusedConv` is a function of, and the gradient of each; None where none is wanted.

    With W the quantized weight, K the grid's steps, s = out_scale / K, code the input of the convolution, g the
    gradient of t, which is ``n * K / in_scale`` of the activation n before it is clipped and rounded to codes, and dW
    and db the gradients of the convolution's weight ``W * s`` and of its bias::

        z, bn_weight, bn_bias       batch norm's own formulas, of g inside the clip
        in_scale    -sum(g * t) / in_scale, over what is not clipped by the grid; by PACT's rule sum(g) / s over what
                    is clipped above, less that over what is clipped below
        in_offset   -K / in_scale * sum(g), over what is not clipped by the grid
        out_scale   sum(dW * W) / K
        out_offset  sum over channels of db * sum(W)
        weight      s * dW + out_offset * db
        bias        db

    Where the border is 0 and not out_offset, that is a part of the input and not of the bias: then out_offset has the
    gradient ``sum(g) / s``, and out_scale loses ``sum(g) * out_offset / s**2 / K``.
    """

    z: Tensor | None = None
    bn_weight: Tensor | None = None
    bn_bias: Tensor | None = None
    in_scale: Tensor | None = None
    out_scale: Tensor | None = None
    in_offset: Tensor | None = None
    out_offset: Tensor | None = None
    weight: Tensor | None = None
    weight_in_scale: Tensor | None = None
    weight_out_scale: Tensor | None = None
    bias: Tensor | None = None
    raw: None = None
    weight_raw: None = None
    layer: None = None


class _FusedConv(torch.autograd.Function):
    """The convolution is of the integer codes, with the step multiplied into its weight.

    ``raw``, ``weight_raw``: the scales are softplus of the numbers given.  Where the weight's scales are None, the
    weight is quantized already.
    """

    @staticmethod
    def forward(ctx, z, bn_weight, bn_bias, in_scale, out_scale, in_offset, out_offset, weight, weight_in_scale,
                weight_out_scale, bias, raw, weight_raw, layer):
        quantizer, k = layer.input_quantizer, kernels.best(z)
        (in_scale, out_scale, offset, shift), slopes = Affine(in_scale, out_scale, in_offset, out_offset).numbers(raw)
        in_scale, step = max(in_scale, SMALLEST), max(out_scale, SMALLEST) / quantizer.grid.steps
        norm = Norm.of(layer.prologue.norm, z)
        chain = layer.chain(norm, in_scale, offset)
        code = k.codes(z, chain, scratch.like(z))
        constant = shift if shift and layer.shift_is_constant else None
        if shift and constant is None:
            code.add_(shift / step)
        ctx.numbers = None
        if weight_in_scale is not None:
            ctx.numbers = InNumbers(Affine(weight_in_scale, weight_out_scale), layer.weight_quantizer.grid,
                                    layer.weight_quantizer.clip_gradient, weight_raw, step)
        ctx.save_for_backward(z, weight)
        ctx.norm, ctx.layer, ctx.chain, ctx.how = norm, layer, chain, (in_scale, step, shift, slopes)
        scaled = weight * step if ctx.numbers is None else ctx.numbers.quantize(weight)
        output = layer.convolve(code, scaled, layer.shifted_bias(scaled, constant and constant / step))
        if layer.watch is not None:
            quantized = weight if ctx.numbers is None else layer.weight_quantizer(weight)
            layer.watch(layer, quantized, output, LayerInput(code, step, constant or 0.0, None))
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        z, weight = ctx.saved_tensors
        norm, layer, chain, numbers = ctx.norm, ctx.layer, ctx.chain, ctx.numbers
        in_scale, step, shift, slopes = ctx.how
        needs, grads, quantizer, k = Gradients(*ctx.needs_input_grad), {}, layer.input_quantizer, kernels.best(z)
        steps, constant = quantizer.grid.steps, layer.shift_is_constant
        in_place = bool(shift) and not constant
        code = k.codes(z, chain, scratch.like(z))
        if in_place:
            code.add_(shift / step)
        scaled = weight * step if numbers is None else numbers.quantize(weight)
        before = (any((needs.z, needs.bn_weight, needs.bn_bias, needs.in_scale, needs.in_offset))
                  or in_place and (needs.out_scale or needs.out_offset))
        by_weight = needs.weight or needs.weight_in_scale or needs.weight_out_scale
        g, by_scaled, by_bias = depthwise.backward(
            layer, grad, code, scaled,
            [before, needs.out_scale or by_weight, needs.bias or constant and (bool(shift) or needs.out_offset)])
        if needs.out_scale:     # sum(grad * code) over the input is sum(grad * weight) over the weight
            total = float(total_product(by_scaled, scaled, torch.Size())) / step
            if in_place:
                total -= float(g.sum()) * shift / step**2
            grads["out_scale"] = total / steps * slopes[1]
        if needs.out_offset:
            grads["out_offset"] = float((by_bias.dot(scaled.sum((1, 2, 3))) if constant else g.sum()) / step)
        if by_weight:
            if shift and constant:
                by_scaled.add_(by_bias.view(-1, 1, 1, 1), alpha=shift / step)
            if numbers is None:
                grads["weight"] = by_scaled.mul_(step)
            else:
                grads["weight"], grads["weight_in_scale"], grads["weight_out_scale"], *_ = numbers.backward(
                    by_scaled, weight, (*needs[7:10], False, False))
        if needs.bias:
            grads["bias"] = by_bias
        if before:
            if g.stride() != z.stride():
                g = torch.empty_like(z).copy_(g)
            at_low, at_high = (_clipped(g, z, chain, quantizer) if needs.in_scale or needs.in_offset
                               else (0.0, 0.0))       # now, since k.backward overwrites g
            by_xhat, total, by_t, total_t = k.backward(g, z, chain, norm.mean, norm.invstd, norm.moving)
            if needs.z:
                grads["z"] = g
            if needs.bn_weight or needs.bn_bias:
                grads["bn_weight"], grads["bn_bias"] = by_xhat, total
            if needs.in_scale:
                total = ((at_high - at_low) / step if quantizer.clip_gradient else
                         (float(by_t) + at_low * chain.low + at_high * chain.high) / -in_scale)
                grads["in_scale"] = total * slopes[0]
            if needs.in_offset:
                grads["in_offset"] = (float(total_t) + at_low + at_high) * -chain.per_unit
        return Gradients(**{name: z.new_tensor(g) if isinstance(g, float) else g for name, g in grads.items()})


def _clipped(g: Tensor, z: Tensor, chain: Chain, quantizer: Quantizer) -> tuple[float, float]:
    """Sums of the gradient over those clipped values that move the input scale, at the lower and at the upper end.

    By PACT's rule these are the ones that the grid clips; else those that the activation clips within the grid (ReLU6).
    """
    grid, by_grid = quantizer.grid, quantizer.clip_gradient
    ends = ((chain.low, grid.code_min), (chain.high, grid.code_max))
    wanted = [(bound == edge) == by_grid and not (by_grid and edge == 0) for bound, edge in ends]
    if not any(wanted):
        return 0.0, 0.0
    t = kernels.position(z, chain)
    return tuple(float((g * (t == bound)).sum()) if want else 0.0 for want, (bound, _) in zip(wanted, ends))


class FusedPrologue(NamedTuple):
    """The modules whose work a convolution does on the way to its input quantizer; an activation only after a norm."""

    norm: nn.BatchNorm2d | None
    activation: nn.Module | None

    def apart(self, z: Tensor) -> Tensor:
        """Do the same by the modules' own code."""
        for module in filter(None, self):
            z = type(module).forward(module, z)     # not the forward that fuse.py has given it
        return z


class FusedConv2d(QuantConv2d):
    """A QuantConv2d that does its prologue's work; its input quantizer has an evenly spaced grid."""

    prologue: FusedPrologue

    def forward(self, z: Tensor) -> Tensor:
        if not self.fits(z):
            return super().forward(self.prologue.apart(z))
        if not (z.is_contiguous() or z.is_contiguous(memory_format=torch.channels_last)):
            z = z.contiguous()      # the loops go along memory, which others may share or skip
        bn = self.prologue.norm
        parameters = (None, None) if bn is None else (bn.weight, bn.bias)
        affine, raw = self.input_quantizer.learned(z)
        weight, scales, weight_raw = self.weight_and_scales()
        return _FusedConv.apply(z, *parameters, *affine, weight, *scales, self.bias, raw, weight_raw, self)

    def weight_and_scales(self) -> tuple[Tensor, tuple[Tensor | None, Tensor | None], bool]:
        """Return the weight, the scales of its grid and whether they are before softplus.

        The scales are None, and the weight is quantized already, where its quantizer is not one range in C or nobody
        may skip its call.
        """
        q, weight = self.weight_quantizer, self.weight
        if q is not None and type(q).forward is Quantizer.forward and not hooked(q) and kernels.for_dense(weight):
            affine, raw = q.learned(weight)
            if affine is not None and not affine.in_scale.dim() and not any(
                    isinstance(offset, Tensor) or offset for offset in affine[2:]):
                return weight, affine[:2], raw
        return self.quantized_weight(), (None, None), False

    def fits(self, z: Tensor) -> bool:
        """Single or double precision, without autocast, and large enough; not where torch writes down the plain form.
        """
        return (z.dtype.itemsize >= 4 and not kernels.recording() and not torch.is_autocast_enabled(z.device.type)
                and (self.prologue.norm is not None or z.numel() >= WORTH))

    @property
    def shift_is_constant(self) -> bool:
        """Say whether the offset is a constant for each output channel: no border, or one at the lowest level."""
        return bool(self.pad_value) or not any(self.padding)

    def chain(self, norm: Norm, in_scale: float, offset: float) -> Chain:
        """Say how z becomes codes.  An activation that only clips needs no step of its own: the limits do its work."""
        activation, grid = type(self.prologue.activation), self.input_quantizer.grid
        per_unit = grid.steps / in_scale
        constant = -offset * per_unit
        low, high = (bound * per_unit + constant for bound in CLIPS.get(activation, UNCLIPPED))
        return Chain(norm.slope, norm.intercept, per_unit, constant, max(low, grid.code_min), min(high, grid.code_max),
                     activation is nn.Hardswish, grid.half_up)
