"""Batches of photographs, 224 x 224 pixels or fewer, with the papers' augmentations; decoded by workers if wanted."""

import functools
import hashlib
import os

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from ..errors import InputError
from ..system.distributed import cores
from .image_files import CROP, SHORTER

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels scaled to 0..1, per RGB channel
INTERPOLATION = {"random_resized_crop": "bicubic", "random_crop": "bilinear"}


def transform(train: bool, augmentation: str = "random_resized_crop", resize: int = SHORTER, pixels: int = CROP):
    """Make torchvision's transform from uint8 (3, H, W) to uint8 (3, pixels, pixels).

    Training: "random_resized_crop" (PROFIT: 8 to 100 % of the area, bicubic) or "random_crop" (QIL: shorter side 256,
    bilinear), then flipped left to right half of the time; drawn from torch's global generator. Testing: shorter
    side to `resize` pixels in the same interpolation, centre crop. Either gives 224 x 224 pixels, which are scaled to
    `pixels` if that is another number. InputError for another augmentation.
    """
    if augmentation not in INTERPOLATION:
        raise InputError(f"unknown augmentation {augmentation!r}; choose {' or '.join(INTERPOLATION)}")
    from torchvision.transforms import InterpolationMode, v2  # here, since torchvision takes long to import
    mode = InterpolationMode(INTERPOLATION[augmentation])
    scaled = [v2.Resize(pixels, mode)] if pixels != CROP else []
    if not train:
        return v2.Compose([v2.Resize(resize, mode), v2.CenterCrop(CROP), *scaled])
    if augmentation == "random_resized_crop":
        return v2.Compose([v2.RandomResizedCrop(CROP, interpolation=mode), v2.RandomHorizontalFlip(), *scaled])
    return v2.Compose([v2.Resize(SHORTER, mode), v2.RandomCrop(CROP), v2.RandomHorizontalFlip(), *scaled])


class PhotoBatches:
    """The batches of one split, normalised with MEAN and STD: this process's share of every global batch.

    dataset: items (uint8 tensor (3, H, W), class index), such as `imagenet.imagenette()` gives. batch_size: of all
    `world` processes together; process `rank` gets every world-th picture of each batch, from the rank-th on.
    train=True: order and augmentation depend on (seed, epoch, the picture's position in `dataset`) alone, whatever
    the number of workers and processes; no global random state is read or changed. The last incomplete batch is
    dropped unless it is the only one. train=False: original order, all pictures; a process whose share of the last
    batch is empty gets a batch of none, so that all processes make equally many steps.
    workers: processes that decode and augment ahead (started with the first epoch, kept for the next); 0: this one
    does it; None: 0 on a CPU, on a GPU this process's part of the cores, at most 16.
    pixels: height and width of what the network gets.
    `unseen` and `class_subset` are the data set's own, as is the size before a test's crop (see `Photographs`);
    `n_images` is its length.
    InputError on impossible numbers, and from `epoch` for a picture that cannot be read.
    """

    def __init__(self, dataset, batch_size: int, *, train: bool, seed: int = 0, device="cpu", rank: int = 0,
                 world: int = 1, workers: int | None = None, augmentation: str = "random_resized_crop",
                 pixels: int = CROP):
        self.n_images, self.batch_size, self.train, self.seed = len(dataset), batch_size, train, seed
        if batch_size < 1 or not self.n_images:
            raise InputError(f"cannot batch {self.n_images} pictures by {batch_size}; both must be at least 1")
        if not 0 <= rank < world <= (min(batch_size, self.n_images) if train else batch_size):
            raise InputError(f"cannot share {self.n_images} pictures in batches of {batch_size} among {world} "
                             f"processes (this is number {rank}); choose a larger batch or fewer processes")
        self.device, self.rank, self.world = torch.device(device), rank, world
        self.unseen, self.class_subset = getattr(dataset, "unseen", 0), getattr(dataset, "class_subset", None)
        on_gpu = self.device.type == "cuda"
        if workers is None:
            here = int(os.environ.get("LOCAL_WORLD_SIZE", world))  # processes on this machine, as torchrun says
            workers = min(16, max(1, cores() // here)) if on_gpu else 0
        self.workers, self._dataset, self._plan = workers, dataset, _Plan()
        augmented = _Augmented(dataset, transform(train, augmentation, getattr(dataset, "resize", SHORTER), pixels),
                               seed if train else None)
        self._loader = DataLoader(
            augmented, batch_sampler=self._plan, collate_fn=functools.partial(_collate, pixels), num_workers=workers,
            pin_memory=on_gpu, persistent_workers=workers > 0,
            generator=torch.Generator())  # its own: the loader draws at every start

    def __len__(self):
        whole, rest = divmod(self.n_images, self.batch_size)
        return max(whole, 1) if self.train else whole + (rest > 0)

    def epoch(self, i: int = 0, start: int = 0):
        """Yield (x, y) of epoch i from batch number `start` on, without making those before it.

        x float32 (b, 3, pixels, pixels) in channels_last memory format, y int64 (b,), both on `device`. With workers,
        one epoch at a time: RuntimeError if another one was begun in between.
        """
        from torchvision.transforms.v2 import functional
        if hasattr(self._dataset, "prepare"):
            self._dataset.prepare()
        order = torch.arange(self.n_images)
        if self.train:
            order = torch.randperm(self.n_images, generator=torch.Generator().manual_seed(_hashed(self.seed, i)))
        shares = [batch[self.rank:: self.world] for batch in order.split(self.batch_size)[start: len(self)]]
        plan = self._plan.batches = [[(i, k) for k in share.tolist()] for share in shares]
        for batch in self._loader:
            if self.workers and plan is not self._plan.batches:
                raise RuntimeError("another epoch of these batches has begun; with workers there is one at a time")
            if isinstance(batch, InputError):
                raise batch
            pixels, y = (part.to(self.device, non_blocking=True) for part in batch)
            x = functional.to_dtype(pixels.contiguous(memory_format=torch.channels_last), torch.float32, scale=True)
            yield functional.normalize(x, MEAN, STD, inplace=True), y


class _Plan:
    """The loader's batches of (epoch, position): whatever stands in `batches` when it begins."""

    batches: list = []

    def __iter__(self):
        return iter(self.batches)


class _Augmented(Dataset):
    """augmented[epoch, position] is (uint8 (3, pixels, pixels), class index); with `seed` None nothing is drawn."""

    def __init__(self, dataset, transform, seed):
        self.dataset, self.transform, self.seed = dataset, transform, seed

    def __getitems__(self, keys):
        """Return a batch's items, or the InputError that one of them raises: a worker would garble its one line."""
        try:
            return [self[key] for key in keys]
        except InputError as error:
            return error

    def __getitem__(self, key):
        picture, label = self.dataset[key[1]]
        if self.seed is None:
            return self.transform(picture), label
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the CPU's global generator
            torch.default_generator.manual_seed(_hashed(self.seed, *key))  # torch.manual_seed would seed GPUs, too
            return self.transform(picture), label


def _hashed(*numbers) -> int:
    """Make a seed made of several numbers; 32 bits are what the CPU's generator uses."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, numbers)).encode()).digest()[:4], "big")


def _collate(pixels, items):
    """Stack uint8 (b, 3, pixels, pixels) and int64 (b,), b = 0 for no items; an InputError as it is."""
    if items == []:
        return torch.empty(0, 3, pixels, pixels, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
    return items if isinstance(items, InputError) else default_collate(items)
