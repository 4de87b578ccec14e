"""The trained network, the images and the layer that lessons and their exercises look at."""
from __future__ import annotations

from torch import Tensor, nn

from .. import runs
from ..analysis import layer_inputs
from ..claims import experiments

PROJECTION = "features.8.block.2.0"     # a 1x1 convolution after an h-swish


def network() -> tuple[nn.Module, Tensor, Tensor]:
    """Return (net, images, labels): a fresh copy of the float MobileNet-v3-Large x 0.35 that recorded runs start from,
    in evaluation mode, and 500 CIFAR-10 test images, (500, 3, 32, 32) and (500,), that it was not trained on."""
    run = runs.obtain(experiments.float_network())
    images, labels = next(iter(layer_inputs.test_batches(run).epoch()))
    return run.model().eval(), images, labels


def layer(name: str = PROJECTION) -> tuple[nn.Module, Tensor]:
    """Return (layer, x): a layer of :func:`network`, a fresh copy, and the input that reaches it from the first 100
    images.  Of the projection the weight is (32, 72, 1, 1), there is no bias, and x is (100, 72, 4, 4).
    AttributeError if there is no layer of this name."""
    net, images, _ = network()
    found = net.get_submodule(name)
    return found, layer_inputs.capture_inputs(net, images[:100], [name])[name]
