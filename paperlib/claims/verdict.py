"""A claim of a paper as it was judged: a verdict with its effects and their intervals.

A claim names a region of effects: above 0, at most 1.48 points, between two bounds.  Each of its comparisons has one
difference per seed, of runs that share all but what is compared; the effect is their mean, and its 95 % interval
Student's t.  A comparison speaks for the claim if the whole interval lies in the region, and against it if the whole
interval lies outside.  One seed has no interval and decides nothing; what is counted, not trained, has no noise and
decides by itself.

All claims here say "all of" their comparisons.  To be *supported* each comparison must speak for the claim, which is an
intersection-union test: if the claim is false, at least one comparison is, and that one alone passes by chance in at
most 2.5 % of the cases (if the number of seeds was fixed beforehand), however many others there are; so nothing is
adjusted.  To be *contradicted* any single comparison is enough, and each is another chance to be wrong; so there the
intervals are Bonferroni's, 1 - 5 % / k for k comparisons (Holm's first step, and a further step could not change the
verdict).  Simulated with normal noise, three seeds support a true effect of one standard deviation (of the paired
differences) in 17 % of the cases, of two in 46 % and of four in 91 %; six seeds in 50, 98 and 100 %
(tests/claims/test_verdict.py).  Where three seeds left a claim open, a fourth and a fifth may have been added; who
looks again after each lets chance pass in 5 % of the cases, not 2.5 %.

No difference comes from runs of one seed that began with different float networks, or from a run that is not there,
guesses or has a collapsed quantizer, unless the claim is about failing; a comparison with a failed seed speaks for
nothing, since the seeds that survive are no fair sample.
"""
from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from scipy import special  # not scipy.stats, which takes a second to import

from ..recipes import profiles
from ..runs import Run
from ..runs.outcomes import FAILED, NOT_RECORDED

SUPPORTED, CONTRADICTED, NOT_ENOUGH = "supported", "contradicted", "not enough evidence"
NOT_APPLICABLE, NOT_TESTABLE = "not applicable", "not testable here"
VERDICTS = SUPPORTED, CONTRADICTED, NOT_ENOUGH, NOT_APPLICABLE, NOT_TESTABLE
OTHER_BEGINNING = "other float networks"      # of runs of one seed, which therefore are no pair
FOR, AGAINST, OPEN = "for", "against", "open"       # what a comparison says
CLAIM, CONTROL, BEYOND = "claim", "control", "beyond the texts"     # a sentence of a paper, or what stands beside them
PAPERS, OURS = "the paper's", "ours"        # whose margin
CONFIDENCE = 0.95
DIGITS = 9      # to which differences are told apart: rounding errors of equal numbers are no spread


@dataclass(frozen=True)
class Verdict:
    """A claim, where it is made, and what the runs say: one difference per seed and comparison.

    ``differences`` has columns comparison, seed, difference, and outcome: "", or why there is no difference (NaN),
    NOT_RECORDED, FAILED or OTHER_BEGINNING. ``least``, ``most``: the region of effects that the claim is about.
    ``margin``: whose bounds these are, PAPERS or OURS; "" where the sign alone counts. ``unit`` of the differences.
    ``printed``: the number that the paper prints, "" if none. ``kind``: CLAIM, CONTROL or BEYOND. ``counted``: nothing
    was trained and nothing drawn, so that a single number is exact. ``premise``: what must be supported for the claim
    to apply. ``needs``: what is missing where there are no comparisons. ``runs``: those that are compared, each once.
    """

    claim: str
    where: str
    differences: pd.DataFrame
    least: float = -math.inf
    most: float = math.inf
    margin: str = ""
    unit: str = "points"
    printed: str = ""
    kind: str = CLAIM
    counted: bool = False
    premise: Verdict | None = None
    needs: str = NOT_RECORDED
    testable: bool = True
    runs: tuple[Run, ...] = ()

    @classmethod
    def of(cls, claim: str, where: str, rows: Sequence[tuple], *, above: float = -math.inf, below: float = math.inf,
           of_failure: bool = False, **settings) -> Verdict:
        """Judge by rows (comparison, the run or runs of one seed that are compared, difference) whether the effects lie
        from ``above`` to ``below``.  Where nothing was trained, a number stands for the runs.  ``of_failure``: the
        claim is about trainings that fail, so that these are evidence as well.  ``settings``: fields of the verdict."""
        table = pd.DataFrame(rows, columns=["comparison", "seed", "difference"]).astype({"difference": float})
        groups = [_runs(runs) for runs in table.seed]
        table["seed"] = [group[0].recipe.seed if group else seed for group, seed in zip(groups, table.seed)]
        table["outcome"] = [_outcome(group, of_failure) for group in groups]
        table["difference"] = table.difference.where(table.outcome == "").round(DIGITS)
        compared = tuple(dict.fromkeys(run for group in groups for run in group))
        return cls(claim, where, table, above, below, runs=compared, **settings)

    def table(self) -> pd.DataFrame:
        """Tabulate the comparisons: mean; s.d. (empty for one seed); low and high, the bounds of the 95 % interval;
        n seeds; says: FOR the claim, AGAINST it (unadjusted for several comparisons) or OPEN."""
        table = self._intervals(CONFIDENCE)
        return table.assign(says=[FOR if self._inside(row) else AGAINST if self._outside(row) else OPEN
                                  for row in table.itertuples()]).drop(columns="failed")

    @functools.cached_property
    def verdict(self) -> str:
        if not self.testable:
            return NOT_TESTABLE
        if self.premise is not None and self.premise.verdict != SUPPORTED:
            return NOT_APPLICABLE if self.premise.verdict == CONTRADICTED else NOT_ENOUGH
        table = self._intervals(CONFIDENCE)
        if len(table) and all(map(self._inside, table.itertuples())):
            return SUPPORTED
        adjusted = self._intervals(1 - (1 - CONFIDENCE) / max(1, table["mean"].notna().sum()))
        return CONTRADICTED if any(map(self._outside, adjusted.itertuples())) else NOT_ENOUGH

    @property
    def reason(self) -> str:
        """Say why there is not enough evidence; "" for other verdicts."""
        if self.verdict != NOT_ENOUGH:
            return ""
        if self.premise is not None and self.premise.verdict != SUPPORTED:
            return f"the premise: {self.premise.reason}"
        table = self._intervals(CONFIDENCE)
        if table.empty:
            return self.needs
        for word in (NOT_RECORDED, FAILED):
            if (self.differences.outcome == word).any():
                return word
        if (table.n == 0).any():
            return OTHER_BEGINNING
        return "one seed" if (table.n == 1).any() else "the interval is too wide"

    def deciding(self) -> pd.Series | None:
        """Pick the row of :meth:`table` that the verdict hangs on: the one that says most against the claim, else the
        one that says less for it than others; None if no comparison has a number."""
        table = self.table().dropna(subset="mean").reset_index(drop=True)
        if table.empty:
            return None
        low, high = (table[bound].fillna(table["mean"]) for bound in ("low", "high"))
        against = pd.concat([self.least - high, low - self.most], axis=1).max(axis=1)
        support = pd.concat([low - self.least, self.most - high], axis=1).min(axis=1)
        against = against.where(table.says == AGAINST, -math.inf)
        return table.loc[against.idxmax() if (against > -math.inf).any() else support.idxmin()]

    def summary(self) -> str:
        """Write the effect, its interval and n of the comparison that the verdict hangs on, "" if there is none."""
        row = self.deciding()
        if row is None:
            return ""
        return f"{row['mean']:+.3g}" if self.counted else effect(row)

    def _intervals(self, confidence: float) -> pd.DataFrame:
        """The comparisons with intervals of this confidence; without spread, or with failed seeds, there is none."""
        table = self._effects.copy()
        error = (table.sd / table.n**0.5).where((table.sd > 0) & ~table.failed)
        half = special.stdtrit(table.n - 1, (1 + confidence) / 2) * error           # Student's t
        low, high = table["mean"] - half, table["mean"] + half
        if self.counted:
            low = high = table["mean"]
        table.insert(3, "low", low)
        table.insert(4, "high", high)
        return table

    @functools.cached_property
    def _effects(self) -> pd.DataFrame:
        """The comparisons: mean, s.d. and number of the differences, and whether a seed failed."""
        grouped = self.differences.assign(failed=self.differences.outcome == FAILED).groupby("comparison", sort=False)
        return grouped.agg(mean=("difference", "mean"), sd=("difference", "std"), n=("difference", "count"),
                           failed=("failed", "any")).reset_index()

    def _inside(self, row) -> bool:
        return self.least <= row.low and row.high <= self.most

    def _outside(self, row) -> bool:
        return row.high < self.least or row.low > self.most


