"""PROFIT, Table 1 and supplement Fig. 4: accuracy by bit-width, and what these networks cost."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from .. import models
from ..models import cost
from ..models.scheme import FLOAT
from ..runs import Run
from ..runs.seeds import on_shared_seeds
from . import bit_operations
from .summaries import IMAGES, accuracy_after, mean_and_spread

FULL, TAUGHT, AS_LONG = "Full", "Full+", "float, as long"
POINTS = ["data", "network", "method", "ours", "a_bits", "w_bits", "accuracy", "confidence", "seeds", "gbops", "mb"]
Found = Mapping[tuple[str, int], Sequence[Run]]     # (network, bits of weights and activations) -> runs


def by_network(found: Found) -> dict[tuple[str, int], list[Run]]:
    """Keep of each network the runs of those seeds that all of its bit-widths have, of those that are recorded."""
    there = {cell: runs for cell, runs in found.items() if not all(run.absent for run in runs)}
    return {cell: runs for model in dict.fromkeys(model for model, _ in there) for cell, runs in
            on_shared_seeds({cell: runs for cell, runs in there.items() if cell[0] == model}).items()}


def accuracies(found: Found) -> pd.DataFrame:
    """Tabulate the validation accuracy (%), a row for each network, seed and column of Table 1.

    "Full" is after the phase "float", "Full+" after "fine-tuning", and "8 bits" and so on after the last phase, as is
    "float, as long", the float network that was trained as long as 4 bits.
    Columns network, precision, seed, accuracy, averaged (with averaged weights), epochs (trained until then).  Seeds as
    in :func:`by_network`.
    """
    rows = []
    for (model, bits), runs in by_network(found).items():
        for run in runs:
            names = [p.name for p in run.recipe.phases]
            last = AS_LONG if bits == FLOAT else f"{bits} bits"
            for precision, phase in ((FULL, "float"), (TAUGHT, "fine-tuning"), (last, names[-1])):
                value, averaged = (accuracy_after(run, phase, split) for split in ("val", "val_ema"))
                rows.append((bit_operations.NAMES[model], precision, run.recipe.seed, value, averaged,
                             sum(p.epochs for p in run.recipe.phases[:names.index(phase) + 1])))
    table = pd.DataFrame(rows, columns=["network", "precision", "seed", "accuracy", "averaged", "epochs"])
    return table.drop_duplicates(["network", "precision", "seed"], ignore_index=True)   # all share the float phases


def precisions(table: pd.DataFrame) -> list[str]:
    """List the columns of Table 1 in its order, float first, then the most bits first."""
    floating = FULL, TAUGHT, AS_LONG
    return sorted(table.precision.unique(), key=lambda p: floating.index(p) if p in floating
                  else 100 - int(p.split()[0]))


def above_full(table: pd.DataFrame) -> pd.Series:
    """Tell for each quantized run whether it ends above the float network that it began with."""
    full = table[table.precision == FULL].set_index(["network", "seed"]).accuracy
    floating = table.precision.isin([FULL, TAUGHT, AS_LONG])
    quantized = table[~floating].set_index(["network", "seed", "precision"]).accuracy
    return quantized > full.reindex(quantized.index.droplevel("precision")).to_numpy()


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Lay out :func:`accuracies` as Table 1, networks by precision: mean, s.d. and number of seeds, as text."""
    cells = table.groupby(["network", "precision"]).accuracy.agg(mean_and_spread).unstack()
    return cells[precisions(table)].rename_axis(columns=None)


def points(found: Found) -> pd.DataFrame:
    """Tabulate accuracy (%, mean over seeds) and cost of the networks as trained, a row for each; columns POINTS."""
    rows = []
    for (model, bits), runs in by_network(found).items():
        if bits == FLOAT:
            continue
        recipe = runs[0].recipe
        net = models.quantize(models.build(**recipe.build()), recipe.phases[-1].scheme)
        here = f"here: {IMAGES[recipe.data]}, {recipe.input_size}×{recipe.input_size}"
        values = [run.accuracy() for run in runs]
        rows.append((here, bit_operations.NAMES[model], "PROFIT", True, bits, bits, sum(values) / len(values),
                     "measured", len(values), *bit_operations.total(cost.table(net, recipe.input_size))))
    return pd.DataFrame(rows, columns=POINTS)
