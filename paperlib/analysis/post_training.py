"""What few bits do to a trained network that is rounded and not trained again."""
from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import models
from ..models.layers import QuantConv2d, QuantLinear
from ..models.quantize import quantized_layers


def layers(net: nn.Module) -> dict[str, QuantConv2d | QuantLinear]:
    """{name: layer}, all that can be quantized, in the network's order."""
    return dict(quantized_layers(net))


def rounded(net: nn.Module, bits: int, method: str = "mse") -> nn.Module:
    """The float network with weights of ``bits`` bits by DuQ, each range calibrated by ``method``, usually with the
    smallest squared error; activations stay float and nothing is trained."""
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


def convolutions(net: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """{name: layer}, all convolutions and fully connected layers, quantized or not, in the network's order."""
    return {name: layer for name, layer in net.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear))}


@torch.no_grad()
def with_weights(net: nn.Module, change: Callable[[Tensor], Tensor], names: Iterable[str] | None = None) -> nn.Module:
    """A copy in which ``change(weight)`` takes the place of the weight in each of the :func:`convolutions`, or only
    in these ``names``."""
    net = copy.deepcopy(net)
    for name in convolutions(net) if names is None else names:
        weight = net.get_submodule(name).weight
        weight.copy_(change(weight.clone()))
    return net


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
def watch(net: nn.Module, images: Tensor, hook: Callable) -> None:
    """Run ``net`` once on ``images`` (N, C, H, W) with ``hook(layer, args, output)`` after each of its
    :func:`convolutions`; what the hook returns, if anything, takes the place of the output, as torch has it."""
    with contextlib.ExitStack() as hooks:
        for layer in convolutions(net).values():
            hooks.enter_context(layer.register_forward_hook(hook))
        net.eval()(images)


@torch.no_grad()
def input_moments(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """The mean products of the inputs that meet in an output, (groups, k, k) with k weights per output channel.

    If an output channel's weights change by e, (k,), the mean square of what changes in its output with ``x``,
    (N, C, H, W), is e @ moments[group] @ e: a layer's rounding can be judged without running it again.
    """
    patches = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)       # (N, C * area, places)
    patches = patches.unflatten(1, (layer.groups, -1))
    return torch.einsum("ngip,ngjp->gij", patches, patches) / (len(x) * patches.shape[-1])
