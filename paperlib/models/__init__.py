"""Networks by name, and their quantization."""
import os

import torch
from torch import nn

from ..errors import InputError, brief
from ..system import kinds
from ..system.kinds import Classes, Pixels, Width
from .calibrate import calibrate
from .fold import fold
from .fuse import fuse, unfuse
from .quantize import plan, quantize
from .scheme import Scheme
from .weights import load_weights

_SCALABLE = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "vgg7", "vgg7_hardtanh")
_FIXED = ("alexnet", "resnet18", "resnet50", "resnet101")


def names() -> list[str]:
    """List the networks that :func:`build` knows."""
    return sorted(_SCALABLE + _FIXED)


def build(name: str, *, num_classes: int = 10, width: float = 1.0, input_size: int = 32,
          weights: str | os.PathLike | None = None) -> nn.Module:
    """Build a float network by name, in channels_last memory format.

    ``width`` scales the channels, where the network has such a multiplier.  ``input_size``: pixels; up to 64 the
    network starts with less striding.  ``weights``: None, a name such as "CIFAR10_V1" (data/pretrained/) or
    "IMAGENET1K_V1" (torchvision), or the path of a file (:func:`paperlib.models.weights.load_weights`).  InputError
    for unknown names, odd sizes or weights that don't fit.
    """
    if name not in names():
        raise InputError(f"unknown model {name!r}: choose from {', '.join(names())}")
    num_classes, width = kinds.read("num_classes", num_classes, Classes), kinds.read("width", width, Width)
    input_size = kinds.read("input_size", input_size, Pixels)
    if name in _FIXED and width != 1:
        raise InputError(f"{name} has no width multiplier, got width={width:g}: leave it out")
    from . import networks  # with torchvision, whose import takes longer than all others together
    scale = {"width": width} if name in _SCALABLE else {}
    try:
        net = getattr(networks, name)(num_classes=num_classes, input_size=input_size, **scale)
    except (RuntimeError, MemoryError) as error:
        raise InputError(f"{name} with width={width:g}, input_size={input_size} and num_classes={num_classes} does not "
                         f"fit into memory ({brief(error)}): choose smaller ones") from error
    if weights is not None:
        load_weights(net, name, weights, width)
    return net.to(memory_format=torch.channels_last)


__all__ = ["Scheme", "build", "calibrate", "fold", "fuse", "names", "plan", "quantize", "unfuse"]
