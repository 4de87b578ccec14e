"""QIL, section 4.2 and Table 3: photographs, where distillation does not help and 3 bits cost little."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..analysis.qil_photographs import NETWORKS
from ..runs import Run
from ..runs.seeds import shared_seeds
from . import published
from .verdict import OURS, PAPERS, Verdict, at_scale

WHERE = "QIL, section 4.2 and Table 3"
LITTLE = 1.0        # points
Found = Mapping[str, Mapping[tuple[int, float], Sequence[Run]]]      # network -> (bits, lambda) -> runs


def verdicts(found: Found, profile: str) -> list[Verdict]:
    """Judge the runs of :func:`paperlib.claims.experiments.qil_photographs`."""
    return at_scale(profile, [few_bits_keep_full_accuracy(found), two_bits_cost_most(found),
                              distillation_does_not_help(found),
                              *(two_bits_lose_as_little(model, cells) for model, cells in found.items())])


def allowance() -> float:
    """Look up what the paper's 3- and 4-bit networks lose at most without distillation, in points."""
    where = {"paper_id": published.QIL, "table": "Table 3", "metric": "top1"}
    rows = published.table(method="QIL-v1 lambda=0", **where)
    full = published.table(method="full precision", **where).set_index("model").value
    return round(float((rows.model.map(full) - rows.value)[rows.w_bits > 2].max()), 2)


def distillation_does_not_help(found: Found) -> Verdict:
    """Section 4.2: on ImageNet distillation has little effect on the accuracy, or lowers it.

    Read as: lambda 0.5 is above lambda 0 by a point at most, for each network and bit-width of the paper's table.
    ``difference`` is the accuracy with lambda 0.5 minus that with 0, in points."""
    rows = [(f"{NETWORKS[model]}, {bits} bits: lambda 0.5 minus lambda 0 (points)", (taught, alone),
             taught.accuracy() - alone.accuracy())
            for model, cells in found.items() for bits in (4, 3, 2)
            for taught, alone in shared_seeds(cells[bits, 0.5], cells[bits, 0.0])]
    return Verdict.of(f"On photographs distillation raises the accuracy by {LITTLE:g} point at most", WHERE, rows,
                      below=LITTLE, margin=OURS)


def few_bits_keep_full_accuracy(found: Found) -> Verdict:
    """Section 4.2: without distillation 4 and 3 bits keep full accuracy, but for 1 point at most.

    Read as: against the float network that training began with, for each network.  ``difference`` is float minus
    quantized, in points."""
    most = allowance()
    rows = [(f"{NETWORKS[model]}: float minus {bits} bits (points)", run,
             round(run.accuracy(run.recipe.phases[0].name) - run.accuracy(), 6))
            for model, cells in found.items() for bits in (4, 3) for run in cells[bits, 0.0]]
    return Verdict.of(f"Without distillation 4 and 3 bits lose at most {most:g} point{'s' * (most != 1)} against the float "
                      "network that training began with, on photographs", WHERE, rows,
                      below=most, margin=PAPERS, printed=f"{most:g} points")


def two_bits_cost_most(found: Found) -> Verdict:
    """Table 3: accuracy falls with each step from 4 to 3 and from 3 to 2 bits, with and without distillation.

    ``difference`` is the accuracy at more bits minus that at fewer, in points."""
    rows = [(f"{NETWORKS[model]}, lambda {share:g}: {more} minus {fewer} bits (points)", (few, many),
             many.accuracy() - few.accuracy())
            for model, cells in found.items() for share in (0.0, 0.5) for more, fewer in ((4, 3), (3, 2))
            for few, many in shared_seeds(cells[fewer, share], cells[more, share])]
    return Verdict.of("Each step from 4 to 3 to 2 bits costs accuracy on photographs", WHERE, rows, above=0)


def two_bits_lose_as_little(model: str, cells: Mapping[tuple[int, float], Sequence[Run]]) -> Verdict:
    """Section 4.2: at 2 bits, without distillation, the loss is 3.8 points (ResNet-18) and 2.4 (AlexNet).

    Read as: no more than that.  ``difference`` is float minus 2 bits, in points."""
    where = {"paper_id": published.QIL, "table": "Table 3", "metric": "top1", "model": f"{NETWORKS[model]}/ImageNet"}
    most = round(published.value(method="full precision", **where) -
                 published.value(method="QIL-v1 lambda=0", w_bits=2, **where), 2)
    rows = [(f"{NETWORKS[model]}: float minus 2 bits (points)", run,
             run.accuracy(run.recipe.phases[0].name) - run.accuracy()) for run in cells[2, 0.0]]
    return Verdict.of(f"2-bit {NETWORKS[model]} without distillation loses at most {most:g} points on photographs", WHERE, rows, below=most,
                      margin=PAPERS, printed=f"{most:g} points")
