"""What tables and pictures say of runs that are no result: they are not recorded yet, or their training failed."""
from __future__ import annotations

import functools
from collections.abc import Callable

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..runs.outcomes import FAILED, NOT_RECORDED
from .style import GREY, STYLE, mean_and_spread


def result(rows: pd.DataFrame) -> str:
    """:func:`mean_and_spread` of the accuracies of rows that are results (outcome ""); of others, that they failed."""
    failed = rows[rows.outcome == FAILED].accuracy
    told = [f"{FAILED}: {', '.join(f'{a:.1f}' for a in failed)}"] if len(failed) else []
    if len(failed) < len(rows):
        told.insert(0, mean_and_spread(rows[rows.outcome == ""].accuracy))
    return "; ".join(told)


def number(rows: pd.DataFrame) -> str:
    """The mean accuracy of rows that are results, or why there is none; without a column outcome all are."""
    good = rows.accuracy[rows.outcome == ""] if "outcome" in rows else rows.accuracy
    return f"{good.mean():.1f}" if len(good) else rows.outcome.max()


def unless_missing(column: str = "") -> Callable:
    """For a function that draws or describes a table, or a mapping of runs: while there is not a single number in the
    column, or no run, the picture is an empty panel that says so."""
    def decorate(made: Callable) -> Callable:
        @functools.wraps(made)
        def told(given, *args, **options):
            missing = (given[column].isna().all() if isinstance(given, pd.DataFrame) else
                       all(run.absent for run in given.values()))
            if not missing:
                return made(given, *args, **options)
            return blank(options["footnote"]) if "footnote" in options else (
                f"An empty panel that says: {NOT_RECORDED}. The picture comes back with its runs.")
        return told
    return decorate


def blank(footnote: str) -> Figure:
    """An empty panel that says that its runs are not recorded yet."""
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(11, 3))
        ax.set_axis_off()
        ax.text(0.5, 0.5, NOT_RECORDED, color=GREY, fontsize=16, ha="center", va="center", transform=ax.transAxes)
        figure.supxlabel(footnote, fontsize=10, color=GREY)
    return figure
