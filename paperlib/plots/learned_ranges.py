"""Lesson 2: training through rounding, the two pulls on a range, ranges that learn, weights that cross thresholds."""
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


def draw_training(errors: Sequence[float]) -> Figure:
    """Draw the error of a layer's output before each update of its weights, the smallest marked."""
    best = min(range(len(errors)), key=lambda i: errors[i])
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(9.6, 4.2))
        ax.plot(errors, color=BLUE)
        ax.axhline(errors[0], color=GREY, linewidth=1.4, linestyle=":")
        ax.annotate("nearest levels", (1, errors[0]), (6, 0), xycoords=("axes fraction", "data"), color=GREY,
                    textcoords="offset points", va="center")
        ax.plot(best, errors[best], "o", color="black", markersize=7)
        ax.set(title=f"From {errors[0]:.4f} to {errors[best]:.4f} after {best} updates, then to {errors[-1]:.4f}",
               xlabel="updates", ylabel="error of the layer's output", ylim=(0, None))
        return finish(figure, f"The error of a layer's output over {len(errors) - 1} updates of its weights: from "
                      f"{errors[0]:.4f} at the nearest levels to {errors[best]:.4f} after {best} updates, and "
                      f"{errors[-1]:.4f} at the end.")


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
        lower.set(xlabel="last level of the grid", ylabel="error (log)", yscale="log")
        for ax in (upper, lower):
            ax.axvline(equilibrium, color="black", linewidth=1, linestyle="--")
            ax.axvline(least, color=GREEN, linewidth=1.4, linestyle=":")
        return finish(figure, "Above, gradients over the range, below, the error: the part from inside is positive "
                      "and grows, the part from outside is negative and goes to 0. Vertical lines mark where their "
                      f"sum goes through 0, at {equilibrium:.3f}, and where the error is smallest, at {least:.3f}.",
                      takeaway=f"The pulls balance at {equilibrium:.3f}, and the error is smallest at {least:.3f}")


def draw_descents(scan: pd.DataFrame, paths: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """Draw ranges that learn.  Left: error over the range, with the places they went through; right: over the updates.

    ``scan``: :func:`paperlib.analysis.quantization_error.scan_output`; ``paths``: {name: (range, error) before each
    update}."""
    with mpl.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11.4, 4.6), sharey=True)
        left.plot(scan.range, scan.error, color=GREY, linewidth=1.4, label="scan")
        right.axhline(scan.error.min(), color=GREY, linewidth=1.2)
        for (name, path), (colour, line), marker in zip(paths.items(), LINES, "os^D"):
            ranges, errors = zip(*path)
            left.plot(ranges, errors, marker, color=colour, markersize=4.5, label=name)
            right.plot(errors, line, color=colour)
        left.set(xlabel="last level of the grid", ylabel="error of the output (log)", yscale="log")
        right.set(xlabel="updates")
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3)
        every = [error for path in paths.values() for _, error in path]
        left.set_ylim(min(scan.error.min(), *every) / 1.4, 1.3 * max(every))
        told = "; ".join(f"{name}: from {path[0][1]:.3f} to {path[-1][1]:.3f}" for name, path in paths.items())
        return finish(figure, "Left, error of the output over the range, a valley, with dots where the ranges went; "
                      "right, the error over the updates, falling towards the smallest of the scan "
                      f"({scan.error.min():.3f}). {told}.",
                      takeaway="A learned range ends at an error of " + " and ".join(
                          f"{path[-1][1]:.3f} {name}" for name, path in paths.items())
                      + f"; the smallest is {scan.error.min():.3f}")


def draw_crossings(weights: Tensor, codes: Tensor) -> Figure:
    """Draw weights that cross thresholds: left the ones of :func:`typical`, right the share of all codes that change in
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
        ax.set_xlabel("updates; dashed: the float weight")
        axes[list(chosen)[len(chosen) // 2]].set_ylabel("weight (steps of the grid)", labelpad=12)
        axes["share"].plot(np.arange(1, len(codes)), 100 * changes.mean(1), color=BLUE)
        axes["share"].set(xlabel="updates", ylabel="codes that change (% of all)", ylim=(0, None))
        share = 100 * changes.mean(1)
        return finish(figure, f"Left, weights over {len(changes)} steps, each with its quantized value: one hangs at "
                      f"a threshold while its quantized value jumps to and fro, {changes.sum(0).max()} times; others "
                      f"cross once, or never. Right, the share of codes that change in a step, from {share[0]:.1f} to "
                      f"{share[-1]:.1f} percent.",
                      takeaway=f"{share[0]:.1f} % of the codes change in the first update, {share[-1]:.1f} % in the "
                      "last")


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
