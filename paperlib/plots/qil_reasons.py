"""QIL, Table 1: what may be behind the losses at few bits, one thing changed at a time."""
from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..claims.qil_tables import allowance
from ..runs import Run
from ..runs.seeds import shared_seeds
from .missing import unless_missing
from .style import BLUE, GREY, ORANGE, STYLE

FLOAT = (32, 32)


def qil_reasons(found: Mapping[str, Mapping[tuple[int, int], Sequence[Run]]]) -> pd.DataFrame:
    """The runs of :func:`paperlib.claims.experiments.qil_reasons`, a row for each quantized one.

    Columns changed (what is), bits ("A2W2"), w_bits, a_bits, seed, width, epochs (after the float network's), accuracy
    (validation, %, at the end), reference (that of the float network trained as long, same seed), loss (points by which
    accuracy is below it), outcome ("", or why there is no loss, NaN: Run.outcome of one of the two).
    """
    rows = []
    for changed, cells in found.items():
        for (w, a), runs in cells.items():
            if (w, a) == FLOAT:
                continue
            for run, longer in shared_seeds(runs, cells[FLOAT]):
                accuracy, reference, outcome = run.accuracy(), longer.accuracy(), run.outcome or longer.outcome
                rows.append((changed, f"A{a}W{w}", w, a, run.recipe.seed, run.recipe.width,
                             sum(p.epochs for p in run.recipe.phases[1:]), accuracy, reference,
                             math.nan if outcome else reference - accuracy, outcome))
    return pd.DataFrame(rows, columns=["changed", "bits", "w_bits", "a_bits", "seed", "width", "epochs", "accuracy",
                                       "reference", "loss", "outcome"])


@unless_missing("loss")
def qil_reason_bars(table: pd.DataFrame, *, footnote: str) -> Figure:
    """The losses of :func:`qil_reasons`: a panel for each bit-width, a bar for each change, means over seeds with a
    point for each; the dashed line is the paper's loss."""
    changes = list(table.changed.unique())
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, table.bits.nunique(), figsize=(11, 1.9 + 0.75 * len(changes)), sharey=True,
                                    squeeze=False)
        for ax, (bits, rows) in zip(axes[0], table.groupby("bits", sort=False)):
            printed = allowance(rows.w_bits.iloc[0], rows.a_bits.iloc[0])
            for y, changed in enumerate(changes):
                cell = rows[rows.changed == changed]
                if cell.loss.isna().all():
                    ax.text(0.02, y, cell.outcome.max(), color=GREY, fontsize=11, va="center",
                            transform=ax.get_yaxis_transform())
                    continue
                ax.barh(y, cell.loss.mean(), height=0.6, color=BLUE if y else GREY, alpha=0.35)
                ax.plot(cell.loss, [y] * len(cell), "o", color=BLUE if y else GREY, markeredgecolor="w")
                ax.annotate(f"{cell.loss.mean():.1f}  ({cell.accuracy.mean():.1f} of {cell.reference.mean():.1f} %)",
                            (cell.loss.max(), y), (9, 0), textcoords="offset points", va="center", fontsize=11)
            ax.axvline(printed, color=ORANGE, linestyle="--", label="the paper's loss")
            ax.set(title=f"{bits} (the paper loses {printed:g})", xlim=(0, 2 * rows.loss.max()),
                   ylim=(len(changes) - 0.5, -0.5),
                   xlabel="points below float, trained as long")
            ax.grid(axis="y", visible=False)
        epochs = table.groupby("changed", sort=False).epochs
        axes[0, 0].set_yticks(range(len(changes)), [
            f"{name}\n({width:g} of the width, {_epochs(few, most)} epochs)" for name, width, few, most in
            zip(changes, table.groupby("changed", sort=False).width.first(), epochs.min(), epochs.max())])
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right")
        lines = [part for line in footnote.splitlines() for part in textwrap.wrap(line, 120)]
        figure.supxlabel("\n".join(lines), fontsize=10, color=GREY)
    return figure


def _points(loss: float) -> str:
    return "(no result)" if math.isnan(loss) else f"{loss:.1f}"


def _epochs(few: int, most: int) -> str:
    return f"{few}" if few == most else f"{few} or {most}"


@unless_missing("loss")
def describe_qil_reason_bars(table: pd.DataFrame) -> str:
    """Alternative text for :func:`qil_reason_bars`, with the means that it shows."""
    losses = table.groupby(["bits", "changed"], sort=False).loss.mean()
    parts = "; ".join(f"{bits}: " + ", ".join(f"{changed} {_points(loss)}" for changed, loss in losses[bits].items())
                      for bits in table.bits.unique())
    return ("Two panels with a bar for each thing that is changed: points of accuracy below the float network trained "
            f"as long, and a dashed line at the paper's loss. {parts}.")


def qil_reasons_in_words(table: pd.DataFrame) -> str:
    """What each change does to the losses, against the first row, a line each, and whether it is enough; Markdown."""
    losses = table.groupby(["changed", "bits"], sort=False).loss.mean().unstack(sort=False)
    if table.loss.isna().all():
        return f"* {table.outcome.max().capitalize()}."
    printed = {bits: allowance(w, a) for bits, w, a in table[["bits", "w_bits", "a_bits"]].drop_duplicates().values}
    before, *others = losses.index
    lines = []
    for changed in others:
        parts = [f"{bits} is no result (failed training)" if math.isnan(losses.at[changed, bits]) else
                 f"{bits} loses {_points(losses.at[changed, bits])} points instead of "
                 f"{_points(losses.at[before, bits])}" for bits in losses]
        enough = [bits for bits in losses if losses.at[changed, bits] <= printed[bits]]
        lines.append(f"* **{changed.capitalize()}**: {', '.join(parts)}. "
                     f"As little as in the paper: {' and '.join(enough) or 'neither'}.")
    return "\n".join(lines)
