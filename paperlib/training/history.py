"""A training's history: rows of one tidy table, which pandas and seaborn read as it is."""
from __future__ import annotations

HISTORY_COLUMNS = ["phase", "epoch", "step", "split", "metric", "value"]     # a Trainer's own rows have no phase


def check_history(rows: list, epochs: int, *, whole: bool = True) -> None:
    """Raise ValueError unless ``rows`` (epoch, step, split, metric, value) fit so many epochs, in their order.

    ``whole``: of all that the phase has, with the evaluation of the averaged weights at the end.
    """
    for split, wanted in {"val": range(epochs + 1), "train": range(1, epochs + 1),
                          "val_ema": [epochs] * (whole and epochs > 0)}.items():
        found = [epoch for epoch, _, where, metric, value in rows
                 if (where, metric) == (split, "accuracy") and 0 <= value <= 100]
        if found != list(wanted):
            raise ValueError(f"its history is not that of {epochs} epochs")
