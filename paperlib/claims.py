"""The papers' testable sentences: each a function of runs that returns a verdict with its numbers.

A claim is reproduced when every seed shows it, not reproduced when any seed contradicts it, and not testable where the
profile is too small to mean anything.  No tolerance is tuned.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from .errors import InputError
from .runs import Run

REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE = "reproduced", "not reproduced", "not testable at this scale"


@dataclass(frozen=True)
class Verdict:
    """A claim, where it stands, and what the runs say: one difference per seed and comparison."""

    claim: str
    where: str
    differences: pd.DataFrame       # columns comparison, seed, difference
    holds: pd.Series                # bool, one per row of differences
    testable: bool

    @property
    def verdict(self) -> str:
        if not self.testable:
            return NOT_TESTABLE
        return REPRODUCED if self.holds.all() else NOT_REPRODUCED

    def table(self) -> pd.DataFrame:
        """One row per comparison: mean, s.d. (empty for one seed), number of seeds, how many of them agree."""
        grouped = self.differences.assign(holds=self.holds).groupby("comparison", sort=False)
        return grouped.agg(mean=("difference", "mean"), sd=("difference", "std"), n=("difference", "size"),
                           seeds_that_agree=("holds", "sum")).reset_index()


def _pairs(duq: Sequence[Run], pact: Sequence[Run]):
    if [r.recipe.seed for r in duq] != [r.recipe.seed for r in pact] or not duq:
        raise InputError("compare runs of the same seeds, at least one, in the same order")
    return zip(duq, pact)


def duq_ends_lower(duq: Sequence[Run], pact: Sequence[Run], *, testable: bool = True) -> Verdict:
    """Supplement section 2: at the end, DuQ with negative padding has lower loss than PACT, for activation and for
    weight quantization, in training and validation alike.  ``difference`` is DuQ minus PACT after the last epoch."""
    rows = [(f"{split} loss, {phase}", d.recipe.seed,
             d.values(phase, split).iloc[-1] - p.values(phase, split).iloc[-1])
            for phase in ("activations", "weights") for split in ("train", "val") for d, p in _pairs(duq, pact)]
    table = pd.DataFrame(rows, columns=["comparison", "seed", "difference"])
    return Verdict("DuQ with negative padding ends with lower training and validation loss than PACT, for activations "
                   "and for weights", "PROFIT, supplement, section 2 and Fig. 2", table, table.difference < 0, testable)


def duq_starts_higher(duq: Sequence[Run], pact: Sequence[Run], *, testable: bool = True) -> Verdict:
    """Supplement section 2: in the early epochs of weight quantization DuQ's validation loss is above PACT's.

    "Early" is read as the first tenth of the stage, at least its first epoch; ``difference`` is DuQ minus PACT, the
    mean over those epochs."""
    rows = []
    for d, p in _pairs(duq, pact):
        gap = (d.values("weights", "val") - p.values("weights", "val")).drop(0)     # epoch 0: nothing trained yet
        rows.append(("val loss, early epochs of weights", d.recipe.seed, gap.iloc[: max(1, len(gap) // 10)].mean()))
    table = pd.DataFrame(rows, columns=["comparison", "seed", "difference"])
    return Verdict("In the early epochs of weight quantization DuQ's validation loss is higher than PACT's",
                   "PROFIT, supplement, section 2 and Fig. 2", table, table.difference > 0, testable)
