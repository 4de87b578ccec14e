"""Photographs: which pictures are taken, the cache, the batches on any number of processes. No network is used."""

import os
import pickle
import random
import shutil
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.datasets import Imagenette
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms._presets import ImageClassification

from paperlib import plots, recipes
from paperlib.data import image_files
from paperlib.data.image_files import Photographs, cache_folder
from paperlib.data.imagenet import IMAGENETTE, UNSEEN, imagenet, imagenette
from paperlib.data.imagenet_batches import MEAN, STD, PhotoBatches, transform
from paperlib.errors import InputError
from paperlib.recipes import profiles
from paperlib.runs import Run, loading

REAL = os.environ.get("PAPERLIB_IMAGENETTE")  # before any test sets it
SIZES = [(256, 256), (230, 300), (321, 240), (400, 300), (224, 224)]  # width, height


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A made-up Imagenette: per class 4 + 1 unseen pictures in train/, 2 + 1 in val/; one grey, one CMYK."""
    root, rng, number = tmp_path_factory.mktemp("photographs") / "imagenette2", np.random.default_rng(0), 0
    for split, seen, unseen in (("train", 4, 1), ("val", 2, 1)):
        for wnid in IMAGENETTE:
            (root / split / wnid).mkdir(parents=True)
            for k in range(seen + unseen):
                number += 1
                mode = {7: "L", 8: "CMYK"}.get(number, "RGB")
                small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
                name = f"{UNSEEN}{number * 7 % 81:08}" if k < unseen else f"{wnid}_{number}"
                picture = small.resize(SIZES[number % 5], Image.Resampling.BICUBIC).convert(mode)
                picture.save(root / split / wnid / f"{name}.JPEG", quality=90)
    return root


@pytest.fixture(autouse=True)
def places(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("PAPERLIB_IMAGENETTE", str(folder))
    monkeypatch.setenv("PAPERLIB_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("PAPERLIB_IMAGENET", raising=False)


def tiny(*numbers, cache=False):
    return imagenette(*numbers, cache=cache, complete=False)


def one_line(info):
    message = str(info.value)
    assert "\n" not in message and ";" in message
    return message


def leftovers(data):
    return sorted(p.name for p in Path(data).rglob("*") if p.is_file() and p.name != ".lock")


def whole(source, i=0, start=0):
    """All (x, y) of one epoch as two tensors, and the numbers of pictures per batch."""
    x, y = zip(*source.epoch(i, start))
    return torch.cat(x), torch.cat(y), [len(part) for part in y]


# Which pictures are taken.

def names(photographs):
    return [Path(path).name for path, _ in photographs.samples]


def test_unseen_pictures_of_both_folders_lead_the_test_and_are_in_no_training(folder):
    train, test = tiny()
    assert len(train) == 40 and len(test) == 40 and test.unseen == 20 and train.unseen == 0
    assert not any(name.startswith(UNSEEN) for name in names(train))
    assert [name.startswith(UNSEEN) for name in names(test)] == [True] * 20 + [False] * 20
    assert {Path(p).parts[-3] for p, _ in test.samples[:20]} == {"train", "val"}
    assert {Path(p).parts[-3] for p, _ in test.samples[20:]} == {"val"}
    assert all(label == IMAGENETTE[Path(p).parent.name] for part in (train, test) for p, label in part.samples)
    assert test.class_subset == [0, 217, 482, 491, 497, 566, 569, 571, 574, 701] and test.resize == 256


def test_fewer_pictures_are_the_first_of_each_class():
    train, test = tiny()
    few, some = tiny(20, 20)
    assert few.samples == train.samples[:20] and some.samples == test.samples[:20] and some.unseen == 20
    assert tiny(0, 7)[1].unseen == 7
    for wnid, label in IMAGENETTE.items():
        of_class = sorted(path for path, k in train.samples if k == label)
        assert sorted(path for path, k in few.samples if k == label) == of_class[:2]
    for number in ((15, 0), (-10, 0), (50, 0), (0, 41), (0, -1)):
        with pytest.raises(InputError, match="choose"):
            tiny(*number)


def test_every_picture_is_rgb_whatever_its_file(folder):
    train, test = tiny()
    modes = set()
    for photographs in (train, test):
        for (path, label), (pixels, y) in zip(photographs.samples, photographs):
            with Image.open(path) as picture:
                modes.add(picture.mode)
                expected = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
            assert y == label and pixels.dtype == torch.uint8 and np.array_equal(pixels.numpy(), expected)
    assert modes == {"RGB", "L", "CMYK"}


def test_folders_that_are_not_imagenette(folder, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="holds 50 pictures where Imagenette has 9469; unpack"):
        imagenette()
    monkeypatch.setenv("PAPERLIB_IMAGENETTE", str(folder.parent))  # the folder that holds imagenette2*/
    assert len(tiny()[0]) == 40
    copy = tmp_path / "copy"
    monkeypatch.setenv("PAPERLIB_IMAGENETTE", str(copy))
    with pytest.raises(InputError, match="holds no train/ and val/; unpack"):
        tiny()
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "val" / "n03888257")
    with pytest.raises(InputError, match="val lacks the class folders n03888257, unlike Imagenette; unpack"):
        tiny()
    (copy / "val" / "n03888257").mkdir()
    with pytest.raises(InputError, match="val is incomplete .*n03888257"):
        tiny()
    shutil.copytree(folder / "val" / "n03888257", copy / "train" / "n99999999")
    with pytest.raises(InputError, match="train holds besides the class folders n99999999"):
        tiny()


def test_fetched_whole_or_not_at_all(folder, monkeypatch, tmp_path):
    monkeypatch.delenv("PAPERLIB_IMAGENETTE")

    def download(self):
        shutil.copytree(folder, self._size_root)
        if broken:
            raise RuntimeError("File not found\nor corrupted.")

    monkeypatch.setattr(Imagenette, "_download", download)
    broken = True
    with pytest.raises(InputError) as info:
        tiny()
    assert "File not found or corrupted" in one_line(info) and "PAPERLIB_IMAGENETTE" in str(info.value)
    assert leftovers(tmp_path) == []
    broken = False
    assert len(tiny()[0]) == 40 and (tmp_path / "data" / "imagenette2-320" / "val").is_dir()
    broken = True  # and it is not fetched a second time
    assert len(tiny()[0]) == 40 and [p.name for p in (tmp_path / "data").iterdir()] != ["imagenette2-320"]


def test_imagenet(folder, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="data.imagenet holds no ImageNet; put"):
        imagenet()
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    monkeypatch.setenv("PAPERLIB_IMAGENET", str(copy))
    with pytest.raises(InputError, match="holds 10 classes, not 1000; put"):
        imagenet()
    train, test = imagenet(num_classes=10)
    assert len(train) == 50 and len(test) == 30 and not (train.cache or test.cache)
    assert sorted({label for _, label in train.samples}) == list(range(10))
    assert (test.unseen, test.class_subset) == (0, None)
    for wnid in list(IMAGENETTE)[:4]:
        shutil.rmtree(copy / "val" / wnid)
    with pytest.raises(InputError, match="val lacks .* n01440764, n02102040, n02979186 and 1 more, unlike .*train;"):
        imagenet(num_classes=10)


# The cache.

def test_cache_equals_the_files(folder, tmp_path):
    for plain, cached in zip(tiny(), tiny(cache=True)):
        kept = 0
        for (a, y), (b, z) in zip(plain, cached):
            if min(a.shape[1:]) > 256:
                a = v2.functional.resize(a, 256, interpolation=InterpolationMode.BICUBIC)
                kept += 1
            assert y == z and torch.equal(a, b)
        assert 0 < kept < len(plain)
        # so the test's batches are the same to the bit
        one, other = (whole(PhotoBatches(p, 16, train=False)) for p in (plain, cached))
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert len(leftovers(tmp_path / "data")) == 2


def test_cache_is_made_once_and_another_list_makes_another(folder, monkeypatch):
    photographs = tiny(cache=True)[0]
    photographs.prepare()
    monkeypatch.setattr(image_files, "read", lambda path: pytest.fail("the cache should have been used"))
    again = tiny(cache=True)[0]
    assert torch.equal(again[3][0], photographs[3][0])
    again.samples = again.samples[1:]
    assert again.cache_file() != photographs.cache_file()
    copy = pickle.loads(pickle.dumps(photographs))
    assert torch.equal(copy[5][0], photographs[5][0]) and len(pickle.dumps(photographs)) < 20_000


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_cache_that_breaks_off_leaves_nothing(error, monkeypatch, tmp_path):
    photographs, resize, calls = tiny(cache=True)[0], v2.functional.resize, []

    def broken_off(*args, **options):
        calls.append(args)
        if len(calls) == 30:
            raise error
        return resize(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(v2.functional, "resize", broken_off)
        with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else InputError) as info:
            photographs.prepare()
    if error is not KeyboardInterrupt:
        assert "No space left" in one_line(info) and "PAPERLIB_DATA" in str(info.value)
    assert leftovers(tmp_path) == []
    photographs.prepare()
    assert len(photographs[0]) == 2 and len(leftovers(tmp_path)) == 1


def test_of_two_at_once_the_second_waits_and_takes_what_the_first_made(monkeypatch, tmp_path):
    first, second = tiny(cache=True)[0], tiny(cache=True)[0]
    first.prepare()
    made = first.cache_file().rename(tmp_path / "made")
    written = []
    monkeypatch.setattr(image_files, "_write", lambda *args: written.append(args))
    with image_files.workshop(cache_folder()):
        thread = threading.Thread(target=second.prepare)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        made.rename(first.cache_file())
    thread.join()
    assert not written and torch.equal(second[0][0], first[0][0])


@pytest.mark.parametrize("damage", ["short", "long", "empty", "foreign", "other"])
def test_damaged_cache(damage):
    tiny(cache=True)[1].prepare()
    photographs = tiny(cache=True)[1]
    path = photographs.cache_file()
    content = path.read_bytes()
    path.write_bytes({"short": content[:-9], "long": content, "empty": b"", "foreign": b"<html>" * 99,
                      "other": content}[damage])
    if damage == "long":
        np.save(path, np.zeros(len(content), np.uint8))
    elif damage == "other":
        np.save(path, np.zeros(7))
    with pytest.raises(InputError) as info:
        photographs.prepare()
    assert str(path) in one_line(info) and "delete it" in str(info.value)
    path.unlink()
    photographs.prepare()


def test_unwritable_data_folder(tmp_path):
    (tmp_path / "data").write_text("a file stands where the folder should be")
    with pytest.raises(InputError, match="cannot write in .*PAPERLIB_DATA"):
        tiny(cache=True)[0].prepare()
    assert str(cache_folder()).startswith(str(tmp_path))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_picture_is_named_in_one_line(workers, folder, tmp_path):
    path = tmp_path / "broken.JPEG"
    path.write_bytes(Path(tiny()[0].samples[0][0]).read_bytes()[:900])
    train = tiny()[0]
    train.samples[17] = (str(path), 0)
    source = PhotoBatches(train, 10, train=False, workers=workers)
    with pytest.raises(InputError) as info:
        whole(source)
    assert str(path) in one_line(info) and "truncated" in str(info.value)
    assert whole(source, 0, 2)[2] == [10, 10]  # and the others can still be had
    cached = Photographs(train.samples, "broken", cache=True)
    with pytest.raises(InputError, match="broken.JPEG is not a whole picture"):
        cached.prepare()
    assert leftovers(tmp_path / "data") == []


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("kind", ["program", "link", "pipe"])
def test_what_is_named_like_a_picture(kind, cache, tmp_path, monkeypatch):
    """PostScript, which Pillow would have Ghostscript execute; a link to nothing; a pipe, which nobody ever fills."""
    path = tmp_path / "odd.JPEG"
    if kind == "program":
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 300 300\n%%EndComments\nshowpage\n")
    elif kind == "link":
        path.symlink_to("nothing")
    else:
        os.mkfifo(path)
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args: pytest.fail("a program was started"))
    photographs = Photographs([(str(path), 0)], "odd", cache=cache)
    with pytest.raises(InputError, match=r"odd\.JPEG (is not a whole picture|cannot be read)") as info:
        whole(PhotoBatches(photographs, 1, train=False))
    one_line(info)


# The batches.

def normalised(pixels):
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return (pixels.float() / 255 - mean) / std


def test_testing_is_torchvisions_preset():
    test = tiny()[1]
    source = PhotoBatches(test, 16, train=False)
    x, y, lengths = whole(source)
    assert lengths == [16, 16, 8] and len(source) == 3 and y.tolist() == [label for _, label in test.samples]
    assert (source.n_images, source.batch_size, source.unseen) == (40, 16, 20)
    assert source.class_subset == test.class_subset
    preset = ImageClassification(crop_size=224, resize_size=256, interpolation=InterpolationMode.BICUBIC)
    for one, (path, _) in zip(x, test.samples):
        with Image.open(path) as picture:
            levels = (one - preset(picture.convert("RGB"))).abs() * 255 * torch.tensor(STD)[:, None, None]
        assert levels.max() < 2.01 and levels.mean() < 0.02  # both round between rows and columns


def test_pictures_that_are_cropped_already_stay_as_they_are(folder, monkeypatch, tmp_path):
    shutil.copytree(folder, tmp_path / "cropped")
    for path in (tmp_path / "cropped").rglob("*.JPEG"):
        Image.open(path).convert("RGB").resize((224, 224)).save(path)
    monkeypatch.setenv("PAPERLIB_IMAGENETTE", str(tmp_path / "cropped"))
    test = tiny(0, 10)[1]
    x, _, _ = whole(PhotoBatches(test, 10, train=False))
    torch.testing.assert_close(x, torch.stack([normalised(pixels) for pixels, _ in test]), atol=1e-5, rtol=0)


def test_form_of_a_batch():
    for train in (True, False):
        for x, y in PhotoBatches(tiny()[0], 20, train=train).epoch(0):
            assert x.shape == (20, 3, 224, 224) and x.dtype == torch.float32 and y.dtype == torch.int64
            assert x.is_contiguous(memory_format=torch.channels_last) and x.device == y.device == torch.device("cpu")


def test_an_epoch_holds_every_picture_once_in_another_order():
    train = tiny()[0]
    source = PhotoBatches(train, 10, train=True, seed=1)
    orders = [whole(source, i)[1].tolist() for i in range(2)]
    labels = [label for _, label in train.samples]
    assert orders[0] != orders[1] and all(sorted(order) == sorted(labels) != order for order in orders)


def test_crop_and_flip_of_the_plain_augmentation():
    pixels = tiny()[0][3][0]
    resized = v2.functional.resize(pixels, 256, interpolation=InterpolationMode.BILINEAR)
    windows = resized.unfold(1, 224, 1).unfold(2, 224, 1)  # (3, top, left, 224, 224)
    found = set()
    for _ in range(12):
        crop = transform(True, "random_crop")(pixels)
        for flipped in (False, True):
            candidate = crop.flip(2) if flipped else crop
            hits = (windows[..., 0, :] == candidate[:, None, None, 0]).all(3).all(0).nonzero().tolist()
            found |= {(top, left, flipped) for top, left in hits if torch.equal(windows[:, top, left], candidate)}
    assert len(found) == 12 and {flipped for *_, flipped in found} == {True, False}


@pytest.mark.parametrize("train, augmentation", [(True, "random_crop"), (True, "random_resized_crop"),
                                                 (False, "random_crop")])
def test_smaller_pictures_are_the_same_scaled_down(train, augmentation):
    pictures = tiny()[0 if train else 1]
    full, small = (whole(PhotoBatches(pictures, 10, train=train, seed=3, augmentation=augmentation, pixels=n))
                   for n in (224, 96))
    assert small[0].shape == (*full[0].shape[:2], 96, 96) and torch.equal(full[1], small[1])
    mode = InterpolationMode.BICUBIC if augmentation == "random_resized_crop" else InterpolationMode.BILINEAR
    expected = v2.functional.resize(full[0], 96, interpolation=mode, antialias=True)
    torch.testing.assert_close(small[0], expected, atol=0.2, rtol=0)       # scaled as bytes there, as floats here


def test_every_position_and_epoch_is_augmented_differently():
    picture = tiny()[0].samples[3]
    source = PhotoBatches(Photographs([picture] * 12, "one"), 12, train=True)
    pixels = torch.cat([whole(source, i)[0] for i in range(2)])
    assert len(pixels.flatten(1).unique(dim=0)) == 24


@pytest.mark.parametrize("augmentation", ["random_resized_crop", "random_crop"])
def test_batches_depend_on_seed_epoch_and_position_alone(augmentation):
    train = tiny()[0]
    options = dict(train=True, seed=1, augmentation=augmentation)
    source = PhotoBatches(train, 12, **options)
    x, y, lengths = whole(source, 5)
    assert lengths == [12, 12, 12] and len(source) == 3
    torch.manual_seed(9)
    assert torch.equal(whole(source, 5, 2)[0], x[24:]) and torch.equal(whole(source, 5, 2)[1], y[24:])
    smaller = whole(PhotoBatches(train, 8, **options), 5)[0]
    assert torch.equal(smaller[:36], x)  # nor on the size of the batches
    for world in (2, 5):  # 12 pictures among 5 processes: 3, 3, 2, 2, 2
        shares = [[share for share, _ in PhotoBatches(train, 12, rank=r, world=world, **options).epoch(5)]
                  for r in range(world)]
        for k, batch in enumerate(x.split(12)):
            for rank in range(world):
                assert torch.equal(shares[rank][k], batch[rank::world])
    assert not torch.equal(whole(source, 6)[0], x)
    assert not torch.equal(whole(PhotoBatches(train, 12, **{**options, "seed": 2}), 5)[0], x)


@pytest.mark.parametrize("cache", [False, True])
def test_worker_processes_change_nothing(cache):
    train, test = tiny(cache=cache)
    alone, helped = (PhotoBatches(train, 12, train=True, seed=1, workers=workers) for workers in (0, 2))
    next(helped.epoch(3))  # an epoch that is given up midway
    for i, start in ((0, 0), (1, 1)):
        (x, y, lengths), (again, labels, _) = whole(alone, i, start), whole(helped, i, start)
        assert lengths == [12] * (3 - start) and torch.equal(x, again) and torch.equal(y, labels)
    share = [PhotoBatches(test, 13, train=False, rank=1, world=2, workers=workers) for workers in (0, 2)]
    (x, y, lengths), (again, labels, more) = map(whole, share)
    assert torch.equal(x, again) and torch.equal(y, labels) and lengths == more == [6, 6, 6, 0]


def test_two_epochs_at_once():
    train = tiny()[0]
    source = PhotoBatches(train, 10, train=True)
    pairs = list(zip(source.epoch(0), source.epoch(1)))
    for i, side in enumerate(zip(*pairs)):
        assert torch.equal(torch.cat([x for x, _ in side]), whole(source, i)[0])
    source = PhotoBatches(train, 10, train=True, workers=1)
    first, second = source.epoch(0), source.epoch(1)
    next(first), next(second)
    with pytest.raises(RuntimeError, match="one at a time"):
        next(first)


def test_global_random_state_is_left_alone():
    def state():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    before = state()
    for workers in (0, 1):
        whole(PhotoBatches(tiny()[0], 20, train=True, workers=workers))
    assert state() == before


def test_test_shares_together_are_the_whole():
    test = tiny()[1]
    full = whole(PhotoBatches(test, 13, train=False))[0].split(13)  # 13, 13, 13, 1
    for rank in range(3):
        source = PhotoBatches(test, 13, train=False, rank=rank, world=3)
        shares = [x for x, _ in source.epoch()]
        assert len(shares) == len(source) == 4
        assert all(torch.equal(share, batch[rank::3]) for share, batch in zip(shares, full))
    assert shares[-1].shape == (0, 3, 224, 224) and shares[-1].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("train, size, lengths", [
    (True, 20, [20, 20]), (True, 25, [25]), (True, 64, [40]), (False, 64, [40]), (False, 25, [25, 15])])
def test_number_of_batches(train, size, lengths):
    source = PhotoBatches(tiny()[0], size, train=train)
    assert whole(source)[2] == lengths and len(source) == len(lengths)


def test_impossible_numbers():
    photographs = tiny(10)[0]
    for size, options in ((0, {}), (4, {"rank": 2, "world": 2}), (4, {"world": 5}), (16, {"world": 11})):
        with pytest.raises(InputError, match="cannot"):
            PhotoBatches(photographs, size, train=True, **options)
    with pytest.raises(InputError, match="cannot batch 0 pictures"):
        PhotoBatches(Photographs([], "nothing"), 4, train=False)
    with pytest.raises(InputError, match="choose random_resized_crop or random_crop"):
        PhotoBatches(photographs, 4, train=True, augmentation="cutout")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_on_a_gpu():
    torch.cuda.manual_seed(3)
    before = torch.cuda.get_rng_state()
    host, gpu = (PhotoBatches(tiny()[0], 10, train=True, device=device) for device in ("cpu", "cuda"))
    x, y, _ = whole(gpu)
    assert gpu.workers > 0 and x.is_cuda and y.is_cuda and torch.equal(before, torch.cuda.get_rng_state())
    torch.testing.assert_close(x.cpu(), whole(host)[0], atol=1e-5, rtol=0)


@pytest.mark.skipif(not REAL, reason="PAPERLIB_IMAGENETTE names no Imagenette")
def test_the_real_imagenette(monkeypatch):
    monkeypatch.setenv("PAPERLIB_IMAGENETTE", REAL)
    train, test = imagenette(cache=False)
    assert len(train) == 9103 and len(test) == 4291 and test.unseen == 500
    new = [label for _, label in imagenette(test_images=500)[1].samples]
    assert np.unique(new, return_counts=True)[1].tolist() == [50] * 10
    x, y, lengths = whole(PhotoBatches(imagenette(20, 20)[0], 20, train=True))
    assert lengths == [20] and sorted(y.tolist()) == sorted(2 * test.class_subset) and 0.5 < x.std() < 2


# Recipes.

@pytest.mark.parametrize("size", [64, 96, 128, 224])
@pytest.mark.parametrize("made, mode", [(recipes.profit, InterpolationMode.BICUBIC),
                                        (recipes.qil, InterpolationMode.BILINEAR)])
def test_photographs_are_tested_as_they_are_trained(made, mode, size, monkeypatch):
    monkeypatch.setattr("paperlib.data.imagenet.imagenette", lambda train, test: tiny(train, test))
    loading._photographs.cache_clear()
    profile = profiles.changed("imagenette", input_size=size, train_images=20, test_images=20, batch_size=10)
    recipe = made("resnet18" if made is recipes.qil else "mobilenet_v2", profile=profile)
    train, test = loading.batches(recipe, torch.device("cpu"))
    x, y, lengths = whole(test)
    assert lengths == [10, 10] and whole(train)[0].shape == x.shape == (20, 3, size, size)
    assert loading.first_images(recipe, train).shape == (10, 3, size, size)
    for one, label, (pixels, k) in zip(x, y, test._dataset):
        pixels = v2.functional.center_crop(v2.functional.resize(pixels, 256, interpolation=mode), 224)
        assert label == k and torch.allclose(one, normalised(v2.functional.resize(pixels, size, interpolation=mode)),
                                             atol=1e-5)
    run = Run(recipe, pd.DataFrame(), pd.DataFrame(), key="made up", seconds=0.0, environment={})
    assert (f"20 training and 20 test images of Imagenette at {size} x {size} pixels"
            in plots.caption([run], "imagenette"))
    loading._photographs.cache_clear()
