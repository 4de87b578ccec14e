"""What each operation between two layers is in fixed point: int64 to int64, rounded once, half-way cases upwards."""
from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from ..errors import InputError
from ..models.operations import CLIPS, MOVES, Operation
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


def compute(program, found: Operation, inputs: tuple, settings: dict) -> Tensor:
    """Compute an operation that is in ``RULES`` or clips; Refused where these settings have no form in integers.

    ``program``: a FixedProgram, whose ``one`` stands for 1 and whose ``number`` brings what is float into fixed point.
    """
    if found.limits is None:
        return RULES[found.name](program, *inputs, **settings)
    low, high = clip_ends(program.one, *found.limits)
    x = program.number(inputs[0])
    return x if low is high is None else x.clamp(low, high)


def clip_ends(one: int, low, high) -> list[int | None]:
    """The ends of a clip in fixed point; None where there is none."""
    if not all(end is None or isinstance(end, (int, float)) for end in (low, high)):
        raise Refused("clips to other tensors")
    return [None if end is None or math.isinf(end) else round(end * one) for end in (low, high)]


def average(x: Tensor, size: int | None | tuple[int | None, int | None]) -> Tensor:
    """Adaptive average pooling of integers, rounded, half-way cases upwards; as torch's, windows may overlap."""
    height, width = x.shape[-2:]
    rows, columns = (own if n is None else n for n, own in zip(_pair(size), (height, width)))

    def window(i, n, length):
        return slice(i * length // n, -(-(i + 1) * length // n))

    def mean(i, j):
        part = x[..., window(i, rows, height), window(j, columns, width)]
        return _quotient(part.sum((-2, -1)), part.shape[-1] * part.shape[-2])

    return torch.stack([mean(i, j) for i in range(rows) for j in range(columns)], -1).unflatten(-1, (rows, columns))


def _quotient(total: Tensor, count: int | Tensor) -> Tensor:
    """``total / count``, rounded."""
    return torch.div(total + count // 2, count, rounding_mode="floor")


def _mean(program, x: Tensor, dim, keepdim: bool, dtype) -> Tensor:
    if dtype is not None:
        raise Refused("asks for a dtype")
    x, dims = program.number(x), tuple(range(x.dim())) if dim is None else (dim,) if isinstance(dim, int) else dim
    return _quotient(x.sum(dims, keepdim), math.prod(x.shape[d] for d in dims))


def _average_pool(program, x: Tensor, divisor_override, **window) -> Tensor:
    x = program.number(x).double()
    sums = F.avg_pool2d(x, **window, divisor_override=1)        # exact: far below 2**53
    if divisor_override is not None:
        return _quotient(sums.long(), divisor_override)
    ones = torch.ones_like(x[:1])        # by how many numbers torch divides: sums over means
    counts = F.avg_pool2d(ones, **window, divisor_override=1) / F.avg_pool2d(ones, **window)
    return _quotient(sums.long(), counts.round().long())


def _max_pool(program, x: Tensor, return_indices: bool, **window) -> Tensor:
    if return_indices:
        raise Refused("returns indices as well")
    return F.max_pool2d(program.number(x), **window)


def _hardsigmoid(program, x: Tensor) -> Tensor:
    return _quotient((program.number(x) + 3 * program.one).clamp(0, 6 * program.one), 6)


def _hardswish(program, x: Tensor) -> Tensor:
    x = program.number(x)
    return _quotient((x + 3 * program.one).clamp(0, 6 * program.one) * x, 6 * program.one)


def _times(program, a, b) -> Tensor:
    """The product; a constant, which may be tiny or large, has 31 bits of its own."""
    if not isinstance(a, Tensor) or a.is_floating_point() and isinstance(b, Tensor):
        a, b = b, a
    a = program.number(a)
    if isinstance(b, Tensor) and not b.is_floating_point():
        return (a * b + (program.one >> 1)) >> program.fraction
    real = torch.as_tensor(b, dtype=torch.float64)
    return Factor(real)(a, tuple(real.shape))


def _divide(program, a, b, rounding_mode) -> Tensor:
    if rounding_mode is not None or isinstance(b, Tensor) and not b.is_floating_point():
        raise Refused("has a quotient that is no product with a constant")
    return _times(program, a, 1 / torch.as_tensor(b, dtype=torch.float64))


def _add(program, a, b, alpha, sign: int = 1) -> Tensor:
    b = b if alpha == 1 else _times(program, b, alpha)
    return program.number(a) + sign * program.number(b)


def _pad(program, x: Tensor, pad, mode: str, value) -> Tensor:
    if mode != "constant":
        raise Refused(f"pads in the mode {mode}")
    sides = _pair(pad) * 2 if isinstance(pad, int) else pad
    return F.pad(program.number(x), sides, value=round((value or 0) * program.one))


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


def _floor_divide(program, a, b):
    raise Refused("rounds a quotient down")


def _join(program, join: Callable, parts: tuple, dim: int) -> Tensor:
    parts = parts[0] if isinstance(parts[0], (tuple, list)) else parts
    return join([program.number(x) for x in parts], dim)


RULES: dict[str, Callable[..., Tensor]] = {
    "hardswish": _hardswish, "hardsigmoid": _hardsigmoid, "avg_pool2d": _average_pool, "max_pool2d": _max_pool,
    "adaptive_avg_pool2d": lambda program, x, output_size: average(program.number(x), output_size), "mean": _mean,
    "batch_norm": _norm, "identity": lambda program, x: x, "dropout": _dropout, "pad": _pad,
    "flatten": lambda program, x, start_dim, end_dim: x.flatten(start_dim, end_dim), "add": _add,
    "sub": lambda program, a, b, alpha: _add(program, a, b, alpha, -1), "mul": _times, "div": _divide,
    "floordiv": _floor_divide, "neg": lambda program, x: -program.number(x),
    "abs": lambda program, x: program.number(x).abs(),
    "maximum": lambda program, a, b: torch.maximum(program.number(a), program.number(b)),
    "minimum": lambda program, a, b: torch.minimum(program.number(a), program.number(b)),
    "cat": lambda program, *parts, dim: _join(program, torch.cat, parts, dim),
    "stack": lambda program, *parts, dim: _join(program, torch.stack, parts, dim)}
COMPUTED = RULES.keys() | CLIPS.keys()
KNOWN = COMPUTED | MOVES | {"layer", "quantizer", "sizes"}
