"""VGG-7, the network of QIL's CIFAR-10 experiments."""
from __future__ import annotations

from torch import Tensor, nn
from torchvision.models._utils import _make_divisible
from torchvision.ops import Conv2dNormActivation

from ..errors import InputError


class VGG7(nn.Module):
    """``features``: three pairs of 3x3 convolutions, each with max pooling; ``classifier``: 1024 units, then logits."""

    def __init__(self, *, num_classes: int, width: float, input_size: int, activation: type[nn.Module] = nn.ReLU):
        super().__init__()
        channels, layers = 3, []
        for out in (128, 256, 512):
            out = _make_divisible(out * width, 8)
            layers += [Conv2dNormActivation(channels, out, activation_layer=activation),
                       Conv2dNormActivation(out, out, activation_layer=activation), nn.MaxPool2d(2)]
            channels = out
        self.features = nn.Sequential(*layers)
        pixels, units = (input_size // 8) ** 2, _make_divisible(1024 * width, 8)
        self.classifier = nn.Sequential(nn.Linear(channels * pixels, units, bias=False), nn.BatchNorm1d(units),
                                        activation(inplace=True), nn.Linear(units, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


def vgg7(*, num_classes: int, width: float, input_size: int, **options) -> VGG7:
    """Build 2x128C3 - MP2 - 2x256C3 - MP2 - 2x512C3 - MP2 - 1024FC - softmax (Jung et al. 2018, section 4.2).

    The paper doesn't say where batch norm is.  Here batch norm and ReLU follow each convolution and the layer of
    1024 units, none of which has a bias; the softmax is the loss's.  Weights start as torch's layers start them.

    Input (N, 3, input_size, input_size), output (N, num_classes) logits.  InputError beyond 64 pixels, where the first
    fully connected layer would outgrow everything else.
    """
    if input_size > 64:
        raise InputError(f"vgg7 is for images of 32 to 64 pixels, got input_size={input_size}: scale them down or "
                         "choose another network")
    return VGG7(num_classes=num_classes, width=width, input_size=input_size, **options)


def vgg7_hardtanh(**settings) -> VGG7:
    """Build :func:`vgg7` with Hardtanh for ReLU: for methods that take the sign of what comes (XNOR)."""
    return vgg7(**settings, activation=nn.Hardtanh)
