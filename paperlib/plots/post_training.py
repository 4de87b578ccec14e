"""Lesson 6: how accuracy falls with bits, one grid for unequal channels, accuracy step by step, and sensitivities."""
from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, STYLE, YELLOW, finish

KINDS = {"first": (YELLOW, "D"), "depthwise": (ORANGE, "o"), "expand": (SKY, "s"), "project": (BLUE, "^"),
         "se": (GREEN, "v"), "linear": (PURPLE, "P")}


def draw_fall(accuracy: Mapping[int, float], full: float, tops: Tensor, bits: int, title: str) -> Figure:
    """Draw accuracy in percent over bits beside the float network's, ``full``; and, on the right, the largest |w| of
    each output channel of a layer, ``tops`` (channels,), with the levels of the one grid of ``bits`` for all of them,
    and dotted the place below which a weight becomes 0."""
    with mpl.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4))
        figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
        left.axhline(full, color=GREY, linestyle=":", linewidth=1.4)
        left.annotate("float", (max(accuracy), full), (0, 5), textcoords="offset points", color=GREY)
        left.plot(list(accuracy), list(accuracy.values()), "o-", color=BLUE, markersize=8)
        left.set(xlabel="bits of a weight", ylabel="accuracy (%)", ylim=(0, 100), xticks=list(accuracy))
        left.invert_xaxis()
        tops, steps = tops.sort().values.tolist(), 2 ** (bits - 1) - 1
        step = tops[-1] / steps
        right.bar(range(len(tops)), tops, color="#BBBBBB", width=0.75)
        for code in range(steps + 1):
            right.axhline(code * step, color=ORANGE, linewidth=1.6, label="level" if code == 0 else None)
        right.axhline(step / 2, color=ORANGE, linewidth=1.6, linestyle=":", label="below it: 0")
        right.set(xlabel="output channel, sorted", ylabel="largest |w|", ylim=(0, 1.08 * tops[-1]))
        right.grid(visible=False)
        right.legend(loc="upper left", bbox_to_anchor=(0, 0.9))
        gone = sum(top < step / 2 for top in tops)
        told = ", ".join(f"{value:.0f} % at {b}" for b, value in accuracy.items())
        return finish(figure, f"Left: accuracy falls from {full:.0f} % in float with the bits of a weight: {told}. "
                      f"Right: bars, the largest weight of each of {len(tops)} channels, from {tops[0]:.2f} to "
                      f"{tops[-1]:.2f}, across the levels of one {bits}-bit grid; {gone} of them end below half a "
                      "step, where all weights become 0.")


def draw_ladder(accuracy: Mapping[str, float], full: float, title: str) -> Figure:
    """Draw a bar with its number for each network of ``accuracy``, {name: percent}, from above, beside the float
    network's, ``full``."""
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(9.6, 0.9 + 0.5 * len(accuracy)))
        names, values = list(accuracy), list(accuracy.values())
        ax.barh(names, values, color=BLUE, height=0.6)
        for place, value in enumerate(values):
            ax.annotate(f"{value:.1f}", (value, place), (-5, 0), textcoords="offset points", ha="right", va="center",
                        color="white", fontweight="bold")
        ax.axvline(full, color=GREY, linestyle=":")
        ax.annotate(f"float\n{full:.1f}", (full, 0), (6, 0), textcoords="offset points", va="center", color=GREY)
        ax.invert_yaxis()
        ax.set(title=title, xlabel="accuracy (%)", xlim=(0, 100))
        ax.grid(visible=False, axis="y")
        told = ", ".join(f"{name} {value:.1f} %" for name, value in accuracy.items())
        return finish(figure, f"Bars of accuracy beside a dotted line at the float network's {full:.1f} %: {told}.")


def draw_sensitivity(table: pd.DataFrame, title: str) -> Figure:
    """Draw ``sensitivity`` of each layer (nats, on a log axis) over its share of the multiply-accumulates, ``macs``;
    ``kind`` gives colour and marker."""
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(9.6, 4.4))
        for kind, rows in table.groupby("kind", sort=False):
            colour, marker = KINDS[kind]
            share = 100 * rows.macs / table.macs.sum()
            ax.plot(share, rows.sensitivity, marker, color=colour, markersize=8, label=kind)
        ax.set(title=title, yscale="log", xlabel="share of the multiply-accumulates (%)",
               ylabel="sensitivity (nats, log)")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        top = table.sort_values("sensitivity").iloc[-1]
        return finish(figure, f"A dot for each of {len(table)} layers: its sensitivity over its share of the "
                      f"multiply-accumulates. The median is {table.sensitivity.median():.1g} nats, the largest "
                      f"{top.sensitivity:.2g}, that of {top.name} ({top['kind']}).")
