"""AlexNet as QIL trains it: torchvision's, with batch norm and without dropout."""
from __future__ import annotations

from torch import nn
from torchvision.models import AlexNet

from ..errors import InputError


def alexnet(*, num_classes: int, input_size: int) -> AlexNet:
    """torchvision's AlexNet (Krizhevsky 2014) with batch norm after each convolution (Jung et al. 2018, section 4.1).

    Batch norm makes the convolutions' biases superfluous: they have none.  There is no dropout and no local response
    normalisation.  The paper doesn't say which AlexNet it means; this one has 64, 192, 384, 256 and 256 channels.

    Input (N, 3, input_size, input_size), output (N, num_classes) logits.  InputError below 63 pixels, where nothing is
    left for the last pooling.
    """
    if input_size < 63:
        raise InputError(f"alexnet needs images of at least 63 pixels, got input_size={input_size}: scale them up or "
                         "choose another network, vgg7 say")
    net = AlexNet(num_classes=num_classes, dropout=0.0)
    layers = []
    for layer in net.features:
        if isinstance(layer, nn.Conv2d):
            layer.bias = None
            layers += [layer, nn.BatchNorm2d(layer.out_channels)]
        else:
            layers.append(layer)
    net.features = nn.Sequential(*layers)
    return net
