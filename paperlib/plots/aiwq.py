"""PROFIT, Fig. 2 to 4: AIWQ and batch-norm statistics over iterations, one weight at a threshold, AIWQ by layer."""
from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..analysis.aiwq import AIWQ, MEAN, VARIANCE, limits, name
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, STYLE, YELLOW, finish

LINES = {32: (GREY, ":"), 8: (SKY, (0, (4, 1, 1, 1, 1, 1))), 5: (GREEN, "-."), 4: (BLUE, "--"),
         3: (YELLOW, (0, (5, 1))), 2: (ORANGE, "-")}
TRIMMED = "without extreme channels"       # of each layer
KINDS = {"first": ("black", "*"), "conv": ("black", "o"), "depthwise": (ORANGE, "D"), "expand": (BLUE, "^"),
         "project": (SKY, "v"), "se": (GREEN, "s"), "linear": (PURPLE, "o")}


def draw_one_weight(stairs: pd.DataFrame, jumps: pd.DataFrame) -> Figure:
    """Draw PROFIT's Fig. 3: the staircase of a weight quantizer at several bit-widths, and one small update at a
    threshold.

    ``stairs``, ``jumps``: ``staircases`` and ``one_weight`` of :mod:`paperlib.analysis.one_weight`.
    """
    jumps = jumps.set_index("bits").loc[list(dict.fromkeys(stairs.bits))]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, stairs.bits.nunique(), figsize=(8.4, 2.7), sharey=True)
        for ax, (bits, stair) in zip(np.atleast_1d(axes), stairs.groupby("bits", sort=False)):
            row, color = jumps.loc[bits], LINES.get(bits, (BLUE, "-"))[0]
            ax.plot(stair.weight, stair.quantized, color=color, drawstyle="steps-mid")
            ax.annotate("", (0.5, row.after), (0.5, row.before), arrowprops={"arrowstyle": "->", "lw": 1.8})
            ax.plot([0.5, 0.5], [row.before, row.after], "o", color="black", markersize=6)
            ax.annotate(f"+{row.after - row.before:.2g}", (0.5, (row.before + row.after) / 2), (9, -4), va="top",
                        textcoords="offset points")
            ax.set(title=f"{bits} bits: {row.levels:.0f} levels", xlabel="weight")
        np.atleast_1d(axes)[0].set_ylabel("quantized weight")
        told = "; ".join(f"{bits} bits, {row.levels:.0f} levels: from {row.before:.3g} to {row.after:.3g}"
                         for bits, row in jumps.iterrows())
        return finish(figure, "Staircases of a quantized weight over the weight, a panel for each bit-width, with an "
                      f"arrow up the step at 0.5. One small update takes the quantized weight there: {told}.",
                      takeaway="One small update moves the level by " + ", ".join(
                          f"{row.after - row.before:.2g} at {bits} bits" for bits, row in jumps.iterrows()))


def draw_steps(steps: pd.DataFrame, norm: str, *, footnote: str) -> Figure:
    """Draw PROFIT's Fig. 2: AIWQ, running mean and running variance over iterations, a line for each bit-width.

    ``steps``: :func:`paperlib.analysis.aiwq.steps` of the batch norm ``norm``.
    """
    panels = {AIWQ: ("AIWQ", "nats, median layer (log axis)"), MEAN: ("running mean", "mean over channels"),
              VARIANCE: ("running variance", "mean over channels")}
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(10.4, 3.9))
        for ax, (quantity, (title, label)) in zip(axes, panels.items()):
            for bits, rows in steps[steps.quantity == quantity].groupby("bits", sort=False):
                color, dashes = LINES.get(bits, (PURPLE, "-"))
                ax.plot(rows.iteration, rows.value, color=color, linestyle=dashes, label=name(bits))
            ax.set(title=title, xlabel="iteration", ylabel=label)
            ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5, integer=True))
        axes[0].set_yscale("log", nonpositive="mask")
        aiwq = steps[steps.quantity == AIWQ]
        bottom = aiwq.groupby("bits").value.last().loc[lambda ends: ends > 0].min() / 20
        axes[0].set_ylim(bottom=bottom)
        for bits, rows in aiwq.groupby("bits"):
            late = rows[(rows.value < bottom).cummin()]
            if len(late) > 1:       # so few levels that in half of the layers no weight crosses a threshold at first
                axes[0].annotate(f"{name(bits)}: nothing moves\nbefore iteration {late.iteration.iloc[-1] + 1}",
                                 (late.iteration.iloc[-1] + 1, bottom), (6, 4), textcoords="offset points",
                                 color=LINES.get(bits, (PURPLE,))[0], fontsize=10)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, handlelength=3)
        values = {key: rows.value for key, rows in steps.groupby(["quantity", "bits"], sort=False)}
        widths = list(dict.fromkeys(steps.bits))
        told = ", ".join(f"{name(bits)} {values[AIWQ, bits].iloc[-1]:.2g}" for bits in widths)
        swings = ", ".join(f"{name(bits)} {values[VARIANCE, bits].min():.3g} to {values[VARIANCE, bits].max():.3g}"
                           for bits in (max(widths), min(widths)))
        return finish(figure, "Three panels over iterations with a line for each bit-width of the weights: AIWQ in "
                      f"nats on a log axis, the running mean and the running variance of {norm}. AIWQ ends at {told}; "
                      f"the running variance goes through {swings}.",
                      f"running statistics of the batch norm {norm}\n{footnote}",
                      _growth(pd.Series({bits: values[AIWQ, bits].iloc[-1] for bits in widths if bits < 32})))


