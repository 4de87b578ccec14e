"""QIL, Fig. 5: what trained intervals prune, beside the paper's numbers and in words."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ..recipes.qil import PAPER, QIL_LR
from ..runs import Run
from ..runs.outcomes import NOT_RECORDED
from .qil_intervals import ROLES, interval_pruning, last_bounds, motion
from .summaries import mean_and_spread

STILL = 5           # % of its width: an interval that moves less has learned nothing worth the word


def pruned_shares(found: Mapping[int, Sequence[Run]]) -> pd.DataFrame:
    """Tabulate what intervals prune, in % of all values, after training (``end``) and before it (``start``): a row for
    each role, bit-width, seed and layer, and one for all layers together (layer "all")."""
    columns = ["role", "bits", "seed", "layer", "end", "start"]
    tables = [run.find(interval_pruning).assign(bits=bits, seed=run.recipe.seed)
              for bits, runs in found.items() for run in runs if not run.absent]
    if not tables:
        return pd.DataFrame(columns=columns)
    table = pd.concat(tables, ignore_index=True)
    table = table.assign(end=100 * table.pruned_of_all, start=100 * table.at_start)
    sums = table.assign(end=table.end * table["values"], start=table.start * table["values"])
    sums = sums.groupby(["role", "bits", "seed"], sort=False)[["values", "end", "start"]].sum(min_count=1)
    whole = sums[["end", "start"]].div(sums["values"], axis=0).reset_index().assign(layer="all")
    return pd.concat([table[columns], whole[columns]], ignore_index=True)


def summary(shares: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Put the paper's pruning ratios beside ours (%), a row for each role and bit-width; means ± s.d. over seeds.

    ``paper``: columns role, bits, text.
    """
    if shares.empty:
        return pd.DataFrame({"ours": [NOT_RECORDED]})
    printed = paper.set_index(["role", "bits"]).text
    rows = []
    for (role, bits), mine in shares.groupby(["role", "bits"], sort=False):
        layers, whole = mine[mine.layer != "all"], mine[mine.layer == "all"]
        each = layers.groupby("layer").end.mean()
        rows.append({"what": ROLES[role], "bits": bits, "paper": printed.get((role, bits), ""),
                     "ours, all layers": mean_and_spread(whole.end), "before training": mean_and_spread(whole.start),
                     "mean of layers": f"{each.mean():.1f}", "layers": f"{each.min():.1f} to {each.max():.1f}"})
    return pd.DataFrame(rows).sort_values(["what", "bits"], ascending=False, ignore_index=True)


def in_words(found: Mapping[int, Sequence[Run]], bits: int = 4) -> str:
    """Say in Markdown how far intervals moved at ``bits`` bits, how much was pruned before training, where m fell below
    0, and what ReLU's share is.  Means over seeds; needs all runs."""
    if any(run.absent for runs in found.values() for run in runs):
        return f"* {NOT_RECORDED.capitalize()}."
    way = motion(found[bits]).groupby("intervals of", sort=False)["farthest layer (%)"].max()
    phase, paper = found[bits][0].recipe.phases[-1], PAPER["vgg7"]["epochs"]
    steps = found[bits][0].history.query("phase == @phase.name").step.max()
    lines = [f"Quantized networks train for {phase.epochs} epochs, {steps} steps, where the paper's train for {paper} "
             f"epochs. Weights learn at {phase.lr:g} at first and intervals at {phase.lr * phase.quantizer_lr:g}; "
             f"in the paper at {PAPER['vgg7']['lr']:g} and {PAPER['vgg7']['lr'] * QIL_LR:g}.",
             f"At {bits} bits, of all bounds in all layers, the one that moves farthest from where data set it goes "
             f"{way['weights']:.2g} % of its interval's width among the weights, and {way['activations']:.2g} % among "
             "the activations."]
    if still := [part for part in way.index if way[part] < STILL]:
        lines[1] += (f" Below {STILL} %, as for the {' and the '.join(still)}, the curves of Fig. 4 are flat because "
                     "there was hardly any learning: they cannot show that intervals converge.")
    shares = pruned_shares(found)
    whole = shares[shares.layer == "all"].groupby(["role", "bits"])[["start", "end"]].mean().loc["weight"].iloc[::-1]
    rise = whole.iloc[-1] - whole.iloc[0]
    added = ", ".join(f"{points:+.1f} points at {b} bits" for b, points in (whole.end - whole.start).items())
    lines.append(f"From {whole.index[0]} to {whole.index[-1]} bits the share of all weights that is pruned changes by "
                 f"{rise.end:+.1f} points. Before the first step of training it was {rise.start:+.1f} already: that "
                 f"is the doing of the starting values, which are ours. Training changes it by {added}.")
    ends = pd.concat([last_bounds(run) for runs in found.values() for run in runs])
    ends = ends[(ends.epoch == ends.groupby("phase").epoch.transform("max")) & (ends.role == "weight")]
    below = ends[ends.m <= 0].groupby("bits").layer.nunique().iloc[::-1]
    if len(below):
        lines.append(f"The lower bound of the weights can fall below 0. It ends there, for at least one seed, in "
                     f"{', '.join(f'{n} of {ends.layer.nunique()} layers at {b} bits' for b, n in below.items())}. "
                     "Then nothing is pruned, and the level 0 has no weight.")
    relu = pd.concat([run.find(interval_pruning) for runs in found.values() for run in runs])
    relu = 100 * relu[relu.role == "activation"].groupby("bits")[["zero", "pruned_of_all"]].mean().iloc[::-1]
    lines.append("Of the activations, in the mean over layers, " + ", ".join(
        f"{row.pruned_of_all:.0f} % are 0 at {b} bits ({row.zero:.0f} % by ReLU alone)" for b, row in relu.iterrows())
        + ".")
    return "\n".join(f"* {line}" for line in lines)
