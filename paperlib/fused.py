"""Batch norm, activation, quantizer and convolution as one function that keeps its input and recomputes the rest.

In a plain network each of the four keeps a tensor for its backward pass and writes its result to fresh memory, which on
a CPU costs more than the arithmetic.  Here one autograd function does all four.  Between forward and backward it holds
on to its input alone; its intermediate results live in scratch memory that all layers share.  Values are those of the
plain modules (to rounding: see tests/test_fused.py), and so are running statistics and gradients.

``models.fuse`` puts it into a network.
"""
from __future__ import annotations

import math
import sys
import threading
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .quantizers.functional import Grid, total_product

aten = torch.ops.aten


class _Scratch(threading.local):
    """Memory for intermediate results, shared by all layers, as large as the largest has asked for."""

    def __init__(self):
        self.blocks: dict[tuple, Tensor] = {}

    def like(self, x: Tensor, slot: int) -> Tensor:
        """Uninitialised memory of the shape and strides of a dense ``x``."""
        if not x.is_cpu:
            return torch.empty_like(x)      # other devices have allocators that reuse memory
        key = (x.dtype, slot)
        if key not in self.blocks or self.blocks[key].numel() < x.numel():
            self.blocks[key] = torch.empty(x.numel(), dtype=x.dtype)
        return self.blocks[key].as_strided(x.shape, x.stride())


_scratch = _Scratch()


