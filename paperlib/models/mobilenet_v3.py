"""MobileNet-v3, Large and Small: torchvision's own networks, with strides for small images and a width multiplier."""
from __future__ import annotations

from functools import partial

from torch import nn
from torchvision.models.mobilenetv3 import InvertedResidual, InvertedResidualConfig, MobileNetV3

# input, kernel, expanded, output, squeeze-and-excite, activation, stride: Howard et al. 2019, Tables 1 and 2
LARGE = [
    (16, 3, 16, 16, False, "RE", 1),
    (16, 3, 64, 24, False, "RE", 2),
    (24, 3, 72, 24, False, "RE", 1),
    (24, 5, 72, 40, True, "RE", 2),
    (40, 5, 120, 40, True, "RE", 1),
    (40, 5, 120, 40, True, "RE", 1),
    (40, 3, 240, 80, False, "HS", 2),
    (80, 3, 200, 80, False, "HS", 1),
    (80, 3, 184, 80, False, "HS", 1),
    (80, 3, 184, 80, False, "HS", 1),
    (80, 3, 480, 112, True, "HS", 1),
    (112, 3, 672, 112, True, "HS", 1),
    (112, 5, 672, 160, True, "HS", 2),
    (160, 5, 960, 160, True, "HS", 1),
    (160, 5, 960, 160, True, "HS", 1),
]
SMALL = [
    (16, 3, 16, 16, True, "RE", 2),
    (16, 3, 72, 24, False, "RE", 2),
    (24, 3, 88, 24, False, "RE", 1),
    (24, 5, 96, 40, True, "HS", 2),
    (40, 5, 240, 40, True, "HS", 1),
    (40, 5, 240, 40, True, "HS", 1),
    (40, 5, 120, 48, True, "HS", 1),
    (48, 5, 144, 48, True, "HS", 1),
    (48, 5, 288, 96, True, "HS", 2),
    (96, 5, 576, 96, True, "HS", 1),
    (96, 5, 576, 96, True, "HS", 1),
]


def _mobilenet_v3(table: list[tuple], last_channel: int, *, num_classes: int, width: float,
                  input_size: int) -> MobileNetV3:
    """torchvision's MobileNetV3 with these settings; layer names and shapes are torchvision's, so are its weights.

    For inputs up to 64 pixels wide the first convolution has stride 1 instead of 2 and dropout is off; the other
    strides stay, so 32x32 images end as 2x2 maps.  The last batch norm of each residual branch starts at gamma 0
    (ResNet's ``zero_init_residual``): each block begins as the identity and short trainings get much further.

    Input (N, 3, input_size, input_size), output (N, num_classes) logits.
    """
    config = partial(InvertedResidualConfig, dilation=1, width_mult=width)
    blocks = [config(i, k, e, o, se, act, stride) for i, k, e, o, se, act, stride in table]
    last_channel = InvertedResidualConfig.adjust_channels(last_channel, width)
    small = input_size <= 64
    net = MobileNetV3(blocks, last_channel, num_classes=num_classes, dropout=0.0 if small else 0.2)
    if small:
        net.features[0][0].stride = (1, 1)
    for block in net.features:
        if isinstance(block, InvertedResidual) and block.use_res_connect:
            nn.init.zeros_(block.block[-1][1].weight)
    return net


mobilenet_v3_large = partial(_mobilenet_v3, LARGE, 1280)
mobilenet_v3_small = partial(_mobilenet_v3, SMALL, 1024)
