"""MobileNet-v1: thirteen depthwise separable blocks behind one convolution, with strides for small images."""
from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models._utils import _make_divisible
from torchvision.ops import Conv2dNormActivation

# output channels, stride of the depthwise convolution: Howard et al. 2017, Table 1
BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]


class MobileNetV1(nn.Module):
    """``features``: the first convolution and the blocks, each ``depthwise`` then ``pointwise``; ``classifier``."""

    def __init__(self, *, num_classes: int, width: float, dropout: float):
        super().__init__()
        channels = _make_divisible(32 * width, 8)
        layers = [Conv2dNormActivation(3, channels, stride=2)]
        for out, stride in BLOCKS:
            out = _make_divisible(out * width, 8)
            layers.append(nn.Sequential(OrderedDict(
                depthwise=Conv2dNormActivation(channels, channels, stride=stride, groups=channels),
                pointwise=Conv2dNormActivation(channels, out, kernel_size=1))))
            channels = out
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def mobilenet_v1(*, num_classes: int, width: float, input_size: int) -> MobileNetV1:
    """MobileNet-v1 (Howard et al. 2017): every convolution with batch norm and ReLU, one fully connected layer.

    For inputs up to 64 pixels wide the first convolution has stride 1 instead of 2 and dropout, 0.001 as in the
    authors' code, is off; the other strides stay, so 32x32 images end as 2x2 maps.  Channels are multiples of 8 at
    every width.  Weights start as torch's layers start them.

    Input (N, 3, input_size, input_size), output (N, num_classes) logits.
    """
    small = input_size <= 64
    net = MobileNetV1(num_classes=num_classes, width=width, dropout=0.0 if small else 0.001)
    if small:
        net.features[0][0].stride = (1, 1)
    return net
