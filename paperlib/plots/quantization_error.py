"""Lesson 1: what a grid costs: the part of a step, the range, the bits, the floor of h-swish, a layer's output."""
from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..analysis.quantization_error import best
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, STYLE, YELLOW, finish

BITS = {2: ORANGE, 3: YELLOW, 4: GREEN, 5: SKY, 6: BLUE, 8: PURPLE}
MARKS = [(BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "^", "-."), (PURPLE, "D", ":"), (YELLOW, "v", "-")]


def _beside(ax: Axes, x: float, y: float, text: str, colour: str, up: float = 0) -> None:
    """Write a name to the right of the end of a curve."""
    ax.annotate(text, (x, y), xytext=(7, up), textcoords="offset points", color=colour, va="center",
                annotation_clip=False)


def draw_rounding(ratios: pd.DataFrame) -> Figure:
    """Draw mean squared rounding error divided by step**2 / 12, over bits; a column for each tensor, bits as index."""
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(9.6, 4.4))
        ax.axhline(1, color=GREY, linewidth=1.4, label="step²/12")
        for (name, column), (colour, marker, line) in zip(ratios.items(), MARKS):
            ax.plot(column, line, marker=marker, color=colour, markersize=7, label=name)
        ax.set(xlabel="bits", ylabel="rounding error / (step²/12)", ylim=(0, None))
        ax.set_xticks(ratios.index)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        low, high = ratios.index[0], ratios.index[-1]
        told = "; ".join(f"{name} {column[low]:.2f} and {column[high]:.2f}" for name, column in ratios.items())
        return finish(figure, "Curves over the number of bits, one for each tensor, of the rounding error divided by "
                      f"a twelfth of the squared step, and a line at 1. At {low} and at {high} bits: {told}.")


def draw_ranges(scans: Mapping[str, pd.DataFrame], shown: int = 4) -> Figure:
    """Draw a panel for each tensor ({title: scans of several bits}): error over the greatest level, the least marked,
    and the two parts at ``shown`` bits."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(scans), figsize=(11.4, 4.8), sharey=True, squeeze=False)
        for ax, (title, table) in zip(axes[0], scans.items()):
            for bits, rows in table.groupby("bits"):
                ax.plot(rows.range, rows.error, color=BITS[bits])
                _beside(ax, rows.range.iloc[-1], rows.error.iloc[-1], f"{bits} bits", BITS[bits])
            ax.plot(best(table).range, best(table).error, "o", color="black", markersize=6, zorder=3)
            two = table[table.bits == shown]
            ax.plot(two.range, two.rounding, "--", color=GREY, linewidth=1.4)
            ax.plot(two.range, two.clipping, ":", color=GREY, linewidth=1.8)
            ax.set(yscale="log", title=title, xlabel="greatest level of the grid", xlim=(0, None),
                   ylim=(min(scan.error.min() for scan in scans.values()) / 1.6, 1.5))
        axes[0, 0].set_ylabel("squared error / mean square (log)")
        handles = [plt.Line2D([], [], color=GREY, ls="--"), plt.Line2D([], [], color=GREY, ls=":"),
                   plt.Line2D([], [], marker="o", color="black", ls="")]
        figure.legend(handles, [f"rounding alone, {shown} bits", f"clipping alone, {shown} bits", "least error"],
                      loc="outside lower center", ncols=3)
        told = "; ".join(f"{title}: " + ", ".join(f"at {b} bits {row.error:.4f} at {row.range:.2f}" for b, row
                                                  in best(table).iterrows()) for title, table in scans.items())
        return finish(figure, "Curves of the squared error over the greatest level of the grid, one for each number "
                      "of bits, each with a lowest point; the rounding part rises to the right, the clipping part "
                      f"falls. Least errors, {told}.")


def draw_decibels(table: pd.DataFrame) -> Figure:
    """Draw signal-to-noise ratio over bits, a panel for each tensor (columns tensor, bits, to the maximum, best range)
    in decibels."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, table.tensor.nunique(), figsize=(11.4, 4.2), sharey=True, squeeze=False)
        for ax, (name, rows) in zip(axes[0], table.groupby("tensor", sort=False)):
            top, right = rows["best range"].iloc[-1], rows.bits.iloc[-1]
            ax.plot(rows.bits, top - 6.02 * (right - rows.bits), ":", color=GREY, label="6.02 dB a bit")
            for column, (colour, marker, line) in zip(["best range", "to the maximum"], MARKS):
                ax.plot(rows.bits, rows[column], line, marker=marker, color=colour, markersize=7, label=column)
            ax.set(title=name, xlabel="bits")
            ax.set_xticks(rows.bits)
        axes[0, 0].set_ylabel("signal to noise (dB)")
        axes[0, 0].legend(loc="upper left")
        ends = [(name, rows.iloc[0], rows.iloc[-1]) for name, rows in table.groupby("tensor", sort=False)]
        told = "; ".join(f"{name} " + ", ".join(f"{first[column]:.0f} to {last[column]:.0f} dB with the {words}"
                                                for column, words in (("best range", "best range"),
                                                                      ("to the maximum", "range to the maximum")))
                         for name, first, last in ends)
        return finish(figure, "Two rising curves a panel, signal-to-noise ratio over bits, beside a dotted line of 6 "
                      f"decibels a bit. From {ends[0][1].bits} to {ends[0][2].bits} bits: {told}.")


