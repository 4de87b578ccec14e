"""Quantizers that have collapsed: what comes out no longer depends on what goes in, or nothing learns through them."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from ..models import unfuse
from ..models.layers import QuantConv2d, QuantLinear
from ..quantizers import Quantizer

IDENTITY = ".identity_quantizer"
ALIVE = 1e-3        # the least share of values that a gradient must reach


def collapsed(net: nn.Module, images: Tensor) -> list[str]:
    """Name the quantizers that have collapsed, "<layer> weight" or "<layer> activation", in the order of their use.

    Such a quantizer makes one single value, or NaN, of all that it gets from ``images`` (N, C, H, W), or passes a
    gradient to less than a thousandth of it, zeros (ReLU's) aside.  One whose input is itself constant is not to blame
    and not named.  ``net`` stays as it is.
    """
    found: dict[str, None] = {}

    def look(name: str, q: Quantizer | None, x: Tensor) -> None:
        if q is None or not x.numel() or x.min() == x.max():
            return
        with torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            y = q.forward(x)        # without hooks
            slope, = torch.autograd.grad(y.sum(), x)
        if not y.min() < y.max() or (slope[x != 0] != 0).float().mean() < ALIVE:
            found[f"{name} {q.role}"] = None

    def of_layer(name):
        def hook(layer, args):
            look(name, layer.input_quantizer, args[0])
            look(name, layer.weight_quantizer, layer.weight)
        return hook

    net = unfuse(net).eval()
    for name, module in net.named_modules():
        if isinstance(module, (QuantConv2d, QuantLinear)):
            module.register_forward_pre_hook(of_layer(name))
        elif name.endswith(IDENTITY):
            place = name.removesuffix(IDENTITY)
            module.register_forward_pre_hook(lambda q, args, place=place: look(place, q, args[0]))
    with torch.no_grad():
        net(images)
    return list(found)
