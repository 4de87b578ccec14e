"""How results of several seeds are written, and why there are none: not recorded yet, or a failed training."""
from __future__ import annotations

import pandas as pd

from ..runs import Run
from ..runs.outcomes import FAILED, NOT_RECORDED

IMAGES = {"cifar10": "CIFAR-10", "subset": "the embedded CIFAR-10 subset", "imagenette": "Imagenette",
          "imagenet": "ImageNet"}


def accuracy_after(run: Run, phase: str, split: str) -> float:
    """Look up the accuracy (%) after a phase, ``split`` "val", or "val_ema" for averaged weights; NaN if it was not
    evaluated, such as the averaged weights of a pretrained network."""
    h = run.history
    rows = h[(h.phase == phase) & (h.split == split) & (h.metric == "accuracy")]
    return rows.value.iloc[-1] if len(rows) else float("nan")


def mean_and_spread(values: pd.Series) -> str:
    """Write mean, s.d. if there are several, and number of values that are no NaN: "66.5 ± 0.8 (n=3)"."""
    values = values.dropna()
    if values.empty:
        return NOT_RECORDED
    spread = f" ± {values.std():.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread} (n={len(values)})"


def accuracies_in_words(rows: pd.DataFrame) -> str:
    """Write :func:`mean_and_spread` of the accuracies that are results (outcome ""), and those that are none."""
    failed = rows[rows.outcome == FAILED].accuracy
    told = [mean_and_spread(rows[rows.outcome == ""].accuracy)] if len(failed) < len(rows) else []
    if len(failed):
        told.append(f"{FAILED}: {', '.join(f'{a:.1f}' for a in failed)}")
    return "; ".join(told)


def mean_accuracy(rows: pd.DataFrame) -> str:
    """Write the mean accuracy of the results, or why there is none; without a column outcome all are results."""
    good = rows.accuracy[rows.outcome == ""] if "outcome" in rows else rows.accuracy
    return f"{good.mean():.1f}" if len(good) else rows.outcome.max()
