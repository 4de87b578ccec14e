"""PROFIT, Table 3: the ladder from PACT to PROFIT."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..runs import Run
from ..runs.outcomes import FAILED, chance
from ..runs.seeds import on_shared_seeds
from .missing import number, result, unless_missing
from .style import BLUE, GREY, ORANGE, STYLE

AT_ONCE, STEPWISE = "at once", "step by step"


def ladder(found: Mapping[int, Mapping[str, Sequence[Run]]]) -> pd.DataFrame:
    """Validation accuracy (%) at the end of the runs {bits: {row: runs}} of :func:`paperlib.claims.experiments.ablation` or of
    :func:`paperlib.claims.experiments.ablation_photographs`.

    Columns bits, row, quantized ("at once" or "step by step"), epochs (float network and all), seed, accuracy, averaged
    (with averaged weights), chance (accuracy of guessing, %), outcome (Run.outcome).  Of each bit-width, only seeds
    that all of its rows have.
    """
    rows = []
    for bits, by_row in found.items():
        for row, runs in on_shared_seeds(by_row).items():
            for run in runs:
                phases = run.recipe.phases
                value, averaged = (run.values(phases[-1].name, split, "accuracy").iloc[-1]
                                   for split in ("val", "val_ema"))
                widths = {p.scheme.a_bits for p in phases if p.scheme} - {32}
                rows.append((bits, row, AT_ONCE if len(widths) == 1 else STEPWISE,
                             sum(p.epochs for p in phases), run.recipe.seed, value, averaged,
                             chance(run.recipe), run.outcome))
    return pd.DataFrame(rows, columns=["bits", "row", "quantized", "epochs", "seed", "accuracy", "averaged", "chance",
                                       "outcome"])


def at_chance(table: pd.DataFrame) -> list[tuple[int, str]]:
    """(bits, row) of those that end below twice the accuracy of guessing, in the mean over seeds: networks that have
    hardly learnt anything, or lost it."""
    means = table.groupby(["bits", "row"], sort=False)[["accuracy", "chance"]].mean()
    return list(means.index[means.accuracy < 2 * means.chance])


def ablation_table(table: pd.DataFrame) -> pd.DataFrame:
    """A line per row of Table 3: for each bit-width epochs and accuracy (%), mean ± s.d. and number of seeds, as text;
    rows :func:`at_chance` say so."""
    lost, columns = at_chance(table), {}

    def cell(rows):
        return result(rows) + (", AT CHANCE LEVEL" if rows.name in lost else "")

    for bits in table.bits.unique():
        grouped = table[table.bits == bits].groupby(["bits", "row"], sort=False)
        columns[f"epochs, {bits} bits"] = grouped.epochs.first().droplevel("bits")
        columns[f"accuracy (%), {bits} bits"] = grouped[["accuracy", "outcome"]].apply(cell).droplevel("bits")
    first = table.drop_duplicates("row").set_index("row")
    return pd.DataFrame({"quantized": first.quantized, **columns}).loc[first.index].rename_axis("row")


@unless_missing("accuracy")
def ablation(table: pd.DataFrame, *, footnote: str) -> Figure:
    """PROFIT, Table 3 as a picture: a panel for each bit-width, rows from top to bottom as in the table.

    Points are seeds, bars their mean; the dotted line is guessing.  Crosses are trainings that failed, which no bar
    counts.
    """
    bits, rows = list(table.bits.unique()), list(table.row.unique())
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(bits), figsize=(11, 1.8 + 0.45 * len(rows)), sharey=True, squeeze=False)
        for ax, b in zip(axes[0], bits):
            panel = table[table.bits == b].assign(y=lambda t: t.row.map(rows.index))
            for quantized, color, marker in ((AT_ONCE, BLUE, "o"), (STEPWISE, ORANGE, "D")):
                part = panel[panel.quantized == quantized]
                if part.empty:
                    continue
                failed, part = part[part.outcome == FAILED], part[part.outcome == ""]
                ax.plot(failed.accuracy, failed.y, "x", color=GREY, markersize=9, markeredgewidth=2)
                means = part.groupby("y").accuracy.mean()
                ax.barh(means.index, means, height=0.62, color=color, alpha=0.3)
                ax.plot(part.accuracy, part.y, marker, color=color, markersize=7, markeredgecolor="w",
                        label=f"quantized {quantized}")
                for y, mean in means.items():
                    ax.annotate(f"{mean:.1f}", (part[part.y == y].accuracy.max(), y), (9, 0),
                                textcoords="offset points", va="center")
            for y, row in panel[panel.outcome != ""].drop_duplicates("y").set_index("y").iterrows():
                ax.annotate(row.outcome, (row.accuracy if row.outcome == FAILED else row.chance, y), (9, 0),
                            textcoords="offset points", va="center", color=GREY)
            guess = panel.chance.iloc[0]
            ax.axvline(guess, color=GREY, linestyle=":")
            ax.annotate("guessing", (guess, -0.62), (4, 0), textcoords="offset points", va="center", color=GREY)
            ax.set(title=f"weights and activations: {b} bits", xlabel="validation accuracy (%)",
                   ylim=(len(rows) - 0.4, -1), xlim=(0, 1.14 * table.accuracy.max()))
            ax.grid(axis="y", visible=False)
        axes[0, 0].set_yticks(range(len(rows)), rows)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        figure.supxlabel(footnote, fontsize=10, color=GREY)
    return figure


@unless_missing("accuracy")
def describe_ablation(table: pd.DataFrame) -> str:
    """Alternative text for :func:`ablation`, with the means that the bars show."""
    parts = "; ".join(f"{bits} bits: " + ", ".join(f"{row} {number(mine)}" for row, mine
                                                   in rows.groupby("row", sort=False))
                      for bits, rows in table.groupby("bits", sort=False))
    first, last = (row.removeprefix("+ ") for row in table.row.iloc[[0, -1]])
    return (f"A panel for each bit-width with a horizontal bar for each row of the ladder, {first} at the top, {last} "
            "at the bottom: validation accuracy in percent, mean over seeds, with a point for each seed and a dotted "
            f"line where guessing is. {parts}.")
