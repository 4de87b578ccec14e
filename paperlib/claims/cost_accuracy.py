"""PROFIT, supplement section 4 and Fig. 4: what 4 bits save, in bit operations and in size, on ImageNet.

Nothing is trained for these: the shapes of the networks decide.
"""
from __future__ import annotations

import pandas as pd

from ..analysis import bit_operations
from . import published
from .verdict import OURS, Verdict

WHERE = "PROFIT, supplement, section 4 and Fig. 4"
METRICS = {"mobilenet_v1": "BOPs reduction vs whitepaper (a4,w8) %",
           "mobilenet_v2": "BOPs reduction vs whitepaper (a4,w8) %", "mobilenet_v3_large": "BOPs reduction vs 8-bit %"}
COUNTED = "counted"        # in the place of a seed


def verdicts() -> list[Verdict]:
    """Judge what is counted."""
    return [*map(saves, bit_operations.OTHERS), costs_as_much_as_dsq(),
            *map(almost_half_the_size, ("mobilenet_v2", "mobilenet_v3_large"))]


def saves(model: str) -> Verdict:
    """Supplement section 4: a 4-bit network takes 37.7 % (v1), 38.0 % (v2), 63.8 % (v3) fewer bit operations than the
    one of other bits that it is compared with.

    Read to the printed decimal: ``difference`` is what we count, rounded to a tenth of a percent, minus the printed
    number, and must be 0.  Counted by the first of :data:`paperlib.analysis.bit_operations.RULES`."""
    rule, percent = next(iter(bit_operations.RULES.values())), printed(model)
    rows = [("saving counted minus saving printed (points)", COUNTED, round(round(rule.saving(model), 1) - percent, 1))]
    return Verdict.of(f"4-bit {bit_operations.NAMES[model]} needs {percent:g} % fewer bit operations than with "
                      "{} bits for activations and {} for weights".format(*bit_operations.OTHERS[model]), WHERE, rows,
                      above=0, below=0, counted=True, printed=f"{percent:g} %")


def costs_as_much_as_dsq() -> Verdict:
    """Supplement section 4: 4-bit MobileNet-v2 has "the same computation cost" as the one of DSQ, which has 4 bits too.

    Read as: the same to the tenth of a percent that the supplement prints elsewhere, with DSQ's network counted as the
    other competitors are, at 4 bits in every layer.  ``difference`` is ours minus DSQ's, in percent of DSQ's."""
    ours, other = (bit_operations.on_imagenet("mobilenet_v2", 4, 4, exceptions)[0] for exceptions in (True, False))
    return Verdict.of("4-bit MobileNet-v2 needs as many bit operations as with DSQ at 4 bits", WHERE,
                      [("bit operations, ours over DSQ's (%)", COUNTED, 100 * (ours / other - 1))],
                      above=-0.05, below=0.05, margin=OURS, counted=True)


def almost_half_the_size(model: str) -> Verdict:
    """Supplement section 4: 4-bit MobileNet-v2 and v3 "almost halve" the size of the 8-bit ones.

    Read as: at least nine tenths of a halving, 45 % saved, of a file that holds the weights at their bits and all that
    is not quantized (batch norm, biases) in 32 bits.  The weights alone halve exactly.  ``difference`` is what is
    saved minus 45 %, in points."""
    four, eight = (_file(model, bits) for bits in (4, 8))
    return Verdict.of(f"4-bit {bit_operations.NAMES[model]} is almost half the size of the 8-bit one", WHERE,
                      [("saved minus 45 % (points)", COUNTED, 100 * (1 - four / eight) - 45)],
                      above=0, margin=OURS, counted=True)


def _file(model: str, bits: int) -> float:
    """Bytes of weights at ``bits`` bits and of the rest in 32."""
    table = bit_operations.costs(model, bits, bits)
    return table.weight_bytes.sum() + 4 * (table.params.sum() - table.weight_bytes.sum() * 8 / bits)


def accuracy_gains() -> list[Verdict]:
    """Supplement section 4: accuracies against other methods on ImageNet.  Not testable here at any scale but ImageNet:
    the others' networks are theirs, and none of them was trained here."""
    rows = published.table(paper_id=published.PROFIT, table="supp sec. 4 / Fig. 4")
    rows = rows[rows.metric.str.contains("top1")]
    return [Verdict.of(f"4-bit {row.model} {_gain(row.metric, row.value)}", WHERE, [], testable=False,
                       needs="ImageNet and the other method's network") for row in rows.itertuples()]


def _gain(metric: str, points: float) -> str:
    """Put a row of data/published.csv, such as "top1 gain vs DSQ (4,4)", in words."""
    what, _, other = metric.partition(" vs ")
    if what.startswith("abs"):
        return f"is within {points:g} points of {other} on ImageNet"
    return f"is {points:g} points more accurate on ImageNet than {other}"


def printed(model: str) -> float:
    """The saving that the supplement prints, in percent."""
    return published.value(paper_id=published.PROFIT, model=bit_operations.NAMES[model], metric=METRICS[model])


def savings() -> pd.DataFrame:
    """Tabulate the three savings (%) by rule, and which of them are printed so, to the printed decimal; first the
    printed ones."""
    rows = [{"rule": "printed in the supplement",
             **{name: printed(model) for model, name in bit_operations.NAMES.items()}}]
    for rule, how in bit_operations.RULES.items():
        found = {name: how.saving(model) for model, name in bit_operations.NAMES.items()}
        fits = [name.removeprefix("MobileNet-") for model, name in bit_operations.NAMES.items()
                if f"{found[name]:.1f}" == f"{printed(model):.1f}"]
        rows.append({"rule": rule, **found, "fits": ", ".join(fits) or "none"})
    return pd.DataFrame(rows).fillna({"fits": ""})
