"""PROFIT, supplement section 3: what comes out of h-swish, and which grids suit it."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..analysis.hswish import hswish_grids, hswish_layers, hswish_levels
from ..runs import Run
from ..runs.seeds import same_seeds
from .verdict import Verdict, at_scale, measured

WHERE = "PROFIT, supplement, section 3 and Fig. 3"


def verdicts(found: Mapping[str, Sequence[Run]], profile: str) -> list[Verdict]:
    """Judge the runs {method: runs} of :func:`paperlib.claims.experiments.hswish`."""
    duq, pact, lsq = (found[method] for method in ("duq", "pact", "lsq"))
    return at_scale(profile, [hswish_outputs_differ(duq), fixed_split_does_not_fit(duq),
                              pact_has_nothing_below_zero(pact), duq_learns_better_levels(duq, pact, lsq)])


def hswish_outputs_differ(duq: Sequence[Run]) -> Verdict:
    """Supplement section 3: "the output distributions of h-swish function are highly different in terms of layer and
    feature map".

    A distribution reaches from -3/8 to its 99th percentile.  "Highly different" is read as a factor of 2 between the
    largest and the smallest reach: with one grid for both, the smaller one has half of the levels at most and loses a
    bit.  Over layers, and over the feature maps of a layer (the median layer).  ``difference`` is log2 of the factor,
    the bits that are lost."""
    def factors(run):
        table = run.find(hswish_layers)
        return np.log2(table.reach.max() / table.reach.min()), np.log2(table.feature_maps.median())

    rows = measured(same_seeds(duq), ("between layers (bits)", "between feature maps (bits)"), factors)
    return Verdict.of("Distributions behind h-swish differ strongly between layers and between feature maps", WHERE,
                      rows, lambda difference: difference >= 1)


def fixed_split_does_not_fit(duq: Sequence[Run]) -> Verdict:
    """Supplement section 3: LSQ, with "pre-defined number of negative and positive quantization levels", is "not
    appropriate to address these various shapes".

    LSQ has two such numbers, none below 0 and half of all; here both grids and DuQ's, from -3/8 on, stand on the float
    network's values with the step that has the least squared error, so that training has no part in it.  Not
    appropriate: half below 0 leaves some of these levels without a single value, and DuQ's grid has a smaller error
    than either.  ``difference`` is the share of layers where that is so; it must be most of them, more than half."""
    grids = ("half below 0", "from 0")

    def shares(run):
        table = run.find(hswish_grids)
        half = table[table.grid == "half below 0"]
        error = table.pivot(index="layer", columns="grid", values="error")
        return (half.used_below < half.below).mean(), *((error["from -3/8"] < error[grid]).mean() for grid in grids)

    names = ("levels below 0 stay unused", *(f"DuQ's grid errs less than levels {grid}" for grid in grids))
    rows = measured(same_seeds(duq), names, shares)
    return Verdict.of("A fixed number of levels below 0, LSQ's, does not fit the outputs of h-swish", WHERE, rows,
                      lambda share: share > 0.5)


def pact_has_nothing_below_zero(pact: Sequence[Run]) -> Verdict:
    """PROFIT, Fig. 5 to 7: PACT cannot represent the negative values of h-swish.

    ``difference`` is the share of layers behind an h-swish that are reached by negative values and whose trained PACT
    grid has no negative level; it must be all of them."""
    def share(run):
        lowest = run.find(hswish_levels).groupby("layer")["level"].min()
        below = run.find(hswish_layers).set_index("layer").below
        return [((lowest.reindex(below.index) >= 0) & (below > 0)).mean()]

    rows = measured(same_seeds(pact), ["negative values, no negative level"], share)
    return Verdict.of("PACT cannot represent the negative values of h-swish", "PROFIT, Fig. 5 to 7", rows,
                      lambda share: share == 1)


def duq_learns_better_levels(duq: Sequence[Run], pact: Sequence[Run], lsq: Sequence[Run]) -> Verdict:
    """Supplement section 3: DuQ with negative padding is "flexible enough to learn quantization levels through
    back-propagation" for these distributions, which the others are not.

    Read as: in most layers behind an h-swish, more than half, DuQ's trained levels leave a smaller part of their
    input's variance unexplained than those of PACT and of LSQ do in their own networks (after the best scale and
    offset, which DuQ is free to change and batch norm undoes).  ``difference`` is the share of layers."""
    def shares(duq, *others):
        mine = duq.find(hswish_layers).set_index("layer").residual
        theirs = (other.find(hswish_layers).set_index("layer").residual.reindex(mine.index) for other in others)
        return [(mine < residual).mean() for residual in theirs]

    names = [f"DuQ's levels fit better than {name}'s" for name in ("PACT", "LSQ")]
    rows = measured(same_seeds(duq, pact, lsq), names, shares)
    return Verdict.of("DuQ learns levels that fit the outputs of h-swish, PACT and LSQ less so", WHERE, rows,
                      lambda share: share > 0.5)
