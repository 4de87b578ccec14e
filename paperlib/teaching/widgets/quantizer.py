"""A layer's real weights or inputs, a method, bits and a range: what rounding and clipping do to them."""
from __future__ import annotations

import functools
import math

import numpy as np
import torch
from IPython.display import Image
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from torch import Tensor, nn

from ... import models, quantizers
from ...analysis.quantization_error import sample
from ...errors import InputError
from ...models.quantize import kind
from ...models.squeeze_excite import gate_layers
from ...models.value_bounds import HARDSWISH_MIN, input_floors
from ...plots.style import BLUE, GREY, ORANGE
from .levels import ends, inputs, places, unit
from .panel import DECIMALS, HISTOGRAM, KINDS, explore

METHODS = {"duq": ("duq", "duq"), "pact / sawb": ("sawb", "pact"), "lsq": ("lsq", "lsq"), "lsq+": ("lsq+", "lsq+"),
           "qil": ("qil", "qil")}      # of weights, of inputs
BITS = ("2", "3", "4", "5", "8")       # those that all of them have
FACTORS = [round(0.2 + 0.1 * i, 1) for i in range(24)]


def quantizer(net: nn.Module, images: Tensor) -> Image:
    """Show a quantizer on real values; the knobs are the values, the method, its bits and its range.

    Values: the weight, and the input with ``images`` (N, C, H, W), of one layer of each kind, after an
    h-swish where there are any.  The range is a multiple of the one that the method's own calibration finds for these
    values.  Left, the values, the staircase and its levels; middle, the slope that training uses in its place; right,
    over the range, the squared error as a share of the squared values: from rounding, and from clipping what lies
    beyond the outermost levels.  QIL gives inputs as numbers from 0 to 1, which are drawn where they lie among the
    inputs.

    ``net``: float or quantized; it stays as it is.  InputError if it cannot be followed or take the images.
    """
    values = real_values(net, images)
    calibrated = functools.cache(lambda values_of, *method: Calibrated(*values[values_of], *method))

    def draw(figure: Figure, values_of: str, method: str, bits: str, range_factor: float) -> str:
        title = f"{values_of.partition(' (')[0]}, {method}, {bits} bits"
        q = calibrated(values_of, method, int(bits))
        levels, now = _draw_curve(figure, q, range_factor, title), q.error(range_factor)
        _draw_errors(figure, q.errors, now, range_factor)
        best = min(q.errors, key=lambda factor: sum(q.errors[factor][:2]))
        return (f"{title}, range factor {range_factor:.2f}: a histogram of {len(q.x)} values under a staircase of "
                f"{len(levels)} levels from {levels[0]:.3g} to {levels[-1]:.3g}; beside it the slope used in training, "
                f"and the error over the range factor. Of the squared values {sum(now[:2]):.2g} are lost, {now[0]:.2g} "
                f"by rounding and {now[1]:.2g} by clipping {now[2]:.1%} of the values; the least error, "
                f"{sum(q.errors[best][:2]):.2g}, is at a range factor of {best:.2f}.")

    weight, other = _shown(values)
    shown = (weight, "duq", "4"), (weight, "duq", "2"), (other, "pact / sawb", "4"), (other, "duq", "4")
    states = [dict(zip(("values_of", "method", "bits", "range_factor"), (*state, 1.0))) for state in shown]
    return explore(draw, states, (10.4, 3.4), values_of=list(values), method=list(METHODS), bits=BITS,
                   range_factor=(FACTORS[0], FACTORS[-1], 0.05))


def real_values(net: nn.Module, images: Tensor) -> dict[str, tuple[str, float, Tensor]]:
    """Return {words for them: (role, floor, values)} of the weight and of the input of a layer of each kind."""
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
    """Choose for the fixed panel: a weight, and an input, from h-swish if there is one."""
    weights = [words for words, (role, *_) in values.items() if role == "weight"]
    weight = next((words for words in weights if words.startswith(("expand", "conv"))), weights[-1])
    behind = [words for words, (_, floor, _) in values.items() if floor == HARDSWISH_MIN]
    return weight, (behind or [weight.replace("weight", "input", 1)])[0]


