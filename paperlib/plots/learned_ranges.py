"""Lesson 2: gradients of learned ranges, the two pulls on a range, descents, and weights that cross thresholds."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE, finish

LINES = [(BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":")]


def draw_methods(tables: Sequence[pd.DataFrame]) -> Figure:
    """Draw a column for each table of :func:`paperlib.analysis.quantizer_curves.curves`: the staircase, dy/dx, and
    dy/d(parameter)."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(3, len(tables), figsize=(11.6, 7.4), sharex="col")
        for (top, middle, bottom), table in zip(axes.T, tables):
            top.plot(table.x, table.x, color=GREY, linewidth=0.8)
            top.plot(table.x, table.y, color=BLUE, linewidth=1.8)
            middle.plot(table.x, table.gradient, color=BLUE, linewidth=1.8)
            for (colour, line), column in zip(LINES, [c for c in table if c.startswith("dy/d")]):
                bottom.plot(table.x, table[column], line, color=colour, linewidth=1.8,
                            label=column.replace("alpha", "α"))
            bottom.legend(loc="lower center", bbox_to_anchor=(0.5, 0.98), ncols=2, fontsize=12, handlelength=1.4,
                          columnspacing=0.9, borderpad=0.1)
            top.set_title(table.attrs["title"].split(" · ")[0])
            bottom.set_xlabel("input x")
            middle.set_ylim(min(-0.1, 1.1 * table.gradient.min()), max(1.2, 1.1 * table.gradient.max()))
        for ax, label in zip(axes[:, 0], ["quantized y", "dy/dx", "dy/d(parameter)"]):
            ax.set_ylabel(label)
        for ax in axes.flat:
            ax.axhline(0, color=GREY, linewidth=0.8, zorder=1)
            ax.locator_params(nbins=4, steps=[1, 2, 5, 10])
        told = [f"{table.attrs['title'].split(' · ')[0]}: dy/dx up to {table.gradient.max():.2f}, " + ", ".join(
            f"{c} between {table[c].min():.2f} and {table[c].max():.2f}" for c in table if c.startswith("dy/d"))
            for table in tables]
        return finish(figure, "Columns of three panels for each method: staircase, gradient by x, gradient by the "
                      f"parameters. {'; '.join(told)}.")


def draw_pulls(table: pd.DataFrame, equilibrium: float) -> Figure:
    """Draw the two parts of the gradient of a range over the range, and the error below.

    ``table``: :func:`paperlib.analysis.learned_ranges.pulls`; ``equilibrium``: the range where the parts add up to 0.
    """
    least = table.range[table.error.idxmin()]
    with mpl.rc_context(STYLE):
        figure, (upper, lower) = plt.subplots(2, 1, figsize=(9.6, 6.2), sharex=True, height_ratios=(3, 2))
        named = {"inside": "inside: rounding residue", "outside": "outside: clipping", "total": "both",
                 "exact": "slope of the error itself"}
        for (column, name), (colour, line) in zip(named.items(), [(BLUE, "--"), (ORANGE, "-."), ("black", "-"),
                                                                  (GREEN, ":")]):
            upper.plot(table.range, table[column], line, color=colour, label=name)
        upper.axhline(0, color=GREY, linewidth=0.8)
        reach = 1.4 * table.inside.max()
        upper.set(ylim=(-reach, reach), ylabel="gradient by ln s")
        upper.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        lower.plot(table.range, table.error, color="black")
        lower.set(xlabel="greatest level of the grid", ylabel="error (log)", yscale="log")
        for ax in (upper, lower):
            ax.axvline(equilibrium, color="black", linewidth=1, linestyle="--")
            ax.axvline(least, color=GREEN, linewidth=1.4, linestyle=":")
        return finish(figure, "Above, gradients over the range, below, the error: the part from inside is positive "
                      "and grows, the part from outside is negative and goes to 0. Vertical lines mark where their "
                      f"sum goes through 0, at {equilibrium:.3f}, and where the error is least, at {least:.3f}.")


