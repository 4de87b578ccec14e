"""Every testable sentence of the papers, with what our runs say about it.

``judge`` goes through the notebooks' claims (contents.py); a notebook shows the same claims with their pictures.
"""
from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from .. import runs
from ..runs import Run
from . import untested
from .contents import NOTEBOOKS, Shown
from .experiments import flat
from .verdict import CLAIM, Verdict, in_words


@dataclass(frozen=True)
class Judged:
    """A claim as it was judged: its notebook, the runs that were looked at, and which runs these are."""

    notebook: str
    verdict: Verdict
    runs: list[Run]
    scale: str


def judge(profile: str, seeds: int = 0) -> list[Judged]:
    """Judge all claims by the runs of a profile; trains what is missing.  ``seeds``: 0 for as many as belong to it."""
    found = []
    for name, notebook in NOTEBOOKS.items():
        found += [judged for shown in notebook.shows if shown.verdicts
                  for judged in _judge(name, shown, profile, seeds)]
        found += [Judged(name, verdict, [], "no runs") for verdict in untested.verdicts(name)]
    return found


def _judge(name: str, shown: Shown, profile: str, seeds: int) -> list[Judged]:
    if shown.wanted is None:
        return [Judged(name, verdict, [], shown.what) for verdict in shown.verdicts()]
    profile = "recorded" if shown.recorded else profile
    found = runs.obtain_each(shown.recipes(profile, seeds), complete=seeds > 0 and not shown.recorded)
    scale = f"{profile}: {shown.what}" if shown.what else profile
    return [Judged(name, verdict, flat(found), scale) for verdict in shown.verdicts(found, profile)]


def table(judged: list[Judged]) -> pd.DataFrame:
    """Tabulate claims: kind (a paper's claim, a control, or beyond the texts); claim; where; paper (its number);
    comparison (the one that the verdict hangs on, of how many: comparisons), its effect, the 95 % interval from low to
    high, n seeds and unit; ours (these in words); ``least`` and ``most`` (the region that the claim is about) and
    margin (whose); verdict and reason (why there is not enough evidence); runs (their scale); notebook."""
    rows = []
    for one in judged:
        verdict, row = one.verdict, one.verdict.deciding()
        effect = {} if row is None else {"comparison": row.comparison, "effect": row["mean"], "low": row.low,
                                         "high": row.high, "n": row.n}
        rows.append({"kind": verdict.kind, "claim": verdict.claim, "where": verdict.where, "paper": verdict.printed,
                     "comparison": "", "comparisons": verdict.differences.comparison.nunique(), "effect": None,
                     "low": None, "high": None, "n": 0, "unit": verdict.unit, "ours": verdict.summary(),
                     "least": verdict.least, "most": verdict.most, "margin": verdict.margin, "verdict": verdict.verdict,
                     "reason": verdict.reason, "words": in_words(verdict), "runs": one.scale, "notebook": one.notebook,
                     **effect})
    return pd.DataFrame(rows).astype({name: float for name in ("effect", "low", "high")})


def page(table: pd.DataFrame) -> str:
    """Write the table as Markdown, with links to the notebooks; controls, and what no text says, in lists of their
    own."""
    lines = []
    for kind, rows in table.groupby("kind", sort=False):
        lines += [] if kind == CLAIM else ["", f"**{HEADINGS[kind]}**", ""]
        lines += ["| claim | where | paper | ours | unit | margin | verdict | runs |", "|" + 8 * "---|"]
        lines += [f"| [{row.claim}]({row.notebook}.ipynb) | {row.where} | {row.paper} | {row.ours} | "
                  f"{row.unit if row.ours else ''} | {row.margin} | **{row.verdict}**"
                  f"{f' ({row.reason})' if row.reason else ''} | {row.runs} |" for row in rows.itertuples()]
    return "\n".join(lines)


HEADINGS = {"control": "Controls: what must hold for a claim to mean something, or holds by construction",
            "beyond the texts": "Beyond the texts: what the figures suggest, but no sentence at hand says"}
