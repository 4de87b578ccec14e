"""From the name of a data set to batches of images."""
from __future__ import annotations

import dataclasses
import functools

import torch

from . import data, distributed
from .batches import Batches
from .recipes import Recipe
from .training.engine import Source


@functools.cache
def images(name: str) -> tuple[data.Images, data.Images]:
    """(train, test) of a recipe's ``data``, kept in memory."""
    return data.cifar10("auto" if name == "cifar10" else name)


def resolve(recipe: Recipe) -> Recipe:
    """The recipe with the data that can be had: without the full CIFAR-10 it names the embedded subset instead."""
    if recipe.data not in ("cifar10", "subset"):
        return recipe
    train, test = images(recipe.data)
    if recipe.data == "cifar10" and len(train) < 50_000:
        recipe = dataclasses.replace(recipe, data="subset", train_images=min(recipe.train_images, len(train)),
                                     test_images=min(recipe.test_images, len(test)))
    return recipe


def batches(recipe: Recipe, device: torch.device, *, whole: bool = False) -> tuple[Source, Source]:
    """(train, test) batches of a recipe: this process's share of each batch, or with ``whole`` all of it."""
    share = {"device": device, **({} if whole else {"rank": distributed.rank(), "world": distributed.world()})}
    if recipe.data in ("imagenette", "imagenet"):
        from . import photobatches, photographs

        train, test = (photographs.imagenette(recipe.train_images, recipe.test_images) if recipe.data == "imagenette"
                       else photographs.imagenet(recipe.num_classes))
        kind, extra = photobatches.PhotoBatches, {"augmentation": recipe.augmentation or "random_resized_crop"}
    else:
        train, test = images(recipe.data)
        train, test = train.stratified(recipe.train_images), test.stratified(recipe.test_images)
        kind, extra = Batches, {}
    return (kind(train, recipe.batch_size, train=True, seed=recipe.seed, **share, **extra),
            kind(test, min(500, 4 * recipe.batch_size), train=False, **share))


def first_images(recipe: Recipe, device: torch.device) -> torch.Tensor:
    """The batch that ranges are set from; all of it in every process."""
    return next(iter(batches(recipe, device, whole=True)[0].epoch()))[0]
