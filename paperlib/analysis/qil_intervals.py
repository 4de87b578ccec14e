"""Where QIL's trained intervals lie, what they prune, and what is distributed around them (Jung et al., Fig. 4 and 5).

:func:`bounds` reads the history of a run; :func:`interval_pruning` and :func:`interval_histograms` make tables of its
networks, for ``run.find``, with the inputs of the first test batch.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from ..quantizers.qil import QIL
from ..runs import Run
from .layer_inputs import capture_inputs, first_test_images
from .post_training import convolutions
from .qil_equations import steps
from .quantization_error import percentile

BINS = 64
ROLES = {"weight": "weights", "activation": "activations"}
COLUMNS = ["phase", "epoch", "layer", "role", "bits", "c", "d", "m", "M"]


def bounds(run: Run) -> pd.DataFrame:
    """Tabulate the intervals after each epoch of the phases that track them, columns COLUMNS; epoch 0: before training.

    m = c - d + d/q is what is pruned below, M = c + d - d/q where the last level begins (equations 3 and 10), with
    q = 2**(bits-1) - 1 for weights and 2**bits - 1 for activations.
    """
    rows = run.history[run.history.split == "quantizer"]
    if rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    names = rows.metric.str.split(" ", expand=True).set_axis(["layer", "role", "parameter"], axis=1)
    table = rows[["phase", "epoch", "value"]].join(names)
    table = table.pivot(index=["phase", "epoch", "layer", "role"], columns="parameter", values="value").reset_index()
    bits = {(p.name, role): bits for p in run.recipe.phases if p.scheme
            for role, bits in (("weight", p.scheme.w_bits), ("activation", p.scheme.a_bits))}
    table["bits"] = [bits[pair] for pair in zip(table.phase, table.role)]
    q = _steps(table)
    table["m"], table["M"] = table.c - table.d + table.d / q, table.c + table.d - table.d / q
    for column in ("phase", "layer"):       # in their own order, not the alphabet's
        table[column] = pd.Categorical(table[column], dict.fromkeys((rows if column == "phase" else names)[column]))
    table = table.sort_values(["phase", "epoch", "role", "layer"], ignore_index=True).rename_axis(None, axis=1)
    return table.astype({"phase": str, "layer": str})[COLUMNS]


def _steps(table: pd.DataFrame) -> pd.Series:
    return pd.Series([steps(*pair) for pair in zip(table.role, table.bits)], table.index)


def interval_pruning(run: Run) -> pd.DataFrame:
    """Tabulate what the intervals of the last network do: layer, role, bits, c, d, values and the shares that follow.

    ``values``: how many there are.  ``zero``: the share that is 0 anyway (after ReLU).  ``pruned``: of the others, the
    share whose code is 0; ``pruned_of_all``: of all, the share whose code is 0.  ``clipped``: the share on the last
    level.  ``at_start``: ``pruned_of_all`` before the last phase trained, of the network and with the interval that it
    began with (empty if the phase did not track them).
    """
    phases = [p.name for p in run.recipe.phases]
    start = bounds(run).query("phase == @phases[-1] and epoch == 0").set_index(["layer", "role"])
    before = {(name, role): x for name, role, _, x in _seen(run, run.model(phases[-2]))} if len(start) else {}
    rows = []
    for name, role, q, x in _seen(run, run.model()):
        if not isinstance(q, QIL):
            continue
        code, zero = q.encode(x).abs(), x == 0
        row = {"layer": name, "role": role, "bits": q.bits, "c": q.c.item(), "d": q.d.item(), "values": x.numel(),
               "zero": _share(zero), "pruned": _share((code == 0) & ~zero) / max(1 - _share(zero), 1e-12),
               "pruned_of_all": _share(code == 0), "clipped": _share(code == q.grid.steps), "at_start": None}
        if before:
            with torch.no_grad():
                q.c.fill_(start.c[name, role])
                q.d.fill_(start.d[name, role])
            row["at_start"] = _share(q.encode(before[name, role]) == 0)
        rows.append(row)
    return pd.DataFrame(rows)


def interval_histograms(run: Run) -> pd.DataFrame:
    """Count the values that each quantizer of the last network sees, and the float network in the same layer.

    Columns network ("float", "quantized"), layer, role, left (edge of a bin), width, share (of the values; of
    activations, above 0).  Weights from the smallest to the largest, activations from 0 to their 99.9th
    percentile; what lies beyond is left out.
    """
    rows, wanted = [], set()
    for network, net in (("quantized", run.model()), ("float", run.model("float"))):
        for name, role, q, x in _seen(run, net):
            if q is None and (name, role) not in wanted:
                continue
            wanted.add((name, role))
            x = x.float().flatten().cpu()
            if role == "activation" and x.max() > 0:
                x = x[x > 0]
            low, high = (x.min(), x.max()) if role == "weight" else (0.0, percentile(x, 99.9))
            low, high = float(low), float(high)
            width, shares = (high - low) / BINS, x.histc(BINS, low, high) / x.numel()
            rows += [{"network": network, "layer": name, "role": role, "left": low + i * width, "width": width,
                      "share": share} for i, share in enumerate(shares.tolist())]
    return pd.DataFrame(rows)


def _share(mask: Tensor) -> float:
    return float(mask.float().mean())


def _seen(run: Run, net: nn.Module) -> Iterator[tuple[str, str, nn.Module | None, Tensor]]:
    """Yield (layer, role, quantizer, what it sees) for the weight and the input of each layer, in their order."""
    layers = convolutions(net)
    inputs = capture_inputs(net, first_test_images(run, net), layers)
    for name, layer in layers.items():
        yield name, "weight", getattr(layer, "weight_quantizer", None), layer.weight.detach()
        yield name, "activation", getattr(layer, "input_quantizer", None), inputs[name]


# -- summaries of these tables --------------------------------------------------------------------------------------
def last_bounds(run: Run) -> pd.DataFrame:
    """Tabulate :func:`bounds` of the last phase, with M before training (``begin``) and the interval's width then."""
    table = bounds(run)
    table = table[table.phase == run.recipe.phases[-1].name]
    start = table[table.epoch == 0].set_index(["layer", "role"])[["m", "M"]]
    start = pd.DataFrame({"begin": start.M, "width": start.M - start.m}).reset_index()
    return table.merge(start, on=["layer", "role"], sort=False)


