"""QIL, Table 1 and 2: what distillation adds, what few bits cost, and whom ternary weights beat."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..runs import Run
from ..runs.seeds import shared_seeds
from . import published
from .verdict import Verdict, at_scale

TABLE1, TABLE2 = "QIL, section 4.1 and Table 1", "QIL, section 4.1 and Table 2"
RIVALS = {32: ("TTQ", "TWN", "BC", "BWN"), 1: ("XNOR",)}    # of ternary weights, by bits of activations
Cells = Mapping[tuple, Sequence[Run]]


def verdicts(found: Mapping[int, Cells], profile: str) -> list[Verdict]:
    """Judge the runs {1: runs of Table 1, 2: runs of Table 2} of :func:`paperlib.claims.experiments.qil_tables`."""
    table1, table2 = found[1], found[2]
    return at_scale(profile, [
        *(distillation_helps(table1, share) for share in (0.5, 1.0)),
        *(stays_close(table1, 2, a_bits, longer) for a_bits in (2, 1) for longer in ((), table2["float", 32, 32])),
        *(beats_rivals(table2, a_bits) for a_bits in RIVALS)])


def allowance(w_bits: int, a_bits: int) -> float:
    """Look up how many points the paper's network of these bits, with lambda 0.5, is below its full precision."""
    where = {"paper_id": published.QIL, "table": "Table 1", "metric": "top1"}
    return round(published.value(method="full precision", **where) -
                 published.value(method="QIL-v1 lambda=0.5", w_bits=w_bits, a_bits=a_bits, **where), 2)


def distillation_helps(found: Cells, share: float = 0.5) -> Verdict:
    """Section 4.1: distillation, with lambda 0.5 or 1, improves the accuracy on CIFAR-10.

    Read as: above lambda 0 at the end of training, at each bit-width of Table 1 and for every seed.  ``difference`` is
    the accuracy with lambda ``share`` minus that with lambda 0, in points."""
    rows = [(f"A{a}W{w}: lambda {share:g} minus lambda 0 (points)", (taught, alone),
             taught.accuracy() - alone.accuracy())
            for w, a, s in found if s == share
            for taught, alone in shared_seeds(found[w, a, s], found[w, a, 0.0])]
    return Verdict.of(f"Distillation with lambda {share:g} improves the accuracy on CIFAR-10 at each bit-width", TABLE1,
                      rows, lambda difference: difference > 0)


def stays_close(found: Cells, w_bits: int, a_bits: int, longer: Sequence[Run] = ()) -> Verdict:
    """Section 4.1: with lambda 0.5, A2W2 loses only 0.16 points against full precision, and A1W2 1.17.

    Read as: no more than that, at the end of training and for every seed.  Full precision is the float network that
    the run began with, as in the paper as far as it says; or, if ``longer`` has runs, the float network that was
    trained on for as long as the quantized one.  ``difference`` is full precision minus QIL, in points."""
    most, name = allowance(w_bits, a_bits), f"A{a_bits}W{w_bits}"
    against = "the float network trained as long" if longer else "the float network it began with"
    pairs = shared_seeds(found[w_bits, a_bits, 0.5], longer or found[w_bits, a_bits, 0.5])
    rows = [(f"{against} minus {name} (points)", (run, other),
             round(other.accuracy(None if longer else "float") - run.accuracy(), 6)) for run, other in pairs]
    return Verdict.of(f"{name} with lambda 0.5 loses at most {most:g} points against {against}", TABLE1, rows,
                      lambda difference: difference <= most, printed=f"{most:g} points")


def beats_rivals(found: Cells, a_bits: int = 32) -> Verdict:
    """Table 2: QIL's ternary weights are more accurate than TTQ, TWN, BC and BWN with float activations; and, with
    1-bit activations, than XNOR.

    Read as: above each of them at the end of training, for every seed.  The paper cites their numbers, here they were
    trained like QIL, but without a teacher, as in the table.  DoReFa has no number there and is no part of the claim.
    ``difference`` is QIL minus the other, in points."""
    rivals = [key for key in found if key[0] in RIVALS[a_bits]]
    rows = [(f"QIL A{a_bits}W2 minus {key[0]} A{key[2]}W{key[1]} (points)", (ours, other),
             ours.accuracy() - other.accuracy())
            for key in rivals for ours, other in shared_seeds(found["QIL", 2, a_bits], found[key])]
    what, whom = "float" if a_bits == 32 else f"{a_bits}-bit", ", ".join(key[0] for key in rivals)
    return Verdict.of(f"QIL's ternary weights with {what} activations beat {whom}", TABLE2, rows,
                      lambda difference: difference > 0)
