"""PROFIT, Fig. 2 and 4: AIWQ with fewer and fewer bits, what it does to batch norms, and how uneven it is."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..analysis.aiwq import DRIFTS, name, restlessness, typical
from ..errors import InputError
from ..models.scheme import FLOAT
from ..runs import Run
from ..runs.seeds import same_seeds
from .verdict import OURS, Verdict, at_scale

FEW_BITS = 4
DECADES = "powers of 10"


def verdicts(runs: Mapping[int, Sequence[Run]], profile: str, bits: int = FEW_BITS) -> list[Verdict]:
    """Judge the runs {bits: runs} of :func:`paperlib.claims.experiments.aiwq`; how uneven AIWQ is, at ``bits`` bits."""
    return at_scale(profile, [aiwq_grows(runs), norms_jump(runs), aiwq_is_uneven(runs[bits])])


def aiwq_grows(runs: Mapping[int, Sequence[Run]]) -> Verdict:
    """Fig. 2 and 3: AIWQ grows as weights have fewer levels.

    Read as: at every step from one bit-width to the next lower one (32 is float) the median over layers rises.
    ``difference``: how much it rises, in powers of ten."""
    bits = sorted(runs, reverse=True)
    rows = [(f"{name(high)} to {name(low)}", (before, after), _decades(typical(after), typical(before)))
            for high, low in zip(bits, bits[1:]) for before, after in same_seeds(runs[high], runs[low])]
    return Verdict.of("AIWQ grows with every step to fewer bits", "PROFIT, Fig. 2 and 3", rows, above=0, unit=DECADES)


def norms_jump(runs: Mapping[int, Sequence[Run]]) -> Verdict:
    """Fig. 2: at few bits the statistics of batch norms jump more than with float weights.

    Read as: at each bit-width of at most 4, the typical jump per iteration (:func:`restlessness`) of running means, and
    the jump of running variances, is larger than in float.  ``difference``: how much larger, in powers of ten."""
    few = sorted((bits for bits in runs if bits <= FEW_BITS), reverse=True)
    if FLOAT not in runs or not few:
        raise InputError(f"compare float weights (32) with some of at most {FEW_BITS} bits, got "
                         f"{', '.join(map(str, runs)) or 'nothing'}")
    rows = [(f"{text}, {name(bits)}", (low, high), _decades(restlessness(low, m), restlessness(high, m)))
            for m, text in DRIFTS.items() for bits in few for high, low in same_seeds(runs[FLOAT], runs[bits])]
    return Verdict.of(f"At {FEW_BITS} bits and fewer, batch-norm statistics jump more than with float weights",
                      "PROFIT, Fig. 2", rows, above=0, unit=DECADES)


def aiwq_is_uneven(runs: Sequence[Run]) -> Verdict:
    """Fig. 4: AIWQ is very uneven over layers.

    Read as: the largest is at least ten times the median, each with the trimmed mean over channels.  Trimmed, since a
    divergence has no bound where a channel is nearly constant: one such channel held 99.997 % of the sum over the
    ImageNet-trained MobileNet-v2.  ``difference``: the largest over the
    median, in powers of ten; 1 is the limit."""
    rows = []
    for run, in same_seeds(runs):
        layers = pd.Series(math.nan) if run.absent else run.instability.trimmed
        rows.append(("largest over median layer", run, _decades(layers.max(), layers.median())))
    return Verdict.of("AIWQ is very uneven over layers: the largest is at least ten times the median",
                      "PROFIT, Fig. 4", rows, above=1, margin=OURS, unit=DECADES)


def _decades(new: float, old: float) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):        # nothing moved at all: not larger, if neither did
        return float(np.log10(np.float64(new) / np.float64(old)))
