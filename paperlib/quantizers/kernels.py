"""Loops over whole tensors: in torch, which runs everywhere, and in C where a compiler is at hand.

The C form (kernels.c) goes over memory once where torch goes three or four times.  It quantizes to the same bits; loops
with batch norm in them and sums agree up to rounding.  It is built at first use, in about a second (c_compiler.py);
``PAPERLIB_C=0`` in the environment does without.
"""
from __future__ import annotations

import ctypes
import functools
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..system import c_compiler

aten = torch.ops.aten


class Chain(NamedTuple):
    """n = z * slope + intercept;  t = (n or h-swish(n)) * per_unit + constant;  code = round(clip(t, low, high))."""

    slope: Tensor       # (channels,), as is intercept
    intercept: Tensor
    per_unit: float
    constant: float
    low: float
    high: float
    curved: bool
    half_up: bool


class Kernels(NamedTuple):
    """The loops of paperlib/models/fused_conv.py.

    moments(z, running_mean, running_var, momentum): mean and biased variance of each channel; running statistics, if
    not None, move as in torch's batch norm.

    codes(z, chain, out): codes of z, written to ``out``.

    backward(grad, z, chain, mean, invstd, moving): converts ``grad``, dL/dt, to dL/dz in place, and gives
    sum(grad of n * xhat) and sum(grad of n) for each channel, sum(grad * t) and sum(grad) over all that is not clipped.
    ``moving``: mean and invstd are z's own.
    """

    moments: Callable[..., tuple]
    codes: Callable[..., Tensor]
    backward: Callable[..., tuple]


class _Scratch(threading.local):
    """Memory for intermediate results, shared by all layers, as large as the largest has asked for."""

    def __init__(self):
        self.blocks: dict[tuple, Tensor] = {}

    def like(self, x: Tensor, slot: int = 0) -> Tensor:
        """Uninitialised memory of the shape and strides of a dense ``x``."""
        if not x.is_cpu:
            return torch.empty_like(x)      # other devices have allocators that reuse memory
        key = (x.dtype, slot)
        if key not in self.blocks or self.blocks[key].numel() < x.numel():
            self.blocks[key] = torch.empty(x.numel(), dtype=x.dtype)
        return self.blocks[key].as_strided(x.shape, x.stride())


scratch = _Scratch()


# -- in torch -----------------------------------------------------------------------------------------------------
def _across(v: Tensor) -> Tensor:
    return v.view(1, -1, 1, 1)


def position(z: Tensor, k: Chain) -> Tensor:
    """Compute the clipped t, in scratch memory."""
    t = scratch.like(z, 2)
    _position(z, k, t, t)
    return t


def _position(z: Tensor, k: Chain, n: Tensor, t: Tensor) -> None:
    if k.curved:
        torch.addcmul(_across(k.intercept), z, _across(k.slope), out=n)
        aten.hardswish.out(n, out=t)
        t.mul_(k.per_unit).add_(k.constant)
    else:
        torch.addcmul(_across(k.intercept * k.per_unit + k.constant), z, _across(k.slope * k.per_unit), out=t)
    t.clamp_(k.low, k.high)


def _codes(z: Tensor, k: Chain, out: Tensor) -> Tensor:
    _position(z, k, out, out)
    return out.add_(0.5).floor_() if k.half_up else out.round_()


def _backward(grad: Tensor, z: Tensor, k: Chain, mean: Tensor, invstd: Tensor, moving: bool) -> tuple:
    n, t = scratch.like(z, 1), scratch.like(z, 2)
    _position(z, k, n, t)
    aten.hardtanh_backward.grad_input(grad, t, k.low, k.high, grad_input=grad)
    by_t, total_t = t.mul_(grad).sum(), grad.sum()
    if k.curved:
        aten.hardswish_backward.out(grad, n, out=grad)
    grad.mul_(k.per_unit)
    by_xhat, total = aten.native_batch_norm_backward(
        grad, z, mean, mean, mean, mean, invstd, True, 0.0, [False, True, True])[1:]
    # slope * (grad - mean(grad) - xhat * mean(grad * xhat))
    grad.mul_(_across(k.slope))
    if moving:
        share = k.slope * (-z.shape[1] / z.numel())
        by_z = share * invstd * by_xhat
        grad.add_(torch.addcmul(_across(torch.addcmul(share * total, by_z, mean, value=-1)), z, _across(by_z), out=n))
    return by_xhat, total, by_t, total_t


TORCH = Kernels(torch.batch_norm_update_stats, _codes, _backward)


# -- in C ---------------------------------------------------------------------------------------------------------
class _Chain(ctypes.Structure):
    _fields_ = [("slope", ctypes.c_void_p), ("intercept", ctypes.c_void_p), ("per_unit", ctypes.c_float),
                ("constant", ctypes.c_float), ("low", ctypes.c_float), ("high", ctypes.c_float),
                ("curved", ctypes.c_int), ("half_up", ctypes.c_int)]


class Uniform(ctypes.Structure):
    """A uniform grid with all its scales as numbers; quantizers/functional.py has the formulas."""

    _fields_ = [(name, ctypes.c_int if name == "half_up" else ctypes.c_float) for name in (
        "per_unit", "shift", "zero", "code_min", "code_max", "step", "out_offset", "ratio", "half_up")]


class _Layer(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_long) for name in (
        "images", "height", "width", "in_channels", "out_height", "out_width", "out_channels", "groups")),
        *((name, 2 * ctypes.c_long) for name in ("kernel", "stride", "padding", "dilation")),
        ("channels_last", ctypes.c_int), ("unit", ctypes.c_float), ("shift", ctypes.c_float)]


