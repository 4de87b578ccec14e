"""PROFIT among others: what is printed of MobileNets at 4 and 3 bits on ImageNet, by authors and by those who reran.

Nothing is trained for these, and nothing is judged: every number is a row of data/published.csv.
"""
from __future__ import annotations

import pandas as pd

from . import published

PRINTED, RERUN, WITHOUT = "as published", "rerun by others", "without training"
NETWORKS = ("MobileNet-v1", "MobileNet-v2", "MobileNet-v3-Large", "MobileNet-v3-Small")
MARKS = {" (rerun)": RERUN, " (post-training)": WITHOUT}      # at the end of a method's name in the file
PROFIT = "PROFIT"
COLUMNS = ["network", "bits", "method", "kind", "accuracy", "float", "confidence", "where", "source"]


def results() -> pd.DataFrame:
    """Tabulate ImageNet top-1 accuracies (%) of MobileNets whose weights and activations have 4 bits, or 3.

    Columns network, bits, method, kind (PRINTED, RERUN or WITHOUT), accuracy, float (of the same source's network in
    full precision; NaN where it is not at hand), confidence, where (paper or repository), source (where it was seen).
    Best first in each network; a number that two sources print, rounded or not, is there once, with its decimals.
    """
    rows = published.table(metric="top1")
    full = rows[rows.method == "full precision"].set_index(["paper_id", "model"]).value
    rows = rows[rows.model.isin(NETWORKS) & (rows.w_bits == rows.a_bits) & rows.w_bits.isin([3, 4])]
    method, kind = zip(*map(_kind, rows.method))
    table = pd.DataFrame({
        "network": rows.model, "bits": rows.w_bits.astype(int), "method": method, "kind": kind, "accuracy": rows.value,
        "float": [full.get(key, float("nan")) for key in zip(rows.paper_id, rows.model)],
        "confidence": rows.confidence, "where": rows.paper_id, "source": rows.source})
    table["decimals"] = [len(f"{value:g}".partition(".")[2]) for value in table.accuracy]
    table = table.sort_values("decimals", ascending=False, kind="stable").assign(rounded=table.accuracy.round(1))
    table = table.drop_duplicates(["network", "bits", "method", "kind", "rounded"])
    table["order"] = table.network.map(NETWORKS.index)
    table = table.sort_values(["order", "bits", "accuracy"], ascending=[True, False, False], kind="stable")
    return table[COLUMNS].reset_index(drop=True)


def _kind(method: str) -> tuple[str, str]:
    """"LSQ (rerun)" -> ("LSQ", RERUN)."""
    for mark, kind in MARKS.items():
        if method.endswith(mark):
            return method.removesuffix(mark), kind
    return (PROFIT if method.startswith("PROFIT+") else method), PRINTED


def in_words(table: pd.DataFrame) -> str:
    """Say in Markdown what the numbers with a source show, and which of PROFIT's have none.

    ``table``: :func:`results`, or rows of it.
    """
    sure = table[table.confidence != "unverified"]
    v2 = sure[(sure.network == "MobileNet-v2") & (sure.bits == 4)]
    published_ones, lines = v2[v2.kind == PRINTED], []
    ours = v2[v2.method == PROFIT].set_index("kind").accuracy
    if {PRINTED, RERUN} <= set(ours.index):
        lines.append(f"**PROFIT's 4-bit MobileNet-v2** has {ours[PRINTED]:g} % as published and {ours[RERUN]:g} % in "
                     "the rerun of the released code that its user reports: "
                     f"{ours[PRINTED] - ours[RERUN]:.2f} points less.")
    reruns = v2[v2.kind == RERUN].groupby("method").accuracy.agg(["min", "max", "size"]).query("size > 1")
    best = published_ones.accuracy.nlargest(5)
    for row in reruns.itertuples():
        lines.append(f"**{row.size} reruns of {row.Index}** at 4 bits give from {row.min:g} to {row.max:g} %, "
                     f"{row.max - row.min:.2f} points apart; the best {len(best)} published methods are "
                     f"{best.max() - best.min():.2f} points apart.")
    if PRINTED in ours.index:
        above = published_ones[published_ones.accuracy > ours[PRINTED]]
        told = ", ".join(f"{row.method} ({row.accuracy:g} %)" for row in above.itertuples())
        lines.append(f"**Published above PROFIT**, MobileNet-v2 at 4 bits: {told or 'nothing'}. Float networks and "
                     "schedules differ, so nothing follows on which method is better.")
    missing = table[(table.method == PROFIT) & (table.confidence == "unverified")]
    if len(missing):
        told = ", ".join(f"{row.network} at {row.bits} bits ({row.accuracy:g} %)" for row in missing.itertuples())
        lines.append(f"**No source at hand** confirms PROFIT's {told}; they are hollow in the picture.")
    return "\n".join(f"* {line}" for line in lines)
