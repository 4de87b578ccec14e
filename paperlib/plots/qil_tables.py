"""QIL, Tables 1 and 2: accuracy on CIFAR-10 by bit-width, with and without distillation, and beside other methods."""
from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..analysis.qil_tables import DISTILLATION, FLOAT, LONGER, ROWS, WIDTHS, only_table2, width_name
from ..analysis.summaries import mean_accuracy
from ..claims import paper_tables
from ..runs.outcomes import FAILED
from .style import BLUE, GREEN, GREY, ORANGE, STYLE, blank, finish

MARKS = {0.0: ("o", BLUE), 0.5: ("s", ORANGE), 1.0: ("^", GREEN)}       # by lambda
LINES = {FLOAT: ":", LONGER: "--"}
CROSS = {"color": GREY, "markersize": 8, "markeredgewidth": 2}          # of a failed training


def draw_table1(ours: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw QIL's Table 1: accuracy by bit-width for each lambda, ours on the left, the paper's on the right, on a scale
    of its own.  Crosses are failed trainings, no results; what is far below is drawn at the foot.  Large marks are
    means over seeds, small ones single seeds; lines are float networks.

    ``ours``: :func:`paperlib.analysis.qil_tables.accuracies`.
    """
    if ours.accuracy.isna().all():
        return blank(footnote)
    paper = paper_tables.qil_accuracies()
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 5.4))
        for ax, table in zip(axes, (ours, paper)):
            failed = []
            for share, shift in zip(DISTILLATION, (-0.22, 0, 0.22)):
                marker, color = MARKS[share]
                rows = table[(table.method == "QIL") & (table.distillation == share) & table.bits.isin(WIDTHS)]
                rows = rows.assign(x=rows.bits.map(WIDTHS.index) + shift)
                rows, lost = _results(rows)
                failed += [*lost[["x", "accuracy"]].itertuples(index=False)]
                means = rows.groupby("x").accuracy.mean()
                ax.plot(means.index, means, marker, color=color, markersize=9, markeredgecolor="w", linestyle="-",
                        linewidth=1, label=f"λ = {share:g}")
                if "seed" in rows.columns:
                    ax.plot(rows.x, rows.accuracy, marker, color=color, markersize=3.5, alpha=0.6)
            ax.set_xticks(range(len(WIDTHS)), WIDTHS)
            ax.set(title=_title(table), xlabel="bits of activations (A) and weights (W)",
                   xlim=(-0.5, len(WIDTHS) - 0.5))
            ax.grid(axis="x", visible=False)
            ax.margins(y=0.12)
            _levels(ax.axhline, table)
            low, high = ax.get_ylim()
            for x, accuracy in failed:
                ax.plot(x, min(max(accuracy, low), high), "x", clip_on=False, **CROSS)
            ax.set_ylim(low, high)
        axes[0].set_ylabel("validation accuracy (%)")
        axes[1].set_ylabel("test accuracy (%), another scale")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=11)
        ours_told, paper_told = (
            "; ".join([*(f"lambda {share:g}: " + ", ".join(f"{bits} {mean_accuracy(mine)}" for bits, mine
                                                           in rows[rows.distillation == share].groupby("bits"))
                         for share in DISTILLATION), *_floats(table)])
            for table in (ours, paper) for rows in [table[(table.method == "QIL") & table.bits.isin(["A1W2", "A2W2"])]])
        return finish(figure, "Two panels, ours and the paper's on another scale, with accuracy in percent by "
                      "bit-width of activations and weights, a kind of mark for each lambda and horizontal lines for "
                      f"float networks. At the fewest bits, means over seeds, ours: {ours_told}; the paper: "
                      f"{paper_told}.",
                      footnote, _fall(ours, paper))


def draw_table2(ours: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw QIL's Table 2: ternary weights of QIL and other methods, rows as in the table; ours on the left, the paper's
    on the right, on a scale of its own.  Points are seeds, bars their mean; crosses are failed trainings.

    ``ours``: :func:`paperlib.analysis.qil_tables.accuracies`.
    """
    if ours.accuracy.isna().all():
        return blank(footnote)
    ours, paper = only_table2(ours), only_table2(paper_tables.qil_accuracies())
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 5.8), sharey=True)
        for ax, table in zip(axes, (ours, paper)):
            _levels(ax.axvline, table)
            ends, words = {}, {}
            for y, row in enumerate(ROWS):
                rows = table[[key == row for key in zip(table.method, table.w_bits, table.a_bits)]]
                results, lost = _results(rows)
                ax.plot(lost.accuracy, [y] * len(lost), "x", **CROSS)
                values = results.accuracy.dropna()
                if "outcome" in rows and (rows.outcome != "").any():
                    words[y] = rows.outcome.max()
                if values.empty:
                    continue
                marker, color = ("o", BLUE) if row[0] == "QIL" else ("D", ORANGE)
                ax.plot([values.mean()] * 2, [y - 0.3, y + 0.3], color=color, linewidth=3)
                ax.plot(values, [y] * len(values), marker, color=color, markersize=6, markeredgecolor="w")
                ends[y] = (values.max(), f"{values.mean():.1f}" if "seed" in table.columns else f"{values.mean():.2f}")
            ax.margins(x=0.05)
            low, high = ax.get_xlim()
            ax.set_xlim(low, high + 0.16 * (high - low))        # room for the numbers
            for y, (x, text) in ends.items():
                ax.annotate(text, (x, y), (9, 0), textcoords="offset points", va="center", fontsize=11,
                            path_effects=[withStroke(linewidth=4, foreground="w")])
            for y in set(range(len(ROWS))) - set(ends):
                ax.text(0.02, y, words.get(y, "no number"), color=GREY, fontsize=11, va="center",
                        transform=ax.get_yaxis_transform())
            for y in (5.5, 7.5):                                # the table's groups, by bits of activations
                ax.axhline(y, color=GREY, linewidth=0.8)
            ax.set(title=_title(table), ylim=(len(ROWS) - 0.4, -0.6))
            ax.grid(axis="y", visible=False)
        axes[0].set_xlabel("validation accuracy (%)")
        axes[1].set_xlabel("test accuracy (%), another scale")
        axes[0].set_yticks(range(len(ROWS)), [f"{method}  {width_name(w, a)}" for method, w, a in ROWS])
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=11)
        cells = dict(list(ours.groupby(["method", "w_bits", "a_bits"])))
        told = ", ".join([f"{row[0]} {width_name(*row[1:])} {mean_accuracy(cells[row])}" for row in ROWS
                          if row in cells] + _floats(ours))
        return finish(figure, "Two panels, ours and the paper's on another scale, with a row for each method and "
                      "bit-width of Table 2, its accuracy in percent as a point for each seed and a bar for the mean, "
                      f"and vertical lines for float networks. Ours, means over seeds: {told}.", footnote,
                      _rank(ours, paper))


