"""The scoreboard at a glance: a mark for each claim."""
from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..claims import FAILED, NOT_RECORDED, NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED
from .style import BLUE, GREY, ORANGE, STYLE, YELLOW, finish

MARKS = {REPRODUCED: ("o", BLUE, BLUE), NOT_REPRODUCED: ("X", ORANGE, ORANGE), NOT_TESTABLE: ("o", "white", GREY),
         NOT_RECORDED: ("s", "white", GREY), FAILED: ("X", YELLOW, YELLOW)}


def draw(table: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw a row for each notebook, a mark for each of its claims, by verdict; the counts at the right.

    ``table``: :func:`paperlib.claims.scoreboard.table`.
    """
    items = list(dict.fromkeys(table.notebook))
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(11, 1.9 + 0.5 * len(items)))
        width = table.groupby("notebook").size().max()
        for y, item in enumerate(items):
            rows = table[table.notebook == item]
            rows = pd.concat([rows[rows.verdict == verdict] for verdict in MARKS])
            for x, verdict in enumerate(rows.verdict):
                mark, face, edge = MARKS[verdict]
                ax.plot(x, y, mark, markersize=15, markerfacecolor=face, markeredgecolor=edge, markeredgewidth=1.8)
            ax.text(width, y, f"{(rows.verdict == REPRODUCED).sum()} of {len(rows)} reproduced", va="center")
        for verdict, (mark, face, edge) in MARKS.items():
            if verdict in (NOT_RECORDED, FAILED) and verdict not in set(table.verdict):
                continue
            ax.plot([], [], mark, markersize=12, markerfacecolor=face, markeredgecolor=edge, markeredgewidth=1.8,
                    label=f"{verdict} ({(table.verdict == verdict).sum()})")
        ax.set_yticks(range(len(items)), items)
        ax.set(xlim=(-0.7, width + 3.4), ylim=(len(items) - 0.4, -0.6))
        ax.xaxis.set_visible(False)
        ax.grid(False)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        figure.legend(loc="outside upper center", ncols=3)
        counts = "; ".join(f"{item}: " + ", ".join(f"{(rows.verdict == verdict).sum()} {verdict}" for verdict in MARKS
                                                   if (rows.verdict == verdict).any())
                           for item, rows in table.groupby("notebook", sort=False))
        return finish(figure, f"A row of marks for each notebook, one mark for each claim, by verdict. {counts}.",
                      footnote)
