"""QIL, Table 3: ResNet-18 and AlexNet on photographs, with and without distillation."""
from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..analysis.qil_photographs import NETWORKS
from ..analysis.qil_tables import DISTILLATION
from ..analysis.summaries import mean_accuracy
from ..claims import paper_tables
from ..runs.outcomes import FAILED
from .qil_tables import MARKS
from .style import GREY, STYLE, blank, finish


def draw(ours: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw accuracy by bit-width: the paper's in the upper row, ours in the lower one, a column for each network and
    scales of their own.  Lines join means over seeds, small marks are seeds.  Dashed: the float network.  Crosses:
    failed trainings, which count for no mean.

    ``ours``: :func:`paperlib.analysis.qil_photographs.accuracies`.
    """
    if ours.accuracy.isna().all():
        return blank(footnote)
    paper = paper_tables.qil_photographs_accuracies()
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(2, len(NETWORKS), figsize=(10, 7.4), sharex=True)
        for row, (whose, table) in zip(axes, (("the paper, ImageNet", paper), ("ours", ours))):
            for ax, network in zip(row, NETWORKS.values()):
                here = table[table.network == network].dropna(subset="accuracy")
                if here.empty:
                    ax.set_axis_off()
                    ax.text(0.5, 0.5, f"{network}: none of ours", color=GREY, ha="center", transform=ax.transAxes)
                    continue
                full = here[here.bits == 32].accuracy.mean()
                ax.axhline(full, color=GREY, linestyle="--", linewidth=1.6, zorder=0)
                ax.annotate(f"float {full:.1f}", (1.8, full), (0, 4), textcoords="offset points", color=GREY,
                            fontsize=11, path_effects=[withStroke(linewidth=3, foreground="w")])
                for share in DISTILLATION:
                    marker, color = MARKS[share]
                    line = here[(here.bits < 32) & (here.distillation == share)]
                    if "outcome" in line:
                        failed, line = line[line.outcome == FAILED], line[line.outcome == ""]
                        ax.plot(failed.bits, failed.accuracy, "x", color=color, markersize=9, markeredgewidth=2)
                        ax.plot(line.bits, line.accuracy, marker, color=color, markersize=4, alpha=0.5)
                    if len(line):
                        means = line.groupby("bits").accuracy.mean()
                        ax.plot(means.index, means, marker=marker, color=color, markersize=8, markeredgecolor="w",
                                label=f"λ = {share:g}")
                ax.set(title=f"{network}, {whose}", xlim=(1.7, 5.3), xticks=[2, 3, 4, 5])
                ax.margins(y=0.15)
            row[0].set_ylabel("accuracy (%)")
        for ax in axes[-1]:
            ax.set_xlabel("bits of weights and activations")
        for ax in axes[0]:
            ax.xaxis.set_tick_params(labelbottom=True)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=11)
        return finish(figure, "Panels with accuracy in percent by bit-width, a line for each share of distillation, "
                      "the paper's on ImageNet above, ours on few and small photographs below. Without distillation, "
                      f"the paper: {_in_words(paper)}; ours: {_in_words(ours.dropna(subset='accuracy'))}.", footnote,
                      _fall(ours, paper))


def _fall(ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """Say in a sentence what the first of the networks loses from 4 to 2 bits without distillation; "" if one of
    the two is missing or failed in ours."""
    told, network = [], next(iter(NETWORKS.values()))
    for table in (ours[ours.outcome == ""], paper):
        rows = table[(table.network == network) & (table.distillation == 0)].groupby("bits").accuracy.mean().dropna()
        if not {2, 4} <= set(rows.index):
            return ""
        told.append(f"{rows[4] - rows[2]:.1f}")
    return f"From 4 to 2 bits {network} loses {told[0]} points here, {told[1]} in the paper (λ = 0)"


def _in_words(table: pd.DataFrame) -> str:
    alone = table[(table.bits == 32) | (table.distillation == 0)]
    return "; ".join(f"{network} " + ", ".join(
        f"{mean_accuracy(mine)} {'in float' if bits == 32 else f'at {bits} bits'}" for bits, mine
        in rows.groupby("bits")) for network, rows in alone.groupby("network", sort=False))