def _fall(ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """Say in a sentence what QIL loses from the most to the fewest bits of Table 1 without a teacher, among the widths
    that both have; "" unless there are two."""
    here, there = (table[(table.method == "QIL") & (table.distillation == 0)].groupby("bits").accuracy.mean()
                   for table in (ours[ours.outcome == ""], paper))
    shared = [bits for bits in WIDTHS if bits in here and bits in there]
    if len(shared) < 2:
        return ""
    few, most = shared[0], shared[-1]
    return (f"From {most} to {few} QIL loses {here[most] - here[few]:.1f} points here, "
            f"{there[most] - there[few]:.1f} in the paper (λ = 0)")


def _rank(ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """Say in a sentence which place QIL's ternary weights have among the methods with float activations; "" if QIL or
    all others are missing in ours."""
    told = []
    for table in (ours[ours.outcome == ""], paper):
        means = table[(table.a_bits == 32) & (table.w_bits < 32)].groupby("method").accuracy.mean().dropna()
        if "QIL" not in means or len(means) < 2:
            return ""
        told.append(f"number {(means > means['QIL']).sum() + 1} of {len(means)} methods")
    return f"With float activations QIL is {told[0]} here, {told[1]} in the paper"


def _results(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split rows into results and failed trainings; without a column outcome all are results."""
    failed = rows.outcome == FAILED if "outcome" in rows else pd.Series(False, rows.index)
    return rows[~failed], rows[failed]


def _title(table: pd.DataFrame) -> str:
    if "epochs" not in table.columns:
        return "the paper: 200 epochs, all images"
    first, whole = (table[table.method == name].epochs.max() for name in (FLOAT, "QIL"))
    return f"ours: {whole - first} epochs " + (f"after {first} in float" if first else "from a trained network")


def _levels(draw, table: pd.DataFrame) -> None:
    """A line for each float network, across the whole panel."""
    for name, style in LINES.items():
        if (rows := table[table.method == name]).accuracy.notna().any():
            draw(rows.accuracy.mean(), color=GREY, linestyle=style, linewidth=1.6, zorder=0, label=name)


def _floats(table: pd.DataFrame) -> list[str]:
    return [f"{name} {mean_accuracy(rows)}" for name in LINES if (rows := table[table.method == name]).size]
