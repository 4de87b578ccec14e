"""PROFIT, Fig. 3: what a small update does to one quantized weight at a threshold, and to weights everywhere."""
from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd
import torch

from .. import quantizers
from ..errors import InputError
from ..quantizers import Quantizer


def unit_duq(bits: int) -> Quantizer:
    """DuQ's weight quantizer with a range from -1 to 1: 2**bits - 1 levels, K = 2**(bits-1) - 1 steps to each side."""
    return quantizers.build("duq", role="weight", bits=bits).double().calibrate(torch.ones(1).double(), fraction=1.0)


@torch.no_grad()
def one_weight(bits: Iterable[int], update: float = 0.005) -> pd.DataFrame:
    """What a small update does to a quantized weight (PROFIT, Fig. 3), a row for each bit-width.

    A weight near a threshold goes from 0.5 - update/2 to 0.5 + update/2; 0.5 is a rounding threshold of
    :func:`unit_duq` at every bit-width, since K is odd.  Columns bits; levels; step, the distance of two levels (1/K);
    before and after, the quantized weight; jump, in multiples of the update.

    Then weights everywhere between -1 and 1, all updated alike: crossing, the share that gets another level
    (K * update, as long as that is below 1); mean_move and rms_move, the mean and the root mean square of how far the
    quantized weights move (update; sqrt(update / K)).  InputError unless 0 < update < 1.
    """
    if not 0 < update < 1:
        raise InputError(f"the update must lie between 0 and 1, half the range of the weights, got {update}")
    pair = 0.5 + torch.tensor([-update / 2, update / 2], dtype=torch.float64)
    everywhere = torch.arange(-1 + 1e-5, 1, 2e-5, dtype=torch.float64)
    rows = []
    for b in bits:
        quantizer = unit_duq(b)
        before, after = quantizer(pair).tolist()
        move = quantizer(everywhere + update) - quantizer(everywhere)
        rows.append({"bits": b, "levels": quantizer.grid.n_levels, "step": 1 / quantizer.grid.steps, "before": before,
                     "after": after, "jump": (after - before) / update,
                     "crossing": (move > 0).double().mean().item(), "mean_move": move.mean().item(),
                     "rms_move": move.square().mean().sqrt().item()})
    return pd.DataFrame(rows)


@torch.no_grad()
def staircases(bits: Iterable[int], low: float = 0.2, high: float = 0.8, points: int = 1201) -> pd.DataFrame:
    """The quantized weight over the weight, by :func:`unit_duq`: columns bits, weight, quantized."""
    weight = torch.linspace(low, high, points, dtype=torch.float64)
    return pd.concat([pd.DataFrame({"bits": b, "weight": weight, "quantized": unit_duq(b)(weight)}) for b in bits],
                     ignore_index=True)


def descend(optimum: float, rate: float, updates: int = 120, start: float = 0.5) -> pd.DataFrame:
    """Follow a weight that descends (quantized - optimum)**2 / 2 by its straight-through gradient, in units of a step.

    An update subtracts ``rate`` times (quantized - optimum) from the weight; quantized is the nearest whole number.
    The weight starts at the threshold, since a small rate takes many updates to get there.
    Columns weight, quantized; a row for each update, 0 to ``updates``.  InputError unless optimum and rate lie
    between 0 and 1.
    """
    if not (0 < optimum < 1 and 0 < rate < 1):
        raise InputError(f"optimum and rate must lie between 0 and 1, got {optimum} and {rate}")
    weight, rows = start, []
    for _ in range(updates + 1):
        quantized = math.floor(weight + 0.5)
        rows.append((weight, quantized))
        weight -= rate * (quantized - optimum)
    return pd.DataFrame(rows, columns=["weight", "quantized"])
