"""Lesson 4, progressive freezing: checked on the recorded PROFIT run that the lesson ends with."""
from __future__ import annotations

import functools
import math

import pandas as pd

from .. import items, runs
from ..claims.loss_curves import fluctuation
from ..runs import Run
from ..training.freezing import choose
from ..training.phases import Freeze
from . import exercise


@functools.cache
def _recorded() -> Run:
    return runs.obtain(items.integers("recorded")["mobilenet_v3_large"][0])


def _first(table: pd.DataFrame, share: float, order: str = "aiwq") -> list[str]:
    return choose(Freeze(share, order, measured_in="sampling"), list(table.layer), table)


@exercise("4.1")
def layers_in_each_round(answer):
    layers = len(_recorded().instability)
    for rounds, count in ((3, layers), (3, 10), (6, 10)):
        got, right = list(answer(rounds, count)), [round(i / rounds * count) for i in range(rounds)]
        assert got != [round(i / rounds * count) for i in range(1, rounds + 1)], \
            "in the first round nothing is frozen yet, and in the last one something must still learn: begin with 0, " \
            f"as in {right}"
        assert got == right or got != [int(i / rounds * count) for i in range(rounds)], \
            f"{right} is nearest to the shares; int() cuts off what is behind the point, use round()"
        assert len(got) == rounds, f"{rounds} rounds need {rounds} numbers, you have {len(got)}"
        assert got == right, f"round i of {rounds} (counted from 0) freezes i/{rounds} of {count} layers: {right}, " \
                             f"not {got}"
    return (f"Of the {layers} layers of MobileNet-v3 {round(layers / 3)} stand still in the second round and "
            f"{round(2 / 3 * layers)} in the third.")


@exercise("4.2")
def way_that_leads_nowhere(answer):
    falls, saw, up = [3.0, 2.0, 1.5, 1.0], [1.0, 2.0, 1.0, 2.0, 1.0], [1.0, 1.5, 1.2, 1.8]
    got = float(answer(falls))
    assert abs(got - 2 / 3) > 1e-6, \
        "a curve that only falls does not fluctuate, however steeply: subtract |end - start| from the sum of |steps|"
    assert abs(got) < 1e-6, f"a curve that only falls goes no way in vain: 0 is right for {falls}, you have {got:.3f}"
    for losses in (saw, up):
        got, right = float(answer(losses)), fluctuation(losses)
        assert abs(got - right * (len(losses) - 1) / len(losses)) > 1e-6, \
            f"{len(losses)} losses have {len(losses) - 1} steps between them: divide by the number of steps"
        assert abs(got - right * (len(losses) - 1)) > 1e-6, \
            "that is the whole way: divide by the number of steps, so that long and short curves can be compared"
        assert abs(got - right) < 1e-6, \
            f"(sum of |steps| - |end - start|) / number of steps is {right:.3f} for {losses}, you have {got:.3f}"
    return "It is 0 for any curve that only falls, so a high learning rate that works well does not count as restless."


@exercise("4.3")
def aiwq_that_is_left(answer):
    table = _recorded().instability
    for share in (1 / 3, 2 / 3):
        total, left = table.aiwq.sum(), {}
        for order in ("aiwq", "reverse"):
            left[order] = table[~table.layer.isin(_first(table, share, order))].aiwq.sum() / total
        got = float(answer(table.copy(), share))
        assert abs(got - (1 - left["aiwq"])) > 1e-4, \
            "that is the part which is frozen: asked for is the part of the layers that still train"
        assert abs(got - left["reverse"]) > 1e-4, \
            "the smallest come first in your order: PROFIT freezes the layers with the largest AIWQ first"
        assert abs(got - left["aiwq"] * total) > 1e-4 * total, \
            "that is the sum in nats: divide by the sum over all layers"
        assert abs(got - left["aiwq"]) < 1e-4, \
            f"with {share:.0%} of the layers frozen, largest AIWQ first, {left['aiwq']:.3f} of the sum is left, not " \
            f"{got:.3f}"
    return "AIWQ is so uneven that a third of the layers, well chosen, takes most of it away."


@exercise("4.4")
def weights_that_stand_still(answer):
    run = _recorded()
    sizes = run.layers.set_index("layer").weight_shape.map(lambda shape: math.prod(map(int, shape.split("x"))))
    frozen = _first(run.instability, 1 / 3)
    assert not callable(answer), "a number between 0 and 1 is asked for, not a function that computes it: call it"
    right, got = sizes[frozen].sum() / sizes.sum(), float(answer)
    assert abs(got - sizes[frozen].sum()) > 1, \
        "that is how many weights stand still: asked for is their share of all weights, a number from 0 to 1"
    assert abs(got - 1 / 3) > 1e-9 and abs(got - len(frozen) / len(sizes)) > 1e-9, \
        "a third is the share of the layers: layers differ in size, count the weights in each (weight_shape)"
    assert abs(got - (1 - right)) > 1e-3, "that is the share which still trains: asked for is the one that stands still"
    assert abs(got - right) < 1e-3, \
        f"the weights in the {len(frozen)} layers of largest AIWQ over all weights are {right:.3f}, you have {got:.3f}"
    largest = sizes[frozen].idxmax()
    return (f"The third of the layers is {right:.0%} of the weights, {largest} alone "
            f"{sizes[largest] / sizes.sum():.0%}: AIWQ asks how far an output moves, not how large the layer is.")
