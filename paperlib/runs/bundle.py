"""What a machine without a network needs to train, in volumes small enough to carry there; and the way back.

There, `tar xf` unpacks each volume in one folder and ``python -m paperlib unbundle`` puts the data in their places.
Runs that were recorded there come back as volumes as well, and ``python -m paperlib collect`` files them here.
"""
from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import re
import shutil
import tarfile
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ..data import cifar10_images, imagenet
from ..data.image_arrays import Images, verified
from ..errors import InputError, brief
from ..system.paths import ROOT, atomic, data_dir, recorded_dir, unwritable
from . import recorded

PARTS = ROOT / "data" / "bundle"            # where a volume puts what `unpack` then puts in its place
PER_PART = 5000                             # images of CIFAR-10 in one picture
LIBRARY = ("paperlib/**/*.py", "paperlib/**/*.c", "benchmarks/*.py", "data/published.csv", "data/pretrained/*/*.*",
           "data/pretrained/index.csv", "pyproject.toml", "LICENSE")
WEIGHTS = "mobilenet_v2-b0353104.pth"       # torchvision's, of the network that the photographs are about
VOLUME, RESULTS = "volume-{}.tar", "runs-{}.tar.gz"
MEGABYTE = 10**6
NAME, MOST = re.compile(r"[\w][\w.+-]*"), 64 * MEGABYTE        # of a file of a recorded run

Item = tuple[str, bytes | Path]             # path relative to the folder that a volume is unpacked in, and content


def pack(folder: Path, *, cifar10: bool = True, photos: int = 0, weights: bool = False, megabytes: float = 60
         ) -> list[Path]:
    """Write volumes of at most ``megabytes`` into ``folder``; returns their paths.

    They hold the library; with ``cifar10`` all of CIFAR-10, losslessly (102 MB, so two volumes of 60 MB); the first
    ``photos`` training photographs of Imagenette (a multiple of 10) and the 500 that ImageNet's networks have not seen;
    with ``weights`` torchvision's ImageNet-trained MobileNet-v2.  InputError if any of it is not on this machine.
    """
    parts = [_library()]
    if cifar10:
        parts += [pictures(images) for images in cifar10_images.cifar10(require_full=True)]
    if photos:
        parts.append(_photographs(photos))
    if weights:
        parts.append(_weights())
    return _volumes(folder, itertools.chain(*parts), megabytes)


def unpack() -> list[str]:
    """Put what the volumes brought into its place, once all volumes are unpacked in the project's folder.

    Returns a line for each thing that is there now.  InputError if a part is missing or damaged.
    """
    done = []
    if list(PARTS.glob("cifar10-*")):
        cifar10_images.store((read("cifar10 train"), read("cifar10 test")))
        done.append(f"CIFAR-10, SHA-256 as expected, in {cifar10_images.cache_file()}")
    if (file := PARTS / WEIGHTS).exists():
        place = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
        if not hashlib.sha256(file.read_bytes()).hexdigest().startswith(file.stem.rpartition("-")[2]):
            raise InputError(f"{file} is damaged (its SHA-256 does not begin as its name says): unpack its volume anew")
        with atomic(place) as temp:
            shutil.copyfile(file, temp)
        done.append(f"torchvision's weights of MobileNet-v2, SHA-256 as expected, in {place}")
    if (folder := data_dir() / imagenet.BUNDLED).is_dir():
        done.append(f"photographs in {folder}")
    return done


def _library() -> Iterator[Item]:
    for pattern in LIBRARY:
        for file in sorted(ROOT.glob(pattern)):
            yield file.relative_to(ROOT).as_posix(), file


def pictures(images: Images) -> Iterator[Item]:
    """The images as losslessly compressed pictures of PER_PART each, in rows of 50, and their labels."""
    name = images.name.replace(" ", "-")
    yield f"data/bundle/{name}-labels", images.y.numpy().astype(np.uint8).tobytes()
    for i in tqdm(range(0, len(images), PER_PART), desc=f"packing {images.name}", disable=None):
        tiles = images.x[i: i + PER_PART].numpy().reshape(-1, 50, 3, 32, 32).transpose(0, 3, 1, 4, 2)
        picture = io.BytesIO()
        Image.fromarray(tiles.reshape(-1, 1600, 3)).save(picture, "webp", lossless=True, quality=50)
        yield f"data/bundle/{name}-{i // PER_PART:02}.webp", picture.getvalue()


def read(name: str, folder: Path = PARTS) -> Images:
    """The images that :func:`pictures` has made files of, by their name; InputError unless they are the same."""
    stem, cure = name.replace(" ", "-"), "unpack all volumes anew"
    try:
        labels = np.frombuffer((folder / f"{stem}-labels").read_bytes(), np.uint8)
        parts = [np.asarray(Image.open(file, formats=["WEBP"])).reshape(-1, 32, 50, 32, 3)
                 for file in sorted(folder.glob(f"{stem}-[0-9]*.webp"))]
        x = np.concatenate(parts).transpose(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} does not hold all of {name} ({brief(error)}); {cure}") from error
    return verified(x, labels, name, folder, cure)


