"""PROFIT, abstract and Table 3: what each part of the method adds, on MobileNet-v3."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..runs import Run
from ..runs.seeds import shared_seeds
from . import accuracy, published
from .verdict import BEYOND, CLAIM, OURS, Verdict, at_scale

WHERE = "PROFIT, abstract and Table 3"
PREVIOUS = ("PACT", "QIL", "LSQ")
WHOLE, FLOAT = "+ PROFIT", "float"      # the latter trained as long, where it is there
Rows = Mapping[str, Sequence[Run]]      # row of the table -> runs


def verdicts(found: Mapping[int, Rows], profile: str) -> list[Verdict]:
    """Judge the runs {bits: {row: runs}} of :func:`paperlib.claims.experiments.ablations`; the abstract's sentence by
    those with the fewest bits."""
    fewest = min(found)
    close = [accuracy.four_bits_stay_close("mobilenet_v3_large", found[4][WHOLE], found[4][FLOAT])
             ] if FLOAT in found.get(4, ()) else []
    return at_scale(profile, [beats_previous_methods(found[fewest], fewest), *each_part_helps(found), *close])


def verdicts_on_photographs(found: Mapping[int, Rows], profile: str) -> list[Verdict]:
    """Judge the runs of :func:`paperlib.claims.experiments.ablation_photographs`, also by the abstract's sentence on
    4 bits."""
    close = accuracy.four_bits_stay_close("mobilenet_v2", found[4][WHOLE], found[4][FLOAT])
    return at_scale(profile, [*each_part_helps(found), close])


def verdicts_on_identity(found: Rows, profile: str) -> list[Verdict]:
    """Judge the runs of :func:`paperlib.claims.experiments.identity_path`.

    Supplement section 5: high precision on the identity path "greatly reduces the impact of quantization error", in the
    4-bit MobileNet-v3.  Read, at our 3 bits and for the whole loss, as: it at least halves the points that are lost
    against a float network trained as long.  ``difference`` is the share of the loss that goes away."""
    def saved(precise: Run, coarse: Run, longer: Run) -> float:
        return (_ends(precise) - _ends(coarse)) / (_ends(longer) - _ends(coarse))

    rows = [("share of the loss at 3 bits that goes away", group, saved(*group))
            for group in shared_seeds(*found.values())]
    return at_scale(profile, [Verdict.of(
        "The identity path in high precision greatly reduces what quantization costs, by half at least",
        "PROFIT, supplement, section 5", rows, above=0.5, margin=OURS, unit="share of the loss")])


def published_gain() -> float:
    """Look up by how many points the abstract's 3-bit MobileNet-v3 beats the best previous method on ImageNet."""
    return published.value(paper_id=published.PROFIT, table="abstract",
                           metric="3-bit ablation: ours minus best previous method")


def beats_previous_methods(found: Rows, bits: int = 3) -> Verdict:
    """Abstract: at 3 bits the whole method is 12.86 points more accurate than the best previous one.

    Read as: above each of PACT, QIL and LSQ, for every seed.  The number belongs to ImageNet and is shown, not
    demanded.  ``difference`` is the whole method minus the best of the three for the same seed, in points, of averaged
    weights, which the paper evaluates."""
    rows = [(f"PROFIT minus the best of {', '.join(PREVIOUS)}, {bits} bits (points)", (whole, *previous),
             _ends(whole) - max(map(_ends, previous)))
            for whole, *previous in shared_seeds(found[WHOLE], *(found[row] for row in PREVIOUS))]
    return Verdict.of(f"At {bits} bits the whole method beats the best of {', '.join(PREVIOUS)}", WHERE, rows,
                      above=0, printed=f"{published_gain():g} points at 3 bits, ImageNet")


def each_part_helps(found: Mapping[int, Rows]) -> list[Verdict]:
    """Abstract: freezing cures what keeps networks of few bits from being accurate.

    Read as: "+ PROFIT" is above the row before it at each bit-width, at the end of training, of averaged weights, which
    the paper evaluates.  That every other row of Table 3 is above the one before is in none of the texts at hand:
    these are judged BEYOND them.  DuQ is compared with the best of PACT, QIL and LSQ, where they are.  Unless rows have
    equal epochs, the step to "+ progressive" changes the length of training as well.  ``difference`` is row minus row
    before, in points."""
    rungs = [(row,) for row in next(iter(found.values())) if row not in (*PREVIOUS, FLOAT)]
    if all(row in by_row for by_row in found.values() for row in PREVIOUS):
        rungs.insert(0, PREVIOUS)
    widths, judged = " and ".join(map(str, found)), []
    for before, (rung,) in zip(rungs, rungs[1:]):
        other = f"the best of {', '.join(before)}" if len(before) > 1 else before[0]
        rows = [(f"{rung} minus {other}, {bits} bits (points)", (run, *others),
                 _ends(run) - max(map(_ends, others)))
                for bits, by_row in found.items()
                for run, *others in shared_seeds(by_row[rung], *(by_row[row] for row in before))]
        what = f"DuQ beats {other}" if rung == "DuQ" else f"{rung} adds accuracy"
        judged.append(Verdict.of(f"{what} at {widths} bits", WHERE, rows, above=0,
                                 kind=CLAIM if rung == WHOLE else BEYOND))
    return judged


def _ends(run: Run) -> float:
    return run.accuracy(averaged=True)