def draw_zero(scans: Mapping[str, pd.DataFrame], places: Mapping[int, float]) -> Figure:
    """Draw a panel for each tensor: the error over the greatest level of a grid that starts at -3/8.

    ``places``: {number of steps from -3/8 to 0: greatest level}, where 0 is a level."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(scans), figsize=(11.4, 4.2), squeeze=False)
        for ax, (title, scan) in zip(axes[0], scans.items()):
            ax.plot(scan.range, scan.error, color=BLUE)
            for steps, top in places.items():
                ax.axvline(top, color=ORANGE, linestyle="--", linewidth=1.4)
                ax.annotate(f"{steps} step{'s' * (steps > 1)}", (top, 1), xycoords=("data", "axes fraction"),
                            xytext=(4, -4), va="top", textcoords="offset points", color=ORANGE)
            ax.set(xlabel="greatest level of the grid", title=title, ylim=(0, 4 * scan.error.min()),
                   xlim=(scan.range.min(), scan.range.max()))
        axes[0, 0].set_ylabel("squared error / mean square")
        figure.legend([plt.Line2D([], [], color=ORANGE, ls="--")], ["0 is a level, so many steps above −3/8"],
                      loc="outside lower center")
        least = "; ".join(f"{title}, least {scan.error.min():.3f} at {scan.range[scan.error.idxmin()]:.2f}"
                          for title, scan in scans.items())
        return finish(figure, f"Curves of squared error over the greatest level of a grid from -3/8: {least}. Dashed "
                      f"lines at {', '.join(f'{top:.2f}' for top in sorted(places.values()))} mark where 0 is a level "
                      "of the grid.")


def draw_layers(table: pd.DataFrame) -> Figure:
    """Draw a dot for each layer: signal-to-noise ratio of output over that of the weights (columns kind, weights,
    output, in decibels)."""
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(7.6, 4.8))
        most = table.weights.max() + 1
        ax.axline((most, most), slope=1, color=GREY, linewidth=1)
        ax.text(most - 0.05, most - 1, "equal", color=GREY, ha="right", va="top")
        for (kind, rows), (colour, marker, _) in zip(table.groupby("kind", sort=False), MARKS):
            ax.plot(rows.weights, rows.output, marker, color=colour, markersize=8, label=kind)
        ax.set(xlabel="weights: signal to noise (dB)", ylabel="output: signal to noise (dB)",
               xlim=(table.weights.min() - 1, most))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0.2)
        told = "; ".join(f"{kind}: weights {rows.weights.median():.1f}, output {rows.output.median():.1f}"
                         for kind, rows in table.groupby("kind", sort=False))
        return finish(figure, f"A cloud of {len(table)} dots, one for each layer: decibels of output over decibels of "
                      f"weights; {(table.output > table.weights).sum()} lie above the line where both are equal. "
                      f"Medians by kind of layer, {told}.")
