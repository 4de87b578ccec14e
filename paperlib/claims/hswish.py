"""PROFIT, supplement section 3: what comes out of h-swish, and which grids suit it."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..analysis.hswish import hswish_grids, hswish_layers, hswish_levels
from ..runs import Run
from ..runs.seeds import same_seeds
from .verdict import CONTROL, OURS, Verdict, at_scale, measured

WHERE = "PROFIT, supplement, section 3 and Fig. 3"
OCTAVES = "powers of 2"


def verdicts(found: Mapping[str, Sequence[Run]], profile: str) -> list[Verdict]:
    """Judge the runs {method: runs} of :func:`paperlib.claims.experiments.hswish`."""
    duq, pact, lsq = (found[method] for method in ("duq", "pact", "lsq"))
    return at_scale(profile, [hswish_outputs_differ(duq), fixed_split_does_not_fit(duq),
                              pact_has_nothing_below_zero(pact), duq_learns_better_levels(duq, pact, lsq),
                              padding_uses_levels(duq, found["duq_zeros"])])


def hswish_outputs_differ(duq: Sequence[Run]) -> Verdict:
    """Supplement section 3: "the output distributions of h-swish function are highly different in terms of layer and
    feature map".

    A distribution is taken from -3/8 to its 99th percentile.  "Highly different" is read as a factor of 2 between the
    largest and the smallest extent: with one grid for both, the smaller one has half of the levels at most and loses a
    bit.  Over layers, and over the feature maps of a layer (the median layer).  ``difference`` is log2 of the factor,
    the bits that are lost."""
    def factors(run):
        table = run.find(hswish_layers)
        return np.log2(table.reach.max() / table.reach.min()), np.log2(table.feature_maps.median())

    rows = measured(same_seeds(duq), ("between layers (bits)", "between feature maps (bits)"), factors)
    return Verdict.of("Distributions after h-swish differ strongly between layers and between feature maps", WHERE,
                      rows, above=1, margin=OURS, unit=OCTAVES)


def fixed_split_does_not_fit(duq: Sequence[Run]) -> Verdict:
    """Supplement section 3: LSQ, with "pre-defined number of negative and positive quantization levels", is "not
    appropriate to address these various shapes".

    LSQ has two such numbers, none below 0 and half of all; here both grids and DuQ's, from -3/8 on, lie on the float
    network's values with the step that has the smallest squared error, so that training has no part in it.  Not
    appropriate: in the median layer the error of either is larger than of DuQ's grid.  ``difference`` is log2 of
    how many times larger."""
    grids = ("half below 0", "from 0")

    def times(run):
        error = run.find(hswish_grids).pivot(index="layer", columns="grid", values="error")
        return [_times(error[grid], error["from -3/8"]) for grid in grids]

    rows = measured(same_seeds(duq), [f"error of levels {grid} over DuQ's" for grid in grids], times)
    return Verdict.of("A fixed number of levels below 0, LSQ's, does not fit the outputs of h-swish", WHERE, rows,
                      above=0, unit=OCTAVES)


def pact_has_nothing_below_zero(pact: Sequence[Run]) -> Verdict:
    """PROFIT, Fig. 5 to 7: PACT cannot represent the negative values of h-swish.  True by construction: a control.

    ``difference`` is the share of layers after an h-swish that get negative values and whose trained PACT
    grid has no negative level; it must be all of them."""
    def share(run):
        lowest = run.find(hswish_levels).groupby("layer")["level"].min()
        below = run.find(hswish_layers).set_index("layer").below
        return [((lowest.reindex(below.index) >= 0) & (below > 0)).mean()]

    rows = measured(same_seeds(pact), ["negative values, no negative level"], share)
    return Verdict.of("PACT cannot represent the negative values of h-swish", "PROFIT, Fig. 5 to 7", rows,
                      above=1, unit="share of layers", kind=CONTROL, counted=True)


def duq_learns_better_levels(duq: Sequence[Run], pact: Sequence[Run], lsq: Sequence[Run]) -> Verdict:
    """Supplement section 3: DuQ with negative padding is "flexible enough to learn quantization levels through
    back-propagation" for these distributions, which the others are not.

    Read as: in the median layer after an h-swish, DuQ's trained levels leave a smaller part of their input's variance
    unexplained than PACT's and LSQ's levels do in their own networks (after the best scale and offset, which DuQ is
    free to change and batch norm undoes).  ``difference`` is log2 of how many times smaller."""
    def times(duq, *others):
        mine = duq.find(hswish_layers).set_index("layer").residual
        theirs = (other.find(hswish_layers).set_index("layer").residual.reindex(mine.index) for other in others)
        return [_times(residual, mine) for residual in theirs]

    names = [f"variance unexplained by {name}'s levels over DuQ's" for name in ("PACT", "LSQ")]
    rows = measured(same_seeds(duq, pact, lsq), names, times)
    return Verdict.of("DuQ learns levels that fit the outputs of h-swish, PACT and LSQ less so", WHERE, rows,
                      above=0, unit=OCTAVES)


def padding_uses_levels(duq: Sequence[Run], zeros: Sequence[Run]) -> Verdict:
    """Supplement section 2: "the negative padding helps DuQ to fully utilize the given quantization levels".

    Read as: of the trained levels after h-swish, mean over layers, more are used by at least one value than when the
    same network is trained with zeros as padding.  ``difference`` is the share of levels that are used, minus the
    share with zeros."""
    def used(run):
        return (run.find(hswish_levels).groupby("layer").share.apply(lambda share: (share > 0).mean())).mean()

    rows = measured(same_seeds(duq, zeros), ["share of levels used, with negative padding minus with zeros"],
                    lambda *both: [used(both[0]) - used(both[1])])
    return Verdict.of("Negative padding helps DuQ to use all of its levels", "PROFIT, supplement, section 2", rows,
                      above=0, unit="share of levels")


def _times(error: pd.Series, base: pd.Series) -> float:
    """By which power of 2 the errors exceed those of ``base``, in the median layer."""
    return float(np.log2(error / base).median())
