"""What travels to a machine without a network, and what comes back."""
import io
import shutil
import tarfile

import numpy as np
import pytest

from paperlib.data import cifar10_images
from paperlib.errors import InputError
from paperlib.runs import bundle, recorded
from paperlib.system import paths

RUN = "smoke_vgg7"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An empty data/recorded/, and a real recorded run beside it."""
    run = tmp_path / "run" / RUN
    shutil.copytree(paths.recorded_dir() / RUN, run)
    monkeypatch.setattr(paths, "recorded_dir", lambda: tmp_path / "recorded")
    (tmp_path / "recorded").mkdir()
    return run


def unpacked(volumes, folder):
    for volume in volumes:
        with tarfile.open(volume) as tar:
            tar.extractall(folder, filter="data")
    return folder


def test_images_come_out_as_they_went_in(tmp_path):
    test = cifar10_images.load_subset()[1]
    volumes = bundle._volumes(tmp_path / "volumes", bundle.pictures(test), 3)
    place = unpacked(volumes, tmp_path / "there") / "data" / "bundle"
    back = bundle.read(test.name, place)
    assert np.array_equal(back.x, test.x) and np.array_equal(back.y, test.y)
    (place / f"{test.name.replace(' ', '-')}-00.webp").unlink()
    with pytest.raises(InputError, match="does not hold all of .*unpack all volumes anew"):
        bundle.read(test.name, place)


def test_volumes_keep_to_their_size_and_hold_everything(tmp_path):
    items = [(f"{'deep/' * 40}{i}", bytes([i]) * (1000 * i)) for i in range(60)]
    volumes = bundle._volumes(tmp_path, items, 0.2)
    assert len(volumes) > 5 and all(volume.stat().st_size <= 200_000 for volume in volumes)
    place = unpacked(volumes, tmp_path / "there")
    assert all((place / name).read_bytes() == content for name, content in items)
    with pytest.raises(InputError, match="large alone takes 1 MB: allow larger volumes"):
        bundle._volumes(tmp_path, [("large", bytes(10**6))], 0.2)


def test_the_library_travels_whole(tmp_path):
    place = unpacked(bundle.pack(tmp_path / "volumes", cifar10=False), tmp_path / "there")
    there = {file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file()}
    here = {file.relative_to(paths.ROOT).as_posix() for file in (paths.ROOT / "paperlib").rglob("*")
            if file.suffix in (".py", ".c")}
    here |= {file.relative_to(paths.ROOT).as_posix() for file in paths.pretrained_dir().rglob("*.pt")}
    assert here <= there and "data/published.csv" in there and "benchmarks/qat_step.py" in there


def test_runs_come_back_whole_and_once(tmp_path, shelf):
    deliveries = bundle.Deliveries(tmp_path / "out")
    deliveries.add(shelf)
    assert bundle.collect(tmp_path / "out") == [f"{RUN}: filed"]
    for file in shelf.iterdir():
        assert (paths.recorded_dir() / RUN / file.name).read_bytes() == file.read_bytes()
    assert bundle.collect(tmp_path / "out") == [f"{RUN}: is here already"]
    assert len(recorded.index()) == 1


def test_a_volume_that_is_full_gives_way_to_the_next(tmp_path, shelf):
    deliveries = bundle.Deliveries(tmp_path / "out", megabytes=0.001)
    other = shutil.copytree(shelf, shelf.with_name("another"))
    written = [deliveries.add(run) for run in (shelf, other)]
    assert all(file.stat().st_size <= 1000 for files in written for file in files)
    assert [files[0].name for files in written] == ["runs-0.tar.gz.0", "runs-1.tar.gz.0"] and len(written[0]) > 1
    written[1][-1].unlink()         # a part that did not come back
    with pytest.raises(InputError, match="is damaged"):
        bundle.collect(tmp_path / "out")
    assert recorded.index().run.tolist() == [RUN]         # what came before is kept


@pytest.mark.parametrize("name", ["../evil/run.json", "/etc/evil", f"{RUN}/../../evil", f"{RUN}/.hidden", "run.json"])
def test_nothing_but_files_of_runs_is_unpacked(tmp_path, shelf, name):
    (tmp_path / "out").mkdir()
    with tarfile.open(tmp_path / "out" / "runs-0.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(InputError, match="which is no file of a recorded run"):
        bundle.collect(tmp_path / "out")
    assert not list(tmp_path.rglob("*evil*"))


def test_links_and_damage_are_refused(tmp_path, shelf):
    volume, = bundle.Deliveries(tmp_path / "out").add(shelf)
    volume.write_bytes(volume.read_bytes()[:-2000])
    with pytest.raises(InputError, match="is damaged .*fetch it again"):
        bundle.collect(tmp_path / "out")
    with tarfile.open(volume, "w:gz") as tar:
        link = tarfile.TarInfo(f"{RUN}/run.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(InputError, match="which is no file of a recorded run"):
        bundle.collect(tmp_path / "out")
    with pytest.raises(InputError, match="holds no runs-"):
        bundle.collect(tmp_path)
    assert not list(paths.recorded_dir().glob("[!.]*"))
