"""PROFIT, supplement Fig. 1 and 2: the histories of several runs as one table, and where they end."""
from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ..runs import Run


def histories(runs: Sequence[Run]) -> pd.DataFrame:
    """Put all histories under each other, with columns ``method`` (the recipe's label, and that its runs are not
    recorded yet or failed) and ``seed``."""
    outcomes: dict[str, set[str]] = {}
    for run in runs:
        outcomes.setdefault(run.recipe.label, set()).add(run.outcome)
    named = {label: ": ".join([label, *sorted(each - {""})]) for label, each in outcomes.items()}
    return pd.concat([r.history.assign(method=named[r.recipe.label], seed=r.recipe.seed) for r in runs],
                     ignore_index=True)


def along_rounds(history: pd.DataFrame) -> pd.DataFrame:
    """Pick the rows of PROFIT's rounds, with ``epoch`` counted through all of them and ``round`` from 1.

    Epoch 0, before anything was trained, is kept for the first round only: the others begin where the last one ended.
    """
    rows = history[history.phase.str.fullmatch(r"round \d+") & history.split.isin(["train", "val"])]
    rows = rows.assign(round=rows.phase.str.split().str[1].astype(int))
    rows = rows[(rows.epoch > 0) | (rows["round"] == 1)]
    lengths = rows.groupby("round").epoch.max()
    return rows.assign(epoch=rows.epoch + rows["round"].map(lengths.cumsum() - lengths))


def end_values(history: pd.DataFrame) -> pd.DataFrame:
    """Average loss (nats) and accuracy (%) after the last epoch of each stage, by method: mean over seeds and s.d. (one
    seed: NaN)."""
    stages = history[history.phase != "float"]
    last = stages[stages.epoch == stages.groupby(["phase", "seed"]).epoch.transform("max")]
    last = last[last.split.isin(["train", "val"])]
    table = last.pivot_table(index=["phase", "method"], columns=["metric", "split"], values="value", sort=False,
                             aggfunc=["mean", "std"], dropna=False)
    unit = {"loss": "loss", "accuracy": "accuracy (%)"}
    table.columns = [f"{split} {unit[metric]}{', s.d.' if how == 'std' else ''}"
                     for how, metric, split in table.columns]
    return table.reset_index()
