"""From the name of a data set to batches of images."""
from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import torch

from ..data import cifar10_images, imagenet
from ..data.cifar10_batches import Batches
from ..data.image_files import CROP, Photographs
from ..data.imagenet_batches import PhotoBatches
from ..errors import InputError
from ..system import distributed
from ..training.evaluation import ImageBatches

if TYPE_CHECKING:
    from ..recipes import Recipe

PHOTOGRAPHS, RESIZED_CROP = ("imagenette", "imagenet"), "random_resized_crop"


@functools.cache
def images(name: str) -> tuple[cifar10_images.Images, cifar10_images.Images]:
    """(train, test) of a recipe's ``data``, kept in memory."""
    return cifar10_images.cifar10("auto" if name == "cifar10" else name)


def resolve(recipe: Recipe) -> Recipe:
    """The recipe with the data that can be had: without the full CIFAR-10 it names the embedded subset instead."""
    if recipe.data != "cifar10" or len(images("cifar10")[0]) == 50_000:
        return recipe
    train, test = images("cifar10")
    return dataclasses.replace(recipe, data="subset", train_images=min(recipe.train_images, len(train)),
                               test_images=min(recipe.test_images, len(test)))


def splits(recipe: Recipe) -> tuple[cifar10_images.Images, cifar10_images.Images] | tuple[Photographs, Photographs]:
    """(train, test) images of a recipe.  InputError if they are not there."""
    if recipe.data not in PHOTOGRAPHS:
        train, test = images(recipe.data)
        return train.stratified(recipe.train_images), test.stratified(recipe.test_images)
    if recipe.input_size > CROP:
        raise InputError(f"photographs have {CROP} x {CROP} pixels, not {recipe.input_size}: choose input_size={CROP}")
    return _photographs(recipe.data, recipe.train_images, recipe.test_images, recipe.num_classes)


@functools.cache
def _photographs(name: str, train_images: int, test_images: int, num_classes: int) -> tuple[Photographs, Photographs]:
    if name == "imagenette":
        return imagenet.imagenette(train_images, test_images)
    if train_images or test_images:
        raise InputError("all of ImageNet is used: leave train_images and test_images at 0")
    return imagenet.imagenet(num_classes)


def batches(recipe: Recipe, device: torch.device, *, whole: bool = False) -> tuple[ImageBatches, ImageBatches]:
    """(train, test) batches of a recipe: this process's share of each batch, or with ``whole`` all of it."""
    share = {"device": device, **({} if whole else {"rank": distributed.rank(), "world": distributed.world()})}
    batched, test_batch = functools.partial(Batches, **share), 500 if device.type == "cpu" else 2500
    if recipe.data in PHOTOGRAPHS:      # what the images are like is said once, for both splits
        test_batch = recipe.batch_size
        batched = functools.partial(PhotoBatches, pixels=recipe.input_size,
                                    augmentation=recipe.augmentation or RESIZED_CROP, **share)
    train, test = splits(recipe)
    return batched(train, recipe.batch_size, train=True, seed=recipe.seed), batched(test, test_batch, train=False)


def first_images(recipe: Recipe, train: ImageBatches) -> torch.Tensor:
    """The first batch of ``train``, from which ranges are set; all of it in every process."""
    whole = train if distributed.world() == 1 else batches(recipe, train.device, whole=True)[0]
    return next(iter(whole.epoch()))[0]
