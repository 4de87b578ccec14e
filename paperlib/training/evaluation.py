"""What a network is worth on a source of batches."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

from ..system import distributed
from .interrupt import Stop


class ImageBatches(Protocol):
    """What training and evaluation need of a data set's batches (data/cifar10_batches.py, data/imagenet_batches.py).

    ``epoch(i, start)`` yields (x, y), this process's share of each batch, from batch ``start`` on.  ``batch_size`` and
    ``n_images`` count all processes together.  The first ``unseen`` images are new to a pretrained network;
    ``class_subset`` lists the classes that the data is limited to (None: all).
    """

    batch_size: int
    n_images: int
    device: torch.device
    unseen: int
    class_subset: Sequence[int] | None

    def __len__(self) -> int: ...

    def epoch(self, i: int = 0, start: int = 0): ...


@torch.no_grad()
def evaluate(net: nn.Module, batches: ImageBatches, stop: Stop | None = None) -> dict[str, float]:
    """Compute mean cross-entropy ("loss") and top-1 accuracy in percent over all images, in evaluation mode.

    Where the source knows them also the accuracy among its own classes ("accuracy_among"), and both for the images that
    a pretrained network has not seen ("..._unseen").  Stopped as soon as ``stop`` is requested.
    """
    was_training = net.training
    net.eval()
    rank, world = distributed.rank(), distributed.world()
    class_subset = batches.class_subset
    if class_subset is not None:
        class_subset = torch.as_tensor(class_subset, device=batches.device)
    rows = [torch.zeros(4 + (class_subset is not None), 0, dtype=torch.double, device=batches.device)]
    try:
        for i, (x, y) in enumerate(batches.epoch()):
            if stop is not None and world == 1:     # several processes would have to agree first
                stop.heed()
            logits = net(x).float()
            parts = [F.cross_entropy(logits, y, reduction="none"), logits.argmax(1) == y]
            if class_subset is not None:
                parts.append(class_subset[logits[:, class_subset].argmax(1)] == y)
            position = i * batches.batch_size + rank + world * torch.arange(len(y), device=y.device)
            rows.append(torch.stack([*parts, torch.ones_like(y), position < batches.unseen]).double())
    finally:
        net.train(was_training)
    *values, unseen = torch.cat(rows, 1)
    every, new = (distributed.total((torch.stack(values) * mask).sum(1)) for mask in (torch.ones_like(unseen), unseen))
    means = {}
    for sums, suffix in ((every, ""), (new, "_unseen")):
        if suffix and not 0 < new[-1] < every[-1]:
            break
        loss, *shares = (sums[:-1] / sums[-1]).tolist()
        means["loss" + suffix] = loss
        means |= {name + suffix: 100 * share for name, share in zip(("accuracy", "accuracy_among"), shares)}
    return means
