"""QIL, Fig. 4 and 5: where the intervals of its quantizers go, and what they prune."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from ..analysis.qil_intervals import bounds, interval_pruning
from ..runs import Run
from ..runs.seeds import shared_seeds
from . import published
from .verdict import BEYOND, OURS, Verdict, at_scale

FIG4, FIG5 = "QIL, section 4.1 and Fig. 4", "QIL, section 4.1 and Fig. 5"
STILL = 0.05        # the share of its interval's width that a bound may still go in the last quarter
NEAR = 10.0         # points: "about" 75 %, and "similar"
Found = Mapping[int, Sequence[Run]]     # bits of weights and activations -> runs


def verdicts(found: Found, profile: str) -> list[Verdict]:
    """Judge the runs of :func:`paperlib.claims.experiments.qil_intervals`; Fig. 4 shows the runs of 4 bits."""
    return at_scale(profile, [bounds_converge(found[4]), weight_pruning_rises(found), training_adds_to_pruning(found),
                              activations_pruned(found), activation_pruning_is_similar(found)])


def bounds_converge(runs: Sequence[Run]) -> Verdict:
    """Section 4.1 on Fig. 4: the bounds m and M come to certain values without any significant fluctuations.

    Read as: within the last quarter of the epochs a bound goes through at most a twentieth of the width that its
    interval had at the start.  It must hold of every layer, so ``difference`` is the largest share over layers.  By
    then the learning rate has fallen to a tenth and less: bounds at rest say as much about the schedule as about the
    method."""
    rows = []
    for run in runs:
        table = bounds(run)
        table = table[table.phase == run.recipe.phases[-1].name]
        last = table[table.epoch >= 0.75 * table.epoch.max()]
        for role in ("weight", "activation"):
            start = table[(table.role == role) & (table.epoch == 0)].set_index("layer")
            late = last[last.role == role].groupby("layer", sort=False)
            for bound in ("m", "M"):
                share = (late[bound].max() - late[bound].min()) / (start.M - start.m)
                rows.append((f"{role}s, {bound}: way in the last quarter, as a share of the interval's width", run,
                             share.max()))
    return Verdict.of("The bounds of the intervals converge", FIG4, rows, below=STILL,
                      margin=OURS, unit="share of the width")


def pruned(run: Run, role: str, measure: str = "pruned_of_all") -> pd.Series:
    """The share of values (%) that the last network's quantizers send to 0, by layer; of activations, what ReLU has
    made 0 already is counted.  ``measure``: "at_start" for the same before training.  One NaN for a run that is not
    recorded yet."""
    if run.absent:
        return pd.Series([math.nan])
    table = run.find(interval_pruning)
    return 100 * table[table.role == role].set_index("layer")[measure]


def weight_pruning_rises(found: Found) -> Verdict:
    """Section 4.1 on Fig. 5: the pruning ratio of weights rises from 26.4 % to 84.2 % as bits fall from 5 to 3.

    Read as: it rises from 5 to 4 and from 4 to 3 bits, in the mean over layers.  The paper shows one layer as an
    example; in how many of ours it rises, in the mean over seeds, is told beside each comparison.  The two numbers are
    that layer's: shown, not demanded.  ``difference`` is fewer bits minus more, in points."""
    five, three = (published.value(paper_id=published.QIL, metric=f"weight pruning ratio {b} bit") for b in (5, 3))
    bits, rows = sorted(found, reverse=True), []
    for more, fewer in zip(bits, bits[1:]):
        pairs = shared_seeds(found[fewer], found[more])
        rises = pd.DataFrame([pruned(few, "weight") - pruned(many, "weight") for few, many in pairs])
        known = rises.dropna()
        layers = f"; rises in {(known.mean() > 0).sum()} of {known.shape[1]} layers" if len(known) else ""
        rows += [(f"weights pruned at {fewer} minus at {more} bits (points{layers})", pair, mean)
                 for pair, mean in zip(pairs, rises.mean(axis=1))]
    return Verdict.of(f"More weights are pruned at fewer bits, from {bits[0]} to {bits[-1]}", FIG5, rows,
                      above=0, printed=f"{five:g} % at 5 bits, {three:g} % at 3")


def training_adds_to_pruning(found: Found) -> Verdict:
    """Beyond the text, which does not say what is pruned before training: an interval that is set on the same weights
    prunes more at fewer bits without having learned anything.

    Read as: what training adds to the pruned share rises from 5 to 4 and from 4 to 3 bits as well, in the mean over
    layers.  ``difference`` is that at fewer bits minus that at more, in points."""
    bits = sorted(found, reverse=True)
    rows = [(f"pruned by training at {fewer} minus at {more} bits (points)", (few, many),
             _learned(few) - _learned(many))
            for more, fewer in zip(bits, bits[1:]) for few, many in shared_seeds(found[fewer], found[more])]
    return Verdict.of(f"Training adds more to what is pruned at fewer bits, from {bits[0]} to {bits[-1]}", FIG5, rows,
                      above=0, kind=BEYOND)


def _learned(run: Run) -> float:
    return (pruned(run, "weight") - pruned(run, "weight", "at_start")).mean()


def activations_pruned(found: Found) -> Verdict:
    """Section 4.1: about 75 % of the activations are pruned.

    Read as: 65 to 85 %, in the mean over layers, at each bit-width, with what ReLU has made 0 already.  But the paper
    says it of the one layer that it shows, without a name, and ours differ by 40 points: so it is measured and not
    judged.  ``difference`` is our share minus the paper's, in points."""
    printed = published.value(paper_id=published.QIL, metric="activation pruning ratio (about)")
    rows = [(f"activations pruned at {bits} bits, minus {printed:g} (points)", run,
             pruned(run, "activation").mean() - printed) for bits, runs in found.items() for run in runs]
    return Verdict.of(f"About {printed:g} % of the activations are pruned", FIG5, rows,
                      above=-NEAR, below=NEAR, margin=OURS, printed=f"{printed:g} %", testable=False,
                      needs="the name of the layer that the paper shows")


def activation_pruning_is_similar(found: Found) -> Verdict:
    """Section 4.1: the pruning ratio of activations is similar at all bit-widths.

    Read as: between the largest and the smallest are less than 10 points, in the mean over layers, for every seed.
    ``difference`` is that spread, in points."""
    rows = []
    for runs in shared_seeds(*found.values()):
        shares = [pruned(run, "activation").mean() for run in runs]
        rows.append(("activations pruned: greatest minus least over bit-widths (points)", runs,
                     max(shares) - min(shares)))
    return Verdict.of(f"A similar share of activations is pruned at {', '.join(map(str, found))} bits", FIG5, rows,
                      below=NEAR, margin=OURS)
