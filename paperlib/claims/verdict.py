"""A claim of a paper as it was judged: a verdict with its numbers.

A claim is reproduced when every seed shows it, not reproduced when any seed contradicts it, and not testable where the
profile is too small to mean anything or nothing could be compared.  No tolerance is tuned.  Runs that are not there, or
that failed, are no evidence: while a comparison has one, there is no verdict, but what it waits for is said.
"""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from ..recipes import profiles
from ..runs import Run
from ..runs.outcomes import FAILED, NOT_RECORDED

REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE = "reproduced", "not reproduced", "not testable at this scale"


@dataclass(frozen=True)
class Verdict:
    """A claim, where it stands, and what the runs say: one difference per seed and comparison.

    ``differences`` has columns comparison, seed, difference, and outcome: "", or why there is no difference (NaN),
    NOT_RECORDED or FAILED.  ``printed``: the number that the paper prints, "" if none."""

    claim: str
    where: str
    differences: pd.DataFrame
    holds: pd.Series                # bool, one per row of differences
    printed: str = ""
    testable: bool = True

    @classmethod
    def of(cls, claim: str, where: str, rows: Sequence[tuple], holds: Callable[[pd.Series], pd.Series], *,
           printed: str = "", of_failure: bool = False) -> Verdict:
        """Judge by rows (comparison, the run or runs of one seed that are compared, difference) and what must hold of
        the differences.  Where nothing was trained, a number stands for the runs.  ``of_failure``: the claim is about
        trainings that fail, so that these are evidence as well."""
        table = pd.DataFrame(rows, columns=["comparison", "seed", "difference"]).astype({"difference": float})
        groups = [_runs(runs) for runs in table.seed]
        table["seed"] = [group[0].recipe.seed if group else seed for group, seed in zip(groups, table.seed)]
        table["outcome"] = [_outcome(group, of_failure) for group in groups]
        table.loc[table.outcome != "", "difference"] = math.nan
        return cls(claim, where, table, holds(table.difference) & (table.outcome == ""), printed)

    @property
    def verdict(self) -> str:
        if not self.testable or self.holds.empty:
            return NOT_TESTABLE
        for word in (NOT_RECORDED, FAILED):
            if (self.differences.outcome == word).any():
                return word
        return REPRODUCED if self.holds.all() else NOT_REPRODUCED

    def summary(self) -> str:
        """Write the differences in a line: mean ± s.d. over seeds; of several comparisons the least and greatest."""
        table = self.table().dropna(subset="mean").reset_index(drop=True)
        if table.empty:
            return ""
        if len(table) > 1:
            return f"{table['mean'].min():+.3g} to {table['mean'].max():+.3g} in {len(table)} comparisons"
        spread = "" if table.sd.isna()[0] else f" ± {table.sd[0]:.2g}"
        return f"{table['mean'][0]:+.3g}{spread}"

    def table(self) -> pd.DataFrame:
        """Tabulate the comparisons: mean, s.d. (empty for one seed), number of seeds, how many of them agree; seeds
        without a difference do not count."""
        grouped = self.differences.assign(holds=self.holds).groupby("comparison", sort=False)
        return grouped.agg(mean=("difference", "mean"), sd=("difference", "std"), n=("difference", "count"),
                           seeds_that_agree=("holds", "sum")).reset_index()


def at_scale(profile: str, verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Keep the verdicts where a profile's scale can judge claims; elsewhere make them NOT_TESTABLE, numbers and all."""
    conclusive = profiles.get(profile).conclusive
    return [dataclasses.replace(verdict, testable=conclusive) for verdict in verdicts]


def comparisons(verdicts: Sequence[Verdict], digits: int = 2) -> pd.DataFrame:
    """Tabulate the comparisons of several verdicts, rounded, and where there is no mean, why."""
    tables = []
    for verdict in verdicts:
        table, words = verdict.table().round(digits), verdict.differences.groupby("comparison").outcome.max()
        table["mean"] = table["mean"].astype(object).where(table["mean"].notna(), table.comparison.map(words))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def listed(verdicts: Sequence[Verdict]) -> str:
    """Number claims, verdicts and the means of their comparisons, in Markdown."""
    def told(verdict):
        return "; ".join(f"{row.comparison}: {row.mean if isinstance(row.mean, str) else format(row.mean, '.2f')}"
                         for row in comparisons([verdict]).itertuples())

    return "\n\n".join(f"{i}. **{v.claim}**: {v.verdict} ({told(v)})" for i, v in enumerate(verdicts, 1))


def _runs(given: object) -> list[Run]:
    return [run for run in (given if isinstance(given, (tuple, list)) else [given]) if isinstance(run, Run)]


def _outcome(group: Sequence[Run], of_failure: bool) -> str:
    found = {run.outcome for run in group}
    return NOT_RECORDED if NOT_RECORDED in found else FAILED if FAILED in found and not of_failure else ""


def measured(groups: Iterable[tuple[Run, ...]], names: Sequence[str], measure: Callable[..., Sequence[float]]
             ) -> list[tuple]:
    """Make rows for :meth:`Verdict.of`: ``measure(*runs)`` gives a number for each of ``names``; it is not asked where
    a run is not there (NaN)."""
    return [(name, runs, value) for runs in groups for name, value in
            zip(names, [math.nan] * len(names) if any(run.absent for run in runs) else measure(*runs), strict=True)]
