"""What people have at hand to show a network: a batch, several inputs, an array, a list of batches, a DataLoader."""
from __future__ import annotations

import inspect
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from ..errors import InputError


class Inputs:
    """``data`` as positional arguments of ``net``, batch by batch, on its device.

    A tensor or an array is one batch; anything else gives batches, as a DataLoader does.  A batch that is a tuple or
    a list has inputs first and labels after them: the network gets as many entries as its forward asks for, so of
    (x, y) it gets x.  One such batch may come by itself, (x1, x2) for a network with two inputs, (x, y) where y has
    whole numbers or another number of dimensions; tensors like each other are batches of a network with one input.
    Arrays of floating-point numbers take the network's dtype.

    InputError for whatever is nothing of the kind, here or on iterating.
    """

    def __init__(self, net: nn.Module, data):
        self.name, self.n = type(net).__name__, _arguments(net)
        self.like = next((p for p in net.parameters()), torch.zeros(0))
        if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
            raise InputError(f"a {type(data).__name__} gives images one by one: pass a DataLoader of it")
        if _is_array(data):
            data = [data]
        elif isinstance(data, (tuple, list)) and data and all(map(_is_array, data)) and (
                self.n > 1 or len({(np.ndim(x), _is_floating(x)) for x in data}) > 1):
            data = [data]
        try:
            self.once, self.data = iter(data) is data, data
        except TypeError:
            raise InputError(f"cannot calibrate with a {type(data).__name__}: pass a batch of images (tensor or "
                             "array), a list of batches or a DataLoader") from None

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for batch in self.data:
            parts = batch if isinstance(batch, (tuple, list)) else [batch]
            if len(parts) < self.n:
                raise InputError(f"{self.name} takes {self.n} inputs, a batch has {len(parts)}: pass batches "
                                 f"({', '.join(f'x{i + 1}' for i in range(self.n))})")
            yield tuple(map(self._tensor, parts[:self.n]))

    def _tensor(self, x) -> Tensor:
        if not _is_array(x):
            raise InputError(f"a batch has a {type(x).__name__} where a tensor or an array is due: pass batches x or "
                             "(x, labels)")
        if not isinstance(x, Tensor):
            x = torch.from_numpy(np.array(x))
            x = x.to(self.like.dtype) if x.is_floating_point() else x
        if not torch.isfinite(x).all():
            raise InputError("the images have NaN or infinite values: look at how they are made")
        return x.to(self.like.device)


def _arguments(net: nn.Module) -> int:
    """Count how many positional arguments ``forward`` cannot do without; one at least."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(net.forward).parameters.values()
    return max(1, sum(p.kind in positional and p.default is p.empty for p in parameters))


def _is_array(x) -> bool:
    """Say whether ``x`` is a tensor or an array of numbers."""
    return isinstance(x, Tensor) or isinstance(x, np.ndarray) and x.dtype.kind in "biuf"


def _is_floating(x) -> bool:
    return x.is_floating_point() if isinstance(x, Tensor) else x.dtype.kind == "f"
