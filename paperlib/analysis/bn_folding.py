"""Ranges of weights with batch norms kept and folded into them (PROFIT, supplement section 5), for ``run.find``."""
from __future__ import annotations

import pandas as pd
from torch import Tensor, nn

from .. import models
from ..models.quantize import kind
from ..models.squeeze_excite import gate_layers
from ..runs import Run
from ..runs.tables import named

KEPT, FOLDED = "batch norm kept", "folded"


def name_of(cell: tuple[int, bool, bool]) -> str:
    """(bits, folded, per channel) in words: "4 bits, folded, per tensor"."""
    bits, folded, per_channel = cell
    name = f"{'float' if bits == 32 else f'{bits} bits'}, {FOLDED if folded else KEPT}"
    return name if bits == 32 else f"{name}, per {'channel' if per_channel else 'tensor'}"


@named("weight_ranges")
def weight_ranges(run: Run) -> pd.DataFrame:
    """:func:`ranges` of the run's float network."""
    return ranges(run.model("float"))


def ranges(net: nn.Module) -> pd.DataFrame:
    """The weights of each convolution that ``models.fold`` changes, before and after; two rows a layer.

    Columns: layer; kind; weights ("batch norm kept" or "folded"); range (max|w|); relative (max|w| / median|w|: how
    far a grid for all weights reaches beyond the usual one); channels (largest / median of the output channels' own
    max|w|: what a single range costs the usual channel); zeroed (share of output channels whose own max|w| is under
    1/14 of the layer's, half a step of 15 levels over its range: with one range for all, these channels become 0).
    """
    folded, gates, rows = models.fold(net), gate_layers(net), []
    first = next(name for name, m in net.named_modules() if isinstance(m, nn.Conv2d))
    for name, layer in net.named_modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        other = folded.get_submodule(name)
        if other.weight.equal(layer.weight):
            continue
        for weights, weight in ((KEPT, layer.weight), (FOLDED, other.weight)):
            rows.append({"layer": name, "kind": kind(net, name, name == first, gates), "weights": weights,
                         **_range(weight)})
    return pd.DataFrame(rows)


def _range(weight: Tensor) -> dict[str, float]:
    size = weight.detach().abs().flatten(1)
    tops, top = size.amax(1), size.max()
    return {"range": float(top), "relative": float(top / size.median()), "channels": float(top / tops.median()),
            "zeroed": float((tops < top / 14).float().mean())}
