"""PROFIT, supplement Fig. 3: histograms after h-swish with 4-bit levels, and what the levels cost."""
from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..analysis.hswish import GRID_NAMES, short_name
from .style import BLUE, GREEN, ORANGE, PURPLE, STYLE, finish

MARKS = [(ORANGE, "o"), (BLUE, "s"), (GREEN, "^"), (PURPLE, "D")]


def draw_histograms(histograms: pd.DataFrame, levels: pd.DataFrame, layers: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw PROFIT's supplement Fig. 3: a panel for each layer after an h-swish, with the trained levels of its input.

    Tables of :mod:`paperlib.analysis.hswish`, of one run.  Grey: share of values in each bin, log axis.  Ticks above:
    the levels where values are rounded to them.  Dots: the levels that the layer computes with.
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
            above = ax.get_xaxis_transform()
            red, = ax.plot(mine.before, [0.83] * len(mine), "|", color=ORANGE, markersize=8, markeredgewidth=1.6,
                           transform=above)
            dots, = ax.plot(mine.level, [0.95] * len(mine), "o", color=BLUE, markersize=3.5, transform=above)
            right = max(bars.left.max() + width, mine.before.quantile(0.5))
            ax.set(yscale="log", ylim=(1e-4, 30), xlim=(bars.left.min() - 0.05 * right, 1.02 * right), title=name)
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
        wide, top = layers.loc[layers.reach.idxmax()], levels.groupby("layer").before.max()
        return finish(figure, f"{len(layers)} small histograms of what comes out of h-swish, one for each layer, with "
                      f"ticks above at DuQ's levels from -3/8 up to between {top.min():.2f} and {top.max():.2f}. "
                      f"On average {layers.below.mean():.0%} of the values are negative, none below -3/8, and the "
                      f"tail to the right has its 99th percentile between {layers.reach.min() - 0.375:.2f} and "
                      f"{wide.reach - 0.375:.2f} ({short_name(wide.layer, wide.kind)}).",
                      takeaway=f"On average {layers.below.mean():.0%} of the values after an h-swish are negative, and "
                               "DuQ's grid begins at their minimum, −3/8")


def draw_errors(grids: pd.DataFrame, layers: Mapping[str, pd.DataFrame], *, footnote: str) -> Figure:
    """Draw what quantization costs in each layer, as a share of its input's variance.

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
        medians = ["; ".join(f"{name} {values.median():.3f}" for name, values in curves.items())
                   for curves in (left, right)]
        return finish(figure, f"Two panels of dots, a row for each of {len(names)} layers that follow an h-swish; "
                      "further to the right, the error is a larger share of the input's variance. Left: grids with "
                      "their best step on the same values. Right: trained networks. Medians on the left: "
                      f"{medians[0]}. On the right: {medians[1]}.", footnote,
                      _ratio(left))


def _ratio(errors: Mapping[str, pd.Series]) -> str:
    """Say in a sentence by how much the best of the grids is better than the worst in the median layer."""
    medians = pd.Series({grid: values.median() for grid, values in errors.items()}).sort_values()
    best, worst = medians.index[[0, -1]]
    return f"In the median layer {best} make {medians[best] / medians[worst]:.0%} of the error of {worst}"
