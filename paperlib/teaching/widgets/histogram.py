"""A quantized network, layer by layer: its weights and its inputs, and the levels that they are rounded to."""
from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from IPython.display import Image
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from torch import Tensor, nn

from ... import models
from ...analysis.quantization_error import sample
from ...errors import InputError
from ...models.quantize import quantized_layers
from ...plots.style import BLUE, ORANGE
from ...quantizers import Quantizer
from .levels import Fit, inputs, places
from .panel import DECIMALS, HISTOGRAM, explore

BINS = 80


def histogram(net: nn.Module, images: Tensor) -> Image:
    """Show a layer, which is the knob; left its weights, right its inputs with ``images`` (N, C, H, W), as shares on a
    log axis.

    Lines mark where values are rounded to, dots the levels that the layer computes with, which differ where DuQ's
    second scale or QIL's output do.  The numbers (:class:`paperlib.teaching.widgets.levels.Fit`): levels that are
    used, the share of values beyond the outermost ones, the squared error relative to the squared values, and the same
    "rescaled" by the best factor, since a batch norm after the layer undoes a factor.  A packed network, as recorded
    runs bring it along, holds no weights but levels: how they were rounded cannot be seen there.

    ``net``: quantized and calibrated or trained; it stays as it is.  InputError if it isn't.
    """
    net = models.unfuse(net)
    layers = {f"{name} ({layer.kind})": (name, layer) for name, layer in quantized_layers(net)
              if layer.weight_quantizer or layer.input_quantizer}
    if not layers:
        raise InputError("this network has no quantizers: call models.quantize(net, scheme) and models.calibrate first")
    arriving = inputs(net, images, [name for name, _ in layers.values()])

    @functools.cache
    def values_of(layer: str) -> dict[str, Values]:
        name, module = layers[layer]
        return {"weights": Values.of(module.weight_quantizer, module.weight.detach()),
                "inputs": Values.of(module.input_quantizer, arriving[name])}

    def draw(figure: Figure, layer: str) -> str:
        figure.text(0.095, 0.945, layer, fontsize=13, fontweight="bold", va="center")
        said = []
        for left, (what, values) in zip((0.095, 0.58), values_of(layer).items()):
            words = values.in_words(what)
            _draw_values(figure, left, what.removesuffix("s"), values, words)
            spans = [f"{name} from {ends[0]:.3g} to {ends[-1]:.3g}"
                     for name, ends in (("values", values.edges), ("levels", values.levels)) if len(ends)]
            said.append(", ".join([words.replace("\n", " "), *spans]))
        figure.axes[0].set_ylabel("share in a bin (log)")
        return (f"Two histograms of the layer {layer}, with lines at the levels that values are rounded to and dots at "
                f"those the layer computes with. {'. '.join(said)}.")

    names = list(layers)
    depthwise = [words for words in names if words.endswith("(depthwise)")] or names
    states = [{"layer": words} for words in (names[0], depthwise[len(depthwise) // 2], names[-1])]
    return explore(draw, states, (10.4, 3.5), layer=tuple(names))


class Values(NamedTuple):
    """A histogram of values (its edges, and the share in each bin) and their quantizer: the ``levels`` that values
    become and the ``places`` that they are rounded to (both empty without a range per tensor), its bits and how it fits
    (both None: float), and whether the values are ``stored`` as levels."""

    edges: np.ndarray
    shares: np.ndarray
    levels: np.ndarray
    places: np.ndarray
    bits: int | None
    fit: Fit | None
    stored: bool

    @classmethod
    @torch.no_grad()
    def of(cls, q: Quantizer | None, x: Tensor) -> Values:
        shares, edges = torch.histogram(sample(x), BINS)
        none, stored = torch.empty(0), q is not None and torch.equal(q(x), x)
        levels = q.levels() if q is not None and not q.shape else none
        rounded = places(q, levels) if len(levels) and not stored else none
        return cls(edges.numpy(), (shares / shares.sum()).numpy(), levels.numpy(), rounded.numpy(),
                   q and q.bits, q and Fit.of(q, x), stored)

    def in_words(self, what: str) -> str:
        if self.fit is None:
            return f"{what}: float"
        used = f"{what}, {self.bits} bits: {self.fit.used} of {self.fit.levels} levels used"
        if self.stored:
            return f"{used},\nevery value is a level already"
        return (f"{used}, {self.fit.clipped:.1%} clipped,\n"
                f"relative squared error {self.fit.error:.2g}, rescaled {self.fit.rescaled:.2g}")


def _draw_values(figure: Figure, left: float, name: str, values: Values, words: str) -> None:
    ax = figure.add_axes((left, 0.17, 0.40, 0.56))
    ax.stairs(np.maximum(values.shares, 1e-9), values.edges, baseline=1e-9, fill=True, color=HISTOGRAM)
    across, many = ax.get_xaxis_transform(), len(values.levels) > 40
    ax.vlines(values.places, 0.88 if many else 0, 1, color=ORANGE, linewidth=0.4 if many else 1.3, transform=across)
    ax.plot(values.levels, np.full(len(values.levels), 0.955), "o", color=BLUE, markersize=1.5 if many else 4.5,
            transform=across)
    ends = np.concatenate([values.places, values.levels, values.edges[[0, -1]]])
    low, high = ends.min(), ends.max()
    ax.set(yscale="log", ylim=(1e-5, 1), xlim=(low - 0.03 * (high - low), high + 0.03 * (high - low)), xlabel=name,
           yticks=[1e-4, 1e-2, 1])
    ax.yaxis.set(minor_locator=NullLocator(), major_formatter=DECIMALS)
    ax.locator_params(axis="x", nbins=6, steps=[1, 2, 5, 10])
    ax.text(0, 1.04, words, transform=ax.transAxes, va="bottom", linespacing=1.25, fontsize=11.5)
