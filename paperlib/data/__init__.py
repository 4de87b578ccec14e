"""Images: CIFAR-10, ImageNet and Imagenette, from files to augmented batches."""
from .cifar10_images import cache_file, cifar10, load_subset

__all__ = ["cache_file", "cifar10", "load_subset"]
