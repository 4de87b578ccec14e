"""Pictures behind sliders (paperlib.teaching.widgets): levels among real values, and cost.

Each draws into an empty figure, at fixed places, for a layout engine takes longer than drawing.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from ...plots.style import BLUE, GREY, ORANGE
from .aiwq_drawings import COLORS, PLAIN

BARS = "#C9C9C9"


# -- a quantizer on real values -------------------------------------------------------------------------------------
def quantized_values(figure: Figure, *, title: str, values: Any, curve: Mapping, errors: Mapping, now: tuple,
                     factor: float) -> None:
    """Histogram of ``values`` under the staircase ``curve`` (x, y, slope, levels); its slope; {range factor: (error
    from rounding, from clipping, share clipped)}, and the same ``now``."""
    x, y, levels = (np.asarray(curve[k]) for k in ("x", "y", "levels"))
    left, middle, right = (figure.add_axes((at, 0.17, width, height)) for at, width, height in (
        (0.085, 0.37, 0.72), (0.54, 0.135, 0.72), (0.775, 0.205, 0.56)))
    shares, edges = np.histogram(np.asarray(values), 70, (x[0], x[-1]))
    low, high = min(x[0], levels[0]), max(x[-1], levels[-1])
    low, high = max(low, 1.4 * x[0] - 0.4 * x[-1]), min(high, 1.4 * x[-1] - 0.4 * x[0])
    left.stairs(low + 0.55 * (high - low) * shares / max(shares.max(), 1), edges, baseline=low, fill=True, color=BARS)
    left.plot(x, x, color=GREY, linewidth=0.8)
    left.plot(x, y, color=ORANGE, linewidth=2)
    inside = levels[(levels >= low) & (levels <= high)]
    left.plot(np.full(len(inside), 1.015), inside, "_", color=ORANGE, markersize=9,
              markeredgewidth=2 if len(levels) < 40 else 0.5, transform=left.get_yaxis_transform(), clip_on=False)
    left.set(title=title, xlabel="value (grey: how often)", ylabel="quantized value", xlim=(x[0], x[-1]),
             ylim=(low, high))
    middle.plot(x, curve["slope"], color=BLUE)
    middle.set(title="slope", xlabel="value", ylabel="dy/dx in training", xlim=(x[0], x[-1]), ylim=(-0.1, 1.25))
    for ax in (left, middle):
        ax.locator_params(axis="x", nbins=5 if ax is left else 3, steps=[1, 2, 5, 10])
    _errors(right, errors, now, factor)


def _errors(ax: Axes, errors: Mapping, now: tuple, factor: float) -> None:
    factors, table = list(errors), np.array(list(errors.values()))
    total = table[:, 0] + table[:, 1]
    for part, style, color in ((total, "-", "black"), (table[:, 0], "--", BLUE), (table[:, 1], ":", ORANGE)):
        ax.plot(factors, np.maximum(part, 1e-9), style, color=color)
    ax.plot([factor], [now[0] + now[1]], "o", color="black", markersize=9, clip_on=False, zorder=5)
    bottom = 10.0 ** np.floor(np.log10(max(total.min(), 1e-6)) - 0.7)
    ax.set(xlabel="range factor", yscale="log", ylim=(bottom, 1), xlim=(0, factors[-1]),
           ylabel="squared error (rel.)")
    ax.yaxis.set(minor_locator=NullLocator(), major_formatter=PLAIN)
    for height, text, color, weight in ((1.30, f"error {now[0] + now[1]:.2g}", "black", "bold"),
                                        (1.165, f"rounding {now[0]:.2g}", BLUE, "normal"),
                                        (1.03, f"clipping {now[1]:.2g}", ORANGE, "normal")):
        ax.text(0, height, text, color=color, fontweight=weight, transform=ax.transAxes,
                fontsize=13 if weight == "bold" else 12)


def describe_quantized_values(*, title: str, values: Any, curve: Mapping, errors: Mapping, now: tuple,
                              factor: float) -> str:
    """Alternative text for :func:`quantized_values`."""
    levels, best = np.asarray(curve["levels"]), min(errors, key=lambda m: sum(errors[m][:2]))
    return (f"{title}, range factor {factor:.2f}: a histogram of {len(values)} values under a staircase of "
            f"{len(levels)} levels from {levels[0]:.3g} to {levels[-1]:.3g}; beside it the slope used in training, and "
            f"the error over the range factor. Of the squared values {sum(now[:2]):.2g} are lost, {now[0]:.2g} by "
            f"rounding and {now[1]:.2g} by clipping {now[2]:.1%} of the values; the least error, "
            f"{sum(errors[best][:2]):.2g}, is at a range factor of {best:.2f}.")


# -- a quantized network's layers -----------------------------------------------------------------------------------
def layer_histograms(figure: Figure, *, title: str, weights: Mapping, inputs: Mapping) -> None:
    """Weights and inputs of one layer: ``edges`` and ``shares`` of a histogram, ``places`` that values are rounded to,
    ``levels`` they become (both empty where there is no range per tensor), ``bits``, ``fit`` (None: float), and
    whether the values are ``stored`` as levels."""
    figure.text(0.095, 0.945, title, fontsize=13, fontweight="bold", va="center")
    for at, what, seen in ((0.095, "weights", weights), (0.58, "inputs", inputs)):
        ax, edges, shares = figure.add_axes((at, 0.17, 0.40, 0.56)), seen["edges"], seen["shares"]
        ax.stairs(np.maximum(shares, 1e-9), edges, baseline=1e-9, fill=True, color=BARS)
        places, levels, across = seen["places"], seen["levels"], ax.get_xaxis_transform()
        many = len(levels) > 40
        ax.vlines(places, 0.88 if many else 0, 1, color=ORANGE, linewidth=0.4 if many else 1.3, transform=across)
        ax.plot(levels, np.full(len(levels), 0.955), "o", color=BLUE, markersize=1.5 if many else 4.5,
                transform=across)
        ends = np.concatenate([places, levels, edges[[0, -1]]])
        low, high = ends.min(), ends.max()
        ax.set(yscale="log", ylim=(1e-5, 1), xlim=(low - 0.03 * (high - low), high + 0.03 * (high - low)),
               xlabel="weight" if what == "weights" else "input", yticks=[1e-4, 1e-2, 1])
        ax.yaxis.set(minor_locator=NullLocator(), major_formatter=PLAIN)
        ax.locator_params(axis="x", nbins=6, steps=[1, 2, 5, 10])
        ax.text(0, 1.04, _fitted(what, seen), transform=ax.transAxes, va="bottom", linespacing=1.25, fontsize=11.5)
    figure.axes[0].set_ylabel("share in a bin (log)")


def _fitted(what: str, seen: Mapping) -> str:
    fit = seen["fit"]
    if fit is None:
        return f"{what}: float"
    used = f"{what}, {seen['bits']} bits: {fit.used} of {fit.levels} levels used"
    if seen["stored"]:
        return f"{used},\nevery value is a level already"
    return f"{used}, {fit.clipped:.1%} clipped,\nrelative squared error {fit.error:.2g}, rescaled {fit.rest:.2g}"


def describe_layer_histograms(*, title: str, weights: Mapping, inputs: Mapping) -> str:
    """Alternative text for :func:`layer_histograms`."""
    said = []
    for what, seen in (("weights", weights), ("inputs", inputs)):
        spans = [f"{name} from {ends[0]:.3g} to {ends[-1]:.3g}" for name, ends in (
            ("values", seen["edges"]), ("levels", seen["levels"])) if len(ends)]
        said.append(", ".join([_fitted(what, seen), *spans]))
    return (f"Two histograms of the layer {title}, with lines at the levels that values are rounded to and dots at "
            f"those the layer computes with. {'. '.join(said)}.").replace("\n", " ")


# -- cost -----------------------------------------------------------------------------------------------------------
def costs_by_kind(figure: Figure, *, costs: Mapping[str, pd.DataFrame], bits: Mapping[str, str]) -> None:
    """{float, 8 bits, chosen: a row for each kind, columns bops and bytes} as stacked bars; the float one is cut off
    where it would dwarf the others."""
    for at, column, title, unit, name in ((0.075, "bops", "bit operations, one image", 1e6, "10⁶ bit operations"),
                                          (0.565, "bytes", "weights", 1e3, "kilobytes")):
        ax, sums = figure.add_axes((at, 0.18, 0.40, 0.57)), {label: t[column].sum() for label, t in costs.items()}
        reach = 1.85 * max(sums["8 bits"], sums["chosen"]) / unit
        for y, (label, table) in enumerate(costs.items()):
            ends = (table[column] / unit).cumsum()
            ax.broken_barh(list(zip(ends - table[column] / unit, table[column] / unit)), (y - 0.31, 0.62),
                           facecolors=[COLORS[kind] for kind in table.index], edgecolor="white", linewidth=0.6)
            start = ends.iloc[-1]
            text = _number(start) + ("" if label == "8 bits" else f" = {sums[label] / sums['8 bits']:.3g} × 8 bits")
            if start > reach:
                ax.text(0.985, y, f"{text} →", ha="right", va="center", transform=ax.get_yaxis_transform(),
                        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})
            else:
                ax.text(start + 0.012 * reach, y, text, va="center", bbox={"facecolor": "white", "alpha": 0.8,
                                                                             "edgecolor": "none", "pad": 1})
        ax.set(title=title, xlabel=name, xlim=(0, reach), ylim=(2.5, -0.5), yticks=range(3), yticklabels=list(costs))
        ax.grid(axis="y", visible=False)
    handles = [Patch(color=COLORS[kind], label=f"{kind} {words}") for kind, words in bits.items()]
    figure.text(0.005, 0.937, "bits of weights / inputs:", va="center", fontsize=11)
    figure.legend(handles=handles, loc="center left", bbox_to_anchor=(0.19, 0.94), ncols=len(handles), fontsize=11,
                  handlelength=1, columnspacing=1.0, handletextpad=0.4)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def describe_costs_by_kind(*, costs: Mapping[str, pd.DataFrame], bits: Mapping[str, str]) -> str:
    """Alternative text for :func:`costs_by_kind`."""
    totals = [f"{label} {_number(t.bops.sum() / 1e6)} million bit operations and {_number(t.bytes.sum() / 1e3)} "
              "kilobytes" for label, t in costs.items()]
    chosen = costs["chosen"]
    most, largest = chosen.bops.idxmax(), chosen.bytes.idxmax()
    asked = ", ".join(f"{kind} {words}" for kind, words in bits.items())
    return (f"Stacked bars by kind of layer, with bits of weights and inputs {asked}: {'; '.join(totals)}. Of the "
            f"chosen bits {chosen.bops[most] / chosen.bops.sum():.0%} of the operations are in layers of kind {most} "
            f"and {chosen.bytes[largest] / chosen.bytes.sum():.0%} of the bytes in {largest}.")
