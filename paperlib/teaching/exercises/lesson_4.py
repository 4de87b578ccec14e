"""Lesson 4, progressive freezing: checked on the recorded PROFIT run that the lesson ends with."""
from __future__ import annotations

import functools
import math

import pandas as pd

from ...analysis.loss_curves import fluctuation
from ...training.freezing import choose
from ...training.phases import Freeze
from .. import networks
from . import exercise, expect

recorded = functools.cache(networks.four_bits)


def _first(table: pd.DataFrame, share: float, order: str = "aiwq") -> list[str]:
    return choose(Freeze(share, order, measured_in="sampling"), list(table.layer), table)


@exercise("4.1", "the total variation minus the net change, per step",
          "take the differences of neighbouring losses first: all three parts follow from that list")
def fluctuation_of_a_curve(answer):
    falls, saw, up = [3.0, 2.0, 1.5, 1.0], [1.0, 2.0, 1.0, 2.0, 1.0], [1.0, 1.5, 1.2, 1.8]
    got = float(answer(falls))
    expect(got, 0, f"for {falls}, which only falls, it is 0, you have {got:.3f}", (
        (2 / 3, "that is the total variation per step", "subtract the net change |end - start|"),
        (4 / 3, "end - start is below 0 here: subtract its absolute value")),
        "for a curve that only falls, total variation and net change are equal")
    for losses in (saw, up):
        got, right, steps = float(answer(losses)), fluctuation(losses), len(losses) - 1
        expect(got, right, f"for {losses} it is {right:.3f}, you have {got:.3f}", (
            (right * steps / len(losses), f"{len(losses)} losses have {steps} steps between them"),
            (right * steps, "that is the sum over all steps", "divide by their number"),
            (right + 2 * (losses[-1] - losses[0]) / steps,
             "for a curve that rises, the net change is subtracted as well")),
            "put the three parts of the formula together")
    return "It is 0 for any curve that only falls, so a high learning rate that works well does not count as restless."


@exercise("4.2", "the part of the sum of AIWQ that is left in the layers that still train",
          "sort the table by aiwq, largest first, leave out as many rows as are frozen, and divide by the whole sum")
def aiwq_that_is_left(answer):
    table = recorded().instability
    for share in (1 / 3, 2 / 3):
        total, left = table.aiwq.sum(), {}
        for order in ("aiwq", "reverse"):
            left[order] = table[~table.layer.isin(_first(table, share, order))].aiwq.sum() / total
        got, right = float(answer(table.copy(), share)), left["aiwq"]
        unsorted = table.aiwq[round(share * len(table)):].sum() / total
        told = f"with {share:.0%} of the layers frozen {right:.3f} of the sum is left, you have {got:.3f}"
        expect(got, right, told, (
            (1 - right, "that is the part which is frozen: the rest still train"),
            (left["reverse"], "the smallest come first in your order: PROFIT freezes the largest"),
            (unsorted, "the table is not sorted by AIWQ: its first rows are the first layers"),
            (right * total, "that is a sum in nats, and a part of the sum over all is asked for"),
            (1 - share, "that is the share of the layers: AIWQ differs from layer to layer")),
            "freeze the layers with the largest AIWQ, and no others", within=1e-4)
    return "AIWQ is so uneven that a third of the layers, well chosen, takes most of it away."


@exercise("4.3", "the share of all weights that rest, a number from 0 to 1",
          "the product of a layer's weight_shape is its number of weights: add them up over the frozen layers")
def weights_at_rest(answer):
    run = recorded()
    sizes = run.layers.set_index("layer").weight_shape.map(lambda shape: math.prod(map(int, shape.split("x"))))
    frozen = _first(run.instability, 1 / 3)
    assert not callable(answer), ("this is not a number", "a number, not a function that computes it: call it")

    def share(layers) -> float:
        return sizes[layers].sum() / sizes.sum()

    got, right = float(answer), share(frozen)
    got = right if abs(got - right) < 1e-3 else got         # three digits are enough
    of_layers = "that is the share of the layers: layers differ in size, count their weights"
    expect(got, right, f"you have {got:.4g}", (
        (sizes[frozen].sum(), "that is how many weights rest: which share of all are they?"),
        (100 * right, "that is in percent"), (1 / 3, of_layers), (len(frozen) / len(sizes), of_layers),
        (1 - right, "that is the share which still trains: asked for is the one that rests"),
        (share(_first(run.instability, 1 / 3, "reverse")),
         "that is the third of smallest AIWQ: PROFIT freezes the largest first"),
        (share(sizes.index[:len(frozen)]), "these are the first layers of the network: AIWQ decides which are frozen"),
        (share(_first(run.instability, 2 / 3)), "that is for two thirds of the layers, as in the third round")),
        f"it is about the {len(frozen)} layers of largest AIWQ in run.instability", within=1e-4)
    largest = sizes[frozen].idxmax()
    return (f"The third of the layers is {right:.0%} of the weights, {largest} alone "
            f"{sizes[largest] / sizes.sum():.0%}: AIWQ asks how far an output moves, not how large the layer is.")
