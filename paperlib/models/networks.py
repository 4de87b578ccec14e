"""All networks, by the names that ``models.build`` knows; importing them imports torchvision."""
from .alexnet import alexnet
from .mobilenet import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from .resnet import resnet18, resnet50, resnet101
from .vgg7 import vgg7, vgg7_hardtanh

__all__ = ["alexnet", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "resnet18",
           "resnet50", "resnet101", "vgg7", "vgg7_hardtanh"]
