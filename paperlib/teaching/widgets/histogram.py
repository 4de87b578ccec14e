"""A quantized network, layer by layer: its weights and its inputs, and the levels that they are rounded to."""
from __future__ import annotations

import functools

import torch
from IPython.display import Image
from torch import Tensor, nn

from ... import models
from ...analysis.quantization_error import sample
from ...errors import InputError
from ...models.quantize import quantized_layers
from ...quantizers import Quantizer
from . import drawings
from .levels import Fit, inputs, places
from .panel import explore

BINS = 80


def histogram(net: nn.Module, images: Tensor) -> Image:
    """The layer is the knob; left its weights, right its inputs with ``images`` (N, C, H, W), as shares on a log axis.

    Lines mark where values are rounded to, dots the levels that the layer computes with, which differ where DuQ's
    second scale or QIL's output do.  The numbers (:class:`paperlib.teaching.widgets.levels.Fit`): levels that are used, the
    share of values beyond the outermost ones, the squared error relative to the squared values, and the same
    "rescaled" by the best factor, since a batch norm behind the layer undoes a factor.  A packed network, as recorded
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
    def seen(layer):
        name, module = layers[layer]
        return {"title": layer, "weights": look(module.weight_quantizer, module.weight.detach()),
                "inputs": look(module.input_quantizer, arriving[name])}

    names = list(layers)
    depthwise = [words for words in names if words.endswith("(depthwise)")] or names
    states = [{"layer": words} for words in (names[0], depthwise[len(depthwise) // 2], names[-1])]
    return explore(lambda figure, layer: drawings.layer_histograms(figure, **seen(layer)),
                   lambda layer: drawings.describe_layer_histograms(**seen(layer)), states, (10.4, 3.5),
                   layer=tuple(names))


@torch.no_grad()
def look(q: Quantizer | None, x: Tensor) -> dict:
    """What :func:`explorers.layer_histograms` draws of these values and their quantizer."""
    shares, edges = torch.histogram(sample(x), BINS)
    levels = q.levels() if q is not None and not q.shape else torch.empty(0)
    stored = q is not None and torch.equal(q(x), x)
    return {"edges": edges.numpy(), "shares": (shares / shares.sum()).numpy(), "levels": levels.numpy(),
            "places": (places(q, levels) if len(levels) and not stored else torch.empty(0)).numpy(),
            "bits": None if q is None else q.bits, "fit": None if q is None else Fit.of(q, x), "stored": stored}
