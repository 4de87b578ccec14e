"""PROFIT, abstract and Table 1: how much accuracy 4 bits cost."""
from __future__ import annotations

from collections.abc import Sequence

from ..analysis.bit_operations import NAMES
from ..runs import Run
from ..runs.seeds import shared_seeds
from . import published
from .verdict import Verdict

WHERE = "PROFIT, abstract and Table 1"


def allowance() -> float:
    """The abstract's largest loss of a 4-bit network against full precision, in points."""
    return published.value(paper_id=published.PROFIT, table="abstract",
                           metric="max top1 drop of 4-bit v1/v2/v3 vs full precision")


def four_bits_stay_close(model: str, four: Sequence[Run], reference: str = "float", *,
                         testable: bool = True) -> Verdict:
    """Abstract: 4-bit v1, v2 and v3 are within 1.48 points of full precision.  The abstract speaks of ImageNet.

    Read as: the accuracy of full precision minus that of 4 bits, both at the end of their training and for the same
    seed, is at most 1.48 points.  ``reference``: the phase that counts as full precision, "float" (Full) or
    "fine-tuning" (Full+)."""
    most = allowance()
    name = {"float": "full precision (Full)", "fine-tuning": "taught full precision (Full+)"}[reference]
    rows = [(f"{NAMES[model]}: {name} minus 4 bits (points)", run,
             run.accuracy(reference) - run.accuracy()) for run in four]
    return Verdict.of(f"4-bit {NAMES[model]} loses at most {most:g} points against {name}", WHERE, rows,
                      lambda difference: difference <= most, testable)


def fewer_bits_cost_accuracy(model: str, by_bits: dict[int, Sequence[Run]], *, testable: bool = True) -> Verdict:
    """Table 1: accuracy falls from 8 to 5 and from 5 to 4 bits.

    Read as: each step to fewer bits costs something, for every seed that both have.  ``difference`` is the accuracy at
    more bits minus that at fewer, in points."""
    steps, rows = sorted(by_bits, reverse=True), []
    for more, fewer in zip(steps, steps[1:]):
        rows += [(f"{NAMES[model]}: {more} minus {fewer} bits (points)", (a, b),
                  a.accuracy() - b.accuracy()) for a, b in shared_seeds(by_bits[more], by_bits[fewer])]
    return Verdict.of(f"{NAMES[model]} loses accuracy with each step to fewer bits", WHERE, rows,
                      lambda difference: difference > 0, testable)
