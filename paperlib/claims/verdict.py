"""A claim of a paper as it was judged: a verdict with its numbers.

A claim is reproduced when every seed shows it, not reproduced when any seed contradicts it, and not testable where the
profile is too small to mean anything or nothing could be compared.  No tolerance is tuned.
"""
from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ..errors import InputError
from ..runs import Run

REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE = "reproduced", "not reproduced", "not testable at this scale"


@dataclass(frozen=True)
class Verdict:
    """A claim, where it stands, and what the runs say: one difference per seed and comparison."""

    claim: str
    where: str
    differences: pd.DataFrame       # columns comparison, seed, difference
    holds: pd.Series                # bool, one per row of differences
    testable: bool

    @classmethod
    def of(cls, claim: str, where: str, rows: Sequence[tuple], holds: Callable[[pd.Series], pd.Series],
           testable: bool) -> Verdict:
        """From rows (comparison, seed, difference) and what must hold of the differences."""
        table = pd.DataFrame(rows, columns=["comparison", "seed", "difference"])
        return cls(claim, where, table, holds(table.difference), testable)

    @property
    def verdict(self) -> str:
        if not self.testable or self.holds.empty:
            return NOT_TESTABLE
        return REPRODUCED if self.holds.all() else NOT_REPRODUCED

    def summary(self) -> str:
        """The differences in a line: mean ± s.d. over seeds; of several comparisons the least and greatest mean."""
        table = self.table()
        if table.empty:
            return ""
        if len(table) > 1:
            return f"{table['mean'].min():+.3g} to {table['mean'].max():+.3g} in {len(table)} comparisons"
        spread = "" if table.sd.isna()[0] else f" ± {table.sd[0]:.2g}"
        return f"{table['mean'][0]:+.3g}{spread}"

    def table(self) -> pd.DataFrame:
        """One row per comparison: mean, s.d. (empty for one seed), number of seeds, how many of them agree."""
        grouped = self.differences.assign(holds=self.holds).groupby("comparison", sort=False)
        return grouped.agg(mean=("difference", "mean"), sd=("difference", "std"), n=("difference", "size"),
                           seeds_that_agree=("holds", "sum")).reset_index()


def same_seeds(*groups: Sequence[Run]) -> list[tuple[Run, ...]]:
    """The runs of each seed side by side; InputError unless all groups have the same seeds, at least one, in the same
    order."""
    seeds = [[run.recipe.seed for run in group] for group in groups]
    if not seeds[0] or any(s != seeds[0] for s in seeds):
        raise InputError("compare runs of the same seeds, at least one, in the same order")
    return list(zip(*groups))


def shared_seeds(*groups: Sequence[Run]) -> list[tuple[Run, ...]]:
    """:func:`same_seeds` of those seeds that all groups have."""
    common = set.intersection(*({run.recipe.seed for run in group} for group in groups))
    return same_seeds(*([run for run in group if run.recipe.seed in common] for group in groups))


def on_shared_seeds(found: Mapping[Hashable, Sequence[Run]]) -> dict[Hashable, list[Run]]:
    """Runs under several names without the seeds that not all names have, since seeds differ by more than names do."""
    shared = set.intersection(*({run.recipe.seed for run in runs} for runs in found.values()))
    return {name: [run for run in runs if run.recipe.seed in shared] for name, runs in found.items()}
