"""QIL, Table 3: ResNet-18 and AlexNet on photographs as tables."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ..runs import Run

NETWORKS = {"resnet18": "ResNet-18", "alexnet": "AlexNet"}
COLUMNS = ["network", "bits", "distillation", "accuracy"]       # bits of weights and activations; 32: float


def accuracies(found: Mapping[str, Mapping[tuple[int, float], Sequence[Run]]]) -> pd.DataFrame:
    """Tabulate the validation accuracy (%) at the end of the runs {network: {(bits, lambda): runs}}, one seed each, and
    of the float networks that they began with (bits 32, distillation 0).

    Columns COLUMNS, epochs (trained until then), outcome (Run.outcome).
    """
    rows = []
    for model, cells in found.items():
        for (bits, share), runs in cells.items():
            for run in runs:
                phases = run.recipe.phases
                for b, lam, until in ((32, 0.0, 1), (bits, share, len(phases))):
                    rows.append((NETWORKS[model], b, lam, run.accuracy(phases[until - 1].name),
                                 sum(p.epochs for p in phases[:until]), run.outcome if b < 32 or run.absent else ""))
    return pd.DataFrame(rows, columns=[*COLUMNS, "epochs", "outcome"]).drop_duplicates(COLUMNS[:3], ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Lay out accuracies (%) as Table 3: a row for each bit-width, columns networks and lambda; in brackets what is
    lost against the float network."""
    full = table[table.bits == 32].set_index("network").accuracy
    outcomes = table.outcome if "outcome" in table else [""] * len(table)
    text = [outcome or (f"{a:.1f}" if b == 32 else f"{a:.1f} ({full[n] - a:+.1f})")
            for n, b, a, outcome in zip(table.network, table.bits, table.accuracy, outcomes)]
    shown = table.assign(text=text, row=table.bits.map(lambda b: "float" if b == 32 else f"A{b}W{b}"),
                         column=table.distillation.map("λ = {:g}".format))
    order = [f"A{b}W{b}" for b in sorted(set(table.bits) - {32})] + ["float"]
    cells = shown.pivot(index="row", columns=["network", "column"], values="text").reindex(order).fillna("")
    networks = [name for name in NETWORKS.values() if name in set(table.network)]
    return cells.reindex(columns=networks, level=0).rename_axis(index=None, columns=[None, None])