def at_scale(profile: str, verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Keep the verdicts where a profile's scale can judge claims; elsewhere make them NOT_TESTABLE, numbers and all."""
    conclusive = profiles.get(profile).conclusive
    return [dataclasses.replace(verdict, testable=verdict.testable and conclusive) for verdict in verdicts]


def overview(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Tabulate verdicts: claim, effect (of the comparison that it hangs on), unit, verdict with the reason if open."""
    return pd.DataFrame([(v.claim, v.summary(), v.unit, in_words(v)) for v in verdicts],
                        columns=["claim", "effect", "unit", "verdict"])


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
        return "; ".join(f"{row.comparison}: {row.mean if isinstance(row.mean, str) else format(row.mean, '.3g')}"
                         for row in comparisons([verdict]).itertuples()) or "no comparison"

    return "\n\n".join(f"{i}. **{v.claim}**: {in_words(v)} ({told(v)})" for i, v in enumerate(verdicts, 1))


def effect(row: pd.Series) -> str:
    """Write a row of :meth:`Verdict.table`: effect, its interval if there is one, and n."""
    if pd.isna(row["mean"]):
        return "no effect"
    interval = f" [{row.low:+.3g}, {row.high:+.3g}]" if pd.notna(row.low) else ""
    return f"{row['mean']:+.3g}{interval}, n = {row.n}"


def in_words(verdict: Verdict) -> str:
    """Write the verdict, and why there is not enough evidence."""
    return verdict.verdict + (f": {verdict.reason}" if verdict.reason else "")


def _runs(given: object) -> list[Run]:
    return [run for run in (given if isinstance(given, (tuple, list)) else [given]) if isinstance(run, Run)]


def _outcome(group: Sequence[Run], of_failure: bool) -> str:
    found = {run.outcome for run in group}
    if NOT_RECORDED in found:
        return NOT_RECORDED
    if FAILED in found and not of_failure:
        return FAILED
    # recorded in several places, the same recipe for the float network may have led to several
    recorded = [run for run in group if run.folder is not None and run.recipe.phases[0].epochs]
    begins = {(run.recipe.phases[0], run.beginning) for run in recorded}
    return OTHER_BEGINNING if len(begins) > len({run.recipe.phases[0] for run in recorded}) else ""


def measured(groups: Iterable[tuple[Run, ...]], names: Sequence[str], measure: Callable[..., Sequence[float]]
             ) -> list[tuple]:
    """Make rows for :meth:`Verdict.of`: ``measure(*runs)`` gives a number for each of ``names``; it is not asked where
    a run is not there (NaN)."""
    return [(name, runs, value) for runs in groups for name, value in
            zip(names, [math.nan] * len(names) if any(run.absent for run in runs) else measure(*runs), strict=True)]
