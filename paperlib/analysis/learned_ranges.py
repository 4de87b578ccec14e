"""How a range is learned: the gradients that papers give it, its two pulls, and descents on one real layer."""
from __future__ import annotations

from collections.abc import Callable, Iterable

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..errors import InputError
from ..quantizers import Quantizer
from ..quantizers.duq import DuQ
from ..quantizers.functional import position
from ..quantizers.lsq import LSQ
from ..quantizers.pact import PACT
from ..quantizers.qil import QIL
from .quantization_error import of_output, set_max_level, step


# -- formulas -------------------------------------------------------------------------------------------------------
def derivatives(q: Quantizer, x: Tensor) -> dict[str, Tensor]:
    """{"x" or a parameter: dy/d... at each value of ``x``}, written down from the papers; unsigned activations.

    PACT, section 3; LSQ, equation 3, without the factor 1/sqrt(N Qp) that its section 2.2 adds; QIL v1, equations 11 to
    13, with the x that eq. 13 lost; DuQ, from its forward pass.  A value at an end of the range counts as beyond it.
    InputError for other methods and for signed grids.
    """
    if type(q) not in _FORMULAS or q.signed:
        raise InputError(f"there are formulas for unsigned {', '.join(k.__name__ for k in _FORMULAS)}, "
                         f"not for {type(q).__name__} with signed={q.signed}")
    with torch.no_grad():
        return _FORMULAS[type(q)](q, x)


def _pact(q: PACT, x: Tensor) -> dict[str, Tensor]:
    return {"x": (x > 0).float() * (x < q.alpha), "alpha": (x >= q.alpha).float()}


def _lsq(q: LSQ, x: Tensor) -> dict[str, Tensor]:
    v, top = x / q.s, q.grid.code_max
    inside = (v > 0) & (v < top)
    return {"x": inside.float(), "s": torch.where(inside, v.round() - v, v.clamp(0, top))}


def _qil(q: QIL, x: Tensor) -> dict[str, Tensor]:
    inside = ((x > q.c - q.d) & (x < q.c + q.d)).float()
    return {"x": inside * 0.5 / q.d, "c": inside * -0.5 / q.d, "d": inside * 0.5 * (q.c - x) / q.d**2}


def _duq(q: DuQ, x: Tensor) -> dict[str, Tensor]:
    before, after = softplus(q.a), softplus(q.c)
    u = (x - q.floor) / before
    inside = ((u > 0) & (u < 1)).float()
    return {"x": inside * after / before, "a": inside * -torch.sigmoid(q.a) * after * u / before,
            "c": torch.sigmoid(q.c) * (q.grid.steps * u.clamp(0, 1)).round() / q.grid.steps}


_FORMULAS = {PACT: _pact, LSQ: _lsq, QIL: _qil, DuQ: _duq}


def against_autograd(q: Quantizer, x: Tensor) -> pd.DataFrame:
    """The formulas beside what backward gives, for a made-up gradient of y (normal, always the same).

    Columns by (x or a parameter), formula, autograd (both summed over all values; for x the root of the mean square),
    differ (the largest difference as a share of the largest value; for a parameter, of the two sums).  Values at an end
    of the range, where the derivative jumps, are left out.
    """
    x = x.detach().clone().requires_grad_()
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    place = position(x.detach(), q.float32_affine(), q.grid).detach()
    upstream[((place - q.grid.code_min).abs() < 1e-4) | ((place - q.grid.code_max).abs() < 1e-4)] = 0
    names = [name for name, _ in q.named_parameters()]
    found = torch.autograd.grad(q(x), [x, *q.parameters()], upstream)
    rows, factor = [], (q.group_size * q.grid.code_max) ** 0.5 if isinstance(q, LSQ) else 1.0
    for name, formula, mine in zip(["x", *names], derivatives(q, x).values(), found):
        formula = formula * upstream
        if name != "x":
            formula, mine = formula.double().sum(), mine * factor
        size = (lambda t: t.square().mean().sqrt()) if name == "x" else (lambda t: t)
        rows.append({"by": name, "formula": size(formula).item(), "autograd": size(mine).item(),
                     "differ": ((formula - mine).abs().max() / formula.abs().max()).item()})
    return pd.DataFrame(rows)


def gradient_ratios(qnet: nn.Module) -> pd.DataFrame:
    """How fast the weights' steps would move compared with the weights, after a backward pass; LSQ, section 2.2.

    Columns N, the weights that share a step; factor, 1/sqrt(N Qp); with, (|dL/ds| / s) / (|dL/dw| / |w|) of the
    gradients as they are; without, the same without the factor.  A row for each LSQ weight quantizer of ``qnet``, one
    step per tensor.
    """
    rows = []
    for layer in qnet.modules():
        q = getattr(layer, "weight_quantizer", None)
        if isinstance(q, LSQ):
            n, w = layer.weight.numel(), layer.weight
            factor = (n * q.grid.code_max) ** -0.5
            ratio = (q.s.grad.abs() / q.s / (w.grad.norm() / w.norm())).item()
            rows.append({"N": n, "factor": factor, "without": ratio / factor, "with": ratio})
    return pd.DataFrame(rows)


# -- pulls ----------------------------------------------------------------------------------------------------------
def pulls(x: Tensor, q: LSQ, tops: Iterable[float]) -> pd.DataFrame:
    """What the squared error of LSQ on ``x``, as a share of x's mean square, says to its step s, at each range.

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


def equilibrium_range(table: pd.DataFrame, column: str = "total") -> float:
    """The range at which a column of :func:`pulls` goes through 0, from below, the last time (by a straight line)."""
    values, ranges = table[column].to_numpy(), table.range.to_numpy()
    crossed = [i for i in range(len(values) - 1) if values[i] < 0 <= values[i + 1]]
    if not crossed:
        raise InputError(f"{column!r} does not go through 0 in this scan: widen the ranges")
    i = crossed[-1]
    return float(ranges[i] - values[i] * (ranges[i + 1] - ranges[i]) / (values[i + 1] - values[i]))


# -- descents -------------------------------------------------------------------------------------------------------
def descend(q: Quantizer, error: Callable[[], Tensor], lr: float, steps: int = 40) -> pd.DataFrame:
    """Adam on the parameters of ``q``, in place: columns step, range (the greatest level), error before the step."""
    optimizer, rows = torch.optim.Adam(q.parameters(), lr), []
    for number in range(steps + 1):
        loss = error()
        rows.append({"step": number, "range": q.levels()[-1].item(), "error": loss.item()})
        if number < steps:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return pd.DataFrame(rows)


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
