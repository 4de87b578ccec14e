"""What the papers print, laid out as the tables of our runs are (analysis), for a look side by side."""
from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from ..analysis import bit_operations, qil_photographs, qil_tables
from ..analysis.accuracy import FULL, POINTS, TAUGHT
from . import published

IMAGENET = "the paper: ImageNet, 224×224"


def accuracy(bits: Sequence[int]) -> pd.DataFrame:
    """Lay out PROFIT's Table 1, as far as there is a source: ImageNet top-1 accuracy (%), networks by precision."""
    def cell(**where):
        where = {"paper_id": published.PROFIT, "table": "Table 1", "metric": "top1", **where}
        return "no source" if published.table(**where).empty else published.text(**where)

    methods = {FULL: "full precision (Full)", TAUGHT: "full precision + teacher-student (Full+)"}
    names = list(bit_operations.NAMES.values())
    return pd.DataFrame([{**{title: cell(model=model, method=method) for title, method in methods.items()},
                          **{f"{b} bits": cell(model=model, method="PROFIT+DuQ(+NP)", w_bits=b, a_bits=b)
                             for b in bits}} for model in names], index=pd.Index(names, name="network"))


def cost_points() -> pd.DataFrame:
    """Tabulate the points of PROFIT's supplement Fig. 4 that have a source: ImageNet top-1 accuracy (%), GBOPs and MB.

    PROFIT's networks have the two 8-bit exceptions, the others their bits in every layer.
    """
    rows = []
    for table in ("Table 1", "Table 2 / supp Fig.4"):
        ours = table == "Table 1"
        found = published.table(paper_id=published.PROFIT, table=table, metric="top1")
        for row in found[found.w_bits <= 8].itertuples():
            bits = int(row.a_bits), int(row.w_bits)
            for model in (m for m, name in bit_operations.NAMES.items() if name == row.model):
                rows.append((IMAGENET, row.model, "PROFIT" if ours else row.method, ours, *bits, row.value,
                             row.confidence, 1, *bit_operations.on_imagenet(model, *bits, ours)))
    return pd.DataFrame(rows, columns=POINTS)


def qil_accuracies() -> pd.DataFrame:
    """Tabulate QIL's Tables 1 and 2: method, bits, w_bits, a_bits, distillation, accuracy (%)."""
    rows = pd.concat([published.table(paper_id=published.QIL, table=t, metric="top1") for t in ("Table 1", "Table 2")])
    method = [qil_tables.FLOAT if m.startswith("full precision") else re.split("[- ]", m)[0] for m in rows.method]
    bits = [qil_tables.width_name(w, a) for w, a in zip(rows.w_bits, rows.a_bits)]
    table = pd.DataFrame({"method": method, "bits": bits, "w_bits": rows.w_bits.astype(int),
                          "a_bits": rows.a_bits.astype(int), "distillation": _distillation(rows),
                          "accuracy": rows.value})
    return table.drop_duplicates(ignore_index=True)


def qil_photographs_accuracies() -> pd.DataFrame:
    """Tabulate QIL's Table 3, ImageNet: network, bits, distillation, accuracy (%)."""
    rows = published.table(paper_id=published.QIL, table="Table 3", metric="top1")
    table = pd.DataFrame({"network": _network(rows), "bits": rows.w_bits.astype(int),
                          "distillation": _distillation(rows), "accuracy": rows.value})
    return table[qil_photographs.COLUMNS]


def qil_other_methods() -> pd.DataFrame:
    """Tabulate what is at hand of QIL's Table 4, and where it is from."""
    rows = published.table(paper_id=published.QIL, table="Table 4", metric="top1")
    table = pd.DataFrame({"method": rows.method.str.removesuffix(" (ours)").str.removesuffix("-v1"),
                          "network": _network(rows), "bits": [f"A{a}W{w}" for w, a in zip(rows.w_bits, rows.a_bits)],
                          "top-1 accuracy (%)": rows.value, "source": rows.source})
    return table.set_index(["network", "method", "bits"])


def pruned_shares() -> pd.DataFrame:
    """Tabulate the shares that QIL's Fig. 5 says are pruned (%): role, bits, value, text."""
    metrics = {("weight", 5): "weight pruning ratio 5 bit", ("weight", 3): "weight pruning ratio 3 bit",
               **{("activation", bits): "activation pruning ratio (about)" for bits in (5, 4, 3)}}
    rows = []
    for (role, bits), metric in metrics.items():
        where = {"paper_id": published.QIL, "metric": metric}
        text = ("about " if "about" in metric else "") + published.text(**where)
        rows.append((role, bits, published.value(**where), text))
    return pd.DataFrame(rows, columns=["role", "bits", "value", "text"])


def _distillation(rows: pd.DataFrame) -> pd.Series:
    return rows.method.str.extract(r"lambda=(\S+)")[0].astype(float).fillna(0.0)


def _network(rows: pd.DataFrame) -> pd.Series:
    return rows.model.str.removesuffix("/ImageNet")
