"""PROFIT, abstract and Table 3: what each part of the method adds, on MobileNet-v3."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from .. import published
from ..runs import Run
from .accuracy import last_accuracy
from .verdict import Verdict, shared_seeds

WHERE = "PROFIT, abstract and Table 3"
PREVIOUS = ("PACT", "QIL", "LSQ")
WHOLE = "+ PROFIT"
RUNGS = ("DuQ", "+ negative padding", "+ progressive", "+ teacher", WHOLE)


def published_gain() -> float:
    """By how many points the abstract's 3-bit MobileNet-v3 beats the best previous method on ImageNet."""
    return published.value(paper_id=published.PROFIT, table="abstract",
                           metric="3-bit ablation: ours minus best previous method")


def beats_previous_methods(found: Mapping[str, Sequence[Run]], bits: int = 3, *, testable: bool = True) -> Verdict:
    """Abstract: at 3 bits the whole method is 12.86 points more accurate than the best previous one.

    Read as: above each of PACT, QIL and LSQ, for every seed.  The number belongs to ImageNet and is shown, not
    demanded.  ``difference`` is the whole method minus the best of the three for the same seed, in points."""
    rows = [(f"PROFIT minus the best of {', '.join(PREVIOUS)}, {bits} bits (points)", whole.recipe.seed,
             last_accuracy(whole) - max(map(last_accuracy, previous)))
            for whole, *previous in shared_seeds(found[WHOLE], *(found[row] for row in PREVIOUS))]
    return Verdict.of(f"At {bits} bits the whole method beats the best of {', '.join(PREVIOUS)}", WHERE, rows,
                      lambda difference: difference > 0, testable)


def each_part_helps(found: Mapping[int, Mapping[str, Sequence[Run]]], *, testable: bool = True) -> list[Verdict]:
    """Table 3: every row is above the one before it, from DuQ on, at each bit-width.

    Read as: at the end of training, for every seed.  DuQ is compared with the best of PACT, QIL and LSQ.  The step to
    "+ progressive" changes the length of training as well.  ``difference`` is row minus row before, in points."""
    verdicts = []
    for rung, before in zip(RUNGS, (PREVIOUS, *((row,) for row in RUNGS))):
        other = f"the best of {', '.join(before)}" if len(before) > 1 else before[0]
        rows = [(f"{rung} minus {other}, {bits} bits (points)", run.recipe.seed,
                 last_accuracy(run) - max(map(last_accuracy, others)))
                for bits, by_row in found.items()
                for run, *others in shared_seeds(by_row[rung], *(by_row[row] for row in before))]
        what = f"DuQ beats {other}" if rung == "DuQ" else f"{rung} adds accuracy"
        verdicts.append(Verdict.of(f"{what} at {' and '.join(map(str, found))} bits", WHERE, rows,
                                   lambda difference: difference > 0, testable))
    return verdicts
