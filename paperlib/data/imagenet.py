"""ImageNet and Imagenette, its ten-class excerpt, with ImageNet's 1000 class indices as labels."""

import os
import socket
from itertools import zip_longest
from pathlib import Path

from ..errors import InputError, brief
from ..system.paths import data_dir, named_folder
from .downloads import say, workshop
from .image_files import CROP, SHORTER, Photographs, cache_folder, size

# Imagenette's class folders, in sorted order, and their class indices in ImageNet.
IMAGENETTE = {"n01440764": 0, "n02102040": 217, "n02979186": 482, "n03000684": 491, "n03028079": 497,
              "n03394916": 566, "n03417042": 569, "n03425413": 571, "n03445777": 574, "n03888257": 701}
PICTURES = {"train": 9469, "val": 3925}
BUNDLED = "imagenette2-part"  # folder of the part that a bundle brings (bundle.py)
UNSEEN = "ILSVRC2012_val_"  # 366 of train/ and 134 of val/ are from ImageNet's validation set, all others from training


def imagenette(train_images=0, test_images=0, *, cache=True, complete=True) -> tuple[Photographs, Photographs]:
    """Imagenette as (train, test), split so that a network trained on ImageNet is tested on pictures new to it.

    train: the 9 103 pictures of train/ that are ImageNet training pictures. test: first the 500 pictures of both
    folders that are not (`unseen`), then the other 3 791 of val/. Each part takes its classes in turn: train_images=N
    is the first N/10 of every class, test_images=500 are the unseen ones alone, 50 of every class; 0 means all.
    The folder is the one that PAPERLIB_IMAGENETTE names, else `data_dir()/imagenette2*`, else it is fetched through
    torchvision. Pictures of 224 x 224 pixels are taken to be cropped already: the test then leaves them as they are.
    cache: see `Photographs`; about 3 GB. complete=False accepts a part of Imagenette, as does the folder of a bundle,
    if it has what is asked for: the first of every class, and no more test pictures than the unseen ones.
    InputError if the folder is not Imagenette or not all of it, if nothing can be fetched, or on impossible numbers.
    """
    root = _imagenette_folder()
    if root.name == BUNDLED:
        complete = False
        if not train_images or not 0 < test_images <= 500:
            raise InputError(f"{root} is a part of Imagenette: choose train_images, and test_images from 1 to 500, or "
                             "name a whole Imagenette in PAPERLIB_IMAGENETTE")
    cure = "unpack Imagenette there anew, or name its folder in PAPERLIB_IMAGENETTE"
    train, val = (_samples(root / split, IMAGENETTE, f"Imagenette; {cure}") for split in PICTURES)
    for found, (split, wanted) in zip((train, val), PICTURES.items()):
        if complete and len(found) != wanted:
            raise InputError(f"{root / split} holds {len(found)} pictures where Imagenette has {wanted}; {cure}")
    new = sorted((s for s in train + val if _is_unseen(s)), key=lambda s: Path(s[0]).name)
    train, val = ([s for s in split if not _is_unseen(s)] for split in (train, val))
    shortest = min(sum(label == k for _, label in train) for k in IMAGENETTE.values())
    if train_images % 10 or not 0 <= train_images <= 10 * shortest:
        raise InputError(f"cannot take {train_images} training pictures of Imagenette; choose a multiple of 10 up to "
                         f"{10 * shortest}, or 0 for all")
    if not 0 <= test_images <= len(new + val):
        raise InputError(f"cannot take {test_images} test pictures of Imagenette; choose at most {len(new + val)}, "
                         "or 0 for all")
    train = _in_turn(train)[: train_images or None]
    test = (_in_turn(new) + _in_turn(val))[: test_images or None]
    cropped = all(size(path) == (CROP, CROP) for path, _ in test[:10])
    return (Photographs(train, "Imagenette train", cache=cache),
            Photographs(test, "Imagenette test", unseen=min(len(new), len(test)),
                        class_subset=list(IMAGENETTE.values()), resize=CROP if cropped else SHORTER, cache=cache))