class Norm(NamedTuple):
    """The statistics that a batch norm uses on this batch."""

    mean: Tensor
    var: Tensor
    eps: float
    training: bool

    @classmethod
    def of(cls, bn: nn.BatchNorm2d, z: Tensor) -> "Norm":
        """From a module; in training mode this moves its running statistics, as its own forward would."""
        if not bn.training:
            return cls(bn.running_mean, bn.running_var, bn.eps, False)
        with torch.no_grad():
            bn.num_batches_tracked += 1
            momentum = 1 / bn.num_batches_tracked.item() if bn.momentum is None else bn.momentum
            return cls(*torch.batch_norm_update_stats(z, bn.running_mean, bn.running_var, momentum), bn.eps, True)

    def forward(self, z: Tensor, weight: Tensor, bias: Tensor, out: Tensor) -> Tensor:
        unused = z.new_empty(0), z.new_empty(0)
        aten.native_batch_norm.out(z, weight, bias, self.mean, self.var, False, 0.0, self.eps, out=out,
                                   save_mean=unused[0], save_invstd=unused[1])
        return out

    def backward(self, grad: Tensor, z: Tensor, weight: Tensor, spare: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of z (written to ``grad``), weight and bias; ``spare`` is overwritten."""
        invstd = (self.var + self.eps).rsqrt()
        _, grad_weight, grad_bias = aten.native_batch_norm_backward(
            grad, z, weight, self.mean, self.var, self.mean, invstd, self.training, self.eps, [False, True, True])
        slope = weight * invstd
        if not self.training:
            return grad.mul_(_per_channel(slope)), grad_weight, grad_bias
        n = z.numel() // z.shape[1]         # grad_z = slope * (grad - mean(grad) - xhat * mean(grad * xhat))
        by_z = -slope * invstd * grad_weight / n
        constant = -slope * grad_bias / n - by_z * self.mean
        torch.addcmul(_per_channel(constant), z, _per_channel(by_z), out=spare)
        return torch.addcmul(spare, grad, _per_channel(slope), out=grad), grad_weight, grad_bias


def _per_channel(v: Tensor) -> Tensor:
    return v.reshape(1, -1, 1, 1)


CLIPS = {None: (-math.inf, math.inf), nn.ReLU: (0.0, math.inf), nn.ReLU6: (0.0, 6.0)}   # activations that only clip
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish)


class _Inner(NamedTuple):
    """From the input z to the codes, with all scales as numbers::

        n = batch norm(z),  h = activation(n),  t = (h - offset) * per_unit,  code = round(clip(t, low, high))

    An activation that only clips needs no pass of its own: ``low`` and ``high`` take care of it, and t comes straight
    out of the batch norm, with ``per_unit`` and ``offset`` in its weight and bias.
    """

    norm: Norm | None
    weight: Tensor | None       # of the batch norm
    bias: Tensor | None
    curved: bool                # h-swish
    per_unit: float
    offset: float
    low: float
    high: float
    half_up: bool

    def forward(self, z: Tensor, apart: bool) -> tuple[Tensor, Tensor, Tensor]:
        """(n, clipped t, code), all in one place unless ``apart``."""
        n, place = z, _scratch.like(z, 0)
        if self.norm is not None and not self.curved:
            t = self.norm.forward(z, self.weight * self.per_unit, (self.bias - self.offset) * self.per_unit, place)
        else:
            if self.norm is not None:
                n = self.norm.forward(z, self.weight, self.bias, place)
                place = _scratch.like(z, 1) if apart else place
            h = aten.hardswish.out(n, out=place) if self.curved else n
            if self.offset:
                t = torch.add(h.new_tensor(-self.offset * self.per_unit), h, alpha=self.per_unit, out=place)
            else:
                t = torch.mul(h, self.per_unit, out=place)
        t.clamp_(self.low, self.high)
        code = _scratch.like(z, 2) if apart else t
        return n, t, torch.add(t, 0.5, out=code).floor_() if self.half_up else torch.round(t, out=code)

    def backward(self, grad: Tensor, z: Tensor, n: Tensor, t: Tensor) -> tuple:
        """Gradients of (z, bn weight, bn bias) and sum(grad * t), sum(grad) where not clipped.

        ``grad`` is that of t; it is overwritten, and so is ``t``.
        """
        aten.hardtanh_backward.grad_input(grad, t, self.low, self.high, grad_input=grad)
        if self.norm is not None and not self.curved:
            weight, bias = self.weight * self.per_unit, (self.bias - self.offset) * self.per_unit
            grad, grad_weight, grad_bias = self.norm.backward(grad, z, weight, spare=t)
            return (grad, grad_weight * self.per_unit, grad_bias * self.per_unit,
                    weight @ grad_weight + bias @ grad_bias, grad_bias.sum())
        by_t, total = total_product(grad, t, torch.Size()), grad.sum()
        if self.curved:
            aten.hardswish_backward.out(grad, n, out=grad)
        if self.norm is None:
            return grad.mul_(self.per_unit), None, None, by_t, total
        grad, grad_weight, grad_bias = self.norm.backward(grad, z, self.weight * self.per_unit, spare=t)
        return grad, grad_weight * self.per_unit, grad_bias * self.per_unit, by_t, total


class Settings(NamedTuple):
    activation: type | None
    grid: Grid
    clip_gradient: bool
    shifted: bool           # no border, or one at the lowest level: the offset is a constant for each output channel
    stride: tuple
    padding: tuple
    dilation: tuple
    groups: int


class _FusedConv(torch.autograd.Function):
    """The convolution is of the integer codes, with the step multiplied into its weight."""

    @staticmethod
    def forward(ctx, z, bn_weight, bn_bias, in_scale, out_scale, in_offset, out_offset, weight, bias, norm, s):
        numbers = [float(a) for a in (in_scale, out_scale, in_offset, out_offset)]
        numbers[0] = numbers[0] or sys.float_info.min       # a scale that has shrunk to 0 ends in infinities
        per_unit, step, (offset, shift) = s.grid.steps / numbers[0], numbers[1] / s.grid.steps, numbers[2:]
        low, high = (per_unit * (bound - offset) for bound in CLIPS.get(s.activation, CLIPS[None]))
        inner = _Inner(norm, bn_weight, bn_bias, s.activation is nn.Hardswish, per_unit, offset,
                       max(low, s.grid.code_min), min(high, s.grid.code_max), s.grid.half_up)
        code = inner.forward(z, apart=False)[-1]
        if s.shifted and shift:
            constant = shift * weight.sum((1, 2, 3))
            bias = constant if bias is None else bias + constant
        elif shift:
            code.add_(shift / step)
        ctx.save_for_backward(z, bn_weight, bn_bias, weight)
        ctx.inner, ctx.numbers, ctx.s = inner._replace(weight=None, bias=None), (numbers[0], step, shift), s
        return torch.convolution(code, weight * step, bias, s.stride, s.padding, s.dilation, False, (0, 0), s.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        z, bn_weight, bn_bias, weight = ctx.saved_tensors
        s, (in_scale, step, shift), needs = ctx.s, ctx.numbers, ctx.needs_input_grad
        inner = ctx.inner._replace(weight=bn_weight, bias=bn_bias)
        n, t, code = inner.forward(z, apart=True)
        if shift and not s.shifted:
            code.add_(shift / step)
        before = any(needs[:4]) or needs[5] or needs[6] and not s.shifted
        g, by_weight, grad_bias = aten.convolution_backward(
            grad, code, weight * step, [len(weight)], s.stride, s.padding, s.dilation, False, (0, 0), s.groups,
            [before, needs[4] or needs[7], needs[8] or bool(shift) and s.shifted or needs[6]])
        grads = [None] * 11
        if needs[4]:            # sum(grad * code) over the input is sum(grad * weight) over the weight
            grads[4] = (by_weight * weight).sum() / s.grid.steps
            if shift and not s.shifted:
                grads[4] -= g.sum() * (shift / step**2 / s.grid.steps)
        if needs[6]:
            grads[6] = grad_bias @ weight.sum((1, 2, 3)) if s.shifted else g.sum() / step
        if needs[7]:
            grads[7] = by_weight.mul_(step)
            if shift and s.shifted:
                grads[7] += shift * grad_bias.reshape(-1, 1, 1, 1)
        grads[8] = grad_bias if needs[8] else None
        if not before:
            return tuple(grads)
        clipped = 0.0
        if needs[3] and s.clip_gradient:
            clipped = (g * (t >= s.grid.code_max)).sum()
            if s.grid.code_min < 0:
                clipped = clipped - (g * (t <= s.grid.code_min)).sum()
        elif needs[3] and inner.high < s.grid.code_max:     # what ReLU6 clips moves with the scale
            clipped = (g * (t >= inner.high)).sum() * inner.high
        grads[0], grads[1], grads[2], by_t, total = inner.backward(g, z, n, t)
        if needs[3]:
            grads[3] = clipped / step if s.clip_gradient else (by_t + clipped) / -in_scale
        if needs[5]:
            grads[5] = total * -inner.per_unit
        return tuple(grads)


def conv(layer: nn.Module, before: tuple[nn.BatchNorm2d | None, type | None], z: Tensor, weight: Tensor) -> Tensor:
    """``layer`` (a QuantConv2d whose input quantizer has an affine grid) on what ``before`` makes of ``z``.

    ``before``: a batch norm or None, and the type of the activation after it or None.  ``weight`` is the quantized one.
    """
    bn, activation = before
    q = layer.input_quantizer
    q.observe(z)
    settings = Settings(activation, q.grid, q.clip_gradient, bool(layer.pad_value) or not any(layer.padding),
                        layer.stride, layer.padding, layer.dilation, layer.groups)
    parameters, norm = (None, None) if bn is None else (bn.weight, bn.bias), None if bn is None else Norm.of(bn, z)
    return _FusedConv.apply(z, *parameters, *q.placed(), weight, layer.bias, norm, settings)
