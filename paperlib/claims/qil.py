"""QIL, first version: what distillation adds, what few bits cost, whom it beats, and where its intervals go."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from ..analysis.qil_intervals import bounds, interval_pruning
from ..runs import Run
from ..runs.seeds import shared_seeds
from . import published
from .verdict import Verdict

TABLE1, TABLE2 = "QIL, section 4.1 and Table 1", "QIL, section 4.1 and Table 2"
FIG4, FIG5 = "QIL, section 4.1 and Fig. 4", "QIL, section 4.1 and Fig. 5"
RIVALS = {32: ("TTQ", "TWN", "BC", "BWN"), 1: ("XNOR",)}    # of ternary weights, by bits of activations
STILL = 0.1         # the share of its whole way that a bound may still go in the last quarter
NEAR = 10.0         # points: "about" 75 %, and "similar"

Cells = Mapping[tuple, Sequence[Run]]


def qil_allowance(w_bits: int, a_bits: int) -> float:
    """How many points the paper's network of these bits, with lambda 0.5, is below its full precision."""
    where = {"paper_id": published.QIL, "table": "Table 1", "metric": "top1"}
    return round(published.value(method="full precision", **where) -
                 published.value(method="QIL-v1 lambda=0.5", w_bits=w_bits, a_bits=a_bits, **where), 2)


def distillation_helps(found: Cells, share: float = 0.5, *, testable: bool = True) -> Verdict:
    """Section 4.1: distillation, with lambda 0.5 or 1, improves the accuracy on CIFAR-10.

    Read as: above lambda 0 at the end of training, at each bit-width of Table 1 and for every seed.  ``found``: the
    runs of :func:`paperlib.claims.experiments.qil_table1`.  ``difference`` is the accuracy with lambda ``share`` minus that with
    lambda 0, in points."""
    rows = [(f"A{a}W{w}: lambda {share:g} minus lambda 0 (points)", (taught, alone),
             taught.accuracy() - alone.accuracy())
            for w, a, s in found if s == share
            for taught, alone in shared_seeds(found[w, a, s], found[w, a, 0.0])]
    return Verdict.of(f"Distillation with lambda {share:g} improves the accuracy on CIFAR-10 at each bit-width", TABLE1,
                      rows, lambda difference: difference > 0, testable)


def qil_stays_close(found: Cells, w_bits: int, a_bits: int, longer: Sequence[Run] = (), *,
                    testable: bool = True) -> Verdict:
    """Section 4.1: with lambda 0.5, A2W2 loses only 0.16 points against full precision, and A1W2 1.17.

    Read as: no more than that, at the end of training and for every seed.  Full precision is the float network that
    the run began with, as in the paper as far as it says; or, if ``longer`` has runs, the float network that was
    trained on for as long as the quantized one.  ``difference`` is full precision minus QIL, in points."""
    most, name = qil_allowance(w_bits, a_bits), f"A{a_bits}W{w_bits}"
    against = "the float network trained as long" if longer else "the float network it began with"
    pairs = shared_seeds(found[w_bits, a_bits, 0.5], longer or found[w_bits, a_bits, 0.5])
    rows = [(f"{against} minus {name} (points)", (run, other),
             round(other.accuracy(None if longer else "float") - run.accuracy(), 6)) for run, other in pairs]
    return Verdict.of(f"{name} with lambda 0.5 loses at most {most:g} points against {against}", TABLE1, rows,
                      lambda difference: difference <= most, testable)


def qil_beats(found: Cells, a_bits: int = 32, *, testable: bool = True) -> Verdict:
    """Table 2: QIL's ternary weights are more accurate than TTQ, TWN, BC and BWN with float activations; and, with
    1-bit activations, than XNOR.

    Read as: above each of them at the end of training, for every seed.  The paper cites their numbers, here they were
    trained like QIL, but without a teacher, as in the table.  DoReFa has no number there and is no part of the claim.
    ``found``: the runs of :func:`paperlib.claims.experiments.qil_table2`.  ``difference`` is QIL minus the other, in points."""
    rivals = [key for key in found if key[0] in RIVALS[a_bits]]
    rows = [(f"QIL A{a_bits}W2 minus {key[0]} A{key[2]}W{key[1]} (points)", (ours, other),
             ours.accuracy() - other.accuracy())
            for key in rivals for ours, other in shared_seeds(found["QIL", 2, a_bits], found[key])]
    what, whom = "float" if a_bits == 32 else f"{a_bits}-bit", ", ".join(key[0] for key in rivals)
    return Verdict.of(f"QIL's ternary weights with {what} activations beat {whom}", TABLE2, rows,
                      lambda difference: difference > 0, testable)


