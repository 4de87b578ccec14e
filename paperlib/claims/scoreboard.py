"""Every testable sentence of the papers, with what our runs say about it.

``judge`` goes through the notebooks' claims (contents.py); a notebook shows the same claims with their pictures.
"""
from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from .. import runs
from ..runs import Run
from .contents import NOTEBOOKS, Shown
from .experiments import flat
from .verdict import Verdict


@dataclass(frozen=True)
class Judged:
    """A claim as it was judged: its notebook, the runs that were looked at, and which runs these are."""

    notebook: str
    verdict: Verdict
    runs: list[Run]
    scale: str


def judge(profile: str, seeds: int = 0) -> list[Judged]:
    """Judge all claims by the runs of a profile; trains what is missing.  ``seeds``: 0 for as many as belong to it."""
    return [judged for name, notebook in NOTEBOOKS.items() for shown in notebook.shows if shown.verdicts
            for judged in _judge(name, shown, profile, seeds)]


def _judge(name: str, shown: Shown, profile: str, seeds: int) -> list[Judged]:
    if shown.wanted is None:
        return [Judged(name, verdict, [], shown.what) for verdict in shown.verdicts()]
    profile = "recorded" if shown.recorded else profile
    found = runs.obtain_each(shown.recipes(profile, seeds), complete=seeds > 0 and not shown.recorded)
    scale = f"{profile}: {shown.what}" if shown.what else profile
    return [Judged(name, verdict, flat(found), scale) for verdict in shown.verdicts(found, profile)]


def table(judged: list[Judged]) -> pd.DataFrame:
    """Tabulate claims: claim, where, paper (its number), ours (mean ± s.d. over seeds, or the extremes of several
    comparisons), seeds, agree (single comparisons that do), verdict, runs (their scale), notebook."""
    rows = []
    for one in judged:
        verdict = one.verdict
        compared = verdict.differences[verdict.differences.outcome == ""]
        rows.append({"claim": verdict.claim, "where": verdict.where, "paper": verdict.printed,
                     "ours": verdict.summary(), "seeds": compared.seed.nunique(),
                     "agree": f"{int(verdict.holds.sum())} of {len(compared)}", "verdict": verdict.verdict,
                     "runs": one.scale, "notebook": one.notebook})
    return pd.DataFrame(rows)


def page(table: pd.DataFrame) -> str:
    """Write the table as Markdown, with links to the notebooks; comparisons that agree stand beside the verdict."""
    lines = ["| claim | where | paper | ours | verdict | runs |", "|---|---|---|---|---|---|"]
    for row in table.itertuples():
        verdict = f"**{row.verdict}**" + (f" ({row.agree})" if row.seeds else "")
        lines.append(f"| [{row.claim}]({row.notebook}.ipynb) | {row.where} | {row.paper} | {row.ours} | {verdict} | "
                     f"{row.runs}, n = {row.seeds} |")
    return "\n".join(lines)