def draw_descents(scans: Mapping[str, pd.DataFrame], paths: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw descents.  Left: error over the range, with the places they went through; right: error over the steps.

    ``scans`` {name: scan} and ``paths`` {"name from ...": :func:`paperlib.analysis.learned_ranges.descend`}.
    """
    with mpl.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11.4, 4.6), sharey=True)
        for (name, scan), line in zip(scans.items(), ("-", "--")):
            left.plot(scan.range, scan.error, line, color=GREY, linewidth=1.4, label=f"{name}, scan")
            right.axhline(scan.error.min(), color=GREY, linewidth=1.2, linestyle=line)
        for (name, path), (colour, line), marker in zip(paths.items(), LINES, "os^D"):
            left.plot(path.range, path.error, marker, color=colour, markersize=4.5, label=name)
            right.plot(path.step, path.error, line, color=colour)
        left.set(xlabel="greatest level of the weights' grid", ylabel="error of the output (log)", yscale="log")
        right.set(xlabel="step")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        every = [*scans.values(), *paths.values()]
        left.set_ylim(min(t.error.min() for t in every) / 1.4, 1.3 * max(t.error.max() for t in paths.values()))
        least = ", ".join(f"{name} {scan.error.min():.3f}" for name, scan in scans.items())
        told = "; ".join(f"{name}: from {t.error.iloc[0]:.3f} to {t.error.iloc[-1]:.3f}" for name, t in paths.items())
        return finish(figure, "Left, error of the output over the range, valleys, with dots where descents went; "
                      f"right, the error over the steps, falling towards the least of the scans ({least}). {told}.")


def draw_crossings(weights: Tensor, codes: Tensor) -> Figure:
    """Draw weights that cross thresholds: left those of :func:`typical`, right the share of all codes that change in
    each step.  ``weights``, ``codes``: :func:`paperlib.analysis.learned_ranges.follow_weights`."""
    changes = (codes[1:] != codes[:-1]).numpy()
    with mpl.rc_context(STYLE):
        chosen = typical(codes)
        figure, axes = plt.subplot_mosaic([[name, "share"] for name in chosen], figsize=(11.4, 5.6))
        for (name, i), (colour, _) in zip(chosen.items(), LINES):
            ax, middle = axes[name], (codes[:, i].min() + codes[:, i].max()).item() / 2
            ax.plot(weights[:, i], "--", color=colour, linewidth=1.6)
            ax.plot(codes[:, i], color=colour, drawstyle="steps-mid", linewidth=1.4)
            ax.set(ylim=(middle - 0.8, middle + 0.8), title=name)
            ax.set_yticks(sorted(set(codes[:, i].tolist())))
            ax.sharex(axes["share"])
            ax.tick_params(labelbottom=name == list(chosen)[-1])
        ax.set_xlabel("step of training; dashed: the float weight")
        axes[list(chosen)[len(chosen) // 2]].set_ylabel("weight (steps of the grid)", labelpad=12)
        axes["share"].plot(np.arange(1, len(codes)), 100 * changes.mean(1), color=BLUE)
        axes["share"].set(xlabel="step of training", ylabel="codes that change (% of all)", ylim=(0, None))
        share = 100 * changes.mean(1)
        return finish(figure, f"Left, weights over {len(changes)} steps, each with its quantized value: one hangs at "
                      f"a threshold while its quantized value jumps to and fro, {changes.sum(0).max()} times; others "
                      f"cross once, or never. Right, the share of codes that change in a step, from {share[0]:.1f} to "
                      f"{share[-1]:.1f} percent.")


def typical(codes: Tensor) -> dict[str, int]:
    """Return {what a weight's code does over the steps: a weight that does it}; of those that change once, the one
    nearest to the middle in time.  A kind that there is none of is left out."""
    changed = codes[1:] != codes[:-1]
    often, when = changed.sum(0), changed.long().argmax(0)
    once, never = ((often == n).nonzero().flatten() for n in (1, 0))
    found = {"changes most often": often.argmax()}
    if len(once):
        found["changes once"] = once[(when[once] - len(changed) / 2).abs().argmin()]
    if len(never):
        found["never changes"] = never[0]
    return {name: int(i) for name, i in found.items()}
