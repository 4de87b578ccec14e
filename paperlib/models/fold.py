"""Batch norms folded into the convolutions before them."""
from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .copying import copied, hooked
from .graph import foldable_norms, replace, trace, unwrapped


def fold(net: nn.Module) -> nn.Module:
    """A copy of ``net`` without the batch norms that directly follow a convolution: that convolution does their work.

    Weight and bias become gamma/sigma W and beta + gamma/sigma (b - mu), with the running statistics, so the network
    computes in evaluation mode what it did before (PROFIT, supplement, equation 2).  A range that a weight quantizer
    had does not fit the new weight: the quantizer is dropped, and ``models.quantize`` gives another (equation 3).

    A batch norm that cannot be folded stays: one that is called twice or after a convolution that is, one that keeps
    no running statistics, one whose convolution's output has other uses, one with hooks, or whose convolution has them,
    as these would see other values.
    """
    net = copied(unwrapped(net))
    for layer, place in foldable_norms(net, trace(net)).items():
        conv, norm = net.get_submodule(layer), net.get_submodule(place)
        if isinstance(conv, nn.Conv2d) and "weight" in conv._parameters and not hooked(conv) and not hooked(norm):
            conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, norm.running_mean, norm.running_var,
                                                          norm.eps, norm.weight, norm.bias)
            if hasattr(conv, "weight_quantizer"):
                conv.weight_quantizer = None
            replace(net, norm, nn.Identity())
    return net
