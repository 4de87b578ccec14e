"""One weight near a rounding threshold: a small update of it, and what the quantized weight does (PROFIT, Fig. 3)."""
from __future__ import annotations

import functools

import torch
from IPython.display import Image

from ...analysis import one_weight
from . import aiwq_drawings
from .panel import explore

BITS = range(2, 9)
THRESHOLD = 0.5         # of DuQ's grid from -1 to 1 at every bit-width, since its K is odd
STATES = [{"bits": 4, "update": 0.005, "updates_to_threshold": 0.5},
          {"bits": 2, "update": 0.005, "updates_to_threshold": 0.5},
          {"bits": 2, "update": 0.005, "updates_to_threshold": 1.5}]


def threshold() -> Image:
    """A weight just below a threshold is updated; the knobs are bits, the update, and how many updates the threshold
    is away.

    Left, the staircase of DuQ's weights, from -1 to 1, with the weight before and after.  Right, for weights
    everywhere between -1 and 1, all updated alike, over the bits: the share that crosses a threshold, how far one that
    crosses jumps, and the mean and the root mean square of all moves, in multiples of the update
    (:func:`paperlib.analysis.one_weight.one_weight`).  Few levels: crossings are rare and large.  The mean move stays the update, and
    the root mean square is sqrt(update / K), which grows as the levels (K to each side of 0) get fewer.
    """
    everywhere = functools.cache(lambda update: one_weight.one_weight(BITS, update))
    stairs = functools.cache(lambda bits: one_weight.staircases([bits]))

    @functools.lru_cache(64)
    def seen(bits, update, updates_to_threshold):
        before = THRESHOLD - update * updates_to_threshold
        return {"stairs": stairs(bits), "table": everywhere(round(update, 4)), "bits": bits, "update": update,
                "before": (before, quantized(before, bits)),
                "after": (before + update, quantized(before + update, bits))}

    return explore(lambda figure, **knobs: aiwq_drawings.crossing(figure, **seen(**knobs)),
                   lambda **knobs: aiwq_drawings.describe_crossing(**seen(**knobs)), STATES, (10.4, 3.6),
                   bits=(BITS[0], BITS[-1], 1), update=(0.001, 0.02, 0.001),
                   updates_to_threshold=(-0.7, 1.7, 0.2))      # never 0 or 1: no weight lies on the threshold


@torch.no_grad()
def quantized(weight: float, bits: int) -> float:
    return float(one_weight.unit_duq(bits)(torch.tensor([weight], dtype=torch.float64)))
