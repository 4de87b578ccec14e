"""The scoreboard at a glance: a forest plot, an effect with its interval for each claim."""
from __future__ import annotations

import math
import textwrap

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..claims import CONTRADICTED, NOT_APPLICABLE, NOT_ENOUGH, NOT_TESTABLE, SUPPORTED
from .style import BLUE, GREY, ORANGE, STYLE, finish

COLOURS = {SUPPORTED: BLUE, CONTRADICTED: ORANGE, NOT_ENOUGH: GREY, NOT_APPLICABLE: GREY, NOT_TESTABLE: GREY}
MARKS = {SUPPORTED: "o", CONTRADICTED: "X", NOT_ENOUGH: "o", NOT_APPLICABLE: "D", NOT_TESTABLE: "s"}
POINTS, LOSS, FACTOR, SHARE = "points", "loss (nats)", "factor", "share"
PANELS = {"points": POINTS, "nats": LOSS, "powers of 2": FACTOR, "powers of 10": FACTOR}     # a unit; others are shares
BASES = {"powers of 2": 2.0, "powers of 10": 10.0}
HEADINGS = {"control": "Controls", "beyond the texts": "Beyond the texts"}
ROOM = 92       # characters of a label that fit its line


def draw(table: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw a line for each claim, by paper and item, with a panel for each unit: effect, 95 % interval, the region that
    the claim is about as a band; controls and what lies beyond the texts at the end.

    ``table``: :func:`paperlib.claims.scoreboard.table`.
    """
    lines = _lines(table)
    panels = [panel for panel in (POINTS, LOSS, FACTOR, SHARE) if (table.unit.map(_panel) == panel).any()]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels), sharey=True, squeeze=False,
                                    figsize=(9.5 + 2.4 * len(panels), 2 + 0.26 * len(lines)))
        by_panel = dict(zip(panels, axes[0]))
        for panel, ax in by_panel.items():
            _frame(ax, panel, len(lines))
        left, right = axes[0][0], axes[0][-1]
        left.set_yticks(range(len(lines)), [text if row is None else _label(row) for text, row in lines],
                        fontsize=9, linespacing=0.9)
        for y, ((text, row), label) in enumerate(zip(lines, left.get_yticklabels())):
            if row is None:
                label.set(fontweight="bold")
                continue
            _effect(by_panel[_panel(row.unit)], y, row)
            n = f", n = {row.n}" if row.n > 1 else ""
            right.annotate(row.verdict + (f": {row.reason}" if row.reason else n), (1.03, y), fontsize=8,
                           xycoords=("axes fraction", "data"), va="center", color=COLOURS[row.verdict])
        for verdict, colour in COLOURS.items():
            count = ((table.verdict == verdict) & (table.kind == "claim")).sum()
            left.plot([], [], MARKS[verdict], color=colour, label=f"{verdict} ({count})",
                      markerfacecolor=colour if verdict in (SUPPORTED, CONTRADICTED) else "white")
        figure.legend(loc="outside upper center", ncols=len(COLOURS))
        return finish(figure, "A line for each claim with its effect and 95 % interval over seeds, coloured by "
                      f"verdict, in a panel for each unit. {_counts(table)}.", footnote,
                      _sum(table[table.kind == "claim"].verdict))


def _sum(verdicts: pd.Series) -> str:
    """Say in a sentence how many claims are decided."""
    supported, contradicted = ((verdicts == verdict).sum() for verdict in (SUPPORTED, CONTRADICTED))
    return (f"Of {len(verdicts)} claims {supported} are supported, {contradicted} contradicted and "
            f"{len(verdicts) - supported - contradicted} not decided")


def _lines(table: pd.DataFrame) -> list[tuple[str, object]]:
    """What the lines say: (a heading, None) or ("", a row of the table); by where a claim stands, other kinds last."""
    claims = table[table.kind == "claim"]
    groups = [(where, claims[claims["where"] == where]) for where in dict.fromkeys(claims["where"])]
    groups += [(heading, table[table.kind == kind]) for kind, heading in HEADINGS.items()]
    return [line for heading, rows in groups if len(rows)
            for line in [(heading, None), *(("", row) for row in rows.itertuples())]]


def _panel(unit: str) -> str:
    return PANELS.get(unit, SHARE)


def _frame(ax: Axes, panel: str, lines: int) -> None:
    """Scale a panel: factors by their logarithm, points and losses finer near 0, since effects differ that much."""
    if panel == FACTOR:
        ax.set_xscale("log")
        ax.axvline(1, color=GREY, linewidth=0.8)
    else:
        if panel != SHARE:
            ax.set_xscale("symlog", linthresh=1 if panel == POINTS else 0.1)
        ax.axvline(0, color=GREY, linewidth=0.8)
    limits = {POINTS: (-40, 40), LOSS: (-1, 1), FACTOR: (0.5, 20), SHARE: (-0.7, 1.3)}[panel]
    ticks = {POINTS: [-10, -1, 0, 1, 10], LOSS: [-1, -0.1, 0, 0.1, 1], FACTOR: [1, 2, 5, 10], SHARE: [-0.5, 0, 0.5, 1]}
    ax.set(xlim=limits, ylim=(lines - 0.4, -0.6))
    ax.set_title(panel, fontsize=11)
    ax.set_xticks(ticks[panel], [f"{tick:g}" for tick in ticks[panel]], fontsize=9)
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    for side in ("left", "right", "top"):
        ax.spines[side].set_visible(False)


def _effect(ax: Axes, y: int, row) -> None:
    """Draw the region that a claim is about, and effect and interval, if there are any."""
    base, (first, last) = BASES.get(row.unit), ax.get_xlim()
    effect, low, high, least, most = (np.clip(base**value if base else value, first, last)
                                      for value in (row.effect, row.low, row.high, row.least, row.most))
    colour = COLOURS[row.verdict]
    if math.isfinite(row.least) or math.isfinite(row.most):
        ax.fill_betweenx([y - 0.38, y + 0.38], least, most, color=GREY, alpha=0.15,
                         linewidth=1 if most == least else 0)
    if np.isfinite(row.effect):
        ax.plot([low, high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
        filled = row.verdict in (SUPPORTED, CONTRADICTED)
        ax.plot(effect, y, MARKS[row.verdict], markersize=6, color=colour,
                markerfacecolor=colour if filled else "white")


def _label(row) -> str:
    """Write the claim, and on which runs, where this says more than the profile; a long one takes two lines."""
    what = row.runs.partition(": ")[2]
    text = f"{row.claim} ({what})" if what else row.claim
    return text if len(text) <= ROOM else textwrap.fill(text, len(text) // 2 + 8)


def _counts(table: pd.DataFrame) -> str:
    """Count the verdicts of the papers' claims, by item."""
    claims = table[table.kind == "claim"]
    return "; ".join(f"{where}: " + ", ".join(f"{(rows.verdict == verdict).sum()} {verdict}" for verdict in COLOURS
                                              if (rows.verdict == verdict).any())
                     for where, rows in claims.groupby("where", sort=False))
