"""Profiles: how large an experiment is.  They set the scale and nothing else."""
from __future__ import annotations

from dataclasses import dataclass

from .errors import InputError


@dataclass(frozen=True)
class Profile:
    """The scale of an experiment.

    ``data``: "subset" (embedded) or "cifar10".  ``threads``: CPU threads per training process (0: all); with a fixed
    number, results don't depend on how many cores a machine has, and the other cores train other runs.
    ``seeds``: how many repetitions a figure shows.  ``conclusive``: whether claims may be judged at this scale.
    ``plays``: the profile whose runs are shown, without training, from ``data/recorded/``.
    """

    name: str
    what: str
    data: str = "cifar10"
    train_images: int = 50_000
    test_images: int = 10_000
    width: float = 1.0
    batch_size: int = 128
    threads: int = 0
    float_epochs: int = 100
    stage_epochs: int = 18
    seeds: int = 1
    conclusive: bool = True
    plays: str | None = None


_ALL = [
    Profile("smoke", "seconds: does everything run? 1 000 embedded images; shows nothing about the papers",
            data="subset", train_images=1000, test_images=500, width=0.25, batch_size=100, threads=1,
            float_epochs=2, stage_epochs=2, conclusive=False),
    Profile("laptop", "minutes on 2 CPU cores: real CIFAR-10, 10 000 images, a third of the width",
            train_images=10_000, test_images=5_000, width=0.35, threads=1, float_epochs=12, stage_epochs=5),
    Profile("cifar10", "all of CIFAR-10 at full width: hours on a CPU, meant for one GPU", seeds=3),
    Profile("recorded", "no training: the runs in data/recorded/", plays="laptop", seeds=3),
]
_BY_NAME = {p.name: p for p in _ALL}
# in the plan of the house, not built yet: they are refused by name rather than run as something else
PLANNED = {"imagenette": "ImageNet-trained networks on Imagenette", "imagenet": "the papers' own recipes"}


def names() -> list[str]:
    """The profiles that can be used."""
    return list(_BY_NAME)


def get(name: str) -> Profile:
    """A profile by name; InputError if it is unknown or not available yet."""
    if name in PLANNED:
        raise InputError(f"profile {name!r} ({PLANNED[name]}) is not available in this version: "
                         f"choose from {', '.join(names())}")
    if name not in _BY_NAME:
        raise InputError(f"unknown profile {name!r}: choose from {', '.join(names())}")
    return _BY_NAME[name]
