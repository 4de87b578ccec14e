"""Lesson 7: levels over weights, and the error of grids over what they cost."""
from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from torch import Tensor

from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE, finish

FAMILIES = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "^", ":"), (PURPLE, "D", "-."))


def draw_codebooks(x: Tensor, codebooks: Mapping[str, Tensor], title: str) -> Figure:
    """Draw a panel for each of ``codebooks``, {name: levels}: a histogram of ``x`` (any shape) on a log axis with a
    line at each level."""
    x = x.detach().flatten()
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(len(codebooks), 1, figsize=(9.6, 1 + 1.9 * len(codebooks)), sharex=True,
                                    squeeze=False)
        end, told = 1.03 * x.abs().max().item(), []
        for ax, (name, levels) in zip(axes[:, 0], codebooks.items()):
            ax.hist(x.numpy(), 120, range=(-end, end), color="#BBBBBB", log=True)
            ax.vlines(levels.tolist(), 0.7, ax.get_ylim()[1], color=ORANGE, linewidth=1.6)
            ax.set(ylabel="weights (log)", xlim=(-end, end), ylim=(0.7, None))
            ax.annotate(name, (0.01, 0.84), xycoords="axes fraction", fontweight="bold", color=GREY,
                        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})
            ax.grid(visible=False)
            told.append(f"{name} from {levels.min():.2f} to {levels.max():.2f}")
        axes[0, 0].set_title(title)
        axes[-1, 0].set_xlabel("weight")
        return finish(figure, f"A histogram of {len(x)} weights from {x.min():.2f} to {x.max():.2f} on a log axis with "
                      f"lines at the levels: {'; '.join(told)}.")


def draw_rates(table: pd.DataFrame, title: str) -> Figure:
    """Draw ``error`` (squared, relative, on a log axis) over ``bits`` per weight, a curve for each ``family`` and
    ``name`` beside each point."""
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(9.6, 5))
        for (family, rows), (colour, marker, line) in zip(table.groupby("family", sort=False), FAMILIES):
            ax.plot(rows.bits, rows.error, line, marker=marker, color=colour, markersize=8, label=family)
            for row in rows.itertuples():
                ax.annotate(row.name, (row.bits, row.error), (7, -13 if _crowded(table, row) else 5),
                            textcoords="offset points", color=colour, fontsize=11)
        ax.set(title=title, yscale="log", xlabel="bits per weight, scales included",
               ylabel="squared error / mean square (log)")
        ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator(),
                     major_formatter=StrMethodFormatter("{x:g}"))
        ax.margins(x=0.12)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        told = "; ".join(f"{row.name} {row.error:.4f} at {row.bits:.2f}" for row in table.itertuples())
        return finish(figure, f"Points of error over bits per weight, both smaller is better: {told}.")


def _crowded(table: pd.DataFrame, point) -> bool:
    """Tell whether another point lies just above one, where its name would be."""
    return ((table.bits == point.bits) & table.error.between(point.error, 1.6 * point.error, inclusive="right")).any()
