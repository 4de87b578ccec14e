"""PROFIT, Table 3: the ladder from PACT to PROFIT as tables."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ..runs import Run
from ..runs.outcomes import chance
from .summaries import accuracies_in_words

AT_ONCE, STEPWISE, UNQUANTIZED = "at once", "step by step", ""


def ladder(found: Mapping[int, Mapping[str, Sequence[Run]]]) -> pd.DataFrame:
    """Tabulate the validation accuracy (%) at the end of the runs {bits: {row: runs}}, a row for each run.

    Columns bits, row, quantized ("at once", "step by step" or "" for float), epochs (float network and all), seed,
    accuracy, averaged (with averaged weights), chance (accuracy of guessing, %), outcome (Run.outcome).  A row has the
    seeds that it was trained with, which may be fewer than another row's.
    """
    rows = []
    for bits, by_row in found.items():
        for row, runs in by_row.items():
            for run in runs:
                phases = run.recipe.phases
                averaged = run.values(phases[-1].name, "val_ema", "accuracy").iloc[-1]
                widths = {p.scheme.a_bits for p in phases if p.scheme} - {32}
                how = STEPWISE if len(widths) > 1 else AT_ONCE if widths else UNQUANTIZED
                rows.append((bits, row, how, sum(p.epochs for p in phases),
                             run.recipe.seed, run.accuracy(), averaged, chance(run.recipe), run.outcome))
    return pd.DataFrame(rows, columns=["bits", "row", "quantized", "epochs", "seed", "accuracy", "averaged", "chance",
                                       "outcome"])


def at_chance(table: pd.DataFrame) -> list[tuple[int, str]]:
    """List (bits, row) of those that end below twice the accuracy of guessing, in the mean over seeds: networks that
    have hardly learnt anything, or lost it."""
    means = table.groupby(["bits", "row"], sort=False)[["accuracy", "chance"]].mean()
    return list(means.index[means.accuracy < 2 * means.chance])


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Lay out :func:`ladder` as Table 3: for each bit-width epochs and accuracy (%), mean ± s.d. and number of seeds,
    as text; rows :func:`at_chance` say so."""
    lost, columns = at_chance(table), {}

    def cell(rows):
        return accuracies_in_words(rows) + (", AT CHANCE LEVEL" if rows.name in lost else "")

    for bits in table.bits.unique():
        grouped = table[table.bits == bits].groupby(["bits", "row"], sort=False)
        columns[f"epochs, {bits} bits"] = grouped.epochs.first().droplevel("bits")
        columns[f"accuracy (%), {bits} bits"] = grouped[["accuracy", "outcome"]].apply(cell).droplevel("bits")
    first = table.drop_duplicates("row").set_index("row")
    return pd.DataFrame({"quantized": first.quantized, **columns}).loc[first.index].rename_axis("row")
