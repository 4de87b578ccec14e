"""How a range and weights learn through rounding: the two pulls on a range, and weights that cross thresholds."""
from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..quantizers import Quantizer
from ..quantizers.lsq import LSQ
from .quantization_error import of_output, set_max_level, step


def pulls(x: Tensor, q: LSQ, tops: Iterable[float]) -> pd.DataFrame:
    """The gradient of LSQ's squared error on ``x``, as a share of x's mean square, by its step s, at each range.

    Columns range; error; inside, outside: the parts of s dE/ds, straight-through, from values inside the range and from
    those beyond it; total, their sum; exact: the derivative of E itself, where all codes stay as they are.
    """
    rows, whole = [], x.double().square().mean()
    for top in tops:
        set_max_level(q, top)
        y, v = q(x), (x / q.s).detach()
        error, beyond = (y - x).double().square() / whole / x.numel(), (v <= q.grid.code_min) | (v >= q.grid.code_max)
        scale = q.s.item() * (q.group_size * q.grid.code_max) ** 0.5       # without LSQ's factor
        inside, outside = (scale * torch.autograd.grad(error[part].sum(), q.s, retain_graph=True)[0].item()
                           for part in (~beyond, beyond))
        exact = 2 * ((y - x) * y).double().mean() / whole
        rows.append({"range": float(top), "error": error.sum().item(), "inside": inside, "outside": outside,
                     "total": inside + outside, "exact": exact.item()})
    return pd.DataFrame(rows)


def equilibrium_range(table: pd.DataFrame) -> float:
    """The range at which the total of :func:`pulls` goes through 0, from below, the last time (by a straight line)."""
    total, ranges = table.total.to_numpy(), table.range.to_numpy()
    crossed, = ((total[:-1] < 0) & (total[1:] >= 0)).nonzero()
    if not len(crossed):
        raise InputError("the pulls do not balance in this scan: widen the ranges")
    ends = slice(crossed[-1], crossed[-1] + 2)
    return float(np.interp(0, total[ends], ranges[ends]))


def follow_weights(layer: nn.Module, x: Tensor, q: Quantizer, steps: int = 60, move: float = 0.02
                   ) -> tuple[Tensor, Tensor, list[float]]:
    """Gradient descent, straight-through, on the weight of ``layer`` for the error of its quantized output on ``x``.

    Returns the float weights in steps of the grid (steps + 1, n), their codes (steps + 1, n) and the errors.  ``move``:
    the largest change of a weight in the first step, in steps of the grid, which sets the learning rate.  The layer and
    ``q`` stay as they are.
    """
    weight, unit, rate = layer.weight.detach().clone().requires_grad_(), step(q), None
    weights, codes, errors = [], [], []
    for _ in range(steps + 1):
        error = of_output(layer, x, q, weight)
        grad, = torch.autograd.grad(error, weight)
        rate = move * unit / grad.abs().max() if rate is None else rate
        weights.append(weight.detach().flatten() / unit)
        codes.append(q.encode(weight).flatten())
        errors.append(error.item())
        weight = (weight.detach() - rate * grad).requires_grad_()
    return torch.stack(weights), torch.stack(codes), errors
