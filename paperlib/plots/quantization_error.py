"""Lesson 1: what few bits do to a network, levels over weights, the error over the step and over the range."""
from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from ..analysis.quantization_error import best
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, STYLE, YELLOW, finish

BITS = {2: ORANGE, 3: YELLOW, 4: GREEN, 5: SKY, 6: BLUE, 8: PURPLE}
MARKS = [(BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "^", "-."), (PURPLE, "D", ":")]
CLASSES = 10


def draw_cliff(accuracy: pd.DataFrame, full: float, title: str) -> Figure:
    """Draw accuracy over bits: a line for each column of ``accuracy`` (percent, bits as index), beside the float
    network's, ``full``, and chance among ten classes."""
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(9.6, 4.6))
        bits = accuracy.index
        for height, text in ((full, "float"), (100 / CLASSES, "chance")):
            ax.axhline(height, color=GREY, linewidth=1.2, linestyle=":")
            ax.annotate(text, (1, height), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                        va="center", color=GREY)
        for (name, column), (colour, marker, line) in zip(accuracy.items(), MARKS):
            ax.plot(column, line, marker=marker, color=colour, markersize=8, label=name)
        ax.set(title=title, xlabel="bits of a weight", ylabel="accuracy (%)", ylim=(0, full + 8),
               xlim=(max(bits) + 0.2, min(bits) - 0.2), xticks=bits)
        if len(accuracy.columns) > 1:
            figure.legend(loc="outside lower center", ncols=2)
        told = "; ".join(f"{name} " + ", ".join(f"{value:.0f} % at {b} bits" for b, value in column.items())
                         for name, column in accuracy.items())
        return finish(figure, f"Accuracy over the bits of a weight, beside a dotted line at {full:.0f} % for the float "
                      f"network and one at {100 / CLASSES:.0f} % for chance: {told}.")


def draw_levels(x: Tensor, levels: Tensor, title: str) -> Figure:
    """Draw a histogram of ``x`` (any shape), a line at each of the ``levels`` and, dotted, the places half-way between
    two of them, where a value changes its level."""
    x, levels = x.detach().flatten(), levels.sort().values
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(9.6, 3.8))
        reach = 1.08 * max(x.abs().max(), levels.abs().max()).item()
        ax.hist(x.numpy(), 90, (-reach, reach), color="#BBBBBB")
        for level in levels.tolist():
            ax.axvline(level, color=ORANGE)
        for place in ((levels[1:] + levels[:-1]) / 2).tolist():
            ax.axvline(place, color=GREY, linewidth=1, linestyle=":")
        ax.set(title=title, xlabel="value", ylabel="how many", xlim=(-reach, reach))
        shown = ", ".join(f"{level:.3g}" for level in levels.tolist())
        return finish(figure, f"A histogram of {len(x)} values from {x.min():.3g} to {x.max():.3g}, with lines at the "
                      f"{len(levels)} levels {shown} and dotted lines half-way between them.")


def draw_rounding(ratios: pd.DataFrame) -> Figure:
    """Draw mean squared rounding error divided by step**2 / 12, over bits; a column for each tensor, bits as index."""
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(9.6, 3.8))
        ax.axhline(1, color=GREY, linewidth=1.4, label="step²/12")
        for (name, column), (colour, marker, line) in zip(ratios.items(), MARKS):
            ax.plot(column, line, marker=marker, color=colour, markersize=7, label=name)
        ax.set(xlabel="bits", ylabel="rounding error / (step²/12)", ylim=(0, None), xticks=ratios.index)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        low, high = ratios.index.min(), ratios.index.max()
        told = "; ".join(f"{name} {column[low]:.2f} and {column[high]:.2f}" for name, column in ratios.items())
        return finish(figure, "Curves over the number of bits, one for each tensor, of the rounding error divided by "
                      f"a twelfth of the squared step, and a line at 1. At {low} and at {high} bits: {told}.",
                      takeaway=f"At {high} bits the rounding error is " + " and ".join(
                          f"{column[high]:.2f} × step²/12 ({name})" for name, column in ratios.items()))


def draw_ranges(scans: pd.DataFrame, shown: int = 3) -> Figure:
    """Draw the error over the last level of the grid, a curve for each number of bits, its minimum marked, and the two
    parts of the error at ``shown`` bits; ``scans``: :func:`paperlib.analysis.quantization_error.scan`, concatenated."""
    least = best(scans)
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(9.6, 4.8))
        for bits, rows in scans.groupby("bits"):
            ax.plot(rows.range, rows.error, color=BITS[bits])
            ax.annotate(f"{bits} bits", (rows.range.iloc[-1], rows.error.iloc[-1]), (7, 0), color=BITS[bits],
                        textcoords="offset points", va="center", annotation_clip=False)
        ax.plot(least.range, least.error, "o", color="black", markersize=7, zorder=3, label="smallest error")
        parts = scans[scans.bits == shown]
        ax.plot(parts.range, parts.rounding, "--", color=GREY, linewidth=1.4, label=f"rounding alone, {shown} bits")
        ax.plot(parts.range, parts.clipping, ":", color=GREY, linewidth=1.8, label=f"clipping alone, {shown} bits")
        ends = [f"{place:.2f} at {bits} bits" for bits, place in least.range.items()]
        ax.set(title=f"The best range ends at {', '.join(ends)}", yscale="log",
               xlabel="last level of the grid", ylabel="relative squared error (log)", xlim=(0, None),
               ylim=(scans.error.min() / 1.6, 1.5))
        figure.legend(loc="outside lower center", ncols=3)
        told = ", ".join(f"{row.error:.4f} at {row.range:.2f} with {bits} bits" for bits, row in least.iterrows())
        return finish(figure, "Curves of the squared error over the last level of the grid, one for each number of "
                      "bits, each with a lowest point; the rounding part rises to the right, the clipping part falls. "
                      f"Smallest errors: {told}.")
