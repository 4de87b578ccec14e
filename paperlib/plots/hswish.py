"""PROFIT, supplement Fig. 3: histograms behind h-swish with 4-bit levels, and what the levels cost."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..models.value_bounds import HARDSWISH_MIN
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE

GRID_NAMES = {"from -3/8": "16 levels from -3/8 (DuQ's)", "from 0": "16 levels from 0 (PACT's, LSQ's)",
              "half below 0": "8 levels below 0 (LSQ's, signed)"}
MARKS = [(ORANGE, "o"), (BLUE, "s"), (GREEN, "^"), (PURPLE, "D")]


def short_name(layer: str, kind: str) -> str:
    """ "features.7.block.1.0", "depthwise" -> "7 depthwise"; "classifier.0" -> "classifier 0"."""
    parts = layer.split(".")
    return f"{parts[1]} {kind}" if parts[0] == "features" else " ".join(parts)


def hswish(histograms: pd.DataFrame, levels: pd.DataFrame, layers: pd.DataFrame, *, footnote: str) -> Figure:
    """PROFIT, supplement Fig. 3: a panel for each layer behind an h-swish, with the trained levels of its input.

    Tables as :mod:`paperlib.analysis.hswish` gives them, of one run.  Grey: share of values in each bin, log axis.  Lines: the
    levels where values are rounded to them.  Dots: the levels that the layer computes with.
    """
    names = [short_name(row.layer, row.kind) for row in layers.itertuples()]
    columns = 5
    rows = -(-(len(names) + 1) // columns)      # a place for the legend
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(11, 1.65 * rows + 0.6), sharey=True, squeeze=False)
        for ax, layer, name in zip(axes.flat, layers.layer, names):
            bars, mine = histograms[histograms.layer == layer], levels[levels.layer == layer]
            width = bars.left.iloc[1] - bars.left.iloc[0]
            grey = ax.bar(bars.left, bars.share, width, align="edge", color="#B5B5B5")
            red = ax.vlines(mine.before, 0, 1, color=ORANGE, linewidth=1.3, transform=ax.get_xaxis_transform())
            dots, = ax.plot(mine.level, [0.955] * len(mine), "o", color=BLUE, markersize=3.5,
                            transform=ax.get_xaxis_transform())
            right = max(bars.left.max() + width, mine.before.quantile(0.5))
            ax.set(yscale="log", ylim=(1e-4, 1), xlim=(bars.left.min() - 0.05 * right, 1.02 * right), title=name)
            ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3, steps=[1, 2, 5, 10]))
            ax.set_yticks([1e-4, 1e-2, 1])
            ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())
        for ax in axes.flat[len(names):]:
            ax.set_axis_off()
        legend = axes.flat[-1].legend([grey, red, dots], [
            "values that reach the layer", "DuQ's levels, where values are rounded to them",
            "the same levels after DuQ's second scale"], loc="center right")
        legend.set_in_layout(False)
        figure.supylabel("share of values in a bin (log axis)", fontsize=12)
        figure.supxlabel(f"input of the layer\n{footnote}", fontsize=12)
    return figure


def describe_hswish(levels: pd.DataFrame, layers: pd.DataFrame) -> str:
    """Alternative text for :func:`hswish`."""
    narrow, wide = layers.loc[layers.reach.idxmin()], layers.loc[layers.reach.idxmax()]
    top = levels.groupby("layer").before.max()
    return (f"{len(layers)} small histograms, one for each layer of MobileNet-v3 whose input comes out of h-swish; on "
            f"average {layers.below.mean():.0%} of the values are negative, none below -3/8, and a long tail runs to "
            f"the right. 99 percent of the values lie below "
            f"{narrow.reach - 0.375:.2f} in the narrowest layer ({short_name(narrow.layer, narrow.kind)}) and below "
            f"{wide.reach - 0.375:.2f} in the widest ({short_name(wide.layer, wide.kind)}). Evenly spaced vertical "
            f"lines, DuQ's levels, start at -3/8 in every panel and end between {top.min():.2f} and {top.max():.2f}.")


def hswish_errors(grids: pd.DataFrame, layers: Mapping[str, pd.DataFrame], *, footnote: str) -> Figure:
    """What quantization costs in each layer, as a share of its input's variance.

    Left: the three grids on the same float values, each with its best step (``grids``).  Right: each method in its own
    trained network, after the best scale and offset (``layers``: {method: table}).
    """
    first = next(iter(layers.values()))
    names = [short_name(row.layer, row.kind) for row in first.itertuples()]
    left = {GRID_NAMES[grid]: rows.error for grid, rows in grids.groupby("grid", sort=False)}
    right = {method: table.residual for method, table in layers.items()}
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 6.8), sharex=True, sharey=True)
        titles = "the grid alone: same values, best step", "trained: each method's own network"
        labels = "squared error / variance of the input (log)", "the same after the best scale and offset (log)"
        for ax, curves, title, label in zip(axes, (left, right), titles, labels):
            for (name, values), (colour, marker) in zip(curves.items(), MARKS):
                ax.plot(np.maximum(values, 1e-6), range(len(names)), marker, color=colour, markersize=8, label=name)
            ax.set(xscale="log", title=title, xlabel=label, ylim=(len(names) - 0.5, -0.5))
            ax.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
            ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
            ax.set_yticks(range(len(names)), names)
            ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=1 if ax is axes[0] else 2)
        figure.supxlabel(footnote, fontsize=10, color=GREY)
    return figure


def describe_hswish_errors(grids: pd.DataFrame, layers: Mapping[str, pd.DataFrame]) -> str:
    """Alternative text for :func:`hswish_errors`."""
    def said(medians):
        return ", ".join(f"{name} {value:.3f}" for name, value in medians)

    left = [(GRID_NAMES[grid], rows.error.median()) for grid, rows in grids.groupby("grid", sort=False)]
    right = [(method, table.residual.median()) for method, table in layers.items()]
    return (f"Two panels of dots, a row for each of {grids.layer.nunique()} layers behind an h-swish, to the right the "
            f"larger error as a share of the input's variance. Left, grids with their best step on the same values, "
            f"medians: {said(left)}. Right, trained networks, medians: {said(right)}.")


def hswish_grid_table(grids: pd.DataFrame) -> pd.DataFrame:
    """One row per grid: its levels, how many of them are used, and what it costs, over all layers."""
    best = grids.loc[grids.groupby("layer").error.idxmin()].grid.value_counts()
    rows = []
    for grid, mine in grids.groupby("grid", sort=False):
        rows.append({"grid": GRID_NAMES[grid], "levels": mine.levels.iloc[0], "levels used, mean": mine.used.mean(),
                     "below 0, mean": mine.below.mean(), "of these used, mean": mine.used_below.mean(),
                     "error, median": mine.error.median(),
                     "part of it from below 0": mine.error_below.sum() / mine.error.sum(),
                     "layers where it is best": int(best.get(grid, 0))})
    return pd.DataFrame(rows)


def hswish_methods(layers: Mapping[str, pd.DataFrame], levels: Mapping[str, pd.DataFrame],
                   losses: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """One row per method, trained: its levels and what they cost over all layers, and its final validation loss."""
    rows = []
    for method, table in layers.items():
        per_layer = levels[method].groupby("layer")
        rows.append({"method": method, "levels below 0, mean": per_layer["level"].apply(lambda v: (v < 0).sum()).mean(),
                     "levels used, mean": per_layer["share"].apply(lambda s: (s > 0).sum()).mean(),
                     "error, median": table.error.median(), "after best scale, median": table.residual.median(),
                     "validation loss": float(np.mean(losses[method]))})
    return pd.DataFrame(rows)


def hswish_in_words(layers: pd.DataFrame, levels: pd.DataFrame) -> str:
    """What the trained levels show beyond the paper's sentences, in Markdown."""
    mine = levels.groupby("layer")
    empty = [short_name(row.layer, row.kind) for row in layers.itertuples()
             if mine.get_group(row.layer).sort_values("level").share.iloc[0] == 0]
    stretch = (mine["level"].max() - HARDSWISH_MIN) / (mine["before"].max() - HARDSWISH_MIN)
    lowest = f" ({', '.join(empty)})" if empty else ""
    return (f"* In {len(empty)} of {len(layers)} layers{lowest} no value falls on DuQ's lowest level, -3/8.\n"
            f"* DuQ's second scale multiplies the levels' distance from -3/8 by {stretch.min():.2f} to "
            f"{stretch.max():.2f}. The error against the input as it was has a median of {layers.error.median():.3f} "
            f"of its variance; after the best scale and offset {layers.residual.median():.3f} are left.")


def hswish_padding(layers: pd.DataFrame, levels: pd.DataFrame) -> pd.DataFrame:
    """Layers that pad what comes out of h-swish: where their lowest level is, and how far 0 is from the next level.

    Distances are in steps: 0 where 0 is a level, 1/2 at most unless it lies beyond the grid."""
    rows = []
    for row in layers[layers.pads].itertuples():
        mine = np.sort(levels[levels.layer == row.layer].level)
        step = mine[1] - mine[0]
        rows.append({"layer": short_name(row.layer, row.kind), "lowest level": mine[0], "step": step,
                     "from 0 to the next level (steps)": np.abs(mine).min() / step,
                     "from the lowest level to 0 (steps)": -mine[0] / step})
    return pd.DataFrame(rows)
