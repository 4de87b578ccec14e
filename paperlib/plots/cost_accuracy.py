"""PROFIT, supplement Fig. 4: accuracy against bit operations and against model size."""
from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from .accuracy import MARKERS
from .style import BLUE, GREY, ORANGE, STYLE, finish

SHORT = {"PROFIT": "", "whitepaper QAT (Krishnamoorthi)": "\nwhitepaper", "8-bit MobileNetV3 (Google)": "\nGoogle"}


def draw(points: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw PROFIT's supplement Fig. 4: the paper's points above, ours below, each with axes of its own.

    ``points``: the tables of :func:`paperlib.claims.paper_tables.cost_points` and
    :func:`paperlib.analysis.accuracy.points` under each other.  Left against bit operations,
    right against the size of the weights; labels are bits of (activations, weights).  Hollow: unverified.
    """
    with mpl.rc_context(STYLE):
        figure = plt.figure(figsize=(11, 10))
        parts = figure.subfigures(2, 1, hspace=0.05)
        for part, (data, rows) in zip(parts, points.groupby("data", sort=False)):
            _panels(part, rows, data)
        handles = [Line2D([], [], color="k", marker=marker, linestyle="", label=name)
                   for name, marker in MARKERS.items()]
        handles += [Line2D([], [], color=color, marker="o", linestyle="", label=label)
                    for color, label in ((ORANGE, "PROFIT"), (BLUE, "others"))]
        handles.append(Line2D([], [], color="k", marker="o", linestyle="", markerfacecolor="w", label="unverified"))
        parts[0].legend(handles=handles, loc="outside upper center", ncols=6, columnspacing=1.2, handletextpad=0.2)
        parts[1].supxlabel(footnote, fontsize=10, color=GREY)
        told = []
        for data, rows in points[points.ours].groupby("data", sort=False):
            few = rows[rows.w_bits == rows.w_bits.min()]
            told.append(f"{data}, {few.w_bits.iloc[0]} bits: " + ", ".join(
                f"{row.network} {row.accuracy:.1f} % at {row.gbops:.3g} GBOPs and {row.mb:.2g} MB"
                for row in few.itertuples()))
        return finish(figure, "Two rows of two panels, above the paper's networks, below ours: accuracy against bit "
                      "operations on the left and against the size of the weights on the right, points labelled with "
                      f"bits of activations and weights. PROFIT at its fewest bits, {'; '.join(told)}.",
                      takeaway=_saving(points[points.ours & (points.data == points.data.iloc[-1])]))


def _saving(ours: pd.DataFrame) -> str:
    """Say in a sentence what the fewest bits save and change against the most, from network to network; "" unless there
    are two bit-widths."""
    few, many = (ours[ours.w_bits == end].set_index("network") for end in (ours.w_bits.min(), ours.w_bits.max()))
    if (changes := (few.accuracy - many.accuracy).dropna()).empty or few.w_bits.equals(many.w_bits):
        return ""
    shares = (few.gbops / many.gbops).dropna()
    return (f"Here {few.w_bits.iloc[0]} bits take {shares.min():.0%} to {shares.max():.0%} of the bit operations of "
            f"{many.w_bits.iloc[0]} bits; accuracy changes by {changes.min():+.1f} to {changes.max():+.1f} points")


def _panels(part: SubFigure, rows: pd.DataFrame, data: str) -> None:
    axes = part.subplots(1, 2, sharey=True)
    for ax, column, label in zip(axes, ("gbops", "mb"), ("10⁹ bit operations for one image",
                                                          "size of the weights (MB)")):
        for (network, ours), line in rows.groupby(["network", "ours"]):
            line = line.sort_values(column)
            color = ORANGE if ours else BLUE
            if ours:
                ax.plot(line[column], line.accuracy, color=color, alpha=0.35)
            for row in line.to_dict("records"):
                hollow = row["confidence"] == "unverified"
                ax.plot(row[column], row["accuracy"], MARKERS[network], markersize=10, color=color,
                        markerfacecolor="w" if hollow else color, markeredgewidth=1.8)
                text = f"({row['a_bits']},{row['w_bits']}){SHORT.get(row['method'], chr(10) + row['method'])}"
                ax.annotate(text, (row[column], row["accuracy"]), (0, -8), textcoords="offset points", ha="center",
                            va="top", color=color, linespacing=1.0,
                            path_effects=[withStroke(linewidth=3, foreground="w")])
        ax.set(xlabel=label)
        ax.margins(x=0.1, y=0.2)
    axes[0].set(title=data, ylabel="top-1 accuracy (%)")
