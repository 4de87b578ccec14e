"""Networks by name, and their quantization."""
from torch import nn

from ..errors import InputError
from .fuse import fuse, unfuse
from .mobilenet_v2 import mobilenet_v2
from .mobilenet_v3 import mobilenet_v3_large
from .quantize import Scheme, calibrate, plan, quantize

_BUILDERS = {"mobilenet_v2": mobilenet_v2, "mobilenet_v3_large": mobilenet_v3_large}


def names() -> list[str]:
    """The networks that :func:`build` knows."""
    return sorted(_BUILDERS)


def build(name: str, *, num_classes: int = 10, width: float = 1.0, input_size: int = 32) -> nn.Module:
    """A float network by name, in channels_last memory format.  InputError for unknown names or odd sizes."""
    import torch

    if name not in _BUILDERS:
        raise InputError(f"unknown model {name!r}: choose from {', '.join(names())}")
    if not width > 0 or input_size < 32 or num_classes < 1:
        raise InputError(f"width must be positive, input_size at least 32 and num_classes at least 1, got "
                         f"width={width}, input_size={input_size}, num_classes={num_classes}")
    net = _BUILDERS[name](num_classes=num_classes, width=width, input_size=input_size)
    return net.to(memory_format=torch.channels_last)


__all__ = ["Scheme", "build", "calibrate", "fuse", "names", "plan", "quantize", "unfuse"]
