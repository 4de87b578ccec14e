"""QIL, Table 1: what may cause the losses at few bits, one thing changed at a time."""
from __future__ import annotations

import textwrap

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..analysis.qil_reasons import points
from ..analysis.summaries import accuracies_in_words, mean_accuracy
from ..claims.qil_tables import allowance
from ..runs.outcomes import FAILED
from .style import BLUE, GREY, ORANGE, STYLE, blank, finish


def draw(table: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw :func:`paperlib.analysis.qil_reasons.losses`: a panel for each bit-width, a bar for each change, means over
    seeds with a point for each; the dashed line is the paper's loss."""
    if table.loss.isna().all():
        return blank(footnote)
    changes = list(table.changed.unique())
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, table.bits.nunique(), figsize=(11, 1.9 + 0.75 * len(changes)), sharey=True,
                                    squeeze=False)
        for ax, (bits, rows) in zip(axes[0], table.groupby("bits", sort=False)):
            printed = allowance(rows.w_bits.iloc[0], rows.a_bits.iloc[0])
            for y, changed in enumerate(changes):
                cell = rows[rows.changed == changed]
                if cell.loss.isna().all():
                    ax.text(0.02, y, cell.outcome.max(), color=GREY, fontsize=11, va="center",
                            transform=ax.get_yaxis_transform())
                    continue
                ax.barh(y, cell.loss.mean(), height=0.6, color=BLUE if y else GREY, alpha=0.35)
                ax.plot(cell.loss, [y] * len(cell), "o", color=BLUE if y else GREY, markeredgecolor="w")
                ax.annotate(f"{cell.loss.mean():.1f}  ({cell.accuracy.mean():.1f} of {cell.reference.mean():.1f} %)",
                            (cell.loss.max(), y), (9, 0), textcoords="offset points", va="center", fontsize=11)
            ax.axvline(printed, color=ORANGE, linestyle="--", label="the paper's loss")
            ax.set(title=f"{bits} (the paper loses {printed:g})", xlim=(0, 2 * rows.loss.max()),
                   ylim=(len(changes) - 0.5, -0.5),
                   xlabel="points below float, trained as long")
            ax.grid(axis="y", visible=False)
        axes[0, 0].set_yticks(range(len(changes)), [
            f"{name}\n({rows.width.iloc[0]:g} of the width, {' or '.join(map(str, sorted(set(rows.epochs))))} epochs)"
            for name, rows in table.groupby("changed", sort=False)])
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center")
        lines = [part for line in footnote.splitlines() for part in textwrap.wrap(line, 120)]
        means = table.groupby(["bits", "changed"], sort=False).loss.mean()
        told = "; ".join(f"{bits}: " + ", ".join(f"{changed} {points(loss)}" for changed, loss in means[bits].items())
                         for bits in table.bits.unique())
        return finish(figure, "Two panels with a bar for each thing that is changed: points of accuracy below the "
                      f"float network trained as long, and a dashed line at the paper's loss. {told}.",
                      "\n".join(lines), _smallest(means))


def draw_parts(table: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw :func:`paperlib.analysis.qil_reasons.parts`: a row for each part of the recipe that is left out, points are
    seeds, bars their mean, with the points that it costs; the dashed line is the recipe as it is.  Failed trainings are
    named with their accuracies."""
    results = table[table.outcome == ""]
    if results.empty:
        return blank(footnote)
    parts = list(table.part.unique())
    halo = [withStroke(linewidth=4, foreground="w")]
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(10, 1.9 + 0.6 * len(parts)))
        for y, part in enumerate(parts):
            good, color = results[results.part == part], BLUE if y else GREY
            if len(good) < (table.part == part).sum():
                ax.text(0.02, y if good.empty else y + 0.36, accuracies_in_words(table[table.part == part]), color=GREY,
                        va="center", fontsize=11, transform=ax.get_yaxis_transform(), path_effects=halo)
            if good.empty:
                continue
            ax.plot([good.accuracy.mean()] * 2, [y - 0.3, y + 0.3], color=color, linewidth=3)
            ax.plot(good.accuracy, [y] * len(good), "o", color=color, markeredgecolor="w")
            gain = f"  ({0 - good.loss.mean().round(1):+.1f} points)" if y else ""
            ax.annotate(f"{good.accuracy.mean():.1f}{gain}", (good.accuracy.max(), y), (9, 0),
                        textcoords="offset points", va="center", fontsize=11, path_effects=halo)
        ax.axvline(results[results.part == parts[0]].accuracy.mean(), color=GREY, linestyle="--", zorder=0)
        ax.set(ylim=(len(parts) - 0.5, -0.5), xlabel="validation accuracy (%)")
        ax.margins(x=0.4)
        ax.set_yticks(range(len(parts)), parts)
        ax.grid(axis="y", visible=False)
        told = ", ".join(f"{part} {mean_accuracy(rows)}" for part, rows in table.groupby("part", sort=False))
        return finish(figure, "A row for each part of QIL's recipe that is left out, with validation accuracy in "
                      f"percent at A2W2, a point for each seed and a bar for the mean. {told}.", footnote,
                      _worst(table))


def _worst(table: pd.DataFrame) -> str:
    """Say in a sentence how many trainings fail with which part left out, or else what costs most; "" if nothing."""
    failed = (table.outcome == FAILED).groupby(table.part, sort=False).agg(["sum", "size"]).query("sum > 0")
    if len(failed):
        return "Failed trainings: " + ", ".join(f"{count} of {runs} with {part}" for part, (count, runs)
                                                in failed.T.items())
    means = table.groupby("part", sort=False).loss.mean().dropna()
    return f"Most is lost with {means.idxmax()}: {means.max():.1f} points" if (means > 0).any() else ""


def _smallest(means: pd.Series) -> str:
    """Say in a sentence which change has the smallest loss; ``means``: points, by bits and change."""
    best = means.dropna().groupby("bits", sort=False).idxmin()
    return "QIL loses fewest points " + " and ".join(f"at {bits} with “{changed}” ({means[bits, changed]:.1f})"
                                                     for bits, changed in best)
