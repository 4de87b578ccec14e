"""Every testable sentence of the papers, with what our runs say about it.

``judge`` goes through the notebooks' claims (contents.py); a notebook shows the same claims with their pictures.
"""
from __future__ import annotations

import dataclasses
import functools
import hashlib
from dataclasses import dataclass

import pandas as pd

from .. import runs
from ..runs import Run
from . import confirmations, untested
from .confirmations import Confirmation
from .contents import NOTEBOOKS, Shown
from .experiments import flat
from .verdict import CLAIM, CONTRADICTED, SUPPORTED, Verdict, effect, in_words


@dataclass(frozen=True)
class Judged:
    """A claim as it was judged: its notebook, the runs that were looked at, and which runs these are; ``shown``: where
    they come from, None where there are none.  ``confirmed``: what other machines found."""

    notebook: str
    verdict: Verdict
    runs: list[Run]
    scale: str
    shown: Shown | None = None
    confirmed: tuple[Confirmation, ...] = ()

    @functools.cached_property
    def id(self) -> str:
        """What the claim is called in a word: the file that judges it, and a hash of its words and of its runs'."""
        file = self.shown.verdicts.__module__ if self.shown else untested.__name__
        told = f"{self.verdict.claim}\n{self.shown.what if self.shown else ''}"
        return f"{file.rpartition('.')[2]}_{hashlib.sha256(told.encode()).hexdigest()[:4]}"

    @functools.cached_property
    def together(self) -> Verdict:
        """The verdict by recorded seeds and confirmations together."""
        return confirmations.together(self.verdict, self.confirmed)

    @property
    def seeds(self) -> list[int]:
        """The seeds that were recorded of all its comparisons; none where nothing was trained."""
        return confirmations.seeds(self.verdict.differences) if self.verdict.runs else []

    @property
    def further(self) -> list[int]:
        """The seeds that confirmations add to them."""
        return [seed for seed in confirmations.seeds(self.together.differences) if seed not in self.seeds
                ] if self.confirmed else []

    @property
    def machines(self) -> list[str]:
        """The kinds of processor on which these seeds were trained."""
        found = [run.environment for run in self.verdict.runs if not run.absent]
        found += [dataclasses.asdict(one.machine) for one in self.confirmed if set(one.seeds) & set(self.further)]
        return sorted({machine.get("gpu") or machine.get("cpu") or "unknown" for machine in found})


def judge(profile: str, seeds: int = 0) -> list[Judged]:
    """Judge all claims by the runs of a profile; trains what is missing.  ``seeds``: 0 for as many as belong to it.
    Confirmations belong to recorded runs."""
    found = []
    for name, notebook in NOTEBOOKS.items():
        found += [judged for shown in notebook.shows if shown.verdicts
                  for judged in _judge(name, shown, profile, seeds)]
        found += [Judged(name, verdict, [], "no runs") for verdict in untested.verdicts(name)]
    if profile != "recorded":
        return found
    confirmed = confirmations.everything({one.id: one.verdict for one in found})
    return [dataclasses.replace(one, confirmed=tuple(confirmed.get(one.id, ()))) for one in found]


def _judge(name: str, shown: Shown, profile: str, seeds: int) -> list[Judged]:
    if shown.wanted is None:
        return [Judged(name, verdict, [], shown.what, shown) for verdict in shown.verdicts()]
    profile = "recorded" if shown.recorded else profile
    found = runs.obtain_each(shown.recipes(profile, seeds), complete=seeds > 0 and not shown.recorded)
    scale = f"{profile}: {shown.what}" if shown.what else profile
    return [Judged(name, verdict, flat(found), scale, shown) for verdict in shown.verdicts(found, profile)]


