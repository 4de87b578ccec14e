"""One weight near a rounding threshold: a small update of it, and what the quantized weight does (PROFIT, Fig. 3)."""
from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import torch
from IPython.display import Image
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator

from ...analysis.one_weight import one_weight, staircases, unit_duq
from ...plots.style import BLUE, GREEN, GREY, ORANGE, PURPLE
from .panel import DECIMALS, explore

BITS = range(2, 9)
THRESHOLD = 0.5         # of DuQ's grid from -1 to 1 at every bit-width, since its K is odd
STATES = [{"bits": 4, "update": 0.005, "updates_to_threshold": 0.5},
          {"bits": 2, "update": 0.005, "updates_to_threshold": 0.5},
          {"bits": 2, "update": 0.005, "updates_to_threshold": 1.5}]
# what lines show: (label, color, style, marker size)
MOVES = {"jump": ("a jump (updates)", ORANGE, "o-", 5), "rms_move": ("rms move (updates)", PURPLE, "s-", 4),
         "mean_move": ("mean move (updates)", GREY, "-", 3), "crossing": ("share that crosses", BLUE, "D-", 5)}


def threshold() -> Image:
    """Show a weight just below a threshold that is updated; the knobs are bits, the update, and how many updates the
    threshold is away.

    Left, the staircase of DuQ's weights, from -1 to 1, with the weight before and after.  Right, for weights
    everywhere between -1 and 1, all updated alike, over the bits: the share that crosses a threshold, how far one that
    crosses jumps, and the mean and the root mean square of all moves, in multiples of the update
    (:func:`paperlib.analysis.one_weight.one_weight`).  Few levels: crossings are rare and large.  The mean move stays
    the update, and the root mean square is sqrt(update / K), which grows as the levels (K to each side of 0) get fewer.
    """
    everywhere = functools.cache(lambda update: one_weight(BITS, update))
    stairs = functools.cache(lambda bits: staircases([bits]))

    def draw(figure: Figure, bits: int, update: float, updates_to_threshold: float) -> str:
        start = THRESHOLD - update * updates_to_threshold
        before, after = ((weight, quantized(weight, bits)) for weight in (start, start + update))
        jump, table = (after[1] - before[1]) / update, everywhere(round(update, 4)).set_index("bits")
        title = f"{bits} bits, update {update:.3f}: " + (f"jumps by {jump:.3g} updates" if jump else "stays")
        _draw_staircase(figure, stairs(bits), before, after, title)
        _draw_moves(figure, table, bits, update)
        return _describe(table, bits, update, before, after)

    return explore(draw, STATES, (10.4, 3.6), bits=(BITS[0], BITS[-1], 1), update=(0.001, 0.02, 0.001),
                   updates_to_threshold=(-0.7, 1.7, 0.2))      # never 0 or 1: no weight lies on the threshold


@torch.no_grad()
def quantized(weight: float, bits: int) -> float:
    return float(unit_duq(bits)(torch.tensor([weight], dtype=torch.float64)))


def _draw_staircase(figure: Figure, stairs: pd.DataFrame, before: tuple, after: tuple, title: str) -> None:
    """``before`` and ``after`` the update: (weight, quantized)."""
    ax = figure.add_axes((0.07, 0.16, 0.40, 0.71))
    ax.plot(stairs.weight, stairs.quantized, color=GREEN, linewidth=2)
    ax.annotate("", after, before, arrowprops={"arrowstyle": "->", "lw": 1.8, "shrinkA": 4, "shrinkB": 4})
    ax.plot(*before, "o", color="black", markerfacecolor="white", markersize=9, markeredgewidth=1.8)
    ax.plot(*after, "o", color="black", markersize=9)
    for place, text, side, shift in ((before, "before", "right", -12), (after, "after", "left", 12)):
        ax.annotate(text, place, (shift, 0), textcoords="offset points", ha=side, va="center",
                    path_effects=[withStroke(linewidth=4, foreground="w")])
    ax.set(title=title, xlabel="weight", ylabel="quantized weight", xlim=(0.35, 0.65), ylim=(-0.08, 1.08))


def _draw_moves(figure: Figure, table: pd.DataFrame, bits: int, update: float) -> None:
    ax = figure.add_axes((0.56, 0.16, 0.245, 0.71))
    ax.axvspan(bits - 0.3, bits + 0.3, color="#EEEEEE", zorder=0)
    shown = table.assign(jump=table.step / update, rms_move=table.rms_move / update, mean_move=table.mean_move / update)
    height = np.inf
    for column, (name, color, style, size) in MOVES.items():
        height = min(np.log10(shown[column].iloc[0]), height - 0.42)       # of a label, clear of the one above it
        ax.plot(shown.index, shown[column], style, color=color, markersize=size)
        ax.annotate(name, (2, 10**height), (9, 0), textcoords="offset points", color=color, va="center",
                    annotation_clip=False)
    ax.set(title="weights everywhere", xlabel="bits", yscale="log", xlim=(8.4, 1.7), ylim=(5e-4, 2e3),
           xticks=range(2, 9))
    ax.yaxis.set(minor_locator=NullLocator(), major_formatter=DECIMALS)


def _describe(table: pd.DataFrame, bits: int, update: float, before: tuple, after: tuple) -> str:
    row, most, moved = table.loc[bits], table.loc[table.index.max()], after[1] - before[1]
    return (f"The staircase of a weight of {bits} bits, {row.levels:.0f} levels from -1 to 1. An update by "
            f"{update:.3f}, from {before[0]:.4f} to {after[0]:.4f}, "
            + (f"moves the quantized weight from {before[1]:.3f} to {after[1]:.3f}, {moved / update:.3g} updates far."
               if moved else f"leaves the quantized weight at {before[1]:.3f}.")
            + f" Beside it lines over the bits, for weights everywhere: at {bits} bits {row.crossing:.1%} cross a "
            f"threshold, a jump is {row.step / update:.3g} updates, the root mean square of all moves "
            f"{row.rms_move / update:.3g}, their mean {row.mean_move / update:.3g}; at {most.name} bits "
            f"{most.crossing:.1%}, {most.step / update:.3g}, {most.rms_move / update:.3g} and "
            f"{most.mean_move / update:.3g}.")
