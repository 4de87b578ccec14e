"""Copies of networks; what cannot be copied is named."""
from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ..errors import InputError, brief

# hooks that compute a layer's weight before each forward, so that no copy and no other layer could have it as its own
COMPUTED = {BasePruningMethod: "torch.nn.utils.prune.remove(layer, {!r})",
            WeightNorm: "torch.nn.utils.remove_weight_norm(layer, {!r})",
            SpectralNorm: "torch.nn.utils.remove_spectral_norm(layer, {!r})"}


def copied(net: nn.Module) -> nn.Module:
    """Make a deep copy.  InputError names the layer that has a computed weight or holds what cannot be copied."""
    for name, module in net.named_modules():
        for hook in module._forward_pre_hooks.values():
            for kind, cure in COMPUTED.items():
                if isinstance(hook, kind):
                    tensor = getattr(hook, "name", None) or hook._tensor_name
                    raise InputError(f"{name or type(net).__name__} computes its {tensor} anew in each forward "
                                     f"({type(hook).__name__}): make it a plain one first, with {cure.format(tensor)}")
    try:
        return copy.deepcopy(net)
    except Exception as error:      # whatever an attribute raises
        for name, module in net.named_modules():
            for key, value in {**vars(module), **module._buffers, "_buffers": None, "_modules": None}.items():
                try:
                    copy.deepcopy(value)
                except Exception as reason:
                    raise InputError(
                        f"this network cannot be copied, because of {name + '.' if name else ''}{key} "
                        f"({brief(reason)}): set it to None, or, if it is a tensor of an earlier "
                        "forward, store it detached (y.detach())") from error
        raise


def hooked(module: nn.Module) -> bool:
    """Say whether somebody looks at the module's inputs, outputs or their gradients."""
    return any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks))
