"""A quantizer for the input of a residual block, before branch and identity part (``Scheme.identity_bits``)."""
from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ..errors import InputError
from ..quantizers import Quantizer


def quantize_input(block: nn.Module, args: tuple) -> tuple:
    return (block.identity_quantizer(args[0]), *args[1:])


def attach(block: nn.Module, name: str, quantizer: Quantizer) -> None:
    """Have ``block`` quantize its first argument; ``quantizer`` becomes its child ``identity_quantizer``."""
    if isinstance(block, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
        raise InputError(f"cannot quantize the identity of {name}, whose children are a sequence: let the block hold "
                         f"its {type(block).__name__} as an attribute, or leave identity_bits at 32")
    block.identity_quantizer = quantizer
    block.identity_hook = block.register_forward_pre_hook(quantize_input)


def detach(block: nn.Module) -> Quantizer:
    """Undo :func:`attach`; returns the quantizer."""
    quantizer = block.identity_quantizer
    block.identity_hook.remove()
    del block.identity_quantizer, block.identity_hook
    return quantizer


def quantized_blocks(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Give (name, block) of every block in ``net`` with such a quantizer."""
    return ((name, module) for name, module in net.named_modules() if hasattr(module, "identity_quantizer"))
