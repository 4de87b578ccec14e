"""MobileNet-v1, v2 and v3, for large images and for small ones.

For images up to 64 pixels wide the first convolution of each has stride 1 instead of 2 and dropout is off; the other
strides stay, so 32x32 images end as 2x2 maps.  Input (N, 3, input_size, input_size), output (N, num_classes) logits.
"""
from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torchvision import models
from torchvision.models._utils import _make_divisible
from torchvision.models.mobilenetv2 import InvertedResidual as ResidualV2
from torchvision.models.mobilenetv3 import InvertedResidual as ResidualV3
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
    """Build MobileNet-v1 (Howard et al. 2017): each convolution with batch norm and ReLU, one fully connected layer.

    Dropout is 0.001, as in the authors' code.  Channels are multiples of 8 at every width.  Weights start as torch's
    layers start them.
    """
    net = MobileNetV1(num_classes=num_classes, width=width, dropout=0.0 if input_size <= 64 else 0.001)
    return _for_images(net, input_size)


def mobilenet_v2(*, num_classes: int, width: float, input_size: int) -> nn.Module:
    """Build torchvision's MobileNetV2 (Sandler et al. 2018): layer names, shapes and weights are torchvision's.

    The last batch norm of each residual branch starts at gamma 0 (ResNet's ``zero_init_residual``): each block begins
    as the identity and short trainings get much further.
    """
    net = models.mobilenet_v2(num_classes=num_classes, width_mult=width, dropout=0.0 if input_size <= 64 else 0.2)
    for block in net.features:
        if isinstance(block, ResidualV2) and block.use_res_connect:
            nn.init.zeros_(block.conv[-1].weight)
    return _for_images(net, input_size)


def mobilenet_v3_large(**settings) -> nn.Module:
    """Build torchvision's MobileNetV3-Large (Howard et al. 2019, Table 1), begun as :func:`mobilenet_v2`."""
    return _mobilenet_v3(models.mobilenet_v3_large, **settings)


def mobilenet_v3_small(**settings) -> nn.Module:
    """Build torchvision's MobileNetV3-Small (Howard et al. 2019, Table 2), begun as :func:`mobilenet_v2`."""
    return _mobilenet_v3(models.mobilenet_v3_small, **settings)


def _mobilenet_v3(make, *, num_classes: int, width: float, input_size: int) -> nn.Module:
    net = make(num_classes=num_classes, width_mult=width, dropout=0.0 if input_size <= 64 else 0.2)
    for block in net.features:
        if isinstance(block, ResidualV3) and block.use_res_connect:
            nn.init.zeros_(block.block[-1][1].weight)
    return _for_images(net, input_size)


def _for_images(net: nn.Module, input_size: int) -> nn.Module:
    if input_size <= 64:
        net.features[0][0].stride = (1, 1)
    return net
