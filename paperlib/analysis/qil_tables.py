"""QIL, Tables 1 and 2: accuracy on CIFAR-10 by bit-width, with and without distillation, and beside other methods."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ..runs import Run
from .summaries import accuracies_in_words, accuracy_after

FLOAT, LONGER = "float network", "float network trained as long"
TABLE1_BITS = ((2, 1), (3, 1), (2, 2), (3, 3), (4, 4), (5, 5), (8, 8))     # of weights and activations
DISTILLATION = (0.0, 0.5, 1.0)                                             # the lambdas
# Table 2 from top to bottom: method, bits of weights, of activations; the paper has no DoReFa, we have no WAGE
ROWS = [("QIL", 2, 32), ("TTQ", 2, 32), ("TWN", 2, 32), ("BC", 1, 32), ("BWN", 1, 32), ("DoReFa", 1, 32),
        ("QIL", 2, 8), ("WAGE", 2, 8), ("QIL", 2, 4), ("QIL", 2, 2), ("QIL", 2, 1), ("XNOR", 1, 1)]


def accuracies(found: Mapping[tuple, Sequence[Run]]) -> pd.DataFrame:
    """Tabulate the validation accuracy (%) at the end of the runs of Table 1, {(bits of weights, of activations,
    lambda): runs}, and of Table 2, {(method, bits, bits): runs}, together or alone, and of the float networks that they
    began with.

    Columns method ("QIL", "TTQ", ..., FLOAT or LONGER), bits ("A1W2": of activations and weights), w_bits, a_bits,
    distillation (lambda), seed, accuracy, averaged (with averaged weights), epochs (trained until then),
    outcome (Run.outcome; "" for the float network at the beginning of any run that is there).
    """
    rows = []
    for key, runs in found.items():
        method, w, a = key if isinstance(key[0], str) else ("QIL", *key[:2])
        for run in runs:
            phases = run.recipe.phases
            share = phases[-1].teacher_weight if phases[-1].teacher else 0.0
            for name, width, lam, until in ((FLOAT, (32, 32), 0.0, 1),
                                            (LONGER if method == "float" else method, (w, a), share, len(phases))):
                if name == FLOAT and run.recipe.model != "vgg7":
                    continue                                # XNOR's, with Hardtanh
                end = phases[until - 1]
                rows.append((name, width_name(*width), *width, lam, run.recipe.seed,
                             *(accuracy_after(run, end.name, split) for split in ("val", "val_ema")),
                             sum(p.epochs for p in phases[:until]),
                             run.outcome if until > 1 or run.absent else ""))
    table = pd.DataFrame(rows, columns=["method", "bits", "w_bits", "a_bits", "distillation", "seed", "accuracy",
                                        "averaged", "epochs", "outcome"])
    table = table.iloc[table.accuracy.isna().argsort(kind="stable")]      # what is there comes first
    return table.drop_duplicates(["method", "bits", "distillation", "seed"], ignore_index=True)


def width_name(w: int, a: int) -> str:
    """Write bits of weights and activations as the paper does: "A1W2"."""
    return f"A{a}W{w}"


WIDTHS = [width_name(w, a) for w, a in TABLE1_BITS]


def by_bits(table: pd.DataFrame) -> pd.DataFrame:
    """Lay out Table 1 as text, rows lambda, columns bit-widths and float: mean ± s.d. (n) of ours, the number alone of
    the paper's."""
    cells = _cells(table[table.method == "QIL"], ["distillation", "bits"]).unstack()
    cells = cells.reindex(columns=WIDTHS).dropna(axis="columns", how="all").fillna("")
    for name, cell in _cells(table[table.method.isin([FLOAT, LONGER])], ["method"]).items():
        cells[name] = cell                                  # one number for all rows, as in the paper
    return cells.set_axis([f"λ = {share:g}" for share in cells.index]).rename_axis(columns=None)


def losses(table: pd.DataFrame) -> pd.DataFrame:
    """Tabulate by how many points Table 1's networks that did not fail are below float ones of the same seed: columns
    against (FLOAT or LONGER), distillation, bits, seed, loss."""
    rows = table[(table.method == "QIL") & table.bits.isin(WIDTHS) & (table.outcome == "")]
    parts = []
    for name in (FLOAT, LONGER):
        reference = table[table.method == name].set_index("seed").accuracy
        loss = rows.seed.map(reference) - rows.accuracy
        parts.append(rows[["distillation", "bits", "seed"]].assign(against=name, loss=loss))
    return pd.concat(parts, ignore_index=True).dropna()[["against", "distillation", "bits", "seed", "loss"]]


def near_guessing(table: pd.DataFrame) -> list[str]:
    """List what ends below 20 %, twice the accuracy of guessing among ten classes, in the mean over seeds."""
    means = table.groupby(["method", "bits", "distillation"], sort=False).accuracy.mean()
    return [f"{method} {bits}" + (f" with λ = {share:g}" if method == "QIL" else "")
            for method, bits, share in means.index[means < 20]]


def by_method(table: pd.DataFrame) -> pd.DataFrame:
    """Lay out Table 2 as text: method, bits of weights and of activations, accuracy (%), and where ours have them
    epochs."""
    rows = only_table2(table)
    order = [(name, 32, 32) for name in (FLOAT, LONGER)] + ROWS
    key, grouped = ["method", "w_bits", "a_bits"], rows.groupby(["method", "w_bits", "a_bits"])
    shown = pd.DataFrame({"accuracy (%)": _cells(rows, key),
                          **({"epochs": grouped.epochs.first()} if "epochs" in rows else {})})
    shown = shown.loc[[row for row in order if row in shown.index]].reset_index()
    return shown.rename(columns={"w_bits": "bits of weights", "a_bits": "bits of activations"}).set_index("method")


def only_table2(table: pd.DataFrame) -> pd.DataFrame:
    """Keep of QIL only ternary weights with lambda 0.5, as Table 2 does."""
    return table[(table.method != "QIL") | (table.w_bits == 2) & (table.distillation == 0.5)]


def _cells(rows: pd.DataFrame, by: list[str]) -> pd.Series:
    columns = [column for column in ("accuracy", "outcome") if column in rows]
    write = accuracies_in_words if "outcome" in rows else lambda r: f"{r.accuracy.iloc[0]:.2f}"
    return rows.groupby(by)[columns].apply(write)