def _photographs(train_images: int) -> Iterator[Item]:
    """The files themselves, in Imagenette's own folders."""
    train, test = imagenet.imagenette(train_images, 500, cache=False)
    for path, _ in (*train.samples, *test.samples):
        split, wnid, name = Path(path).parts[-3:]
        yield f"data/{imagenet.BUNDLED}/{split}/{wnid}/{name}", Path(path)


def _weights() -> Iterator[Item]:
    file = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    if not file.exists():
        raise InputError(f"{file} is not here: models.build('mobilenet_v2', num_classes=1000, "
                         "weights='IMAGENET1K_V1') fetches it where there is a network")
    yield f"data/bundle/{WEIGHTS}", file


class Deliveries:
    """Recorded runs as files runs-0.tar.gz, runs-1.tar.gz ... in ``folder``, each at most ``megabytes``: each run is
    there, whole, as soon as it has been added.  A run that is larger by itself, such as one with a float network at
    full width, comes in parts, runs-0.tar.gz.0 and so on."""

    def __init__(self, folder: Path, megabytes: float = 15):
        self.folder, self.limit, self.runs, self.number = folder, int(megabytes * MEGABYTE), [], 0

    def add(self, run: Path) -> list[Path]:
        """Put the folder of one more run into the last file, or into a new one; returns what was written."""
        content = self._packed([*self.runs, run])
        if len(content) > self.limit and self.runs:
            self.runs, self.number = [], self.number + 1
            content = self._packed([run])
        self.runs.append(run)
        file = self.folder / RESULTS.format(self.number)
        parts = {file: content}
        if len(content) > self.limit:       # the next run finds this file full
            parts = {file.with_name(f"{file.name}.{i}"): content[start: start + self.limit]
                     for i, start in enumerate(range(0, len(content), self.limit))}
        for path, part in parts.items():
            with atomic(path) as temp:
                temp.write_bytes(part)
        return list(parts)

    @staticmethod
    def _packed(runs: list[Path]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as tar:
            for file in (file for run in runs for file in sorted(run.iterdir())):
                tar.add(file, f"{file.parent.name}/{file.name}", recursive=False)
        return buffer.getvalue()


def collect(folder: Path) -> list[str]:
    """File the runs of all volumes in ``folder`` in data/recorded/; returns a line for each.

    A run that lies there already is replaced if another process recorded it with other code, and kept otherwise.
    InputError for a volume that is damaged or holds anything else; runs before it are kept.
    """
    volumes, told = defaultdict(list), []
    for file in sorted(folder.glob(f"{RESULTS.format('*')}*"), key=lambda file: (len(file.name), file.name)):
        volumes[file.name.partition(".gz")[0]].append(file)
    if not volumes:
        raise InputError(f"{folder} holds no {RESULTS.format('*')}: name the folder that `record --deliver` wrote to")
    for parts in volumes.values():
        with tempfile.TemporaryDirectory(prefix=".collect-", dir=recorded_dir()) as temp:
            _extract(parts, Path(temp))
            told += [recorded.take(run) for run in sorted(Path(temp).iterdir())]
    return told


def _extract(parts: list[Path], place: Path) -> None:
    """Unpack plain files of a run's names alone."""
    try:
        with tarfile.open(fileobj=io.BytesIO(b"".join(part.read_bytes() for part in parts)), mode="r:gz") as tar:
            for member in tar:
                names = PurePosixPath(member.name).parts
                if not member.isreg() or len(names) != 2 or any(not NAME.fullmatch(name) for name in names):
                    raise InputError(f"{parts[0]} holds {member.name!r}, which is no file of a recorded run")
                if member.size > MOST:
                    raise InputError(f"{parts[0]} holds {member.name!r} of {member.size / MEGABYTE:.0f} MB, more than "
                                     "a run takes")
                (place / names[0]).mkdir(exist_ok=True)
                (place / names[0] / names[1]).write_bytes(tar.extractfile(member).read())
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InputError(f"{parts[0]} is damaged ({brief(error)}): fetch it again") from error


def _volumes(folder: Path, items: Iterable[Item], megabytes: float) -> list[Path]:
    """Fill one volume after the other, each at most ``megabytes`` long."""
    limit, files, room = int(megabytes * MEGABYTE), [], 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened:
            for path, content in items:
                content = content.read_bytes() if isinstance(content, Path) else content
                needed = 1024 + -len(content) % 512 + len(content)     # a header (long names take two) and whole blocks
                if needed + tarfile.RECORDSIZE > limit:
                    raise InputError(f"{path} alone takes {needed / MEGABYTE:.0f} MB: allow larger volumes")
                if room < needed:
                    opened.close()
                    files.append(folder / VOLUME.format(len(files)))
                    tar, room = opened.enter_context(tarfile.open(files[-1], "w")), limit - tarfile.RECORDSIZE
                member = tarfile.TarInfo(path)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
                room -= needed
    except OSError as error:
        raise unwritable(folder, error) from error
    return files
