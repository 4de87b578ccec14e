"""The error of a grid on a tensor: rounding inside its range, clipping beyond it; and the error of a layer's output.

Errors are mean squares, as shares of the mean square of what is quantized.
"""
from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import torch
from torch import Tensor, nn

from ..quantizers import Quantizer

SAMPLE = 2**15      # values of a tensor that are looked at


def sample(x: Tensor, n: int = SAMPLE) -> Tensor:
    """A copy of the values of ``x``, or ``n`` of them drawn with replacement, always the same ones; float32 (n,) on
    the CPU."""
    x = x.detach().flatten().float().cpu()
    draw = torch.Generator().manual_seed(0)
    return x.clone() if x.numel() <= n else x[torch.randint(x.numel(), (n,), generator=draw)]


def set_max_level(q: Quantizer, top: float) -> Quantizer:
    """``q`` with its last level at ``top``, changed in place; for even grids."""
    return q.calibrate(torch.tensor([float(top)]), "max")


def step(q: Quantizer) -> float:
    """The distance of two levels of an even grid."""
    levels = q.levels()
    return ((levels[-1] - levels[0]) / (len(levels) - 1)).item()


@torch.no_grad()
def error_parts(x: Tensor, q: Quantizer) -> tuple[float, float]:
    """(rounding, clipping): the two parts of q's error on ``x``, for even grids; they add up to the whole.

    A value is first brought into the range, then rounded there; what lies beyond the range lands on a level at once.
    """
    levels, whole = q.levels(), x.double().square().mean()
    kept = x.clamp(levels[0], levels[-1])
    rounding, clipping = ((a - b).double().square().mean() / whole for a, b in ((q(x), kept), (kept, x)))
    return rounding.item(), clipping.item()


def scan(x: Tensor, q: Quantizer, tops: Iterable[float]) -> pd.DataFrame:
    """The error of ``q`` on ``x`` for each last level: columns bits, range, rounding, clipping, error."""
    rows = []
    for top in tops:
        rounding, clipping = error_parts(x, set_max_level(q, top))
        rows.append({"bits": q.bits, "range": float(top), "rounding": rounding, "clipping": clipping,
                     "error": rounding + clipping})
    return pd.DataFrame(rows)


def best(scans: pd.DataFrame) -> pd.DataFrame:
    """The row with the smallest error for each number of bits, bits as index."""
    return scans.reset_index(drop=True).loc[lambda t: t.groupby("bits").error.idxmin()].set_index("bits")


def of_output(layer: nn.Module, x: Tensor, q: Quantizer, weight: Tensor | None = None) -> Tensor:
    """Mean square of what ``q`` changes in the output of ``layer`` on ``x``, as a share of the output's, 0-d.

    ``q`` quantizes the weight (``weight``, if it is another than the layer's own) or the input, according to its role.
    Differentiable in the weight and in q's parameters.
    """
    with torch.no_grad():
        wanted = layer(x)
    if q.role == "activation":
        got = layer(q(x))
    else:
        got = torch.func.functional_call(layer, {"weight": q(layer.weight if weight is None else weight)}, (x,))
    return (got - wanted).square().mean() / wanted.square().mean()


@torch.no_grad()
def scan_output(layer: nn.Module, x: Tensor, q: Quantizer, tops: Iterable[float]) -> pd.DataFrame:
    """:func:`of_output` for each last level of ``tops``: columns bits, range, error."""
    rows = [(q.bits, float(top), of_output(layer, x, set_max_level(q, top)).item()) for top in tops]
    return pd.DataFrame(rows, columns=["bits", "range", "error"])


def percentile(x: Tensor, percent: float) -> Tensor:
    """The nearest rank from above along the last dimension."""
    return x.float().kthvalue(max(1, -int(-x.shape[-1] * percent // 100)), dim=-1).values
