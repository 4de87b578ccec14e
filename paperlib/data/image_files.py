"""Photographs as files: reading one, and keeping all of them decoded, since a CPU is slow at JPEG."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from tqdm import tqdm

from ..errors import InputError, brief
from ..system.distributed import cores
from ..system.paths import atomic, data_dir
from .downloads import workshop

CROP = 224  # height and width, in pixels, of what a network sees
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")  # of photographs; Pillow has others start programs
SHORTER = 256  # shorter side before a test's centre crop, and the longest shorter side in the cache


class Photographs(Dataset):
    """One split: photographs[i] is (uint8 tensor (3, H, W) RGB, class index as int).

    samples: list of (path, class index). name: for messages and the cache's file. unseen: how many of the leading
    photographs a network trained on ImageNet has not seen; 0 where that means nothing. class_subset: class indices
    among which accuracy is wanted besides that among all, or None. resize: shorter side before a test's centre crop.
    cache=True: the pixels come from one memory-mapped file in `cache_folder()`, shorter sides reduced to 256 (never
    enlarged); it is made by `prepare` or the first access, with a progress bar. cache=False: each access decodes
    the file, at its full size. InputError naming the file that is not a whole picture.
    """

    def __init__(self, samples, name, *, unseen=0, class_subset=None, resize=SHORTER, cache=False):
        self.samples, self.name, self.unseen, self.class_subset = samples, name, unseen, class_subset
        self.resize, self.cache = resize, cache

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        path, label = self.samples[i]
        return self._decoded(i) if self.cache else read(path), label

    def prepare(self):
        """Make the cache, if one is wanted, before several processes read it; InputError if it can't be made."""
        if self.cache:
            self._memory

    def cache_file(self) -> Path:
        """Say where the cache is: its name holds a hash of all files' names and sizes, so other files get another.

        InputError naming one that cannot be read.
        """
        paths = [Path(path) for path, _ in self.samples]
        try:
            listing = "\n".join(f"{p.parent.name}/{p.name} {p.stat().st_size}" for p in paths)
        except OSError as error:
            raise InputError(f"{error.filename} cannot be read ({error.strerror}); put a whole copy there") from error
        key = hashlib.sha256(f"{SHORTER}\n{listing}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return cache_folder() / f"{self.name.lower().replace(' ', '-')}-{key}.npy"

    def _decoded(self, i):
        flat, shapes, ends = self._memory
        h, w = shapes[i]
        pixels = np.array(flat[ends[i] - 3 * h * w: ends[i]])  # a copy, since tensors can't be read-only
        return torch.from_numpy(pixels).view(h, w, 3).permute(2, 0, 1)

    @cached_property
    def _memory(self):
        """Map the whole file as uint8 (bytes,), heights and widths int64 (N, 2), where each picture ends int64 (N,)."""
        file, n = self.cache_file(), len(self)
        if not file.exists():
            with workshop(file.parent):
                if not file.exists():  # else another process made it while this one waited
                    _write(file, [path for path, _ in self.samples], self.name)
        try:
            flat = np.load(file, mmap_mode="r")
            if flat.dtype != np.uint8 or flat.ndim != 1:
                raise ValueError(f"{flat.dtype} {flat.shape}")
            shapes = flat[: 8 * n].view("<i4").reshape(n, 2).astype(np.int64)
            ends = 8 * n + np.cumsum(3 * shapes.prod(1))
            if len(flat) != ends[-1]:
                raise ValueError("its length differs")
        except (OSError, EOFError, ValueError) as error:
            raise InputError(f"{file} is damaged ({brief(error)}); delete it, it will be made again") from error
        return flat, shapes, ends

    def __getstate__(self):
        """Worker processes open the cache themselves: a memory map would be pickled with all its pixels."""
        return {key: value for key, value in vars(self).items() if key != "_memory"}


def cache_folder() -> Path:
    """Folder of the decoded photographs, `data_dir()/cache/photographs`; all in it may be deleted."""
    return data_dir() / "cache" / "photographs"


def read(path) -> torch.Tensor:
    """Read the picture in a file as uint8 (3, H, W), whatever its colour space; InputError if it is not whole."""
    from torchvision.transforms.v2.functional import pil_to_tensor  # here, since torchvision takes long to import
    with _opened(path) as picture:
        return pil_to_tensor(picture.convert("RGB"))


@contextmanager
def _opened(path):
    try:
        if not Path(path).is_file():
            raise ValueError("no file, or a link to none")
        with Image.open(path, formats=FORMATS) as picture:
            yield picture
    except Exception as error:  # what Pillow raises depends on where the damage is
        raise InputError(f"{path} is not a whole picture ({brief(error)}); put a whole copy there") from error


def size(path) -> tuple[int, int]:
    """Read (height, width) of the picture in a file, from its header; InputError if it has none."""
    with _opened(path) as picture:
        return picture.height, picture.width


def _reduced(h, w):
    """Return the size in the cache. As in v2.Resize, the longer side is rounded down."""
    divisor = max(min(h, w), SHORTER)
    return SHORTER * h // divisor, SHORTER * w // divisor


def _write(file, paths, name):
    """Write the cache: a flat uint8 .npy of all heights and widths (int32 (N, 2)), then every picture (H, W, 3)."""
    from torchvision.transforms.v2 import InterpolationMode, functional

    def pixels(path, shape):
        picture = functional.resize(read(path), shape, interpolation=InterpolationMode.BICUBIC)
        return picture.permute(1, 2, 0).contiguous().numpy()

    shapes = np.array([_reduced(*size(path)) for path in paths], "<i4")
    total = int(8 * len(paths) + 3 * shapes.astype(np.int64).prod(1).sum())
    bar = tqdm(total=len(paths), desc=f"decoding {name} ({total / 1e9:.1f} GB, once)", unit=" pictures")
    # One write after another and no memory map: a full disk is then an OSError, not a signal.
    with bar, ThreadPoolExecutor(cores()) as pool, atomic(file) as temp, open(temp, "wb") as out:
        np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": (total,)})
        out.write(shapes.tobytes())
        for k in range(0, len(paths), 64):
            for picture in pool.map(pixels, paths[k: k + 64], shapes[k: k + 64].tolist()):
                out.write(picture)
                bar.update()