class Calibrated:
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
        """Return (error from rounding, from clipping, share of values that are clipped)."""
        low, high = (self.moved(end, m) for end in ends(self.q))
        square = (self.quantize(self.x, m) - self.x).double().square() / self.x.double().square().sum()
        clipped = (self.x < low) | (self.x > high)
        return float(square[~clipped].sum()), float(square[clipped].sum()), float(clipped.double().mean())

    def curve(self, m: float) -> dict[str, Tensor]:
        """Return the staircase over the values and the calibrated range: x, y, slope (dy/dx); and its levels."""
        low, high = map(float, ends(self.q))
        low, high = min(low, float(self.x.quantile(0.001))), max(high, float(self.x.quantile(0.999)))
        x = torch.linspace(low - 0.1 * (high - low), high + 0.1 * (high - low), 801)
        inner = self.moved(x, 1 / m).requires_grad_()
        slope, = torch.autograd.grad(self.q(inner).sum(), inner)
        return {"x": x, "y": self.quantize(x, m), "slope": slope * unit(self.q),
                "levels": self.moved(places(self.q, self.q.levels()), m)}


def _draw_curve(figure: Figure, q: Calibrated, factor: float, title: str) -> np.ndarray:
    """Draw the values under the staircase, and its slope; returns the levels."""
    left, middle = figure.add_axes((0.085, 0.17, 0.37, 0.72)), figure.add_axes((0.54, 0.17, 0.135, 0.72))
    x, y, slope, levels = (curve.numpy() for curve in q.curve(factor).values())
    shares, edges = np.histogram(q.x.numpy(), 70, (x[0], x[-1]))
    low, high = min(x[0], levels[0]), max(x[-1], levels[-1])
    low, high = max(low, 1.4 * x[0] - 0.4 * x[-1]), min(high, 1.4 * x[-1] - 0.4 * x[0])
    left.stairs(low + 0.55 * (high - low) * shares / max(shares.max(), 1), edges, baseline=low, fill=True,
                color=HISTOGRAM)
    left.plot(x, x, color=GREY, linewidth=0.8)
    left.plot(x, y, color=ORANGE, linewidth=2)
    inside = levels[(levels >= low) & (levels <= high)]
    left.plot(np.full(len(inside), 1.015), inside, "_", color=ORANGE, markersize=9,
              markeredgewidth=2 if len(levels) < 40 else 0.5, transform=left.get_yaxis_transform(), clip_on=False)
    left.set(title=title, xlabel="value (grey: how often)", ylabel="quantized value", xlim=(x[0], x[-1]),
             ylim=(low, high))
    middle.plot(x, slope, color=BLUE)
    middle.set(title="slope", xlabel="value", ylabel="dy/dx in training", xlim=(x[0], x[-1]), ylim=(-0.1, 1.25))
    for ax, most in ((left, 5), (middle, 3)):
        ax.locator_params(axis="x", nbins=most, steps=[1, 2, 5, 10])
    return levels


def _draw_errors(figure: Figure, errors: dict[float, tuple], now: tuple, factor: float) -> None:
    ax = figure.add_axes((0.775, 0.17, 0.205, 0.56))
    rounding, clipping, _ = np.array(list(errors.values())).T
    total, factors = rounding + clipping, list(errors)
    for part, style, color in ((total, "-", "black"), (rounding, "--", BLUE), (clipping, ":", ORANGE)):
        ax.plot(factors, np.maximum(part, 1e-9), style, color=color)
    ax.plot([factor], [now[0] + now[1]], "o", color="black", markersize=9, clip_on=False, zorder=5)
    bottom = 10.0 ** np.floor(np.log10(max(total.min(), 1e-6)) - 0.7)
    ax.set(xlabel="range factor", yscale="log", ylim=(bottom, 1), xlim=(0, factors[-1]), ylabel="squared error (rel.)")
    ax.yaxis.set(minor_locator=NullLocator(), major_formatter=DECIMALS)
    for height, text, color, weight, size in ((1.30, f"error {now[0] + now[1]:.2g}", "black", "bold", 13),
                                              (1.165, f"rounding {now[0]:.2g}", BLUE, "normal", 12),
                                              (1.03, f"clipping {now[1]:.2g}", ORANGE, "normal", 12)):
        ax.text(0, height, text, color=color, fontweight=weight, fontsize=size, transform=ax.transAxes)
