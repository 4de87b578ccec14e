"""QIL, Table 3: ResNet-18 and AlexNet on photographs as tables."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ..runs import Run
from ..runs.outcomes import FAILED

NETWORKS = {"resnet18": "ResNet-18", "alexnet": "AlexNet"}
COLUMNS = ["network", "bits", "distillation", "accuracy"]       # bits of weights and activations; 32: float


def accuracies(found: Mapping[str, Mapping[tuple[int, float], Sequence[Run]]]) -> pd.DataFrame:
    """Tabulate the validation accuracy (%) at the end of the runs {network: {(bits, lambda): runs}} and of the float
    networks that they began with (bits 32, distillation 0), a row for each seed.

    Columns COLUMNS, seed, epochs (trained until then), outcome (Run.outcome).
    """
    rows = []
    for model, cells in found.items():
        for (bits, share), runs in cells.items():
            for run in runs:
                phases = run.recipe.phases
                for b, lam, until in ((32, 0.0, 1), (bits, share, len(phases))):
                    rows.append((NETWORKS[model], b, lam, run.accuracy(phases[until - 1].name), run.recipe.seed,
                                 sum(p.epochs for p in phases[:until]), run.outcome if b < 32 or run.absent else ""))
    table = pd.DataFrame(rows, columns=[*COLUMNS, "seed", "epochs", "outcome"])
    return table.drop_duplicates([*COLUMNS[:3], "seed"], ignore_index=True)     # cells share the float networks


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Lay out accuracies (%) as Table 3: a row for each bit-width, columns networks and lambda, means over the seeds
    that did not fail; in brackets the loss against the float networks of these seeds."""
    table = table if "seed" in table else table.assign(seed=0, outcome="")
    full = table[table.bits == 32].set_index(["network", "seed"]).accuracy

    def cell(rows: pd.DataFrame) -> str:
        good = rows[rows.outcome == ""]
        if good.empty:
            return rows.outcome.max()
        mean, failed = good.accuracy.mean(), (rows.outcome == FAILED).sum()
        lost = full.reindex(list(zip(good.network, good.seed))).mean() - mean
        return (f"{mean:.1f}" + (f" ({lost:+.1f})" if good.bits.iloc[0] < 32 else "")
                + (f", {failed} failed" if failed else ""))

    shown = table.assign(row=table.bits.map(lambda b: "float" if b == 32 else f"A{b}W{b}"),
                         column=table.distillation.map("λ = {:g}".format))
    order = [f"A{b}W{b}" for b in sorted(set(table.bits) - {32})] + ["float"]
    texts = {name: cell(rows) for name, rows in shown.groupby(["row", "network", "column"])}
    cells = pd.Series(texts).unstack([1, 2]).reindex(order).fillna("")
    networks = [name for name in NETWORKS.values() if name in set(table.network)]
    return cells.reindex(columns=networks, level=0).rename_axis(index=None, columns=[None, None])
