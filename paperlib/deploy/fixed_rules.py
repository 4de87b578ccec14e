"""What each operation between two layers is in fixed point: int64 to int64, rounded once, half-way cases upwards."""
from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from ..errors import InputError
from ..models.operations import MOVES
from .integer_layers import norm_terms


class Refused(InputError):
    """Of an operation with these settings there is no form in integers; the message says why."""


class Factor:
    """Multiplication by real numbers (out,) in integers: a multiplier of 31 bits and a shift to the right for each.

    Called with integers (int64, below 2**31 in magnitude), returns their rounded products, half-way cases upwards.
    """

    def __init__(self, real: Tensor):
        if not real.isfinite().all():
            raise InputError("a factor is not finite, which no integer stands for: train again, with a lower learning "
                             "rate, or use rescale='float'")
        mantissa, exponent = torch.frexp(real)
        self.shift = (31 - exponent.long()).clamp(max=62)
        if (self.shift < 1).any():
            raise InputError(f"a factor of {real.abs().max():.3g} is too large for 32 bits: use a smaller fraction")
        self.multiplier = torch.ldexp(real, self.shift).round().long()

    def __call__(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        multiplier, shift = self.multiplier.view(shape), self.shift.view(shape)
        return (x.long() * multiplier + (1 << (shift - 1))) >> shift


def average(x: Tensor, size: int | None | tuple[int | None, int | None]) -> Tensor:
    """Adaptive average pooling of integers, rounded, half-way cases upwards; as torch's, windows may overlap."""
    height, width = x.shape[-2:]
    rows, columns = (own if n is None else n for n, own in zip(_pair(size), (height, width)))

    def window(i, n, length):
        return slice(i * length // n, -(-(i + 1) * length // n))

    def mean(i, j):
        part = x[..., window(i, rows, height), window(j, columns, width)]
        count = part.shape[-1] * part.shape[-2]
        return torch.div(part.sum((-2, -1)) + count // 2, count, rounding_mode="floor")

    return torch.stack([mean(i, j) for i in range(rows) for j in range(columns)], -1).unflatten(-1, (rows, columns))


def _over(total: Tensor, count: int | Tensor) -> Tensor:
    return torch.div(total + count // 2, count, rounding_mode="floor")


def _mean(program, x: Tensor, dim, keepdim: bool, dtype) -> Tensor:
    if dtype is not None:
        raise Refused("asks for a dtype")
    x, dims = program.number(x), tuple(range(x.dim())) if dim is None else (dim,) if isinstance(dim, int) else dim
    return _over(x.sum(dims, keepdim), math.prod(x.shape[d] for d in dims))


def _windows(program, x: Tensor, divisor_override, **window) -> Tensor:
    x = program.number(x).double()
    sums = F.avg_pool2d(x, **window, divisor_override=1)        # exact: far below 2**53
    if divisor_override is not None:
        return _over(sums.long(), divisor_override)
    ones = torch.ones_like(x[:1])        # by how many numbers torch divides: sums over means
    counts = F.avg_pool2d(ones, **window, divisor_override=1) / F.avg_pool2d(ones, **window)
    return _over(sums.long(), counts.round().long())


def _max_pool(program, x: Tensor, return_indices: bool, **window) -> Tensor:
    if return_indices:
        raise Refused("returns indices as well")
    return F.max_pool2d(program.number(x), **window)


def clip_ends(one: int, low, high) -> list[int | None]:
    """The ends of a clip in fixed point; None where there is none."""
    if not all(end is None or isinstance(end, (int, float)) for end in (low, high)):
        raise Refused("clips to other tensors")
    return [None if end is None or math.isinf(end) else round(end * one) for end in (low, high)]


def _clip(program, x: Tensor, low, high) -> Tensor:
    low, high = clip_ends(program.one, low, high)
    return program.number(x) if low is high is None else program.number(x).clamp(low, high)


def _sixths(program, x: Tensor, of: int | Tensor) -> Tensor:
    """``of`` times clip(x + 3, 0, 6) / 6, with one rounding; ``of`` is a number of the program or 1."""
    product = (x + 3 * program.one).clamp(0, 6 * program.one) * of
    return _over(product, 6 * (program.one if isinstance(of, Tensor) else 1))


def _times(program, a, b) -> Tensor:
    """The product; a constant, which may be tiny or large, has 31 bits of its own."""
    if not isinstance(a, Tensor) or a.is_floating_point() and isinstance(b, Tensor):
        a, b = b, a
    a = program.number(a)
    if isinstance(b, Tensor) and not b.is_floating_point():
        return (a * b + (program.one >> 1)) >> program.fraction
    real = torch.as_tensor(b, dtype=torch.float64)
    return Factor(real)(a, tuple(real.shape))


def _divided(program, a, b, rounding_mode) -> Tensor:
    if rounding_mode is not None or isinstance(b, Tensor) and not b.is_floating_point():
        raise Refused("has a quotient that is no product with a constant")
    return _times(program, a, 1 / torch.as_tensor(b, dtype=torch.float64))


def _sum(program, a, b, alpha, sign: int = 1) -> Tensor:
    b = b if alpha == 1 else _times(program, b, alpha)
    return program.number(a) + sign * program.number(b)


def _joined(join: Callable) -> Callable:
    def rule(program, *parts, dim):
        parts = parts[0] if isinstance(parts[0], (tuple, list)) else parts
        return join([program.number(x) for x in parts], dim)
    return rule


def _pad(program, x: Tensor, pad, mode: str, value) -> Tensor:
    if mode != "constant":
        raise Refused(f"pads in the mode {mode}")
    return F.pad(program.number(x), _pair(pad) * 2 if isinstance(pad, int) else pad, value=round(
        (value or 0) * program.one))


def _dropout(program, x: Tensor, p, training: bool) -> Tensor:
    if training:
        raise Refused("is active in evaluation (give it training=self.training)")
    return x


def _norm(program, x: Tensor, norm: nn.Module) -> Tensor:
    if norm.running_mean is None:
        raise Refused("takes its statistics from the batch (track_running_stats=False)")
    shape = (-1, *[1] * (x.dim() - 2))
    gain, shift = norm_terms(norm, x.shape[1])
    return Factor(gain)(program.number(x), shape) + program.fixed(shift).view(shape)


def _no_quotient(program, a, b):
    raise Refused("rounds a quotient down")


RULES: dict[str, Callable[..., Tensor]] = {
    "relu": lambda program, x: _clip(program, x, 0, None), "relu6": lambda program, x: _clip(program, x, 0, 6),
    "hardtanh": lambda program, x, min_val, max_val: _clip(program, x, min_val, max_val),
    "clamp": lambda program, x, min, max: _clip(program, x, min, max),
    "clamp_min": lambda program, x, min: _clip(program, x, min, None),
    "clamp_max": lambda program, x, max: _clip(program, x, None, max),
    "hardswish": lambda program, x: _sixths(program, program.number(x), program.number(x)),
    "hardsigmoid": lambda program, x: _sixths(program, program.number(x), 1),
    "adaptive_avg_pool2d": lambda program, x, output_size: average(program.number(x), output_size),
    "avg_pool2d": _windows, "max_pool2d": _max_pool, "mean": _mean, "batch_norm": _norm,
    "flatten": lambda program, x, start_dim, end_dim: x.flatten(start_dim, end_dim),
    "identity": lambda program, x: x, "dropout": _dropout, "pad": _pad, "add": _sum,
    "sub": lambda program, a, b, alpha: _sum(program, a, b, alpha, -1), "mul": _times, "div": _divided,
    "neg": lambda program, x: -program.number(x), "abs": lambda program, x: program.number(x).abs(),
    "maximum": lambda program, a, b: torch.maximum(program.number(a), program.number(b)),
    "minimum": lambda program, a, b: torch.minimum(program.number(a), program.number(b)),
    "cat": _joined(torch.cat), "stack": _joined(torch.stack), "floordiv": _no_quotient}
KNOWN = RULES.keys() | MOVES | {"layer", "quantizer", "sizes"}
