"""QIL, Fig. 4 and 5: where trained intervals lie, epoch by epoch and among the values."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..analysis.qil_intervals import bounds, interval_histograms, interval_pruning
from ..errors import InputError
from ..runs import Run
from .missing import unless_missing
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, STYLE, YELLOW

LAYERS = [(BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"), (YELLOW, "v"), (SKY, "P"), (GREY, "X")]
PARTS = {"weight": "weights", "activation": "activations"}


def last_bounds(run: Run) -> pd.DataFrame:
    """``bounds`` of the last phase, with M before training (``begin``) and the width of the interval then, M - m."""
    table = bounds(run)
    table = table[table.phase == run.recipe.phases[-1].name]
    start = table[table.epoch == 0].set_index(["layer", "role"])[["m", "M"]]
    start = pd.DataFrame({"begin": start.M, "width": start.M - start.m}).reset_index()
    return table.merge(start, on=["layer", "role"], sort=False)


@unless_missing("M")
def interval_bounds(table: pd.DataFrame, *, footnote: str) -> Figure:
    """QIL, Fig. 4: bounds by epoch, left of activations, right of weights, a line for each layer; above M, below m.

    ``table`` as :func:`last_bounds` gives it.  Weights differ in scale from layer to layer, so their bounds are divided
    by the layer's M before training.
    """
    styles = layer_styles(table.layer)
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(11, 7), sharex=True)
        for column, role in zip(axes.T, ("activation", "weight")):
            for ax, bound, name in zip(column, ("M", "m"), ("upper bound M", "lower bound m")):
                for layer, (colour, marker) in styles.items():
                    mine = table[(table.role == role) & (table.layer == layer)]
                    ax.plot(mine.epoch, mine[bound] / (mine.begin if role == "weight" else 1), color=colour,
                            marker=marker, markersize=7, markeredgecolor="w", label=layer)
                ax.set(ylabel=name)
                ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
                least = (0, 0.01) if bound == "m" else (0.95, 1.05) if role == "weight" else (1, 1)
                low, high = ax.get_ylim()
                ax.set_ylim(min(low, least[0]), max(high, least[1]))        # no magnifying glass on what stands still
                ax.axhline(0, color=GREY, linewidth=1.4, linestyle=":", zorder=0) if low < 0 < high else None
            column[0].set_title("(a) activations" if role == "activation" else "(b) weights, over M before training")
            column[1].set_xlabel("epoch (0: before training)")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(styles))
        figure.supxlabel(footnote, fontsize=10, color=GREY)
    return figure


@unless_missing("M")
def describe_interval_bounds(table: pd.DataFrame) -> str:
    """Alternative text for :func:`interval_bounds`, with the ends of the lines."""
    ends = table[table.epoch == table.epoch.max()]
    weights, activations = (ends[ends.role == role] for role in PARTS)
    return (f"Four panels of lines by epoch, one line for each of {table.layer.nunique()} layers: upper bounds M above "
            f"lower bounds m, of activations on the left and of weights on the right. After {table.epoch.max()} epochs "
            f"M of activations lies between {activations.M.min():.2f} and {activations.M.max():.2f}, their m between "
            f"{activations.m.min():.3f} and {activations.m.max():.3f}; M of weights between "
            f"{(weights.M / weights.begin).min():.2f} and {(weights.M / weights.begin).max():.2f} of where it began, "
            f"their m between {(weights.m / weights.begin).min():.3f} and {(weights.m / weights.begin).max():.3f} of "
            "that.")


def interval_motion(runs: Sequence[Run]) -> pd.DataFrame:
    """How far the bounds go in training, in % of the interval's width before it: one row per role and bound.

    Median layer and farthest layer from before training to its end; the longest way that any layer's bound goes within
    the last quarter of the epochs.  Means over the runs.
    """
    rows = []
    for run in runs:
        table = last_bounds(run)
        for role, bound in ((role, bound) for role in PARTS for bound in ("m", "M")):
            mine = table[table.role == role]
            mine = mine.assign(at=100 * mine[bound] / mine.width)
            way, late = mine.groupby("layer").at, mine[mine.epoch >= 0.75 * mine.epoch.max() // 1].groupby("layer").at
            moved = (way.last() - way.first()).abs()
            rows.append((PARTS[role], bound, moved.median(), moved.max(), (late.max() - late.min()).max()))
    columns = ["intervals of", "bound", "median layer (%)", "farthest layer (%)", "in the last quarter, at most (%)"]
    return pd.DataFrame(rows, columns=columns).groupby(columns[:2], sort=False).mean().reset_index()


@unless_missing()
def interval_distributions(runs: Mapping[int, Run], layer: str, *, footnote: str) -> Figure:
    """QIL, Fig. 5: the values of one layer, above weights and below activations, float and then at fewer and fewer
    bits, with the bounds of the interval (dashed) and its centre (dotted).  ``runs``: {bits: run}."""
    runs = {bits: run for bits, run in runs.items() if not run.absent}
    panels = [(None, next(iter(runs.values()))), *runs.items()]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(2, len(panels), figsize=(11, 6), sharex="row", sharey="row")
        for row, (role, name) in zip(axes, PARTS.items()):
            for ax, (bits, run) in zip(row, panels):
                bars = run.find(interval_histograms).set_index(["network", "layer", "role"])
                mine, bars = _end(run, layer, role), bars.loc["quantized" if bits else "float", layer, role]
                ax.bar(bars.left, bars.share / bars.width, bars.width, align="edge", color="#B5B5B5")
                for sign in (1, -1)[:bool(bits) * (1 + (role == "weight"))]:
                    for x in (mine.m, mine.M):
                        bound = ax.axvline(sign * x, color=ORANGE, linestyle=(0, (4, 2)), linewidth=1.8)
                    centre = ax.axvline(sign * mine.c, color=GREEN, linestyle=(0, (1, 1.2)), linewidth=2.2)
                if bits and role == "activation":
                    ax.text(0.96, 0.95, f"by ReLU: {100 * mine.zero:.1f} %", transform=ax.transAxes, ha="right",
                            va="top", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8})
                ax.set(title=f"{bits} bits: {100 * mine.pruned_of_all:.1f} % pruned" if bits else "float",
                       yscale="linear" if role == "weight" else "log")
                ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
                ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())
            row[0].set_ylabel(f"{name}\ndensity" if role == "weight" else f"{name}\ndensity of those > 0 (log)")
        figure.legend([bound, centre], ["bounds m and M of the interval", "its centre c"],
                      loc="outside upper center", ncols=2, handlelength=2.6)
        figure.supxlabel(f"value, in the layer {layer}\n{footnote}", fontsize=10, color=GREY)
    return figure


def _end(run: Run, layer: str, role: str) -> pd.Series:
    """The row of ``interval_pruning`` for a layer and a role, with m and M.  InputError if there is no such layer."""
    table = run.find(interval_pruning)
    rows = table[(table.layer == layer) & (table.role == role)]
    if rows.empty:
        raise InputError(f"no quantized layer {layer!r}: choose from {', '.join(dict.fromkeys(table.layer))}")
    row = rows.iloc[0].copy()
    side = row.d - row.d / (2 ** (row.bits - (role == "weight")) - 1)
    row["m"], row["M"] = row.c - side, row.c + side
    return row


@unless_missing()
def describe_interval_distributions(runs: Mapping[int, Run], layer: str) -> str:
    """Alternative text for :func:`interval_distributions`, with bounds and shares."""
    said, runs = [], {bits: run for bits, run in runs.items() if not run.absent}
    for role, name in PARTS.items():
        for bits, run in runs.items():
            mine = _end(run, layer, role)
            said.append(f"{name} at {bits} bits from {mine.m:.3g} to {mine.M:.3g}, "
                        f"{100 * mine.pruned_of_all:.1f} % pruned")
    return (f"Histograms in two rows, weights and activations of {layer}, in float and at "
            f"{', '.join(map(str, runs))} bits, with dashed vermilion lines at the bounds of the interval and dotted "
            f"green ones at its centre, for weights on both sides of 0. Intervals: {'; '.join(said)}.")


def interval_values(runs: Mapping[int, Run]) -> pd.DataFrame:
    """What :func:`interval_distributions` draws of these runs, as far as they are there: ``interval_histograms`` with a
    column bits."""
    tables = [run.find(interval_histograms).assign(bits=bits) for bits, run in runs.items() if not run.absent]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def layer_styles(layers: pd.Series) -> dict[str, tuple[str, str]]:
    """{layer: (colour, marker)}."""
    names = list(dict.fromkeys(layers))
    return {name: LAYERS[i % len(LAYERS)] for i, name in enumerate(names)}
