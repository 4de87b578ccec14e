"""PROFIT, Table 3: the ladder from PACT to PROFIT."""
from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..analysis.ablation import AT_ONCE, STEPWISE, UNQUANTIZED
from ..analysis.summaries import mean_accuracy
from .style import BLUE, GREY, ORANGE, STYLE, blank, finish

MARKS = (AT_ONCE, BLUE, "o"), (STEPWISE, ORANGE, "D"), (UNQUANTIZED, GREY, "s")     # (quantized, colour, marker)


def draw(table: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw PROFIT's Table 3: a panel for each bit-width, rows from top to bottom as in the table, over the range of
    accuracies that they have.

    Small marks are seeds, with averaged weights as in the paper; large ones and numbers are their mean.  Trainings that
    failed and runs that are not there are named at the left edge and count in no mean; guessing has a dotted line where
    it lies within the range.  ``table``: :func:`paperlib.analysis.ablation.ladder`.
    """
    table = table.assign(accuracy=table.averaged)
    shown = table[table.outcome == ""]
    if shown.empty:
        return blank(footnote)
    bits, rows = list(table.bits.unique()), list(table.row.unique())
    low, high = shown.accuracy.min(), shown.accuracy.max()
    room = max(high - low, 2.0)
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(bits), figsize=(4.5 + 4.5 * len(bits), 2.2 + 0.45 * len(rows)), sharey=True,
                                    squeeze=False)
        for ax, b in zip(axes[0], bits):
            panel = table[table.bits == b].assign(y=lambda t: t.row.map(rows.index))
            there = panel[panel.outcome == ""]
            for quantized, color, marker in MARKS:
                part = there[there.quantized == quantized]
                means = part.groupby("y").accuracy.mean()
                ax.hlines(means.index, low - room, means, color=color, alpha=0.25, linewidth=1.5)
                ax.plot(part.accuracy, part.y, marker, color=color, markersize=5, alpha=0.6)
                ax.plot(means, means.index, marker, color=color, markersize=11, markeredgecolor="w",
                        label=f"quantized {quantized}" if quantized else "not quantized")
                for y, mean in means.items():
                    n = (panel.y == y).sum()
                    fewer = f" ({n} of {most} seeds)" if n < (most := panel.y.value_counts().max()) else ""
                    ax.annotate(f"{mean:.1f}{fewer}", (part[part.y == y].accuracy.max(), y), (11, 0),
                                textcoords="offset points", va="center")
            for (y, outcome), lost in panel[panel.outcome != ""].groupby(["y", "outcome"]):
                several = f"{len(lost)} of {n} seeds: " if len(lost) < (n := (panel.y == y).sum()) else ""
                ax.annotate(several + outcome, (low - 0.15 * room, y), (6, 0 if not several else -9),
                            textcoords="offset points", va="center", color=GREY, fontsize=11)
            if (guess := panel.chance.iloc[0]) > low - 0.15 * room:
                ax.axvline(guess, color=GREY, linestyle=":")
                ax.annotate("guessing", (guess, -0.62), (4, 0), textcoords="offset points", va="center", color=GREY)
            ax.set(title=f"weights and activations: {b} bits", ylim=(len(rows) - 0.4, -1),
                   xlabel="validation accuracy, averaged weights (%)", xlim=(low - 0.15 * room, high + 0.2 * room))
            ax.grid(axis="y", visible=False)
        axes[0, 0].set_yticks(range(len(rows)), rows)
        marks = {label: mark for ax in axes[0] for mark, label in zip(*ax.get_legend_handles_labels())}
        figure.legend(marks.values(), marks, loc="outside upper center", ncols=len(marks))
        told = "; ".join(f"{b} bits: " + ", ".join(f"{row} {mean_accuracy(mine)}" for row, mine
                                                   in table[table.bits == b].groupby("row", sort=False)) for b in bits)
        return finish(figure, "A panel for each bit-width with a row for each rung of the ladder: validation accuracy "
                      f"in percent, a small mark for each seed and a large one for their mean. {told}.", footnote,
                      _gain(shown))


def _gain(shown: pd.DataFrame) -> str:
    """Say in a sentence what the last quantized row adds to the one before it, at each bit-width, in the mean over the
    seeds that both have; "" if one of them is missing everywhere."""
    shown = shown[shown.quantized != UNQUANTIZED]
    if len(rows := list(shown.row.unique())) < 2:
        return ""
    seeds = shown.pivot_table(index=["bits", "seed"], columns="row", values="accuracy").reindex(columns=rows[-2:])
    gains = (seeds[rows[-1]] - seeds[rows[-2]]).dropna().groupby("bits", sort=False).agg(["mean", "size"])
    if gains.empty:
        return ""
    told = ", ".join(f"{gain['mean']:+.1f} points at {bits} bits (n = {gain['size']:.0f})"
                     for bits, gain in gains.iterrows())
    return f"{rows[-1].removeprefix('+ ')} against {rows[-2].removeprefix('+ ')}: {told}"
