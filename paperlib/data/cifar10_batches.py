"""Batches of images from memory, augmented by whole-batch indexing: no worker processes, no per-image Python."""

import hashlib

import torch

from ..errors import InputError
from .image_arrays import Images

# Mean and standard deviation of the 50 000 training images' pixels (scaled to 0..1), per RGB channel.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


class Batches:
    """The batches of one split, in memory on `device`, normalised with MEAN and STD: an `evaluation.ImageBatches`.

    train=True: every epoch is shuffled; each image is padded by 4 black pixels on all sides, cropped to 32
    at random and flipped left to right half of the time. Order and augmentation depend on (seed, epoch)
    alone: any epoch can be made without those before it, and no global random state is read or changed.
    The last incomplete batch is dropped unless it is the only one. train=False: original order, all images
    as they are. Of several processes, each gets every `world`-th image of a batch, from `rank` on.
    InputError if batch_size < 1 or there are no images.
    """

    unseen, class_subset = 0, None

    def __init__(self, images: Images, batch_size: int, *, train: bool, seed: int = 0, device="cpu", rank: int = 0,
                 world: int = 1):
        if batch_size < 1 or not len(images):
            raise InputError(f"cannot batch {len(images)} images by {batch_size}; both must be at least 1")
        self.images, self.batch_size, self.train, self.seed = images, batch_size, train, seed
        self.device, self.n_images, self.rank, self.world = torch.device(device), len(images), rank, world
        pixels = images.x.to(device).permute(0, 2, 3, 1)
        self._y = images.y.to(device)
        if train:
            n = len(images)
            padded = torch.nn.functional.pad(pixels, (0, 0, 4, 4, 4, 4)).contiguous()  # (N, 40, 40, 3)
            # All 9 x 9 crops of every image as a view without copies: (N, 9, 9, 32, 32, 3).
            self._crops = padded.as_strided((n, 9, 9, 32, 32, 3), (4800, 120, 3, 120, 3, 1))
        else:
            self._pixels = pixels.contiguous()
        mean, std = torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)
        self._scale = (1 / (255 * std)).repeat(32)  # one image line of (R, G, B, R, G, B, ...)
        self._shift = (mean / std).repeat(32)

    def __len__(self):
        whole, rest = divmod(len(self.images), self.batch_size)
        return max(whole, 1) if self.train else whole + (rest > 0)

    def epoch(self, i: int = 0, start: int = 0):
        """Yield (x, y) from batch `start` on: x float32 (B, 3, 32, 32) in channels_last format, y int64 (B,)."""
        order = self._draw(i) if self.train else None
        for first in range(start * self.batch_size, len(self) * self.batch_size, self.batch_size):
            part = slice(first + self.rank, first + self.batch_size, self.world)
            if self.train:
                image, top, left, flip = order[:, part]
                pixels = self._crops[image, top, left]
                pixels = torch.where(flip.bool()[:, None, None, None], pixels.flip(2), pixels)
                y = self._y[image]
            else:
                pixels, y = self._pixels[part], self._y[part].clone()
            x = pixels.to(torch.float32).contiguous()  # (B, 32, 32, 3)
            x.view(-1, 32, 96).mul_(self._scale).sub_(self._shift)
            yield x.permute(0, 3, 1, 2), y

    def _draw(self, i):
        """Draw int64 (4, N) on the device: image, crop's top, crop's left, flip, for epoch i."""
        key = hashlib.sha256(f"{self.seed} {i}".encode()).digest()[:4]  # the CPU generator uses 32 bits
        generator = torch.Generator().manual_seed(int.from_bytes(key, "big"))
        n = len(self.images)
        image = torch.randperm(n, generator=generator)
        top, left = torch.randint(0, 9, (2, n), generator=generator)
        flip = torch.randint(0, 2, (n,), generator=generator)
        return torch.stack([image, top, left, flip]).to(self._y.device)
