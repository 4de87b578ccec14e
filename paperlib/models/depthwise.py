"""The gradient of a depthwise convolution's weight in C, where torch is slow on a CPU.

That is for kernels beyond 3x3, and for all that are larger than the image: torch takes 4.2 ms where depthwise.c takes
0.2 (64 images of 2x2, 960 channels, 5x5, one core).  For others, for the convolution itself and for the gradient of its
input torch is as fast.  Both ways agree up to rounding.
"""
from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..quantizers import kernels
from ..system import c_compiler

KERNELS = range(3, 8)       # of these sizes; depthwise.c has room for no more


class _Layer(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in (
        "images", "channels", "height", "width", "out_height", "out_width", "kernel", "stride", "padding")]


@functools.cache
def library() -> ctypes.CDLL:
    """Build and load depthwise.c; to be asked for where :func:`kernels.library` could be."""
    c = c_compiler.load(Path(__file__).with_suffix(".c"), ["depthwise_weight_gradient"])
    c.depthwise_weight_gradient.argtypes = [_Layer, *[ctypes.c_void_p] * 3]
    c.depthwise_weight_gradient.restype = None
    return c


def in_c(conv: nn.Conv2d, x: Tensor) -> bool:
    """Say whether C computes the gradient of this convolution's weight for an input ``x`` (N, C, H, W)."""
    if not conv.groups == conv.in_channels == conv.out_channels:
        return False
    pairs, size = (conv.kernel_size, conv.stride, conv.padding), conv.kernel_size[0]
    return (all(a == b for a, b in pairs) and size in KERNELS and (size > 3 or min(x.shape[2:]) < size)
            and conv.dilation == (1, 1) and x.numel() > 0
            and x.is_contiguous(memory_format=torch.channels_last) and kernels.for_dense(x) is not None)


def weight_gradient(conv: nn.Conv2d, grad: Tensor, x: Tensor) -> Tensor:
    """Compute it, (C, 1, K, K), from ``grad``, the gradient of the output, where :func:`in_c` says so."""
    grad = grad.contiguous(memory_format=torch.channels_last)
    layer = _Layer(*x.shape, *grad.shape[2:], conv.kernel_size[0], conv.stride[0], conv.padding[0])
    by_weight = x.new_empty(conv.weight.shape)
    library().depthwise_weight_gradient(layer, grad.data_ptr(), x.data_ptr(), by_weight.data_ptr())
    return by_weight


def backward(conv: nn.Conv2d, grad: Tensor, x: Tensor, weight: Tensor, needs: list[bool]) -> list[Tensor | None]:
    """Compute the gradients of the input ``x``, of ``weight`` and of a bias, each where it is needed, else None."""
    ours = needs[1] and in_c(conv, x)
    grads = torch.ops.aten.convolution_backward.default(
        grad, x, weight, [len(weight)], conv.stride, conv.padding, conv.dilation, False, (0, 0), conv.groups,
        [needs[0], False, False] if ours else needs)
    if not ours:
        return list(grads)
    return [grads[0], weight_gradient(conv, grad, x), grad.sum((0, 2, 3)) if needs[2] else None]


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, conv):
        ctx.save_for_backward(x, weight)
        ctx.conv = conv
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return *backward(ctx.conv, grad, *ctx.saved_tensors, list(ctx.needs_input_grad[:3])), None


def convolve(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve ``x`` as ``conv`` does, with this weight and bias."""
    if in_c(conv, x):
        return _Convolve.apply(x, weight, bias, conv)
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
