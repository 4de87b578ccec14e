"""The networks that lessons and their exercises look at, with images that they were not trained on."""
from __future__ import annotations

from torch import Tensor, nn

from .. import models, runs
from ..analysis import layer_inputs
from ..claims import experiments
from ..data import cifar10_images
from ..data.cifar10_batches import Batches

PROJECTION = "features.8.block.2.0"     # a 1x1 convolution after an h-swish


def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """Return (net, images, labels): a fresh copy of the float MobileNet-v3-Large x 0.35 that recorded runs start from,
    in evaluation mode, and its :func:`test_images`."""
    run = runs.obtain(experiments.float_network())
    return run.model().eval(), *test_images(run)


def layer(name: str = PROJECTION) -> tuple[nn.Module, Tensor]:
    """Return (layer, x): a layer of :func:`trained`, a fresh copy, and the input that it gets from the first 100
    images.  Of the projection the weight is (32, 72, 1, 1), there is no bias, and x is (100, 72, 4, 4).
    AttributeError if there is no layer of this name."""
    net, images, _ = trained()
    found = net.get_submodule(name)
    return found, layer_inputs.capture_inputs(net, images[:100], [name])[name]


def four_bits() -> runs.Run:
    """Return the recorded run of PROFIT's whole recipe, which ends with a MobileNet-v3-Large x 0.35 of 4 bits."""
    return runs.obtain(experiments.integers("recorded")["mobilenet_v3_large"][0])


def test_images(run: runs.Run) -> tuple[Tensor, Tensor]:
    """Return (images, labels), (500, 3, 32, 32) and (500,): CIFAR-10 test images that come with the repository."""
    return next(iter(layer_inputs.test_batches(run).epoch()))


def shipped() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """Return (net, images, labels, sample): the float MobileNet-v3-Large x 0.5 of data/pretrained/, in evaluation mode;
    500 CIFAR-10 test images, (500, 3, 32, 32), with their labels, (500,); and 128 training images without labels,
    (128, 3, 32, 32).  All images come with the repository."""
    net = models.build("mobilenet_v3_large", width=0.5, weights="CIFAR10_V1").eval()
    train, test = cifar10_images.cifar10("subset")
    images, labels = next(Batches(test, 500, train=False).epoch())
    sample, _ = next(Batches(train, 128, train=False).epoch())
    return net, images, labels, sample
