"""PROFIT, supplement section 5: ranges of folded weights, and training with them."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..analysis.bn_folding import FOLDED, KEPT, name_of
from ..runs import Run
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE

MEASURES = {"relative": "max|w| / median|w| of a layer", "channels": "largest / median channel's max|w|"}
KINDS = {"depthwise": (ORANGE, "^"), "1x1": (BLUE, "o"), "other": (GREEN, "s")}
# folded, per channel -> colour, marker, how the line is drawn
CELLS = {(False, False): (BLUE, "o", "-"), (True, False): (ORANGE, "s", "-"), (False, True): (GREEN, "^", "--"),
         (True, True): (PURPLE, "D", "--")}


def folded_ranges(tables: Mapping[str, pd.DataFrame], *, footnote: str) -> Figure:
    """A dot for each layer: its weights' range with batch norm kept (across) and folded (up), over the scale of the
    layer's usual weight and over that of its usual channel.  ``tables``: {network: folded.weight_ranges}."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(2, len(tables), figsize=(5 * len(tables), 8.8), squeeze=False)
        for row, (measure, label) in zip(axes, MEASURES.items()):
            for ax, (network, table) in zip(row, tables.items()):
                both = _both(table, measure)
                low, high = both[[KEPT, FOLDED]].min().min() * 0.9, both[[KEPT, FOLDED]].max().max() * 1.6
                ax.plot([low, high], [low, high], color=GREY, linewidth=1.2)
                ax.text(0.97, 0.03, "below the line: narrower", transform=ax.transAxes, ha="right", color=GREY)
                ax.text(0.03, 0.97, "above: wider when folded", transform=ax.transAxes, va="top", color=GREY)
                for part, (colour, marker) in KINDS.items():
                    mine = both[both.kind.map(_part) == part]
                    ax.plot(mine[KEPT], mine[FOLDED], marker, color=colour, markersize=7, alpha=0.8,
                            label={"1x1": "1x1", "depthwise": "depthwise"}.get(part, "first"))
                ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), xlabel=KEPT, ylabel=FOLDED,
                       title=f"{network}\n{label}" if measure == "relative" else label)
                for axis in (ax.xaxis, ax.yaxis):
                    axis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 3, 5)))
                    axis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
                    axis.set_minor_locator(mpl.ticker.NullLocator())
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        figure.supxlabel(footnote, fontsize=10, color=GREY)
    return figure


def describe_folded_ranges(tables: Mapping[str, pd.DataFrame]) -> str:
    """Alternative text for :func:`folded_ranges`."""
    said = []
    for network, table in tables.items():
        both = {measure: _both(table, measure) for measure in MEASURES}
        relative, channels = ((b[FOLDED] > b[KEPT]).mean() for b in both.values())
        before, after = (both["channels"][weights].median() for weights in (KEPT, FOLDED))
        said.append(f"{network}: folding widens {relative:.0%} of layers over the median weight, {channels:.0%} "
                    f"over the median channel; that ratio's median goes from {before:.2f} to {after:.2f}")
    return (f"{2 * len(tables)} scatter plots with a dot for each convolution, the range of its weights with batch "
            f"norm kept across and folded upwards, on log axes with the diagonal drawn. {'; '.join(said)}.")