def load() -> ctypes.CDLL:
    """Build and load kernels.c; :class:`c_compiler.Unavailable` says why it can't be."""
    pointer, long, number = ctypes.c_void_p, ctypes.c_long, ctypes.c_float
    arguments = {
        "moments": [long, long, *[pointer] * 5, number],
        "codes": [long, long, pointer, _Chain, pointer],
        "chain_backward": [long, long, pointer, pointer, _Chain, pointer, pointer, ctypes.c_int, pointer],
        "fake_quantize": [long, pointer, Uniform, pointer],
        "fake_quantize_backward": [long, pointer, pointer, Uniform, pointer, pointer],
        "moments_before": [_Layer, *[pointer] * 9]}
    c = c_compiler.load(Path(__file__).with_suffix(".c"), arguments)
    for name, types in arguments.items():
        function = getattr(c, name)
        function.argtypes, function.restype = types, None
    c.moments_before.restype = ctypes.c_int
    return c


@functools.cache
def library() -> ctypes.CDLL | None:
    """Build and load kernels.c; None, with a warning that says why, where that can't be."""
    try:
        return load()
    except c_compiler.Unavailable as reason:
        if os.environ.get("PAPERLIB_C") != "0":     # not as wanted
            warnings.warn(f"the loops in C are off, and torch does their work, slower: {reason}", stacklevel=2)
        return None


def recording() -> bool:
    """Say whether torch writes down what is called, for torch.compile, torch.export, jit.trace or ONNX: not C."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def for_dense(x: Tensor) -> ctypes.CDLL | None:
    """Return the C library if it can work on all of ``x`` as one row of numbers, and torch need not know."""
    if recording():
        return None
    dense = x.is_contiguous() or x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return library() if x.is_cpu and x.dtype == torch.float32 and dense else None


@functools.cache
def in_c() -> Kernels | None:
    """The kernels in C for dense float32 tensors in channels_last on the CPU; None without a compiler that can."""
    c = library()
    if c is None:
        return None

    def shape(z: Tensor) -> tuple[int, int]:
        return z.numel() // z.shape[1], z.shape[1]

    def chain(k: Chain) -> _Chain:
        return _Chain(k.slope.data_ptr(), k.intercept.data_ptr(), *k[2:])

    def moments(z, running_mean, running_var, momentum):
        mean, var = z.new_empty(2, z.shape[1])
        c.moments(*shape(z), *(v if v is None else v.data_ptr() for v in (z, mean, var, running_mean, running_var)),
                  momentum)
        return mean, var

    def codes(z, k, out):
        c.codes(*shape(z), z.data_ptr(), chain(k), out.data_ptr())
        return out

    def backward(grad, z, k, mean, invstd, moving):
        channels = z.shape[1]
        sums = z.new_empty(2 * channels + 2)
        c.chain_backward(*shape(z), z.data_ptr(), grad.data_ptr(), chain(k), mean.data_ptr(), invstd.data_ptr(), moving,
                         sums.data_ptr())
        by_xhat, total, both = sums.split([channels, channels, 2])
        return by_xhat, total, *both

    return Kernels(moments, codes, backward)


def best(z: Tensor) -> Kernels:
    """Choose the fastest kernels for an activation like ``z``."""
    fits = z.is_cpu and z.dtype == torch.float32 and z.is_contiguous(memory_format=torch.channels_last)
    return fits and in_c() or TORCH


def moments_before(layer: nn.Module, x: Tensor, y: Tensor, weight: Tensor, old: Tensor, ratio: Tensor, least: Tensor,
                   unit: float, shift: float, mean: Tensor, var: Tensor) -> bool:
    """Turn moments of what ``weight`` makes of a layer's input into those with the weight ``old``, in place.

    The input is ``x * unit + shift``, the output ``y``, with the layer's bias; ``mean`` and ``var`` are its moments,
    float64 (channels,).  ``old`` is ``weight * ratio`` but for some weights, which differ by more than ``least`` (both
    (channels,)).  False, with nothing done, where they are many or torch has to do it.
    """
    conv, last = isinstance(layer, nn.Conv2d), torch.channels_last
    if conv and x.dim() != 4:
        return False
    if not conv:
        x, y = x.reshape(-1, x.shape[-1], 1, 1), y.reshape(-1, y.shape[-1], 1, 1)
    plain = weight.is_contiguous() and old.is_contiguous()
    if not (plain or conv and all(w.is_contiguous(memory_format=last) for w in (weight, old))) or not all(
            v.is_contiguous(memory_format=last) for v in (x, y)) or any(
            for_dense(v) is None for v in (x, y, weight, old)):
        return False
    bias = None if layer.bias is None else layer.bias.detach()
    window = (layer.kernel_size, layer.stride, layer.padding, layer.dilation) if conv else (
        (1, 1), (1, 1), (0, 0), (1, 1))
    shape = _Layer(len(x), *x.shape[2:], x.shape[1], *y.shape[2:], y.shape[1], layer.groups if conv else 1,
                   *((2 * ctypes.c_long)(*pair) for pair in window), not plain, unit, shift)
    lines = [v.float().flatten().expand(y.shape[1]).contiguous() for v in (ratio, least)]
    return bool(library().moments_before(
        shape, *(None if v is None else v.data_ptr() for v in (x, y, bias, weight, old, *lines, mean, var))))
