"""PROFIT, abstract and Table 3: what each part of the method adds, on MobileNet-v3."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..runs import Run
from ..runs.seeds import shared_seeds
from . import accuracy, published
from .verdict import Verdict, at_scale

WHERE = "PROFIT, abstract and Table 3"
PREVIOUS = ("PACT", "QIL", "LSQ")
WHOLE = "+ PROFIT"
Rows = Mapping[str, Sequence[Run]]      # row of the table -> runs


def verdicts(found: Mapping[int, Rows], profile: str) -> list[Verdict]:
    """Judge the runs {bits: {row: runs}} of :func:`paperlib.claims.experiments.ablations`; the abstract's sentence by
    those with the fewest bits."""
    fewest = min(found)
    return at_scale(profile, [beats_previous_methods(found[fewest], fewest), *each_part_helps(found)])


def verdicts_on_photographs(found: Mapping[int, Rows], profile: str) -> list[Verdict]:
    """Judge those of :func:`paperlib.claims.experiments.ablation_photographs`, also by Table 1's sentences.

    Full precision is the network after the phase "fine-tuning", since the float one knows nothing of the ten classes
    that training narrows it to."""
    whole = {bits: rows[WHOLE] for bits, rows in found.items()}
    return at_scale(profile, [*each_part_helps(found),
                              accuracy.four_bits_stay_close("mobilenet_v2", whole[4], "fine-tuning"),
                              accuracy.fewer_bits_cost_accuracy("mobilenet_v2", whole)])


def published_gain() -> float:
    """Look up by how many points the abstract's 3-bit MobileNet-v3 beats the best previous method on ImageNet."""
    return published.value(paper_id=published.PROFIT, table="abstract",
                           metric="3-bit ablation: ours minus best previous method")


def beats_previous_methods(found: Rows, bits: int = 3) -> Verdict:
    """Abstract: at 3 bits the whole method is 12.86 points more accurate than the best previous one.

    Read as: above each of PACT, QIL and LSQ, for every seed.  The number belongs to ImageNet and is shown, not
    demanded.  ``difference`` is the whole method minus the best of the three for the same seed, in points."""
    rows = [(f"PROFIT minus the best of {', '.join(PREVIOUS)}, {bits} bits (points)", (whole, *previous),
             whole.accuracy() - max(run.accuracy() for run in previous))
            for whole, *previous in shared_seeds(found[WHOLE], *(found[row] for row in PREVIOUS))]
    return Verdict.of(f"At {bits} bits the whole method beats the best of {', '.join(PREVIOUS)}", WHERE, rows,
                      lambda difference: difference > 0, printed=f"{published_gain():g} points at 3 bits, ImageNet")


def each_part_helps(found: Mapping[int, Rows]) -> list[Verdict]:
    """Table 3: every row is above the one before it, from DuQ on, at each bit-width.

    Read as: at the end of training, for every seed.  DuQ is compared with the best of PACT, QIL and LSQ, where they
    are.  The step to "+ progressive" changes the length of training as well.  ``difference`` is row minus row before,
    in points."""
    rungs = [(row,) for row in next(iter(found.values())) if row not in PREVIOUS]
    if all(row in by_row for by_row in found.values() for row in PREVIOUS):
        rungs.insert(0, PREVIOUS)
    widths, judged = " and ".join(map(str, found)), []
    for before, (rung,) in zip(rungs, rungs[1:]):
        other = f"the best of {', '.join(before)}" if len(before) > 1 else before[0]
        rows = [(f"{rung} minus {other}, {bits} bits (points)", (run, *others),
                 run.accuracy() - max(other.accuracy() for other in others))
                for bits, by_row in found.items()
                for run, *others in shared_seeds(by_row[rung], *(by_row[row] for row in before))]
        what = f"DuQ beats {other}" if rung == "DuQ" else f"{rung} adds accuracy"
        judged.append(Verdict.of(f"{what} at {widths} bits", WHERE, rows, lambda difference: difference > 0))
    return judged
