"""QIL, section 4.2 and Table 3: photographs, where distillation does not help and 3 bits cost little."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from .. import published
from ..runs import Run
from .accuracy import last_accuracy
from .verdict import Verdict

WHERE = "QIL, section 4.2 and Table 3"
NETWORKS = {"resnet18": "ResNet-18", "alexnet": "AlexNet"}
COLUMNS = ["network", "bits", "distillation", "accuracy"]       # bits of weights and activations; 32: float


def photographs_by_bits(found: Mapping[str, Mapping[tuple[int, float], Sequence[Run]]]) -> pd.DataFrame:
    """Validation accuracy (%) at the end of the runs of :func:`paperlib.items.qil_photographs`, one seed each, and of
    the float networks that they began with (bits 32, distillation 0).  Columns COLUMNS, epochs (trained until then).
    """
    rows = []
    for model, cells in found.items():
        for (bits, share), runs in cells.items():
            for run in runs:
                phases = run.recipe.phases
                for b, lam, until in ((32, 0.0, 1), (bits, share, len(phases))):
                    accuracy = last_accuracy(run, phases[until - 1].name)
                    rows.append((NETWORKS[model], b, lam, accuracy, sum(p.epochs for p in phases[:until])))
    return pd.DataFrame(rows, columns=[*COLUMNS, "epochs"]).drop_duplicates(COLUMNS[:3], ignore_index=True)


def qil_photographs_allowance() -> float:
    """What the paper's 3- and 4-bit networks lose at most without distillation, in points."""
    where = {"paper_id": published.QIL, "table": "Table 3", "metric": "top1"}
    rows = published.table(method="QIL-v1 lambda=0", **where)
    full = published.table(method="full precision", **where).set_index("model").value
    return round(float((rows.model.map(full) - rows.value)[rows.w_bits > 2].max()), 2)


def distillation_does_not_help(table: pd.DataFrame, *, testable: bool = True) -> Verdict:
    """Section 4.2: on ImageNet distillation has little effect on the accuracy, or lowers it.

    Read as: lambda 0.5 is not above lambda 0, for each network and bit-width of the paper's table.  ``table``: of
    :func:`photographs_by_bits`.  ``difference`` is the accuracy with lambda 0.5 minus that with 0, in
    points."""
    rows = []
    for network, here in table[table.bits < 5].groupby("network", sort=False):
        by_share = here.pivot(index="bits", columns="distillation", values="accuracy").dropna()
        rows += [(f"{network}, {b} bits: lambda 0.5 minus lambda 0 (points)", 0, a)
                 for b, a in (by_share[0.5] - by_share[0.0]).items()]
    return Verdict.of("On photographs distillation does not raise the accuracy", WHERE, rows,
                      lambda difference: difference <= 0, testable)


def few_bits_keep_full_accuracy(table: pd.DataFrame, *, testable: bool = True) -> Verdict:
    """Section 4.2: without distillation 4 and 3 bits keep full accuracy, but for 1 point at most.

    Read as: against the float network that training began with, for each network.  ``difference`` is float minus
    quantized, in points."""
    most, full = qil_photographs_allowance(), table[table.bits == 32].set_index("network").accuracy
    rows = table[table.bits.isin([3, 4]) & (table.distillation == 0)]
    rows = [(f"{n}: float minus {b} bits (points)", 0, round(full[n] - a, 6))
            for n, b, a in zip(rows.network, rows.bits, rows.accuracy)]
    return Verdict.of(f"4 and 3 bits lose at most {most:g} points against full precision on photographs", WHERE, rows,
                      lambda difference: difference <= most, testable)


def two_bits_cost_most(table: pd.DataFrame, *, testable: bool = True) -> Verdict:
    """Table 3: accuracy falls with each step from 4 to 3 and from 3 to 2 bits, with and without distillation.

    ``difference`` is the accuracy at more bits minus that at fewer, in points."""
    rows = []
    for (network, share), here in table[table.bits < 5].groupby(["network", "distillation"], sort=False):
        by_bits = here.set_index("bits").accuracy
        rows += [(f"{network}, lambda {share:g}: {more} minus {fewer} bits (points)", 0, by_bits[more] - by_bits[fewer])
                 for more, fewer in ((4, 3), (3, 2))]
    return Verdict.of("Each step from 4 to 3 to 2 bits costs accuracy on photographs", WHERE, rows,
                      lambda difference: difference > 0, testable)
