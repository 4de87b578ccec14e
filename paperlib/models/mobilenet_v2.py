"""MobileNet-v2: torchvision's own network, with strides for small images."""
from __future__ import annotations

from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual, MobileNetV2


def mobilenet_v2(*, num_classes: int, width: float, input_size: int) -> MobileNetV2:
    """torchvision's MobileNetV2; layer names and shapes are torchvision's, so are its weights (Sandler et al. 2018).

    For inputs up to 64 pixels wide the first convolution has stride 1 instead of 2 and dropout is off; the other
    strides stay, so 32x32 images end as 2x2 maps.  The last batch norm of each residual branch starts at gamma 0, as in
    MobileNet-v3 here.

    Input (N, 3, input_size, input_size), output (N, num_classes) logits.
    """
    small = input_size <= 64
    net = MobileNetV2(num_classes=num_classes, width_mult=width, dropout=0.0 if small else 0.2)
    if small:
        net.features[0][0].stride = (1, 1)
    for block in net.features:
        if isinstance(block, InvertedResidual) and block.use_res_connect:
            nn.init.zeros_(block.conv[-1].weight)
    return net
