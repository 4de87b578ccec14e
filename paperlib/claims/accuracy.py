"""PROFIT, abstract and Table 1: how much accuracy 4 bits cost."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..analysis.bit_operations import NAMES
from ..models.scheme import FLOAT
from ..runs import Run
from ..runs.seeds import shared_seeds
from . import published
from .verdict import BEYOND, CLAIM, PAPERS, Verdict, at_scale

WHERE = "PROFIT, abstract and Table 1"
REFERENCES = {"float": "full precision (Full)", "fine-tuning": "taught full precision (Full+)"}     # by phase
Cells = Mapping[tuple[str, int], Sequence[Run]]     # (network, bits of weights and activations) -> runs


def verdicts(found: Cells, profile: str) -> list[Verdict]:
    """Judge each network of :func:`paperlib.claims.experiments.accuracy`, at 4 bits against the float network that was
    trained as long, where there are such runs (32 bits)."""
    judged = []
    for model, by_bits in _by_model(found).items():
        judged += [four_bits_stay_close(model, by_bits[4], by_bits.get(FLOAT, ()))] if 4 in by_bits else []
        judged.append(fewer_bits_cost_accuracy(model, by_bits))
    return at_scale(profile, judged)


def verdicts_against_shorter(found: Cells, profile: str) -> list[Verdict]:
    """Judge each network at 4 bits against its own columns "Full" and "Full+", which were trained for a shorter time:
    a looser reading, which the scoreboard leaves out."""
    return at_scale(profile, [four_bits_beside_full(model, by_bits[4], phase)
                              for model, by_bits in _by_model(found).items() if 4 in by_bits for phase in REFERENCES])


def _by_model(found: Cells) -> dict[str, dict[int, Sequence[Run]]]:
    models: dict[str, dict[int, Sequence[Run]]] = {}
    for (model, bits), runs in found.items():
        models.setdefault(model, {})[bits] = runs
    return models


def allowance() -> float:
    """Look up the abstract's largest loss of a 4-bit network against full precision, in points."""
    return published.value(paper_id=published.PROFIT, table="abstract",
                           metric="max top1 drop of 4-bit v1/v2/v3 vs full precision")


def four_bits_stay_close(model: str, four: Sequence[Run], longer: Sequence[Run]) -> Verdict:
    """Abstract: 4-bit v1, v2 and v3 are within 1.48 points of full precision.  The abstract speaks of ImageNet.

    Read as: the accuracy of a float network that was trained as long (``longer``) minus the accuracy of 4 bits is at
    most 1.48 points, both of averaged weights.  Without such a network there is not enough evidence: here training
    goes on to help whatever one does to the bits."""
    most = allowance()
    rows = [(f"{NAMES[model]}: float trained as long minus 4 bits (points)", (full, run),
             full.accuracy(averaged=True) - run.accuracy(averaged=True))
            for full, run in (shared_seeds(longer, four) if longer else ())]
    return Verdict.of(f"4-bit {NAMES[model]} loses at most {most:g} points against full precision, trained as long",
                      WHERE, rows, below=most, margin=PAPERS, printed=f"{most:g} points, ImageNet",
                      needs="a float network trained as long")


def four_bits_beside_full(model: str, four: Sequence[Run], reference: str) -> Verdict:
    """The same against the network's own phase "float" or "fine-tuning", one of REFERENCES, which was trained for a
    shorter time."""
    most, name = allowance(), REFERENCES[reference]
    rows = [(f"{NAMES[model]}: {name} minus 4 bits (points)", run, run.accuracy(reference) - run.accuracy())
            for run in four]
    return Verdict.of(f"4-bit {NAMES[model]} loses at most {most:g} points against {name}, trained for a shorter time",
                      WHERE, rows, below=most, margin=PAPERS, kind=BEYOND)


def fewer_bits_cost_accuracy(model: str, by_bits: Mapping[int, Sequence[Run]]) -> Verdict:
    """Table 1: accuracy falls from 8 to 5 and from 5 to 4 bits.  Of MobileNet-v2 its numbers are known; of v1 and v3
    no text at hand has them, so there the same is judged BEYOND the texts.

    Read as: each step to fewer bits costs something, for every seed that both have.  ``difference`` is the accuracy at
    more bits minus that at fewer, in points."""
    steps = sorted(set(by_bits) - {FLOAT}, reverse=True)
    rows = [(f"{NAMES[model]}: {more} minus {fewer} bits (points)", (a, b), a.accuracy() - b.accuracy())
            for more, fewer in zip(steps, steps[1:]) for a, b in shared_seeds(by_bits[more], by_bits[fewer])]
    return Verdict.of(f"{NAMES[model]} loses accuracy with each step to fewer bits", WHERE, rows,
                      above=0, kind=CLAIM if model == "mobilenet_v2" else BEYOND)
