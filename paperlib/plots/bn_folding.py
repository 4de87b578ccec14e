"""PROFIT, supplement section 5: ranges of folded weights, and training with them."""
from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..analysis.bn_folding import FOLDED, KEPT, part
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE, finish

MEASURES = {"relative": "max|w| / median|w| of a layer", "channels": "largest / median channel's max|w|"}
KINDS = {"depthwise": (ORANGE, "^"), "1x1": (BLUE, "o"), "first": (GREEN, "s")}
# folded, per channel -> colour, marker
CELLS = {(False, False): (BLUE, "o"), (True, False): (ORANGE, "s"), (False, True): (GREEN, "^"),
         (True, True): (PURPLE, "D")}


def draw_ranges(tables: Mapping[str, pd.DataFrame], *, footnote: str) -> Figure:
    """Draw a dot for each layer: its weights' range with batch norm kept (across) and folded (up), over the scale of
    the layer's usual weight and over the scale of its usual channel.

    ``tables``: {network: :func:`paperlib.analysis.bn_folding.ranges`}.
    """
    told = {measure: [] for measure in MEASURES}
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(2, len(tables), figsize=(5 * len(tables), 8.8), squeeze=False)
        for row, (measure, label) in zip(axes, MEASURES.items()):
            for ax, (network, table) in zip(row, tables.items()):
                both = table.pivot(index=["layer", "kind"], columns="weights", values=measure).reset_index()
                low, high = both[[KEPT, FOLDED]].min().min() * 0.9, both[[KEPT, FOLDED]].max().max() * 1.6
                ax.plot([low, high], [low, high], color=GREY, linewidth=1.2)
                ax.text(0.97, 0.03, "below the line: narrower", transform=ax.transAxes, ha="right", color=GREY)
                ax.text(0.03, 0.97, "above: wider when folded", transform=ax.transAxes, va="top", color=GREY)
                for name, (colour, marker) in KINDS.items():
                    mine = both[both.kind.map(part) == name]
                    ax.plot(mine[KEPT], mine[FOLDED], marker, color=colour, markersize=7, alpha=0.8, label=name)
                ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), xlabel=KEPT, ylabel=FOLDED,
                       title=f"{network}\n{label}" if measure == "relative" else label)
                for axis in (ax.xaxis, ax.yaxis):
                    axis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 3, 5)))
                    axis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
                    axis.set_minor_locator(mpl.ticker.NullLocator())
                told[measure].append(f"{(both[FOLDED] > both[KEPT]).mean():.0%} in {network}")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        return finish(figure, "Scatter plots on log axes with a dot for each convolution: the range of its weights "
                      "with batch norm kept across and folded upwards, over the median weight and over the median "
                      "channel. Folding widens it over the median weight in this share of the layers: "
                      f"{', '.join(told['relative'])}; over the median channel: {', '.join(told['channels'])}.",
                      footnote, "Of the layers, folding widens the range over the median channel for "
                      f"{' and '.join(told['channels'])}")


def draw_accuracy(accuracy: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw accuracy by bit-width, just quantized and after training, with batch norms kept and folded (means over
    seeds); ``accuracy``: :func:`paperlib.analysis.bn_folding.accuracies`.

    Float weights have no ranges: what is drawn for "per channel" there is the run per tensor.
    """
    widths, ends = sorted(accuracy.bits.unique()), accuracy[["float", "before", "after"]].stack()
    start, room = accuracy["float"].mean(), max(ends.max() - ends.min(), 2.0)
    bottom, top = max(0, ends.min() - 0.12 * room), ends.max() + 0.12 * room
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 5.6), sharey=True)
        for ax, stage, title in zip(axes, ("before", "after"), ("just quantized", "after training")):
            for height, line, words in ((start, "-", "float network at the start"),
                                        (start / 2, ":", "half of it: a run below has failed")):
                if height < bottom:
                    continue
                ax.axhline(height, color=GREY, linewidth=1.2, linestyle=line)
                if ax is axes[0]:
                    ax.annotate(words, (0.02, height), (0, 4), textcoords="offset points", color=GREY,
                                xycoords=("axes fraction", "data"))
            for i, ((folded, channel), (colour, marker)) in enumerate(CELLS.items()):
                alike = (accuracy.per_channel == channel) | (accuracy.bits == 32)
                mine = accuracy[(accuracy.folded == folded) & alike]
                if mine.empty or set(mine.bits) == {32}:
                    continue
                by_bits = mine.groupby("bits")[stage]
                places = [widths.index(bits) + 0.12 * (i - 1.5) for bits in by_bits.groups]
                label = f"{FOLDED if folded else KEPT}, per {'channel' if channel else 'tensor'}"
                spread = np.stack([by_bits.mean() - by_bits.min(), by_bits.max() - by_bits.mean()])
                spread = spread.clip(min=0)     # the mean of equal values is not always that value
                ax.errorbar(places, by_bits.mean(), spread, color=colour, marker=marker, linestyle="", markersize=10,
                            label=label, capsize=3)
            ax.set(title=title, xlabel="bits of the weights", ylim=(bottom, top), xlim=(-0.5, len(widths) - 0.5))
            ax.set_xticks(range(len(widths)), ["float" if bits == 32 else str(bits) for bits in widths])
        axes[0].set_ylabel("validation accuracy (%)")
        figure.legend(*axes[1].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        means = accuracy.groupby("cell", sort=False)[["before", "after"]].mean()
        told = "; ".join(f"{cell}: {row.before:.1f}, then {row.after:.1f}" for cell, row in means.iterrows())
        return finish(figure, "Two panels of dots, validation accuracy in percent by bits of the weights, just "
                      "quantized and after training, with batch norms kept and folded, per tensor and per channel. "
                      f"From {accuracy['float'].mean():.1f} in float, means over seeds: {told}.", footnote,
                      _cost(accuracy))


def _cost(accuracy: pd.DataFrame) -> str:
    """Say in a sentence what folding changes at the fewest bits, per tensor, before and after training; "" if one of
    the two is missing."""
    rows = accuracy[(accuracy.bits == accuracy.bits.min()) & ~accuracy.per_channel]
    means = rows.groupby("folded")[["before", "after"]].mean().dropna()
    if len(means) < 2:
        return ""
    change = means.loc[True] - means.loc[False]
    return (f"At {accuracy.bits.min()} bits per tensor folding changes the accuracy by {change.before:+.1f} points at "
            f"once, by {change.after:+.1f} after training")
