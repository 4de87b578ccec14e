"""The numbers that the papers print, each with its source and how sure it is: data/published.csv."""
from __future__ import annotations

import functools

import pandas as pd

from ..errors import InputError
from ..system.paths import ROOT, shipped

FILE = ROOT / "data" / "published.csv"
PROFIT, QIL = "2008.04693", "1808.05779v1"
CONFIDENCES = {"seed": "printed in the paper's own text", "quoted": "printed by a second source",
               "derived": "arithmetic on printed numbers", "unverified": "recalled, no source at hand"}


@functools.cache
def _all() -> pd.DataFrame:
    table = pd.read_csv(shipped(FILE), keep_default_na=False, na_values={"w_bits": "", "a_bits": "", "value": ""})
    table = table.astype({"w_bits": "Int64", "a_bits": "Int64"})
    unknown = sorted(set(table.confidence) - set(CONFIDENCES))
    if unknown or table.value.isna().any() or (table.source == "").any():
        raise InputError(f"{FILE.name}: each row needs a value, a source and a confidence out of "
                         f"{', '.join(CONFIDENCES)}{f'; found {unknown}' if unknown else ''}")
    return table


def table(**where) -> pd.DataFrame:
    """All rows whose columns have these values, such as ``paper_id=published.PROFIT, model="MobileNet-v2"``.

    Columns paper_id, table, method, model, w_bits, a_bits (32: float), metric, value, source, confidence.  InputError
    if a column does not exist.
    """
    rows = _all()
    for column, value in where.items():
        if column not in rows:
            raise InputError(f"published numbers have no column {column!r}: choose from {', '.join(rows)}")
        rows = rows[(rows[column] == value).fillna(False)]
    return rows.reset_index(drop=True)


def value(**where) -> float:
    """The one number that fits; InputError if there is none, or more than one value."""
    rows = table(**where)
    if rows.value.nunique() != 1:
        found = "no published number fits" if rows.empty else f"{len(rows)} published numbers fit"
        raise InputError(f"{found} {where}: only what {FILE.name} holds can be shown")
    return float(rows.value.iloc[0])


def text(**where) -> str:
    """The one number that fits, as a text that marks what no source at hand confirms: "73.812 (unverified)"."""
    number, confidence = value(**where), table(**where).confidence.iloc[0]
    return f"{number:g}" + (" (unverified)" if confidence == "unverified" else "")
