"""AIWQ behind sliders (paperlib.teaching.widgets): one weight at a threshold, and which layers PROFIT freezes.

Each draws into an empty figure, at fixed places, for a layout engine takes longer than drawing.
"""
from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator, StrMethodFormatter

from ...plots.aiwq import KINDS
from ...plots.style import BLUE, GREEN, GREY, ORANGE, PURPLE, YELLOW

COLORS = {**{kind: color for kind, (color, _) in KINDS.items()}, "conv": YELLOW}      # bars have no markers
PLAIN = StrMethodFormatter("{x:g}")        # mathematical text, the default of log axes, takes long to set
MOVES = {"jump": ("a jump (updates)", ORANGE, "o-", 5), "rms_move": ("rms move (updates)", PURPLE, "s-", 4),
         "mean_move": ("mean move (updates)", GREY, "-", 3), "crossing": ("share that crosses", BLUE, "D-", 0)}


def crossing(figure: Figure, *, stairs: pd.DataFrame, table: pd.DataFrame, bits: int, update: float, before: tuple,
             after: tuple) -> None:
    """Left, the staircase with a weight ``before`` and ``after`` its update, (weight, quantized) each.  Right, over
    bits, what weights everywhere do (``table`` as :func:`paperlib.analysis.one_weight.one_weight` gives it)."""
    left, right = figure.add_axes((0.07, 0.16, 0.40, 0.71)), figure.add_axes((0.56, 0.16, 0.245, 0.71))
    left.plot(stairs.weight, stairs.quantized, color=GREEN, linewidth=2)
    left.annotate("", after, before, arrowprops={"arrowstyle": "->", "lw": 1.8, "shrinkA": 4, "shrinkB": 4})
    left.plot(*before, "o", color="black", markerfacecolor="white", markersize=9, markeredgewidth=1.8)
    left.plot(*after, "o", color="black", markersize=9)
    for (x, y), text, side in ((before, "before", "right"), (after, "after", "left")):
        left.annotate(text, (x, y), (-12 if side == "right" else 12, 0), textcoords="offset points", ha=side,
                      va="center", path_effects=[withStroke(linewidth=4, foreground="w")])
    times = (after[1] - before[1]) / update
    left.set(title=f"{bits} bits, update {update:.3f}: " + (f"jumps by {times:.3g} updates" if times else "stays"),
             xlabel="weight", ylabel="quantized weight", xlim=(0.35, 0.65), ylim=(-0.08, 1.08))
    right.axvspan(bits - 0.3, bits + 0.3, color="#EEEEEE", zorder=0)
    shown = table.assign(jump=table.step / update, rms_move=table.rms_move / update, mean_move=table.mean_move / update)
    ends = _apart([np.log10(shown[column].iloc[0]) for column in MOVES], 0.07 * 6)
    for end, (column, (name, color, style, size)) in zip(ends, MOVES.items()):
        right.plot(shown.bits, shown[column], style, color=color, markersize=size or 5)
        right.annotate(name, (2, 10**end), (9, 0), textcoords="offset points", color=color, va="center",
                       annotation_clip=False)
    right.set(title="weights everywhere", xlabel="bits", yscale="log", xlim=(8.4, 1.7), ylim=(5e-4, 2e3),
              xticks=range(2, 9))
    right.yaxis.set(minor_locator=NullLocator(), major_formatter=PLAIN)


def _apart(heights: list[float], least: float) -> list[float]:
    """Places for labels at these heights, from the highest down, none nearer than ``least`` to the next."""
    placed: list[float] = []
    for height in heights:
        placed.append(min(height, placed[-1] - least) if placed else height)
    return placed


def describe_crossing(*, stairs: pd.DataFrame, table: pd.DataFrame, bits: int, update: float, before: tuple,
                      after: tuple) -> str:
    """Alternative text for :func:`crossing`."""
    row, most = (table.set_index("bits").loc[b] for b in (bits, table.bits.max()))
    moved = after[1] - before[1]
    return (f"The staircase of a weight of {bits} bits, {row.levels:.0f} levels from -1 to 1. An update by "
            f"{update:.3f}, from {before[0]:.4f} to {after[0]:.4f}, "
            + (f"moves the quantized weight from {before[1]:.3f} to {after[1]:.3f}, {moved / update:.3g} updates far."
               if moved else f"leaves the quantized weight at {before[1]:.3f}.")
            + f" Beside it lines over the bits, for weights everywhere: at {bits} bits {row.crossing:.1%} cross a "
            f"threshold, a jump is {row.step / update:.3g} updates, the root mean square of all moves "
            f"{row.rms_move / update:.3g}, their mean {row.mean_move / update:.3g}; at {table.bits.max()} bits "
            f"{most.crossing:.1%}, {most.step / update:.3g}, {most.rms_move / update:.3g} and "
            f"{most.mean_move / update:.3g}.")


