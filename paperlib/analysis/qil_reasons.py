"""QIL, Table 1: what may cause the losses at few bits, one thing changed at a time."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from ..runs import Run
from ..runs.seeds import shared_seeds

FLOAT = (32, 32)


def losses(found: Mapping[str, Mapping[tuple[int, int], Sequence[Run]]]) -> pd.DataFrame:
    """Tabulate the runs {what is changed: {bits of (weights, activations): runs}}, a row for each quantized one.

    Columns changed, bits ("A2W2"), w_bits, a_bits, seed, width, epochs (after the float network's), accuracy
    (validation, %, at the end), reference (accuracy of the float network trained as long, same seed), loss (points by
    which accuracy is below it), outcome ("", or why there is no loss, NaN: Run.outcome of one of the two).
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


def parts(found: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Tabulate the validation accuracy (%) at the end of the runs {part of the recipe that is left out: runs}, of which
    the first has all parts.

    Columns part, seed, accuracy, loss (points by which it is below the first with the same seed), outcome ("", or why
    there is no loss: Run.outcome of one of the two).
    """
    whole, rows = next(iter(found.values())), []
    for part, runs in found.items():
        for run, reference in shared_seeds(runs, whole):
            outcome, accuracy = run.outcome or reference.outcome, run.accuracy()
            rows.append((part, run.recipe.seed, accuracy,
                         math.nan if outcome else reference.accuracy() - accuracy, outcome))
    return pd.DataFrame(rows, columns=["part", "seed", "accuracy", "loss", "outcome"])


def in_words(table: pd.DataFrame, allowance: Callable[[int, int], float]) -> str:
    """Say in Markdown what each change does to the :func:`losses`, against the first row, and whether it is enough.

    ``allowance``: a function of bits of weights and of activations, the points that the paper loses.
    """
    if table.loss.isna().all():
        return f"* {table.outcome.max().capitalize()}."
    means = table.groupby(["changed", "bits"], sort=False).loss.mean().unstack(sort=False)
    allowed = {bits: allowance(w, a) for bits, w, a in table[["bits", "w_bits", "a_bits"]].drop_duplicates().values}
    before, *others = means.index
    lines = []
    for changed in others:
        parts = [f"{bits} is no result (failed training)" if math.isnan(means.at[changed, bits]) else
                 f"{bits} loses {points(means.at[changed, bits])} points instead of {points(means.at[before, bits])}"
                 for bits in means]
        enough = [bits for bits in means if means.at[changed, bits] <= allowed[bits]]
        lines.append(f"* **{changed.capitalize()}**: {', '.join(parts)}. "
                     f"As little as in the paper: {' and '.join(enough) or 'neither'}.")
    return "\n".join(lines)


def points(loss: float) -> str:
    """Write a loss in points; NaN is no result."""
    return "(no result)" if math.isnan(loss) else f"{loss:.1f}"
