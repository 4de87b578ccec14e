"""Bits for each kind of layer, and what they cost: bit operations and bytes of weights."""
from __future__ import annotations

import functools

import pandas as pd
from IPython.display import Image
from torch import nn

from ... import models
from ...models.cost import table
from ...models.scheme import FLOAT, Scheme
from ...plots.aiwq import KINDS
from . import drawings
from .panel import explore

BITS = {f"{w} / {a}" if w < FLOAT else "float": (w, a)
        for w, a in ((FLOAT, FLOAT), (8, 8), (4, 8), (5, 5), (4, 4), (3, 3), (2, 4), (2, 2))}   # of weights, of inputs


def cost(net: nn.Module, input_size: int | tuple[int, int, int] = 32) -> Image:
    """The knobs are the bits (weights / inputs) of each kind of layer.

    Left the bit operations for one image, right the bytes of the weights, both as
    :func:`paperlib.models.cost.table` counts them and split by kind: in float, with 8 bits everywhere, and with the bits
    chosen.  ``net``: float or quantized, its own bits don't matter; ``input_size`` as for ``cost.table``, whose
    InputErrors this has too.
    """
    layers = counted(net, input_size)
    kinds = [kind for kind in KINDS if kind in set(layers.kind)]
    fixed = {"float": by_kind(layers, {}), "8 bits": by_kind(layers, dict.fromkeys(kinds, (8, 8)))}

    @functools.lru_cache(64)
    def seen(**bits):
        return {"costs": {**fixed, "chosen": by_kind(layers, {k: BITS[words] for k, words in bits.items()})},
                "bits": bits}

    paper = {"first": "4 / 8", "se": "4 / 8"}
    states = [{k: paper.get(k, "4 / 4") for k in kinds}, {k: "8 / 8" if k in ("first", "linear") else "2 / 2" for k in
                                                          kinds}]
    states.append({k: "4 / 4" if k in ("expand", "project", "conv") else "8 / 8" for k in kinds})
    return explore(lambda figure, **bits: drawings.costs_by_kind(figure, **seen(**bits)),
                   lambda **bits: drawings.describe_costs_by_kind(**seen(**bits)), states, (10.4, 3.3),
                   **{k: list(BITS) for k in kinds})


def counted(net: nn.Module, input_size: int | tuple[int, int, int]) -> pd.DataFrame:
    """A row for each convolution and fully connected layer: layer, kind, macs, weights, and ``sums``, the bit
    operations that do not depend on its bits."""
    found = table(models.quantize(net, Scheme(w_bits=FLOAT, a_bits=FLOAT)), input_size)
    found = found[found.kind.isin(KINDS)]
    return pd.DataFrame({"layer": found.layer, "kind": found.kind, "macs": found.macs,
                         "weights": found.weight_bytes * 8 / FLOAT,
                         "sums": found.bops - found.macs * (FLOAT * FLOAT + FLOAT + FLOAT)})


def by_kind(layers: pd.DataFrame, bits: dict[str, tuple[int, int]]) -> pd.DataFrame:
    """Bit operations and bytes by kind, in the order of KINDS; kinds that ``bits`` lacks are float."""
    w, a = ([bits.get(kind, (FLOAT, FLOAT))[i] for kind in layers.kind] for i in (0, 1))
    rows = layers.assign(w=w, a=a)
    rows["bops"] = rows.macs * (rows.a * rows.w + rows.a + rows.w) + rows.sums
    rows["bytes"] = rows.weights * rows.w / 8
    return rows.groupby("kind")[["bops", "bytes"]].sum().reindex([k for k in KINDS if k in set(layers.kind)])
