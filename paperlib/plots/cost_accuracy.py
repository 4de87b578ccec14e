"""PROFIT, supplement Fig. 4: accuracy against bit operations and against model size."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from .. import models
from ..analysis import bit_operations
from ..claims import published
from ..runs import Run
from .accuracy import MARKERS, by_network
from .style import BLUE, GREY, IMAGES, ORANGE, STYLE

PAPER = "the paper: ImageNet, 224×224"
SHORT = {"PROFIT": "", "whitepaper QAT (Krishnamoorthi)": "\nwhitepaper", "8-bit MobileNetV3 (Google)": "\nGoogle"}
COLUMNS = ["data", "network", "method", "ours", "a_bits", "w_bits", "accuracy", "confidence", "seeds", "gbops", "mb"]


def paper_points() -> pd.DataFrame:
    """The points of the paper's figure that have a source: ImageNet top-1 accuracy (%), GBOPs and MB of weights.

    PROFIT's networks have the two 8-bit exceptions, the others their bits in every layer.
    """
    rows = []
    for table in ("Table 1", "Table 2 / supp Fig.4"):
        ours = table == "Table 1"
        found = published.table(paper_id=published.PROFIT, table=table, metric="top1")
        for row in found[found.w_bits <= 8].itertuples():
            bits = int(row.a_bits), int(row.w_bits)
            for model in (m for m, name in bit_operations.NAMES.items() if name == row.model):
                rows.append((PAPER, row.model, "PROFIT" if ours else row.method, ours, *bits, row.value, row.confidence,
                             1, *bit_operations.on_imagenet(model, *bits, ours)))
    return pd.DataFrame(rows, columns=COLUMNS)


def our_points(found: Mapping[tuple[str, int], Sequence[Run]]) -> pd.DataFrame:
    """The same of the runs of :func:`paperlib.claims.experiments.accuracy`: means over seeds, costs of the networks as trained."""
    rows = []
    for (model, bits), runs in by_network(found).items():
        recipe, last = runs[0].recipe, runs[0].recipe.phases[-1]
        net = models.build(model, num_classes=recipe.num_classes, width=recipe.width, input_size=recipe.input_size)
        values = [run.values(last.name, "val", "accuracy").iloc[-1] for run in runs]
        here = f"here: {IMAGES[recipe.data]}, {recipe.input_size}×{recipe.input_size}"
        rows.append((here, bit_operations.NAMES[model], "PROFIT", True, bits, bits, sum(values) / len(values), "measured",
                     len(values), *bit_operations.total(models.quantize(net, last.scheme), recipe.input_size)))
    return pd.DataFrame(rows, columns=COLUMNS)


def cost_accuracy(points: pd.DataFrame, *, footnote: str) -> Figure:
    """PROFIT, supplement Fig. 4: the paper's points above, ours below, each with axes of its own.

    ``points``: :func:`paper_points` and :func:`our_points` under each other.  Left against bit operations, right
    against the size of the weights; labels are bits of (activations, weights).  Hollow: unverified.
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
    return figure


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


def describe_cost_accuracy(points: pd.DataFrame) -> str:
    """Alternative text for :func:`cost_accuracy`, with every point."""
    parts = []
    for data, rows in points.groupby("data", sort=False):
        values = "; ".join(f"{row.network} {row.method} ({row.a_bits},{row.w_bits}) {row.accuracy:.1f} % at "
                           f"{row.gbops:.3g} GBOPs and {row.mb:.2g} MB"
                           f"{' (unverified)' if row.confidence == 'unverified' else ''}" for row in rows.itertuples())
        parts.append(f"{data}: {values}.")
    return ("Two rows of two panels, above the paper's networks, below ours: accuracy against bit operations on the "
            "left and against the size of the weights on the right, points labelled with bits of activations and "
            "weights. " + " ".join(parts))