def folded_summary(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per network and kind of layer: medians over its layers, batch norm kept and folded."""
    rows = []
    for network, table in tables.items():
        for part in KINDS:
            mine = table[table.kind.map(_part) == part]
            if mine.empty:
                continue
            row = {"network": network, "layers": part if part != "other" else "first", "number": mine.layer.nunique()}
            for measure, name in (("range", "max|w|"), ("relative", "max/median"), ("channels", "channels"),
                                  ("zeroed", "channels rounded to 0")):
                for weights, short in ((KEPT, "kept"), (FOLDED, "folded")):
                    values = mine[mine.weights == weights][measure]
                    row[f"{name}, {short}"] = values.mean() if measure == "zeroed" else values.median()
            rows.append(row)
    return pd.DataFrame(rows)


def folding_accuracy(cells: Mapping[tuple[int, bool, bool], Sequence[Run]]) -> pd.DataFrame:
    """Validation accuracy (%), a row for each cell and seed: just quantized (before), after training (after), and that
    of the float network that the run began with (float); training loss at the end (train_loss)."""
    rows = []
    for (bits, folded, channel), runs in cells.items():
        for run in runs:
            accuracy = run.values("weights", "val", "accuracy")
            rows.append({"cell": name_of((bits, folded, channel)), "bits": bits, "folded": folded,
                         "per_channel": channel, "seed": run.recipe.seed,
                         "float": run.values("float", "val", "accuracy").iloc[-1],
                         "before": accuracy.loc[0], "after": accuracy.iloc[-1],
                         "train_loss": run.values("weights", "train").iloc[-1]})
    return pd.DataFrame(rows)


def folding(accuracy: pd.DataFrame, *, footnote: str) -> Figure:
    """Accuracy by bit-width, just quantized and after training, with batch norms kept and folded (means over seeds).

    Float weights have no ranges: what is drawn for "per channel" there is the run per tensor."""
    widths, top = sorted(accuracy.bits.unique()), accuracy[["float", "before", "after"]].max().max()
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 5.6), sharey=True)
        for ax, stage, title in zip(axes, ("before", "after"), ("just quantized", "after training")):
            start = accuracy["float"].mean()
            ax.axhline(start, color=GREY, linewidth=1.2)
            ax.axhline(start / 2, color=GREY, linewidth=1.2, linestyle=":")
            if ax is axes[0]:
                behind = {"color": GREY, "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}, "zorder": 3}
                ax.text(0, 1.02 * start, "float network at the start", va="bottom", ha="left", **behind)
                ax.text(len(widths) - 0.8, 0.49 * start, "half of it: a run below has failed", va="top", ha="right",
                        **behind)
            for i, ((folded, channel), (colour, marker, line)) in enumerate(CELLS.items()):
                alike = (accuracy.per_channel == channel) | (accuracy.bits == 32)
                mine = accuracy[(accuracy.folded == folded) & alike]
                if mine.empty or set(mine.bits) == {32}:
                    continue
                by_bits = mine.groupby("bits")[stage]
                places = [widths.index(bits) + 0.06 * (i - 1.5) for bits in by_bits.groups]
                label = f"{FOLDED if folded else KEPT}, per {'channel' if channel else 'tensor'}"
                spread = np.stack([by_bits.mean() - by_bits.min(), by_bits.max() - by_bits.mean()])
                ax.errorbar(places, by_bits.mean(), spread, color=colour, marker=marker, linestyle=line, markersize=8,
                            label=label, capsize=3)
            ax.set(title=title, xlabel="bits of the weights", ylim=(0, 1.18 * top))
            ax.set_xticks(range(len(widths)), ["float" if bits == 32 else str(bits) for bits in widths])
        axes[0].set_ylabel("validation accuracy (%)")
        figure.legend(*axes[1].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        figure.supxlabel(footnote, fontsize=10, color=GREY)
    return figure


def folding_in_words(accuracy: pd.DataFrame) -> str:
    """What folding costs at each bit-width, in Markdown."""
    after = accuracy.groupby(["bits", "per_channel", "folded"]).after.mean().unstack()
    lines = []
    for (bits, channel), row in after.sort_index(ascending=[False, True]).iterrows():
        weights = "Float weights" if bits == 32 else f"{bits} bits per {'channel' if channel else 'tensor'}"
        lines.append(f"* {weights}: {row[False]:.1f} % with batch norms kept, {row[True]:.1f} % folded, a difference "
                     f"of {row[True] - row[False]:+.1f}.")
    return "\n".join(lines)


def describe_folding(accuracy: pd.DataFrame) -> str:
    """Alternative text for :func:`folding`, with the values that are drawn."""
    means = accuracy.groupby("cell", sort=False)[["before", "after"]].mean()
    said = "; ".join(f"{cell}: {row.before:.1f}, then {row.after:.1f}" for cell, row in means.iterrows())
    return ("Two panels of lines, validation accuracy in percent by bits of the weights, on the left just quantized, "
            "on the right after training, with batch norms kept and folded, per tensor and per channel. The float "
            f"networks begin at {accuracy['float'].mean():.1f}. Means over seeds: {said}.")


def _part(kind: str) -> str:
    return kind if kind == "depthwise" else "1x1" if kind in ("expand", "project") else "other"


def _both(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """One row per layer: kind, and the measure with batch norm kept and folded."""
    return table.pivot(index=["layer", "kind"], columns="weights", values=measure).reset_index()
