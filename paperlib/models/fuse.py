"""Let each quantized convolution do the batch norm and the activation before it as well (fused_conv.py)."""
from __future__ import annotations

from collections import Counter

import torch
from torch import nn

from . import fused_conv
from .copying import copied, hooked
from .graph import replace, trace, unwrapped
from .layers import QuantConv2d


class Deferred(nn.BatchNorm2d):
    """A batch norm whose work the convolution after it does; it keeps parameters and statistics in their place."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input


def fuse(net: nn.Module) -> nn.Module:
    """A copy of a quantized network that computes the same, faster and with less memory.

    Every convolution whose input quantizer has an evenly spaced grid recomputes in the backward pass what it doesn't
    keep; a batch norm and an activation that feed such a convolution and nothing else become part of it.  Names of
    parameters and buffers stay as they are, so state dicts fit both forms.  :func:`unfuse` gives the plain form back.
    Calibrate before.  Values and gradients are those of the plain network up to rounding, which can move a number that
    lies on the edge between two codes.
    """
    net = unfuse(net)
    graph, modules = trace(net), dict(net.named_modules(remove_duplicate=False))
    calls = Counter(modules[node.target] for node in graph.nodes if node.op == "call_module")

    def only(node, *types):
        """The module that ``node`` calls if it is of these types, is called once, feeds one other node and has no
        hooks, which would miss its input or output."""
        if not isinstance(node, torch.fx.Node) or node.op != "call_module" or len(node.users) != 1:
            return None
        module = modules[node.target]
        return module if type(module) in types and calls[module] == 1 and not hooked(module) else None

    for node in graph.nodes:
        layer = modules[node.target] if node.op == "call_module" else None
        if not isinstance(layer, QuantConv2d) or calls[layer] != 1 or layer.input_quantizer is None or not node.args:
            continue
        if layer.input_quantizer.affine() is None:
            continue
        previous = node.args[0]
        activation = only(previous, *fused_conv.ACTIVATIONS)
        norm = only((previous.args or [None])[0] if activation else previous, nn.BatchNorm2d)
        if norm is None or norm.running_mean is None or norm.weight is None or hooked(layer):
            norm = activation = None
        layer.before = fused_conv.FusedPrologue(norm, type(activation) if activation else None)
        if norm is not None:
            norm.__class__ = Deferred
        if activation:
            replace(net, activation, _PassedOn(activation))
    return net


class _PassedOn(nn.Module):
    """In the place of an activation that the convolution after it computes."""

    def __init__(self, activation: nn.Module):
        super().__init__()
        self.activation = activation

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input


def unfuse(net: nn.Module) -> nn.Module:
    """A copy of the network in which every module does its own work again, without wrappers (DataParallel,
    DistributedDataParallel, AveragedModel, torch.compile) around it."""
    net = copied(unwrapped(net))
    for name, module in list(net.named_modules()):
        if isinstance(module, Deferred):
            module.__class__ = nn.BatchNorm2d
        elif isinstance(module, _PassedOn):
            replace(net, module, module.activation)
        elif isinstance(module, QuantConv2d):
            module.before = None
    return net