def table(judged: list[Judged]) -> pd.DataFrame:
    """Tabulate claims: kind (a paper's claim, a control, or beyond the texts); claim; where; paper (its number);
    comparison (the one that the verdict hangs on, of how many: comparisons), its effect, the 95 % interval from low to
    high, n seeds and unit; ours (these in words); ``least`` and ``most`` (the region that the claim is about) and
    margin (whose); verdict and reason (why there is not enough evidence); runs (their scale); notebook; id; seeds, how
    many were recorded; further, how many confirmations add; together, what all of them say, "" where none is added;
    machines, the kinds of processor."""
    rows = []
    for one in judged:
        verdict, row = one.verdict, one.verdict.deciding()
        hangs_on = {} if row is None else {"comparison": row.comparison, "effect": row["mean"], "low": row.low,
                                           "high": row.high, "n": row.n}
        rows.append({"kind": verdict.kind, "claim": verdict.claim, "where": verdict.where, "paper": verdict.printed,
                     "comparison": "", "comparisons": verdict.differences.comparison.nunique(), "effect": None,
                     "low": None, "high": None, "n": 0, "unit": verdict.unit, "ours": verdict.summary(),
                     "least": verdict.least, "most": verdict.most, "margin": verdict.margin, "verdict": verdict.verdict,
                     "reason": verdict.reason, "words": in_words(verdict), "runs": one.scale, "notebook": one.notebook,
                     "id": one.id, "seeds": len(one.seeds), "further": len(one.further),
                     "together": _together(one, row) if one.further else "",
                     "machines": "; ".join(one.machines), **hangs_on})
    return pd.DataFrame(rows).astype({name: float for name in ("effect", "low", "high")})


def _together(one: Judged, row: pd.Series | None) -> str:
    """Write what all seeds say of the comparison in ``row``, and the verdict that they would make."""
    told = one.together.table().set_index("comparison")
    ours = one.together.summary() if row is None else effect(told.loc[row.comparison])
    return f"{ours}: {in_words(one.together)}"


def page(table: pd.DataFrame) -> str:
    """Write the table as Markdown, with links to the notebooks; controls, and what no text says, in lists of their
    own."""
    lines = []
    for kind, rows in table.groupby("kind", sort=False):
        lines += [] if kind == CLAIM else ["", f"**{HEADINGS[kind]}**", ""]
        lines += ["| claim | where | paper | ours | unit | margin | verdict | runs |", "|" + 8 * "---|"]
        lines += [f"| [{row.claim}]({row.notebook}.ipynb) `{row.id}` | {row.where} | {row.paper} | {row.ours} | "
                  f"{row.unit if row.ours else ''} | {row.margin} | **{row.verdict}**"
                  f"{f' ({row.reason})' if row.reason else ''}"
                  f"{f'; with confirmations {row.together}' if row.further else ''} | {row.runs}{_trained(row)} |"
                  for row in rows.itertuples()]
    return "\n".join(lines)


def decided(table: pd.DataFrame) -> str:
    """Write the papers' claims that are supported or contradicted, with what decides them, as a table in Markdown; the
    README has it."""
    lines = ["| | claim | effect, 95 % interval, seeds | unit | runs |", "|---|---|---|---|---|"]
    for verdict in (SUPPORTED, CONTRADICTED):
        for row in table[(table.kind == CLAIM) & (table.verdict == verdict)].itertuples():
            runs = row.runs.partition(": ")[2] or {"recorded": "CIFAR-10"}.get(row.runs, row.runs)
            lines.append(f"| {verdict} | [{row.claim}](notebooks/{row.notebook}.ipynb) | {row.ours} | {row.unit} | "
                         f"{runs} |")
    return "\n".join(lines)


def _trained(row) -> str:
    """Write how many seeds, and on how many machines; "" where nothing was trained."""
    if not row.machines:
        return ""
    seeds, machines = f"{row.seeds}{f' + {row.further}' if row.further else ''}", len(row.machines.split("; "))
    return f"; {seeds} seed{'s' * (seeds != '1')}, {machines} machine{'s' * (machines > 1)}"


HEADINGS = {"control": "Controls: what must hold for a claim to mean something, or holds by construction",
            "beyond the texts": "Beyond the texts: what the figures suggest, but no sentence at hand says"}
