"""What few bits do to the layers of a trained network: rounded and not trained, and one weight at a threshold."""
from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import models
from ..models.layers import QuantConv2d, QuantLinear
from ..models.quantize import quantized_layers
from ..training.output_moments import Moments, divergence, rows


def layers(net: nn.Module) -> dict[str, QuantConv2d | QuantLinear]:
    """{name: layer}, all that can be quantized, in the network's order."""
    return dict(quantized_layers(net))


def rounded(net: nn.Module, bits: int, method: str = "mse") -> nn.Module:
    """The float network with weights of ``bits`` bits by DuQ, each range calibrated by ``method``, usually that of
    least squared error; activations stay float and nothing is trained."""
    qnet = models.quantize(net, models.Scheme(w_bits=bits, a_bits=32, negative_padding=False))
    for layer in layers(qnet).values():
        layer.weight_quantizer.calibrate(layer.weight, method)
    return qnet.eval()


def only(qnet: nn.Module, kind: str) -> nn.Module:
    """A copy in which weights are quantized in layers of this kind alone ("depthwise", "expand", "project", "se",
    "linear", "first")."""
    qnet = copy.deepcopy(qnet)
    for layer in layers(qnet).values():
        if layer.kind != kind:
            layer.weight_quantizer = None
    return qnet


def on_batch_statistics(net: nn.Module) -> nn.Module:
    """A copy whose batch norms use the mean and variance of the batch at hand, in evaluation as well."""
    net = copy.deepcopy(net)
    for norm in net.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.running_mean = norm.running_var = None     # without them torch takes the batch's own
    return net


@torch.no_grad()
def answers(net: nn.Module, images: Tensor) -> Tensor:
    """The class that ``net``, in evaluation mode from then on, gives each image; all images are one batch."""
    return net.eval()(images).argmax(1)


def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in percent of the :func:`answers`."""
    return 100 * (answers(net, images) == labels).double().mean().item()


@torch.no_grad()
def crossing(layer: QuantConv2d | QuantLinear, x: Tensor) -> Tensor:
    """What one crossing does: in every output channel the weight nearest to a rounding threshold goes to the level on
    the other side.  Returns the KL divergence of the channel's output with ``x`` after it from that before it, as AIWQ
    has it (nats, float64, (channels,); NaN where the channel was or becomes constant).

    ``layer``: with weights on DuQ's grid as calibration leaves it, one scale before and after rounding."""
    levels = layer.weight_quantizer.levels()
    step, old = levels[1] - levels[0], layer.quantized_weight().flatten(1)
    place = layer.weight.flatten(1) / step
    distance = (place - place.floor() - 0.5).abs().where(place.abs() * step < levels[-1], 1.0)
    nearest = distance.argmin(1, keepdim=True)
    other_side = (2 * place.floor() + 1) * step - old
    new = old.scatter(1, nearest, other_side.gather(1, nearest))

    def moments(weight):
        weight = weight.view_as(layer.weight)
        output = layer.convolve(x, weight, None) if isinstance(layer, nn.Conv2d) else F.linear(x, weight)
        return Moments.of(rows(output, layer))

    return divergence(moments(new), moments(old))