def motion(runs: Sequence[Run]) -> pd.DataFrame:
    """Measure how far bounds go in training, in % of the interval's width before it: a row per role and bound.

    Median layer and farthest layer from before training to its end; the longest way that any layer's bound goes within
    the last quarter of the epochs.  Means over the runs.
    """
    rows = []
    for run in runs:
        table = last_bounds(run)
        for role, bound in ((role, bound) for role in ROLES for bound in ("m", "M")):
            mine = table[table.role == role]
            mine = mine.assign(at=100 * mine[bound] / mine.width)
            way, late = mine.groupby("layer").at, mine[mine.epoch >= 0.75 * mine.epoch.max() // 1].groupby("layer").at
            moved = (way.last() - way.first()).abs()
            rows.append((ROLES[role], bound, moved.median(), moved.max(), (late.max() - late.min()).max()))
    columns = ["intervals of", "bound", "median layer (%)", "farthest layer (%)", "in the last quarter, at most (%)"]
    return pd.DataFrame(rows, columns=columns).groupby(columns[:2], sort=False).mean().reset_index()


def distributions(runs: Mapping[int, Run]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put :func:`interval_histograms` of the runs {bits: run} that are there under each other, and beside them
    :func:`interval_pruning` with m and M, both with a column bits; both empty if there is none."""
    there = {bits: run for bits, run in runs.items() if not run.absent}
    if not there:
        return pd.DataFrame(), pd.DataFrame()
    values, intervals = (pd.concat([run.find(table).assign(bits=bits) for bits, run in there.items()],
                                   ignore_index=True) for table in (interval_histograms, interval_pruning))
    side = intervals.d - intervals.d / _steps(intervals)
    return values, intervals.assign(m=intervals.c - side, M=intervals.c + side)