def imagenet(num_classes=1000) -> tuple[Photographs, Photographs]:
    """ImageNet (ILSVRC 2012) as (train, test) from the folder PAPERLIB_IMAGENET, else `data_dir()/imagenet`.

    The folder holds train/ and val/ with one folder per class in each; classes are numbered in sorted order, as
    torchvision's networks number them. Nothing is cached. InputError if there are not `num_classes` class folders,
    the same in both, with pictures in all of them.
    """
    root = named_folder("PAPERLIB_IMAGENET", lambda: data_dir() / "imagenet")
    cure = "put train/ and val/ with one folder of pictures per class there, or name their folder in PAPERLIB_IMAGENET"
    if not _has_splits(root):
        raise InputError(f"{root} holds no ImageNet; {cure}")
    classes = {wnid: k for k, wnid in enumerate(sorted(_class_folders(root / "train")))}
    like = f"{root / 'train'}; {cure}"
    _check_classes(root / "val", classes, like)  # before listing a million files
    if len(classes) != num_classes:
        raise InputError(f"{root} holds {len(classes)} classes, not {num_classes}; {cure}")
    train, test = (_samples(root / split, classes, like) for split in ("train", "val"))
    return Photographs(train, "ImageNet train"), Photographs(test, "ImageNet test")


def _has_splits(folder):
    return (folder / "train").is_dir() and (folder / "val").is_dir()


def _class_folders(folder):
    return {entry.name for entry in os.scandir(folder) if entry.is_dir()}


def _check_classes(folder, classes, like):
    """InputError unless the folders in `folder` are exactly those of `classes`."""
    found = _class_folders(folder)
    for names, verb in ((classes.keys() - found, "lacks"), (found - classes.keys(), "holds besides")):
        if names:
            some = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise InputError(f"{folder} {verb} the class folders {some}, unlike {like}")


def _samples(folder, classes, like):
    """Sorted (path, label) of all pictures in `folder`, which must hold the folders of `classes`, none empty."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset
    _check_classes(folder, classes, like)
    try:
        return make_dataset(folder, classes, IMG_EXTENSIONS)
    except FileNotFoundError as error:  # names the classes without pictures
        raise InputError(f"{folder} is incomplete ({brief(error)}), unlike {like}") from error


def _is_unseen(sample):
    return Path(sample[0]).name.startswith(UNSEEN)


def _in_turn(samples):
    """Take the first sample of every class, then the second of every class, and so on."""
    classes = {}
    for sample in samples:
        classes.setdefault(sample[1], []).append(sample)
    return [sample for row in zip_longest(*(classes[k] for k in sorted(classes))) for sample in row if sample]


def _imagenette_folder():
    """Find the folder with Imagenette's train/ and val/, fetched if need be."""
    named = os.environ.get("PAPERLIB_IMAGENETTE")
    base = named_folder("PAPERLIB_IMAGENETTE", data_dir)
    # several sizes: that of torchvision's download first
    found = [f for f in ([base] if named else []) + sorted(base.glob("imagenette2*"), reverse=True) if _has_splits(f)]
    if named and not found:
        raise InputError(f"PAPERLIB_IMAGENETTE names {base}, which holds no train/ and val/; unpack Imagenette there, "
                         "or unset it to have it fetched")
    return found[0] if found else _fetch()


def _fetch():
    """Imagenette through torchvision, into `data_dir()`; it appears there whole or not at all."""
    with workshop(cache_folder()) as temp:
        folder = data_dir() / "imagenette2-320"
        if _has_splits(folder):  # another process fetched it while this one waited
            return folder
        say("fetching Imagenette through torchvision (about 340 MB)")
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(15)
        try:
            from torchvision.datasets import Imagenette
            Imagenette(temp, size="320px", download=True)
            return (temp / folder.name).rename(folder)
        except Exception as error:  # urllib, http, ssl, tarfile and torchvision's own RuntimeError
            raise InputError(f"torchvision's download of Imagenette failed ({brief(error)}); try again, put "
                             f"imagenette2-320/ into {data_dir()}, or name a copy in PAPERLIB_IMAGENETTE") from error
        finally:
            socket.setdefaulttimeout(before)
