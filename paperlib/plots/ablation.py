"""PROFIT, Table 3: the ladder from PACT to PROFIT."""
from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..analysis.ablation import AT_ONCE, STEPWISE
from ..analysis.summaries import mean_accuracy
from ..runs.outcomes import FAILED
from .style import BLUE, GREY, ORANGE, STYLE, blank, finish


def draw(table: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw PROFIT's Table 3: a panel for each bit-width, rows from top to bottom as in the table.

    Points are seeds, bars their mean; the dotted line is guessing.  Crosses are trainings that failed, which no bar
    counts.  ``table``: :func:`paperlib.analysis.ablation.ladder`.
    """
    if table.accuracy.isna().all():
        return blank(footnote)
    bits, rows = list(table.bits.unique()), list(table.row.unique())
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(bits), figsize=(11, 1.8 + 0.45 * len(rows)), sharey=True, squeeze=False)
        for ax, b in zip(axes[0], bits):
            panel = table[table.bits == b].assign(y=lambda t: t.row.map(rows.index))
            for quantized, color, marker in ((AT_ONCE, BLUE, "o"), (STEPWISE, ORANGE, "D")):
                part = panel[panel.quantized == quantized]
                if part.empty:
                    continue
                failed, part = part[part.outcome == FAILED], part[part.outcome == ""]
                ax.plot(failed.accuracy, failed.y, "x", color=GREY, markersize=9, markeredgewidth=2)
                means = part.groupby("y").accuracy.mean()
                ax.barh(means.index, means, height=0.62, color=color, alpha=0.3)
                ax.plot(part.accuracy, part.y, marker, color=color, markersize=7, markeredgecolor="w",
                        label=f"quantized {quantized}")
                for y, mean in means.items():
                    ax.annotate(f"{mean:.1f}", (part[part.y == y].accuracy.max(), y), (9, 0),
                                textcoords="offset points", va="center")
            for y, row in panel[panel.outcome != ""].drop_duplicates("y").set_index("y").iterrows():
                ax.annotate(row.outcome, (row.accuracy if row.outcome == FAILED else row.chance, y), (9, 0),
                            textcoords="offset points", va="center", color=GREY)
            guess = panel.chance.iloc[0]
            ax.axvline(guess, color=GREY, linestyle=":")
            ax.annotate("guessing", (guess, -0.62), (4, 0), textcoords="offset points", va="center", color=GREY)
            ax.set(title=f"weights and activations: {b} bits", xlabel="validation accuracy (%)",
                   ylim=(len(rows) - 0.4, -1), xlim=(0, 1.14 * table.accuracy.max()))
            ax.grid(axis="y", visible=False)
        axes[0, 0].set_yticks(range(len(rows)), rows)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        told = "; ".join(f"{b} bits: " + ", ".join(f"{row} {mean_accuracy(mine)}" for row, mine
                                                   in table[table.bits == b].groupby("row", sort=False)) for b in bits)
        return finish(figure, "A panel for each bit-width with a horizontal bar for each row of the ladder: "
                      "validation accuracy in percent, mean over seeds, a point for each seed and a dotted line at "
                      f"guessing. {told}.", footnote)
