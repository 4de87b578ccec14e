"""PROFIT's freezing on a run's own AIWQ: which layers stop training, and what instability is left."""
from __future__ import annotations

import functools
import math

import pandas as pd
from IPython.display import Image

from ...errors import InputError
from ...runs import Run
from ...training.freezing import choose
from ...training.phases import ORDERS, Freeze
from . import aiwq_drawings
from .panel import explore


def freezing(run: Run) -> Image:
    """How many layers are frozen, and in which order, are the knobs; the AIWQ is that which ``run`` has measured.

    Left, a bar for each layer, coloured by kind, hollow where the weight is frozen.  Right, over the number of frozen
    layers: the sum of AIWQ over the layers that still train, and their share of the weights.  PROFIT freezes none,
    a third and two thirds of the layers in its three rounds, largest AIWQ first (order aiwq); the other orders are
    those of :class:`paperlib.training.phases.Freeze`, random with the run's seed.  InputError if the run has no AIWQ.
    """
    layers = measured(run)

    @functools.cache
    def frozen(order):
        """For each number of frozen layers, which they are, and what share of AIWQ and weights remains."""
        names, seed = list(layers.layer), run.recipe.seed
        which = [layers.layer.isin(choose(Freeze(n / len(names), order, measured_in="sampling"), names, layers, seed))
                 for n in range(len(names) + 1)]
        left = pd.DataFrame([layers.loc[~now, ["aiwq", "weights"]].sum() for now in which])
        return which, left / left.iloc[0]

    @functools.lru_cache(64)
    def seen(frozen_layers, order):
        which, remains = frozen(order)
        return {"layers": layers.assign(frozen=which[frozen_layers]), "remains": remains, "order": order}

    count, states = len(layers), []
    for share, order in ((1 / 3, "aiwq"), (2 / 3, "aiwq"), (1 / 3, "reverse")):
        states.append({"frozen_layers": round(share * count), "order": order})
    return explore(lambda figure, **knobs: aiwq_drawings.frozen_layers(figure, **seen(**knobs)),
                   lambda **knobs: aiwq_drawings.describe_frozen_layers(**seen(**knobs)), states, (10.4, 3.6),
                   frozen_layers=(0, count, 1), order=list(ORDERS))


def measured(run: Run) -> pd.DataFrame:
    """A row for each layer, in the network's order: layer, kind, aiwq (nats) and weights (how many)."""
    if run.instability.empty:
        raise InputError("this run has measured no AIWQ: take one of the recipe profit, say "
                         "items.integers('recorded')['mobilenet_v3_large'][0]")
    table = run.instability
    table = table[table.phase == table.phase.iloc[-1]]
    sizes = {row.layer: math.prod(map(int, row.weight_shape.split("x"))) for row in run.layers.itertuples()}
    return table[["layer", "kind", "aiwq"]].assign(weights=table.layer.map(sizes)).reset_index(drop=True)
