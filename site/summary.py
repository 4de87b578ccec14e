"""The numbers of the reproducibility summary, from the recorded runs and the scoreboard's verdicts."""
from __future__ import annotations

import functools
from collections.abc import Callable

import pandas as pd
from gallery import FIGURES

from paperlib.analysis.summaries import IMAGES
from paperlib.claims.verdict import CLAIM, CONTRADICTED, NOT_ENOUGH, SUPPORTED, VERDICTS
from paperlib.runs import recorded

SHORT = 2       # reasons that as many claims share, or fewer, are not named one by one


def scope(claims: pd.DataFrame, runs: pd.DataFrame) -> str:
    """Say how many claims of how many items are judged, and by which networks and images."""
    networks = ", ".join(f"{name} × {width:g}" for name, width in
                         sorted(set(runs[["network", "width"]].itertuples(index=False, name=None))))
    images = "; ".join(f"{IMAGES[data]}, at most {rows.train_images.max():,} for training, in {len(rows)} of the runs"
                       for data, rows in runs.groupby("data"))
    return (f"{len(claims)} claims from {claims['where'].nunique()} places of the two papers. Networks: {networks}. "
            f"Images: {images}.")


def results(claims: pd.DataFrame, runs: pd.DataFrame) -> str:
    """Tabulate the verdicts of either paper's claims."""
    counts = pd.crosstab(claims["where"].str.partition(",")[0], claims.verdict)
    shown = [verdict for verdict in VERDICTS if verdict in counts]
    lines = ["| | claims | " + " | ".join(shown) + " |", "|---" * (len(shown) + 2) + "|"]
    return "\n".join([*lines, *(f"| {paper} | {row.sum()} | {' | '.join(str(row[v]) for v in shown)} |"
                                for paper, row in counts.iterrows())])


def easy(claims: pd.DataFrame, runs: pd.DataFrame) -> str:
    """List the supported claims."""
    return _listed(claims[claims.verdict == SUPPORTED])


def hard(claims: pd.DataFrame, runs: pd.DataFrame) -> str:
    """List the contradicted claims, and count why others are open."""
    open_ = claims[claims.verdict == NOT_ENOUGH].reason.str.removeprefix("the premise: ").value_counts()
    common, rare = open_[open_ > SHORT], open_[open_ <= SHORT].sum()
    reasons = [f"{reason}: {count}" for reason, count in common.items()] + [f"other reasons: {rare}"] * bool(rare)
    return (f"Contradicted:\n\n{_listed(claims[claims.verdict == CONTRADICTED])}\n\n"
            f"{open_.sum()} claims are open, by reason or missing run: {'; '.join(reasons)}.")


def cost(claims: pd.DataFrame, runs: pd.DataFrame) -> str:
    """Count the runs, their seeds and what they took."""
    seeds = runs.groupby("label").seed.nunique()
    return (f"{len(runs)} recorded runs, {(seeds >= 3).sum()} of {len(seeds)} settings with three seeds or more; "
            f"{runs.minutes.sum() / 60:.0f} hours if trained one by one, the shortest {runs.minutes.min():.1f} minutes "
            f"and the longest {runs.minutes.max():.0f}, on {', '.join(sorted(set(runs.machine)))} processors.")


def seeds(claims: pd.DataFrame, runs: pd.DataFrame) -> str:
    """Count the seeds and processors of the claims that rest on training, and tell what confirmations say."""
    trained = claims[claims.machines != ""]
    counts = (trained.seeds + trained.further).value_counts().sort_index()
    processors = trained.machines.str.split("; ").explode().value_counts()
    added = trained[trained.further > 0]
    told = "\n".join(f"* [{row.claim}](notebooks/{row.notebook}.ipynb): {row.together} ({row.unit})"
                     for row in added.itertuples())
    by_seeds = "; ".join(f"{n} in {count}" for n, count in counts.items())
    by_processor = "; ".join(f"{name} in {count}" for name, count in processors.items())
    text = (f"{len(trained)} claims have runs. Seeds that all comparisons of a claim have: {by_seeds} claims. "
            f"Processors: {by_processor} claims. ")
    if added.empty:
        return text + "There are no confirmations from other machines yet."
    return text + (f"Confirmations from other machines add {added.further.sum()} seeds, in {len(added)} of these "
                   f"claims; they are shown beside the verdicts and do not enter them:\n\n{told}")


def _listed(claims: pd.DataFrame) -> str:
    return "\n".join(f"* [{row.claim}](notebooks/{row.notebook}.ipynb) ({row.where}): {row.ours} ({row.unit})"
                     for row in claims.itertuples()) or "* none"


def inserted() -> dict[str, Callable[[], str]]:
    """Return {"summary: name": what stands in its place in a page}."""
    index = functools.cache(recorded.index)

    def filled(part):
        table = pd.read_csv(FIGURES / "scoreboard.csv", keep_default_na=False)
        return part(table[table.kind == CLAIM], index())

    return {f"summary: {part.__name__}": lambda part=part: filled(part)
            for part in (scope, results, seeds, easy, hard, cost)}
