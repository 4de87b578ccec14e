"""MobileNet-v3-Large: torchvision's own network, with strides for small images and a width multiplier."""
from __future__ import annotations

from functools import partial

from torch import nn
from torchvision.models.mobilenetv3 import InvertedResidual, InvertedResidualConfig, MobileNetV3

# input, kernel, expanded, output, squeeze-and-excite, activation, stride: Howard et al. 2019, Table 1
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


def mobilenet_v3_large(*, num_classes: int, width: float, input_size: int) -> MobileNetV3:
    """torchvision's MobileNetV3 with these settings; layer names and shapes are torchvision's, so are its weights.

    For inputs up to 64 pixels wide the first convolution has stride 1 instead of 2 and dropout is off; the other
    strides stay, so 32x32 images end as 2x2 maps.  The last batch norm of each residual branch starts at gamma 0
    (ResNet's ``zero_init_residual``): each block begins as the identity and short trainings get much further.

    Input (N, 3, input_size, input_size), output (N, num_classes) logits.
    """
    config = partial(InvertedResidualConfig, dilation=1, width_mult=width)
    blocks = [config(i, k, e, o, se, act, stride) for i, k, e, o, se, act, stride in LARGE]
    last_channel = InvertedResidualConfig.adjust_channels(1280, width)
    small = input_size <= 64
    net = MobileNetV3(blocks, last_channel, num_classes=num_classes, dropout=0.0 if small else 0.2)
    if small:
        net.features[0][0].stride = (1, 1)
    for block in net.features:
        if isinstance(block, InvertedResidual) and block.use_res_connect:
            nn.init.zeros_(block.block[-1][1].weight)
    return net
