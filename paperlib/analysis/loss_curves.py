"""PROFIT, supplement Fig. 1 and 2: the histories of several runs as one table, and where they end."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ..runs import Run
from ..runs.seeds import shared_seeds


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


def freezing_curve(run: Run, split: str, metric: str = "loss") -> pd.Series:
    """Join the metric after each epoch of the rounds in which PROFIT freezes layers; for "val" with its value before
    the first of these epochs in front."""
    rounds = [phase.name for phase in run.recipe.phases if phase.name.startswith("round ")][1:]
    curves = [run.values(name, split, metric) for name in rounds]
    return pd.concat([curves[0], *(curve[curve.index > 0] for curve in curves[1:])], ignore_index=True)


def fluctuation(losses: Sequence[float]) -> float:
    """Measure a curve's total variation minus its net change, per step: (sum of |steps| - |sum of steps|) / steps.

    0 for a curve that only falls or only rises; twice the mean rise for one that ends below its start."""
    steps = pd.Series(losses).diff().iloc[1:]
    return float((steps.abs().sum() - abs(steps.sum())) / len(steps))


def val_fluctuation(run: Run) -> float:
    """Measure the :func:`fluctuation` of the validation loss over the rounds in which PROFIT freezes layers."""
    return fluctuation(freezing_curve(run, "val"))


def by_order(found: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Tabulate the orders of freezing, {order: runs}: mean and s.d. over the n seeds that are there (one seed: NaN) of
    the :func:`val_fluctuation`, of the losses after the last round, of the accuracy (%) after it and after the last
    phase; in how many seeds the validation loss fluctuates less than with nothing frozen."""
    rows = []
    for order, runs in found.items():
        there = [run for run in runs if not run.absent]
        values = pd.DataFrame([{"fluctuation": val_fluctuation(run),
                                "train loss": freezing_curve(run, "train").iloc[-1],
                                "val loss": freezing_curve(run, "val").iloc[-1],
                                "accuracy after the rounds (%)": freezing_curve(run, "val", "accuracy").iloc[-1],
                                "val accuracy (%)": run.accuracy()} for run in there])
        row = {"order": runs[0].recipe.label}
        for column in values:
            row |= {column: values[column].mean(), f"{column}, s.d.": values[column].std()}
        rows.append(row | {"n": len(there), "calmer than nothing frozen": calmer(found, order, "none")})
    return pd.DataFrame(rows)


def calmer(found: Mapping[str, Sequence[Run]], one: str, other: str) -> int:
    """Count the seeds in which one order's validation loss fluctuates less than the other's."""
    return sum(val_fluctuation(a) < val_fluctuation(b) for a, b in pairs(found, one, other))


def pairs(found: Mapping[str, Sequence[Run]], one: str, other: str) -> list[tuple[Run, Run]]:
    """Put the runs of two orders side by side, of the seeds that both have."""
    return [(a, b) for a, b in shared_seeds(found[one], found[other]) if not (a.absent or b.absent)]
