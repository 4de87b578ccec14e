"""PROFIT, abstract and Table 1: how much accuracy 4 bits cost."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..analysis.bit_operations import NAMES
from ..runs import Run
from ..runs.seeds import shared_seeds
from . import published
from .verdict import Verdict, at_scale

WHERE = "PROFIT, abstract and Table 1"
REFERENCES = {"float": "full precision (Full)", "fine-tuning": "taught full precision (Full+)"}     # by phase
Cells = Mapping[tuple[str, int], Sequence[Run]]     # (network, bits of weights and activations) -> runs


def verdicts(found: Cells, profile: str) -> list[Verdict]:
    """Judge each network of :func:`paperlib.claims.experiments.accuracy`, at 4 bits against the column "Full"."""
    judged = []
    for model, by_bits in _by_model(found).items():
        judged += [four_bits_stay_close(model, by_bits[4])] if 4 in by_bits else []
        judged.append(fewer_bits_cost_accuracy(model, by_bits))
    return at_scale(profile, judged)


def verdicts_against_taught(found: Cells, profile: str) -> list[Verdict]:
    """Judge each network at 4 bits against the column "Full+": a stricter reading, which the scoreboard leaves out."""
    return at_scale(profile, [four_bits_stay_close(model, by_bits[4], "fine-tuning")
                              for model, by_bits in _by_model(found).items() if 4 in by_bits])


def _by_model(found: Cells) -> dict[str, dict[int, Sequence[Run]]]:
    models: dict[str, dict[int, Sequence[Run]]] = {}
    for (model, bits), runs in found.items():
        models.setdefault(model, {})[bits] = runs
    return models


def allowance() -> float:
    """Look up the abstract's largest loss of a 4-bit network against full precision, in points."""
    return published.value(paper_id=published.PROFIT, table="abstract",
                           metric="max top1 drop of 4-bit v1/v2/v3 vs full precision")


def four_bits_stay_close(model: str, four: Sequence[Run], reference: str = "float") -> Verdict:
    """Abstract: 4-bit v1, v2 and v3 are within 1.48 points of full precision.  The abstract speaks of ImageNet.

    Read as: the accuracy of full precision minus that of 4 bits, both at the end of their training and for the same
    seed, is at most 1.48 points.  ``reference``: the phase that counts as full precision, one of REFERENCES."""
    most, name = allowance(), REFERENCES[reference]
    rows = [(f"{NAMES[model]}: {name} minus 4 bits (points)", run, run.accuracy(reference) - run.accuracy())
            for run in four]
    printed = f"{most:g} points, ImageNet" if reference == "float" else ""
    return Verdict.of(f"4-bit {NAMES[model]} loses at most {most:g} points against {name}", WHERE, rows,
                      lambda difference: difference <= most, printed=printed)


def fewer_bits_cost_accuracy(model: str, by_bits: Mapping[int, Sequence[Run]]) -> Verdict:
    """Table 1: accuracy falls from 8 to 5 and from 5 to 4 bits.

    Read as: each step to fewer bits costs something, for every seed that both have.  ``difference`` is the accuracy at
    more bits minus that at fewer, in points."""
    steps = sorted(by_bits, reverse=True)
    rows = [(f"{NAMES[model]}: {more} minus {fewer} bits (points)", (a, b), a.accuracy() - b.accuracy())
            for more, fewer in zip(steps, steps[1:]) for a, b in shared_seeds(by_bits[more], by_bits[fewer])]
    return Verdict.of(f"{NAMES[model]} loses accuracy with each step to fewer bits", WHERE, rows,
                      lambda difference: difference > 0)
