"""QIL, Fig. 4 and 5: where trained intervals lie, epoch by epoch and among the values."""
from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..analysis.qil_intervals import ROLES
from ..errors import InputError
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, STYLE, YELLOW, blank, finish

LAYERS = [(BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"), (YELLOW, "v"), (SKY, "P"), (GREY, "X")]


def draw_bounds(table: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw QIL's Fig. 4: bounds by epoch, left of activations, right of weights, a line for each layer; above M, below
    m.

    ``table``: :func:`paperlib.analysis.qil_intervals.last_bounds`.  Weights differ in scale from layer to layer, so
    their bounds are divided by the layer's M before training.
    """
    if table.M.isna().all():
        return blank(footnote)
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
        ends = table[table.epoch == table.epoch.max()]
        weights, activations = (ends[ends.role == role] for role in ROLES)
        low, high = (f"{(weights[bound] / weights.begin).min():.2f} and {(weights[bound] / weights.begin).max():.2f}"
                     for bound in "mM")
        return finish(figure, f"Four panels of lines by epoch, one line for each of {len(styles)} layers: upper "
                      "bounds M above lower bounds m, of activations on the left and of weights, over M before "
                      f"training, on the right. After {table.epoch.max()} epochs M of activations lies between "
                      f"{activations.M.min():.2f} and {activations.M.max():.2f}; of weights M lies between {high} of "
                      f"where it began, and m between {low} of that.", footnote, _moves(ends))


def _moves(ends: pd.DataFrame) -> str:
    """Say in a sentence how far the upper bounds move, at the last epoch."""
    far = (ends.M / ends.begin - 1).abs().groupby(ends.role).max()
    return (f"In {ends.epoch.max()} epochs an upper bound moves by at most {far['activation']:.1%} for activations and "
            f"{far['weight']:.1%} for weights")


def draw_distributions(values: pd.DataFrame, intervals: pd.DataFrame, layer: str, *, footnote: str) -> Figure:
    """Draw QIL's Fig. 5: the values of one layer, above weights and below activations, float and then at fewer and
    fewer bits, with the bounds of the interval (dashed) and its centre (dotted).

    ``values``, ``intervals``: :func:`paperlib.analysis.qil_intervals.distributions`.  InputError if there is no such
    layer.
    """
    if values.empty:
        return blank(footnote)
    if layer not in set(intervals.layer):
        raise InputError(f"no quantized layer {layer!r}: choose from {', '.join(dict.fromkeys(intervals.layer))}")
    widths = list(dict.fromkeys(intervals.bits))
    values = values.set_index(["bits", "network", "layer", "role"]).sort_index(kind="stable")
    intervals, told = intervals.set_index(["bits", "layer", "role"]), {role: [] for role in ROLES}
    panels = [(widths[0], "float"), *((bits, "quantized") for bits in widths)]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(2, len(panels), figsize=(11, 6), sharex="row", sharey="row")
        for row, (role, name) in zip(axes, ROLES.items()):
            for ax, (bits, network) in zip(row, panels):
                bars, mine = values.loc[bits, network, layer, role], intervals.loc[bits, layer, role]
                ax.bar(bars.left, bars.share / bars.width, bars.width, align="edge", color="#B5B5B5")
                title = f"{bits} bits: {100 * mine.pruned_of_all:.1f} % pruned" if network == "quantized" else "float"
                if network == "quantized":
                    told[role].append(f"{100 * mine.pruned_of_all:.1f} % at {bits} bits")
                    for sign in (1, -1) if role == "weight" else (1,):
                        for x in (mine.m, mine.M):
                            bound = ax.axvline(sign * x, color=ORANGE, linestyle=(0, (4, 2)), linewidth=1.8)
                        centre = ax.axvline(sign * mine.c, color=GREEN, linestyle=(0, (1, 1.2)), linewidth=2.2)
                    if role == "activation":
                        ax.text(0.96, 0.95, f"by ReLU: {100 * mine.zero:.1f} %", transform=ax.transAxes, ha="right",
                                va="top", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8})
                ax.set(title=title, yscale="linear" if role == "weight" else "log")
                ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
                ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())
            row[0].set_ylabel(f"{name}\ndensity" if role == "weight" else f"{name}\ndensity of those > 0 (log)")
        figure.legend([bound, centre], ["bounds m and M of the interval", "its centre c"],
                      loc="outside upper center", ncols=2, handlelength=2.6)
        said = "; ".join(f"of the {name} {', '.join(told[role])}" for role, name in ROLES.items())
        return finish(figure, f"Histograms in two rows, weights and activations of {layer}, in float and at fewer and "
                      "fewer bits, with dashed lines at the bounds of the interval and dotted ones at its centre. It "
                      f"prunes {said}.", f"value, in the layer {layer}\n{footnote}",
                      _pruned(intervals.pruned_of_all.xs((layer, "weight"), level=("layer", "role")).reindex(widths)))


def _pruned(shares: pd.Series) -> str:
    """Say in a sentence which share of the weights is pruned at the most and at the fewest bits, {bits: share}."""
    return (f"The interval prunes {shares.iloc[0]:.0%} of this layer's weights at {shares.index[0]} bits and "
            f"{shares.iloc[-1]:.0%} at {shares.index[-1]}")


def layer_styles(layers: pd.Series) -> dict[str, tuple[str, str]]:
    """Return {layer: (colour, marker)}."""
    names = list(dict.fromkeys(layers))
    return {name: LAYERS[i % len(LAYERS)] for i, name in enumerate(names)}
