"""Batches: augmentation against a slow reference, seeding, order, memory format."""

import numpy as np
import pytest
import torch

from paperlib.data.cifar10_batches import MEAN, STD, Batches
from paperlib.data.cifar10_images import load_subset
from paperlib.data.image_arrays import Images
from paperlib.errors import InputError


@pytest.fixture(scope="module")
def subset():
    return load_subset()


def normalised(pixels):
    """uint8 (3, 32, 32) the plain way."""
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return (pixels.float() / 255 - mean) / std


def test_augmentation_is_a_crop_of_the_padded_image_and_a_flip(subset):
    images = subset[0].stratified(100)
    seen, flips, corners = [], [], set()
    for x, y in Batches(images, 20, train=True, seed=3).epoch(2):
        assert x.shape == (20, 3, 32, 32) and x.dtype == torch.float32 and y.dtype == torch.int64
        assert x.is_contiguous(memory_format=torch.channels_last)
        for one, label in zip(x, y):
            found = None
            for k in torch.nonzero(images.y == label).flatten().tolist():
                padded = torch.zeros(3, 40, 40, dtype=torch.uint8)
                padded[:, 4:36, 4:36] = images.x[k]
                windows = padded.unfold(1, 32, 1).unfold(2, 32, 1)  # (3, 9, 9, 32, 32)
                for flip in (False, True):
                    plain = one.flip(2) if flip else one
                    std, mean = torch.tensor(STD), torch.tensor(MEAN)
                    back = ((plain * std[:, None, None] + mean[:, None, None]) * 255).round().to(torch.uint8)
                    hit = (windows == back[:, None, None]).all(4).all(3).all(0).nonzero()
                    if len(hit):
                        top, left = hit[0].tolist()
                        crop = padded[:, top: top + 32, left: left + 32]
                        torch.testing.assert_close(plain, normalised(crop), atol=1e-5, rtol=0)
                        found = (k, flip, top, left)
            assert found, "no crop and flip of any image of this class gives this one"
            seen.append(found[0])
            flips.append(found[1])
            corners.add(found[2:])
    assert sorted(seen) == list(range(100)) and seen != sorted(seen)
    assert 25 < sum(flips) < 75 and len(corners) > 40
    assert {t for t, _ in corners} == set(range(9)) == {left for _, left in corners}


def epoch(images, i, **options):
    x, y = zip(*Batches(images, 20, train=True, **options).epoch(i))
    return torch.cat(x), torch.cat(y)


def test_batches_depend_on_seed_and_epoch_alone(subset):
    images = subset[0].stratified(100)
    batches = Batches(images, 20, train=True, seed=1)
    for _ in range(2):
        list(batches.epoch(0))
    torch.manual_seed(5)
    again = torch.cat([x for x, _ in batches.epoch(7)])
    torch.manual_seed(6)
    fresh = epoch(images, 7, seed=1)
    assert torch.equal(again, fresh[0])
    assert not torch.equal(fresh[0], epoch(images, 8, seed=1)[0])
    assert not torch.equal(fresh[0], epoch(images, 7, seed=2)[0])
    assert not torch.equal(epoch(images, 1, seed=2)[0], epoch(images, 2, seed=1)[0])


def test_global_random_state_is_left_alone(subset):
    torch.manual_seed(0)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    epoch(subset[0].stratified(100), 0)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])


def test_evaluation_keeps_order_and_every_image(subset):
    images = subset[1].stratified(50)
    batches = Batches(images, 20, train=False)
    x, y = zip(*batches.epoch())
    assert [len(part) for part in x] == [20, 20, 10] and len(batches) == 3
    assert torch.equal(torch.cat(y), images.y)
    plain = torch.stack([normalised(pixels) for pixels in images.x])
    torch.testing.assert_close(torch.cat(x), plain, atol=1e-5, rtol=0)
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part in x)


@pytest.mark.parametrize("train, size, lengths", [
    (True, 20, [20, 20]), (True, 50, [50]), (True, 64, [50]), (False, 64, [50]), (False, 25, [25, 25])])
def test_number_of_batches(train, size, lengths, subset):
    batches = Batches(subset[1].stratified(50), size, train=train)
    assert [len(y) for _, y in batches.epoch(0)] == lengths and len(batches) == len(lengths)


def test_batches_stay_on_their_device(subset):
    for train in (True, False):
        for x, y in Batches(subset[1].stratified(50), 20, train=train, device="meta").epoch(0):
            assert x.device.type == y.device.type == "meta"


def test_batches_of_nothing(subset):
    nothing = Images(subset[0].x[:0], subset[0].y[:0], "nothing")
    for images, size in ((nothing, 5), (subset[0], 0)):
        with pytest.raises(InputError, match="cannot batch"):
            Batches(images, size, train=True)