def _growth(ends: pd.Series) -> str:
    """Say in a sentence what fewer bits do to AIWQ at the end, {bits: nats}; "" where nothing moves at most bits."""
    ends = ends.sort_index(ascending=False)
    if len(ends) < 2 or not ends.iloc[0] > 0:
        return ""
    grows = "Every bit-width less has a larger AIWQ" if (ends.diff().dropna() > 0).all() else (
        "AIWQ does not grow at every bit-width less")
    few, many = name(ends.index[-1]), name(ends.index[0])
    return f"{grows}: {few} have {ends.iloc[-1] / ends.iloc[0]:,.3g} times the AIWQ of {many}"


def draw_layers(tables: Mapping[str, pd.DataFrame], *, footnote: str) -> Figure:
    """Draw PROFIT's Fig. 4: AIWQ of each layer, a panel for each title and table; coloured by kind, hollow without the
    extreme channels, with the limits above which PROFIT's rounds 2 and 3 freeze.  Tables:
    :func:`paperlib.analysis.aiwq.by_layer`."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(len(tables), 1, figsize=(10, 1.3 + 2.5 * len(tables)), squeeze=False)
        for ax, (title, table) in zip(axes[:, 0], tables.items()):
            ax.set_yscale("log", nonpositive="mask")
            for kind, rows in table.groupby("kind"):
                color, marker = KINDS[kind]
                ax.plot(rows.index, rows.aiwq, marker, color=color, markersize=10 if marker == "*" else 7, label=kind)
                ax.plot(rows.index, rows.trimmed, marker, color="none", markeredgecolor=color, alpha=0.7,
                        markersize=7 if marker == "*" else 5)
            if table.trimmed.notna().any():
                ax.plot([], [], "o", color="none", markeredgecolor=GREY, markersize=5, label=TRIMMED)
            for number, limit in limits(table).items():
                ax.axhline(limit, color="black", linewidth=1.4, linestyle="--" if number == 2 else ":",
                           label=f"above: frozen in round {number}")
            ax.set(title=title, ylabel="AIWQ (nats, log axis)", xlim=(-1, len(table)))
        axes[-1, 0].set_xlabel("layer, in the network's order")
        entries = {text: handle for ax in axes[:, 0] for handle, text in zip(*ax.get_legend_handles_labels())}
        order = [kind for kind in KINDS if kind in entries] + [text for text in entries if text not in KINDS]
        figure.legend([entries[text] for text in order], order, loc="outside upper center", ncols=4)
        told, trimmed = [], all(table.trimmed.notna().any() for table in tables.values())
        for title, table in tables.items():
            top, first = table.loc[table.aiwq.idxmax()], table[table.frozen == 2].kind.value_counts()
            told.append(f"{title}: the largest is {top.layer} ({top.kind}) with {top.aiwq:.2g}"
                        + (f", or {top.trimmed:.2g} {TRIMMED}" if trimmed else "") +
                        f", the median {table.aiwq.median():.2g}, and round 2 would freeze "
                        + ", ".join(f"{count} {kind}" for kind, count in first.items()))
        return finish(figure, "AIWQ in nats on a log axis for each layer in the network's order, coloured by kind, "
                      f"with two horizontal lines above which PROFIT freezes. {'; '.join(told)}.", footnote,
                      f"Half of all AIWQ{f', {TRIMMED},' if trimmed else ''} is in " + " and in ".join(
                          f"{_half(table.trimmed if trimmed else table.aiwq)} of {len(table)}"
                          for table in tables.values()) + " layers")


def _half(aiwq: pd.Series) -> int:
    """Count the layers, the largest AIWQ first, that have half of the sum."""
    return int((aiwq.sort_values(ascending=False).cumsum() < aiwq.sum() / 2).sum()) + 1
