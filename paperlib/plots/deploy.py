"""The forms of a deployed network: their sizes, and what arithmetic without floats costs."""
from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from .style import BLUE, GREY, ORANGE, STYLE, finish


def draw(table: pd.DataFrame, fractions: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw the forms of a network.  Left: bytes of each form, with its accuracy.  Right: the share of codes that
    fixed-point numbers change, by the bits after the point; dashed: what float32 changes."""
    with mpl.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), width_ratios=(1.15, 1))
        positions = range(len(table))
        left.barh(positions, table.bytes / 1000, color=[GREY] + [BLUE] * (len(table) - 1), height=0.62)
        for y, row in zip(positions, table.itertuples()):
            left.annotate(f"{row.bytes / 1000:.0f} KB, {row.accuracy:.1f} %", (row.bytes / 1000, y), (5, 0),
                          textcoords="offset points", va="center", fontsize=11)
        left.set(title="Size and accuracy", xlabel="kilobytes", yticks=positions, yticklabels=table.form,
                 xlim=(0, table.bytes.max() / 1000 * 1.42))
        left.invert_yaxis()
        left.grid(axis="y", visible=False)
        right.plot(fractions.fraction, 100 * fractions.fixed, marker="o", color=ORANGE)
        own = 100 * fractions.float32.iloc[0]
        right.axhline(own, color=GREY, linestyle="--", linewidth=1.6)
        right.annotate("float32's own rounding", (fractions.fraction.iloc[0], own), (0, 5), textcoords="offset points",
                       color=GREY, fontsize=11)
        right.set(title="Codes that are not the exact ones", xlabel="bits after the point", yscale="log",
                  ylabel="share of codes (%)", xticks=fractions.fraction)
        right.margins(y=0.15)
        sizes = ", ".join(f"{row.form} {row.bytes / 1000:.0f} KB and {row.accuracy:.1f} %"
                          for row in table.itertuples())
        few, many = fractions.iloc[0], fractions.iloc[-1]
        return finish(figure, "Left, bars with the size of each form of one network and its accuracy; right, the "
                      "share of codes that fixed-point numbers change, a line that falls with the bits after the "
                      f"point. {sizes}; {100 * few.fixed:.2g} % of codes change with {few.fraction:.0f} bits, "
                      f"{100 * many.fixed:.2g} % with {many.fraction:.0f}, and {own:.2g} % in float32.",
                      footnote, _sizes(table))


def _sizes(table: pd.DataFrame) -> str:
    """Say in a sentence how small the smallest form is against the first, and how far the accuracies are apart."""
    small, apart = table.loc[table.bytes.idxmin()], f"{table.accuracy.max() - table.accuracy.min():.1f}"
    share = small.bytes / table.bytes.iloc[0]
    return (f"The smallest form ({small.form}) has {share:.0%} of the bytes; the accuracies of all {len(table)} forms "
            + (f"are within {apart} points" if apart != "0.0" else f"are equal, {small.accuracy:.1f} %"))
