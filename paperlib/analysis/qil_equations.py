"""QIL's equations as the paper prints them (Jung et al., arXiv 1808.05779v1, section 3), for reading and for tests.

The quantizer that trains is :mod:`paperlib.quantizers.qil`; nothing here depends on it.  ``w`` and ``x`` are tensors of
any shape, float32 or float64; ``c`` and ``d``, centre and half width of the interval, are numbers or tensors that
broadcast against them, with d > 0 and c + d > 0; results have the dtype of ``w`` or ``x``.  ``bits`` is N, and q the
number of steps: 2**(N-1) - 1 to each side of 0 for weights, 2**N - 1 for activations.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from ..errors import InputError

Number = float | Tensor
SYMBOLS = {"weight": "w", "activation": "x"}
KINK = 1e-3         # how far from a kink of the surrogate derivatives are compared


class Constants(NamedTuple):
    """What eq. 3 and 10 derive from c, d and N.  ``m`` and ``M``: where the first and the last level begin."""

    q: int
    m: Number
    M: Number
    alpha: Number
    beta: Number            # of the backward surrogate
    beta_forward: Number    # of the forward mapping, half a level higher; for weights the paper's beta'


def steps(role: str, bits: int) -> int:
    """q.  InputError for another role than "weight" or "activation", and for bits that it does not have."""
    least = {"weight": 2, "activation": 1}.get(role)
    if least is None:
        raise InputError(f"role must be 'weight' or 'activation', got {role!r}")
    if type(bits) is not int or not least <= bits <= 8:
        raise InputError(f"QIL has {role}s of {least} to 8 bits, got {bits!r}")
    return 2 ** (bits - 1) - 1 if role == "weight" else 2**bits - 1


def weight_constants(c: Number, d: Number, bits: int) -> Constants:
    """Eq. 3, with the beta of eq. 5."""
    q = steps("weight", bits)
    m, M = c - d + d / q, c + d - d / q
    alpha, beta_forward = 0.5 * M / d, M - 0.5 * M**2 / d
    return Constants(q, m, M, alpha, beta_forward - 0.5 * M / q, beta_forward)


def activation_constants(c: Number, d: Number, bits: int) -> Constants:
    """Eq. 10; ``beta_forward``, which is not printed, by analogy with weights."""
    q = steps("activation", bits)
    beta = -0.5 * c / d + 0.5
    return Constants(q, c - d + d / q, c + d - d / q, 0.5 / d, beta, beta + 0.5 / q)


# -- forward --------------------------------------------------------------------------------------------------------
def mapped_weights(w: Tensor, c: Number, d: Number, bits: int) -> Tensor:
    """Eq. 2, w_F: 0 below m, a straight line, M above M."""
    k, size, sign = weight_constants(c, d, bits), w.abs(), w.sign()
    line = k.alpha * w + k.beta_forward * sign
    return torch.where(size < k.m, torch.zeros_like(w), torch.where(size > k.M, k.M * sign, line))


def floored_weights(w: Tensor, c: Number, d: Number, bits: int) -> Tensor:
    """Eq. 4, as printed: floor(|w_F| / M * q) / q * M * sign(w)."""
    k = weight_constants(c, d, bits)
    return (mapped_weights(w, c, d, bits).abs() / k.M * k.q).floor() / k.q * k.M * w.sign()


def rounded_weights(w: Tensor, c: Number, d: Number, bits: int) -> Tensor:
    """The same in exact arithmetic: M sign(w) round(q clip((|w| - c + d) / (2 d), 0, 1)) / q, half-way cases up."""
    k = weight_constants(c, d, bits)
    return k.M * w.sign() * _half_up(k.q * _part(w.abs(), c, d)) / k.q


def mapped_activations(x: Tensor, c: Number, d: Number, bits: int) -> Tensor:
    """What eq. 2 is for activations: 0 below m, a straight line, 1 above M."""
    k = activation_constants(c, d, bits)
    line = k.alpha * x + k.beta_forward
    return torch.where(x < k.m, torch.zeros_like(x), torch.where(x > k.M, torch.ones_like(x), line))


def rounded_activations(x: Tensor, c: Number, d: Number, bits: int) -> Tensor:
    """What eq. 4 is for activations (Fig. 3), in exact arithmetic: levels 0, 1/q, ..., 1, half-way cases up."""
    q = steps("activation", bits)
    return _half_up(q * _part(x, c, d)) / q


def _part(size: Tensor, c: Number, d: Number) -> Tensor:
    """How far into the interval, from 0 to 1."""
    return ((size - c + d) / (2 * d)).clamp(0, 1)


def _half_up(t: Tensor) -> Tensor:
    return (t + 0.5).floor()


# -- backward -------------------------------------------------------------------------------------------------------
def weight_surrogate(w: Tensor, c: Number, d: Number, bits: int) -> Tensor:
    """Eq. 5, w-hat, whose derivatives training uses."""
    k, size, sign = weight_constants(c, d, bits), w.abs(), w.sign()
    line = k.alpha * w + k.beta * sign
    return torch.where(size < c - d, torch.zeros_like(w), torch.where(size >= c + d, k.M * sign, line))


def activation_surrogate(x: Tensor, c: Number, d: Number, bits: int) -> Tensor:
    """Eq. 9, x-hat, which is the same for all ``bits``."""
    k = activation_constants(c, d, bits)
    return torch.where(x < c - d, torch.zeros_like(x),
                       torch.where(x > c + d, torch.ones_like(x), k.alpha * x + k.beta))


def weight_derivatives(w: Tensor, c: Number, d: Number, bits: int, *, printed: bool = False) -> dict[str, Tensor]:
    """Eq. 6 and 7: {"w", "c", "d": derivative of w-hat}, each of the shape of ``w``.

    ``printed``: with the paper's d alpha / d c = 0.5 d, a misprint for 0.5 / d.
    """
    k, size, sign = weight_constants(c, d, bits), w.abs(), w.sign()
    alpha_c = 0.5 * d if printed else 0.5 / d
    by_c = alpha_c * w + (-c / d + 0.5 / k.q) * sign
    by_d = -0.5 * c / d**2 * w + (0.5 * c**2 / d**2 - 0.5 / k.q + 0.5) * sign
    below, above = size < c - d, size > c + d
    inside = {"w": k.alpha * torch.ones_like(w), "c": by_c, "d": by_d}
    beyond = {"w": torch.zeros_like(w), "c": sign, "d": (1 - 1 / k.q) * sign}
    return {name: torch.where(below, torch.zeros_like(w), torch.where(above, beyond[name], inside[name]))
            for name in inside}


def activation_derivatives(x: Tensor, c: Number, d: Number, bits: int, *, printed: bool = False) -> dict[str, Tensor]:
    """Eq. 11 to 13: {"x", "c", "d": derivative of x-hat}, each of the shape of ``x``; the same for all ``bits``.

    ``printed``: with the paper's d x-hat / d d = 0.5 c / d**2, a misprint for 0.5 (c - x) / d**2.
    """
    steps("activation", bits)
    ones = torch.ones_like(x)
    inside = {"x": 0.5 / d * ones, "c": -0.5 / d * ones, "d": 0.5 * (c if printed else c - x) / d**2 * ones}
    return {name: torch.where((x < c - d) | (x >= c + d), torch.zeros_like(x), value)
            for name, value in inside.items()}


MAPPED = {"weight": mapped_weights, "activation": mapped_activations}
ROUNDED = {"weight": rounded_weights, "activation": rounded_activations}
SURROGATES = {"weight": weight_surrogate, "activation": activation_surrogate}
DERIVATIVES = {"weight": weight_derivatives, "activation": activation_derivatives}


# -- tables ---------------------------------------------------------------------------------------------------------
def curves(c: float, d: float, w_bits: int, a_bits: int, points: int = 1201) -> pd.DataFrame:
    """Tabulate what Fig. 2 and 3 draw, for weights of ``w_bits`` and of 2, activations of ``a_bits`` and of 1.

    Columns role; bits; input; staircase (forward); mapping (forward, before the floor); surrogate (backward).
    """
    reach, tables = 1.25 * (c + d), []
    for role, widths in (("weight", (w_bits, 2)), ("activation", (a_bits, 1))):
        x = torch.linspace(-reach if role == "weight" else 0.0, reach, points, dtype=torch.float64)
        tables += [pd.DataFrame({"role": role, "bits": bits, "input": x, "staircase": ROUNDED[role](x, c, d, bits),
                                 "mapping": MAPPED[role](x, c, d, bits),
                                 "surrogate": SURROGATES[role](x, c, d, bits)}) for bits in dict.fromkeys(widths)]
    return pd.concat(tables, ignore_index=True)


def gradient_check(role: str, *, c: float = 0.5, d: float = 0.4, bits: int = 3, points: int = 241,
                   h: float = 1e-6) -> pd.DataFrame:
    """Each derivative of the surrogate three times, at inputs over the interval and beyond it, in float64.

    Columns: role; derivative ("w", "c" and "d", or "x", "c" and "d"); input; right (the analytic derivative); printed
    (by the paper's eq. 6, 7, 11, 12, 13); numeric (central differences of eq. 5 or 9, step ``h``).  Inputs near a kink,
    where there is no derivative, are left out.  InputError for an unknown role.
    """
    steps(role, bits)
    reach = 1.2 * (c + d)
    x = torch.linspace(-reach if role == "weight" else 0.0, reach, points, dtype=torch.float64)
    x = x[torch.stack([(x.abs() - kink).abs() > KINK for kink in (0.0, abs(c - d), c + d)]).all(0)]
    at, surrogate = (x, c, d), SURROGATES[role]
    right, printed = (DERIVATIVES[role](*at, bits, printed=p) for p in (False, True))
    tables = []
    for i, name in enumerate(right):
        up, down = ([v + sign * h if i == j else v for j, v in enumerate(at)] for sign in (1, -1))
        numeric = (surrogate(*up, bits) - surrogate(*down, bits)) / (2 * h)
        tables.append(pd.DataFrame({"role": role, "derivative": name, "input": x, "right": right[name],
                                    "printed": printed[name], "numeric": numeric}))
    return pd.concat(tables, ignore_index=True)


def misprints(checks: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Of tables of :func:`gradient_check`, a row for each derivative: the largest distance of the printed and of the
    right formula from the numeric one, and whether the print is ``wrong`` (by more than 1e-6)."""
    rows = []
    for (role, name), rows_of in pd.concat(list(checks)).groupby(["role", "derivative"], sort=False):
        off = {form: (rows_of[form] - rows_of.numeric).abs().max() for form in ("printed", "right")}
        rows.append({"derivative": f"d {SYMBOLS[role]}-hat / d {name}", "printed, off by": off["printed"],
                     "right, off by": off["right"], "wrong": off["printed"] > 1e-6})
    return pd.DataFrame(rows)


def floor_against_round(bits: Iterable[int] = (2, 3, 4, 5, 8), n: int = 20_000, seed: int = 0) -> pd.DataFrame:
    """How often float32 gives another level than exact arithmetic, by eq. 4's floor and by the rounding form.

    For each bit-width ``n`` random intervals with 0 <= c - d, and weights of three kinds: exactly at M (as float32 has
    it) and exactly at m, where the last and the first level begin, and drawn at random.  Columns: bits; weights; n;
    floor_wrong, round_wrong (shares whose level is not the right one); differ (share in which the two disagree).
    """
    draw = torch.Generator().manual_seed(seed)
    c = 0.05 + 0.95 * torch.rand(n, generator=draw)
    d = c * (0.1 + 0.9 * torch.rand(n, generator=draw))
    anywhere, rows = 0.5 * torch.randn(n, generator=draw), []
    for b in bits:
        k = weight_constants(c, d, b)
        exact = _half_up(k.q * _part(anywhere.double().abs(), c.double(), d.double()))
        for kind, w, level in (("at M", k.M, k.q), ("at m", k.m, 1), ("at random", anywhere, exact)):
            floored, rounded = ((f(w, c, d, b).abs() / k.M * k.q).round() for f in (floored_weights, rounded_weights))
            rows.append({"bits": b, "weights": kind, "n": n, "floor_wrong": (floored != level).float().mean().item(),
                         "round_wrong": (rounded != level).float().mean().item(),
                         "differ": (floored != rounded).float().mean().item()})
    return pd.DataFrame(rows)
