"""ResNets: torchvision's own networks, with a beginning for small images."""
from __future__ import annotations

from functools import partial

from torch import nn
from torchvision import models


def _resnet(make, *, num_classes: int, input_size: int) -> models.ResNet:
    """Build torchvision's ResNet (He et al. 2016): layer names, shapes and weights are torchvision's.

    For images up to 64 pixels wide the first convolution is 3x3 with stride 1, without max pooling behind it, so 32x32
    images end as 4x4 maps.  That convolution alone doesn't fit torchvision's weights.  The last batch norm of each
    residual branch starts at gamma 0, as in the MobileNets here.

    Input (N, 3, input_size, input_size), output (N, num_classes) logits.
    """
    net = make(num_classes=num_classes, zero_init_residual=True)
    if input_size <= 64:
        net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        net.maxpool = nn.Identity()
    return net


resnet18 = partial(_resnet, models.resnet18)
resnet50 = partial(_resnet, models.resnet50)
resnet101 = partial(_resnet, models.resnet101)
