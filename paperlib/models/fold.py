"""Batch norms folded into the convolutions before them."""
from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .copying import copied, hooked
from .ranges import trace


def fold(net: nn.Module) -> nn.Module:
    """A copy of ``net`` without the batch norms that directly follow a convolution: that convolution does their work.

    Weight and bias become gamma/sigma W and beta + gamma/sigma (b - mu), with the running statistics, so the network
    computes in evaluation mode what it did before (PROFIT, supplement, equation 2).  A range that a weight quantizer
    had does not fit the new weight: the quantizer is dropped, and ``models.quantize`` gives another (equation 3).
    A norm stays if it or the convolution has hooks, which would see other values.
    """
    net = copied(net)
    modules = dict(net.named_modules(remove_duplicate=False))
    for node in trace(net).nodes:
        norm, before = modules.get(node.target) if node.op == "call_module" else None, node.args[:1]
        if not isinstance(norm, nn.BatchNorm2d) or before[0].op != "call_module" or len(before[0].users) != 1:
            continue
        conv = modules[before[0].target]
        if isinstance(conv, nn.Conv2d) and "weight" in conv._parameters and not hooked(conv) and not hooked(norm):
            conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, norm.running_mean, norm.running_var,
                                                          norm.eps, norm.weight, norm.bias)
            if hasattr(conv, "weight_quantizer"):
                conv.weight_quantizer = None
            net.set_submodule(node.target, nn.Identity())
    return net
