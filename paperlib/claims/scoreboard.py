"""Every testable sentence of the papers with what our runs say about it."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from .. import items, profiles, published, runs
from ..runs import Run
from . import pact_vs_duq
from .verdict import Verdict


@dataclass(frozen=True)
class Judged:
    """A claim as it was judged: the notebook that shows it, the number that the paper prints ("" if none) and the runs
    that were looked at."""

    item: str
    verdict: Verdict
    number: str
    runs: list[Run]


def judge(profile: str, seeds: int = 0) -> Iterator[Judged]:
    """All claims, judged by the runs of a profile; trains what is missing."""
    testable = profiles.get(profile).conclusive
    for item, claims in CLAIMS.items():
        yield from claims(item, profile, seeds, testable)


def table(judged: list[Judged]) -> pd.DataFrame:
    """One row per claim: claim, where, paper's number, ours (mean ± s.d. over seeds; the extremes of several
    comparisons), seeds, how many of all single comparisons agree, verdict, notebook."""
    rows = [{"claim": j.verdict.claim, "where": j.verdict.where, "paper": j.number, "ours": j.verdict.summary(),
             "seeds": j.verdict.differences.seed.nunique(),
             "agree": f"{int(j.verdict.holds.sum())} of {len(j.verdict.holds)}", "verdict": j.verdict.verdict,
             "notebook": j.item} for j in judged]
    return pd.DataFrame(rows)


def _found(wanted: items.Wanted, seeds: int) -> tuple[dict, list[Run]]:
    found = runs.obtain_each(wanted, complete=seeds > 0)
    return found, [run for group in found.values() for run in group]


def _pact_vs_duq(item: str, profile: str, seeds: int, testable: bool) -> Iterator[Judged]:
    found, all_runs = _found(items.pact_vs_duq(profile, seeds), seeds)
    for claim in (pact_vs_duq.duq_ends_lower, pact_vs_duq.duq_starts_higher):
        yield Judged(item, claim(found["duq"], found["pact"], testable=testable), "", all_runs)


CLAIMS: dict[str, Callable[[str, str, int, bool], Iterator[Judged]]] = {
    "profit_supp_fig2_pact_vs_duq": _pact_vs_duq,
}
