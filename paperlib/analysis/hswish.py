"""What comes out of h-swish, layer by layer, and what 4-bit grids make of it (PROFIT, supplement section 3).

The functions of a run make tables of its networks, for ``run.find``; inputs are from the first test batch.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from .. import quantizers
from ..models.quantize import kind
from ..models.squeeze_excite import gate_layers
from ..models.value_bounds import HARDSWISH_MIN, input_floors
from ..quantizers import Quantizer
from ..runs import Run
from .layer_inputs import capture_inputs, first_test_images
from .quantization_error import percentile

BINS = 48           # of a histogram, from -3/8 to the 99.9th percentile
SAMPLE = 2**18      # how many values of a layer, drawn at random, grids are fitted to
# how to lay the levels of an even grid, whatever its step: a quantizer and its options, and what it is called
GRIDS = {"from -3/8": ("duq", {"floor": HARDSWISH_MIN}), "from 0": ("pact", {}),
         "half below 0": ("lsq", {"signed": True})}
GRID_NAMES = {"from -3/8": "16 levels from -3/8 (DuQ's)", "from 0": "16 levels from 0 (PACT's, LSQ's)",
              "half below 0": "8 levels below 0 (LSQ's, signed)"}


def layers_behind(net: nn.Module) -> dict[str, str]:
    """Return {name: kind} of the layers whose input comes out of h-swish, in order of their first call.

    The largest known lower bound of such an input is -3/8: between h-swish and the layer there is nothing, an average
    pool or the product with squeeze-and-excite's gate.  Layers inside squeeze-and-excite, with 8 bits, are left out.
    """
    gates = gate_layers(net)
    kinds = {name: kind(net, name, False, gates) for name, floor in input_floors(net).layers.items()
             if floor == HARDSWISH_MIN}
    return {name: k for name, k in kinds.items() if k != "se"}


def hswish_histograms(run: Run) -> pd.DataFrame:
    """Tabulate the input of each such layer of the last network: layer, left (edge of a bin), share (of values).

    Bins are equally wide; what lies beyond the last one, a thousandth, is left out.
    """
    def look(name, layer, x):
        top = percentile(x.flatten(), 99.9)
        shares = x.float().cpu().histc(BINS, HARDSWISH_MIN, float(top)) / x.numel()
        edges = torch.linspace(HARDSWISH_MIN, float(top), BINS + 1)
        return [{"left": left, "share": share} for left, share in zip(edges.tolist(), shares.tolist())]

    return _collect(run, run.model(), look)


def hswish_levels(run: Run) -> pd.DataFrame:
    """Tabulate the trained levels of each such layer's input quantizer: columns layer, level, before, share.

    ``before``: where the level lies before DuQ's second scale, among the values that are rounded to it (for the other
    methods ``level`` itself).  ``share``: of the values, on it.
    """
    def look(name, layer, x):
        q = layer.input_quantizer
        place = q.affine()
        codes = torch.arange(q.grid.code_min, q.grid.code_max + 1, device=x.device)
        before = codes * (place.in_scale / q.grid.steps) + place.in_offset
        columns = q.levels(), before, shares(q, x)
        return [dict(zip(("level", "before", "share"), row)) for row in torch.stack(columns, 1).tolist()]

    return _collect(run, run.model(), look)


def hswish_layers(run: Run) -> pd.DataFrame:
    """Tabulate what enters each such layer of the last network and what its quantizer makes of it, one row each.

    Columns: layer; kind; pads (whether the layer pads its input); ``reach`` (from -3/8 to the 99th percentile);
    feature_maps (the largest of a channel's ``reach`` divided by the smallest); below (share of values under 0); error
    (mean squared error of quantization / variance of the input); residual (the same after the best scale and offset,
    1 - correlation**2: DuQ is free to change the scale, and the batch norm after the layer undoes it).
    """
    def look(name, layer, x):
        channels = percentile(x.transpose(0, 1).flatten(1), 99) - HARDSWISH_MIN
        y = layer.input_quantizer(x)
        return [{"kind": layer.kind, "pads": any(getattr(layer, "padding", ())),
                 "reach": float(percentile(x.flatten(), 99)) - HARDSWISH_MIN,
                 "feature_maps": float(channels.max() / channels.min().clamp_min(1e-9)),
                 "below": float((x < 0).float().mean()), "error": float((y - x).square().mean() / x.var()),
                 "residual": 1 - float(torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1] ** 2)}]

    return _collect(run, run.model(), look)


def hswish_grids(run: Run) -> pd.DataFrame:
    """Fit even grids to the float network's own values, each with the step that has the smallest squared error.

    Columns: layer; grid (GRIDS); levels; below (levels under 0); used, used_below (those that values fall on); error as
    in :func:`hswish_layers`; error_below (the part of it that values under 0 cause).  What differs here is the grid
    alone, no training.
    """
    bits = run.recipe.phases[-1].scheme.a_bits

    def look(name, layer, x):
        draw = torch.randint(x.numel(), (SAMPLE,), generator=torch.Generator().manual_seed(0)).to(x.device)
        x = x.flatten() if x.numel() <= SAMPLE else x.flatten()[draw]
        rows = []
        for grid, (method, options) in GRIDS.items():
            q = quantizers.build(method, role="activation", bits=bits, **options).to(x.device).calibrate(x, "mse")
            below, used, error = q.levels() < 0, shares(q, x) > 0, (q(x) - x).square() / x.var()
            rows.append({"grid": grid, "levels": len(below), "below": int(below.sum()), "used": int(used.sum()),
                         "used_below": int((used & below).sum()), "error": float(error.mean()),
                         "error_below": float((error * (x < 0)).mean())})
        return rows

    return _collect(run, run.model("float"), look)


def shares(q: Quantizer, x: Tensor) -> Tensor:
    """Return the share of the values of ``x`` on each of the quantizer's levels, (levels,)."""
    codes = q.encode(x).flatten().long() - q.grid.code_min
    return torch.bincount(codes, minlength=q.grid.n_levels) / x.numel()


def _collect(run: Run, net: nn.Module, look: Callable[[str, nn.Module, Tensor], Iterable[dict]]) -> pd.DataFrame:
    """The rows that ``look(name, layer, input)`` gives for each layer that follows an h-swish, in their order."""
    names = layers_behind(net)
    inputs = capture_inputs(net, first_test_images(run, net), names)
    with torch.no_grad():
        return pd.DataFrame([{"layer": name, **row} for name in names
                             for row in look(name, net.get_submodule(name), inputs[name])])


# -- summaries of these tables --------------------------------------------------------------------------------------
def short_name(layer: str, kind: str) -> str:
    """Shorten "features.7.block.1.0", "depthwise" to "7 depthwise", and "classifier.0" to "classifier 0"."""
    parts = layer.split(".")
    return f"{parts[1]} {kind}" if parts[0] == "features" else " ".join(parts)


def grid_summary(grids: pd.DataFrame) -> pd.DataFrame:
    """Sum up :func:`hswish_grids`, a row per grid: its levels, how many are used, and what it costs over all layers."""
    by_grid = grids.groupby("grid", sort=False)
    table = by_grid.agg(**{
        "levels": ("levels", "first"), "levels used, mean": ("used", "mean"), "below 0, mean": ("below", "mean"),
        "of these used, mean": ("used_below", "mean"), "error, median": ("error", "median")})
    table["part of it from below 0"] = by_grid.error_below.sum() / by_grid.error.sum()
    best = grids.loc[grids.groupby("layer").error.idxmin()].grid.value_counts()
    table["layers where it is best"] = best.reindex(table.index, fill_value=0)
    return table.rename(index=GRID_NAMES).reset_index()


def method_summary(layers: Mapping[str, pd.DataFrame], levels: Mapping[str, pd.DataFrame],
                   losses: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """Sum up each method's trained levels, what they cost over all layers, and its validation loss, a row each."""
    rows = []
    for method, table in layers.items():
        per_layer = levels[method].groupby("layer")
        rows.append({"method": method, "levels below 0, mean": per_layer["level"].apply(lambda v: (v < 0).sum()).mean(),
                     "levels used, mean": per_layer["share"].apply(lambda s: (s > 0).sum()).mean(),
                     "error, median": table.error.median(), "after best scale, median": table.residual.median(),
                     "validation loss": float(np.mean(losses[method]))})
    return pd.DataFrame(rows)


def padding(layers: pd.DataFrame, levels: pd.DataFrame) -> pd.DataFrame:
    """Tabulate for layers that pad what comes out of h-swish their lowest level, and how far 0 is from the next level.

    Distances are in steps: 0 where 0 is a level, 1/2 at most unless it lies beyond the grid.
    """
    rows = []
    for row in layers[layers.pads].itertuples():
        mine = np.sort(levels[levels.layer == row.layer].level)
        step = mine[1] - mine[0]
        rows.append({"layer": short_name(row.layer, row.kind), "lowest level": mine[0], "step": step,
                     "from 0 to the next level (steps)": np.abs(mine).min() / step,
                     "from the lowest level to 0 (steps)": -mine[0] / step})
    return pd.DataFrame(rows)


def in_words(layers: pd.DataFrame, levels: pd.DataFrame) -> str:
    """Say in Markdown what the trained levels show beyond the paper's sentences."""
    mine = levels.groupby("layer")
    empty = [short_name(row.layer, row.kind) for row in layers.itertuples()
             if mine.get_group(row.layer).sort_values("level").share.iloc[0] == 0]
    stretch = (mine["level"].max() - HARDSWISH_MIN) / (mine["before"].max() - HARDSWISH_MIN)
    lowest = f" ({', '.join(empty)})" if empty else ""
    return (f"* In {len(empty)} of {len(layers)} layers{lowest} no value falls on DuQ's lowest level, -3/8.\n"
            f"* DuQ's second scale multiplies the levels' distance from -3/8 by {stretch.min():.2f} to "
            f"{stretch.max():.2f}. The error against the input as it was has a median of {layers.error.median():.3f} "
            f"of its variance; after the best scale and offset {layers.residual.median():.3f} are left.")
