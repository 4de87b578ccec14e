"""A layer's real weights or inputs, a method, bits and a range: what rounding and clipping do to them."""
from __future__ import annotations

import functools
import math

import torch
from IPython.display import Image
from torch import Tensor, nn

from ... import models, quantizers
from ...analysis.quantization_error import sample
from ...errors import InputError
from ...models.quantize import kind
from ...models.squeeze_excite import gate_layers
from ...models.value_bounds import HARDSWISH_MIN, input_floors
from ...plots.aiwq import KINDS
from . import drawings
from .levels import ends, inputs, places, unit
from .panel import explore

METHODS = {"duq": ("duq", "duq"), "pact / sawb": ("sawb", "pact"), "lsq": ("lsq", "lsq"), "lsq+": ("lsq+", "lsq+"),
           "qil": ("qil", "qil")}      # of weights, of inputs
BITS = ("2", "3", "4", "5", "8")       # those that all of them have
FACTORS = [round(0.2 + 0.1 * i, 1) for i in range(24)]


def quantizer(net: nn.Module, images: Tensor) -> Image:
    """A quantizer on real values; the knobs are the values, the method, its bits and its range.

    Values: the weight, and the input with ``images`` (N, C, H, W), of one layer of each kind, of those behind an
    h-swish where there are any.  The range is a multiple of the one that the method's own calibration finds for these
    values.  Left, the values, the staircase and its levels; middle, the slope that training uses in its place; right,
    over the range, the squared error as a share of the squared values: from rounding, and from clipping what lies
    beyond the outermost levels.  QIL gives inputs as numbers from 0 to 1, which are drawn where they lie among the
    inputs.

    ``net``: float or quantized; it stays as it is.  InputError if it cannot be followed or take the images.
    """
    values = real_values(net, images)
    ready = functools.cache(lambda values_of, method, bits: Ready(*values[values_of], method, int(bits)))

    @functools.lru_cache(64)
    def seen(values_of, method, bits, range_factor):
        found = ready(values_of, method, bits)
        return {"title": f"{values_of.partition(' (')[0]}, {method}, {bits} bits", "values": found.x,
                "curve": found.curve(range_factor), "errors": found.errors, "factor": range_factor,
                "now": found.error(range_factor)}

    weight, other = _shown(values)
    shown = (weight, "duq", "4"), (weight, "duq", "2"), (other, "pact / sawb", "4"), (other, "duq", "4")
    states = [dict(zip(("values_of", "method", "bits", "range_factor"), (*state, 1.0))) for state in shown]
    return explore(lambda figure, **knobs: drawings.quantized_values(figure, **seen(**knobs)),
                   lambda **knobs: drawings.describe_quantized_values(**seen(**knobs)), states, (10.4, 3.4),
                   values_of=list(values), method=list(METHODS), bits=BITS,
                   range_factor=(FACTORS[0], FACTORS[-1], 0.05))


def real_values(net: nn.Module, images: Tensor) -> dict[str, tuple[str, float, Tensor]]:
    """{words for them: (role, floor, values)} of the weight and of the input of a layer of each kind."""
    net, by_kind, values = models.unfuse(net), {}, {}
    floors = input_floors(net).layers
    if not floors:
        raise InputError(f"{type(net).__name__} has no Conv2d or Linear layer: there is nothing to quantize")
    gates, first = gate_layers(net), next(iter(floors))
    for name in floors:
        by_kind.setdefault(kind(net, name, name == first, gates), []).append(name)
    for names in by_kind.values():
        names[:] = [name for name in names if floors[name] == HARDSWISH_MIN] or names
    chosen = {k: by_kind[k][len(by_kind[k]) // 2] for k in KINDS if k in by_kind}
    arriving = inputs(net, images, chosen.values())
    for k, name in chosen.items():
        values[f"{k} weight ({name})"] = "weight", -math.inf, sample(net.get_submodule(name).weight)
        values[f"{k} input ({name})"] = "activation", floors[name], arriving[name]
    return values


def _shown(values: dict) -> tuple[str, str]:
    """For the fixed panel: a weight, and an input, from h-swish if there is one."""
    weights = [words for words, (role, *_) in values.items() if role == "weight"]
    weight = next((words for words in weights if words.startswith(("expand", "conv"))), weights[-1])
    behind = [words for words, (_, floor, _) in values.items() if floor == HARDSWISH_MIN]
    return weight, (behind or [weight.replace("weight", "input", 1)])[0]


class Ready:
    """A quantizer calibrated on values, whose range can be made wider and narrower.

    All calibrations grow with the values (above the floor), so a range ``m`` times as wide does to x what the
    calibrated one does to x / m.
    """

    def __init__(self, role: str, floor: float, x: Tensor, method: str, bits: int):
        name, signed = METHODS[method][role != "weight"], floor == -math.inf
        self.x, self.q = x, quantizers.build(name, role=role, bits=bits, signed=signed,
                                             floor=0.0 if signed else min(floor, 0.0))
        self.q.calibrate(x).follows = False         # from here on its range stays
        self.errors = {m: self.error(m) for m in FACTORS}

    def moved(self, x: Tensor, m: float) -> Tensor:
        return self.q.floor + m * (x - self.q.floor)

    @torch.no_grad()
    def quantize(self, x: Tensor, m: float) -> Tensor:
        return self.moved(places(self.q, self.q(self.moved(x, 1 / m))), m)

    def error(self, m: float) -> tuple[float, float, float]:
        """(error from rounding, from clipping, share of values that are clipped)."""
        low, high = (self.moved(end, m) for end in ends(self.q))
        square = (self.quantize(self.x, m) - self.x).double().square() / self.x.double().square().sum()
        clipped = (self.x < low) | (self.x > high)
        return float(square[~clipped].sum()), float(square[clipped].sum()), float(clipped.double().mean())

    def curve(self, m: float) -> dict[str, Tensor]:
        """The staircase over the values and the calibrated range: x, y, slope (dy/dx); and its levels."""
        low, high = map(float, ends(self.q))
        low, high = min(low, float(self.x.quantile(0.001))), max(high, float(self.x.quantile(0.999)))
        x = torch.linspace(low - 0.1 * (high - low), high + 0.1 * (high - low), 801)
        inner = self.moved(x, 1 / m).requires_grad_()
        slope, = torch.autograd.grad(self.q(inner).sum(), inner)
        return {"x": x, "y": self.quantize(x, m), "slope": slope * unit(self.q),
                "levels": self.moved(places(self.q, self.q.levels()), m)}
