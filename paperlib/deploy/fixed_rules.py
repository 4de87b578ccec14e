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

NO_PRODUCT = "has a quotient that is no product with a constant"
# the settings under which an operation has no form in integers, unless they are 0 or None
_ACTIVE = ("training", "is active in evaluation (give it training=self.training)")
_REFUSED = {"dropout": _ACTIVE, "stochastic_depth": _ACTIVE,
            "max_pool2d": ("return_indices", "returns indices as well"), "mean": ("dtype", "asks for a dtype"),
            "div": ("rounding_mode", NO_PRODUCT)}


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
    setting, words = _REFUSED.get(found.name, (None, ""))
    if settings.get(setting):
        raise Refused(words)
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


def rounded(means: Tensor) -> Tensor:
    """Means of 32-bit integers, which torch computes in float64, as integers: half-way cases upwards.

    Exact, since float64 holds the sums, and a mean that is not half-way between two integers is farther from it than
    float64's error.
    """
    return (means + 0.5).floor().long()


def _quotient(total: Tensor, count: int) -> Tensor:
    """``total / count``, rounded."""
    return torch.div(total + count // 2, count, rounding_mode="floor")


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


def _divide(program, a, b, **settings) -> Tensor:
    if isinstance(b, Tensor) and not b.is_floating_point():
        raise Refused(NO_PRODUCT)
    return _times(program, a, 1 / torch.as_tensor(b, dtype=torch.float64))


def _add(program, a, b, alpha, sign: int = 1) -> Tensor:
    b = b if alpha == 1 else _times(program, b, alpha)
    return program.number(a) + sign * program.number(b)


def _pad(program, x: Tensor, pad, mode: str, value) -> Tensor:
    if mode != "constant":
        raise Refused(f"pads in the mode {mode}")
    sides = _pair(pad) * 2 if isinstance(pad, int) else pad
    return F.pad(program.number(x), sides, value=round((value or 0) * program.one))


def _norm(program, x: Tensor, norm: nn.Module) -> Tensor:
    if norm.running_mean is None:
        raise Refused("takes its statistics from the batch (track_running_stats=False)")
    shape = (-1, *[1] * (x.dim() - 2))
    gain, shift = norm_terms(norm, x.shape[1])
    return Factor(gain)(program.number(x), shape) + program.fixed(shift).view(shape)


def _floor_divide(program, a, b):
    raise Refused(NO_PRODUCT)


def _join(program, join: Callable, parts: tuple, dim: int) -> Tensor:
    parts = parts[0] if isinstance(parts[0], (tuple, list)) else parts
    return join([program.number(x) for x in parts], dim)


RULES: dict[str, Callable[..., Tensor]] = {
    "hardswish": _hardswish, "hardsigmoid": _hardsigmoid,
    "mean": lambda program, x, dim, keepdim, dtype: rounded(program.number(x).double().mean(dim, keepdim)),
    "avg_pool2d": lambda program, x, **settings: rounded(F.avg_pool2d(program.number(x).double(), **settings)),
    "max_pool2d": lambda program, x, **settings: F.max_pool2d(program.number(x), **settings),
    "adaptive_avg_pool2d": lambda program, x, output_size: rounded(
        F.adaptive_avg_pool2d(program.number(x).double(), output_size)),
    "batch_norm": _norm, "identity": lambda program, x: x,
    **dict.fromkeys(("dropout", "stochastic_depth"), lambda program, x, **settings: x), "pad": _pad,
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
