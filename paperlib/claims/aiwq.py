"""PROFIT, Fig. 2 and 4: AIWQ with fewer and fewer bits, what it does to batch norms, and how uneven it is."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..errors import InputError
from ..models.scheme import FLOAT
from ..runs import Run
from ..runs.seeds import same_seeds
from .verdict import Verdict, at_scale

FEW_BITS = 4
DRIFTS = {"mean_drift": "jumps of the running mean", "var_drift": "jumps of the running variance"}


def verdicts(runs: Mapping[int, Sequence[Run]], profile: str, bits: int = FEW_BITS) -> list[Verdict]:
    """Judge the runs {bits: runs} of :func:`paperlib.claims.experiments.aiwq`; how uneven AIWQ is, at ``bits`` bits."""
    return at_scale(profile, [aiwq_grows(runs), norms_jump(runs), aiwq_is_uneven(runs[bits])])


def typical(run: Run) -> float:
    """The median over layers of AIWQ (nats).

    Not the mean: where nearly all weights of a channel are rounded to 0, its divergence has no bound, and the mean over
    layers would speak of that one channel."""
    return run.instability.aiwq.median()


def restlessness(run: Run, metric: str) -> float:
    """How far batch-norm statistics go in one iteration: the median over batch norms of the mean over the second half
    of the iterations.  ``metric``: "mean_drift" (in running standard deviations) or "var_drift" (of ln variance).

    The first half is left out because there the statistics still move from those of the float weights to those of the
    rounded ones, which is one shift and no instability."""
    if run.absent:
        return math.nan
    rows = run.steps[(run.steps.metric == metric) & (run.steps.iteration > run.steps.iteration.max() / 2)]
    if rows.empty:
        raise InputError(f"this run keeps no {metric} of every step: make it with weights_alone(..., measure=True)")
    return rows.groupby("layer").value.mean().median()


def by_bits(runs: Mapping[int, Sequence[Run]]) -> pd.DataFrame:
    """What the claims look at, a row for each bit-width, mean over seeds: median, mean and maximum over layers of AIWQ
    (nats), the jumps of batch-norm statistics, and the validation accuracy (%)."""
    rows = [{"bits": bits, "AIWQ, median layer": typical(run), "mean layer": run.instability.aiwq.mean(),
             "largest": run.instability.aiwq.max(), **{text: restlessness(run, m) for m, text in DRIFTS.items()},
             "validation accuracy (%)": run.accuracy("weights")}
            for bits, group in runs.items() for run in group]
    return pd.DataFrame(rows).groupby("bits", sort=False).mean().reset_index()


def aiwq_grows(runs: Mapping[int, Sequence[Run]]) -> Verdict:
    """Fig. 2 and 3: AIWQ grows as weights have fewer levels.

    Read as: at every step from one bit-width to the next lower one (32 is float) the median over layers rises.
    ``difference``: how much it rises, in powers of ten."""
    bits = sorted(runs, reverse=True)
    rows = [(f"{name(high)} to {name(low)}", (before, after), _decades(typical(after), typical(before)))
            for high, low in zip(bits, bits[1:]) for before, after in same_seeds(runs[high], runs[low])]
    return Verdict.of("AIWQ grows with every step to fewer bits", "PROFIT, Fig. 2 and 3", rows,
                      lambda difference: difference > 0)


def norms_jump(runs: Mapping[int, Sequence[Run]]) -> Verdict:
    """Fig. 2: at few bits the statistics of batch norms jump more than with float weights.

    Read as: at each bit-width of at most 4, the typical jump per iteration (:func:`restlessness`) of running means, and
    that of running variances, is larger than in float.  ``difference``: how much larger, in powers of ten."""
    few = sorted((bits for bits in runs if bits <= FEW_BITS), reverse=True)
    if FLOAT not in runs or not few:
        raise InputError(f"compare float weights (32) with some of at most {FEW_BITS} bits, got "
                         f"{', '.join(map(str, runs)) or 'nothing'}")
    rows = [(f"{text}, {name(bits)}", (low, high), _decades(restlessness(low, m), restlessness(high, m)))
            for m, text in DRIFTS.items() for bits in few for high, low in same_seeds(runs[FLOAT], runs[bits])]
    return Verdict.of(f"At {FEW_BITS} bits and fewer, batch-norm statistics jump more than with float weights",
                      "PROFIT, Fig. 2", rows, lambda difference: difference > 0)


def aiwq_is_uneven(runs: Sequence[Run]) -> Verdict:
    """Fig. 4: AIWQ is very uneven over layers.

    Read as: the largest is at least ten times the median.  ``difference``: the largest over the median, in powers of
    ten; 1 is the limit."""
    rows = [("largest over median", run, _decades(run.instability.aiwq.max(), typical(run)))
            for run, in same_seeds(runs)]
    return Verdict.of("AIWQ is very uneven over layers: the largest is at least ten times the median",
                      "PROFIT, Fig. 4", rows, lambda difference: difference >= 1)


def in_words(runs: Mapping[int, Sequence[Run]], bits: int) -> str:
    """What stands behind the verdicts: which layers and kinds lead at ``bits`` bits, what the claim of growth would say
    if the mean over layers were judged, and how many channels are constant at the fewest bits."""
    measured = pd.concat([run.instability for run in runs[bits]])
    by_layer, by_kind = (measured.groupby(what).aiwq for what in ("layer", "kind"))
    layers, kinds = by_layer.mean(), by_kind.median().sort_values(ascending=False).index
    table = by_bits(runs).sort_values("bits", ascending=False)
    means, median, low = table["mean layer"].to_numpy(), table["AIWQ, median layer"].iloc[-1], table.bits.iloc[-1]
    dead = np.mean([run.instability.dead.sum() for run in runs[low]])
    return (f"At {name(bits)} the largest AIWQ is that of `{layers.idxmax()}`, {layers.max() / layers.median():.3g} "
            f"times the median; the kinds of layers in the order of their medians are {', '.join(kinds)}. Judged by "
            f"the mean over layers, AIWQ grows at {(means[1:] > means[:-1]).sum()} of {len(means) - 1} steps to fewer "
            f"bits, and at {name(low)} that mean is {means[-1] / median:.2g} times the median; {dead:.0f} channels "
            "are constant there at the end, and so are left out.")


def _decades(new: float, old: float) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):        # nothing moved at all: not larger, if neither did
        return float(np.log10(np.float64(new) / np.float64(old)))


def name(bits: int) -> str:
    """What runs of this bit-width are called."""
    return "float" if bits == FLOAT else f"{bits} bits"
