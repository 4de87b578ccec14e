"""What few bits do to the layers of a trained network that is rounded and not trained."""
from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from .. import models
from ..models.layers import QuantConv2d, QuantLinear
from ..models.quantize import quantized_layers


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