def bounds_converge(runs: Sequence[Run], *, testable: bool = True) -> Verdict:
    """Section 4.1 on Fig. 4: the bounds m and M come to certain values without any significant fluctuations.

    Read as: within the last quarter of the epochs (from the last epoch before it) the range that a bound goes through
    is at most a tenth of the range that it goes through in all of training.  One that moves evenly comes to a quarter,
    one that wanders to about a half; one that never moves counts as a whole.  It must hold of every layer, so
    ``difference`` is the largest share over layers.  By then the learning rate has fallen to a hundredth and less:
    bounds at rest say as much about the schedule as about the method."""
    rows = []
    for run in runs:
        table = bounds(run)
        table = table[table.phase == run.recipe.phases[-1].name]
        last = table[table.epoch >= 0.75 * table.epoch.max() // 1]
        for role in ("weight", "activation"):
            for bound in ("m", "M"):
                whole, late = (_range(t[t.role == role], bound) for t in (table, last))
                share = (late / whole).where(whole > 0, 1.0)
                rows.append((f"{role}s, {bound}: share of its way in the last quarter", run, share.max()))
    return Verdict.of("The bounds of the intervals converge", FIG4, rows, lambda difference: difference <= STILL,
                      testable)


def _range(table: pd.DataFrame, bound: str) -> pd.Series:
    grouped = table.groupby("layer", sort=False)[bound]
    return grouped.max() - grouped.min()


def pruned(run: Run, role: str) -> pd.Series:
    """The share of values (%) that the last network's quantizers send to 0, by layer; of activations, what ReLU has
    made 0 already is counted.  One NaN for a run that is not recorded yet."""
    if run.absent:
        return pd.Series([math.nan])
    table = run.find(interval_pruning)
    return 100 * table[table.role == role].set_index("layer").pruned_of_all


def weight_pruning_rises(found: Mapping[int, Sequence[Run]], *, testable: bool = True) -> Verdict:
    """Section 4.1 on Fig. 5: the pruning ratio of weights rises from 26.4 % to 84.2 % as bits fall from 5 to 3.

    Read as: it rises from 5 to 4 and from 4 to 3 bits, in the mean over layers and for every seed.  The paper shows one
    layer as an example; in how many of ours it rises, in the mean over seeds, stands beside each comparison.  The two
    numbers are that layer's and are shown, not demanded.  ``found``: the runs of
    :func:`paperlib.claims.experiments.qil_intervals`.  ``difference`` is fewer bits minus more, in points."""
    bits, rows = sorted(found, reverse=True), []
    for more, fewer in zip(bits, bits[1:]):
        pairs = shared_seeds(found[fewer], found[more])
        rises = pd.DataFrame([pruned(few, "weight") - pruned(many, "weight") for few, many in pairs])
        known = rises.dropna()
        layers = f"; rises in {(known.mean() > 0).sum()} of {known.shape[1]} layers" if len(known) else ""
        rows += [(f"weights pruned at {fewer} minus at {more} bits (points{layers})", pair, mean)
                 for pair, mean in zip(pairs, rises.mean(axis=1))]
    return Verdict.of(f"More weights are pruned at fewer bits, from {bits[0]} to {bits[-1]}", FIG5, rows,
                      lambda difference: difference > 0, testable)


def activations_pruned(found: Mapping[int, Sequence[Run]], *, testable: bool = True) -> Verdict:
    """Section 4.1: about 75 % of the activations are pruned.

    Read as: 65 to 85 %, in the mean over layers, at each bit-width and for every seed, with what ReLU has made 0
    already.  ``difference`` is our share minus the paper's, in points."""
    printed = published.value(paper_id=published.QIL, metric="activation pruning ratio (about)")
    rows = [(f"activations pruned at {bits} bits, minus {printed:g} (points)", run,
             pruned(run, "activation").mean() - printed) for bits, runs in found.items() for run in runs]
    return Verdict.of(f"About {printed:g} % of the activations are pruned", FIG5, rows,
                      lambda difference: difference.abs() <= NEAR, testable)


def activation_pruning_is_similar(found: Mapping[int, Sequence[Run]], *, testable: bool = True) -> Verdict:
    """Section 4.1: the pruning ratio of activations is similar at all bit-widths.

    Read as: between the greatest and the least are less than 10 points, in the mean over layers, for every seed.
    ``difference`` is that spread, in points."""
    rows = []
    for runs in shared_seeds(*found.values()):
        shares = [pruned(run, "activation").mean() for run in runs]
        rows.append(("activations pruned: greatest minus least over bit-widths (points)", runs,
                     max(shares) - min(shares)))
    return Verdict.of(f"The same share of activations is pruned at {', '.join(map(str, found))} bits", FIG5, rows,
                      lambda difference: difference < NEAR, testable)
