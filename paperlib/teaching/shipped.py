"""The shipped network and the images of lessons 6 and 7, which are about networks that are not trained any more."""
from __future__ import annotations

from torch import Tensor, nn

from .. import models
from ..data import cifar10_images
from ..data.cifar10_batches import Batches


def network() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """Return (net, images, labels, sample): the float MobileNet-v3-Large x 0.5 of data/pretrained/, in evaluation mode;
    500 CIFAR-10 test images, (500, 3, 32, 32), with their labels, (500,); and 128 training images without labels,
    (128, 3, 32, 32).  All images come with the repository."""
    net = models.build("mobilenet_v3_large", width=0.5, weights="CIFAR10_V1").eval()
    train, test = cifar10_images.cifar10("subset")
    images, labels = next(Batches(test, 500, train=False).epoch())
    sample, _ = next(Batches(train, 128, train=False).epoch())
    return net, images, labels, sample
