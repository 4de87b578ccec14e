"""PROFIT among others: printed accuracies of MobileNets at 4 and 3 bits, and reruns."""
from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..claims.context import PRINTED, PROFIT, RERUN, WITHOUT
from .style import BLUE, GREEN, GREY, ORANGE, STYLE, finish

MARKERS = {PRINTED: "o", RERUN: "D", WITHOUT: "v"}
COLORS = {PRINTED: BLUE, RERUN: GREEN, WITHOUT: GREY}


def draw(table: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw a panel for each network and bit-width with a row for each method, best first.

    ``table``: :func:`paperlib.claims.context.results`.  Hollow: unverified.  PROFIT is orange; a grey tick is the
    source's own float network.
    """
    groups = list(table.groupby(["network", "bits"], sort=False))
    rows = [rows.groupby("method", sort=False).ngroups for _, rows in groups]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(len(groups), 1, figsize=(11, 1.6 + sum(0.33 * n + 0.75 for n in rows)), sharex=True,
                                    height_ratios=[n + 0.6 for n in rows], squeeze=False)
        for ax, ((network, bits), part) in zip(axes[:, 0], groups):
            methods = list(dict.fromkeys(part.method))
            for row in part.itertuples():
                y, color = methods.index(row.method), ORANGE if row.method == PROFIT else COLORS[row.kind]
                hollow = row.confidence == "unverified"
                ax.plot(row.accuracy, y, MARKERS[row.kind], color=color, markersize=8, markeredgewidth=1.8,
                        markerfacecolor="w" if hollow else color)
                if row.float == row.float:
                    ax.plot(row.float, y, "|", color=GREY, markersize=13, markeredgewidth=1.8)
            ax.set_yticks(range(len(methods)), methods)
            ax.set(ylim=(len(methods) - 0.4, -0.6), title=f"{network}, {bits} bits")
        axes[-1, 0].set_xlabel("ImageNet top-1 accuracy (%)")
        handles = [Line2D([], [], color=COLORS[kind], marker=marker, linestyle="", label=kind)
                   for kind, marker in MARKERS.items()]
        handles += [Line2D([], [], color=ORANGE, marker="s", linestyle="", label="PROFIT"),
                    Line2D([], [], color="k", marker="o", linestyle="", markerfacecolor="w", label="unverified"),
                    Line2D([], [], color=GREY, marker="|", linestyle="", markersize=13, label="its float network")]
        figure.legend(handles=handles, loc="outside upper center", ncols=6, columnspacing=1.2, handletextpad=0.2)
        sure = table[table.confidence != "unverified"]
        told = "; ".join(f"{network} at {bits} bits: " + (
            f"{len(part)} numbers from {part.accuracy.min():g} to {part.accuracy.max():g} %" if len(part) > 1 else
            f"{part.accuracy.item():g} %") for (network, bits), part in sure.groupby(["network", "bits"], sort=False))
        return finish(figure, "A panel for each MobileNet and bit-width with a row for each method: ImageNet accuracy "
                      "in percent as published, as rerun by others, and without training, hollow where no source is "
                      f"at hand. With a source, {told}.", footnote, _place(sure))


def _place(sure: pd.DataFrame) -> str:
    """Say in a sentence how many published results are above PROFIT's, in the first panel where both are; "" if there
    is none."""
    for (network, bits), rows in sure[sure.kind == PRINTED].groupby(["network", "bits"], sort=False):
        ours, others = (rows[own].accuracy for own in (rows.method == PROFIT, rows.method != PROFIT))
        if len(ours) and len(others):
            return (f"{(others > ours.max()).sum()} of {len(others)} other published results for {network} at {bits} "
                    f"bits are above PROFIT's {ours.max():.1f} %")
    return ""