def frozen_layers(figure: Figure, *, layers: pd.DataFrame, remains: pd.DataFrame, order: str) -> None:
    """Left, AIWQ of each layer (columns kind, aiwq, frozen), hollow if it is frozen.  Right, shares of AIWQ and of
    weights that ``remains`` (columns aiwq, weights; a row for each number of frozen layers)."""
    left, right = figure.add_axes((0.095, 0.16, 0.545, 0.66)), figure.add_axes((0.725, 0.16, 0.255, 0.66))
    left.set_yscale("log")
    known = layers.aiwq[layers.aiwq > 0]
    bottom = 10.0 ** np.floor(np.log10(known.min()))
    colors = [COLORS[kind] for kind in layers.kind]
    fills = ["white" if frozen else color for frozen, color in zip(layers.frozen, colors)]
    tops = layers.aiwq.fillna(bottom).clip(bottom)
    left.add_collection(PolyCollection([[(x - 0.4, bottom), (x - 0.4, top), (x + 0.4, top), (x + 0.4, bottom)]
                                        for x, top in enumerate(tops)], facecolors=fills, edgecolors=colors,
                                       linewidths=1.1))
    handles = [Patch(color=COLORS[kind], label=kind) for kind in COLORS if kind in set(layers.kind)]
    handles.append(Patch(facecolor="white", edgecolor="black", label="frozen"))
    left.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=len(handles), fontsize=10.5,
                handlelength=1, columnspacing=0.9, handletextpad=0.4, borderaxespad=0.1)
    count = int(layers.frozen.sum())
    left.set(xlabel="layer, in the network's order", ylabel="AIWQ (nats, log axis)", xlim=(-1, len(layers)),
             ylim=(bottom, 2 * known.max()))
    left.yaxis.set(minor_locator=NullLocator(), major_formatter=PLAIN)
    left.grid(axis="x", visible=False)
    left.text(0, 1.17, f"{count} of {len(layers)} layers frozen, order {order}", transform=left.transAxes,
              fontsize=13, fontweight="bold")
    for column, color, style, name, height in (("aiwq", "black", "-", "of the AIWQ", 1.13),
                                               ("weights", BLUE, "--", "of the weights", 1.03)):
        left_over = 100 * remains[column]
        right.plot(left_over.to_numpy(), style, color=color)
        right.plot([count], [left_over[count]], "o", color=color, markersize=8, clip_on=False)
        right.text(0, height, f"{left_over[count]:.1f} % {name}", color=color, fontweight="bold",
                   transform=right.transAxes)
    right.set(xlabel="frozen layers", ylabel="still training (%)", xlim=(0, len(layers)), ylim=(0, 100))


def describe_frozen_layers(*, layers: pd.DataFrame, remains: pd.DataFrame, order: str) -> str:
    """Alternative text for :func:`frozen_layers`."""
    frozen = layers[layers.frozen]
    now, kinds = remains.iloc[len(frozen)], frozen.kind.value_counts()
    kinds = ", ".join(f"{kinds[kind]} {kind}" for kind in COLORS if kind in kinds) or "none"
    trains = layers[~layers.frozen].aiwq.max()
    return (f"Bars with the AIWQ of {len(layers)} layers on a log axis, coloured by kind, hollow where frozen: in the "
            f"order {order} {len(frozen)} layers are frozen ({kinds}). What still trains holds {now.aiwq:.1%} of the "
            f"sum of AIWQ and {now.weights:.1%} of the weights"
            + (f"; its largest AIWQ is {trains:.2g}" if len(frozen) < len(layers) else "")
            + ". Beside it both shares over the number of frozen layers, falling to 0.")
