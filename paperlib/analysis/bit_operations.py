"""What PROFIT's networks cost on ImageNet (supplement, section 4 and Fig. 4), under several ways to count."""
from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from .. import models
from ..models import Scheme, cost

NAMES = {"mobilenet_v1": "MobileNet-v1", "mobilenet_v2": "MobileNet-v2", "mobilenet_v3_large": "MobileNet-v3-Large"}
# what the supplement compares its 4-bit networks with, bits of (activations, weights), and what it calls the saving
OTHERS = {"mobilenet_v1": (4, 8), "mobilenet_v2": (4, 8), "mobilenet_v3_large": (8, 8)}
BITS = ((32, 32), (8, 8), (5, 5), (4, 4), (3, 3))


def total(costs: pd.DataFrame) -> tuple[float, float]:
    """Add up a :func:`paperlib.models.cost.table`: 10^9 bit operations for one image, 10^6 bytes of weights.

    The operations are the table's, and w more for each weight of w bits, which is read once.
    """
    return (costs.bops + 8 * costs.weight_bytes).sum() / 1e9, costs.weight_bytes.sum() / 1e6


@functools.cache
def imagenet(model: str, a_bits: int, w_bits: int, exceptions: bool = True) -> nn.Module:
    """Build the network for 1000 classes and 224x224 images, shapes alone; made once, not to be changed.

    ``exceptions``: with the supplement's two of 8 bits; otherwise all layers have the same bits.
    """
    alike = {} if exceptions else {"first_input_bits": a_bits, "se_bits": a_bits}
    return models.quantize(_float(model), Scheme(a_bits=a_bits, w_bits=w_bits, **alike))


@functools.cache
def _float(model: str) -> nn.Module:
    with torch.device("meta"):
        return models.build(model, num_classes=1000, input_size=224)


@functools.cache
def costs(model: str, a_bits: int, w_bits: int, exceptions: bool = True) -> pd.DataFrame:
    """Tabulate :func:`paperlib.models.cost.table` of :func:`imagenet`."""
    return cost.table(imagenet(model, a_bits, w_bits, exceptions), 224)


def on_imagenet(model: str, a_bits: int, w_bits: int, exceptions: bool = True) -> tuple[float, float]:
    """Add up :func:`costs` by :func:`total`."""
    return total(costs(model, a_bits, w_bits, exceptions))


def table(bits=BITS) -> pd.DataFrame:
    """Tabulate GBOPs and MB of weights of the three networks, a row for each (bits of activations, of weights)."""
    rows = [(name, f"({a}, {w})", *on_imagenet(model, a, w)) for model, name in NAMES.items() for a, w in bits]
    found = pd.DataFrame(rows, columns=["network", "(a, w)", "GBOPs", "MB of weights"])
    return found.pivot(index="(a, w)", columns="network").loc[[f"({a}, {w})" for a, w in bits]]


@functools.cache
def layers(model: str, a_bits: int, w_bits: int, exceptions: bool = True) -> pd.DataFrame:
    """Tabulate what counting needs, one row per layer: kind, macs, weights, bits ``a`` of the input and ``w`` of the
    weight, ``n`` products in one output and ``dense``, n of a layer that saw all channels."""
    net = imagenet(model, a_bits, w_bits, exceptions)
    plan = models.plan(net).set_index("layer")
    macs = costs(model, a_bits, w_bits, exceptions).set_index("layer").macs[plan.index]
    weights = {name: net.get_submodule(name).weight for name in plan.index}
    groups = [getattr(net.get_submodule(name), "groups", 1) for name in plan.index]
    n = pd.Series({name: weight[0].numel() for name, weight in weights.items()})
    return pd.DataFrame({"kind": plan.kind, "macs": macs, "a": plan.a_bits, "w": plan.w_bits,
                         "weights": pd.Series({name: weight.numel() for name, weight in weights.items()}),
                         "n": n, "dense": n * groups})


def _log2(numbers: pd.Series, whole: Callable[[float], float] = float) -> pd.Series:
    return numbers.map(lambda n: whole(math.log2(n)))


@dataclass(frozen=True)
class Rule:
    """A way to count: bit operations of one multiply-accumulate, from :func:`layers`; whether reading a weight counts
    w; whether the supplement's network and the others have the 8-bit exceptions; kinds of layers left out."""

    per_mac: Callable[[pd.DataFrame], pd.Series] = lambda t: t.a * t.w + t.a + t.w + _log2(t.n)
    reading: bool = True
    ours: bool = True
    others: bool = False
    without: tuple[str, ...] = ()

    def count(self, model: str, a_bits: int, w_bits: int, exceptions: bool) -> float:
        """Count bit operations for one image."""
        t = layers(model, a_bits, w_bits, exceptions)
        t = t[~t.kind.isin(self.without)]
        return float((t.macs * self.per_mac(t) + self.reading * t.weights * t.w).sum())

    def saving(self, model: str) -> float:
        """Return how many bit operations the 4-bit network saves against the one it is compared with, in percent."""
        return 100 * (1 - self.count(model, 4, 4, self.ours) / self.count(model, *OTHERS[model], self.others))


RULES = {
    "a·w + a + w + log2 n, and w to read each weight": Rule(),
    "reading weights is free": Rule(reading=False),
    "without log2 n": Rule(lambda t: t.a * t.w + t.a + t.w),
    "without a + w": Rule(lambda t: t.a * t.w + _log2(t.n)),
    "a·w alone": Rule(lambda t: t.a * t.w, reading=False),
    "log2 n rounded up": Rule(lambda t: t.a * t.w + t.a + t.w + _log2(t.n, math.ceil)),
    "depthwise: n of all channels": Rule(lambda t: t.a * t.w + t.a + t.w + _log2(t.dense)),
    "4 bits in every layer": Rule(ours=False),
    "8-bit exceptions for the others too": Rule(others=True),
    "without the last layer": Rule(without=("linear",)),
    "without squeeze-and-excite": Rule(without=("se",)),
}


