"""Let each quantized convolution do the batch norm and the activation before it as well (fused_conv.py)."""
from __future__ import annotations

from collections import Counter

import torch
from torch import nn

from .copying import copied, hooked
from .fused_conv import ACTIVATIONS, FusedConv2d, FusedPrologue
from .graph import replace, trace, unwrapped
from .layers import QuantConv2d, adopt


def fuse(net: nn.Module) -> nn.Module:
    """Make a copy of a quantized network that computes the same, faster and with less memory.

    Every convolution whose input quantizer has an evenly spaced grid recomputes in the backward pass what it doesn't
    keep; a batch norm and an activation that feed such a convolution and nothing else become part of it.  Names of
    parameters and buffers stay as they are, so state dicts fit both forms.  :func:`unfuse` gives the plain form back.
    Calibrate before.  Values and gradients are the plain network's up to rounding, which can move a number that
    lies on the edge between two codes.
    """
    net = unfuse(net)
    graph, modules = trace(net), dict(net.named_modules(remove_duplicate=False))
    calls = Counter(modules[node.target] for node in graph.nodes if node.op == "call_module")

    def only(node, *types):
        """The module that ``node`` calls if it is of these types, is called once, feeds one other node and has neither
        hooks, which would miss its input or output, nor a forward of its own."""
        if not isinstance(node, torch.fx.Node) or node.op != "call_module" or len(node.users) != 1:
            return None
        module = modules[node.target]
        free = calls[module] == 1 and not hooked(module) and "forward" not in vars(module)
        return module if type(module) in types and free else None

    for node in graph.nodes:
        layer = modules[node.target] if node.op == "call_module" else None
        if type(layer) is not QuantConv2d or calls[layer] != 1 or layer.input_quantizer is None or not node.args:
            continue
        if layer.input_quantizer.affine() is None:
            continue
        previous = node.args[0]
        activation = only(previous, *ACTIVATIONS)
        norm = only((previous.args or [None])[0] if activation else previous, nn.BatchNorm2d)
        if norm is None or norm.running_mean is None or norm.weight is None or hooked(layer):
            norm = activation = None
        fused = adopt(FusedConv2d, layer)
        fused.prologue = FusedPrologue(norm, activation)
        replace(net, layer, fused)
        for module in filter(None, fused.prologue):
            module.forward = passed_on      # parameters and statistics stay in their place, under their names
    return net


def passed_on(input: torch.Tensor) -> torch.Tensor:
    """Stand for the forward of a module whose work the convolution after it does."""
    return input


def unfuse(net: nn.Module) -> nn.Module:
    """A copy of the network in which every module does its own work again, without wrappers (DataParallel,
    DistributedDataParallel, AveragedModel, torch.compile) around it."""
    net = copied(unwrapped(net))
    for layer in list(net.modules()):
        if isinstance(layer, FusedConv2d):
            for module in filter(None, layer.prologue):
                del module.forward
            plain = adopt(QuantConv2d, layer)
            del plain.prologue
            replace(net, layer, plain)
    return net
