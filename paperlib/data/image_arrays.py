"""What a data set is once it is in memory, and how its bytes are recognised."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import InputError

# SHA-256 over all pixel bytes (N, 3, 32, 32), then all labels as one byte each, in the original order.
SIZES = {"cifar10 train": 50000, "cifar10 test": 10000, "cifar10-subset train": 5000,
         "cifar10-subset test": 1000}
SHA256 = {
    "cifar10 train": "1e91790dbaf241617ca1f29a9aba08eb9a62df84cc90676b47edd05ad2ab3c94",
    "cifar10 test": "9a4c74f5c8b6f2c4e13d3a1dfb43a5a8cda8a9da515e99fd620d2013a1a6287a",
    "cifar10-subset train": "bf417034ad440a1dbc40b4ae530a8de0820650fddda4a8496e4ae0a20903b1a6",
    "cifar10-subset test": "658bc89049332ae3279df215777cd93e3400ae74f3abccc4744687af73686acf",
}


@dataclass(frozen=True, eq=False)
class Images:
    """One split: `x` uint8 (N, 3, 32, 32) RGB, `y` int64 (N,) in 0..9, and a `name` for messages."""

    x: torch.Tensor
    y: torch.Tensor
    name: str

    def __len__(self):
        return len(self.x)

    def positions(self, n: int) -> torch.Tensor:
        """Sorted int64 (n,): where the first n/10 images of each class are. InputError as `stratified`."""
        if n <= 0 or n % 10:
            raise InputError(f"cannot take {n} images of {self.name}; choose a positive multiple of 10")
        found = [torch.nonzero(self.y == label).flatten()[: n // 10] for label in range(10)]
        short = min(len(f) for f in found)
        if short < n // 10:
            raise InputError(f"cannot take {n} images of {self.name}; choose at most {10 * short}")
        return torch.cat(found).sort().values

    def stratified(self, n: int) -> "Images":
        """Take the first n/10 images of each class, in original order.

        Raises InputError unless n is a positive multiple of 10 and every class has n/10 images.
        """
        keep = self.positions(n)
        return Images(self.x[keep], self.y[keep], f"{self.name}, {n} images")


def verified(x, y, name, where, cure):
    """Make Images from uint8 (N, 3, 32, 32) and labels (N,), once their SHA-256 matches; else InputError."""
    x, y = np.ascontiguousarray(x, np.uint8), np.asarray(y).astype(np.uint8)
    digest = hashlib.sha256(x)
    digest.update(y)
    if not len(x) == len(y) == SIZES[name] or digest.hexdigest() != SHA256[name]:
        raise InputError(f"{where} does not hold the pixels and labels of {name} (SHA-256 differs); {cure}")
    return Images(torch.from_numpy(x), torch.from_numpy(y.astype(np.int64)), name)
